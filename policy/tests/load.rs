//! Files that must not load: each with the place and part of the message of every error it causes.

use std::collections::BTreeSet;

use policy::{LoadError, Rules, Source};

const DESTINATIONS: &str = "\
destinations:
  - key: crm.import
    match: {host: crm.example.com, methods: [POST], path: /import}
    effect: external_mutation
    policy: bulk
    credential: crm
    measure: {records: 'json:/records/#'}
  - key: crm.read
    match:
      - {host: crm.example.com, methods: [GET], path: /**}
    effect: read
    policy: reads
";

const BULK: &str = "\
id: bulk
destinations: [crm.import]
allowed_types: [csv, json]
block_if_terms: [refund]
auto_approve_under: 100
require_approval_over: 100
expiry_minutes: 60
require_approvals: 2
";

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

fn load(destinations: &str, bulk: &str) -> Result<Rules, Vec<LoadError>> {
    let policies = [
        ("bulk".to_owned(), source("bulk.yaml", bulk)),
        ("reads".to_owned(), source("reads.yaml", "description: reading\n")),
    ];
    Rules::load(&source("destinations.yaml", destinations), &policies, &BTreeSet::from(["crm".to_owned()]))
}

/// One change to a sound file and the one error it causes.
type Change = (&'static str, &'static str, &'static str, &'static str);

fn expect(changes: &[Change], text: &str, name: &str, load: impl Fn(&str) -> Result<Rules, Vec<LoadError>>) {
    let mut missed = Vec::new();
    for (from, to, at, part) in changes {
        assert!(text.contains(from), "{from:?} is not in the sound file");
        let errors = load(&text.replacen(from, to, 1)).err().unwrap_or_default();
        let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
        if !shown.iter().any(|error| error.starts_with(&format!("{name}:{at}:")) && error.contains(part)) {
            missed.push(format!("{to:?} should be refused at {at} for {part:?}, not for {shown:?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn the_sound_files_load() {
    let rules = load(DESTINATIONS, BULK).unwrap();
    let keys: Vec<&str> = rules.destinations().map(|destination| destination.key.as_str()).collect();
    assert_eq!(keys, ["crm.import", "crm.read"]);
    assert!(
        rules.destinations().flat_map(|destination| destination.hosts()).eq(["crm.example.com", "crm.example.com"])
    );
    let names: Vec<(&str, &str)> = rules.texts().map(|(_, text, name)| (name, text)).collect();
    let reads = ("reads.yaml", "description: reading\n");
    assert_eq!(names, [("destinations.yaml", DESTINATIONS), ("bulk.yaml", BULK), reads]);
    assert_eq!(rules.texts().next().unwrap().0, rules.destinations_hash());
    assert_eq!(rules.destinations_hash().len(), 64);
}

#[test]
fn broken_destinations_are_refused() {
    let changes: [Change; 48] = [
        ("key: crm.read", "key: crm.import", "8:10", "`crm.import` is already taken"),
        ("key: crm.read", "key: CRM", "8:10", "no destination key"),
        ("key: crm.read", "key: ''", "8:10", "no destination key"),
        ("    policy: reads", "    policy: missing", "12:13", "there is no policy `missing`"),
        ("    policy: reads", "    policy: bulk", "12:13", "the policy `bulk` does not list `crm.read`"),
        ("credential: crm", "credential: hubspot", "6:17", "no credential `hubspot`"),
        ("credential: crm", "credential: crm\n    schemes: [http]", "6:17", "travel over plain http"),
        ("credential: crm", "credential: crm\n    schemes: [https, http]", "6:17", "travel over plain http"),
        ("effect: read", "effect: delete", "11:13", "unknown variant"),
        ("effect: read", "effects: read", "11:5", "unknown key `effects`"),
        ("effect: read", "effect: read\n    effect: write", "12:5", "`effect` is already"),
        ("    effect: read\n", "", "8:5", "missing key `effect`"),
        ("effect: read", "effect: read\n    schemes: []", "12:14", "no scheme"),
        ("effect: read", "effect: read\n    schemes: [ftp]", "12:15", "unknown variant"),
        ("effect: read", "effect: read\n    ports: []", "12:12", "no port"),
        ("effect: read", "effect: read\n    ports: [0]", "12:12", "no port"),
        ("effect: read", "effect: read\n    ports: [65536]", "12:13", "u16"),
        ("effect: read", "effect: read\n    roots: ''", "12:12", "file name is empty"),
        ("effect: read", "effect: read\n    roots:", "12:11", "no value"),
        ("effect: read", "effect: read\n    max_body: 64 MB", "12:15", "no size"),
        ("effect: read", "effect: read\n    max_body: -1", "12:15", "octets"),
        ("effect: read", "effect: read\n    max_body: 99999999999 GiB", "12:15", "no size"),
        ("effect: read", "effect: read\n    wait_seconds: 0", "12:19", "3600"),
        ("effect: read", "effect: read\n    wait_seconds: 3601", "12:19", "3600"),
        ("effect: read", "effect: read\n    addresses: [10.0.0.0/33]", "12:17", "correct it"),
        ("effect: read", "effect: read\n    body: stream", "12:5", "unknown key `body`"),
        ("path: /**", "path: /a//b", "10:55", "never match"),
        ("path: /**", "path: /%2e", "10:55", "never match"),
        ("path: /**", "path: /*x", "10:55", "inside a segment"),
        ("path: /**", "path: /**/x", "10:55", "before its end"),
        ("path: /**", "path: x", "10:55", "begin with `/`"),
        ("path: /**", "paths: /**", "10:49", "unknown key `paths`"),
        (", path: /**", "", "10:9", "missing key `path`"),
        ("host: crm.example.com, methods: [GET]", "host: '*', methods: [GET]", "10:16", "first label"),
        ("host: crm.example.com, methods: [GET]", "host: '*.com', methods: [GET]", "10:16", "top-level"),
        ("host: crm.example.com, methods: [GET]", "host: 'https://a.b', methods: [GET]", "10:16", "no host"),
        ("host: crm.example.com, methods: [GET]", "host: a.b., methods: [GET]", "10:16", "no host"),
        ("host: crm.example.com, methods: [GET]", "host: аpple.com, methods: [GET]", "10:16", "no host"),
        ("methods: [GET]", "methods: [get]", "10:42", "upper-case"),
        ("methods: [GET]", "methods: []", "10:42", "upper-case"),
        ("methods: [POST]", "methods: [post]", "3:45", "upper-case"),
        ("'json:/records/#'", "json:records", "7:24", "JSON pointer"),
        ("'json:/records/#'", "json:/a~2", "7:24", "JSON pointer"),
        ("'json:/records/#'", "xml:/a", "7:24", "no way to measure"),
        ("'json:/records/#'", "'form:'", "7:24", "no way to measure"),
        ("records: 'json:/records/#'", "Records: 'json:/x'", "7:24", "`Records` is no name"),
        ("{host: crm.example.com, methods: [POST], path: /import}", "[]", "3:12", "matches nothing"),
        ("destinations:", "<<: {}\ndestinations:", "1:1", "merge key"),
    ];
    expect(&changes, DESTINATIONS, "destinations.yaml", |text| load(text, BULK));
}

