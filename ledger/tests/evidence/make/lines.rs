//! Lines, the chain between them, keys, the scope.

use data_encoding::BASE64;
use ledger::note::{Purpose, Signer};
use serde_json::{Value, json};

use super::Maker;
use crate::forge::{Forge, canonical, rehash};

pub(super) fn make(maker: &mut Maker) {
    flips(maker);
    edits(maker);
    forms(maker);
    chain(maker);
    keys(maker);
    opens(maker);
    ranges(maker);
}

/// One bit of one line, everything around it signed anew.
fn flips(maker: &mut Maker) {
    let forge = maker.whole();
    for (entry, line) in forge.lines().iter().enumerate() {
        for turn in 0..3 {
            let mut bytes = forge.members["events.jsonl"].clone();
            let start: usize = forge.lines()[..entry].iter().map(|line| line.len() + 1).sum();
            // Inside a value of `data`, where a letter changes to another: the line stays a line, its hash does not fit.
            let place = line.find("\"data\":{").unwrap() + 8;
            let letters: Vec<usize> = (place..line.find("\"entry_hash\"").unwrap())
                .filter(|at| line.as_bytes()[*at].is_ascii_lowercase() && is_in_value(line, *at))
                .collect();
            let Some(at) = letters.get((turn * 7 + entry) % letters.len().max(1)) else { continue };
            bytes[start + at] = if bytes[start + at] == b'q' { b'p' } else { b'q' };
            let mut changed = forge.clone();
            changed.set("events.jsonl", bytes);
            let what = format!("another letter at {at} of entry {entry}");
            maker.refused("entry.letter", what, changed.sealed(), "entry.hash", Some(entry as u64));
        }
    }
}

/// Whether a place is inside a string that is a value: the quote before it follows a colon.
fn is_in_value(line: &str, at: usize) -> bool {
    let before = &line[..at];
    let quote = before.rfind('"').unwrap_or_default();
    before[..quote].ends_with(':') && !before[quote..].contains('\\')
}

fn edits(maker: &mut Maker) {
    let forge = maker.whole();
    let edits: [(&str, usize, fn(&mut Value)); 12] = [
        ("another agent", 6, |e| e["agent_id"] = "somebody".into()),
        ("another destination", 6, |e| e["dest_key"] = "stripe.read".into()),
        ("another time", 6, |e| e["ts"] = "2020-01-01T00:00:00.000000Z".into()),
        ("another type", 8, |e| e["type"] = "decision.allowed".into()),
        ("another status", 7, |e| e["data"]["status"] = 500.into()),
        ("another rationale", 10, |e| e["data"]["rationale"] = "of course".into()),
        ("another voter", 10, |e| e["data"]["operator"] = "eve".into()),
        ("another verdict", 10, |e| e["data"]["verdict"] = "deny".into()),
        ("another number", 9, |e| e["seq"] = 10.into()),
        ("another predecessor", 9, |e| e["prev_hash"] = "0".repeat(64).into()),
        ("a reason left out", 8, |e| drop(e["data"].as_object_mut().unwrap().remove("rules"))),
        ("no agent", 8, |e| drop(e.as_object_mut().unwrap().remove("agent_id"))),
    ];
    for (what, at, edit) in edits {
        let mut events = forge.events();
        edit(&mut events[at]);
        let mut changed = forge.clone();
        changed.set_lines(&events.iter().map(canonical).collect::<Vec<_>>());
        let seq = events[at]["seq"].as_u64();
        maker.refused("entry.edit", format!("{what} in entry {at}"), changed.clone().sealed(), "entry.hash", seq);
        // The same with the hash made anew, and nothing behind it.
        rehash(&mut events[at]);
        changed.set_lines(&events.iter().map(canonical).collect::<Vec<_>>());
        let (code, entry) = match what {
            "another number" => continue,
            "another predecessor" => ("chain.prev", 9),
            "another time" => ("chain.clock", 6),
            _ => ("chain.prev", at as u64 + 1),
        };
        maker.refused(
            "chain.rehash",
            format!("{what} in entry {at}, hashed anew"),
            changed.sealed(),
            code,
            Some(entry),
        );
    }
}

