//! What lies on the disk: nothing is written where others may write, nothing is kept for longer than it is needed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::api;
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::Origin;
use crate::harness::world::{API, POLICIES, SECRET};

#[test]
fn a_request_that_will_not_be_sent_is_not_kept() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let held = |url: &str| {
        let intent = agent.held(url, "a wire transfer");
        assert!(is_sealed(&gate, &intent), "{url}");
        intent
    };
    let cancelled = held("https://api.example/change/cancelled");
    agent.cancel(&cancelled);
    let denied = held("https://api.example/change/denied");
    gate.succeeds(&["deny", &denied, "--rationale", "no"]);
    let taken_back = held("https://api.example/change/taken-back");
    fs::remove_file(gate.home().join("api.key")).unwrap();
    gate.approve(&taken_back);
    gate.event("action.failed", &taken_back);
    gate.succeeds(&["deny", &taken_back, "--rationale", "no"]);
    gate.write("api.key", SECRET);
    let blocked = held("https://api.example/change/blocked");
    let waiting = held("https://api.example/twice/waiting");
    let denies = format!("{}block_if_terms: [\"wire transfer\"]\n", changes());
    gate.write("policies/changes.yaml", &denies);
    gate.succeeds(&["reload"]);
    gate.writ(&["approve", &blocked, "--rationale", "looks right"]);

    for (intent, status) in
        [(&cancelled, "cancelled"), (&denied, "rejected"), (&taken_back, "rejected"), (&blocked, "blocked")]
    {
        assert_eq!(agent.status(intent), status);
        assert!(!is_sealed(&gate, intent), "the {status} request is still there");
    }
    assert!(is_sealed(&gate, &waiting));
    assert_eq!(origin.connections(), 0);
    gate.assert_verifies();
}

#[test]
fn a_request_that_waits_is_kept_whatever_the_retention_and_sent_once() {
    let (origin, gate) = api();
    let done = gate.agent().held("https://api.example/change/done", "x");
    gate.approve(&done);
    assert_eq!(gate.agent().settled(&done), "succeeded");
    let waiting = gate.agent().held("https://api.example/change/waiting", "the body");

    let gate = gate.stop().start_with(&[("WRIT_LIMITS_RETENTION_HOURS", "0")]);
    let reply = gate.home().join(format!("data/sealed/{done}.reply"));
    assert!(within(PATIENCE, || (!reply.exists()).then_some(())).is_some(), "nothing was swept");
    assert!(is_sealed(&gate, &waiting));
    gate.approve(&waiting);
    assert_eq!(gate.agent().settled(&waiting), "succeeded");
    let hits = origin.hits();
    assert_eq!(
        (hits.len(), hits[1].target.as_str(), hits[1].body.as_slice()),
        (2, "/change/waiting", b"the body".as_slice())
    );
    assert_eq!(gate.events_called("action.executing").len(), 2);
}

#[test]
fn nothing_is_created_where_others_may_write() {
    let cases: [fn(&Plan) -> [&'static str; 2]; 3] = [
        |plan| {
            fs::set_permissions(plan.home(), fs::Permissions::from_mode(0o777)).unwrap();
            ["can be changed by others", "chmod go-w"]
        },
        |plan| {
            fs::create_dir(plan.home().join("elsewhere")).unwrap();
            symlink(plan.home().join("elsewhere"), plan.home().join("data")).unwrap();
            ["symbolic link", "put the folder itself there"]
        },
        |plan| {
            symlink(plan.home().join("nowhere"), plan.home().join("data")).unwrap();
            ["symbolic link that leads nowhere", "remove it"]
        },
    ];
    for spoil in cases {
        let origin = Origin::https(&[API]);
        let plan = Plan::new().origin(API, &origin);
        plan.configure();
        let words = spoil(&plan);
        let before = names(&plan.home());
        let init = plan.writ(&["init"]);
        let up = plan.refuses_to_start();
        for said in [init, up] {
            assert_ne!(said.code, 0, "{said:?}");
            assert!(words.iter().all(|word| said.err.contains(word)), "{said:?}");
        }
        assert_eq!(names(&plan.home()), before, "{words:?}");
        assert_eq!(origin.connections(), 0);
    }
}

#[test]
fn a_first_run_that_was_cut_off_does_not_spoil_the_next() {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin);
    let rest = plan.home().join("data.new");
    for folder in ["keys", "ca", "events"] {
        fs::create_dir_all(rest.join(folder)).unwrap();
    }
    let junk = ["keys/principals.json", "keys/ledger.key", "ca/root.key", "events/2020-01-01.jsonl"];
    junk.iter().for_each(|name| fs::write(rest.join(name), "half").unwrap());
    let plan = plan.file("agent-default.token", "writ_agt_of_the_first_attempt\n");

    let gate = plan.start();
    assert!(!rest.exists());
    assert_eq!(gate.agent().get("https://api.example/x").status, 200);
    let old = gate.agent().with_token("writ_agt_of_the_first_attempt");
    assert_eq!(old.get("http://plain.example/x").status, 407);
    assert_eq!((origin.hits().len(), gate.events_called("decision.allowed").len()), (1, 1));
    assert_eq!(gate.events_called("ledger.created").len(), 1);
    gate.assert_verifies();
}

#[test]
fn a_changed_policy_is_in_force_without_a_command_and_a_broken_one_is_not() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let send = || agent.post("https://api.example/send/x", "x").status;
    assert_eq!(send(), 200);
    let sends = POLICIES.iter().find(|(id, _)| *id == "sends").unwrap().1;
    gate.write("policies/sends.yaml", &sends.replace("require_approval: never", "require_approval: always"));
    let loaded = |count| within(PATIENCE, || (gate.events_called("config.loaded").len() == count).then_some(()));
    assert!(loaded(2).is_some(), "nobody noticed the new policy");
    assert!(within(PATIENCE, || (send() == 202).then_some(())).is_some(), "the old policy is still in force");
    let sent = origin.hits().len();

    gate.write("policies/sends.yaml", "destinations: [api.send, api.small, plain.send]\nrequire_aproval: never\n");
    let refused = gate.wait_for("config.refused", |_| true);
    assert!(refused["data"]["reason"].as_str().unwrap().contains("sends.yaml:2"), "{refused}");
    assert_eq!((send(), origin.hits().len()), (202, sent), "a broken file took the rules away");

    gate.write("policies/sends.yaml", sends);
    assert!(loaded(3).is_some(), "nobody noticed that it was mended");
    assert!(within(PATIENCE, || (send() == 200).then_some(())).is_some());
    assert_eq!(gate.events_called("config.refused").len(), 1);
}

fn is_sealed(gate: &Gate, intent: &str) -> bool {
    gate.home().join(format!("data/sealed/{intent}.request")).exists()
}

fn changes() -> &'static str {
    POLICIES.iter().find(|(id, _)| *id == "changes").unwrap().1
}

/// Everything below a folder, by path.
fn names(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(names(&path));
        }
        found.insert(path.display().to_string());
    }
    found
}
