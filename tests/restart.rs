//! The gate is killed at every edge of a request's life and started again on the same home: nothing is lost that was
//! acknowledged, and nothing happens twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::agent::Connection;
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::API;

/// One point of a held request's life: where the gate dies, how often the origin has been asked in the end, and the
/// state the intent ends in.
const HELD: &[(&str, usize, &str)] = &[
    ("hold.sealed", 1, "succeeded"),
    ("hold.recorded", 1, "succeeded"),
    ("vote.recorded", 1, "succeeded"),
    ("approval.granted", 1, "succeeded"),
    ("permit.recorded", 0, "unknown"),
    ("credential.fetched", 0, "unknown"),
    ("upstream.connected", 0, "unknown"),
    ("upstream.sent", 1, "unknown"),
    ("reply.stored", 1, "unknown"),
    ("outcome.recorded", 1, "succeeded"),
];

/// As [`HELD`] for a request that is allowed at once: what its agent's journal shows about it in the end. The journal's
/// points count batches: the gate's start is the first and its rules the second.
const LIVE: &[(&str, usize, &[&str])] = &[
    ("journal.before-write:3", 0, &[]),
    ("journal.half-written:3", 0, &[]),
    ("journal.written:3", 0, &["decision.allowed", "action.unknown"]),
    ("journal.synced:3", 0, &["decision.allowed", "action.unknown"]),
    ("permit.recorded", 0, &["decision.allowed", "action.unknown"]),
    ("credential.fetched", 0, &["decision.allowed", "action.unknown"]),
    ("upstream.connected", 0, &["decision.allowed", "action.unknown"]),
    ("upstream.sent", 1, &["decision.allowed", "action.unknown"]),
    ("outcome.recorded", 1, &["decision.allowed", "action.executed"]),
];

#[test]
fn i08_a_held_request_survives_a_kill_at_every_edge() {
    thread::scope(|scope| {
        for (point, hits, state) in HELD {
            scope.spawn(move || {
                (0..ROUNDS).for_each(|_| held_round(point, *hits, state));
                println!("{point}: {ROUNDS} kills, {} hits, all {state}", ROUNDS * hits);
            });
        }
    });
}

/// The ways a held request ends without being sent, each cut off right behind the record that ends it or leads there.
#[test]
fn i08_a_held_request_that_is_not_to_be_sent_survives_a_kill() {
    for (command, point, state) in [("deny", "vote.recorded", "rejected"), ("cancel", "journal.synced:4", "cancelled")]
    {
        for _ in 0..ROUNDS {
            let origin = Origin::https(&[API]);
            let plan = Plan::new().origin(API, &origin);
            plan.configure();
            assert_eq!(plan.writ(&["init"]).code, 0);
            let gate = plan.start_with(&[("WRIT_CRASH_AT", point)]);
            let intent = gate.agent().held(CHANGE, "x=1");
            if command == "deny" {
                gate.writ(&["deny", &intent, "--rationale", "not now"]);
            } else {
                let cancel = format!("http://{}/v1/intents/{intent}/cancel", gate.forward);
                assert!(gate.agent().try_request("POST", &cancel, &[], b"").is_err(), "{point} was never reached");
            }
            let gate = start_after_kill(gate, point);
            assert_eq!(gate.agent().settled(&intent), state, "{point}");
            assert_ne!(gate.writ(&["approve", &intent, "--rationale", "after all"]).code, 0, "{point}");
            assert_eq!((gate.restart().agent().status(&intent).as_str(), origin.hits().len()), (state, 0), "{point}");
        }
    }
}

#[test]
fn i08_a_live_request_survives_a_kill_at_every_edge() {
    thread::scope(|scope| {
        for (point, hits, events) in LIVE {
            scope.spawn(move || {
                (0..ROUNDS).for_each(|_| live_round(point, *hits, events));
                println!("{point}: {ROUNDS} kills, {} hits, each {events:?}", ROUNDS * hits);
            });
        }
    });
}

