//! What an agent declares instead of sending it: the same decision, the same record, the same single send, or the one
//! order for a runner.

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, VerifyingKey};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::agent::{Agent, Response};
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, SECRET};

const DESTINATIONS: &str = "destinations:
  - key: tickets
    match: { host: api.example, methods: [POST], path: /tickets }
    effect: write
    policy: open
    credential: api
    execute: { method: POST, path: /tickets }
  - key: refunds
    match: { host: api.example, methods: [POST], path: /refunds }
    effect: payment
    policy: asked
    credential: api
    execute: { method: POST, path: /refunds, content_type: application/x-www-form-urlencoded }
  - key: imports
    match: { host: api.example, methods: [PUT], path: /imports }
    effect: external_mutation
    policy: open
    execute: { method: PUT, path: /imports, by: runner }
  - key: payouts
    match: { host: api.example, methods: [POST], path: /payouts }
    effect: payment
    policy: asked
    execute: { method: POST, path: /payouts, by: runner }
  - key: plain
    match: { host: api.example, methods: [GET], path: /** }
    effect: read
    policy: open
";

const OPEN: &str = "destinations: [tickets, imports, plain]
require_approval: never
block_if_terms: [\"wire transfer\"]
rate_limits: { per_agent_per_hour: 50 }
";

#[test]
fn what_is_allowed_is_sent_once_as_its_destination_says() {
    let origin = Origin::https(&[API]).reply("/tickets", Reply::new(201).body("made"));
    let gate = plan().origin(API, &origin).start();
    let agent = gate.agent();
    let told = declare(&agent, &json!({"destination": "tickets", "payload": {"title": "é"}, "action": "ticket.open"}));
    assert_eq!((told.status, told.header("writ-decision")), (201, Some("allow")));
    let intent = told.text_at("/intentId");
    assert_eq!(told.header("writ-intent-id"), Some(intent.as_str()));
    assert_eq!((agent.settled(&intent).as_str(), agent.response(&intent).text().as_str()), ("succeeded", "made"));
    let hits = origin.hits();
    assert_eq!((hits.len(), hits[0].method.as_str(), hits[0].target.as_str()), (1, "POST", "/tickets"));
    assert_eq!(
        (hits[0].header("content-type"), hits[0].body.as_slice()),
        (Some("application/json"), "{\"title\":\"é\"}".as_bytes())
    );
    assert_eq!(hits[0].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    let events = events(&gate, &intent);
    assert_eq!(kinds(&events), ["action.requested", "decision.allowed", "action.executing", "action.executed"]);
    assert_eq!((&events[0]["action"], &events[0]["dest_key"]), (&json!("ticket.open"), &json!("tickets")));
    gate.assert_verifies();
}

#[test]
fn what_is_held_waits_for_a_vote_on_the_request_it_became() {
    let origin = Origin::https(&[API]);
    let gate = plan().origin(API, &origin).start();
    let agent = gate.agent();
    let payload = json!({"dest_key": "refunds", "payload": {"amount": 9900, "of": "ch 1"}});
    let told = agent.post("http://writ.internal/invoke", &payload.to_string());
    let intent = told.text_at("/intentId");
    assert_eq!((told.status, told.text_at("/status").as_str()), (202, "pending_approval"));
    // The same once more is the same.
    assert_eq!(declare(&agent, &payload).text_at("/intentId"), intent);
    gate.approve(&intent);
    assert_eq!(agent.settled(&intent), "succeeded");
    let hits = origin.hits();
    assert_eq!((hits.len(), String::from_utf8(hits[0].body.clone()).unwrap()), (1, "amount=9900&of=ch+1".to_owned()));
    let states = ["action.requested", "decision.approval_required", "approval.vote", "approval.granted"];
    let events = events(&gate, &intent);
    assert_eq!(kinds(&events), [states.as_slice(), &["action.executing", "action.executed"]].concat());
}

#[test]
fn what_policy_denies_is_blocked() {
    let gate = plan().start();
    let agent = gate.agent();
    let told = declare(&agent, &json!({"destination": "tickets", "payload": {"note": "a wire transfer"}}));
    let intent = told.text_at("/intentId");
    assert_eq!((told.status, told.text_at("/status").as_str()), (201, "blocked"));
    assert_eq!((told.header("writ-decision"), told.text_at("/blockReason").is_empty()), (Some("deny"), false));
    let answer = agent.response(&intent);
    assert_eq!((answer.status, answer.code().as_str(), answer.text_at("/intentId")), (403, "blocked", intent.clone()));
    assert_eq!(kinds(&events(&gate, &intent)), ["action.requested", "decision.denied"]);
    // Who names another policy gets no milder one.
    let told = declare(&agent, &json!({"destination": "tickets", "payload": {"note": "x"}, "policy": "reads"}));
    assert_eq!(
        (told.text_at("/status").as_str(), agent.status(&told.text_at("/intentId")).as_str()),
        ("blocked", "blocked")
    );
    let told = declare(&agent, &json!({"destination": "plain", "payload": "x"}));
    assert_eq!((told.status, told.code().as_str()), (403, "not_declarable"));
}

#[test]
fn claims_are_not_facts() {
    let origin = Origin::https(&[API]);
    let gate = plan().origin(API, &origin).start();
    let agent = gate.agent();
    for (wrong, status) in [
        (json!({"destination": "tickets", "agent": "somebody"}), 400),
        (json!({"destination": "tickets", "decision": "allow"}), 400),
        (json!({"destination": "https://api.example/tickets"}), 403),
        (json!({"payload": "x"}), 400),
        (json!({"destination": "tickets", "expiresIn": "soon"}), 400),
        (json!({"destination": "refunds", "payload": {"deep": {"er": 1}}}), 400),
    ] {
        assert_eq!(declare(&agent, &wrong).status, status, "{wrong}");
    }
    assert_eq!(agent.post(DECLARE, "no JSON").code(), "bad_declaration");
    // A held one waits no longer than its policy says, and no longer than its agent wants.
    let expires = |within: &str| -> Timestamp {
        let told = declare(&agent, &json!({"destination": "refunds", "payload": {"n": within}, "expiresIn": within}));
        told.text_at("/expiresAt").parse().unwrap()
    };
    let now = Timestamp::now();
    assert!((3500..=3700).contains(&(expires("30d").as_second() - now.as_second())), "the policy says an hour");
    assert!((50..=90).contains(&(expires("1m").as_second() - now.as_second())));
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_key_declares_once() {
    let origin = Origin::https(&[API]);
    let gate = plan().origin(API, &origin).start();
    let agent = gate.agent();
    let declared =
        |payload: &str| json!({"destination": "tickets", "payload": {"n": payload}, "idempotency_key": "k-9"});
    let first = declare(&agent, &declared("one"));
    assert_eq!(agent.settled(&first.text_at("/intentId")), "succeeded");
    let gate = gate.restart();
    let agent = gate.agent();
    let again = declare(&agent, &declared("one"));
    assert_eq!((again.status, again.header("writ-replayed")), (200, Some("true")));
    assert_eq!(
        (again.text_at("/intentId"), again.text_at("/status").as_str()),
        (first.text_at("/intentId"), "succeeded")
    );
    let other = declare(&agent, &declared("two"));
    assert_eq!((other.status, other.code().as_str()), (409, "duplicate_blocked"));
    let codes: Vec<Value> =
        gate.events_called("request.refused").iter().map(|event| event["data"]["code"].clone()).collect();
    assert_eq!(codes, ["replayed", "duplicate_blocked"]);
    assert_eq!((origin.hits().len(), origin.hits()[0].header("idempotency-key")), (1, Some("k-9")));
}

#[test]
fn a_declared_intent_is_withdrawn_and_counted_like_any_other() {
    let gate = plan().limit("pending_per_agent", 2).start();
    let agent = gate.agent();
    let refund = |n: u32| declare(&agent, &json!({"destination": "refunds", "payload": {"n": n}}));
    let first = refund(1).text_at("/intentId");
    assert_eq!((refund(2).status, refund(3).status), (202, 429));
    assert_eq!(agent.cancel(&first).text_at("/status"), "cancelled");
    assert_eq!(refund(3).status, 202);
    let other = gate.add_agent("other", "ops");
    assert_eq!(other.get(&format!("http://writ.internal/v1/intents/{first}")).status, 404);
    // An approved one that waits for its runner takes a place too.
    let approved = declare(&other, &json!({"destination": "imports", "payload": "1"}));
    assert_eq!((approved.status, approved.text_at("/status").as_str()), (201, "approved"));
    declare(&other, &json!({"destination": "imports", "payload": "2"}));
    assert_eq!(declare(&other, &json!({"destination": "imports", "payload": "3"})).status, 429);
}

#[test]
fn a_runner_gets_one_order_and_reports_once() {
    let origin = Origin::https(&[API]);
    let gate = plan().origin(API, &origin).start();
    let agent = gate.agent();
    let told = declare(&agent, &json!({"destination": "payouts", "payload": {"amount": 5}}));
    let intent = told.text_at("/intentId");
    let execute = |agent: &Agent| agent.post(&format!("http://writ.internal/v1/intents/{intent}/execute"), "");
    assert_eq!(
        (execute(&agent).status, execute(&gate.add_agent("other", "ops")).status),
        (409, 404),
        "it is not approved"
    );
    gate.approve(&intent);
    assert_eq!(
        (agent.status(&intent).as_str(), origin.connections()),
        ("approved", 0),
        "the gate sends nothing itself"
    );
    let order = execute(&agent);
    assert_eq!((order.status, order.text_at("/mode").as_str()), (200, "runner_exec"), "{order:?}");
    assert_eq!((execute(&agent).status, agent.status(&intent).as_str()), (409, "executing"));

    let claims = verified(&agent, &order.text_at("/execution_token"));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    let held = gate.event("decision.approval_required", &intent);
    for (claim, expected) in [
        ("sub", json!("default")),
        ("intent_id", json!(intent)),
        ("digest", held["data"]["digest"].clone()),
        ("body_sha256", held["data"]["body_sha256"].clone()),
        ("method", json!("POST")),
        ("url", json!("https://api.example/payouts")),
        ("jti", json!(order.text_at("/executionId"))),
    ] {
        assert_eq!(claims[claim], expected, "{claim}");
    }

    // An order outlives the gate that gave it.
    let gate = gate.kill().start();
    let (agent, other) = (gate.agent(), gate.add_agent("third", "ops"));
    let report = |agent: &Agent, body: &str| {
        agent.post(&format!("http://writ.internal/v1/executions/{}/report", order.text_at("/executionId")), body)
    };
    assert_eq!((agent.status(&intent).as_str(), report(&other, DONE).status), ("executing", 404));
    assert_eq!(report(&agent, r#"{"status":"maybe"}"#).status, 400);
    let told = report(&agent, DONE);
    assert_eq!((told.status, told.text_at("/status").as_str()), (200, "succeeded"));
    for again in [DONE, r#"{"status":"failed"}"#] {
        assert_eq!((report(&agent, again).status, agent.status(&intent).as_str()), (409, "succeeded"));
    }
    let executed = gate.event("action.executed", &intent);
    assert_eq!((&executed["data"]["reported_by"], &executed["data"]["status"]), (&json!("default"), &json!(201)));
    assert_eq!(origin.connections(), 0);
    gate.assert_verifies();
}

#[test]
fn an_order_is_given_only_for_what_policy_allows_then() {
    let gate = plan().start();
    let agent = gate.agent();
    let intent = for_runner(&gate);
    gate.write("policies/open.yaml", &OPEN.replace("wire transfer", "rows"));
    gate.succeeds(&["reload"]);
    let refused = agent.post(&format!("http://writ.internal/v1/intents/{intent}/execute"), "");
    assert_eq!((refused.status, refused.code().as_str(), agent.status(&intent).as_str()), (403, "blocked", "blocked"));
    gate.write("policies/open.yaml", OPEN);
    gate.succeeds(&["reload"]);
    let stopped = for_runner(&gate);
    gate.succeeds(&["kill", "on", "--destination", "imports", "--rationale", "stop"]);
    let refused = agent.post(&format!("http://writ.internal/v1/intents/{stopped}/execute"), "");
    assert_eq!(
        (refused.status, refused.code().as_str(), agent.status(&stopped).as_str()),
        (403, "kill_switch", "approved")
    );
    // There is no order for what the gate sends.
    let held = declare(&agent, &json!({"destination": "refunds", "payload": {"n": 1}})).text_at("/intentId");
    gate.approve(&held);
    assert_eq!(agent.post(&format!("http://writ.internal/v1/intents/{held}/execute"), "").code(), "conflict");
}

/// Where the gate dies, how often the origin was asked in the end, and the state the intent ends in. Whoever declared it
/// has no answer, and declares it again under its key.
const KILLED: &[(&str, usize, &str)] = &[
    ("hold.sealed", 1, "succeeded"),
    ("hold.recorded", 1, "succeeded"),
    ("permit.recorded", 0, "unknown"),
    ("credential.fetched", 0, "unknown"),
    ("upstream.connected", 0, "unknown"),
    ("upstream.sent", 1, "unknown"),
    ("reply.stored", 1, "unknown"),
    ("outcome.recorded", 1, "succeeded"),
];

#[test]
fn i08_a_declared_intent_survives_a_kill_at_every_edge() {
    for (point, hits, state) in KILLED {
        let origin = Origin::https(&[API]);
        let plan = plan().origin(API, &origin);
        plan.configure();
        assert_eq!(plan.writ(&["init"]).code, 0);
        let mut gate = plan.start_with(&[("WRIT_CRASH_AT", point)]);
        let declared = json!({"destination": "tickets", "payload": {"n": 1}, "idempotency_key": "k"});
        drop(gate.agent().try_request("POST", DECLARE, &[], declared.to_string().as_bytes()));
        assert!(gate.ended(), "{point} was never reached");
        let gate = gate.kill().start();
        let again = declare(&gate.agent(), &declared);
        assert_eq!(again.header("writ-replayed").is_some(), *point != "hold.sealed", "{point}: {again:?}");
        assert_eq!(gate.agent().settled(&again.text_at("/intentId")), *state, "{point}");
        assert_eq!((origin.hits().len(), gate.events_called("action.requested").len()), (*hits, 1), "{point}");
        gate.assert_verifies();
    }
}

/// Nobody has seen the order: it is not given a second time, and its end is for a person to find out.
#[test]
fn i08_an_order_that_a_kill_cut_off_is_not_given_again() {
    let plan = plan().limit("order_seconds", 4);
    plan.configure();
    assert_eq!(plan.writ(&["init"]).code, 0);
    let mut gate = plan.start_with(&[("WRIT_CRASH_AT", "order.recorded")]);
    let intent = for_runner(&gate);
    let execute = format!("http://writ.internal/v1/intents/{intent}/execute");
    assert!(gate.agent().try_request("POST", &execute, &[], b"").is_err());
    assert!(gate.ended());
    let gate = gate.kill().start();
    assert_eq!(gate.agent().post(&execute, "").status, 409);
    assert_eq!(gate.agent().settled(&intent), "unknown");
    let settled =
        gate.writ(&["intents", "settle", &intent, "--outcome", "failed", "--rationale", "the runner did nothing"]);
    assert_eq!((settled.code, gate.agent().status(&intent).as_str()), (0, "failed"), "{settled:?}");
}

/// A gate with destinations that take declared intents.
pub(crate) fn plan() -> Plan {
    let plan = ["changes", "pairs", "reads", "sends"]
        .iter()
        .fold(Plan::new(), |plan, policy| plan.without(&format!("policies/{policy}.yaml")));
    plan.file("destinations.yaml", DESTINATIONS)
        .file("policies/open.yaml", OPEN)
        .file("policies/asked.yaml", "destinations: [refunds, payouts]\nrequire_approval: always\nexpiry_minutes: 60\n")
}

/// An intent that is approved and waits for its runner.
pub(crate) fn for_runner(gate: &Gate) -> String {
    let told = declare(&gate.agent(), &json!({"destination": "imports", "payload": {"rows": [1, 2]}}));
    assert_eq!((told.status, told.text_at("/status").as_str()), (201, "approved"), "{told:?}");
    told.text_at("/intentId")
}

fn declare(agent: &Agent, declaration: &Value) -> Response {
    agent.post(DECLARE, &declaration.to_string())
}

/// The claims of an order, with its signature checked against the published key.
fn verified(agent: &Agent, token: &str) -> Value {
    let gate = agent.get("http://writ.internal/.well-known/gate").json();
    let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    let head: Value = serde_json::from_slice(&decode(head)).unwrap();
    let key = &gate["orderKeys"]["keys"][0];
    assert_eq!((&head["alg"], &head["kid"]), (&json!("EdDSA"), &key["kid"]));
    let key = VerifyingKey::from_bytes(&decode(key["x"].as_str().unwrap()).try_into().unwrap()).unwrap();
    key.verify_strict(signed.as_bytes(), &Signature::from_slice(&decode(signature)).unwrap()).unwrap();
    serde_json::from_slice(&decode(claims)).unwrap()
}

fn events(gate: &Gate, intent: &str) -> Vec<Value> {
    gate.events().into_iter().filter(|event| event["intent_id"] == intent).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

const DECLARE: &str = "http://writ.internal/v1/intents";

const DONE: &str = r#"{"status":"succeeded","http_status":201}"#;
