//! The only way out: dials one checked address and sends one permitted request.
//!
//! [`send`] consumes a [`Permit`], so nothing leaves without a durable record, and nothing leaves twice. The name is
//! resolved once, every address of the answer is checked, one of exactly these is dialled. Certificates are always
//! verified, redirects are never followed, proxy variables are never read.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use ipnet::IpNet;
use policy::{Authority, Destination, Facts, Scheme};
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::address::{self, Forbidden};
use crate::ahead::Ahead;
use crate::gate::Gate;
use crate::inject::Injected;
use crate::limits::Limits;
use crate::permit::Permit;
use crate::pool::{Key, Leg, NoReply};
use crate::repeat::IDEMPOTENCY_KEY;
use crate::trust::{ClientCertificate, Offer, Roots};
use crate::websocket;

/// Why a send gave no reply.
#[derive(Debug)]
pub struct Failure {
    /// False when it is certain that no byte of the request left.
    pub sent: bool,
    /// What happened, for agent and ledger.
    pub why: String,
}

/// Whether a byte of the request may have left; readable while the send is under way.
#[derive(Debug, Default)]
pub struct Progress(AtomicBool);

/// A reply whose body is still streaming, and the connection it comes on.
#[derive(Debug)]
pub struct Reply {
    /// Status, headers, body.
    pub response: Response<Incoming>,
    /// The connection; to be given back when the body is complete.
    pub leg: Leg,
}

/// Why there is no TLS to an upstream.
enum Unfit {
    /// It speaks no version of HTTP that it was offered.
    NoCommonVersion(Failure),
    /// Whatever else.
    Other(Failure),
}

/// How an upstream may be reached.
pub(crate) struct Route<'a> {
    /// For whom.
    pub(crate) agent: &'a str,
    /// Where it is.
    pub(crate) authority: &'a Authority,
    /// Address ranges that are open for it beside the public ones.
    pub(crate) open: &'a [IpNet],
    /// What its certificate is checked against; none when they are not loaded.
    pub(crate) roots: Option<&'a Roots>,
    /// What the connection presents.
    pub(crate) certificate: Option<&'a ClientCertificate>,
}

// === impl Progress ===

