//! Accepts connections of every door for agents; on the forward door answers CONNECT; hands every other request to
//! [`exchange`].

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::body::Answer;
use crate::canonical::{Entry, Way};
use crate::exchange::{self, Caller};
use crate::framed::Framed;
use crate::frames::Counted;
use crate::gate::Gate;
use crate::head::{self, Head};
use crate::limits::Limits;
use crate::metrics::Present;
use crate::neighbour;
use crate::patient::Patient;
use crate::record::Trace;
use crate::refusal::Refusal;
use crate::requests::Requests;
use crate::routes::Reverse;
use crate::shares::{Place, Shares};
use crate::{reverse, tunnel};

/// A client's connection with the bytes read from it and not yet used.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub stream: TcpStream,
    /// Read ahead.
    pub raw: BytesMut,
    /// Address of the client.
    pub peer: SocketAddr,
    /// Our own address as it reached us.
    pub door: SocketAddr,
}

// === impl Wire ===

impl Wire {
    /// Reads until a whole head stands at the front of `raw`, where it stays. `None`: the client went away.
    ///
    /// # Errors
    /// What is wrong with the head, or that it took too long.
    pub async fn head(&mut self, limits: &Limits) -> Result<Option<Head>, Refusal> {
        match tokio::time::timeout(Limits::seconds(limits.head_seconds), self.read_head(limits)).await {
            Ok(result) => result,
            Err(_) if self.raw.is_empty() => Ok(None),
            Err(_) => Err(Refusal::SlowRequest("the request head did not arrive in time".to_owned())),
        }
    }

    async fn read_head(&mut self, limits: &Limits) -> Result<Option<Head>, Refusal> {
        // RFC 9112 section 2.2: a server ignores one empty line before a request line.
        let mut skipped = false;
        loop {
            if !skipped && self.raw.starts_with(b"\r\n") {
                self.raw.advance(2);
                skipped = true;
            }
            let only_cr = !skipped && self.raw.as_ref() == b"\r";
            let head = if self.raw.is_empty() || only_cr { None } else { head::parse(&self.raw, limits)? };
            if head.is_some() {
                return Ok(head);
            }
            if !matches!(self.stream.read_buf(&mut self.raw).await, Ok(1..)) {
                return Ok(None);
            }
        }
    }

    /// Ends the connection so that the client can still read its answer: what it had under way is thrown away first.
    pub async fn close(mut self) {
        // Whether the client ends its side in time or not, the connection is dropped now.
        drop(tokio::time::timeout(LINGER_TIME, self.drain()).await);
    }

    async fn drain(&mut self) -> std::io::Result<()> {
        self.stream.shutdown().await?;
        let mut scratch = [0_u8; 4096];
        while self.stream.read(&mut scratch).await? > 0 {}
        Ok(())
    }

    /// Writes bytes. The client may be gone; then nobody misses them.
    pub async fn write(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes).await {
            tracing::debug!(%error, "an answer found nobody to read it");
        }
    }
}

/// How many connections all doors for agents may have together, and one source of them.
pub fn room(gate: &Gate) -> Arc<Shares<IpAddr>> {
    let most = Limits::size(gate.limits.max_connections).min(descriptors() / 2);
    Shares::new(most, Limits::size(gate.limits.connections_per_source).min(most.div_ceil(2)))
}

/// Serves the forward door until the gate stops.
pub async fn forward(gate: Arc<Gate>, listener: TcpListener, room: Arc<Shares<IpAddr>>) {
    accept(gate, listener, room, connection).await;
}

/// Serves the reverse door until the gate stops.
pub async fn reverse(gate: Arc<Gate>, listener: TcpListener, room: Arc<Shares<IpAddr>>, door: Arc<Reverse>) {
    let serve = move |gate, stream, peer| reverse::connection(gate, stream, peer, Arc::clone(&door));
    accept(gate, listener, room, serve).await;
}

async fn accept<S, F>(gate: Arc<Gate>, listener: TcpListener, room: Arc<Shares<IpAddr>>, serve: S)
where
    S: Fn(Arc<Gate>, TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = gate.stop.cancelled() => return,
        };
        match accepted {
            // Without a place it is closed at once: waiting connections would keep everybody out alike.
            Ok((stream, peer)) => {
                if let Some(place) = room.take(peer.ip()) {
                    neighbour::look(&gate, peer);
                    let present = gate.metrics.connection();
                    let served = serve(Arc::clone(&gate), stream, peer);
                    gate.connections.spawn(keep((place, present), served));
                }
            }
            // Out of file descriptors, most likely: connections that end will free some.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Keeps a connection's place, and counts it, for as long as it is served.
async fn keep(kept: (Place<IpAddr>, Present), served: impl Future<Output = ()>) {
    served.await;
    drop(kept);
}

/// File descriptors this process may have; half of them for clients, the rest for upstreams and files.
pub fn descriptors() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| Limits::size(soft))
}

