//! How many requests may wait, how long, and how much is kept of them.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::API;
use crate::limits::soon;

#[test]
fn pending_per_agent_and_pending_bound_what_waits() {
    for (limit, for_others) in [("pending_per_agent", 202), ("pending", 429)] {
        let gate = Plan::new().limit(limit, 1).start();
        let (agent, other) = (gate.agent(), gate.add_agent("other", ""));
        let first = agent.held(CHANGE, "1");
        let answer = agent.post(CHANGE, "2");
        assert_eq!((answer.status, answer.code().as_str()), (429, "too_many"), "{limit}: {answer:?}");
        assert!(answer.header("retry-after").is_some(), "{limit}");
        assert_eq!(agent.held(CHANGE, "1"), first, "{limit}: the same request is not one more");
        assert_eq!(other.post(CHANGE, "3").status, for_others, "{limit}");
        gate.succeeds(&["deny", &first, "--rationale", "to make room"]);
        agent.held(CHANGE, "2");
    }
}

#[test]
fn wait_seconds_bounds_what_a_caller_may_ask_for() {
    let gate = Plan::new().limit("wait_seconds", 1).start();
    let wait = [("prefer", "wait=600")];
    let answer = soon("wait_seconds", || gate.agent().request("POST", CHANGE, &wait, b"x"));
    assert_eq!(answer.status, 202);
    let status = format!("http://writ.internal/v1/intents/{}?wait=600", answer.text_at("/intentId"));
    let answer = soon("wait_seconds", || gate.agent().get(&status));
    assert_eq!((answer.status, answer.text_at("/status").as_str()), (200, "pending_approval"));
}

#[test]
fn mailbox_bytes_bounds_the_reply_that_is_kept_and_says_so() {
    let origin = Origin::https(&[API]).reply("/change", Reply::new(200).body("r".repeat(11)));
    for (limit, kept) in [(11, true), (10, false)] {
        let gate = Plan::new().origin(API, &origin).limit("mailbox_bytes", limit).start();
        let intent = gate.agent().held(CHANGE, "x");
        gate.approve(&intent);
        assert_eq!(gate.agent().settled(&intent), "succeeded");
        let outcome = gate.event("action.executed", &intent);
        assert_eq!(outcome["data"]["reply_bytes"], 11);
        let response = gate.agent().response(&intent);
        assert_eq!(response.text() == "r".repeat(11), kept, "{response:?}");
        assert_eq!(outcome["data"]["ended"] == "reply_too_large_to_keep", !kept, "{outcome}");
        assert_eq!(
            response.status == 200,
            kept,
            "a reply that was not kept must not look like an empty one: {response:?}"
        );
    }
    assert_eq!(origin.hits().len(), 2);
}

#[test]
fn sealed_bytes_bounds_what_is_stored_and_nothing_waits_that_is_not() {
    let gate = Plan::new().limit("sealed_bytes", 2_000).start();
    gate.agent().held(CHANGE, "small");
    let answer = gate.agent().post(CHANGE, &"x".repeat(2_000));
    assert_eq!((answer.status, answer.code().as_str()), (503, "ledger_unavailable"), "{answer:?}");
    assert_eq!(waiting(&gate), 1);
    assert_eq!(gate.agent().get("http://writ.internal/health").status, 200, "a full store is not a broken ledger");
}

#[test]
fn retention_hours_ends_the_life_of_a_kept_reply() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).limit("retention_hours", 1).start();
    let intent = gate.agent().held(CHANGE, "x");
    gate.approve(&intent);
    gate.agent().settled(&intent);
    assert_eq!(gate.agent().response(&intent).status, 200);
    assert!(sealed(&gate) > 0);
    let gate = gate.restart();
    assert_eq!(gate.agent().response(&intent).status, 200, "it is not an hour old");

    let gate = gate.stop().start_with(&[("WRIT_LIMITS_RETENTION_HOURS", "0")]);
    within(PATIENCE, || (sealed(&gate) == 0).then_some(())).expect("sealed files past their retention are still there");
    assert_ne!(gate.agent().response(&intent).status, 200);
    assert_eq!(gate.agent().status(&intent), "succeeded", "the ledger does not forget");
    gate.assert_verifies();
}

fn waiting(gate: &Gate) -> usize {
    let pending: Value = serde_json::from_str(&gate.succeeds(&["--json", "pending"])).unwrap();
    let intents = pending.as_array().or_else(|| pending["intents"].as_array());
    intents.unwrap_or_else(|| panic!("{pending}")).len()
}

fn sealed(gate: &Gate) -> usize {
    fs::read_dir(gate.home().join("data/sealed")).unwrap().count()
}

const CHANGE: &str = "https://api.example/change/1";

#[test]
fn idempotency_seconds_is_how_long_a_key_is_taken() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).limit("idempotency_seconds", 2).start();
    let begun = Instant::now();
    let keyed = |body: &[u8]| {
        gate.agent().request("POST", "https://api.example/send/1", &[("Idempotency-Key", "k")], body).status
    };
    assert_eq!(keyed(b"x=1"), 200);
    // The same key with another body is refused until its time is over.
    assert!(within(PATIENCE, || (keyed(b"x=2") == 200).then_some(())).is_some());
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
    assert_eq!(origin.hits().len(), 2);
}

#[test]
fn order_seconds_bounds_what_a_runner_has_for_its_report() {
    let gate = crate::declared::plan().limit("order_seconds", 1).start();
    let (agent, intent) = (gate.agent(), crate::declared::for_runner(&gate));
    let page = |page: &str, body: &str| agent.post(&format!("http://writ.internal/v1/{page}"), body);
    let order = page(&format!("intents/{intent}/execute"), "");
    assert_eq!(order.status, 200, "{order:?}");
    assert_eq!(agent.settled(&intent), "unknown");
    let report = page(&format!("executions/{}/report", order.text_at("/executionId")), r#"{"status":"succeeded"}"#);
    assert_eq!((report.status, report.code().as_str()), (409, "conflict"));
    assert_eq!(gate.event("action.unknown", &intent)["data"]["reason"], "not_reported");
}
