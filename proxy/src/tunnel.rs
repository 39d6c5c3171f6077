//! CONNECT: who asks, which authority, then TLS with a leaf for exactly that name, and back into HTTP.
//!
//! There is no raw tunnel. CONNECT succeeds for any well-formed name, because clients throw away the body of a refused
//! one: what is denied is denied inside, where the agent can read why.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use http::HeaderMap;
use policy::{Authority, Scheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;

use crate::agent;
use crate::ahead::Ahead;
use crate::canonical::{Entry, Way};
use crate::exchange::{self, Caller};
use crate::gate::Gate;
use crate::head::Head;
use crate::limits::Limits;
use crate::listen::{self, Wire};
use crate::record::Trace;
use crate::refusal::Refusal;

/// An agreed tunnel.
#[derive(Debug)]
pub struct Tunnel {
    agent: String,
    /// `host:port` as a TLS client means it.
    authority: Authority,
    /// The one name its leaf certificate is for.
    name: ca::Name,
}

/// Why there is no TLS inside a tunnel.
enum Unfit {
    /// The client did not finish: most often it does not trust the gate's CA.
    Handshake(String),
    /// It did not even begin.
    Hello(String),
}

/// Answers CONNECT requests, starting with `head`, until one is agreed; then serves what comes through it.
///
/// After 407 the connection stays open: git and Java ask without a credential first and ask again on the same one.
pub async fn serve(gate: Arc<Gate>, mut wire: Wire, mut head: Head) {
    for _ in 0..ATTEMPTS {
        wire.raw.advance(head.bytes);
        let refusal = match agree(&gate, &head) {
            Ok(tunnel) => {
                wire.write(ESTABLISHED).await;
                let present = gate.metrics.tunnel();
                inside(gate, wire, tunnel).await;
                return drop(present);
            }
            Err(refusal) => refusal,
        };
        let again = matches!(refusal, Refusal::NotIdentified(_) | Refusal::WrongCredential(_)) && head.minor == 1;
        listen::refuse(&gate, &mut wire, refusal).await;
        if !again {
            return wire.close().await;
        }
        let stop = gate.stop.clone();
        let Some(next) = stop.run_until_cancelled(wire.head(&gate.limits)).await else { return };
        match next {
            Ok(Some(next)) if next.method == "CONNECT" => head = next,
            Ok(_) => return,
            Err(refusal) => {
                listen::refuse(&gate, &mut wire, refusal).await;
                return wire.close().await;
            }
        }
    }
}

/// Who opens a tunnel, and where to.
fn agree(gate: &Gate, head: &Head) -> Result<Tunnel, Refusal> {
    let agent = agent::identify(&gate.principals, head.header("proxy-authorization"))?;
    let authority = parse(&head.target)?;
    let port = head.target.rsplit_once(':').map(|(_, port)| port);
    if !port.is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(Refusal::ambiguous("a CONNECT target is `host:port`"));
    }
    if let Some(host) = head.header("host") {
        let named = parse(host)?;
        // Some clients leave the port out of Host, whatever it is.
        let same_port = named.port() == authority.port() || !host.contains(':');
        if named.host() != authority.host() || !same_port {
            return Err(Refusal::AuthorityMismatch(format!(
                "CONNECT is to {authority}, its Host header names {named}"
            )));
        }
    }
    let name = leaf_name(&authority)?;
    if !gate.issuer.has(&name) {
        gate.mint.take(&agent.name)?;
    }
    Ok(Tunnel { agent: agent.name, authority, name })
}

fn leaf_name(authority: &Authority) -> Result<ca::Name, Refusal> {
    match authority.host().ip() {
        Some(ip) => Ok(ca::Name::from(ip)),
        None => ca::Name::dns(authority.host().as_str()).map_err(|error| Refusal::ambiguous(error.to_string())),
    }
}

