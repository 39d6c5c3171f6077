//! Requests that must arrive whatever version of HTTP stands on either side of the gate: over HTTP/2 at both ends, from
//! one version to the other, with the trailers that gRPC lives from.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::client::anyone;
use crate::harness::agent::Agent;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, DESTINATIONS, SECRET};

/// What an HTTP/2 origin was asked.
#[derive(Clone, Debug)]
struct Asked {
    version: Version,
    line: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What a client got.
struct Got {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

type Seen = Arc<Mutex<Vec<Asked>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_passes_over_http2_on_both_legs() {
    let (gate, seen) = http2_world().await;
    let got = send_http2(&gate, "application/grpc", b"\0\0\0\0\x05hello").await;
    assert_eq!((got.status, got.headers["writ-decision"].as_bytes()), (200, b"allow".as_slice()));
    assert_eq!(&got.body[..], b"\0\0\0\0\x05hello");
    assert_eq!(got.trailers["grpc-status"], "0");
    assert_eq!(got.trailers["grpc-message"], "fine");

    let asked = only(&seen);
    assert_eq!((asked.version, asked.line.as_str()), (Version::HTTP_2, "POST https://api.example/send/x?y=1"));
    assert_eq!(asked.headers["te"], "trailers");
    assert_eq!(&asked.body[..], b"\0\0\0\0\x05hello");
    assert_eq!(asked.headers["authorization"], format!("Bearer {SECRET}"));
    assert!(!asked.headers.contains_key("host"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_outside_and_http2_behind() {
    let (gate, seen) = http2_world().await;
    let agent = gate.agent();
    let answer = tokio::task::spawn_blocking(move || agent.post("https://api.example/send/x", "hello")).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str(), answer.complete), (200, "hello", true));
    let asked = only(&seen);
    assert_eq!(
        (asked.version, asked.line.as_str(), &asked.body[..]),
        (Version::HTTP_2, "POST https://api.example/send/x", b"hello".as_slice())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_outside_and_http1_behind() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    let got = send_http2(&gate, "text/plain", b"hello").await;
    assert_eq!((got.status, &got.body[..]), (200, b"ok\n".as_slice()));
    let hits = origin.hits();
    let [hit] = hits.as_slice() else { panic!("{hits:?}") };
    assert_eq!(
        (hit.target.as_str(), hit.header("host"), hit.body.as_slice()),
        ("/send/x?y=1", Some(API), b"hello".as_slice())
    );
    assert_eq!(
        (hit.header("content-length"), hit.header("transfer-encoding"), hit.header("te")),
        (Some("5"), None, None)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_of_one_connection_are_each_permitted() {
    let (gate, seen) = http2_world().await;
    let sender = connect_http2(&gate).await;
    let sends = (0..50).map(|_| {
        let mut sender = sender.clone();
        tokio::spawn(async move { sender.send_request(request("text/plain", b"hello")).await.unwrap().status() })
    });
    for sent in sends.collect::<Vec<_>>() {
        assert_eq!(sent.await.unwrap(), 200);
    }
    assert_eq!((seen.lock().unwrap().len(), gate.events_called("decision.allowed").len()), (50, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_idle_between_requests_and_not_during_a_reply() {
    let parts = vec![(Duration::from_millis(700), b"part".to_vec()); 10];
    let origin = Origin::https(&[API]).reply("/send/x", Reply::new(200).chunks(parts));
    let gate = Plan::new().origin(API, &origin).limit("idle_seconds", 1).limit("write_seconds", 1).start();
    let mut sender = connect_http2(&gate).await;
    let body = sender.send_request(request("text/plain", b"hello")).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "part".repeat(10));
    let closed = async {
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(50)).await
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("a silent connection is still open");
}

/// A gate in front of an origin that speaks HTTP/2 only, and what that origin is asked.
async fn http2_world() -> (Gate, Seen) {
    let seen = Seen::default();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![API.to_owned()]).unwrap().self_signed(&key).unwrap();
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), certificate.pem()).unwrap();

    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&seen)));

    let trusting = format!("    credential: api\n    roots: '{}'\n", roots.path().display());
    let gate = tokio::task::spawn_blocking(move || {
        let destinations = DESTINATIONS.replace("    credential: api\n", &trusting);
        let gate = Plan::new().file("destinations.yaml", &destinations).dial("api.example:443", port).start();
        drop(roots);
        gate
    });
    (gate.await.unwrap(), seen)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, seen: Seen) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.serve_connection(TokioIo::new(stream), service).await
        });
    }
}

/// Sends the body back, and two trailers.
async fn answer(
    request: Request<Incoming>,
    seen: Seen,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let line = format!("{} {}", parts.method, parts.uri);
    seen.lock().unwrap().push(Asked { version: parts.version, line, headers: parts.headers, body: body.clone() });
    let trailers = [("grpc-status", "0"), ("grpc-message", "fine")];
    let trailers: HeaderMap =
        trailers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).into_iter().collect();
    Ok(Response::new(Full::new(body).with_trailers(async move { Some(Ok(trailers)) })))
}

async fn send_http2(gate: &Gate, kind: &'static str, body: &'static [u8]) -> Got {
    let mut sender = connect_http2(gate).await;
    let (parts, body) = sender.send_request(request(kind, body)).await.unwrap().into_parts();
    let whole = body.collect().await.unwrap();
    let trailers = whole.trailers().cloned().unwrap_or_default();
    Got { status: parts.status.as_u16(), headers: parts.headers, body: whole.to_bytes(), trailers }
}

fn request(kind: &'static str, body: &'static [u8]) -> Request<Full<Bytes>> {
    let request = Request::post("https://api.example/send/x?y=1").header("content-type", kind).header("te", "trailers");
    request.body(Full::new(Bytes::from_static(body))).unwrap()
}

async fn connect_http2(gate: &Gate) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let stream = tunnel(gate, &gate.agent()).await;
    let name = ServerName::try_from(API).unwrap();
    let stream = TlsConnector::from(anyone(b"h2")).connect(name, stream).await.unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn tunnel(gate: &Gate, agent: &Agent) -> TcpStream {
    let mut stream = TcpStream::connect(gate.forward).await.unwrap();
    let head = format!("CONNECT {API}:443 HTTP/1.1\r\nhost: {API}:443\r\n{}\r\n", agent.credential());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    stream
}

fn only(seen: &Seen) -> Asked {
    let seen = seen.lock().unwrap();
    let [asked] = seen.as_slice() else { panic!("{seen:?}") };
    asked.clone()
}
