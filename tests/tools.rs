//! The tools that policies are written with: check, explain, cases, import. Each as a person runs it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::harness::gate::Plan;
use crate::harness::origin::Origin;
use crate::harness::world::{API, DESTINATIONS, POLICIES};

#[test]
fn check_finds_everything_in_every_file_at_once() {
    let plan = Plan::new()
        .file("writ.yaml", "doors: { forwad: '127.0.0.1:1' }\nanswers: { hold_status: 500 }\n")
        .file(
            "destinations.yaml",
            &DESTINATIONS.replace("path: /twice/**", "path: twice").replace("policy: pairs", "policy: none"),
        )
        .file("policies/reads.yaml", "destinations: [api.read, plain.read]\nexpiry_minutes: 0\nblock_if_terms: ['-']\n")
        .file(
            "tests/mine.yaml",
            "cases:\n  - { name: a, request: 'GET https://api.example/', expect: allow, rul: x }\n",
        )
        .file(
            "credentials.yaml",
            "credentials:\n  api: { secret: s3cret, hosts: [api.example], inject: { bearer: '{secret}' } }\n",
        );
    fs::set_permissions(plan.home().join("policies/changes.yaml"), fs::Permissions::from_mode(0o666)).unwrap();

    let checked = plan.writ(&["--json", "check"]);
    let report: Value = serde_json::from_str(&checked.out).unwrap();
    let found: BTreeSet<(&str, &str, Option<u64>)> = report["faults"].as_array().unwrap().iter().map(place).collect();
    let expected = BTreeSet::from([
        ("bad_credential", "credentials.yaml", Some(2)),
        ("bad_path", "destinations.yaml", Some(24)),
        ("empty_text", "reads.yaml", Some(3)),
        ("out_of_range", "reads.yaml", Some(2)),
        ("out_of_range", "writ.yaml", Some(2)),
        ("shared_file", "changes.yaml", None),
        ("unknown_key", "mine.yaml", Some(2)),
        ("unknown_key", "writ.yaml", Some(1)),
        ("unknown_policy", "destinations.yaml", Some(26)),
        ("unused_policy", "pairs.yaml", Some(1)),
    ]);
    assert_eq!((checked.code, found), (3, expected), "{report:#}");
    assert_eq!(report["valid"], false);
    assert!(!checked.out.contains("s3cret"), "a line of the credentials is shown");

    let shown = plan.writ(&["check"]);
    assert_eq!(shown.code, 3);
    for part in [
        "error[out_of_range]",
        "policies/reads.yaml:2:17",
        "| expiry_minutes: 0",
        "= choose a time in that range",
        "errors: 10",
    ] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    assert!(!shown.out.contains("s3cret"));
}

#[test]
fn check_warns_of_what_is_valid_and_does_nothing() {
    let unused = "  spare: { secret: 'env://K', hosts: [b.example], inject: { bearer: '{secret}' } }\n";
    let plan = Plan::new().file("policies/changes.yaml", "require_approval: always\nauto_approve_under: 5\n").file(
        "destinations.yaml",
        &DESTINATIONS.replace("policy: changes\n", "policy: changes\n    measure: { records: 'json:/#' }\n"),
    );
    let credentials = fs::read_to_string(plan.home().join("credentials.yaml")).unwrap() + unused;
    let plan = plan.file("credentials.yaml", &credentials);
    let checked = plan.writ(&["--json", "check"]);
    let report: Value = serde_json::from_str(&checked.out).unwrap();
    let found: BTreeSet<(&str, &str, Option<u64>)> = report["faults"].as_array().unwrap().iter().map(place).collect();
    let expected = BTreeSet::from([
        ("never_decides", "changes.yaml", Some(2)),
        ("unused_credential", "credentials.yaml", Some(6)),
    ]);
    assert_eq!((checked.code, report["valid"].as_bool(), found), (0, Some(true), expected), "{report:#}");
}

