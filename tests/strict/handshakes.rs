//! F01 to F05, C23 to C26: what comes through a tunnel before the first request, and what TLS itself offers.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, HandshakeKind};

use super::client::{Client, Protocol, anyone};
use super::payload::latin1;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::API;

/// Row, and what is said in place of a ClientHello.
type Opening = (&'static str, Vec<u8>);

#[test]
fn f01_f05_only_a_sound_handshake_or_plain_http_gets_any_further() {
    let (origin, gate) = world();
    for (row, said) in openings() {
        let mut tunnel = gate.agent().open_tunnel("api.example:443");
        let start = Instant::now();
        said.chunks(64 * 1024).for_each(|piece| tunnel.send(piece));
        let answer = tunnel.rest().unwrap_or_else(|error| panic!("{row}: it is not closed: {error}"));
        let refused = answer.is_empty() || answer.starts_with(&[TLS_ALERT]) || answer.starts_with(b"HTTP/1.1 4");
        assert!(refused, "{row}: {}", String::from_utf8_lossy(&answer));
        assert!(start.elapsed() < Duration::from_secs(10), "{row}: {:?}", start.elapsed());
    }
    let mut sound = gate.agent().tunnel(API);
    assert_eq!(sound.ask("GET /x HTTP/1.1\r\nhost: api.example\r\n\r\n").status, 200, "after them");
    assert_eq!((origin.connections(), gate.events_called("decision.allowed").len()), (1, 1));
    gate.assert_verifies();
}

#[test]
fn f03_a_handshake_may_come_byte_by_byte() {
    let (origin, gate) = world();
    let tunnel = gate.agent().open_tunnel("api.example:443");
    let mut tls = tunnel.with_tls_in_pieces(anyone(b"http/1.1"), API, 1).unwrap();
    assert_eq!(tls.ask("GET /x HTTP/1.1\r\nhost: api.example\r\n\r\n").status, 200);
    assert_eq!(origin.hits().len(), 1);
}

#[test]
fn c23_no_protocol_is_agreed_on_but_http1_and_http2() {
    let (_origin, gate) = world();
    let client = Client::new(gate.agent());
    let offers: [(&[&str], Option<&str>); 8] = [
        (&["h3"], None),
        (&["http/1.0"], None),
        (&["smtp"], None),
        (&["H2", "HTTP/1.1"], None),
        (&[], Some("")),
        (&["h3", "http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["h3", "h2", "spdy/3"], Some("h2")),
    ];
    for (offered, agreed) in offers {
        let mut config = ClientConfig::clone(&anyone(b""));
        config.alpn_protocols = offered.iter().map(|each| each.as_bytes().to_vec()).collect();
        let tunnel = client.connect("api.example:443").unwrap();
        let got = tunnel.with_tls(Arc::new(config), API).map(|connection| connection.protocol());
        assert_eq!(got.ok().as_deref(), agreed, "{offered:?}");
    }
}

#[test]
fn c24_a_session_of_one_tunnel_is_worth_nothing_in_another() {
    let (origin, gate) = world();
    let client = Client::new(gate.agent());
    let ask = |target: &str| -> io::Result<(HandshakeKind, u16)> {
        let mut connection = client.secure(client.connect(target).unwrap(), API, Protocol::Http1)?;
        let status = connection.ask("GET /x HTTP/1.1\r\nhost: api.example\r\n\r\n").status;
        Ok((connection.handshake(), status))
    };
    assert_eq!(ask("api.example:443").unwrap(), (HandshakeKind::Full, 200));
    // The client offers what it was given before: to it, both are servers called api.example.
    for other in ["evil.example:443", "plain.example:443", "203.0.113.9:443"] {
        let (kind, status) = ask(other).unwrap();
        assert!(kind != HandshakeKind::Resumed && status == 421, "{other}: {kind:?} {status}");
    }
    assert_eq!(origin.hits().len(), 1);
}

fn world() -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin).limit("head_seconds", 1).limit("handshake_seconds", 1);
    (origin, plan.start())
}

fn openings() -> Vec<Opening> {
    let hello = |version: u16, suites: &[u16]| record(0x16, version, &handshake(1, &client_hello(version, suites)));
    let huge = [record(0x16, 0x0301, &[1, 0xff, 0xff, 0xff]), record(0x16, 0x0301, &[0; 16_000]).repeat(1000)].concat();
    vec![
        ("F01 SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("F01 SMTP", b"EHLO evil.example\r\n".to_vec()),
        ("F01 IMAP", b"a1 LOGIN x y\r\n".to_vec()),
        ("F01 Redis", b"*1\r\n$4\r\nPING\r\n".to_vec()),
        ("F01 zeroes", vec![0; 1000]),
        ("F01 Latin-1", latin1("\u{ff}\u{fb}\u{1}\u{80}")),
        ("F01 HTTP/2 without TLS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
        ("F01 data before a handshake", record(0x17, 0x0303, b"hello")),
        ("F01 an alert", record(0x15, 0x0303, &[1, 0])),
        ("F02 a tunnel in the tunnel", b"CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n".to_vec()),
        ("F03 a hello of 16 MB", huge),
        ("F03 a hello without an end", hello(0x0303, &[0xc02b]).into_iter().take(40).collect()),
        ("F05 SSL 2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec()),
        ("F05 SSL 3", hello(0x0300, &[0x0005, 0x000a])),
        ("F05 TLS 1.0", hello(0x0301, &[0x002f, 0xc013])),
        ("F05 TLS 1.1", hello(0x0302, &[0x002f, 0xc013])),
        ("F05 export and NULL suites", hello(0x0303, &[0x0003, 0x0008, 0x0001, 0x003b])),
        ("F05 RC4 and 3DES", hello(0x0303, &[0x0005, 0x000a])),
        ("F05 no key is exchanged", hello(0x0303, &[0x009c, 0x002f])),
    ]
}

/// As RFC 5246 section 7.4.1.2 writes it, without extensions.
fn client_hello(version: u16, suites: &[u16]) -> Vec<u8> {
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let length = u16::try_from(suites.len()).unwrap().to_be_bytes();
    [version.to_be_bytes().as_slice(), &[7; 32], &[0], &length, &suites, &[1, 0]].concat()
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

fn record(kind: u8, version: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [[kind].as_slice(), &version.to_be_bytes(), &length, body].concat()
}

/// First byte of a TLS record that carries an alert (RFC 8446 section 5.1).
const TLS_ALERT: u8 = 0x15;
