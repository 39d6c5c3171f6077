//! Files that must not load, as data: each section of a file in `refused/` is one, under every code it is refused for and
//! the line of each.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use policy::{Fault, Rules, Source};

/// What policies are read beside.
const DESTINATIONS: &str = "\
destinations:
  - key: crm.import
    match: {host: crm.example.com, methods: [POST], path: /import}
    effect: external_mutation
    policy: bulk
    measure: {records: 'json:/records/#'}
  - key: crm.read
    match: {host: crm.example.com, methods: [GET], path: /**}
    effect: read
    policy: reads
";

/// What destinations are read beside; `reads` and `listed` are for other destinations.
const POLICIES: [(&str, &str); 3] =
    [("bulk", "description: any\n"), ("reads", "description: any\n"), ("listed", "destinations: [crm.other]\n")];

/// One section: `=== code line, code line: why`, then the text.
struct Case {
    expected: Vec<String>,
    why: String,
    text: String,
}

#[test]
fn every_file_is_refused_for_all_that_is_wrong() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
    let (mut count, mut codes, mut missed) = (0, BTreeSet::new(), Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for case in cases(&std::fs::read_to_string(&path).unwrap()) {
            count += 1;
            let faults = match name.as_str() {
                "destinations.txt" => of_destinations(&case.text),
                "manifests.txt" => of_manifest(&case.text),
                _ => of_policy(&case.text),
            };
            codes.extend(faults.iter().map(|fault| fault.code.as_str()));
            let found: Vec<String> =
                faults.iter().map(|fault| format!("{} {}", fault.code, fault.line.unwrap_or_default())).collect();
            if found != case.expected {
                missed.push(format!(
                    "{name}: {}: expected {:?}, found {faults:#?}\n{}",
                    case.why, case.expected, case.text
                ));
            }
            let dull = faults.iter().find(|fault| fault.message.is_empty() || fault.remedy.is_empty());
            assert!(dull.is_none(), "{name}: {}: {dull:?}", case.why);
        }
    }
    assert!(missed.is_empty(), "{}\n{} of {count}", missed.join("\n"), missed.len());
    assert!(count >= 300 && codes.len() >= 30, "{count} files, {} codes: {codes:?}", codes.len());
    println!("{count} files are refused under {} codes", codes.len());
}

fn cases(text: &str) -> Vec<Case> {
    let sections = text.split("\n=== ").skip(1);
    let cases = sections.map(|section| {
        let (head, text) = section.split_once('\n').unwrap_or((section, ""));
        let (expected, why) = head.split_once(": ").unwrap();
        let text = if text.is_empty() { String::new() } else { format!("{text}\n") };
        Case { expected: expected.split(", ").map(str::to_owned).collect(), why: why.to_owned(), text }
    });
    cases.collect()
}

fn of_destinations(text: &str) -> Vec<Fault> {
    faults("destinations.yaml", text, &POLICIES)
}

fn of_policy(text: &str) -> Vec<Fault> {
    let [_, reads, _] = POLICIES;
    faults("bulk.yaml", DESTINATIONS, &[("bulk", text), reads])
}

fn of_manifest(text: &str) -> Vec<Fault> {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let policies = POLICIES.map(|(id, text)| (id.to_owned(), source(id, text)));
    let [bulk, reads, _] = policies;
    let rules = Rules::load(&source("destinations.yaml", DESTINATIONS), &[bulk, reads], Some(&BTreeSet::new()), None);
    let loaded = rules.unwrap().with_manifests(&[("bot".to_owned(), source("bot.yaml", text))]);
    loaded.err().map(|invalid| invalid.0).unwrap_or_default()
}

/// What is found wrong with the file called `name`; the others are sound beside a sound one.
fn faults(name: &str, destinations: &str, policies: &[(&str, &str)]) -> Vec<Fault> {
    let source = |name: String, text: &str| Source { name, text: text.to_owned() };
    let policies: Vec<_> =
        policies.iter().map(|(id, text)| ((*id).to_owned(), source(format!("{id}.yaml"), text))).collect();
    let destinations = source("destinations.yaml".to_owned(), destinations);
    let loaded = Rules::load(&destinations, &policies, Some(&BTreeSet::from(["crm".to_owned()])), None);
    let found = loaded.err().map(|invalid| invalid.0).unwrap_or_default();
    found.into_iter().filter(|fault| fault.file == name).collect()
}
