//! The reverse door: clients that know only a base URL speak to it as if it were their API.
//!
//! It reads HTTP as the forward door does and hands every request to the same [`exchange`](crate::exchange); which
//! upstream is meant is said by its [`routes`](crate::routes). There is no way around either of them here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;

use crate::ahead::Ahead;
use crate::canonical::{Entry, Way};
use crate::exchange::Caller;
use crate::gate::Gate;
use crate::limits::Limits;
use crate::listen;
use crate::routes::{Identity, Reverse};

/// Serves one connection.
pub async fn connection(gate: Arc<Gate>, stream: TcpStream, peer: SocketAddr, reverse: Arc<Reverse>) {
    let (Ok(()), Ok(door)) = (stream.set_nodelay(true), stream.local_addr()) else { return };
    let caller = Caller::new(peer, Way { door, entry: Entry::Reverse(Arc::clone(&reverse)) }, None);
    match &reverse.identity {
        None => plain(gate, stream, caller).await,
        Some(identity) => secured(gate, stream, caller, (&reverse, identity)).await,
    }
}

/// HTTP/1.1, or HTTP/2 for a client that begins with it (RFC 9113 section 3.3), as gRPC clients without TLS do.
async fn plain(gate: Arc<Gate>, mut stream: TcpStream, caller: Caller) {
    let mut raw = BytesMut::new();
    let limit = Limits::seconds(gate.limits.head_seconds);
    let beginning = async {
        while raw.len() < HTTP2.len() && HTTP2.starts_with(&raw) {
            if stream.read_buf(&mut raw).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok::<(), io::Error>(())
    };
    // A gate that ends waits for requests, not for clients that have not sent one.
    let beginning = gate.stop.run_until_cancelled(tokio::time::timeout(limit, beginning)).await;
    let Some(begun) = beginning else { return };
    match begun {
        Ok(Ok(())) if raw.starts_with(HTTP2) => listen::serve_http2(gate, Ahead::new(stream, raw), caller).await,
        // What is too short for a head is refused, or times out, where every head is.
        Ok(_) => listen::serve_http1(gate, stream, raw, caller).await,
        Err(_) if raw.is_empty() => {}
        Err(_) => listen::serve_http1(gate, stream, raw, caller).await,
    }
}

async fn secured(gate: Arc<Gate>, stream: TcpStream, caller: Caller, (reverse, identity): (&Reverse, &Identity)) {
    let (limit, peer) = (Limits::seconds(gate.limits.handshake_seconds), caller.peer);
    let local = caller.way.door;
    let handshake = Box::pin(handshake(&gate, stream, local, (reverse, identity)));
    let agreed = gate.stop.run_until_cancelled(tokio::time::timeout(limit, handshake)).await;
    let Some(agreed) = agreed else { return };
    match agreed {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            listen::serve_http2(gate, stream, caller).await;
        }
        Ok(Ok(stream)) => listen::serve_http1(gate, stream, BytesMut::new(), caller).await,
        Ok(Err(error)) => {
            tracing::info!(%error, %peer, "no TLS at the reverse door; does the client trust its certificate?")
        }
        Err(_) => tracing::info!(%peer, "a TLS handshake at the reverse door was not finished in time"),
    }
}

async fn handshake(
    gate: &Gate,
    stream: TcpStream,
    local: SocketAddr,
    (reverse, identity): (&Reverse, &Identity),
) -> anyhow::Result<TlsStream<Ahead<TcpStream>>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), Ahead::new(stream, BytesMut::new())).await?;
    let config: Arc<ServerConfig> = match identity {
        Identity::Given(config) => Arc::clone(config),
        Identity::Local => {
            // Leaves are made for the door's own names only, whatever a client asks for.
            let name = start.client_hello().server_name().filter(|name| reverse.is_known(name)).map(ca::Name::dns);
            gate.issuer.server_config(&name.transpose()?.unwrap_or(ca::Name::from(local.ip())))?
        }
    };
    Ok(start.into_stream(config).await?)
}

/// How the first line of HTTP/2 begins, and no other request.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n";
