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
    Rules::load(&source("destinations.yaml", destinations), &policies, &BTreeSet::from(["crm".to_owned()]), None)
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
    let changes: [Change; 51] = [
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
        ("'json:/records/#'", "json:/a/*b", "7:24", "JSON pointer"),
        ("'json:/records/#'", "[]", "7:24", "the list is empty"),
        ("'json:/records/#'", "[json:/a, xml:/a]", "7:24", "no way to measure"),
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
        ("require_approvals: 2", "block_if_pi: true", "8:1", "unknown key `block_if_pi`"),
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
        ("require_approval_over: 100", "require_approval_over: {amount: 5}", "6:24", "needs `amount`"),
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

/// Text put after the last line of the sound policy, where it begins line 9, and the one error it causes.
fn expect_added(additions: &[(&str, &str, &str)]) {
    let missed: Vec<String> = additions
        .iter()
        .filter_map(|(text, at, part)| {
            let errors = load(DESTINATIONS, &format!("{BULK}{text}\n")).err().unwrap_or_default();
            let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let found =
                shown.iter().any(|error| error.starts_with(&format!("bulk.yaml:{at}:")) && error.contains(part));
            (!found).then(|| format!("{text:?} should be refused at {at} for {part:?}, not for {shown:?}"))
        })
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn broken_field_checks_are_refused() {
    expect_added(&[
        ("field_checks: []", "9:15", "the list is empty"),
        ("field_checks: [{path: a}]", "9:16", "checks nothing"),
        ("field_checks: [{path: 'a..b', required: true}]", "9:23", "no path of a field"),
        ("field_checks: [{path: 'a[0]', required: true}]", "9:23", "no path of a field"),
        ("field_checks: [{path: '', required: true}]", "9:23", "no path of a field"),
        ("field_checks: [{required: true}]", "9:16", "missing key `path`"),
        ("field_checks: [{path: a, require: true}]", "9:26", "unknown key `require`"),
        ("field_checks: [{path: a, required: maybe}]", "9:36", "boolean"),
        ("field_checks: [{path: a, min: 2, max: 1.5}]", "9:31", "`min` is 2, greater than `max`, 1.5"),
        ("field_checks: [{path: a, min: -1}]", "9:31", "negative"),
        ("field_checks: [{path: a, max: many}]", "9:31", "malformed"),
        ("field_checks: [{path: a, max_length: -1}]", "9:38", "usize"),
        ("field_checks: [{path: a, pattern: '('}]", "9:35", "no regular expression"),
        ("field_checks: [{path: a, pattern: '(?=a)'}]", "9:35", "no regular expression"),
        ("field_checks: [{path: a, pattern: '(a{1000}){1000}'}]", "9:35", "no regular expression"),
        ("field_checks: [{path: a, pattern: ''}]", "9:35", "matches everything"),
        ("field_checks: [{path: a, one_of: []}]", "9:34", "the list is empty"),
        ("field_checks: [{path: a, one_of: [-1]}]", "9:35", "text, a number"),
        ("field_checks: [{path: a, one_of: [0.1234567890123456]}]", "9:35", "too many digits"),
        ("field_checks: [{path: a, one_of: [{b: 1}]}]", "9:35", "text, a number"),
    ]);
}

#[test]
fn broken_rules_are_refused() {
    let rule = |text: &str| format!("rules: [{{id: a, effect: deny, {text}}}]");
    let when = |text: &str| format!("rules: [{{id: a, effect: deny, when: {{{text}}}}}]");
    let table = [
        ("rules: []".to_owned(), "9:8", "the list is empty"),
        ("rules: [{id: a}]".to_owned(), "9:9", "missing key `effect`"),
        ("rules: [{effect: deny}]".to_owned(), "9:9", "missing key `id`"),
        ("rules: [{id: A, effect: deny}]".to_owned(), "9:14", "no id of a rule"),
        ("rules: [{id: a, effect: block}]".to_owned(), "9:25", "unknown variant"),
        ("rules: [{id: a, effect: deny}, {id: a, effect: hold}]".to_owned(), "9:37", "already a rule `a`"),
        (rule("unless: {}"), "9:31", "unknown key `unless`"),
        (rule("expires: 2027-01-01T00:00:00Z"), "9:40", "only an allow expires"),
        ("rules: [{id: a, effect: hold, expires: 2027-01-01T00:00:00Z}]".to_owned(), "9:40", "only an allow expires"),
        ("rules: [{id: a, effect: allow, expires: 2027-01-01}]".to_owned(), "9:41", "no point in time"),
        (rule("reason: ' '"), "9:39", "empty"),
        (rule("remedy: ''"), "9:39", "empty"),
        (when("hosts: [a]"), "9:38", "unknown key `hosts`"),
        (when("agents: []"), "9:46", "never match"),
        (when("agents: ['']"), "9:47", "pattern is empty"),
        (when("methods: [post]"), "9:47", "upper-case"),
        (when("methods: []"), "9:47", "upper-case"),
        (when("methods: [DELETE]"), "9:48", "takes the method"),
        (when("paths: [/import/x]"), "9:46", "never match"),
        (when("paths: ['/**/x']"), "9:46", "before its end"),
        (when("destinations: [crm.other]"), "9:53", "never match"),
        (when("destinations: [crm.read]"), "9:53", "never match"),
        (when("query: {a: ''}"), "9:49", "pattern is empty"),
        (when("headers: {a: [b]}"), "9:51", "a string"),
        (when("body: {a: {}}"), "9:48", "asks for nothing"),
        (when("body: {a..b: 1}"), "9:51", "no path"),
        (when("body: {a: {min: 2, max: 1}}"), "9:54", "greater than `max`"),
        (when("body: {a: {value: 2, one_of: [1]}}"), "9:48", "both given"),
        (when("body: {a: {required: true}}"), "9:49", "unknown key `required`"),
        (when("body: {a: {pattern: '['}}"), "9:58", "no regular expression"),
        (when("time: {days: [mon]}"), "9:44", "missing key `zone`"),
        (when("time: {days: [monday], zone: UTC}"), "9:52", "unknown variant"),
        (when("time: {days: [], zone: UTC}"), "9:51", "the list is empty"),
        (when("time: {zone: UTC}"), "9:51", "all of time"),
        (when("time: {days: [mon], zone: Mars/Base}"), "9:64", "no such time zone"),
        (when("time: {from: '09:00', zone: UTC}"), "9:51", "not two times"),
        (when("time: {from: '9', to: '10:00', zone: UTC}"), "9:51", "not two times"),
        (when("time: {from: '09:00', to: '09:00', zone: UTC}"), "9:51", "window is empty"),
    ];
    let table: Vec<(&str, &str, &str)> = table.iter().map(|(text, at, part)| (text.as_str(), *at, *part)).collect();
    expect_added(&table);
}

#[test]
fn broken_approval_rules_are_refused() {
    expect_added(&[
        ("require_approval_for: org_wide", "9:23", "needs `scope`, which `crm.import` does not measure"),
        ("require_approval_for: {}", "9:23", "no value is given"),
        ("require_approval_for: []", "9:23", "no value is given"),
        ("require_approval_for: [{currency: [eur]}]", "9:35", "text, a number"),
        ("require_approval_for: 5", "9:23", "a mapping of measured names"),
        ("require_approval_if_template_error: always", "9:37", "boolean"),
        ("allowed_recipients: []", "9:21", "the list is empty"),
        ("allowed_recipients: ['*@example.com']", "9:21", "needs `recipients`"),
        ("allowed_recipients: ['*']", "9:22", "allows every recipient"),
        ("allowed_recipients: ['']", "9:22", "pattern is empty"),
    ]);
}

#[test]
fn broken_dlp_is_refused() {
    expect_added(&[
        ("dlp: {rules: [card]}", "9:6", "missing key `action`"),
        ("dlp: {action: block}", "9:6", "no rule is listed"),
        ("dlp: {rules: [card], action: deny}", "9:30", "unknown variant"),
        ("dlp: {rules: [cards], action: hold}", "9:15", "there is no rule `cards`"),
        ("dlp: {rules: [card, card], action: hold}", "9:21", "listed twice"),
        ("dlp: {custom: [{id: X, pattern: a}], action: hold}", "9:21", "malformed or taken"),
        ("dlp: {custom: [{id: card, pattern: a}], action: hold}", "9:21", "malformed or taken"),
        ("dlp: {custom: [{id: x, pattern: a}, {id: x, pattern: b}], action: hold}", "9:42", "malformed or taken"),
        ("dlp: {custom: [{id: x, pattern: '('}], action: hold}", "9:33", "no regular expression"),
        ("dlp: {custom: [{id: x, pattern: 'a*'}], action: hold}", "9:33", "empty text"),
        ("dlp: {custom: [{id: x}], action: hold}", "9:16", "missing key `pattern`"),
        ("block_if_pii: yes", "9:15", "boolean"),
    ]);
}

#[test]
fn broken_risk_is_refused() {
    expect_added(&[
        ("risk: {}", "9:7", "no score is given"),
        ("risk: {hold_at: 0}", "9:17", "not 1 to 100"),
        ("risk: {block_at: 101}", "9:18", "not 1 to 100"),
        ("risk: {hold_at: 50, block_at: 50}", "9:17", "not less than `block_at`"),
        ("risk: {hold_at: 60, block_at: 50}", "9:17", "not less than `block_at`"),
        ("risk: {hold_at: 50.5}", "9:17", "u32"),
        ("risk: {deny_at: 50}", "9:8", "unknown key `deny_at`"),
    ]);
}

#[test]
fn broken_environments_are_refused() {
    expect_added(&[
        ("environments: {prod: {id: bulk}}", "9:27", "cannot change `id`"),
        ("environments: {prod: {destinations: [crm.import]}}", "9:37", "cannot change `destinations`"),
        ("environments: {prod: {environments: {x: {expiry_minutes: 1}}}}", "9:37", "cannot change `environments`"),
        ("environments: {Prod: {expiry_minutes: 5}}", "9:22", "no name of an environment"),
        ("environments: {prod: {expiry: 5}}", "9:23", "unknown key `expiry`"),
        ("environments: {prod: {expiry_minutes: 0}}", "9:39", "10080"),
        ("environments: {prod: {auto_approve_under: 101}}", "9:43", "greater than `require_approval_over`"),
        (
            "environments: {prod: {require_approval_over: 99}}",
            "5:21",
            "in the environment `prod`, `auto_approve_under`",
        ),
        ("environments: {prod: {require_approval_for: org_wide}}", "9:45", "needs `scope`"),
        ("environments: {a: {expiry_minutes: 5}, b: {block_if_terms: ['-']}}", "9:61", "neither a letter"),
        ("environments: {prod: {rules: [{id: a, effect: deny, when: {paths: [/x]}}]}}", "9:68", "never match"),
        ("environments: []", "9:15", "a map"),
    ]);
}

#[test]
fn an_environment_is_checked_once_and_known() {
    let load_in = |bulk: &str, environment| {
        let policies = [
            ("bulk".to_owned(), source("bulk.yaml", bulk)),
            ("reads".to_owned(), source("reads.yaml", "description: reading\n")),
        ];
        let credentials = BTreeSet::from(["crm".to_owned()]);
        Rules::load(&source("destinations.yaml", DESTINATIONS), &policies, &credentials, environment)
    };
    let sound = format!("{BULK}environments: {{prod: {{require_approvals: 3}}}}\n");
    assert!(load_in(&sound, None).is_ok() && load_in(&sound, Some("prod")).is_ok());
    assert!(load_in(BULK, Some("prod")).is_ok(), "no policy has environments");
    let errors = load_in(&sound, Some("prdo")).unwrap_err();
    assert_eq!((errors.len(), errors[0].line), (1, Some(9)), "{errors:#?}");
    assert!(errors[0].message.contains("`prdo`, which no policy has"), "{errors:#?}");
    let broken = sound.replace("expiry_minutes: 60", "expiry_minutes: 0");
    assert_eq!(load_in(&broken, None).unwrap_err().len(), 1);
}

#[test]
fn an_unused_or_repeated_policy_is_refused() {
    let of = |id: &str| (id.to_owned(), source(&format!("{id}.yaml"), "description: x\n"));
    let destinations =
        source("d.yaml", "destinations:\n- {key: a, match: {host: a.b, path: /}, effect: read, policy: a}\n");
    let load = |ids: &[&str]| {
        let policies: Vec<_> = ids.iter().map(|id| of(id)).collect();
        Rules::load(&destinations, &policies, &BTreeSet::new(), None)
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
