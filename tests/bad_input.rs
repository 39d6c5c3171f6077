//! Requests that are not one plain request, and names that disagree: answered, recorded, and never sent on.

use crate::harness::agent::{Agent, Connection, Response};
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::{API, PLAIN};

mod payloads;

/// How a payload reaches the gate.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// First on a connection, in absolute form.
    Plain,
    /// First in a tunnel.
    Tunnel,
    /// Second on a connection, in absolute form.
    SecondPlain,
    /// Second in a tunnel.
    SecondInTunnel,
}

/// Both origins behind one gate.
struct Stage {
    api: Origin,
    plain: Origin,
    gate: Gate,
}

#[test]
fn a_ambiguous_requests_on_a_plain_connection() {
    refuse_all(Way::Plain);
}

#[test]
fn a_ambiguous_requests_in_a_tunnel() {
    refuse_all(Way::Tunnel);
}

#[test]
fn a_ambiguous_requests_second_on_a_plain_connection() {
    refuse_all(Way::SecondPlain);
}

#[test]
fn a_ambiguous_requests_second_in_a_tunnel() {
    refuse_all(Way::SecondInTunnel);
}

#[test]
fn a28_connect_has_no_body_and_no_other_target_than_host_and_port() {
    let stage = stage();
    let agent = stage.gate.agent();
    let heads = [
        "CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\ncontent-length: 4\r\n",
        "CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\ntransfer-encoding: chunked\r\n",
        "CONNECT api.example HTTP/1.1\r\nhost: api.example\r\n",
        "CONNECT me@api.example:443 HTTP/1.1\r\nhost: api.example:443\r\n",
        "CONNECT https://api.example:443/ HTTP/1.1\r\nhost: api.example:443\r\n",
        "CONNECT api.example:0443 HTTP/1.1\r\nhost: api.example:443\r\n",
        "CONNECT api.example:99999 HTTP/1.1\r\nhost: api.example\r\n",
        "CONNECT api.example.:443 HTTP/1.1\r\nhost: api.example:443\r\n",
        "CONNECT api_1.example:443 HTTP/1.1\r\nhost: api_1.example:443\r\n",
        "CONNECT 2130706433:443 HTTP/1.1\r\nhost: 2130706433:443\r\n",
        "CONNECT [::1%25lo]:443 HTTP/1.1\r\nhost: [::1%25lo]:443\r\n",
    ];
    for head in heads {
        let mut connection = agent.connect();
        let answer = connection.ask(&format!("{head}{}\r\n", agent.credential()));
        assert_eq!((answer.status, connection.is_closed()), (400, true), "{head}");
    }
    stage.assert_nothing_left();
}

#[test]
fn trace_is_never_forwarded() {
    let stage = stage();
    let agent = stage.gate.agent();
    for method in ["TRACE", "TRACK"] {
        for url in ["http://plain.example/a", "https://api.example/a"] {
            let answer = agent.request(method, url, &[], b"");
            assert_eq!((answer.status, answer.code().as_str()), (403, "method_refused"), "{method} {url}");
        }
    }
    let answer = agent.tunnel(API).ask("CONNECT plain.example:80 HTTP/1.1\r\nhost: plain.example:80\r\n\r\n");
    assert_eq!(answer.code(), "method_refused", "a tunnel in a tunnel");
    stage.assert_nothing_left();
}

#[test]
fn c_names_that_disagree_are_misdirected() {
    let stage = stage();
    let agent = stage.gate.agent();
    let tunnelled = [
        "GET /a HTTP/1.1\r\nhost: plain.example\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: api.example:444\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: api.example.evil.example\r\n\r\n",
        "GET https://plain.example/a HTTP/1.1\r\nhost: api.example\r\n\r\n",
        "GET https://api.example/a HTTP/1.1\r\nhost: plain.example\r\n\r\n",
        "GET http://api.example/a HTTP/1.1\r\nhost: api.example\r\n\r\n",
        "GET https://api.example:444/a HTTP/1.1\r\nhost: api.example\r\n\r\n",
    ];
    for head in tunnelled {
        misdirected(agent.tunnel(API), head);
    }
    let absolute = [
        "GET http://plain.example/a HTTP/1.1\r\nhost: api.example\r\n",
        "GET http://plain.example/a HTTP/1.1\r\nhost: plain.example:81\r\n",
        "GET http://plain.example:81/a HTTP/1.1\r\nhost: plain.example\r\n",
        "GET /a HTTP/1.1\r\nhost: plain.example\r\n",
    ];
    for head in absolute {
        misdirected(agent.connect(), &format!("{head}{}\r\n", agent.credential()));
    }
    let connect = "CONNECT api.example:443 HTTP/1.1\r\nhost: plain.example:443\r\n";
    misdirected(agent.connect(), &format!("{connect}{}\r\n", agent.credential()));
    stage.assert_nothing_left();
    assert_eq!(stage.gate.events_called("violation").len(), tunnelled.len() + absolute.len() + 1);
}

