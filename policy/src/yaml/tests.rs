//! Broken and sound YAML.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    port: Option<u16>,
    names: Option<BTreeMap<String, String>>,
    effect: Option<crate::Effect>,
}

fn read_text(text: &str) -> Result<Shape, Invalid> {
    read(&Source { name: "w.yaml".to_owned(), text: text.to_owned() })
}

fn first_fault(text: &str) -> Fault {
    read_text(text).unwrap_err().0.remove(0)
}

#[test]
fn reads_a_sound_document() {
    let shape = read_text("# c\r\nport: 80\r\neffect: read\r\nnames: {a: \"1\", b: x}\r\n").unwrap();
    assert_eq!(shape.port, Some(80));
    assert_eq!(shape.effect, Some(crate::Effect::Read));
    assert_eq!(shape.names.unwrap().len(), 2);
}

#[test]
fn refuses_what_reads_in_two_ways() {
    let table = [
        ("", "1:1", "empty"),
        ("# only a comment\n", "2:1", "empty"),
        ("\u{feff}port: 1\n", "1:1", "byte order mark"),
        ("port: 1\nport: 2\n", "2:1", "`port` is already"),
        ("names:\n  a: x\n  b: y\n  a: z\n", "4:3", "`a` is already"),
        ("names: {x: 1, 'x': 2}\n", "1:15", "`x` is already"),
        ("base: &b {port: 1}\nnames:\n  <<: *b\n", "3:3", "merge key"),
        ("port: 1\n---\nport: 2\n", "3:1", "second document"),
        ("port: .nan\n", "1:7", "not a number"),
        ("port: -.inf\n", "1:7", "infinite"),
        ("port:\n", "1:6", "no value"),
        ("port: ~\n", "1:7", "no value"),
        ("names:\n\ta: b\n", "2:1", "cannot start any token"),
        ("prot: 1\n", "1:1", "unknown key `prot`"),
        ("port: [1\n", "2:1", "did not find expected"),
        ("effect: !read x\n", "1:9", "tag"),
        ("? [a]\n: b\n", "1:3", "a key is a list"),
    ];
    for (text, at, part) in table {
        let error = first_fault(text).to_string();
        assert!(error.starts_with(&format!("w.yaml:{at}: ")), "{text:?}: {error}");
        assert!(error.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn never_repeats_a_value() {
    let table = [
        ("port: s3cret\n", "wrong type: string"),
        ("port: 's3cret, expected `x`'\n", "wrong type: string"),
        ("port: 70000\n", "the integer is out of range"),
        ("effect: s3cret\n", "none of those there are"),
        ("names: s3cret\n", "wrong type: string"),
        ("s3cret\n", "wrong type: string"),
    ];
    for (text, part) in table {
        let error = first_fault(text);
        assert!(error.message.contains(part), "{error}");
        assert!(!error.to_string().contains("s3cret") && !error.to_string().contains("70000"), "{error}");
    }
}

#[test]
fn bombs_are_refused_early() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(","));
    }
    let wide = format!("a0: &a0 [{}]\nb: [{}]\n", vec!["x"; 50_000].join(","), vec!["*a0"; 50_000].join(","));
    let deep = format!("a: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let blocks = format!("a:\n {}x\n", "- ".repeat(100_000));
    let long = format!("# {}\n", "x".repeat(MAX_BYTES));
    let table = [
        (bomb, "repetition limit"),
        (wide, "too many nodes"),
        (blocks, "recursion limit"),
        (deep, "nested too deeply"),
        (long, "longer than 1 MiB"),
    ];
    for (text, part) in table {
        let error = first_fault(&text);
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn finds_nodes() {
    let text = "destinations:\n  - key: a\n    match:\n      - {host: x}\n      - {host: y}\n";
    let source = Source { name: "d.yaml".to_owned(), text: text.to_owned() };
    let host = [Step::Key("destinations"), Step::Item(0), Step::Key("match"), Step::Item(1), Step::Key("host")];
    assert_eq!(locate(&source, &host), Some((5, 16)));
    assert_eq!(locate(&source, &host[..2]), Some((2, 5)));
    let missing = [Step::Key("destinations"), Step::Item(0), Step::Key("none")];
    assert_eq!(locate(&source, &missing), Some((2, 5)), "the mapping that lacks the key");
}