#[test]
fn ties_are_refused() {
    let add = |entry: &str| {
        let entry =
            format!("  - {{key: other, effect: read, policy: reads, match: {{host: crm.example.com, {entry}}}}}\n");
        load(&format!("{DESTINATIONS}{entry}"), BULK)
    };
    for tie in ["methods: [PUT, GET], path: /**", "methods: [POST], path: /import"] {
        let errors = add(tie).unwrap_err();
        assert_eq!((errors[0].line, errors[0].column), (Some(13), Some(54)), "{tie}");
        assert!(errors[0].message.contains("and `other` match the same requests"), "{}", errors[0]);
    }
    for fine in
        ["path: /**", "methods: [PUT], path: /**", "methods: [GET], path: /*", "methods: [POST], path: /imports"]
    {
        assert!(add(fine).is_ok(), "{fine}");
    }
}

#[test]
fn broken_policies_are_refused() {
    let changes: [Change; 31] = [
        ("id: bulk", "id: bulky", "1:5", "differs from the file's name"),
        ("require_approvals: 2", "require_aproval: always", "8:1", "unknown key `require_aproval`"),
        ("require_approvals: 2", "block_if_pii: true", "8:1", "unknown key `block_if_pii`"),
        ("require_approvals: 2", "rate_limits: {per_agent_per_hour: 1}", "8:1", "unknown key `rate_limits`"),
        ("require_approvals: 2", "require_approvals: 0", "8:20", "1 to 20"),
        ("require_approvals: 2", "require_approvals: 2\nid: bulk", "9:1", "`id` is already"),
        ("require_approvals: 2", "require_approval: sometimes", "8:19", "unknown variant"),
        ("expiry_minutes: 60", "expiry_minutes: 0", "7:17", "10080"),
        ("expiry_minutes: 60", "expiry_minutes: 10081", "7:17", "10080"),
        (
            "auto_approve_under: 100",
            "auto_approve_under: 101",
            "5:21",
            "greater than `require_approval_over` for `records`",
        ),
        ("auto_approve_under: 100", "auto_approve_under: {records: 100.01}", "5:21", "greater than"),
        ("auto_approve_under: 100", "auto_approve_under: {amount: 5}", "5:21", "`crm.import` does not measure"),
        ("require_approval_over: 100", "require_approval_over: {amount: 5}", "6:24", "limits `amount`"),
        ("auto_approve_under: 100", "auto_approve_under: {}", "5:21", "no limit"),
        ("auto_approve_under: 100", "auto_approve_under: {records: -1}", "5:31", "negative"),
        ("auto_approve_under: 100", "auto_approve_under: {records: .nan}", "5:31", "not a number"),
        ("auto_approve_under: 100", "auto_approve_under: -1", "5:21", "a number"),
        ("auto_approve_under: 100", "auto_approve_under: many", "5:21", "a number"),
        ("auto_approve_under: 100", "auto_approve_under:", "5:20", "no value"),
        ("[csv, json]", "[csv, jsn]", "3:22", "`jsn` is no type"),
        ("[csv, json]", "['application/*']", "3:17", "is no type"),
        ("[csv, json]", "[]", "3:16", "empty"),
        ("[refund]", "[]", "4:17", "empty"),
        ("[refund]", "[refund, '---']", "4:26", "neither a letter nor a digit"),
        ("[refund]", "refund", "4:17", "expected a sequence"),
        ("[crm.import]", "[crm.import, crm.other]", "2:28", "no destination `crm.other` uses this policy"),
        ("[crm.import]", "[crm.import, crm.read]", "2:28", "no destination `crm.read` uses this policy"),
        ("[crm.import]", "[crm.import, 'https://crm.example.com/']", "2:28", "a policy names an address"),
        ("[crm.import]", "[]", "2:15", "empty"),
        ("id: bulk", "---\nid: bulk\n---", "4:1", "second document"),
        ("id: bulk", "\tid: bulk", "1:1", "cannot start any token"),
    ];
    expect(&changes, BULK, "bulk.yaml", |text| load(DESTINATIONS, text));
}

