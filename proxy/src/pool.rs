//! Connections to upstreams, kept for the next request of the same agent to the same destination.
//!
//! A connection is shared only where agent, destination (and with it trust, addresses and credential), authority and
//! the certificate that it presents are the same: whatever an upstream ties to a connection stays with whom it was tied to. Nothing is resent from here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use policy::Authority;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::framed::Framed;
use crate::replies::{Due, Replies};
use crate::shares::{Place, Shares};
use crate::trust::{Fingerprint, Offer};

/// Whose connection it is, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    agent: String,
    destination: String,
    authority: Authority,
    presents: Option<Fingerprint>,
}

/// One open connection to an upstream.
#[derive(Debug)]
pub struct Leg {
    key: Key,
    sender: Sender,
    place: Arc<Place<String>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>, Due),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A send that gave no reply.
#[derive(Debug)]
pub struct NoReply {
    /// False when the request came back unsent.
    pub sent: bool,
    /// What the HTTP library says.
    pub why: String,
}

/// Connections that wait for their next request.
#[derive(Debug)]
pub struct Pool {
    idle: Mutex<HashMap<Key, Vec<(Instant, Leg)>>>,
    shared: Mutex<HashMap<Key, Leg>>,
    /// Open connections in all and of each agent.
    open: Arc<Shares<String>>,
    keep: Duration,
    most: usize,
}

// === impl Key ===

impl Key {
    /// The key of one agent's requests to one destination.
    pub fn new(agent: &str, destination: &str, authority: &Authority) -> Key {
        let (agent, destination) = (agent.to_owned(), destination.to_owned());
        Key { agent, destination, authority: authority.clone(), presents: None }
    }

    /// The same, for connections that present this certificate.
    pub fn presenting(self, certificate: Option<Fingerprint>) -> Key {
        Key { presents: certificate, ..self }
    }
}

// === impl Leg ===

impl Leg {
    /// HTTP/1.1 on a fresh connection, its replies checked on raw bytes.
    ///
    /// # Errors
    /// When the connection cannot be used.
    pub(crate) async fn http1<IO>(key: Key, place: Place<String>, stream: IO) -> Result<Leg, hyper::Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let due = Due::default();
        let framed = Framed::new(stream, BytesMut::new(), Replies::new(due.clone()));
        let (sender, connection) = http1::handshake(TokioIo::new(framed)).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(Leg { key, sender: Sender::Http1(sender, due), place: Arc::new(place) })
    }

    /// HTTP/2 on a fresh connection.
    ///
    /// # Errors
    /// When the connection cannot be used.
    pub(crate) async fn http2<IO>(key: Key, place: Place<String>, stream: IO) -> Result<Leg, hyper::Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        builder
            .max_header_list_size(MAX_HEADER_LIST)
            .keep_alive_interval(KEEP_ALIVE)
            .max_concurrent_reset_streams(MAX_RESETS);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Leg { key, sender: Sender::Http2(sender), place: Arc::new(place) })
    }

    /// Sends one request with an absolute URI.
    ///
    /// # Errors
    /// [`NoReply`], which says whether the request may have left.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, NoReply> {
        match &mut self.sender {
            Sender::Http1(sender, due) => {
                if let Err(error) = sender.ready().await {
                    return Err(NoReply { sent: false, why: error.to_string() });
                }
                due.expect(request.method().as_str(), request.headers().contains_key(header::UPGRADE));
                sender.try_send_request(origin_form(request)).await.map_err(NoReply::from)
            }
            Sender::Http2(sender) => {
                if let Err(error) = sender.ready().await {
                    return Err(NoReply { sent: false, why: error.to_string() });
                }
                sender.try_send_request(with_te(request)).await.map_err(NoReply::from)
            }
        }
    }

    /// The same connection again, where it carries many requests at once.
    fn twin(&self) -> Option<Leg> {
        match &self.sender {
            Sender::Http1(..) => None,
            Sender::Http2(sender) => Some(Leg {
                key: self.key.clone(),
                sender: Sender::Http2(sender.clone()),
                place: Arc::clone(&self.place),
            }),
        }
    }

    /// Whether a WebSocket could stand on it.
    pub(crate) fn is_http1(&self) -> bool {
        matches!(self.sender, Sender::Http1(..))
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender, _) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

