//! A reply that is under way ends when its agent is stopped; those of others go on.

use std::time::Duration;

use crate::harness::agent::{Agent, Connection};
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::API;

#[test]
fn suspending_an_agent_ends_its_streams_and_no_others() {
    let (origin, gate) = streaming();
    let (agent, other) = (gate.agent(), gate.add_agent("other", "ops"));
    let (mut cut, mut kept) = (open(&agent), open(&other));
    gate.succeeds(&["agents", "suspend", "default"]);
    assert_ends(&mut cut);
    let outcome = gate.wait_for("action.executed", |event| event["agent_id"] == "default");
    assert_eq!(outcome["data"]["ended"], "stopped");
    assert_eq!(agent.get("http://plain.example/a").status, 403, "its next request is refused");
    gate.succeeds(&["kill", "on", "--agent", "default", "--rationale", "somebody else is stopped"]);
    assert!(kept.through(b"tick 9").is_ok(), "others go on");
    assert_eq!(origin.hits().len(), 2);
}

#[test]
fn a_kill_switch_ends_the_streams_of_a_destination() {
    let (_origin, gate) = streaming();
    let mut cut = open(&gate.agent());
    gate.succeeds(&["kill", "on", "--destination", "api.send", "--rationale", "another one"]);
    assert!(cut.through(b"tick 3").is_ok(), "another destination is stopped");
    gate.succeeds(&["kill", "on", "--destination", "api.read", "--rationale", "it is broken"]);
    assert_ends(&mut cut);
    gate.assert_verifies();
}

/// An API whose stream says something every half second for half a minute.
fn streaming() -> (Origin, Gate) {
    let tick = |n: usize| (Duration::from_millis(if n == 0 { 0 } else { 500 }), format!("tick {n}\n").into_bytes());
    let origin = Origin::https(&[API]).reply("/stream", Reply::ok().chunks((0..60).map(tick).collect()));
    let gate = Plan::new().origin(API, &origin).start();
    (origin, gate)
}

/// A stream whose first words have come.
fn open(agent: &Agent) -> Connection {
    let mut connection = agent.begin("GET", "https://api.example/stream", &[], b"");
    connection.through(b"tick 0").unwrap();
    connection
}

/// It ends before its end.
fn assert_ends(connection: &mut Connection) {
    let rest = String::from_utf8(connection.rest().unwrap_or_default()).unwrap();
    assert!(!rest.contains("tick 59"), "{rest}");
}