#[test]
fn c01_a_server_name_other_than_the_tunnels_is_misdirected() {
    let stage = stage();
    let agent = stage.gate.agent().without_verification();
    for (host, server_name) in [(API, PLAIN), (PLAIN, API), (API, "127.0.0.1"), (API, "a.api.example")] {
        for named in [host, server_name] {
            let head = format!("GET /a HTTP/1.1\r\nhost: {named}\r\n\r\n");
            misdirected(agent.tunnel_as(host, server_name), &head);
        }
    }
    stage.assert_nothing_left();
}

#[test]
fn c04_a_later_request_cannot_name_another_host() {
    let stage = stage();
    let mut tunnel = stage.gate.agent().tunnel(API);
    for spelling in ["api.example", "API.Example", "api.example:443"] {
        assert_eq!(tunnel.ask(&format!("GET /a HTTP/1.1\r\nhost: {spelling}\r\n\r\n")).status, 200, "{spelling}");
    }
    assert_eq!(tunnel.ask("GET https://api.example/a HTTP/1.1\r\nhost: api.example\r\n\r\n").status, 200);
    misdirected(tunnel, "GET /a HTTP/1.1\r\nhost: plain.example\r\n\r\n");
    assert_eq!((stage.api.hits().len(), stage.plain.connections()), (4, 0));
}

#[test]
fn bodies_over_the_limit_are_refused_declared_or_not() {
    let stage = stage();
    let agent = stage.gate.agent();
    let head = "POST /small/x HTTP/1.1\r\nhost: api.example\r\n";
    let bodies = [
        "content-length: 17\r\n\r\n".to_owned(),
        "transfer-encoding: chunked\r\n\r\n8\r\n01234567\r\n9\r\n012345678\r\n0\r\n\r\n".to_owned(),
    ];
    for body in bodies {
        let mut tunnel = agent.tunnel(API);
        let answer = tunnel.ask(&format!("{head}{body}"));
        assert_eq!(
            (answer.status, answer.code().as_str(), tunnel.is_closed()),
            (413, "body_too_large", true),
            "{body}"
        );
    }
    stage.assert_nothing_left();
    let answer = agent.tunnel(API).ask(&format!("{head}content-length: 16\r\n\r\n0123456789abcdef"));
    assert_eq!((answer.status, stage.api.hits()[0].body.len()), (200, 16));
}

#[test]
fn what_is_neither_tls_nor_http_in_a_tunnel_is_closed_and_recorded() {
    let stage = stage();
    let agent = stage.gate.agent();
    let noise: [&[u8]; 3] = [b"\x00\x01\x02\x03", b"\x80\x2e\x01\x00\x02", b"\xff\xfb\x01"];
    for bytes in noise {
        let mut connection = agent.open_tunnel("api.example:443");
        connection.send(bytes);
        assert!(connection.is_closed(), "{bytes:?}");
    }
    stage.gate.wait_for("violation", |event| event["data"]["kind"] == "ambiguous_request");
    assert_eq!(stage.gate.events_called("violation").len(), noise.len());
    for bytes in [b"\x16\x03\x01\x00\x05hello".as_slice(), b"\x16\xff\xff\xff\xff\xff\xff"] {
        let mut connection = agent.open_tunnel("api.example:443");
        connection.send(bytes);
        // A TLS alert may come first.
        assert!(connection.rest().is_ok(), "{bytes:?}");
    }
    let mut connection = agent.open_tunnel("api.example:443");
    connection.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n");
    assert_eq!((connection.answer().unwrap().status, connection.is_closed()), (400, true));
    stage.assert_nothing_left();
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).limit("head_seconds", 1).limit("body_seconds", 1).start();
    let agent = gate.agent();
    let unfinished = [
        "GET /a HTTP/1.1\r\nhost: api.example\r\n",
        "GET /a HTTP/1.1\r\nhost: api.example\r\n\r",
        "POST /send/x HTTP/1.1\r\nhost: api.example\r\ncontent-length: 5\r\n\r\nhell",
        "POST /send/x HTTP/1.1\r\nhost: api.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ];
    for head in unfinished {
        let mut tunnel = agent.tunnel(API);
        let answer = tunnel.ask(head);
        assert_eq!((answer.status, tunnel.is_closed()), (408, true), "{head:?}");
    }
    assert_eq!(origin.connections(), 0);
}

