//! Approve and remember: what a reviewer approves in advance is sent as often and as long as they said, and nothing that
//! is more than what they saw.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::agent::{Agent, Response};
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::Origin;
use crate::harness::world::API;

const DESTINATIONS: &str = "destinations:
  - key: pay.refund
    match: { host: api.example, methods: [POST], path: /refund/** }
    effect: payment
    policy: refunds
    measure: { amount: 'json:/amount', currency: 'json:/currency' }
  - key: mail.send
    match: { host: api.example, methods: [POST], path: /mail }
    effect: notification
    policy: mails
    measure: { recipients: 'json:/to/*' }
  - key: note.add
    match: { host: api.example, methods: [POST], path: /note }
    effect: write
    policy: notes
  - key: pay.out
    match: { host: api.example, methods: [POST], path: /pay }
    effect: payment
    policy: notes
    measure: { amount: 'json:/amount' }
  - key: always.held
    match: { host: api.example, methods: [POST], path: /always }
    effect: write
    policy: always
    measure: { amount: 'json:/amount' }
  - key: two.held
    match: { host: api.example, methods: [POST], path: /two }
    effect: write
    policy: two
    measure: { amount: 'json:/amount' }
";

const POLICIES: [(&str, &str); 5] = [
    ("refunds", "auto_approve_under: {amount: 10}\nblock_if_terms: [wire]\n"),
    ("mails", "allowed_recipients: ['*@own.example']\n"),
    ("notes", "description: says nothing\n"),
    ("always", "require_approval: always\n"),
    ("two", "require_approvals: 2\n"),
];

#[test]
fn what_is_remembered_is_sent_as_often_as_was_said_and_never_more() {
    let (origin, gate) = api();
    let agent = gate.agent();
    approve(&gate, &held(&agent, "/refund/7", &refund(80.0)), "3");
    for amount in [80.0, 79.0, 78.5] {
        let answer = post(&agent, "/refund/7", &refund(amount));
        assert_eq!((answer.status, answer.header("writ-decision")), (200, Some("allow")));
    }
    assert_eq!(post(&agent, "/refund/7", &refund(77.0)).status, 202, "the fourth waits");
    assert_eq!(origin.hits().len(), 4, "the one that was seen, and three");

    let used = gate.events_called("standing.used");
    assert_eq!(used.len(), 3);
    let about = gate.events_of(used[0]["correlation_id"].as_str().unwrap());
    let kinds: Vec<&str> = about.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["standing.used", "decision.allowed", "action.executed"]);
    let rules = about[1]["data"]["rules"].as_array().unwrap();
    assert!(
        rules
            .iter()
            .any(|rule| rule["rule"] == "approval.standing" && rule["reason"].as_str().unwrap().contains("`admin`"))
    );
    assert!(gate.succeeds(&["standing", "list"]).contains("nothing"), "it is used up");
    gate.assert_verifies();
}

#[test]
fn every_near_miss_waits() {
    let (origin, gate) = api();
    let (agent, other) = (gate.agent(), gate.add_agent("other", "ops"));
    approve(&gate, &held(&agent, "/refund/7", &refund(80.0)), "1h");
    approve(&gate, &held(&agent, "/mail", &json!({"to": ["a@x.example", "b@x.example"]})), "1h");
    approve(&gate, &held(&agent, "/note", &json!({"text": "hello"})), "1h");
    let before = origin.hits().len();
    let misses = [
        ("/refund/7", refund(80.01)),
        ("/refund/7", json!({"amount": 80, "currency": "usd"})),
        ("/refund/7", json!({"amount": "80", "currency": "eur"})),
        ("/refund/7", json!({"currency": "eur"})),
        ("/refund/7", json!({"amount": 80, "currency": "eur", "memo": "other"})),
        ("/refund/8", refund(80.0)),
        ("/refund/7?a=1", refund(80.0)),
        ("/mail", json!({"to": ["a@x.example", "c@x.example"]})),
        ("/mail", json!({"to": ["a@x.example", "a@x.example", "b@x.example"]})),
        ("/note", json!({"text": "hello!"})),
    ];
    for (path, body) in &misses {
        assert_eq!(post(&agent, path, body).status, 202, "{path} {body}");
    }
    assert_eq!(post(&other, "/refund/7", &refund(80.0)).status, 202, "another agent");
    let headers = [("content-type", "application/json"), ("x-account", "2")];
    let tenant = agent.request("POST", "https://api.example/refund/7", &headers, refund(80.0).to_string().as_bytes());
    assert_eq!(tenant.status, 202, "a header that may say for whom");
    let broken = agent.request("POST", "https://api.example/refund/7", &headers[..1], b"{\"amount\": 80,}");
    assert_eq!(broken.status, 403, "what cannot be read for terms is denied");
    let wire = json!({"amount": 80, "currency": "eur", "memo": "wire it"});
    assert_eq!(post(&agent, "/refund/7", &wire).status, 403, "what is denied stays denied");
    assert_eq!(origin.hits().len(), before);

    assert_eq!(post(&agent, "/refund/7", &refund(79.99)).status, 200);
    assert_eq!(post(&agent, "/mail", &json!({"to": ["B@x.example"]})).status, 200);
    assert_eq!(post(&agent, "/note", &json!({"text": "hello"})).status, 200);
    assert_eq!(origin.hits().len(), before + 3);
}

#[test]
fn a_remembered_payment_goes_to_no_other_payee() {
    let (origin, gate) = api();
    let agent = gate.agent();
    for path in ["/pay", "/refund/7"] {
        let before = origin.hits().len();
        approve(&gate, &held(&agent, path, &json!({"amount": 100, "currency": "eur", "to": "alice"})), "5");
        for other in [
            json!({"amount": 100, "currency": "eur", "to": "mallory"}),
            json!({"amount": 100, "currency": "eur", "to": "alice", "extra": "x"}),
            json!({"amount": 90, "currency": "eur", "to": ["alice"]}),
            json!({"amount": 90, "currency": "eur"}),
        ] {
            assert_eq!(post(&agent, path, &other).status, 202, "{path} {other}");
        }
        assert_eq!(origin.hits().len(), before + 1, "only what was seen");
        let less = json!({"amount": 99, "currency": "eur", "to": "alice"});
        assert_eq!((post(&agent, path, &less).status, origin.hits().len()), (200, before + 2));
    }
}

#[test]
fn some_approvals_cannot_be_remembered() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let amount = json!({"amount": 1});
    for (path, body, why) in [
        ("/always", &amount, "every time"),
        ("/two", &amount, "several approvals"),
        ("/refund/7", &json!({"amount": "much", "currency": "eur"}), "inspected"),
    ] {
        let intent = held(&agent, path, body);
        let refused = gate.writ(&["approve", &intent, "--rationale", "and more", "--remember", "5"]);
        assert!(refused.code != 0 && refused.err.contains(why), "{path}: {refused:?}");
        assert_eq!(agent.status(&intent), "pending_approval", "the vote is not given either");
    }
    let intent = held(&agent, "/refund/8", &refund(80.0));
    for term in ["0", "101", "25h", "0s"] {
        let refused = gate.writ(&["approve", &intent, "--rationale", "x", "--remember", term]);
        assert_ne!(refused.code, 0, "{term}");
    }
    assert_eq!((origin.connections(), gate.events_called("standing.created").len()), (0, 0));
}

#[test]
fn it_ends_by_time_by_hand_with_its_giver_and_with_the_rules() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let ann = gate.add_operator("ann", "reviewer");
    let asked = refund(80.0);
    let hits = |count: usize| assert_eq!(origin.hits().len(), count);

    approve(&gate, &held(&agent, "/refund/7", &asked), "2s");
    assert_eq!(post(&agent, "/refund/7", &asked).status, 200);
    thread::sleep(Duration::from_millis(2100));
    let intent = held(&agent, "/refund/7", &asked);
    hits(2);

    approve(&gate, &intent, "1h");
    let id = listed(&gate)[0]["id"].as_str().unwrap().to_owned();
    gate.succeeds(&["standing", "revoke", &id, "--rationale", "enough"]);
    let intent = held(&agent, "/refund/7", &asked);
    assert_ne!(gate.writ(&["standing", "revoke", &id, "--rationale", "again"]).code, 0);
    hits(3);

    let approved = gate.writ_as(&ann, &["approve", &intent, "--rationale", "fine", "--remember", "1h"]);
    assert_eq!(approved.code, 0, "{approved:?}");
    assert_eq!(agent.settled(&intent), "succeeded");
    assert_eq!(post(&agent, "/refund/7", &asked).status, 200);
    hits(5);
    gate.succeeds(&["operators", "revoke", "ann"]);
    let intent = held(&agent, "/refund/7", &asked);

    approve(&gate, &intent, "1h");
    assert_eq!(post(&agent, "/refund/7", &asked).status, 200);
    gate.write("policies/refunds.yaml", "auto_approve_under: {amount: 20}\nblock_if_terms: [wire]\n");
    gate.succeeds(&["reload"]);
    held(&agent, "/refund/7", &asked);
    hits(7);
}

#[test]
fn it_survives_a_restart_with_the_uses_that_are_left() {
    let (origin, gate) = api();
    approve(&gate, &held(&gate.agent(), "/refund/7", &refund(80.0)), "2");
    assert_eq!(post(&gate.agent(), "/refund/7", &refund(80.0)).status, 200);
    let gate = gate.kill().start();
    assert_eq!((listed(&gate)[0]["uses"].as_u64(), listed(&gate)[0]["used"].as_u64()), (Some(2), Some(1)));
    assert_eq!(post(&gate.agent(), "/refund/7", &refund(80.0)).status, 200);
    assert_eq!(post(&gate.agent(), "/refund/7", &refund(80.0)).status, 202);
    assert_eq!(origin.hits().len(), 3);
    gate.assert_verifies();
}

#[test]
fn of_those_who_hurry_as_many_pass_as_were_remembered_and_the_others_wait() {
    let (origin, gate) = api();
    let agent = gate.agent();
    approve(&gate, &held(&agent, "/refund/7", &refund(80.0)), "5");
    let start = Barrier::new(16);
    let ask = |amount: u8| {
        start.wait();
        post(&agent, "/refund/7", &refund(f64::from(amount))).status
    };
    let mut answers: Vec<u16> = thread::scope(|scope| {
        let all: Vec<_> = (60..76).map(|amount| scope.spawn(move || ask(amount))).collect();
        all.into_iter().map(|each| each.join().unwrap()).collect()
    });
    answers.sort_unstable();
    assert_eq!(answers, [[200; 5].as_slice(), &[202; 11]].concat());
    assert_eq!((origin.hits().len(), gate.events_called("standing.used").len()), (6, 5));
    gate.assert_verifies();
}

#[test]
fn a_journal_entry_that_no_reviewer_made_covers_nothing() {
    let (origin, gate) = api();
    let agent = gate.agent();
    approve(&gate, &held(&agent, "/refund/7", &refund(80.0)), "5");
    // Whoever can write the data folder makes another key for the marks; what was given under the old one is void.
    let plan = gate.stop();
    let key = plan.home().join("data/keys/seal.key");
    let bytes: Vec<u8> = std::fs::read(&key).unwrap().iter().map(|byte| byte ^ 1).collect();
    std::fs::write(&key, bytes).unwrap();
    let gate = plan.start();
    assert_eq!(listed(&gate).len(), 1);
    assert_eq!(post(&gate.agent(), "/refund/7", &refund(80.0)).status, 202);
    assert_eq!(origin.hits().len(), 1);
}

fn api() -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let mut plan = Plan::new().origin(API, &origin).file("destinations.yaml", DESTINATIONS).without("credentials.yaml");
    for old in ["changes", "pairs", "reads", "sends"] {
        plan = plan.without(&format!("policies/{old}.yaml"));
    }
    let plan = POLICIES.iter().fold(plan, |plan, (id, text)| plan.file(&format!("policies/{id}.yaml"), text));
    (origin, plan.start())
}

fn refund(amount: f64) -> Value {
    json!({"amount": amount, "currency": "eur"})
}

fn post(agent: &Agent, path: &str, body: &Value) -> Response {
    let url = format!("https://{API}{path}");
    agent.request("POST", &url, &[("content-type", "application/json")], body.to_string().as_bytes())
}

/// Sends what must wait, and gives its intent.
fn held(agent: &Agent, path: &str, body: &Value) -> String {
    let answer = post(agent, path, body);
    assert_eq!(answer.status, 202, "{path} {body}: {}", answer.text());
    answer.text_at("/intentId")
}

/// Approves, remembers, and waits until what was approved is sent.
fn approve(gate: &Gate, intent: &str, remember: &str) {
    gate.succeeds(&["approve", intent, "--rationale", "and others like it", "--remember", remember]);
    let agent = gate.agent();
    assert!(within(PATIENCE, || (agent.status(intent) == "succeeded").then_some(())).is_some());
}

fn listed(gate: &Gate) -> Vec<Value> {
    let answer: Value = serde_json::from_str(&gate.succeeds(&["--json", "standing", "list"])).unwrap();
    answer["standings"].as_array().unwrap().clone()
}
