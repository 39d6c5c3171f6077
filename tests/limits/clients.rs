//! How long a client may take, how many may come, and how often they may be refused or make the gate work.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::Origin;
use crate::harness::world::{API, PLAIN};
use crate::limits::soon;

#[test]
fn head_seconds_ends_a_slow_head_also_behind_another_request() {
    let origin = Origin::plain();
    let gate = Plan::new().origin(PLAIN, &origin).limit("head_seconds", 1).start();
    let mut first = gate.agent().connect();
    first.send(b"GET http://plain.example/a HT");
    let mut second = gate.agent().connect();
    assert_eq!(second.ask(&health(&gate)).status, 200);
    second.send(b"GET http://plain.example/b HT");
    for (what, mut connection) in [("first", first), ("second", second)] {
        let answer = soon("head_seconds", || connection.answer()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"), "{what}");
        assert!(connection.is_closed(), "{what}");
    }
    assert_eq!(origin.hits().len(), 0);
}

#[test]
fn body_seconds_ends_a_slow_body() {
    let origin = Origin::plain();
    let gate = Plan::new().origin(PLAIN, &origin).limit("body_seconds", 1).start();
    let agent = gate.agent();
    let mut connection = agent.connect();
    let head = format!(
        "POST http://{PLAIN}/send/x HTTP/1.1\r\nhost: {PLAIN}\r\n{}content-length: 9\r\n\r\n",
        agent.credential()
    );
    connection.send(format!("{head}half").as_bytes());
    let answer = soon("body_seconds", || connection.answer().unwrap());
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"), "{answer:?}");
    assert!(connection.is_closed());
    assert_eq!(origin.hits().len(), 0);
}

#[test]
fn idle_seconds_ends_a_silent_connection() {
    let gate = Plan::new().limit("idle_seconds", 1).start();
    let mut connection = gate.agent().connect();
    assert_eq!(connection.ask(&health(&gate)).status, 200);
    assert!(soon("idle_seconds", || connection.is_closed()));
}

#[test]
fn handshake_seconds_ends_a_tunnel_without_tls() {
    let gate = Plan::new().limit("handshake_seconds", 1).start();
    for said in [b"".as_slice(), b"\x16\x03\x01\x02\x00\x01"] {
        let mut tunnel = gate.agent().open_tunnel("api.example:443");
        tunnel.send(said);
        assert!(soon("handshake_seconds", || tunnel.is_closed()), "{said:?}");
    }
}

#[test]
fn max_connections_closes_one_more_until_another_ends() {
    let gate = Plan::new().limit("max_connections", 1).start();
    let served = || {
        let mut connection = gate.agent().connect();
        connection.send(health(&gate).as_bytes());
        connection.answer().is_ok_and(|answer| answer.status == 200).then_some(connection)
    };
    let kept = served().expect("the first is served");
    assert!(served().is_none(), "one more was served");
    drop(kept);
    within(PATIENCE, served).expect("the place is free again");
}

#[test]
fn connections_per_source_closes_one_more_and_leaves_others_alone() {
    let gate = Plan::new().limit("connections_per_source", 1).start();
    let from = |source: [u8; 4]| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&gate.forward.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        // A refused connection may be gone before it is written to.
        drop(stream.write_all(health(&gate).as_bytes()));
        let mut first = [0; 1];
        let answered = matches!(stream.read(&mut first), Ok(1));
        (answered, stream)
    };
    let (served, kept) = from([127, 0, 0, 1]);
    assert!(served);
    assert!(!from([127, 0, 0, 1]).0, "a second connection of one source was served");
    assert!(from([127, 0, 0, 2]).0, "another source was refused");
    drop(kept);
    within(PATIENCE, || from([127, 0, 0, 1]).0.then_some(())).expect("the place is free again");
}