/// Many requests under way, and the kill comes from outside at no point in particular.
#[test]
fn every_send_of_a_killed_gate_is_accounted_for() {
    let origin = Origin::https(&[API]);
    let mut plan = Plan::new().origin(API, &origin);
    let number = AtomicUsize::new(0);
    for round in 1..=5 {
        let gate = plan.start();
        let enough = origin.hits().len() + 7 * round;
        let dead = AtomicBool::new(false);
        let tunnels: Vec<Connection> = (0..6).map(|_| gate.agent().tunnel(API)).collect();
        thread::scope(|scope| {
            for tunnel in tunnels {
                scope.spawn(|| keep_sending(tunnel, &number, &dead));
            }
            origin.wait_for(enough);
            gate.signal(Signal::SIGKILL);
            dead.store(true, Ordering::SeqCst);
        });
        plan = gate.kill();
    }
    let gate = plan.start();
    let mut records: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut paths: BTreeMap<String, String> = BTreeMap::new();
    for event in
        gate.events().iter().filter(|event| event["agent_id"] == "default" && event["correlation_id"].is_string())
    {
        let correlation = event["correlation_id"].as_str().unwrap().to_owned();
        if let Some(path) = event["data"]["path"].as_str() {
            paths.insert(path.to_owned(), correlation.clone());
        }
        records.entry(correlation).or_default().push(event["type"].as_str().unwrap().to_owned());
    }
    for kinds in records.values() {
        assert_eq!((kinds.len(), kinds[0].as_str()), (2, "decision.allowed"), "{kinds:?}");
        assert!(["action.executed", "action.failed", "action.unknown"].contains(&kinds[1].as_str()), "{kinds:?}");
    }
    let mut targets: Vec<String> = origin.hits().into_iter().map(|hit| hit.target).collect();
    assert!(targets.iter().all(|target| paths.contains_key(target)), "a request left without a record");
    let sent = targets.len();
    targets.sort();
    targets.dedup();
    assert_eq!(targets.len(), sent, "a request was sent twice");
    println!("5 kills under load: {} permits, {sent} hits", records.len());
    gate.assert_verifies();
}

#[test]
fn the_time_without_a_gate_is_recorded_with_how_it_ended() {
    let gate = Plan::new().start();
    assert!(gate.events_called("ledger.gap").is_empty(), "nothing was before the first start");
    let gate = gate.stop().start();
    let orderly = gate.events_called("ledger.gap").pop().unwrap();
    let stopped = gate.events_called("gate.stopped").pop().unwrap();
    assert_eq!((&orderly["data"]["reason"], &orderly["data"]["orderly"]), (&"gate_down".into(), &true.into()));
    assert_eq!(orderly["data"]["since"], stopped["ts"]);
    assert_eq!(gate.agent().get("https://elsewhere.example/").status, 403);
    let last = gate.events().pop().unwrap();
    let gate = gate.kill().start();
    let gaps = gate.events_called("ledger.gap");
    let killed = gaps.last().unwrap();
    assert_eq!((gaps.len(), &killed["data"]["orderly"], &killed["data"]["since"]), (2, &false.into(), &last["ts"]));
}

#[test]
fn an_orderly_end_waits_for_what_is_under_way() {
    let origin = Origin::https(&[API]).reply("/slow", Reply::ok().delay(std::time::Duration::from_secs(1)));
    let gate = Plan::new().origin(API, &origin).start();
    let mut waiting = gate.agent().begin("GET", "https://api.example/slow", &[], b"");
    origin.wait_for(1);
    let plan = gate.stop();
    let answer = waiting.answer().unwrap();
    assert_eq!((answer.status, answer.complete), (200, true));
    let gate = plan.start();
    assert_eq!(kinds(&gate, &answer.correlation()), ["decision.allowed", "action.executed"]);
    assert_eq!(gate.events_called("gate.stopped").len(), 1);
    assert!(gate.events_called("gate.recovered").is_empty());
}