impl Progress {
    /// Whether a byte may have left.
    pub fn sent(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

// === impl Failure ===

impl Failure {
    fn unsent(why: impl Into<String>) -> Failure {
        Failure { sent: false, why: why.into() }
    }
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Failure {
        match unfit {
            Unfit::NoCommonVersion(failure) | Unfit::Other(failure) => failure,
        }
    }
}

/// Sends the permitted request and returns the head of its reply, the body still streaming.
///
/// # Errors
/// [`Failure`], which says whether a byte may have left.
pub async fn send(gate: &Gate, permit: Permit, injected: Injected, progress: &Progress) -> Result<Reply, Failure> {
    let facts = permit.facts();
    let rulebook = permit.rulebook();
    let destination = rulebook
        .destination_called(permit.grant().destination(), facts)
        .ok_or_else(|| Failure::unsent("the destination is not configured any more"))?;
    let roots = rulebook.trust.roots(destination.roots.as_deref());
    let (agent, authority, certificate) = (&facts.agent, &facts.authority, injected.certificate.as_ref());
    let route = Route { agent, authority, open: &destination.addresses, roots, certificate };
    let key = Key::new(agent, &destination.key, authority).presenting(certificate.map(ClientCertificate::fingerprint));
    let offer = permit.offer();
    let once = own_key(destination, &permit);
    if let Some(leg) = gate.pool.take(&key, offer) {
        match exchange(gate, leg, request(facts, &injected, once)?, progress).await {
            // It had been closed meanwhile and gives the request back unsent: the permit still stands for one send.
            Err(failure) if !failure.sent => {}
            ended => return ended,
        }
    }
    // Boxed as it is rare and large: every execution would carry its size.
    let leg = Box::pin(open(gate, key, &route, offer)).await?;
    ledger::crash::point("upstream.connected");
    let request = request(facts, &injected, once)?;
    if offer == Offer::WebSocket {
        return switch(gate, leg, (facts, request), progress).await;
    }
    exchange(gate, leg, request, progress).await
}

/// Asks for a WebSocket on a fresh connection. What is answered other than with one is a reply like any other.
async fn switch(
    gate: &Gate,
    leg: Leg,
    (facts, mut request): (&Facts, Request<Full<Bytes>>),
    progress: &Progress,
) -> Result<Reply, Failure> {
    if !leg.is_http1() {
        return Err(Failure::unsent("the upstream speaks HTTP/2 only, which has no place for a WebSocket here"));
    }
    websocket::confirm(request.headers_mut());
    let reply = exchange(gate, leg, request, progress).await?;
    if reply.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        websocket::check_agreed(facts, reply.response.headers()).map_err(|why| Failure {
            sent: true,
            why: format!("the upstream's reply is not what was asked for: {why}"),
        })?;
    }
    Ok(reply)
}

/// One exchange of the gate's own, such as with a token endpoint: on a connection of its own, under the same guards,
/// within the time and the length that a secret has.
///
/// # Errors
/// Why there is no whole answer. Never anything of it.
pub(crate) async fn ask(
    gate: &Gate,
    route: &Route<'_>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Zeroizing<Vec<u8>>), String> {
    let exchange = async {
        let key = Key::new(route.agent, "", route.authority);
        let mut leg = open(gate, key, route, Offer::Http1).await.map_err(|failure| failure.why)?;
        let response = leg.send(request).await.map_err(|reply| reply.why)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), Limits::size(gate.limits.secret_bytes)).collect().await;
        let body = body.map_err(|_| format!("the answer of {} broke off or is too long", route.authority))?;
        Ok((status, Zeroizing::new(body.to_bytes().to_vec())))
    };
    let limit = Limits::millis(gate.limits.secret_millis);
    let answer = tokio::time::timeout(limit, Box::pin(exchange)).await;
    answer.map_err(|_| format!("{} did not answer within {} ms", route.authority, limit.as_millis()))?
}

/// A fresh connection, HTTP/2 where that is offered and the upstream chooses it.
async fn open(gate: &Gate, key: Key, route: &Route<'_>, offer: Offer) -> Result<Leg, Failure> {
    let place = gate.pool.room(&key).ok_or_else(|| Failure::unsent("too many connections to upstreams are open"))?;
    let leg = match route.authority.scheme() {
        Scheme::Http => Leg::http1(key, place, dial(gate, route).await?).await,
        Scheme::Https => {
            let stream = match tls(gate, route, offer).await {
                Err(Unfit::NoCommonVersion(_)) if offer == Offer::Http1 => tls(gate, route, Offer::Any).await,
                agreed => agreed,
            };
            let stream = stream.map_err(Failure::from)?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                Leg::http2(key, place, stream).await
            } else {
                Leg::http1(key, place, stream).await
            }
        }
    };
    let leg = leg.map_err(|error| Failure::unsent(format!("the connection could not be used: {error}")))?;
    gate.pool.share(&leg);
    Ok(leg)
}

/// Writes the request, waits for the head of the reply.
async fn exchange(
    gate: &Gate,
    mut leg: Leg,
    request: Request<Full<Bytes>>,
    progress: &Progress,
) -> Result<Reply, Failure> {
    progress.0.store(true, Ordering::SeqCst);
    let limit = Limits::seconds(gate.limits.reply_head_seconds);
    let switches = request.headers().contains_key(header::UPGRADE);
    match tokio::time::timeout(limit, leg.send(request)).await {
        // Over HTTP/1.1 its raw bytes are refused before; nothing may pass for an agreement that was not asked for.
        Ok(Ok(response)) if response.status().is_informational() && !switches => {
            Err(Failure { sent: true, why: "the upstream switches protocols, which was not asked for".to_owned() })
        }
        Ok(Ok(response)) => {
            ledger::crash::point("upstream.sent");
            Ok(Reply { response, leg })
        }
        Ok(Err(NoReply { sent, why })) => {
            progress.0.store(sent, Ordering::SeqCst);
            Err(Failure { sent, why: format!("the upstream's reply could not be read: {why}") })
        }
        Err(_) => Err(Failure { sent: true, why: format!("the upstream sent no reply within {} s", limit.as_secs()) }),
    }
}