#[test]
fn explain_shows_every_rule_every_fact_and_the_one_reading() {
    let plan = Plan::new()
        .file("policies/sends.yaml", "block_if_terms: [wire transfer]\nauto_approve_under: { amount: 10 }\nrules: [{ id: bots, effect: hold, when: { agents: ['bot-*'] } }]\n")
        .file(
            "destinations.yaml",
            &DESTINATIONS.replace("effect: write\n", "effect: write\n    measure: { amount: 'form:amount' }\n"),
        );
    let form = ["-H", "Content-Type: application/x-www-form-urlencoded", "--data", "amount=12"];
    let url = "https://API.example/send/%61?q=1";
    let explained = plan.writ(
        &[&["--json", "explain", "POST", url, "--agent", "bot-7", "-H", "X-Gate-Wait: true"], &form[..]].concat(),
    );
    assert_eq!(explained.code, 0, "{explained:?}");
    let report: Value = serde_json::from_str(&explained.out).unwrap();
    assert_eq!(report["verdict"], "hold");
    let canonical = &report["canonical"];
    assert_eq!(
        (&canonical["authority"], &canonical["path"]),
        (&"https://api.example".into(), &"/send/a".into()),
        "{canonical}"
    );
    assert_eq!(canonical["headers"], serde_json::json!(["content-type"]), "what stays at the gate is no fact");
    let rules: Vec<(&str, Option<&str>)> = report["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["rule"].as_str().unwrap(), rule["verdict"].as_str()))
        .collect();
    let expected = [
        ("sends/auto_approve_under", Some("hold")),
        ("sends/rules/bots", Some("hold")),
        ("sends/block_if_terms", None),
    ];
    assert_eq!(rules, expected, "{report:#}");
    let fact =
        |name: &str| report["facts"].as_array().unwrap().iter().find(|fact| fact["name"] == name).cloned().unwrap();
    assert_eq!((&fact("amount")["value"], &fact("amount")["from"]), (&"12".into(), &"form:amount".into()));
    assert_eq!(fact("destination")["value"], "api.send");

    let denied = plan
        .writ(&[&["explain", "POST", "https://api.example/send/a", "--data", "a wire transfer"], &form[..2]].concat());
    assert_eq!(denied.code, 2, "{denied:?}");
    assert!(denied.out.starts_with("deny\n") && denied.out.contains("the body has the blocked term"), "{}", denied.out);
    let ambiguous = plan.writ(&["explain", "GET", "https://api.example/a/%2e%2e%2fb"]);
    assert_eq!(ambiguous.code, 1);
    assert!(ambiguous.err.contains("refuses to read this"), "{}", ambiguous.err);
}

#[test]
fn a_recorded_decision_is_explained_by_the_rules_that_made_it() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    let held = gate.agent().post("https://api.example/change/7", "x");
    let unknown = gate.agent().request("DELETE", "https://api.example/a", &[], b"");
    let (_, changes) = POLICIES[0];
    gate.write("policies/changes.yaml", &changes.replace("always", "never"));
    gate.succeeds(&["reload"]);

    let explained: Value =
        serde_json::from_str(&gate.succeeds(&["--json", "explain", "--recorded", &held.correlation()])).unwrap();
    let recorded = gate.event("decision.approval_required", &held.correlation());
    assert_eq!(explained["verdict"], "hold");
    assert_eq!(explained["rules"][0]["rule"], recorded["data"]["rules"][0]["rule"]);
    assert_eq!(explained["rules"][0]["rule"], "changes/require_approval");
    assert_eq!(explained["basis"]["policy_hash"], recorded["data"]["policy_hash"]);
    assert_eq!(explained["canonical"]["body_sha256"], recorded["data"]["body_sha256"]);
    assert_eq!(explained["basis"]["risk"], recorded["data"]["risk"]);

    let denied = gate.writ(&["explain", "--recorded", &unknown.correlation()]);
    assert!(denied.code == 2 && denied.out.contains("destination.unknown"), "{denied:?}");
    let nothing = gate.writ(&["explain", "--recorded", "corr_none"]);
    assert!(nothing.code == 1 && nothing.err.contains("no decision is recorded"), "{nothing:?}");
}