fn held_round(point: &str, hits: usize, state: &str) {
    let origin = Origin::https(&[API]).reply("/change", Reply::new(201).body("created"));
    let plan = Plan::new().origin(API, &origin);
    plan.configure();
    let mut gate = plan.start_with(&[("WRIT_CRASH_AT", point)]);
    let answer = gate.agent().try_request("POST", CHANGE, &[], b"x=1");
    if point.starts_with("hold.") {
        assert!(answer.is_err(), "{point}: {answer:?}");
        gate = start_after_kill(gate, point);
        // Recorded or not, the agent has no answer and asks again; what is held already is not held twice.
        gate.agent().held(CHANGE, "x=1");
    }
    let held = gate.events_called("decision.approval_required");
    assert_eq!(held.len(), 1, "{point}: {held:#?}");
    let intent = held[0]["intent_id"].as_str().unwrap().to_owned();
    if point.starts_with("hold.") {
        gate.approve(&intent);
    } else {
        gate.writ(&["approve", &intent, "--rationale", "looks right"]);
        gate = start_after_kill(gate, point);
    }
    assert_eq!(gate.agent().settled(&intent), state, "{point}\n{}", gate.log());
    assert_eq!(origin.hits().len(), hits, "{point}");
    assert_eq!(gate.agent().response(&intent).status, if state == "succeeded" { 201 } else { 502 }, "{point}");

    // Neither another approval nor another start sends it again.
    assert_ne!(gate.writ(&["approve", &intent, "--rationale", "again"]).code, 0, "{point}");
    let gate = gate.restart();
    assert_eq!((gate.agent().status(&intent).as_str(), origin.hits().len()), (state, hits), "{point}");
    assert_eq!(gate.events_called("approval.vote").len(), 1, "{point}");
    gate.assert_verifies();
}

fn live_round(point: &str, hits: usize, events: &[&str]) {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin);
    plan.configure();
    assert_eq!(plan.writ(&["init"]).code, 0);
    let gate = plan.start_with(&[("WRIT_CRASH_AT", point)]);
    let answer = gate.agent().try_request("POST", "https://api.example/send/1", &[], b"x=1");
    // The end of a live reply does not wait for its outcome.
    let answered = answer.is_ok_and(|answer| answer.complete);
    assert!(!answered || point == "outcome.recorded", "{point}: an answer came before the record");
    let gate = start_after_kill(gate, point);
    let own: Vec<Value> = gate.events().into_iter().filter(|event| event["dest_key"] == "api.send").collect();
    let found: Vec<&str> = own.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!((found.as_slice(), origin.hits().len()), (events, hits), "{point}");
    if events.contains(&"action.unknown") {
        assert_eq!(own[1]["data"]["reason"], "interrupted", "{point}");
    }
    assert_eq!(gate.agent().post("https://api.example/send/2", "x=2").status, 200, "{point}");
    let gate = gate.restart();
    assert_eq!(origin.hits().len(), hits + 1, "{point}: a start sent something");
    gate.assert_verifies();
}

/// Waits until the gate has died at its point, and starts it on the same home without one.
fn start_after_kill(mut gate: Gate, point: &str) -> Gate {
    assert!(gate.ended(), "{point} was never reached:\n{}", gate.log());
    gate.kill().start()
}

/// Sends requests of its own until the gate is gone.
fn keep_sending(mut tunnel: Connection, number: &AtomicUsize, dead: &AtomicBool) {
    while !dead.load(Ordering::SeqCst) {
        let path = format!("/send/{}", number.fetch_add(1, Ordering::SeqCst));
        tunnel.send(format!("POST {path} HTTP/1.1\r\nhost: {API}\r\ncontent-length: 3\r\n\r\nx=1").as_bytes());
        let Ok(answer) = tunnel.answer() else { return };
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

fn kinds(gate: &Gate, correlation: &str) -> Vec<String> {
    let complete = || {
        let kinds: Vec<String> =
            gate.events_of(correlation).iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
        (kinds.len() == 2).then_some(kinds)
    };
    within(PATIENCE, complete).unwrap_or_default()
}

const CHANGE: &str = "https://api.example/change/7";

/// How often each point is tried.
const ROUNDS: usize = 3;
