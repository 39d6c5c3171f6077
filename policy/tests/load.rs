//! What loading finds, beyond the files of `refused.rs`.

use std::collections::BTreeSet;

use policy::{Code, Fault, Invalid, Rules, Severity, Source};

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

fn load(destinations: &str, bulk: &str) -> Result<Rules, Invalid> {
    let policies = [
        ("bulk".to_owned(), source("bulk.yaml", bulk)),
        ("reads".to_owned(), source("reads.yaml", "description: reading\n")),
    ];
    Rules::load(&source("destinations.yaml", destinations), &policies, Some(&BTreeSet::from(["crm".to_owned()])), None)
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
fn ties_are_refused() {
    let add = |entry: &str| {
        let entry =
            format!("  - {{key: other, effect: read, policy: reads, match: {{host: crm.example.com, {entry}}}}}\n");
        load(&format!("{DESTINATIONS}{entry}"), BULK)
    };
    for tie in ["methods: [PUT, GET], path: /**", "methods: [POST], path: /import"] {
        let errors = add(tie).unwrap_err().0;
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
fn a_fault_says_what_where_and_what_to_do() {
    let errors = load(DESTINATIONS, &BULK.replace("expiry_minutes: 60", "expiry_minuts: 60")).unwrap_err().0;
    let expected = Fault {
        severity: Severity::Error,
        code: Code::UnknownKey,
        file: "bulk.yaml".to_owned(),
        line: Some(7),
        column: Some(1),
        message: "unknown key `expiry_minuts`".to_owned(),
        remedy: "did you mean `expiry_minutes`?".to_owned(),
        snippet: Some("expiry_minuts: 60".to_owned()),
    };
    assert_eq!(errors, [expected]);
    assert_eq!(
        errors[0].to_string(),
        "bulk.yaml:7:1: unknown key `expiry_minuts`; did you mean `expiry_minutes`? [unknown_key]"
    );
}

#[test]
fn faults_of_an_environment_say_so() {
    let prod = format!("{BULK}environments: {{prod: {{require_approval_over: 99}}}}\n");
    let errors = load(DESTINATIONS, &prod).unwrap_err().0;
    assert_eq!((errors.len(), errors[0].line, errors[0].column), (1, Some(5), Some(21)), "{errors:#?}");
    assert!(errors[0].message.starts_with("in the environment `prod`, `auto_approve_under`"), "{errors:#?}");
}

#[test]
fn an_environment_is_checked_once_and_known() {
    let load_in = |bulk: &str, environment| {
        let policies = [
            ("bulk".to_owned(), source("bulk.yaml", bulk)),
            ("reads".to_owned(), source("reads.yaml", "description: reading\n")),
        ];
        let credentials = BTreeSet::from(["crm".to_owned()]);
        Rules::load(&source("destinations.yaml", DESTINATIONS), &policies, Some(&credentials), environment)
    };
    let sound = format!("{BULK}environments: {{prod: {{require_approvals: 3}}}}\n");
    assert!(load_in(&sound, None).is_ok() && load_in(&sound, Some("prod")).is_ok());
    assert!(load_in(BULK, Some("prod")).is_ok(), "no policy has environments");
    let errors = load_in(&sound, Some("prdo")).unwrap_err().0;
    assert_eq!((errors.len(), errors[0].line), (1, Some(9)), "{errors:#?}");
    assert!(errors[0].message.contains("`prdo`, which no policy has"), "{errors:#?}");
    let broken = sound.replace("expiry_minutes: 60", "expiry_minutes: 0");
    assert_eq!(load_in(&broken, None).unwrap_err().0.len(), 1);
}

#[test]
fn an_unused_or_repeated_policy_is_refused() {
    let of = |id: &str| (id.to_owned(), source(&format!("{id}.yaml"), "description: x\n"));
    let destinations =
        source("d.yaml", "destinations:\n- {key: a, match: {host: a.b, path: /}, effect: read, policy: a}\n");
    let load = |ids: &[&str]| {
        let policies: Vec<_> = ids.iter().map(|id| of(id)).collect();
        Rules::load(&destinations, &policies, Some(&BTreeSet::new()), None)
    };
    assert!(load(&["a"]).is_ok());
    assert_eq!(
        load(&["a", "b"]).unwrap_err().0[0].to_string().split(';').next(),
        Some("b.yaml:1:1: no destination uses this policy")
    );
    assert!(load(&["a", "a"]).unwrap_err().0[0].message.contains("already"));
}

#[test]
fn all_errors_are_found_at_once() {
    let destinations = DESTINATIONS.replace("path: /**", "path: x").replace("credential: crm", "credential: none");
    let errors = load(&destinations, &BULK.replace("expiry_minutes: 60", "expiry_minutes: 0")).unwrap_err().0;
    let files: Vec<&str> = errors.iter().map(|error| error.file.as_str()).collect();
    assert_eq!(files, ["destinations.yaml", "destinations.yaml", "bulk.yaml"], "{errors:#?}");
}

#[test]
fn an_environment_enforces_what_is_tried_out_elsewhere() {
    let tried = "enforce: false\nuntil: 2027-01-31T00:00:00Z\nenvironments: {prod: {enforce: true}}\n";
    let policies = [
        ("bulk".to_owned(), source("bulk.yaml", &format!("{BULK}{tried}"))),
        ("reads".to_owned(), source("reads.yaml", "description: reading\n")),
    ];
    let not_enforced = |environment: Option<&str>| {
        let credentials = BTreeSet::from(["crm".to_owned()]);
        let rules = Rules::load(&source("destinations.yaml", DESTINATIONS), &policies, Some(&credentials), environment);
        rules.unwrap().not_enforced("2026-01-01T00:00:00Z".parse().unwrap()).count()
    };
    assert_eq!((not_enforced(None), not_enforced(Some("prod"))), (1, 0));
}

#[test]
fn what_moves_money_is_always_enforced() {
    let tried = format!("{BULK}enforce: false\nuntil: 2027-01-31T00:00:00Z\n");
    let rules = load(DESTINATIONS, &tried).unwrap();
    let said: Vec<(Code, Option<usize>)> = rules.warnings().iter().map(|fault| (fault.code, fault.line)).collect();
    assert_eq!(said, [(Code::NotEnforced, Some(9))]);
    let not_enforced =
        |now: &str| rules.not_enforced(now.parse().unwrap()).map(|(policy, _)| policy).collect::<Vec<_>>();
    assert_eq!(not_enforced("2027-01-30T23:59:59Z"), ["bulk"]);
    assert_eq!(not_enforced("2027-01-31T00:00:00Z"), [""; 0]);

    let by_effect = DESTINATIONS.replace("external_mutation", "payment");
    let profile = "profile: {payment.refund.v1: {amount: 'json:/amount', payment: 'json:/of'}}\n    measure:";
    for moving in [by_effect, DESTINATIONS.replace("measure:", profile)] {
        let errors = load(&moving, &tried).unwrap_err().0;
        let errors: Vec<Code> =
            errors.iter().filter(|fault| fault.severity == Severity::Error).map(|fault| fault.code).collect();
        assert_eq!(errors, [Code::ShadowPayment], "{moving}");
    }
}