/// The first byte tells TLS from plain HTTP (undici sends CONNECT for both); anything else is refused.
async fn inside(gate: Arc<Gate>, mut wire: Wire, tunnel: Tunnel) {
    let limit = Limits::seconds(gate.limits.handshake_seconds);
    let read =
        async { if wire.raw.is_empty() { wire.stream.read_buf(&mut wire.raw).await } else { Ok(wire.raw.len()) } };
    let first = gate.stop.run_until_cancelled(tokio::time::timeout(limit, read)).await;
    let Some(Ok(Ok(1..))) = first else { return };
    match wire.raw.first() {
        Some(&TLS_HANDSHAKE) => tls(gate, wire, tunnel).await,
        Some(byte) if byte.is_ascii_uppercase() => {
            let authority = parse_as(Scheme::Http, &format!("{}:{}", tunnel.authority.host(), tunnel.authority.port()));
            if let Ok(authority) = authority {
                let caller = Caller::new(
                    wire.peer,
                    Way { door: wire.door, entry: Entry::Tunnel(authority) },
                    Some(tunnel.agent),
                );
                listen::serve_http1(gate, wire.stream, wire.raw, caller).await;
            }
        }
        Some(_) | None => {
            let refusal = Refusal::ambiguous("what came through the tunnel is neither TLS nor HTTP");
            record(&gate, wire.peer, &tunnel.agent, refusal).await;
        }
    }
}

async fn tls(gate: Arc<Gate>, wire: Wire, tunnel: Tunnel) {
    let Wire { stream, raw, peer, door } = wire;
    let io = Ahead::new(stream, raw);
    let limit = Limits::seconds(gate.limits.handshake_seconds);
    // Boxed, as each of these is large and over before the next begins: an open tunnel keeps only the last.
    match tokio::time::timeout(limit, Box::pin(handshake(&gate, io, &tunnel))).await {
        Ok(Ok((stream, mismatch))) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let caller = Caller::new(peer, Way { door, entry: Entry::Tunnel(tunnel.authority) }, Some(tunnel.agent));
            let caller = Caller { mismatch, ..caller };
            if http2 {
                Box::pin(listen::serve_http2(gate, stream, caller)).await;
            } else {
                Box::pin(listen::serve_http1(gate, stream, BytesMut::new(), caller)).await;
            }
        }
        Ok(Err(Unfit::Hello(error))) => {
            tracing::info!(error, host = %tunnel.authority, agent = tunnel.agent, "what came through a tunnel is not TLS");
            record(&gate, peer, &tunnel.agent, Refusal::ambiguous("what came through the tunnel is not TLS")).await;
        }
        Ok(Err(Unfit::Handshake(error))) => {
            tracing::info!(error, host = %tunnel.authority, agent = tunnel.agent, "no TLS inside a tunnel; does the client trust the gate's CA?");
        }
        Err(_) => {
            tracing::info!(host = %tunnel.authority, agent = tunnel.agent, "a TLS handshake was not finished in time");
        }
    }
}

/// TLS as the host of the tunnel, and only as that. Another server name gets no certificate of its own: every request
/// is answered with the mismatch that comes back beside the stream.
async fn handshake<IO>(gate: &Gate, io: IO, tunnel: &Tunnel) -> Result<(TlsStream<IO>, Option<String>), Unfit>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), io).await;
    let start = start.map_err(|error| Unfit::Hello(error.to_string()))?;
    let named = start.client_hello().server_name().map(str::to_ascii_lowercase);
    let expected = tunnel.authority.host().ip().is_none().then(|| tunnel.authority.host().as_str());
    let mismatch = (named.as_deref() != expected).then(|| {
        let named = named.as_deref().unwrap_or("no name");
        format!("the tunnel is to {}, the TLS client asked for {named}", tunnel.authority)
    });
    let config = gate.issuer.server_config(&tunnel.name).map_err(|error| Unfit::Handshake(error.to_string()))?;
    let stream = start.into_stream(config).await.map_err(|error| Unfit::Handshake(error.to_string()))?;
    Ok((stream, mismatch))
}

/// Records what cannot be answered: the client does not speak HTTP.
async fn record(gate: &Arc<Gate>, peer: SocketAddr, agent: &str, refusal: Refusal) {
    if let Ok(trace) = Trace::begin(&HeaderMap::new()) {
        exchange::refuse(gate, refusal, peer.ip(), Some(agent), &trace).await;
    }
}

fn parse(text: &str) -> Result<Authority, Refusal> {
    parse_as(Scheme::Https, text)
}

fn parse_as(scheme: Scheme, text: &str) -> Result<Authority, Refusal> {
    Authority::parse(scheme, text).map_err(|error| Refusal::Ambiguous(error.to_string()))
}

/// CONNECT requests answered on one connection before it is closed.
const ATTEMPTS: usize = 4;

/// First byte of a TLS record that carries a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// RFC 9110 section 9.3.6.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";
