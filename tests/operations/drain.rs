//! How a gate ends on SIGTERM: requests under way are answered, what waits stays, what is cut off is accounted for.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::agent::Connection;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::API;

/// `WRIT_TEST_DRAINS=100` for as many rounds.
#[test]
fn no_request_is_lost_when_a_gate_ends_under_load() {
    let rounds = std::env::var("WRIT_TEST_DRAINS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let origin = Origin::https(&[API]).reply("/send", Reply::ok().delay(Duration::from_millis(20)));
    let mut plan = Plan::new().origin(API, &origin);
    let (number, answered) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    for round in 1..=rounds {
        let gate = plan.start();
        let enough = origin.hits().len() + 10 + round % 7;
        let tunnels: Vec<Connection> = (0..6).map(|_| gate.agent().tunnel(API)).collect();
        plan = thread::scope(|scope| {
            for tunnel in tunnels {
                scope.spawn(|| keep_sending(tunnel, &number, &answered));
            }
            origin.wait_for(enough);
            gate.stop()
        });
    }
    let gate = plan.start();
    let mut answered = answered.into_inner().unwrap();
    let mut sent: Vec<String> = origin.hits().into_iter().map(|hit| hit.target).collect();
    answered.sort();
    sent.sort();
    assert_eq!(sent, answered, "what reached the API was answered, once, and the other way round");
    let kinds = kinds_by_path(&gate);
    for path in &sent {
        assert_eq!(
            kinds.get(path).map(Vec::as_slice),
            Some(&["decision.allowed", "action.executed"].map(String::from)[..])
        );
    }
    assert_eq!(kinds.len(), sent.len(), "no permit without its send");
    assert_eq!(gate.events_called("gate.stopped").len(), rounds);
    println!("{rounds} ends under load: {} requests answered, {} begun", sent.len(), number.load(Ordering::SeqCst));
    gate.assert_verifies();
}

#[test]
fn what_waits_for_a_reviewer_stays_and_its_caller_is_told_at_once() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    let mut waiting = gate.agent().begin("POST", "https://api.example/change/1", &[("prefer", "wait=60")], b"x=1");
    gate.wait_for("decision.approval_required", |_| true);
    let begun = Instant::now();
    let plan = gate.stop();
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    let answer = waiting.answer().unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let (gate, intent) = (plan.start(), answer.text_at("/intentId"));
    assert_eq!(gate.agent().status(&intent), "pending_approval");
    gate.approve(&intent);
    assert_eq!((gate.agent().settled(&intent).as_str(), origin.hits().len()), ("succeeded", 1));
}

#[test]
fn what_does_not_end_in_time_is_unknown_and_never_sent_again() {
    let origin = Origin::https(&[API]).reply("/slow", Reply::ok().delay(Duration::from_secs(30)));
    let gate = Plan::new().origin(API, &origin).limit("drain_seconds", 1).start();
    let mut waiting = gate.agent().begin("GET", "https://api.example/slow", &[], b"");
    origin.wait_for(1);
    let begun = Instant::now();
    let plan = gate.stop();
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    assert!(!waiting.answer().is_ok_and(|answer| answer.complete));
    let gate = plan.start();
    let unknown = gate.wait_for("action.unknown", |_| true);
    assert_eq!(unknown["data"]["reason"], "interrupted");
    assert_eq!(origin.hits().len(), 1);
    gate.assert_verifies();
}

#[test]
fn clients_that_say_nothing_do_not_keep_a_gate_from_ending_and_signals_may_repeat() {
    let origin = Origin::https(&[API]);
    let mut gate = Plan::new().origin(API, &origin).start();
    let agent = gate.agent();
    let mut half = agent.connect();
    half.send(b"GET http://api.example/ HTTP/1.1\r\nhost:");
    let mut idle = agent.tunnel(API);
    assert_eq!(idle.ask("GET /a HTTP/1.1\r\nhost: api.example\r\n\r\n").status, 200);
    let _open = (agent.connect(), half, agent.open_tunnel("api.example:443"), idle);
    let begun = Instant::now();
    for _ in 0..20 {
        gate.signal(Signal::SIGTERM);
    }
    assert!(gate.ended(), "{}", gate.log());
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    let gate = gate.kill().start();
    assert_eq!(gate.events_called("gate.stopped").len(), 1);
}

#[test]
fn a_second_interrupt_cuts_the_wait_short() {
    let origin = Origin::https(&[API]).reply("/slow", Reply::ok().delay(Duration::from_secs(30)));
    let mut gate = Plan::new().origin(API, &origin).start();
    let _waiting = gate.agent().begin("GET", "https://api.example/slow", &[], b"");
    origin.wait_for(1);
    let begun = Instant::now();
    gate.signal(Signal::SIGINT);
    thread::sleep(Duration::from_millis(300));
    gate.signal(Signal::SIGINT);
    assert!(gate.ended(), "{}", gate.log());
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
}

/// Sends requests of its own until the connection is closed, and notes those that were answered.
fn keep_sending(mut tunnel: Connection, number: &AtomicUsize, answered: &Mutex<Vec<String>>) {
    loop {
        let path = format!("/send/{}", number.fetch_add(1, Ordering::SeqCst));
        tunnel.send(format!("POST {path} HTTP/1.1\r\nhost: {API}\r\ncontent-length: 3\r\n\r\nx=1").as_bytes());
        let Ok(answer) = tunnel.answer() else { return };
        assert!(answer.status == 200 && answer.complete, "{answer:?}");
        answered.lock().unwrap().push(path);
    }
}

/// The types of the events of each request of the load, in order.
fn kinds_by_path(gate: &Gate) -> BTreeMap<String, Vec<String>> {
    let events = gate.events();
    let mut paths: BTreeMap<String, String> = BTreeMap::new();
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in &events {
        let (kind, correlation) =
            (event["type"].as_str().unwrap(), event["correlation_id"].as_str().unwrap_or_default());
        if let Some(path) = event["data"]["path"].as_str() {
            paths.insert(correlation.to_owned(), path.to_owned());
        }
        if let Some(path) = paths.get(correlation) {
            kinds.entry(path.clone()).or_default().push(kind.to_owned());
        }
    }
    kinds
}

/// Far less than the time a drain may take by default.
const PROMPT: Duration = Duration::from_secs(8);