fn forms(maker: &mut Maker) {
    let forge = maker.whole();
    let at = 7;
    let line = forge.lines()[at].clone();
    let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
    let forms = [
        ("with a space", line.replacen(':', ": ", 1)),
        ("with a tab behind", format!("{line}\t")),
        ("with a carriage return", format!("{line}\r")),
        ("with members in another order", format!("{{\"v\":1,{}", line[1..].replace(",\"v\":1}", "}"))),
        ("with an escaped letter", line.replacen("\"sent\"", "\"\\u0073ent\"", 1)),
        ("with an escaped slash", line.replacen("crawler", "craw\\/ler", 1)),
        ("with a fraction", line.replacen("200", "200.0", 1)),
        ("with an exponent", line.replacen("200", "2e2", 1)),
        ("with a leading zero", line.replacen("200", "0200", 1)),
        ("with a minus before zero", line.replacen("200", "-0", 1)),
        ("with a number above 2^53", line.replacen("200", "9007199254740993", 1)),
        ("with a number below -2^53", line.replacen("200", "-9007199254740993", 1)),
        ("with a number of 30 digits", line.replacen("200", &"9".repeat(30), 1)),
        ("with a member twice", line.replacen("\"sent\":true", "\"sent\":true,\"sent\":true", 1)),
        ("with `type` twice", line.replacen("\"v\":1", "\"type\":\"x\",\"v\":1", 1)),
        ("with an unknown member", line.replacen("\"v\":1", "\"u\":1,\"v\":1", 1)),
        ("without `ts`", line.replacen(&line[line.find("\"ts\"").unwrap()..line.find("\"type\"").unwrap()], "", 1)),
        ("without `data`", format!("{{\"agent_id\":\"crawler\"{}", &line[line.find(",\"dest_key\"").unwrap()..])),
        ("without `v`", line.replacen(",\"v\":1", "", 1)),
        ("with `null` for the agent", line.replacen("\"crawler\"", "null", 1)),
        ("with a number for the agent", line.replacen("\"crawler\"", "7", 1)),
        ("with `seq` as a string", line.replacen("\"seq\":7", "\"seq\":\"7\"", 1)),
        ("with a negative `seq`", line.replacen("\"seq\":7", "\"seq\":-7", 1)),
        (
            "with an array for `data`",
            line.replacen(&line[line.find("{\"sent\"").unwrap()..=line.find('}').unwrap()], "[]", 1),
        ),
        ("with five digits of a second", shorter_time(&line)),
        ("with an offset for `Z`", line.replacen("Z\",\"type\"", "+00:00\",\"type\"", 1)),
        ("with a month that is none", with_month(&line, "13")),
        ("with nesting of 33 levels", line.replacen("200", &deep, 1)),
        ("with Not-a-Number", line.replacen("200", "NaN", 1)),
        ("with Infinity", line.replacen("200", "Infinity", 1)),
        ("with a comma at the end", line.replacen("\"v\":1}", "\"v\":1,}", 1)),
        ("with a comment", format!("{line}//")),
        ("that is an array", format!("[{line}]")),
        ("that is a string", "\"line\"".to_owned()),
        ("that is empty", String::new()),
        ("that is two on one line", format!("{line}{line}")),
        ("with a byte order mark", format!("\u{feff}{line}")),
        ("with a lone surrogate", line.replacen("crawler", "\\ud800", 1)),
        ("of more than 30,720 bytes", line.replacen("crawler", &"c".repeat(31_000), 1)),
        ("with a control character", line.replacen("crawler", "craw\u{1}ler", 1)),
    ];
    for (what, text) in forms {
        let mut lines = forge.lines();
        assert_ne!(lines[at], text, "{what}");
        lines[at] = text;
        let mut changed = forge.clone();
        changed.set_lines(&lines);
        maker.refused("entry.form", format!("a line {what}"), changed.sealed(), "entry.form", Some(at as u64));
    }
    let mut changed = forge.clone();
    changed.set("events.jsonl", [forge.members["events.jsonl"].as_slice(), b"\xff\n"].concat());
    let end = forge.lines().len() as u64;
    maker.refused("entry.form", "a line that is not UTF-8", changed.sealed(), "entry.form", Some(end));
    let mut changed = forge.clone();
    changed.set("events.jsonl", forge.text("events.jsonl").trim_end());
    maker.refused("entry.form", "the last line without its newline", changed.sealed(), "entry.form", Some(end - 1));
    for version in ["0", "2", "1.0", "\"1\"", "true", "null", "[1]", "18446744073709551616"] {
        let mut lines = forge.lines();
        lines[at] = line.replacen("\"v\":1}", &format!("\"v\":{version}}}"), 1);
        let mut changed = forge.clone();
        changed.set_lines(&lines);
        let what = format!("a line of version {version}");
        maker.refused("entry.version", what, changed.sealed(), "entry.version", Some(at as u64));
    }
}

