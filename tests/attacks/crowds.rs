//! Many at once: limits hold for a crowd as for one, and who only waits or stalls keeps nobody else out.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::{api, operator_token, page};
use crate::harness::agent::{Agent, Response};
use crate::harness::gate::{PATIENCE, Plan, within};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, PLAIN};

#[test]
fn a_crowd_of_identical_requests_is_one_intent() {
    let (origin, gate) = api();
    let answers = at_once(60, &gate.agent(), |_| "https://api.example/change/7".to_owned());
    let intents: BTreeSet<String> = answers.iter().map(|answer| answer.text_at("/intentId")).collect();
    assert_eq!((intents.len(), gate.events_called("decision.approval_required").len()), (1, 1), "{intents:?}");
    let intent = intents.first().unwrap();
    gate.approve(intent);
    assert_eq!((gate.agent().settled(intent).as_str(), origin.hits().len()), ("succeeded", 1));
}

#[test]
fn a_crowd_of_different_requests_does_not_pass_the_limit_of_its_agent() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).limit("pending_per_agent", 5).start();
    let answers = at_once(30, &gate.agent(), |number| format!("https://api.example/change/{number}"));
    let with = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((with(202), with(429)), (5, 25), "{answers:?}");
    assert_eq!(gate.events_called("decision.approval_required").len(), 5);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn callers_that_wait_for_a_decision_keep_no_memory_from_others() {
    const BODY: usize = 1000;
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).limit("body_budget_bytes", 3 * BODY as u64).start();
    let agent = gate.agent();
    let mut waiting: Vec<_> = (0..3)
        .map(|number| {
            let url = format!("https://api.example/change/{number}");
            let waiting = agent.begin("POST", &url, &[("Prefer", "wait=30")], &[b'x'; BODY]);
            let held = gate
                .wait_for("decision.approval_required", |event| event["data"]["path"] == format!("/change/{number}"));
            (waiting, held["intent_id"].as_str().unwrap().to_owned())
        })
        .collect();
    let answer = agent.post("https://api.example/send/all", &"y".repeat(3 * BODY));
    assert_eq!((answer.status, origin.hits().len()), (200, 1), "{answer:?}");
    gate.event("action.executed", &answer.correlation());
    let (mut waiting, intent) = waiting.remove(0);
    gate.approve(&intent);
    assert_eq!((waiting.answer().unwrap().status, origin.hits().len()), (200, 2));
    assert_eq!(gate.events_called("decision.approval_required").len(), 3);
}

#[test]
fn connections_that_stay_silent_do_not_keep_operators_or_agents_out() {
    let (origin, gate) = api();
    let token = operator_token(&gate);
    let host = gate.operator;
    let said = ["", "GET /v1/head HT", &format!("GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n")];
    let silent: Vec<TcpStream> = (0..130)
        .map(|number| {
            let mut stream = TcpStream::connect(host).unwrap();
            // One that found no place is closed already.
            drop(stream.write_all(said[number % said.len()].as_bytes()));
            stream
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(gate.agent().get("https://api.example/x").status, 200);
    }
    let let_in = || page(&gate, &token, "/v1/head").is_ok_and(|answer| answer.status == 200).then_some(());
    assert!(within(OPERATOR_WAITS, let_in).is_some(), "the operator is kept out");
    assert_eq!((silent.len(), origin.hits().len()), (130, 3));
    assert_eq!(gate.events_called("decision.allowed").len(), 3);
}

#[test]
fn a_reply_that_nobody_reads_does_not_keep_its_connection() {
    let large = vec![b'x'; 1 << 20];
    let large = Reply::new(200).chunks(vec![(Duration::ZERO, large); 48]);
    let (plain, tls) = (Origin::plain().reply("/large", large.clone()), Origin::https(&[API]).reply("/large", large));
    for (url, origin, host) in [("http://plain.example/large", &plain, PLAIN), ("https://api.example/large", &tls, API)]
    {
        let gate = Plan::new().origin(host, origin).limit("write_seconds", 1).limit("max_connections", 1).start();
        let unread = gate.agent().begin("GET", url, &[], b"");
        let ended = gate.wait_for("action.executed", |_| true);
        assert_eq!(ended["data"]["ended"], "client_stalled", "{url}");
        let health = format!("GET /health HTTP/1.1\r\nhost: {}\r\n\r\n", gate.forward);
        let served = || {
            let mut connection = gate.agent().connect();
            connection.send(health.as_bytes());
            connection.answer().is_ok_and(|answer| answer.status == 200).then_some(())
        };
        assert!(within(PATIENCE, served).is_some(), "{url}: the only place is still taken");
        assert_eq!((origin.hits().len(), gate.events_called("decision.allowed").len()), (1, 1), "{url}");
        drop(unread);
    }
}

/// Sends this many held requests with the same body at the same time.
fn at_once(count: usize, agent: &Agent, url: impl Fn(usize) -> String + Sync) -> Vec<Response> {
    let start = Barrier::new(count);
    let ask = |number: usize| {
        let url = url(number);
        start.wait();
        agent.post(&url, "x")
    };
    thread::scope(|scope| {
        let asked: Vec<_> = (0..count).map(|number| scope.spawn(move || ask(number))).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// How long a crowd may keep an operator out.
const OPERATOR_WAITS: Duration = Duration::from_secs(15);