#[test]
fn an_unused_or_repeated_policy_is_refused() {
    let of = |id: &str| (id.to_owned(), source(&format!("{id}.yaml"), "description: x\n"));
    let destinations =
        source("d.yaml", "destinations:\n- {key: a, match: {host: a.b, path: /}, effect: read, policy: a}\n");
    let load = |ids: &[&str]| {
        let policies: Vec<_> = ids.iter().map(|id| of(id)).collect();
        Rules::load(&destinations, &policies, &BTreeSet::new())
    };
    assert!(load(&["a"]).is_ok());
    assert_eq!(
        load(&["a", "b"]).unwrap_err()[0].to_string().split(';').next(),
        Some("b.yaml:1:1: no destination uses this policy")
    );
    assert!(load(&["a", "a"]).unwrap_err()[0].message.contains("already"));
}

#[test]
fn all_errors_are_found_at_once() {
    let destinations = DESTINATIONS.replace("path: /**", "path: x").replace("credential: crm", "credential: none");
    let errors = load(&destinations, &BULK.replace("expiry_minutes: 60", "expiry_minutes: 0")).unwrap_err();
    let files: Vec<&str> = errors.iter().map(|error| error.file.as_str()).collect();
    assert_eq!(files, ["destinations.yaml", "destinations.yaml", "bulk.yaml"], "{errors:#?}");
}
