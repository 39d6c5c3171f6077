//! How connections end: a client that has said all it wants, one that is gone, and one that may ask again.

use std::net::Shutdown;
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

use crate::harness::agent::{Agent, Connection};
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, PLAIN};

/// How a client reaches the gate without TLS.
#[derive(Clone, Copy, Debug)]
enum Way {
    Absolute,
    Tunnel,
}

// === impl Way ===

impl Way {
    fn open(self, agent: &Agent) -> Connection {
        match self {
            Way::Absolute => agent.connect(),
            Way::Tunnel => agent.open_tunnel("plain.example:80"),
        }
    }

    fn head(self, agent: &Agent, method: &str, path: &str, lines: &str) -> String {
        let (prefix, credential) = match self {
            Way::Absolute => ("http://plain.example", agent.credential()),
            Way::Tunnel => ("", String::new()),
        };
        format!("{method} {prefix}{path} HTTP/1.1\r\nhost: {PLAIN}\r\n{credential}{lines}\r\n")
    }
}

#[test]
fn a_client_that_ends_its_side_after_a_whole_request_gets_its_reply() {
    let (origin, gate) = plain();
    let agent = gate.agent();
    for way in WAYS {
        let mut connection = way.open(&agent);
        connection.send(way.head(&agent, "GET", "/slow", "").as_bytes());
        connection.socket().shutdown(Shutdown::Write).unwrap();
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"), "{way:?}");
        assert!(connection.is_closed(), "{way:?}");
        gate.event("action.executed", &answer.correlation());
    }
    assert_eq!(origin.hits().len(), 2);
}

#[test]
fn a_client_that_ends_its_side_gets_every_reply_to_what_it_sent_whole() {
    let (origin, gate) = plain();
    let agent = gate.agent();
    for way in WAYS {
        let mut connection = way.open(&agent);
        let first = way.head(&agent, "POST", "/send/a", "content-length: 5\r\n");
        let cut_off = way.head(&agent, "POST", "/send/b", "content-length: 5\r\n");
        let sent = format!("{first}hello{}{cut_off}hell", way.head(&agent, "GET", "/parts", ""));
        connection.send(sent.as_bytes());
        connection.socket().shutdown(Shutdown::Write).unwrap();
        let texts = [connection.answer().unwrap(), connection.answer().unwrap()].map(|answer| answer.text());
        assert_eq!(texts, ["ok\n", "onetwo"], "{way:?}");
        let rest = connection.rest().unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 2"), "{way:?}: {}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(origin.hits().len(), 4);
}

/// A TLS client that announces its end waits for nothing more: TLS 1.2 has the other side discard what it still had to
/// say (RFC 5246 section 7.2.1).
#[test]
fn inside_tls_a_client_that_ends_its_side_is_gone() {
    let origin = Origin::https(&[API]).reply("/never", never());
    let gate = Plan::new().origin(API, &origin).start();
    let connection = gate.agent().begin("GET", "https://api.example/never", &[], b"");
    origin.wait_for(1);
    connection.socket().shutdown(Shutdown::Write).unwrap();
    let outcome = outcome(&gate, "/never");
    assert_eq!((&outcome["type"], &outcome["data"]["reason"]), (&"action.unknown".into(), &"client_gone".into()));
}

#[test]
fn a_connection_that_is_reset_cancels_its_request_at_once() {
    let (origin, gate) = plain();
    let connection = gate.agent().begin("GET", "http://plain.example/never", &[], b"");
    origin.wait_for(1);
    SockRef::from(connection.socket()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(connection);
    let outcome = outcome(&gate, "/never");
    assert_eq!((&outcome["type"], &outcome["data"]["reason"]), (&"action.unknown".into(), &"client_gone".into()));
}

/// A socket that was closed looks like one of which only the sending side was, until something is written to it.
#[test]
fn a_plain_client_that_is_gone_is_found_out_by_writing_to_it() {
    let (_origin, gate) = plain();
    drop(gate.agent().begin("GET", "http://plain.example/parts", &[], b""));
    let outcome = outcome(&gate, "/parts");
    assert_eq!((&outcome["type"], &outcome["data"]["ended"]), (&"action.executed".into(), &"client_gone".into()));
}

#[test]
fn a_denied_request_leaves_its_connection_to_the_next_one() {
    let (origin, gate) = plain();
    let agent = gate.agent();
    for way in WAYS {
        let mut connection = way.open(&agent);
        connection.send((way.head(&agent, "DELETE", "/x", "content-length: 5\r\n") + "hello").as_bytes());
        assert_eq!(connection.answer().unwrap().status, 403, "{way:?}");
        assert_eq!(connection.ask(&way.head(&agent, "GET", "/next", "")).status, 200, "{way:?}");
    }
    assert_eq!(origin.hits().len(), 2);
}

fn plain() -> (Origin, Gate) {
    let parts = ["one", "two"].map(|part| (Duration::from_millis(500), part.as_bytes().to_vec()));
    let origin = Origin::plain()
        .reply("/slow", Reply::ok().delay(Duration::from_secs(1)))
        .reply("/parts", Reply::new(200).chunks(parts.into()))
        .reply("/never", never());
    let gate = Plan::new().origin(PLAIN, &origin).start();
    (origin, gate)
}

fn never() -> Reply {
    Reply::ok().delay(Duration::from_secs(60))
}

/// How the one request for `path` ended.
fn outcome(gate: &Gate, path: &str) -> Value {
    let allowed = gate.wait_for("decision.allowed", |event| event["data"]["path"] == path);
    let id = &allowed["correlation_id"];
    let is_outcome = |event: &Value| event["correlation_id"] == *id && event["type"] != "decision.allowed";
    within(PATIENCE, || gate.events().into_iter().find(is_outcome)).expect("it never ended")
}

const WAYS: [Way; 2] = [Way::Absolute, Way::Tunnel];
