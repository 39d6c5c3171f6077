//! Who decides about a held request, who does not any more, and what a decision is made on.

use std::fs;

use serde_json::json;

use super::{api, operator_token, page, status};
use crate::harness::gate::{PATIENCE, within};
use crate::harness::world::SECRET;

#[test]
fn a_held_request_of_an_agent_that_is_not_served_any_more_is_not_sent() {
    for change in ["suspend", "revoke"] {
        let (origin, gate) = api();
        let intent = gate.agent().held("https://api.example/change/7", "x");
        gate.succeeds(&["agents", change, "default"]);
        let voted = gate.writ(&["approve", &intent, "--rationale", "looks right"]);
        assert!(voted.code != 0 && voted.err.contains("nothing was sent"), "{change}: {voted:?}");
        assert_eq!((status(&gate, &intent).as_str(), origin.connections()), ("pending_approval", 0), "{change}");
        // The vote stands in the ledger, and a start looks at it again.
        let gate = gate.restart();
        let looked = within(PATIENCE, || gate.log().contains("was not carried out").then_some(()));
        assert!(looked.is_some(), "{change}: {}", gate.log());
        assert_eq!((status(&gate, &intent).as_str(), origin.connections()), ("pending_approval", 0), "{change}");
        assert_eq!(gate.events_called("approval.vote").len(), 1, "{change}");
        for kind in ["approval.granted", "action.executing"] {
            assert!(gate.events_called(kind).is_empty(), "{change}: {kind}");
        }
        gate.assert_verifies();
    }
}

#[test]
fn a_vote_of_an_operator_who_was_revoked_since_does_not_count() {
    let (origin, gate) = api();
    let (second, third) = (gate.add_operator("second", "reviewer"), gate.add_operator("third", "reviewer"));
    let agent = gate.agent();
    let intent = agent.held("https://api.example/twice/7", "x");
    let approve = ["approve", intent.as_str(), "--rationale", "fine"];
    assert_eq!(gate.writ_as(&second, &approve).code, 0);
    gate.succeeds(&["operators", "revoke", "second"]);
    gate.approve(&intent);
    assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("pending_approval", 0));
    assert!(gate.events_called("approval.granted").is_empty());
    assert_eq!(gate.writ_as(&third, &approve).code, 0);
    assert_eq!((agent.settled(&intent).as_str(), origin.hits().len()), ("succeeded", 1));
    assert_eq!((gate.events_called("approval.vote").len(), gate.events_called("approval.granted").len()), (3, 1));
}

#[test]
fn an_approved_request_that_was_denied_before_it_could_be_sent_is_never_sent() {
    let (origin, gate) = api();
    let second = gate.add_operator("second", "reviewer");
    let intent = gate.agent().held("https://api.example/change/7", "x");
    fs::remove_file(gate.home().join("api.key")).unwrap();
    gate.approve(&intent);
    gate.event("action.failed", &intent);
    assert_eq!(gate.agent().status(&intent), "approved");
    assert_eq!(gate.writ_as(&second, &["deny", &intent, "--rationale", "second thoughts"]).code, 0);
    assert_eq!(gate.agent().status(&intent), "rejected");
    let denied = gate.event("approval.denied", &intent);
    assert_eq!(
        (&denied["data"]["operator"], &denied["data"]["rationale"]),
        (&json!("second"), &json!("second thoughts"))
    );
    gate.write("api.key", SECRET);
    assert_ne!(gate.writ(&["approve", &intent, "--rationale", "again"]).code, 0);
    let gate = gate.restart();
    assert_ne!(gate.writ(&["approve", &intent, "--rationale", "and again"]).code, 0);
    assert_eq!((gate.agent().status(&intent).as_str(), origin.connections()), ("rejected", 0));
    assert_eq!(gate.events_called("action.executing").len(), 1, "the attempt that had no secret");
}

#[test]
fn the_owner_of_an_agent_cannot_vote_however_the_name_is_spelled() {
    let (origin, gate) = api();
    let alice = gate.add_operator("alice", "reviewer");
    for (number, owner) in ["alice", "Alice", "ALICE", " aLiCe "].into_iter().enumerate() {
        let agent = gate.add_agent(&format!("bot-{number}"), owner);
        let intent = agent.held("https://api.example/change/7", "x");
        for verdict in ["approve", "deny"] {
            let voted = gate.writ_as(&alice, &[verdict, &intent, "--rationale", "mine"]);
            assert!(voted.code != 0 && voted.err.contains("owner"), "`{owner}`: {voted:?}");
        }
        assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("pending_approval", 0), "`{owner}`");
    }
    assert!(gate.events_called("approval.vote").is_empty());
}

#[test]
fn a_reviewer_reads_what_is_held_and_nobody_else_does() {
    let (origin, gate) = api();
    let headers = [("X-Mine", "1"), ("Authorization", "Bearer of-the-agent")];
    let agent = gate.agent();
    let held = agent.request("POST", "https://api.example/change/7?a=1", &headers, b"amount=700");
    let intent = held.text_at("/intentId");
    let path = format!("/v1/intents/{intent}/request");
    let shown = |token: &str| page(&gate, token, &path).unwrap();

    let reviewer = gate.add_operator("second", "reviewer");
    for token in [&operator_token(&gate), &reviewer] {
        let answer = shown(token);
        assert_eq!(answer.status, 200, "{answer:?}");
        let document = answer.json();
        assert_eq!(
            (&document["method"], &document["url"], &document["query"], &document["body"]),
            (&json!("POST"), &json!("https://api.example/change/7"), &json!("a=1"), &json!("amount=700"))
        );
        assert!(document["headers"].as_array().unwrap().contains(&json!(["x-mine", "1"])), "{document}");
        assert!(!answer.text().contains(SECRET), "the gate's own credential is shown: {document}");
    }
    let viewer = gate.add_operator("watcher", "viewer");
    for (token, status) in [(viewer.as_str(), 403), (agent.token.as_str(), 401), ("", 401)] {
        let answer = shown(token);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(!answer.text().contains("amount"), "{answer:?}");
    }
    assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("pending_approval", 0));
    assert!(!format!("{:?}", gate.events()).contains("amount=700"), "the body is in the ledger");
}