fn shorter_time(line: &str) -> String {
    let end = line.find("Z\",\"type\"").unwrap();
    format!("{}{}", &line[..end - 1], &line[end..])
}

fn with_month(line: &str, month: &str) -> String {
    let at = line.find("\"ts\":\"").unwrap() + 11;
    format!("{}-{month}{}", &line[..at], &line[at + 3..])
}

fn chain(maker: &mut Maker) {
    let forge = maker.whole();
    let lines = forge.lines();
    let with = |lines: Vec<String>| {
        let mut changed = forge.clone();
        changed.set_lines(&lines);
        changed
    };
    for at in 1..lines.len() {
        let mut less = lines.clone();
        less.remove(at);
        // What the rules need is gone with some lines; the cover has no hash for any of them.
        let rule = match at {
            6 => Some(("rule.no_allow", 7)),
            9 | 11 => Some((if at == 9 { "rule.step" } else { "rule.no_allow" }, 10 + u64::from(at == 11) * 2)),
            12 => Some(("rule.no_allow", 13)),
            1 => Some(("rule.vote", 10)),
            15 => Some(("rule.step", 16)),
            17 => Some(("rule.no_allow", 18)),
            18 => Some(("rule.no_allow", 19)),
            19 => Some(("rule.two_sends", 20)),
            20 => Some(("rule.no_allow", 21)),
            _ => None,
        };
        let (code, entry) = rule.map_or(("proof", None), |(code, entry)| (code, Some(entry)));
        maker.refused("chain.delete", format!("entry {at} left out"), with(less).sealed(), code, entry);
        let mut more = lines.clone();
        more.insert(at, lines[at - 1].clone());
        let entry = Some(at as u64 - 1);
        maker.refused("chain.insert", format!("entry {} twice", at - 1), with(more).sealed(), "chain.order", entry);
        if at + 1 < lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(at, at + 1);
            let (code, entry) = swapped_verdict(at as u64);
            maker.refused(
                "chain.reorder",
                format!("entries {at} and {} swapped", at + 1),
                with(swapped).sealed(),
                code,
                entry,
            );
        }
    }
    let mut headless = lines.clone();
    headless.remove(0);
    maker.refused("chain.genesis", "entry 0 left out", with(headless).sealed(), "chain.order", Some(1));
    let genesis: [(&str, fn(&mut Value)); 4] = [
        ("of another origin", |e| e["data"]["origin"] = "example.com/other".into()),
        ("of another type", |e| e["type"] = "gate.started".into()),
        ("without an origin", |e| drop(e["data"].as_object_mut().unwrap().remove("origin"))),
        ("that continues something", |e| e["prev_hash"] = "1".repeat(64).into()),
    ];
    for (what, edit) in genesis {
        let mut events = forge.events();
        edit(&mut events[0]);
        rehash(&mut events[0]);
        let mut lines = lines.clone();
        lines[0] = canonical(&events[0]);
        maker.refused("chain.genesis", format!("an entry 0 {what}"), with(lines).sealed(), "chain.genesis", Some(0));
    }
    for (at, year) in [(5, "2020"), (8, "1999"), (21, "2025")] {
        let mut events = forge.events();
        events[at]["ts"] = format!("{year}-01-01T00:00:00.000000Z").into();
        let changed = forge.clone().rewritten(events);
        let what = format!("entry {at} of {year}, everything behind it hashed anew");
        maker.refused("chain.clock", what, changed.sealed(), "chain.clock", Some(at as u64));
    }
    for at in [5, 6, 8, 10, 13, 14, 16, 21, 22] {
        let mut events = forge.events();
        events[at]["data"]["note"] = "added later".into();
        let mut changed = forge.clone();
        changed.set_events(events);
        let what = format!("history rewritten from entry {at} on, with fresh hashes");
        maker.refused("chain.rewrite", what, changed.sealed(), "proof", None);
    }
}