#[test]
fn cases_that_do_not_hold_say_what_differs() {
    let plan = Plan::new().file(
        "extra.yaml",
        "cases:\n  - { name: reads, request: GET https://api.example/a, expect: allow, rule: default.effect, destination: api.read }\n  \
         - { name: changes, request: POST https://api.example/change/1, expect: allow }\n  \
         - { name: sends, request: POST https://api.example/send/1, expect: allow, rule: sends/other, measured: { n: '1' } }\n",
    );
    let file = plan.home().join("extra.yaml");
    let tested = plan.writ(&["policy", "test", file.to_str().unwrap()]);
    assert_eq!((tested.code, tested.out.trim()), (1, "1 of 3 cases hold"), "{tested:?}");
    for part in [
        "changes",
        "expected allow, decided hold by `changes/require_approval`",
        "`sends/other`",
        "`n` to be 1, measured nothing",
    ] {
        assert!(tested.err.contains(part), "{part}: {}", tested.err);
    }
    let tested: Value =
        serde_json::from_str(&plan.writ(&["--json", "policy", "test", file.to_str().unwrap()]).out).unwrap();
    assert_eq!((&tested["passed"], &tested["failed"][0]["case"]), (&1.into(), &"changes".into()));
    let broken = plan.file("extra.yaml", "cases: [{ name: a, request: GET https://api.example/a, expects: allow }]\n");
    let refused = broken.writ(&["policy", "test", file.to_str().unwrap()]);
    assert!(refused.code == 3 && refused.err.contains("did you mean `expect`?"), "{refused:?}");
}

#[test]
fn a_zehrava_gate_becomes_valid_files_and_every_dead_line_is_named() {
    let plan = Plan::new();
    let gate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/import/gate");
    let out = plan.home().join("imported");
    let arguments = ["--json", "import", "gate", gate.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let imported = plan.writ(&arguments);
    assert_eq!(imported.code, 0, "{imported:?}");
    let report: Value = serde_json::from_str(&imported.out).unwrap();
    let found: BTreeSet<(&str, &str, Option<u64>)> = report["findings"].as_array().unwrap().iter().map(place).collect();
    let expected = fs::read_to_string(gate.join("../findings.txt")).unwrap();
    let expected: BTreeSet<(&str, &str, Option<u64>)> = expected
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let (file, line, code) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            (code, file, line.parse().ok())
        })
        .collect();
    assert_eq!(found, expected, "{report:#}");

    let checked = plan.writ(&["--home", out.to_str().unwrap(), "check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let explain = |method: &str, url: &str, data: &str| {
        let arguments = [
            "--home",
            out.to_str().unwrap(),
            "explain",
            method,
            url,
            "-H",
            "content-type: application/json",
            "--data",
            data,
        ];
        plan.writ(&arguments).out.lines().next().unwrap_or_default().to_owned()
    };
    let mail = "https://api.sendgrid.com/v3/mail/send";
    assert_eq!(explain("POST", mail, r#"{"personalizations":[1]}"#), "allow");
    assert_eq!(explain("POST", mail, r#"{"personalizations":[1],"text":"r3fund guaranteed"}"#), "deny");
    let many = format!(r#"{{"personalizations":[{}1]}}"#, "1,".repeat(15));
    assert_eq!(explain("POST", mail, &many), "hold", "the lower of two limits that contradict each other counts");
    assert_eq!(explain("POST", "https://api.mailgun.net/v3/x/messages", "{}"), "hold", "what is not counted waits");
    assert_eq!(explain("POST", "https://api.stripe.com/v1/refunds", "{}"), "hold");
    assert_eq!(explain("GET", "https://telemetry.example.com/", ""), "deny", "what passed unseen is denied");
    assert_eq!(explain("GET", "https://anything.example.com/", ""), "deny");
    let again = plan.writ(&arguments);
    assert!(again.code == 1 && again.err.contains("is there already"), "{again:?}");
}

/// Code, name of the file, and line of a fault.
fn place(fault: &Value) -> (&str, &str, Option<u64>) {
    let file = fault["file"].as_str().unwrap();
    let name = file.rsplit('/').next().unwrap_or(file);
    (fault["code"].as_str().unwrap(), name, fault["line"].as_u64())
}
