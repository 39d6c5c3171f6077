//! A40, B19, C26: an upstream that speaks HTTP/2 as nobody should, or asks for more than it is told. The agent gets 502 or a
//! reply that is visibly cut off, nothing of it reaches another request, and every permit has an outcome.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::frames::{ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, block, frame};
use crate::harness::agent::Response;
use crate::harness::gate::{PATIENCE, Plan, within};
use crate::harness::world::{API, DESTINATIONS};

/// Row, and what the upstream sends once it has read a request on stream 1.
type Script = (&'static str, Vec<u8>);

#[test]
fn a40_b19_a_reply_over_http2_is_sound_or_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (certificate, key, pem) = certify();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let scripts = scripts();
    let next_script = Arc::new(Mutex::new(None));
    let armed = Arc::clone(&next_script);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, armed) = (Arc::clone(&config), Arc::clone(&armed));
            // How the gate ends the connection is its own affair.
            std::thread::spawn(move || drop(answer(stream.unwrap(), config, &armed)));
        }
    });
    let gate = trusting(&pem).dial("api.example:443", port).start();
    let agent = gate.agent();
    let mut wrong = Vec::new();
    for (row, script) in &scripts {
        *next_script.lock().unwrap() = Some(script.clone());
        // A request that meets a dying connection has failed, and is not sent again; the script waits for the next one.
        let met = |answer: &io::Result<Response>| next_script.lock().unwrap().is_none() || answer.is_err();
        let ask = || agent.try_request("GET", "https://api.example/x", &[], b"");
        let answer = std::iter::repeat_with(ask).take(20).find(met).unwrap();
        // A reply that breaks off early enough has no head either.
        if let Ok(answer) = answer {
            let refused = answer.status == 502 || (answer.status == 200 && !answer.complete);
            if !refused || format!("{answer:?}{}", answer.text()).contains("injected") {
                wrong.push(format!("{row}: {answer:?}"));
            }
        }
        *next_script.lock().unwrap() = None;
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

#[test]
fn c26_an_upstream_that_asks_who_the_gate_is_learns_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (certificate, key, pem) = certify();
    let mut anyone = RootCertStore::empty();
    anyone.add(certificate.clone()).unwrap();
    let asks = WebPkiClientVerifier::builder(Arc::new(anyone)).allow_unauthenticated().build().unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_client_cert_verifier(asks);
    let config = Arc::new(builder.with_single_cert(vec![certificate], key).unwrap());
    let shown = std::thread::spawn(move || {
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), listener.accept().unwrap().0);
        stream.read_exact(&mut [0; 16]).unwrap();
        stream.conn.peer_certificates().map(<[_]>::len)
    });
    let gate = trusting(&pem).dial("api.example:443", port).start();
    assert_eq!(gate.agent().get("https://api.example/x").status, 502, "it does not answer");
    assert_eq!(shown.join().unwrap(), None);
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

/// Reads one request, says what the script says, or a sound reply where there is none, and closes.
fn answer(stream: TcpStream, config: Arc<ServerConfig>, next_script: &Mutex<Option<Vec<u8>>>) -> io::Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
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
    let script = next_script.lock().unwrap().take();
    stream.write_all(&script.unwrap_or_else(sound))?;
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

/// A gate that trusts this certificate for the API.
fn trusting(pem: &str) -> Plan {
    let plan = Plan::new().file("upstream.pem", pem);
    let roots = format!("    credential: api\n    roots: '{}'\n", plan.home().join("upstream.pem").display());
    let destinations = DESTINATIONS.replace("    credential: api\n", &roots);
    plan.file("destinations.yaml", &destinations)
}

/// A certificate that is its own authority, its key, and its PEM.
fn certify() -> (CertificateDer<'static>, PrivateKeyDer<'static>, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![API.to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.der().clone(), key.into(), certificate.pem())
}