/// The verdict about entries `at` and `at + 1` in each other's place: either the rules stumble over the first of
/// them, or the second comes behind a larger number.
fn swapped_verdict(at: u64) -> (&'static str, Option<u64>) {
    match at {
        6 => ("rule.no_allow", Some(7)),
        9 => ("rule.step", Some(10)),
        11 => ("rule.no_allow", Some(12)),
        12 => ("rule.no_allow", Some(13)),
        15 => ("rule.step", Some(16)),
        17 => ("rule.no_allow", Some(18)),
        18 => ("rule.no_allow", Some(19)),
        19 => ("rule.two_sends", Some(20)),
        20 => ("rule.no_allow", Some(21)),
        _ => ("chain.order", Some(at)),
    }
}

fn keys(maker: &mut Maker) {
    let forge = maker.whole();
    let old = maker.signer.verifier().to_string();
    let new = Signer::from_seed("example.com/gate", Purpose::Sign, &[8; 32]);
    let named = new.verifier().to_string();
    let statement = format!("writ key rotation/v1\nexample.com/gate\n{old}\n{named}\n");
    let sign = |signer: &Signer, text: &str| BASE64.encode(&signer.sign_bytes(text.as_bytes()));
    let data = json!({
        "old": old, "new": named,
        "old_signature": sign(&maker.signer, &statement), "new_signature": sign(&new, &statement),
    });
    let other = Signer::from_seed("example.com/other", Purpose::Sign, &[8; 32]).verifier().to_string();
    let witness = Signer::from_seed("example.com/gate", Purpose::Cosign, &[8; 32]).verifier().to_string();
    let cases: Vec<(&str, Box<dyn Fn(&mut Value)>)> = vec![
        ("without the old key's signature", Box::new(|d| drop(d.as_object_mut().unwrap().remove("old_signature")))),
        ("without the new key's signature", Box::new(|d| drop(d.as_object_mut().unwrap().remove("new_signature")))),
        ("signed twice by the new key", Box::new(|d| d["old_signature"] = d["new_signature"].clone())),
        ("signed twice by the old key", Box::new(|d| d["new_signature"] = d["old_signature"].clone())),
        ("from another key", Box::new(|d| d["old"] = d["new"].clone())),
        ("to a key of another name", Box::new(move |d| d["new"] = other.clone().into())),
        ("to the key of a witness", Box::new(move |d| d["new"] = witness.clone().into())),
        ("to no key", Box::new(|d| d["new"] = "key".into())),
        ("of nothing", Box::new(|d| *d = json!({}))),
        ("with a signature in another spelling", Box::new(|d| d["new_signature"] = spaced(&d["new_signature"]))),
    ];
    for (what, edit) in cases {
        let mut data = data.clone();
        edit(&mut data);
        let changed = forge.clone().rewritten(with(&forge, "ledger.key_rotated", data));
        let entry = Some(forge.lines().len() as u64);
        maker.refused("key", format!("a rotation {what}"), changed.sealed(), "key", entry);
    }
    // Right in itself, but what is behind it is still signed by the old key.
    let stale = forge.clone().rewritten(with(&forge, "ledger.key_rotated", data));
    maker.refused("key", "a manifest by the key before the rotation", stale.sealed(), "key", None);
    for (what, key) in [("no key", Value::Null), ("the key of a witness", new_witness())] {
        let mut events = forge.events();
        events[0]["data"]["public_key"] = key;
        let changed = forge.clone().rewritten(events);
        maker.refused("key", format!("an entry 0 with {what}"), changed.sealed(), "key", Some(0));
    }
    let mut events = forge.events();
    events[0]["data"]["public_key"] = named.into();
    let changed = forge.clone().rewritten(events);
    maker.refused("key", "an entry 0 with another key", changed.sealed(), "key", None);
}