async fn connection(gate: Arc<Gate>, stream: TcpStream, peer: SocketAddr) {
    let (Ok(()), Ok(door)) = (stream.set_nodelay(true), stream.local_addr()) else { return };
    let mut wire = Wire { stream, raw: BytesMut::new(), peer, door };
    // A gate that ends waits for requests, not for clients that have not sent one.
    let Some(head) = gate.stop.run_until_cancelled(wire.head(&gate.limits)).await else { return };
    match head {
        Ok(Some(head)) if head.method == "CONNECT" => tunnel::serve(gate, wire, head).await,
        Ok(Some(_)) => plain(gate, wire).await,
        Ok(None) => {}
        Err(refusal) => {
            refuse(&gate, &mut wire, refusal).await;
            wire.close().await;
        }
    }
}

/// Requests in absolute form, and those to the gate itself.
async fn plain(gate: Arc<Gate>, wire: Wire) {
    let way = Way { door: wire.door, entry: Entry::Forward };
    let caller = Caller::new(wire.peer, way, None);
    serve_http1(gate, wire.stream, wire.raw, caller).await;
}

/// Serves HTTP/1.1 on a connection, one checked message after another.
pub async fn serve_http1<IO>(gate: Arc<Gate>, io: IO, raw: BytesMut, caller: Caller)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let framed = Framed::new(io, raw, Requests::new(Arc::clone(&gate.limits), caller.turns.clone()));
    let framed = framed.half_closing(caller.way.is_plain());
    let idle = Limits::seconds(gate.limits.idle_seconds);
    let unread = Limits::seconds(gate.limits.write_seconds) + RELAY_FIRST;
    let (close, stop) = (caller.close.clone(), gate.stop.clone());
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(HYPER_BUFFER).max_headers(HYPER_HEADERS);
    let mut connection = pin!(
        builder.serve_connection(TokioIo::new(Patient::new(framed, unread)), service(gate, caller)).with_upgrades()
    );
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = either(&close, &stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Serves HTTP/2 on a connection (RFC 9113), with bounds against floods of frames.
pub async fn serve_http2<IO>(gate: Arc<Gate>, io: IO, caller: Caller)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let idle = Limits::seconds(gate.limits.idle_seconds);
    let unread = Limits::seconds(gate.limits.write_seconds) + RELAY_FIRST;
    let (close, stop) = (caller.close.clone(), gate.stop.clone());
    let turns = caller.turns.clone();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(idle)
        .keep_alive_timeout(Limits::seconds(gate.limits.write_seconds));
    builder
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(gate.limits.head_bytes).unwrap_or(u32::MAX));
    builder.max_pending_accept_reset_streams(RESETS).max_local_error_reset_streams(RESETS);
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(Patient::new(Counted::new(io), unread)), service(gate, caller)));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = async { tokio::select! { () = either(&close, &stop) => {}, () = turns.at_rest(idle, unread) => {} } } => {
            connection.as_mut().graceful_shutdown();
            // Streams that nobody reads must not keep it open for ever.
            tokio::time::timeout(unread, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// One request of a connection.
fn service(
    gate: Arc<Gate>,
    caller: Caller,
) -> impl Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible, Future: Send + 'static> + 'static
{
    let caller = Arc::new(caller);
    service_fn(move |request| {
        let (gate, caller) = (Arc::clone(&gate), Arc::clone(&caller));
        // Boxed, because hyper keeps room for it as long as the connection is open.
        Box::pin(async move { Ok::<_, Infallible>(exchange::handle(gate, caller, request).await) })
    })
}

async fn either(close: &CancellationToken, stop: &CancellationToken) {
    tokio::select! {
        () = close.cancelled() => {}
        () = stop.cancelled() => {}
    }
}

/// Records a refusal and writes its answer straight to the wire, where there is no request for hyper to answer.
pub async fn refuse(gate: &Arc<Gate>, wire: &mut Wire, refusal: Refusal) {
    let Ok(trace) = Trace::begin(&HeaderMap::new()) else { return };
    let response = exchange::refuse(gate, refusal, wire.peer.ip(), None, &trace).await.respond(&trace);
    let mut text = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let body = response.into_body();
    text.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    text.extend_from_slice(&body);
    wire.write(&text).await;
}

/// hyper reads only what was checked against our own, smaller limits.
const HYPER_BUFFER: usize = 1 << 20;

/// As [`HYPER_BUFFER`], for the number of headers.
const HYPER_HEADERS: usize = 1024;

/// HTTP/2 streams one client may have open at once.
const STREAMS: u32 = 64;

/// Streams a client may take back, or make us take back, before the connection is ended (CVE-2023-44487, CVE-2025-8671).
const RESETS: usize = 32;

/// Bytes of a request body one stream may be ahead of us.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Bytes all streams of a connection may be ahead together.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Bytes of replies kept for one stream whose client does not read.
const SEND_BUFFER: usize = 64 * 1024;

/// How much longer a connection waits for its reader than the relay does, which records that the client stalled.
const RELAY_FIRST: Duration = Duration::from_secs(1);

/// How long a refused connection still takes what its client had under way.
const LINGER_TIME: Duration = Duration::from_secs(1);