// === impl Stage ===

impl Stage {
    fn assert_nothing_left(&self) {
        assert_eq!((self.api.connections(), self.plain.connections()), (0, 0), "something reached an origin");
        assert!(self.gate.events_called("decision.allowed").is_empty(), "something was allowed");
    }

    /// A connection on which the payload comes next.
    fn open(&self, agent: &Agent, way: Way) -> Connection {
        match way {
            Way::Plain => agent.connect(),
            Way::Tunnel => agent.tunnel(API),
            Way::SecondPlain => {
                let mut connection = agent.connect();
                let first =
                    format!("GET http://plain.example/first HTTP/1.1\r\nhost: {PLAIN}\r\n{}\r\n", agent.credential());
                assert_eq!(connection.ask(&first).status, 200);
                connection
            }
            Way::SecondInTunnel => {
                let mut connection = agent.tunnel(API);
                assert_eq!(connection.ask("GET /first HTTP/1.1\r\nhost: api.example\r\n\r\n").status, 200);
                connection
            }
        }
    }

    /// Sends a payload; what was wrong with the answer, if anything.
    fn refusal(&self, agent: &Agent, way: Way, payload: &str) -> Result<(), String> {
        let mut connection = self.open(agent, way);
        connection.send(&way.bytes(payload, agent));
        let answer = connection.answer().map_err(|error| format!("no answer: {error}"))?;
        if ![400, 421].contains(&answer.status) {
            return Err(format!("answered {}: {}", answer.status, answer.text()));
        }
        if connection.is_closed() { Ok(()) } else { Err("the connection stays open".to_owned()) }
    }
}

// === impl Way ===

impl Way {
    fn in_tunnel(self) -> bool {
        match self {
            Way::Plain | Way::SecondPlain => false,
            Way::SecondInTunnel | Way::Tunnel => true,
        }
    }

    fn is_second(self) -> bool {
        match self {
            Way::Plain | Way::Tunnel => false,
            Way::SecondInTunnel | Way::SecondPlain => true,
        }
    }

    fn bytes(self, payload: &str, agent: &Agent) -> Vec<u8> {
        let (host, origin, credential) = if self.in_tunnel() {
            (API, "", String::new())
        } else {
            (PLAIN, "http://plain.example", agent.credential())
        };
        let text = payload.replace('$', host).replace('@', origin).replace('~', &credential);
        text.chars().map(|each| u8::try_from(each).unwrap()).collect()
    }
}

/// Sends every payload on a connection of its own. Each is refused and its connection closed, and what the origins saw
/// is what the ledger allowed.
fn refuse_all(way: Way) {
    let stage = stage();
    let agent = stage.gate.agent();
    let chunked = payloads::BODIES.iter().map(|(name, body)| {
        let head = "POST @/send/x HTTP/1.1\r\nhost: %\r\n~transfer-encoding: chunked\r\n\r\n";
        (*name, format!("{head}{body}"))
    });
    let heads = payloads::HEADS.iter().map(|(name, payload)| (*name, (*payload).to_owned()));
    let all: Vec<_> = heads.chain(chunked).collect();
    let faults: Vec<String> = all
        .iter()
        .filter_map(|(name, payload)| Some(format!("{name}: {}", stage.refusal(&agent, way, payload).err()?)))
        .collect();
    assert!(faults.is_empty(), "{way:?}:\n{}", faults.join("\n"));

    let firsts = if way.is_second() { all.len() } else { 0 };
    let hits: Vec<String> = [stage.api.hits(), stage.plain.hits()].concat().into_iter().map(|hit| hit.target).collect();
    assert_eq!(hits, vec!["/first".to_owned(); firsts]);
    assert_eq!(stage.gate.events_called("decision.allowed").len(), firsts);
    assert!(stage.gate.events_called("violation").len() >= all.len(), "some refusals are not recorded");
}

fn stage() -> Stage {
    let (api, plain) = (Origin::https(&[API]), Origin::plain());
    let gate = Plan::new().origin(API, &api).origin(PLAIN, &plain).limit("refusals_per_second", 1000).start();
    Stage { api, plain, gate }
}

fn misdirected(mut connection: Connection, head: &str) {
    let answer: Response = connection.ask(head);
    assert_eq!(
        (answer.status, answer.code().as_str(), connection.is_closed()),
        (421, "authority_mismatch", true),
        "{head}"
    );
}