/// The events of the whole ledger and one more.
pub(super) fn with(forge: &Forge, kind: &str, data: Value) -> Vec<Value> {
    let mut events = forge.events();
    let ts = events[events.len() - 1]["ts"].clone();
    events.push(json!({"data": data, "ts": ts, "type": kind, "v": 1}));
    events
}

fn spaced(signature: &Value) -> Value {
    format!("{}\n", signature.as_str().unwrap()).into()
}

fn new_witness() -> Value {
    Signer::from_seed("example.com/gate", Purpose::Cosign, &[8; 32]).verifier().to_string().into()
}

fn opens(maker: &mut Maker) {
    for (what, open) in [
        ("a send that has an outcome", json!(["corr_live"])),
        ("a send that never was", json!(["corr_nobody"])),
        ("a request that waits", json!(["corr_waits"])),
        ("nothing, as text", json!([""])),
    ] {
        let mut changed = maker.whole();
        changed.manifest(|manifest| manifest["open"] = open);
        maker.refused("open", format!("a manifest whose `open` lists {what}"), changed.sealed(), "open", None);
    }
    // An outcome left out from the end of a ledger, everything else made anew.
    for (what, keep) in [("a live request", 7), ("an intent", 13)] {
        let forge = maker.whole();
        let events: Vec<Value> = forge.events().into_iter().take(keep).collect();
        let changed = forge.rewritten(events);
        maker.refused("open", format!("the outcome of {what} left out"), changed.sealed(), "open", None);
    }
}

fn ranges(maker: &mut Maker) {
    let forge = maker.part(7);
    let counts: [(&str, fn(&mut Value)); 5] = [
        ("counting a line more", |m| m["entries"]["count"] = (m["entries"]["count"].as_u64().unwrap() + 1).into()),
        ("counting one selected more", |m| {
            m["entries"]["selected"] = (m["entries"]["selected"].as_u64().unwrap() + 1).into()
        }),
        ("counting nothing", |m| m["entries"] = json!({"count": 0, "selected": 0})),
        ("of a scope in which nothing is", |m| {
            m["scope"] = json!({"agent": "nobody"});
            m["entries"]["selected"] = 0.into();
        }),
        ("of a wider scope", |m| m["scope"] = json!({})),
    ];
    for (what, edit) in counts {
        let mut changed = forge.clone();
        changed.manifest(edit);
        maker.refused("scope", format!("a manifest {what}"), changed.sealed(), "scope", None);
    }
    // Bundles of an agent, said to be of a time alone: what is missing between their lines shows.
    for scope in [1, 3] {
        let mut changed = maker.part(scope);
        let count = changed.events().len();
        let first = changed.events()[1]["ts"].clone();
        changed.manifest(|manifest| {
            manifest["scope"] = json!({"since": first});
            manifest["entries"] = json!({"count": count, "selected": count - 1});
        });
        let what = format!("the bundle of scope {scope}, said to hold everything of its time");
        maker.refused("scope", what, changed.sealed(), "scope", None);
    }
}
