//! Who can write the gate's files, but does not hold its keys, gains no decision by it.

use std::fs;
use std::io::Write;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{api, page, status_within};
use crate::harness::agent::Agent;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::PLAIN;

#[test]
fn a_vote_written_into_the_journal_sends_nothing() {
    for replayed in [false, true] {
        let (origin, gate) = api();
        let second = gate.add_operator("second", "reviewer");
        let agent = gate.agent();
        // The same request was approved once: what was voted then is genuine, and good for that time only.
        let before = agent.held("https://api.example/change/7", "x");
        assert_eq!(gate.writ_as(&second, &["approve", &before, "--rationale", "fine"]).code, 0);
        assert_eq!((agent.settled(&before).as_str(), origin.hits().len()), ("succeeded", 1));
        let mut data = gate.event("approval.vote", &before)["data"].clone();
        let intent = agent.held("https://api.example/change/7", "x");
        let opened = gate.event("decision.approval_required", &intent);
        assert_eq!(data["digest"], opened["data"]["digest"]);
        if !replayed {
            data.as_object_mut().unwrap().remove("mark");
        }

        let gate = started_with(gate, "approval.vote", &opened, data);
        assert_eq!(gate.events_called("approval.vote").len(), 2, "the forged one is an entry like any other");
        assert_eq!(status_within(&gate, &intent, 2), "pending_approval", "replayed: {replayed}");
        assert_eq!((origin.hits().len(), gate.events_called("approval.granted").len()), (1, 1), "replayed: {replayed}");
        gate.approve(&intent);
        assert_eq!((gate.agent().settled(&intent).as_str(), origin.hits().len()), ("succeeded", 2));
    }
}

#[test]
fn an_approval_written_into_the_journal_sends_nothing() {
    let (origin, gate) = api();
    let intent = gate.agent().held("https://api.example/change/7", "x");
    let opened = gate.event("decision.approval_required", &intent);
    let gate = started_with(gate, "approval.granted", &opened, json!({}));
    gate.wait_for("decision.approval_required", |event| event["seq"].as_u64() > opened["seq"].as_u64());
    assert_eq!(status_within(&gate, &intent, 2), "pending_approval");
    assert_eq!(origin.connections(), 0);
    assert!(gate.events_called("action.executing").is_empty());
    gate.approve(&intent);
    assert_eq!((gate.agent().settled(&intent).as_str(), origin.hits().len()), ("succeeded", 1));
}

#[test]
fn an_old_list_of_principals_brings_nobody_back() {
    let origin = Origin::plain();
    let gate = Plan::new().origin(PLAIN, &origin).start();
    let (suspended, revoked) = (gate.agent(), gate.add_agent("other", "ops"));
    let operator = gate.add_operator("second", "admin");
    let file = "data/keys/principals.json";
    let old = fs::read_to_string(gate.home().join(file)).unwrap();
    gate.succeeds(&["agents", "suspend", "default"]);
    gate.succeeds(&["agents", "revoke", "other"]);
    gate.succeeds(&["operators", "revoke", "second"]);

    let plan = gate.stop().file(file, &old);
    let gate = plan.start();
    let tries =
        [("default", suspended.token, 403, "agent_suspended"), ("other", revoked.token, 407, "credential_invalid")];
    for (name, token, status, code) in tries {
        let agent = Agent::new(gate.forward, &gate.home().join("ca-bundle.pem"), name, &token);
        let answer = agent.get("http://plain.example/x");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{name}: {answer:?}");
        assert_eq!(gate.events_of(&answer.correlation())[0]["data"]["code"], code, "{name}");
    }
    assert_eq!(page(&gate, &operator, "/v1/head").unwrap().status, 401);
    assert_eq!(origin.connections(), 0);
    assert!(gate.events_called("decision.allowed").is_empty());
}

/// Stops the gate, writes an entry about the intent that `opened` tells of, and starts it again: the chain with that
/// entry is whole.
fn started_with(gate: Gate, kind: &str, opened: &Value, data: Value) -> Gate {
    let plan = gate.stop();
    append(&plan, kind, opened, data);
    let verified = plan.writ(&["ledger", "verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    plan.start()
}

/// Appends an entry that continues the chain, with hashes that are right.
fn append(plan: &Plan, kind: &str, opened: &Value, data: Value) {
    let days = fs::read_dir(plan.home().join("data/events")).unwrap().map(|day| day.unwrap().path());
    let journal = days.max().unwrap();
    let text = fs::read_to_string(&journal).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let mut entry = opened.clone();
    entry["type"] = json!(kind);
    entry["data"] = data;
    entry["seq"] = json!(last["seq"].as_u64().unwrap() + 1);
    entry["ts"] = last["ts"].clone();
    entry["prev_hash"] = last["entry_hash"].clone();
    entry.as_object_mut().unwrap().remove("entry_hash");
    let hash = HEXLOWER.encode(&Sha256::digest(serde_json_canonicalizer::to_vec(&entry).unwrap()));
    entry["entry_hash"] = json!(hash);
    let line = serde_json_canonicalizer::to_string(&entry).unwrap();
    writeln!(fs::File::options().append(true).open(&journal).unwrap(), "{line}").unwrap();
}