/// The request exactly as it was decided, with the credential put in. Its URI is absolute; the connection makes of it
/// what its version needs.
fn request(facts: &Facts, injected: &Injected, once: Option<&str>) -> Result<Request<Full<Bytes>>, Failure> {
    let bad = |what: &str| Failure::unsent(format!("{what} cannot be sent"));
    let (scheme, host) = (facts.authority.scheme().as_str(), facts.authority.host_header());
    let [mark, query] = facts.query.as_deref().map(|query| ["?", query]).unwrap_or_default();
    let own = [facts.path.as_str(), mark, query];
    let target = injected.target.as_deref().map_or(own, |target| [target.as_str(), "", ""]);
    let parts = [[scheme, "://", &host], target];
    // It may hold a credential: the memory behind it is wiped when the last part of the request is gone.
    let target = Bytes::from_owner(Zeroizing::new(parts.as_flattened().concat().into_bytes()));
    let body = injected.body.as_ref().unwrap_or(facts.body.bytes());
    let length = body.len();
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = Method::from_bytes(facts.method.as_bytes()).map_err(|_| bad("the method"))?;
    *request.uri_mut() = Uri::from_maybe_shared(target).map_err(|_| bad("the target"))?;
    let headers = request.headers_mut();
    for (name, value) in &facts.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("a header name"))?;
        headers.append(name, HeaderValue::from_str(value).map_err(|_| bad("a header value"))?);
    }
    if length > 0 || ["POST", "PUT", "PATCH"].contains(&facts.method.as_str()) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Some(once) = once {
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(once).map_err(|_| bad("the idempotency key"))?);
    }
    for (name, value) in &injected.headers {
        headers.insert(name.clone(), value.clone());
    }
    Ok(request)
}

/// The key to send where the upstream honours such and the request has none: its intent's id, or its own.
fn own_key<'a>(destination: &Destination, permit: &'a Permit) -> Option<&'a str> {
    let facts = permit.facts();
    let wanted = destination.honours_idempotency() && !["GET", "HEAD", "OPTIONS"].contains(&facts.method.as_str());
    let given = facts.headers.iter().any(|(name, _)| name == IDEMPOTENCY_KEY);
    let receipt = permit.receipt();
    receipt.intent_id().or(receipt.correlation_id()).filter(|_| wanted && !given)
}

/// Resolves once, checks every address, connects to one of them.
async fn dial(gate: &Gate, route: &Route<'_>) -> Result<TcpStream, Failure> {
    let addresses = resolve(gate, route).await?;
    let limit = Limits::seconds(gate.limits.connect_seconds);
    let mut last = String::new();
    for address in addresses {
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            // What was checked and what answers must be one.
            Ok(Ok(stream)) if !stream.peer_addr().is_ok_and(|peer| peer.ip() == address.ip()) => {
                last = "the connection leads to another address".to_owned();
            }
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(|error| Failure::unsent(error.to_string()))?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("no answer within {} s", limit.as_secs()),
        }
    }
    Err(Failure::unsent(format!("{} could not be reached: {last}", route.authority)))
}