// === impl NoReply ===

impl<T> From<hyper::client::conn::TrySendError<T>> for NoReply {
    fn from(mut error: hyper::client::conn::TrySendError<T>) -> NoReply {
        let sent = error.take_message().is_none();
        NoReply { sent, why: chain(&error.into_error()) }
    }
}

// === impl Pool ===

impl Pool {
    /// Keeps at most `most` idle connections of a kind, each for `keep`; at most `open` connections in all, half of them
    /// for one agent.
    pub fn new(keep: Duration, most: usize, open: usize) -> Pool {
        Pool { idle: Mutex::default(), shared: Mutex::default(), open: Shares::new(open, open.div_ceil(2)), keep, most }
    }

    /// Room for one more connection. When there is none, those that only wait are let go first.
    pub fn room(&self, key: &Key) -> Option<Place<String>> {
        self.open.take(key.agent.clone()).or_else(|| {
            self.sweep(true);
            self.open.take(key.agent.clone())
        })
    }

    /// A connection that waits, if there is one; first of those that speak what is offered first.
    pub(crate) fn take(&self, key: &Key, offer: Offer) -> Option<Leg> {
        match offer {
            Offer::Any => self.take_shared(key).or_else(|| self.take_idle(key)),
            Offer::Http1 => self.take_idle(key).or_else(|| self.take_shared(key)),
            // It will not come back, so it is one of its own.
            Offer::WebSocket => None,
        }
    }

    fn take_shared(&self, key: &Key) -> Option<Leg> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match shared.get(key) {
            Some(leg) if !leg.is_closed() => return leg.twin(),
            Some(_) => drop(shared.remove(key)),
            None => {}
        }
        None
    }

    fn take_idle(&self, key: &Key) -> Option<Leg> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.get_mut(key)?;
        while let Some((since, leg)) = waiting.pop() {
            if since.elapsed() < self.keep && !leg.is_closed() {
                return Some(leg);
            }
        }
        None
    }

    /// Lets others use an HTTP/2 connection beside the one that opened it.
    pub fn share(&self, leg: &Leg) {
        if let Some(twin) = leg.twin() {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.insert(leg.key.clone(), twin);
        }
    }

    /// Takes back a connection whose reply was complete. One that is not at rest now is let go.
    pub async fn give_back(&self, mut leg: Leg) {
        let Sender::Http1(sender, _) = &mut leg.sender else { return };
        if !matches!(tokio::time::timeout(SETTLE, sender.ready()).await, Ok(Ok(()))) {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.entry(leg.key.clone()).or_default();
        if waiting.len() < self.most {
            waiting.push((Instant::now(), leg));
        }
    }

    /// Lets go of what waited too long, or of everything.
    pub fn sweep(&self, everything: bool) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, waiting| {
            waiting.retain(|(since, leg)| !everything && since.elapsed() < self.keep && !leg.is_closed());
            !waiting.is_empty()
        });
        drop(idle);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|_, leg| !everything && !leg.is_closed());
    }
}

/// As HTTP/1.1 writes it: the path alone in the request line, the authority in Host (RFC 9112 section 3.2.1).
fn origin_form(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(target);
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// gRPC servers want to be told that trailers are welcome (RFC 9110 section 10.1.4).
fn with_te(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    }
    *request.version_mut() = http::Version::HTTP_2;
    request
}

/// An error with its causes: hyper hides what the reader of the connection found behind its own words.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Time for a connection to come to rest after its reply.
const SETTLE: Duration = Duration::from_millis(100);

/// Bytes one stream of an upstream may be ahead of its reader.
const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes all streams of a connection may be ahead together.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Bytes of the headers of one reply.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// How often a silent connection is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Streams of ours that an upstream may still answer after we gave them up.
const MAX_RESETS: usize = 64;
