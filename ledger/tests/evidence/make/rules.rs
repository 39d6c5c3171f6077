//! Lives of requests that cannot have been: everything signed as a holder of the key would, against the rules alone.

use serde_json::{Value, json};

use super::Maker;
use crate::forge::Forge;

/// What leads to a state of an intent.
const PATHS: [(&str, &[&str]); 12] = [
    ("none", &[]),
    ("held", &["decision.approval_required"]),
    ("approved", &["decision.approval_required", "approval.granted"]),
    ("executing", &["decision.approval_required", "approval.granted", "action.executing"]),
    ("succeeded", &["decision.approval_required", "approval.granted", "action.executing", "action.executed"]),
    ("failed", &["decision.approval_required", "approval.granted", "action.executing", "action.failed"]),
    ("unknown", &["decision.approval_required", "approval.granted", "action.executing", "action.unknown"]),
    ("rejected", &["decision.approval_required", "approval.denied"]),
    ("expired", &["decision.approval_required", "approval.expired"]),
    ("cancelled", &["decision.approval_required", "approval.cancelled"]),
    ("blocked", &["decision.denied"]),
    ("declared", &["decision.allowed"]),
];

/// The table of the format: what can follow which states.
const STEPS: [(&str, &[&str]); 12] = [
    ("decision.approval_required", &["none", "held", "approved", "declared"]),
    ("decision.allowed", &["none"]),
    ("decision.denied", &["none", "held", "approved", "declared"]),
    ("approval.vote", &["held"]),
    ("approval.granted", &["held"]),
    ("approval.denied", &["held", "approved", "declared"]),
    ("approval.expired", &["held", "approved", "declared"]),
    ("approval.cancelled", &["held"]),
    ("action.executing", &["approved", "declared"]),
    ("action.executed", &["executing"]),
    ("action.failed", &["executing"]),
    ("action.unknown", &["executing"]),
];

const OUTCOMES: [&str; 3] = ["action.executed", "action.failed", "action.unknown"];

pub(super) fn make(maker: &mut Maker) {
    intents(maker);
    sends(maker);
    places(maker);
    votes(maker);
    digests(maker);
}

/// Every state with every event that cannot follow it.
fn intents(maker: &mut Maker) {
    for (state, path) in PATHS {
        for (kind, from) in STEPS {
            if from.contains(&state) {
                continue;
            }
            let sent = ["succeeded", "failed", "unknown"].contains(&state);
            let code = match kind {
                "action.executing" if sent || state == "executing" => "rule.two_sends",
                "action.executing" => "rule.no_allow",
                _ if OUTCOMES.contains(&kind) && sent => "rule.duplicate_outcome",
                _ if OUTCOMES.contains(&kind) => "rule.no_allow",
                _ => "rule.step",
            };
            let events = path.iter().chain([&kind]).map(|kind| about(kind)).collect();
            told(maker, code, format!("{kind} of an intent that is {state}"), events);
        }
    }
    for kind in ["approval.denied", "decision.approval_required", "action.unknown"] {
        let mut events: Vec<Value> = PATHS[6].1.iter().map(|kind| about(kind)).collect();
        let mut last = about(kind);
        last["data"]["resolved_by"] = "bob".into();
        events.push(last);
        let code = if kind == "action.unknown" { "rule.duplicate_outcome" } else { "rule.step" };
        told(maker, code, format!("{kind} of an unknown outcome, though somebody resolves it"), events);
    }
}

/// Requests without an intent.
fn sends(maker: &mut Maker) {
    let paths: [(&str, &[&str]); 6] = [
        ("none", &[]),
        ("unsent", &["decision.allowed", "unsent"]),
        ("executing", &["decision.allowed"]),
        ("succeeded", &["decision.allowed", "action.executed"]),
        ("failed", &["decision.allowed", "action.failed"]),
        ("unknown", &["decision.allowed", "action.unknown"]),
    ];
    for (state, path) in paths {
        for kind in ["decision.allowed"].into_iter().chain(OUTCOMES) {
            let sent = ["succeeded", "failed", "unknown"].contains(&state);
            let code = match (kind, state) {
                ("decision.allowed", "none" | "unsent") => continue,
                ("decision.allowed", _) => "rule.two_sends",
                (_, "executing") => continue,
                (_, _) if sent => "rule.duplicate_outcome",
                (_, _) => "rule.no_allow",
            };
            let events = path.iter().chain([&kind]).map(|kind| live(kind)).collect();
            told(maker, code, format!("{kind} of a live request that is {state}"), events);
        }
    }
    let mut resolved = live("action.executed");
    resolved["data"]["resolved_by"] = "bob".into();
    let events = vec![live("decision.allowed"), live("action.unknown"), resolved];
    told(maker, "rule.duplicate_outcome", "a live request with an unknown outcome, resolved", events);
}

