//! WebSockets: what both sides of the handshake must say, and what is never handed over. Real clients and servers talk
//! in `tests/clients/test_websocket.py`.

use crate::harness::agent::{Connection, Response};
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, DESTINATIONS, SECRET};

#[test]
fn an_agreed_connection_is_handed_over_frame_by_frame() {
    let (_origin, gate) = socket(&format!("{AGREED}\r\n\u{81}\u{5}hello"), "credential: api\n    upgrade: websocket");
    let mut tunnel = gate.agent().tunnel(API);
    tunnel.send(handshake("").as_bytes());
    let head = String::from_utf8(tunnel.through(b"\r\n\r\n").unwrap()).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for line in ["upgrade: websocket", "connection: upgrade", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="] {
        assert!(head.lines().any(|each| each == line), "{line}: {head}");
    }
    let correlation = head.lines().find_map(|line| line.strip_prefix("writ-correlation-id: ")).unwrap();
    assert_eq!(tunnel.through(b"hello").unwrap(), b"\x81\x05hello");
    let outcome = gate.event("action.executed", correlation);
    assert_eq!(
        (&outcome["data"]["status"], &outcome["data"]["websocket"]["received"]["bytes"]),
        (&101.into(), &7.into())
    );
}

#[test]
fn a_message_over_the_limit_is_not_passed() {
    let bytes = format!("{AGREED}\r\n\u{1}\u{5}hello");
    let origin = Origin::https(&[API]).reply("/", Reply::raw(bytes));
    let gate = opened("credential: api\n    upgrade: websocket").origin(API, &origin);
    let gate = gate.limit("websocket_message_bytes", 4).start();
    let mut tunnel = gate.agent().tunnel(API);
    tunnel.send(handshake("").as_bytes());
    tunnel.through(b"\r\n\r\n").unwrap();
    // A close frame of the gate's own, with 1009.
    assert_eq!(tunnel.rest().unwrap(), [0x88, 2, 0x03, 0xf1]);
    let outcome = gate.wait_for("action.executed", |event| event["data"]["status"] == 101);
    assert_eq!(outcome["data"]["ended"], "message_too_large");
}

#[test]
fn a_credential_that_comes_back_in_several_frames_is_not_passed() {
    let (one, rest) = SECRET.split_at(5);
    let (two, three) = rest.split_at(5);
    let last = format!("\u{80}\u{4}{three}");
    for (sent, passed) in [
        (format!("\u{81}\u{e}{SECRET}"), &b"\x88\x02\x03\xf0"[..]),
        (format!("\u{1}\u{5}{one}\u{0}\u{5}{two}{last}"), b""),
        (format!("\u{1}\u{5}{one}\u{89}\u{1}x\u{0}\u{0}\u{0}\u{5}{two}{last}"), b""),
        (format!("\u{81}\u{2}ok\u{89}\u{e}{SECRET}"), b""),
    ] {
        let (_origin, gate) = socket(&format!("{AGREED}\r\n{sent}"), "credential: api\n    upgrade: websocket");
        let seen = carried(&gate);
        assert!(!seen.windows(3).any(|some| SECRET.as_bytes().windows(3).any(|part| part == some)), "{seen:?}");
        assert!(seen.ends_with(passed), "{seen:?}");
        let outcome = gate.wait_for("action.executed", |event| event["data"]["status"] == 101);
        assert_eq!(outcome["data"]["ended"], "credential_echoed", "{sent:?}");
        assert_eq!(gate.events_called("violation")[0]["data"]["kind"], "secret_echoed");
    }
}

#[test]
fn what_only_begins_like_the_credential_waits_and_then_passes_unmodified() {
    let (begins, _) = SECRET.split_at(5);
    for sent in [
        format!("\u{1}\u{5}{begins}\u{89}\u{1}x\u{0}\u{0}\u{80}\u{4}ned!\u{81}\u{5}{begins}"),
        format!("\u{81}\u{5}{begins}\u{89}\u{5}{begins}\u{82}\u{0}"),
    ] {
        let (_origin, gate) = socket(&format!("{AGREED}\r\n{sent}"), "credential: api\n    upgrade: websocket");
        let expected: Vec<u8> = sent.chars().map(|each| u8::try_from(u32::from(each)).unwrap()).collect();
        assert_eq!(carried(&gate), expected);
    }
}

#[test]
fn a_reply_that_agrees_to_something_else_is_not_handed_over() {
    for head in [
        AGREED.replace("s3pP", "S3pP"),
        AGREED.replace("sec-websocket-accept", "x-accept"),
        AGREED.replace("upgrade: websocket", "upgrade: h2c"),
        AGREED.replace("connection: upgrade", "connection: close"),
        format!("{AGREED}sec-websocket-extensions: permessage-deflate\r\n"),
        format!("{AGREED}sec-websocket-protocol: chat\r\n"),
        format!("{AGREED}content-length: 5\r\n"),
    ] {
        let (_origin, gate) = socket(&format!("{head}\r\nsmuggled"), "credential: api\n    upgrade: websocket");
        let answer = ask(&gate, &handshake(""));
        assert_eq!((answer.status, answer.text().contains("smuggled")), (502, false), "{head}: {answer:?}");
    }
}

#[test]
fn f06_what_is_no_whole_handshake_or_not_opened_never_leaves() {
    let (origin, gate) = socket(&format!("{AGREED}\r\n"), "credential: api\n    upgrade: websocket");
    for head in [
        handshake("").replace("GET", "POST"),
        handshake("").replace("HTTP/1.1", "HTTP/1.0"),
        handshake("").replace("version: 13", "version: 8"),
        handshake("").replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
        handshake("").replace("connection: upgrade", "connection: keep-alive"),
        handshake("upgrade: websocket\r\n"),
        handshake("sec-websocket-version: 13\r\n"),
        handshake("content-length: 5\r\n"),
    ] {
        let answer = ask(&gate, &(head.clone() + "hello"));
        assert_eq!((answer.status, answer.code().as_str()), (400, "ambiguous_request"), "{head}");
    }
    assert_eq!(origin.connections(), 0);
    let (origin, gate) = socket(&format!("{AGREED}\r\n"), "credential: api");
    assert_eq!(ask(&gate, &handshake("")).code(), "upgrade_refused");
    assert_eq!(origin.connections(), 0);
}

/// What an agent gets over the connection until it ends.
fn carried(gate: &Gate) -> Vec<u8> {
    let mut tunnel = gate.agent().tunnel(API);
    tunnel.send(handshake("").as_bytes());
    tunnel.through(b"\r\n\r\n").unwrap();
    tunnel.rest().unwrap()
}

/// A gate in front of an API that answers every request with these bytes, and closes.
fn socket(reply: &str, settings: &str) -> (Origin, Gate) {
    let bytes: Vec<u8> = reply.chars().map(|each| u8::try_from(u32::from(each)).unwrap()).collect();
    let origin = Origin::https(&[API]).reply("/", Reply::raw(bytes));
    let gate = opened(settings).origin(API, &origin).start();
    (origin, gate)
}

/// The shared world, with other settings for what may be read.
fn opened(settings: &str) -> Plan {
    Plan::new().file("destinations.yaml", &DESTINATIONS.replacen("credential: api", settings, 1))
}

fn ask(gate: &Gate, head: &str) -> Response {
    let mut tunnel: Connection = gate.agent().tunnel(API);
    tunnel.ask(head)
}

/// The request of RFC 6455 section 1.3.
fn handshake(more: &str) -> String {
    format!(
        "GET /socket HTTP/1.1\r\nhost: api.example\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n{more}\r\n"
    )
}

/// And the head of its answer, without the empty line.
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
