//! A40, B19: an upstream that speaks HTTP/2 as nobody should. The agent gets 502 or a reply that is visibly cut off, nothing
//! of it reaches another request, and every permit has an outcome.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::frames::{ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, block, frame};
use crate::harness::gate::{PATIENCE, Plan, within};
use crate::harness::world::{API, DESTINATIONS};

/// Row, and what the upstream sends once it has read a request on stream 1.
type Script = (&'static str, Vec<u8>);

#[test]
fn a40_b19_a_reply_over_http2_is_sound_or_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (config, roots) = certify();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), roots).unwrap();
    let scripts = scripts();
    // A sound reply follows each of them, on a connection of its own.
    let said: Vec<Vec<u8>> = scripts.iter().flat_map(|(_, script)| [script.clone(), sound()]).collect();
    std::thread::spawn(move || {
        for (stream, script) in listener.incoming().zip(said) {
            // How the gate ends the connection is its own affair.
            drop(answer(stream.unwrap(), &config, &script));
        }
    });
    let trusting = format!("    credential: api\n    roots: '{}'\n", file.path().display());
    let destinations = DESTINATIONS.replace("    credential: api\n", &trusting);
    let gate = Plan::new().file("destinations.yaml", &destinations).dial("api.example:443", port).start();
    let agent = gate.agent();
    let mut wrong = Vec::new();
    for (row, _) in &scripts {
        // A reply that breaks off early enough has no head either.
        if let Ok(answer) = agent.try_request("GET", "https://api.example/x", &[], b"") {
            let refused = answer.status == 502 || (answer.status == 200 && !answer.complete);
            if !refused || format!("{answer:?}{}", answer.text()).contains("injected") {
                wrong.push(format!("{row}: {answer:?}"));
            }
        }
        // A request that still meets the dying connection has failed, and is not sent again.
        let next = || Some(agent.get("https://api.example/next")).filter(|next| next.status != 502);
        let next = (0..5).find_map(|_| next()).unwrap_or_else(|| panic!("no reply after {row}"));
        assert_eq!((next.status, next.text().as_str(), next.complete), (200, "sound", true), "after {row}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{} replies", scripts.len());
    let outcomes = || {
        let kinds = ["action.executed", "action.failed", "action.unknown"];
        kinds.map(|kind| gate.events_called(kind).len()).iter().sum::<usize>()
    };
    let permits = gate.events_called("decision.allowed").len();
    within(PATIENCE, || (outcomes() == permits).then_some(())).expect("an outcome for every permit");
    gate.assert_verifies();
}

fn scripts() -> Vec<Script> {
    let head = |fields: &[(&str, &str)], flags: u8| frame(HEADERS, END_HEADERS | flags, 1, &block(fields));
    let only = |fields: &[(&str, &str)]| head(fields, END_STREAM);
    let ok = (":status", "200");
    let data = |text: &str, flags: u8| frame(DATA, flags, 1, text.as_bytes());
    let promised = [(":method", "GET"), (":scheme", "https"), (":authority", API), (":path", "/injected")];
    let push = [[0, 0, 0, 2].as_slice(), &block(&promised)].concat();
    let large = "injected".repeat(10_000);
    vec![
        ("no HTTP/2 at all", b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\ninjected".to_vec()),
        ("nothing", Vec::new()),
        ("no status", only(&[("x", "injected")])),
        ("two statuses", only(&[ok, (":status", "404")])),
        ("a status that is none", only(&[(":status", "abc"), ("x", "injected")])),
        ("a status of two digits", only(&[(":status", "20"), ("x", "injected")])),
        ("a status behind a field", only(&[("x", "injected"), ok])),
        ("an upper-case name", only(&[ok, ("X-Injected", "injected")])),
        ("a line end in a value", only(&[ok, ("x", "a\r\nx-injected: injected")])),
        ("a NUL in a value", only(&[ok, ("x", "injected\u{0}")])),
        ("a field of connections", only(&[ok, ("connection", "injected")])),
        ("a transfer encoding", only(&[ok, ("transfer-encoding", "chunked")])),
        ("an oversized head", only(&[ok, ("x", &large)])),
        ("more than it said", [head(&[ok, ("content-length", "3")], 0), data("ok injected", END_STREAM)].concat()),
        ("less than it said", [head(&[ok, ("content-length", "9")], 0), data("ok", END_STREAM)].concat()),
        ("a body before its head", [data("injected", END_STREAM), only(&[ok])].concat()),
        ("no end", head(&[ok, ("content-length", "9")], 0)),
        ("a push", [frame(5, END_HEADERS, 1, &push), only(&[ok])].concat()),
        ("a stream of its own", frame(HEADERS, END_HEADERS | END_STREAM, 2, &block(&[ok, ("x", "injected")]))),
        ("another stream's reply", frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&[ok, ("x", "injected")]))),
        ("a reset", frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])),
        ("a farewell", frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0])),
        ("an oversized frame", frame(DATA, 0, 1, &[b'x'; 70_000])),
        ("a window over its limit", frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)),
        ("broken compression", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 40])),
    ]
}

fn sound() -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "200"), ("content-length", "5")]));
    [head, frame(DATA, END_STREAM, 1, b"sound")].concat()
}

/// Reads one request, says what the script says, and closes.
fn answer(stream: TcpStream, config: &Arc<ServerConfig>, script: &[u8]) -> io::Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream);
    stream.read_exact(&mut [0; 24])?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    loop {
        let (kind, flags, stream_id, payload) = read_frame(&mut stream)?;
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            PING if flags & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload))?,
            HEADERS if stream_id == 1 => break,
            _ => {}
        }
    }
    stream.write_all(script)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(std::net::Shutdown::Write)?;
    // Closed over unread bytes, the connection would be reset and the script lost.
    io::copy(&mut stream.sock, &mut io::sink()).map(drop)
}

fn read_frame(from: &mut impl Read) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    from.read_exact(&mut head)?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
    from.read_exact(&mut payload)?;
    Ok((kind, flags, u32::from_be_bytes(stream), payload))
}

/// A certificate that is its own authority, and its PEM.
fn certify() -> (Arc<ServerConfig>, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![API.to_owned()]).unwrap().self_signed(&key).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (Arc::new(config), certificate.pem())
}