async fn resolve(gate: &Gate, route: &Route<'_>) -> Result<Vec<SocketAddr>, Failure> {
    let (host, port) = (route.authority.host(), route.authority.port());
    // Named by the operator, address and all: nothing to resolve, and only the metadata services stay closed.
    if let Some(pinned) = gate.config.connect_to.get(&format!("{host}:{port}")) {
        let checked = address::check(pinned.ip(), &[IpNet::from(pinned.ip())]);
        return checked.map(|()| vec![*pinned]).map_err(|class| refused(route, pinned.ip(), class));
    }
    let found: Vec<SocketAddr> = match host.ip() {
        Some(ip) => vec![SocketAddr::new(ip, port)],
        None => look_up(gate, route.agent, host.as_str(), port).await?,
    };
    if found.is_empty() || found.len() > Limits::size(gate.limits.addresses) {
        return Err(Failure::unsent(format!(
            "`{host}` has {} addresses; between 1 and {} are taken",
            found.len(),
            gate.limits.addresses
        )));
    }
    for each in &found {
        address::check(each.ip(), route.open).map_err(|class| refused(route, each.ip(), class))?;
        if gate.is_own(*each) {
            return Err(Failure::unsent(format!("{} is this gate itself", route.authority)));
        }
    }
    Ok(found)
}

/// Asks the system's resolver. It cannot be interrupted: who gave up waiting keeps its place among the lookups until the
/// resolver gives up too, so that names which never resolve cannot take every thread there is.
async fn look_up(gate: &Gate, agent: &str, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let place = gate.lookups.take(agent.to_owned());
    let place = place.ok_or_else(|| Failure::unsent(format!("`{host}`: too many names are being resolved")))?;
    let name = host.to_owned();
    let looking = tokio::task::spawn_blocking(move || {
        let _place = place;
        (name.as_str(), port).to_socket_addrs().map(Iterator::collect)
    });
    let limit = Limits::seconds(gate.limits.resolve_seconds);
    match tokio::time::timeout(limit, looking).await {
        Ok(Ok(Ok(found))) => Ok(found),
        Ok(Ok(Err(error))) => Err(Failure::unsent(format!("`{host}` could not be resolved: {error}"))),
        Ok(Err(error)) => Err(Failure::unsent(format!("`{host}` could not be resolved: {error}"))),
        Err(_) => Err(Failure::unsent(format!("`{host}` was not resolved within {} s", limit.as_secs()))),
    }
}

fn refused(route: &Route<'_>, ip: IpAddr, class: Forbidden) -> Failure {
    let why = match class {
        Forbidden::Metadata => "an instance metadata service, which is never dialled",
        Forbidden::NotPublic => "an address that is not public; the destination can open it with `addresses:`",
    };
    tracing::warn!(authority = %route.authority, %ip, "refused to dial");
    Failure::unsent(format!("{} resolves to {why}", route.authority))
}

/// Dials and agrees on TLS.
async fn tls(gate: &Gate, route: &Route<'_>, offer: Offer) -> Result<TlsStream<Ahead<TcpStream>>, Unfit> {
    let unsent = |why: String| Unfit::Other(Failure::unsent(format!("{}: {why}", route.authority)));
    let roots = route.roots.ok_or_else(|| unsent("its `roots:` are not loaded".to_owned()))?;
    let name = match route.authority.host().ip() {
        Some(ip) => ServerName::from(ip),
        None => ServerName::try_from(route.authority.host().as_str().to_owned())
            .map_err(|error| unsent(error.to_string()))?,
    };
    let stream = Ahead::new(dial(gate, route).await.map_err(Unfit::Other)?, BytesMut::new());
    let limit = Limits::seconds(gate.limits.connect_seconds);
    let config = match route.certificate {
        Some(certificate) => roots.presenting(certificate, offer).map_err(|error| unsent(error.to_string()))?,
        None => roots.config(offer),
    };
    let connecting = TlsConnector::from(config).connect(name, stream);
    match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if has_no_common_version(&error) => {
            Err(Unfit::NoCommonVersion(Failure::unsent(format!("{}: TLS failed: {error}", route.authority))))
        }
        Ok(Err(error)) => Err(unsent(format!("TLS failed: {error}"))),
        Err(_) => Err(unsent(format!("no TLS handshake within {} s", limit.as_secs()))),
    }
}

/// Whether the upstream speaks none of the versions of HTTP it was offered (RFC 7301 section 3.2).
fn has_no_common_version(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    error == Some(&rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol))
}