/// Half of the descriptors are for clients; when there are none at all for a while, the door is open again afterwards.
#[test]
fn l03_a_crowd_takes_no_more_descriptors_than_there_are() {
    let origin = Origin::plain();
    let few = ["prlimit", "--nofile=80:80"];
    let gate = Plan::new().origin(PLAIN, &origin).under(&few).start();
    let ask = || gate.agent().get("http://plain.example/x").status;
    assert_eq!(ask(), 200);
    for _ in 0..3 {
        let crowd: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(gate.forward).unwrap()).collect();
        // The door is closed to most of them, and does not answer for want of descriptors.
        let refused = crowd.iter().filter(|stream| is_ended(stream)).count();
        assert!((200..300).contains(&refused), "{refused} of 300 were refused");
        drop(crowd);
        let again = || gate.agent().try_request("GET", "http://plain.example/x", &[], b"").ok();
        let answer = within(PATIENCE, || again().filter(|answer| answer.status == 200));
        assert!(answer.is_some(), "the door is not open again");
    }
    gate.assert_verifies();
}

#[test]
fn leaves_bounds_the_certificates_kept() {
    let changes = |gate: &Gate| {
        let leaves = || ["one.example", "two.example"].map(|host| gate.agent().tunnel(host).leaf());
        let first = leaves();
        (0..ROUNDS).any(|_| leaves() != first)
    };
    let plan = || Plan::new().limit("leaves_per_minute", 10_000);
    assert!(!changes(&plan().start()), "a kept leaf is used again");
    assert!(changes(&plan().limit("leaves", 1).start()), "more leaves were kept than allowed");
}

#[test]
fn leaves_per_minute_bounds_what_one_agent_may_cause() {
    let gate = Plan::new().limit("leaves_per_minute", 2).start();
    let other = gate.add_agent("other", "");
    let agent = gate.agent();
    // The third one needs no new leaf.
    for host in ["one.example", "two.example", "one.example"] {
        agent.tunnel(host);
    }
    let ask = |who: &crate::harness::agent::Agent| {
        let target = "three.example:443";
        who.connect().ask(&format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{}\r\n", who.credential()))
    };
    let answer = ask(&agent);
    assert_eq!((answer.status, answer.code().as_str()), (429, "too_many"), "{answer:?}");
    assert_eq!(ask(&other).status, 200, "another agent has its own share");
}

#[test]
fn refusals_per_second_counts_a_flood_instead_of_recording_it() {
    let gate = Plan::new().limit("refusals_per_second", 1).start();
    let stranger = gate.agent().with_token("writ_agt_wrong");
    for _ in 0..FLOOD {
        let answer = stranger.get("http://plain.example/");
        assert_eq!((answer.status, answer.code().as_str()), (407, "credential_invalid"));
    }
    let told = || {
        let events = gate.events().into_iter().filter(|event| event["data"]["code"] == "credential_invalid");
        let (counted, single): (Vec<_>, Vec<_>) = events.partition(|event| event["data"]["aggregated"] == true);
        let sum: u64 = counted.iter().map(|event| event["data"]["count"].as_u64().unwrap()).sum();
        (single.len() as u64, sum)
    };
    let all = within(PATIENCE, || Some(told()).filter(|(single, counted)| single + counted == FLOOD));
    let (single, counted) = all.unwrap_or_else(|| panic!("{:?} of {FLOOD}", told()));
    assert!(counted > single, "{single} recorded one by one, {counted} counted");
}

#[test]
fn drain_seconds_bounds_a_shutdown_and_the_next_start_says_what_it_cut_off() {
    let origin = Origin::https(&[API]).reply("/never", super::upstreams::never());
    let gate = Plan::new().origin(API, &origin).limit("drain_seconds", 1).start();
    let _waiting = gate.agent().begin("GET", "https://api.example/never", &[], b"");
    within(PATIENCE, || (origin.hits().len() == 1).then_some(())).unwrap();
    let gate = soon("drain_seconds", || gate.stop()).start();
    let unknown = gate.events_called("action.unknown");
    assert_eq!((unknown.len(), origin.hits().len()), (1, 1), "{unknown:?}");
    gate.assert_verifies();
}

fn is_ended(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// A request that anyone may send to the gate itself.
fn health(gate: &Gate) -> String {
    format!("GET /health HTTP/1.1\r\nhost: {}\r\n\r\n", gate.forward)
}

const FLOOD: u64 = 40;

/// Enough for the cache to have swept itself.
const ROUNDS: usize = 100;
