//! What is limited over time, and what an operator stops: counted on the ledger, so that neither splitting, nor hurrying,
//! nor a crash of the gate gets around it.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::agent::{Agent, Response};
use crate::harness::gate::{Gate, Plan, within};
use crate::harness::origin::Origin;
use crate::harness::world::API;

const DESTINATIONS: &str = "destinations:
  - key: crm.import
    match: { host: api.example, methods: [POST], path: /import }
    effect: write
    policy: imports
    measure: { records: 'json:/records/#' }
  - key: pay.refund
    match: { host: api.example, methods: [POST], path: /refund }
    effect: payment
    policy: refunds
    profile: { payment.refund.v1: { amount: 'json:/amount', payment: 'json:/of' } }
  - key: mcp
    match: { host: api.example, path: /mcp }
    effect: read
    policy: tools
    calls: { mcp: { '*': { effect: read } } }
  - key: nowhere
    match: { host: nowhere.example, methods: [POST], path: /** }
    effect: write
    policy: few
  - key: held
    match: { host: api.example, methods: [POST], path: /held }
    effect: write
    policy: holds
  - key: slow
    match: { host: api.example, methods: [POST], path: /slow }
    effect: write
    policy: slow
  - key: single
    match: { host: api.example, methods: [POST], path: /single }
    effect: write
    policy: single
";

const POLICIES: [(&str, &str); 7] = [
    ("imports", "auto_approve_under: 50\nbudgets: [{id: rows, of: records, limit: 100, per: [agent], window: day}]\n"),
    (
        "refunds",
        "require_approval: never\ndedupe_seconds: 600\nbudgets: [{id: money, of: amount, limit: 99.90, window: week}]\n",
    ),
    ("tools", "rate_limits: {per_agent_per_minute: 3}\n"),
    ("few", "require_approval: never\nrate_limits: {per_destination_per_hour: 2}\n"),
    ("holds", "require_approval: always\nrate_limits: {per_agent_per_day: 1}\n"),
    ("slow", "require_approval: always\nrate_limits: {per_agent_per_minute: 1}\n"),
    ("single", "require_approval: always\ndedupe_seconds: 600\n"),
];

#[test]
fn h26_a_batch_split_into_ten_requests_does_not_pass() {
    let (origin, gate) = api();
    let (agent, other) = (gate.agent(), gate.add_agent("other", "ops"));
    let import = |agent: &Agent| post(agent, "/import", &json!({"records": vec![1; 15]}));
    let answers: Vec<u16> = (0..10).map(|_| import(&agent).status).collect();
    assert_eq!(answers, [200, 200, 200, 200, 200, 200, 429, 429, 429, 429]);
    let refused = import(&agent);
    assert_eq!(refused.code(), "over_limit");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((80_000..=90_000).contains(&seconds), "{seconds}");
    // Lost on the ledger, decided again with that fact: the entry says which rule of which policy denied what.
    let recorded = gate.event("decision.denied", &refused.correlation());
    let (data, rule) = (&recorded["data"], &recorded["data"]["rules"][0]);
    assert_eq!((data["code"].as_str(), recorded["agent_id"].as_str()), (Some("over_limit"), Some("default")));
    assert_eq!((recorded["dest_key"].as_str(), data["policy"].as_str()), (Some("crm.import"), Some("imports")));
    assert_eq!((rule["rule"].as_str(), rule["verdict"].as_str()), (Some("imports/limits"), Some("deny")));
    assert_eq!((data["policy_hash"].as_str().unwrap().len(), data["measured"]["records"].as_str()), (64, Some("15")));
    assert_eq!((refused.text_at("/rule").as_str(), refused.text_at("/policy").as_str()), ("imports/limits", "imports"));
    let explained = gate.writ(&["explain", "--recorded", &refused.correlation()]);
    assert!(explained.code == 2 && explained.out.contains("`budgets/rows` has no room for 15 now"), "{explained:?}");
    assert_eq!((import(&other).status, origin.hits().len()), (200, 7), "the budget is for each agent");

    // Ten rows are left: they still fit, and nothing after them, in whatever way the gate goes down.
    let gate = gate.kill().start();
    let agent = gate.agent();
    assert_eq!(post(&agent, "/import", &json!({"records": vec![1; 11]})).status, 429);
    assert_eq!(post(&agent, "/import", &json!({"records": vec![1; 10]})).status, 200);
    let gate = gate.restart();
    assert_eq!(post(&gate.agent(), "/import", &json!({"records": [1]})).status, 429);
    assert_eq!(origin.hits().len(), 8);
    gate.assert_verifies();
}

#[test]
fn h27_those_who_hurry_do_not_pass_together() {
    let (origin, gate) = api();
    let (agent, start) = (gate.agent(), Barrier::new(12));
    let refund = |of: usize| post(&agent, "/refund", &json!({"amount": 20, "of": format!("p{of}")})).status;
    let answers: Vec<u16> = thread::scope(|scope| {
        let asked = |of: usize| {
            let (start, refund) = (&start, &refund);
            scope.spawn(move || {
                start.wait();
                refund(of)
            })
        };
        let threads: Vec<_> = (0..12).map(asked).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 4, "{answers:?}: four times 20 fit into 99.90");
    assert_eq!(origin.hits().len(), 4);
    assert_eq!(post(&agent, "/refund", &json!({"amount": 19.9, "of": "rest"})).status, 200, "and the rest exactly");
    assert_eq!(post(&agent, "/refund", &json!({"amount": 0.01, "of": "more"})).status, 429);
    let whole = post(&agent, "/refund", &json!({"amount": 100, "of": "all"}));
    assert_eq!((whole.status, whole.code().as_str()), (403, "denied"), "what never fits is a denial");
}

#[test]
fn the_same_side_effect_is_not_had_twice() {
    let (origin, gate) = api();
    let (agent, other) = (gate.agent(), gate.add_agent("other", "ops"));
    let refund = json!({"amount": 1, "of": "p"});
    let first = post(&agent, "/refund", &refund);
    assert_eq!(first.status, 200);
    for again in [post(&agent, "/refund", &refund), post(&other, "/refund", &refund)] {
        assert_eq!((again.status, again.code().as_str()), (409, "duplicate_blocked"));
        assert!(again.text_at("/detail").contains(&first.correlation()));
        let recorded = gate.event("decision.denied", &again.correlation());
        assert_eq!(recorded["data"]["rules"][0]["rule"], "refunds/dedupe_seconds");
    }
    assert_eq!(post(&agent, "/refund", &json!({"amount": 2, "of": "p"})).status, 200);
    let gate = gate.kill().start();
    assert_eq!((post(&gate.agent(), "/refund", &refund).status, origin.hits().len()), (409, 2));
}

#[test]
fn what_was_never_sent_is_given_back() {
    let (_origin, gate) = api();
    let agent = gate.agent();
    for _ in 0..4 {
        // Nothing listens there: no byte leaves, and no request counts.
        let answer = agent.request("POST", "https://nowhere.example/x", &[], b"x");
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"));
    }
}

#[test]
fn each_call_of_a_batch_counts_and_what_is_held_counts_when_it_is_sent() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let call =
        |id: usize| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": format!("t{id}")}});
    assert_eq!(post(&agent, "/mcp", &(0..4).map(call).collect::<Value>()).status, 429);
    assert_eq!(post(&agent, "/mcp", &(0..3).map(call).collect::<Value>()).status, 200);
    let refused = post(&agent, "/mcp", &call(9));
    assert_eq!((refused.status, refused.json()["id"].as_u64(), origin.hits().len()), (429, Some(9), 1));
    assert_eq!(refused.text_at("/error/data/code"), "over_limit", "a client of MCP is told in JSON-RPC");

    let held: Vec<String> = (0..2).map(|of| post(&agent, "/held", &json!({"of": of})).text_at("/intentId")).collect();
    gate.approve(&held[0]);
    assert_eq!((agent.settled(&held[0]).as_str(), origin.hits().len()), ("succeeded", 2));
    gate.writ(&["approve", &held[1], "--rationale", "one more"]);
    let recorded = gate.wait_for("request.refused", |event| event["intent_id"] == held[1].as_str());
    let data = &recorded["data"];
    assert_eq!((data["code"].as_str(), data["policy"].as_str()), (Some("over_limit"), Some("holds")));
    assert!((80_000..=90_000).contains(&data["retry_after_seconds"].as_u64().unwrap()), "{recorded:#}");
    assert_eq!((agent.status(&held[1]).as_str(), origin.hits().len()), ("approved", 2), "approval is no budget");
}

/// It takes the minute that its limit is for.
#[test]
fn what_was_approved_goes_out_by_itself_when_there_is_room() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let held: Vec<String> = (0..2).map(|of| post(&agent, "/slow", &json!({"of": of})).text_at("/intentId")).collect();
    gate.approve(&held[0]);
    assert_eq!(agent.settled(&held[0]), "succeeded");
    gate.writ(&["approve", &held[1], "--rationale", "when it may"]);
    gate.wait_for("request.refused", |event| event["intent_id"] == held[1].as_str());
    assert_eq!((agent.status(&held[1]).as_str(), origin.hits().len()), ("approved", 1));
    let sent = within(Duration::from_secs(90), || (origin.hits().len() == 2).then(|| agent.settled(&held[1])));
    assert_eq!(sent.as_deref(), Some("succeeded"));
    gate.assert_verifies();
}

/// A person approved both; the second would repeat what the first has done.
#[test]
fn an_approved_duplicate_ends_as_denied() {
    let (origin, gate) = api();
    let (agent, other) = (gate.agent(), gate.add_agent("other", "ops"));
    let held: Vec<String> =
        [&agent, &other].map(|agent| post(agent, "/single", &json!({})).text_at("/intentId")).into();
    gate.approve(&held[0]);
    assert_eq!(agent.settled(&held[0]), "succeeded");
    gate.writ(&["approve", &held[1], "--rationale", "not looked closely"]);
    let denied = gate.wait_for("decision.denied", |event| event["intent_id"] == held[1].as_str());
    assert_eq!(denied["data"]["rules"][0]["rule"], "single/dedupe_seconds", "{denied:#}");
    assert_eq!((other.status(&held[1]).as_str(), origin.hits().len()), ("blocked", 1));
    gate.assert_verifies();
}

#[test]
fn a_kill_switch_stops_at_once_and_for_as_long_as_it_is_on() {
    let (origin, gate) = api();
    let (agent, other) = (gate.agent(), gate.add_agent("other", "ops"));
    let refund = |agent: &Agent, of: &str| post(agent, "/refund", &json!({"amount": 1, "of": of}));
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t"}});
    let waiting = post(&agent, "/held", &json!({})).text_at("/intentId");

    for unknown in [["--agent", "defalt"], ["--destination", "pay"]] {
        let on = gate.writ(&[&["kill", "on", "--rationale", "a slip"], unknown.as_slice()].concat());
        assert!(on.code != 0 && on.err.contains("there is no"), "{on:?}");
    }
    gate.succeeds(&["kill", "on", "--agent", "default", "--rationale", "it misbehaves"]);
    let stopped = refund(&agent, "a");
    assert_eq!((stopped.status, stopped.code().as_str()), (403, "kill_switch"));
    let recorded = gate.event("request.refused", &stopped.correlation());
    let (data, rules) = (&recorded["data"], &recorded["data"]["rules"]);
    assert_eq!((data["detail"].as_str(), data["policy"].as_str()), (Some("agent `default`"), Some("refunds")));
    assert_eq!(
        (rules[0]["rule"].as_str(), rules[1]["rule"].as_str()),
        (Some("kill_switch"), Some("refunds/require_approval"))
    );
    assert_eq!(data["policy_hash"].as_str().unwrap().len(), 64);
    assert_eq!(post(&agent, "/held", &json!({"n": 2})).code(), "kill_switch", "nothing new waits either");
    gate.writ(&["approve", &waiting, "--rationale", "approved, but stopped"]);
    assert_eq!((agent.status(&waiting).as_str(), origin.hits().len()), ("approved", 0));
    assert_eq!(refund(&other, "b").status, 200);

    // A key with calls stands for all of them; what nobody names goes on.
    gate.succeeds(&["kill", "on", "--destination", "mcp", "--rationale", "the tool is broken"]);
    let told = post(&other, "/mcp", &call);
    assert_eq!((told.status, told.json()["id"].as_u64(), refund(&other, "c").status), (403, Some(1), 200));
    assert_eq!(told.text_at("/error/data/code"), "kill_switch", "a client of MCP is told in JSON-RPC");

    let gate = gate.kill().start();
    let (agent, listed) = (gate.agent(), gate.succeeds(&["kill", "list"]));
    assert!(listed.contains("agent default") && listed.contains("destination mcp"), "{listed}");
    assert_eq!(refund(&agent, "d").code(), "kill_switch");
    let reviewer = gate.add_operator("rita", "reviewer");
    let off = ["kill", "off", "--agent", "default", "--rationale", "mended"];
    assert_ne!(gate.writ_as(&reviewer, &off).code, 0, "only an admin lets go");
    gate.succeeds(&off);
    assert_eq!((refund(&agent, "e").status, agent.settled(&waiting).as_str()), (200, "succeeded"));

    gate.writ_as(&reviewer, &["kill", "on", "--rationale", "everything"]);
    assert_eq!(refund(&agent, "f").code(), "kill_switch");
    gate.assert_verifies();
}

fn api() -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin).dial("nowhere.example:443", 9).file("destinations.yaml", DESTINATIONS);
    let plan = ["changes", "pairs", "reads", "sends"]
        .iter()
        .fold(plan, |plan, unused| plan.without(&format!("policies/{unused}.yaml")));
    let plan = POLICIES.iter().fold(plan, |plan, (id, text)| plan.file(&format!("policies/{id}.yaml"), text));
    (origin, plan.start())
}

fn post(agent: &Agent, path: &str, body: &Value) -> Response {
    let headers = [("content-type", "application/json")];
    agent.request("POST", &format!("https://{API}{path}"), &headers, body.to_string().as_bytes())
}