/// Events that do not say what they belong to.
fn places(maker: &mut Maker) {
    for (kind, _) in STEPS {
        let mut nowhere = about(kind);
        nowhere.as_object_mut().unwrap().remove("correlation_id");
        told(maker, "rule.step", format!("{kind} of an intent without a correlation"), vec![nowhere]);
        if kind != "decision.denied" {
            let mut nowhere = live(kind);
            nowhere.as_object_mut().unwrap().remove("correlation_id");
            told(maker, "rule.step", format!("{kind} of neither an intent nor a correlation"), vec![nowhere]);
        }
        if !["decision.denied", "decision.allowed"].contains(&kind) && !OUTCOMES.contains(&kind) {
            told(maker, "rule.step", format!("{kind} without an intent"), vec![live(kind)]);
        }
    }
}

fn votes(maker: &mut Maker) {
    let held = about("decision.approval_required");
    let vote = |operator: &str| {
        let mut vote = about("approval.vote");
        vote["data"]["operator"] = operator.into();
        vote
    };
    for operator in ["crawler", "Crawler", " CRAWLER ", "ann", "ANN", "ann ", "\tAnn"] {
        let what = format!("a vote of `{}`, the requester or its owner", operator.escape_debug());
        told(maker, "rule.vote", what, vec![held.clone(), vote(operator)]);
    }
    let mut nobody = vote("bob");
    nobody["data"].as_object_mut().unwrap().remove("operator");
    told(maker, "rule.vote", "a vote of nobody", vec![held.clone(), nobody]);
    let mut number = vote("bob");
    number["data"]["operator"] = 7.into();
    told(maker, "rule.vote", "a vote of a number", vec![held.clone(), number]);
    let mut stranger = vote("bob");
    stranger["agent_id"] = "stranger".into();
    told(maker, "rule.vote", "a vote on the request of an agent that nobody registered", vec![held.clone(), stranger]);
    let mut agentless = vote("bob");
    agentless.as_object_mut().unwrap().remove("agent_id");
    told(maker, "rule.vote", "a vote on the request of no agent", vec![held.clone(), agentless]);
    told(maker, "rule.vote", "two votes of one reviewer", vec![held.clone(), vote("bob"), vote("bob")]);
    told(
        maker,
        "rule.vote",
        "two votes of one reviewer in two spellings",
        vec![held.clone(), vote("bob"), vote("Bob")],
    );
    let registered = json!({"agent_id": "crawler", "data": {"owner": "bob"}, "type": "agent.registered", "v": 1});
    told(maker, "rule.vote", "a vote of the owner since a moment", vec![held, registered, vote("bob")]);
}

fn digests(maker: &mut Maker) {
    let held = about("decision.approval_required");
    for (what, digest) in [("another request", json!("d-other")), ("no request", Value::Null), ("a number", json!(7))] {
        for kind in ["approval.vote", "action.executing"] {
            let mut last = about(kind);
            last["data"]["digest"] = digest.clone();
            let mut events = vec![held.clone(), about("approval.granted"), last];
            if kind == "approval.vote" {
                events.remove(1);
            }
            told(maker, "rule.digest", format!("{kind} for {what}"), events);
        }
    }
    let mut again = held.clone();
    again["data"]["digest"] = "d-again".into();
    told(
        maker,
        "rule.digest",
        "a vote for what was held before",
        vec![held.clone(), again.clone(), about("approval.vote")],
    );
    let sent = vec![held, again, about("approval.granted"), about("action.executing")];
    told(maker, "rule.digest", "a send of what was held before", sent);
    let mut declared = about("decision.allowed");
    declared["data"]["digest"] = "d-declared".into();
    told(
        maker,
        "rule.digest",
        "a send of another request than the one declared",
        vec![declared, about("action.executing")],
    );
}

/// A vector of the whole ledger and these events behind it, the last of which breaks a rule.
fn told(maker: &mut Maker, code: &str, what: impl Into<String>, events: Vec<Value>) {
    let forge: Forge = maker.whole();
    let mut whole = forge.events();
    let ts = whole[whole.len() - 1]["ts"].clone();
    whole.extend(events.into_iter().map(|mut event| {
        event["ts"] = ts.clone();
        event
    }));
    let entry = Some(whole.len() as u64 - 1);
    maker.refused(code, what, forge.rewritten(whole).sealed(), code, entry);
}

fn about(kind: &str) -> Value {
    let mut event = live(kind);
    event["intent_id"] = "int_new".into();
    event
}

fn live(kind: &str) -> Value {
    let (kind, sent) = if kind == "unsent" { ("action.failed", false) } else { (kind, true) };
    let mut data = json!({"digest": "d-new"});
    if OUTCOMES.contains(&kind) {
        data["sent"] = sent.into();
    }
    if kind == "approval.vote" {
        data["operator"] = "bob".into();
    }
    json!({"agent_id": "crawler", "correlation_id": "corr_new", "data": data, "type": kind, "v": 1})
}
