//! What an upstream connection may be used for, and what an upstream may do on it: A32, A43, B19, E14, E17, E19, F24.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::addresses::Trap;
use super::client::Client;
use crate::harness::agent::Agent;
use crate::harness::gate::Plan;
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, PLAIN, SECRET};

/// A server that answers each connection with a reply of its own as soon as it has read a head, and reads no more.
struct Hasty {
    port: u16,
    connections: Arc<AtomicUsize>,
}

// === impl Hasty ===

impl Hasty {
    fn start() -> Hasty {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            // They stay open as long as the gate keeps them.
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                kept.push(answer_early(stream.unwrap(), number));
            }
        });
        Hasty { port, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

#[test]
fn a32_a_connection_whose_upstream_did_not_read_a_body_is_not_used_again() {
    let hasty = Hasty::start();
    let gate = Plan::new().dial("plain.example:80", hasty.port).start();
    let body = "x".repeat(16 << 20);
    for number in 0..3 {
        let answer = gate.agent().post("http://plain.example/send/x", &body);
        assert_eq!((answer.status, answer.text()), (200, number.to_string()));
    }
    assert_eq!(gate.agent().get("http://plain.example/x").text(), "3");
    assert_eq!(hasty.connections(), 4);
}

#[test]
fn a43_no_upstream_is_connected_to_before_a_request_is_whole() {
    let origin = Origin::plain();
    let gate = Plan::new().origin(PLAIN, &origin).limit("head_seconds", 1).limit("body_seconds", 1).start();
    let agent = gate.agent();
    let head = format!("POST http://{PLAIN}/send/x HTTP/1.1\r\nhost: {PLAIN}\r\n{}", agent.credential());
    let pauses = [
        String::new(),
        "transfer-encoding: chunked\r\n\r\n".to_owned(),
        "transfer-encoding: chunked\r\n\r\n5\r\nhel".to_owned(),
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n".to_owned(),
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n".to_owned(),
        "content-length: 5\r\n\r\n".to_owned(),
        "expect: 100-continue\r\ncontent-length: 5\r\n\r\n".to_owned(),
    ];
    for rest in pauses {
        let mut connection = agent.connect();
        connection.send((head.clone() + &rest).as_bytes());
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"), "{rest:?}");
        assert!(connection.is_closed(), "{rest:?}");
    }
    assert_eq!((origin.connections(), gate.events_called("decision.allowed").len()), (0, 0));
}

/// What comes back through another proxy has lost its credential: the loop ends after one round.
#[test]
fn e14_a_way_back_to_the_gate_through_another_proxy_ends_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = Plan::new().dial("plain.example:80", listener.local_addr().unwrap().port()).start();
    let door = gate.forward;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || pass_back(stream.unwrap(), TcpStream::connect(door).unwrap()));
        }
    });
    let answer = gate.agent().get("http://plain.example/x");
    assert_eq!((answer.status, answer.code().as_str()), (407, "credential_required"), "{answer:?}");
    assert_eq!(gate.events_called("decision.allowed").len(), 1);
}

#[test]
fn e17_the_gate_takes_no_proxy_from_its_environment() {
    let (api, plain) = (Origin::https(&[API]), Origin::plain());
    let trap = Trap::at(([127, 0, 0, 1], 0).into()).unwrap();
    let proxy = format!("http://{}", trap.address);
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "CGI_HTTP_PROXY"];
    let plan = names.iter().fold(Plan::new(), |plan, name| plan.variable(name, &proxy));
    let gate = plan.variable("NO_PROXY", "").origin(API, &api).origin(PLAIN, &plain).start();
    assert_eq!(gate.agent().get("https://api.example/x").status, 200);
    assert_eq!(gate.agent().get("http://plain.example/x").status, 200);
    assert_eq!((trap.caught(), api.hits().len(), plain.hits().len()), (0, 1, 1));
}

#[test]
fn e19_no_request_goes_to_a_server_that_cannot_prove_its_name() {
    let elsewhere = Origin::https(&["other.example"]);
    let expired = Origin::expired(&[API]);
    let unknown = Origin::https(&[API]);
    let plain = Origin::plain();
    for (what, plan) in [
        ("another name", Plan::new().origin("other.example", &elsewhere).dial("api.example:443", elsewhere.port())),
        ("an expired certificate", Plan::new().origin(API, &expired)),
        ("an unknown authority", Plan::new().dial("api.example:443", unknown.port())),
        ("no TLS", Plan::new().dial("api.example:443", plain.port())),
    ] {
        let gate = plan.start();
        let answer = gate.agent().get("https://api.example/x");
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"), "{what}");
        let outcome = gate.event("action.failed", &answer.correlation());
        assert_eq!(outcome["data"]["sent"], false, "{what}");
    }
    for (origin, what) in [(elsewhere, "elsewhere"), (expired, "expired"), (unknown, "unknown"), (plain, "plain")] {
        let seen = origin.hits();
        assert!(seen.is_empty(), "{what}: {seen:?}");
        assert!(!format!("{seen:?}").contains(SECRET));
    }
}

#[test]
fn f24_nothing_is_answered_from_memory() {
    let fresh = Reply::ok().header("cache-control", "public, max-age=3600, immutable").header("etag", "\"1\"");
    let origin = Origin::https(&[API]).reply("/", fresh);
    let gate = Plan::new().origin(API, &origin).start();
    let agents: [Agent; 3] = [gate.agent(), gate.agent(), gate.add_agent("other", "")];
    for agent in &agents {
        assert_eq!(agent.get("https://api.example/x").status, 200);
    }
    assert_eq!(origin.hits().len(), 3);
}

#[test]
fn e15_a_port_that_no_destination_lists_is_denied_inside() {
    let origin = Origin::https(&[API]);
    let ports = [22, 25, 53, 80, 2375, 6379, 8443, 11211];
    let plan = ports.iter().fold(Plan::new(), |plan, port| plan.dial(&format!("api.example:{port}"), origin.port()));
    let gate = plan.limit("leaves_per_minute", 1000).start();
    let client = Client::new(gate.agent());
    for port in ports {
        let mut tunnel = client.connect(&format!("api.example:{port}")).unwrap();
        let answer = tunnel.ask(&format!("GET /x HTTP/1.1\r\nhost: api.example:{port}\r\n\r\n"));
        assert_eq!((answer.status, answer.code().as_str()), (403, "denied"), "{port}");
    }
    for target in ["api.example:0", "api.example:65536", "api.example:-1", "api.example:", "api.example"] {
        assert_eq!(client.connect(target).err(), Some(400), "{target}");
    }
    assert_eq!(origin.connections(), 0);
}

/// Reads a head, answers with the connection's number, and keeps the connection.
fn answer_early(mut stream: TcpStream, number: usize) -> TcpStream {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}").as_bytes()).unwrap();
    stream
}

/// Sends a request on in absolute form, as a proxy would, and its reply back.
fn pass_back(mut from: TcpStream, mut to: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        from.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().replacen(" /", " http://plain.example/", 1);
    to.write_all(head.as_bytes()).unwrap();
    std::io::copy(&mut to, &mut from).unwrap();
}
