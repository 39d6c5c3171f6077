//! The one unambiguous reading of a request: which authority, which path, which headers go on.
//!
//! CONNECT target, Host and absolute form must name the same authority, or nothing is read at all. What belongs to one
//! hop, to this gate, or pretends that another host or path was asked for is removed here, before policy sees it.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Version;
use http::request::Parts;
use policy::{Authority, Scheme};

use crate::head;
use crate::limits::Limits;
use crate::path;
use crate::refusal::Refusal;
use crate::routes::{Reverse, Via};
use crate::websocket;

/// What a request asks for.
#[derive(Debug)]
pub struct Asked {
    /// Upper-case method.
    pub method: String,
    /// Scheme, host and port; absent for a request to the gate itself.
    pub authority: Option<Authority>,
    /// Canonical path.
    pub path: String,
    /// Query as sent, without `?`.
    pub query: Option<String>,
    /// Every header of the request as received, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whether it asks for a WebSocket.
    pub socket: bool,
    /// How it came through the reverse door, if it did.
    pub via: Option<Via>,
}

/// How a request came in, as far as it says which authority is meant.
#[derive(Clone, Debug)]
pub struct Way {
    /// The gate's own address as the client reached it.
    pub door: SocketAddr,
    /// Through which door, and how.
    pub entry: Entry,
}

/// What says which authority a request is for.
#[derive(Clone, Debug)]
pub enum Entry {
    /// The request line, on the forward door.
    Forward,
    /// The routes of the reverse door.
    Reverse(Arc<Reverse>),
    /// What the tunnel is to.
    Tunnel(Authority),
}

// === impl Way ===

impl Way {
    /// Under which URL this client reaches the agent API of the forward door: directly, and through the proxy as well.
    pub fn base(&self) -> String {
        format!("http://{}", self.door)
    }

    /// Whether no TLS lies between the client and the gate.
    pub fn is_plain(&self) -> bool {
        match &self.entry {
            Entry::Forward => true,
            Entry::Reverse(door) => door.identity.is_none(),
            Entry::Tunnel(tunnel) => tunnel.scheme() == Scheme::Http,
        }
    }

    /// Whether a request in a tunnel or in absolute form is for the gate itself.
    fn names_gate(&self, authority: &Authority) -> bool {
        authority.host().as_str() == OWN_NAME || self.is_own(&authority.host_header())
    }

    /// Whether `host:port` is the gate itself.
    fn is_own(&self, host: &str) -> bool {
        host == OWN_NAME || host == self.door.to_string() || host == format!("localhost:{}", self.door.port())
    }
}

// === impl Asked ===

impl Asked {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    /// The headers that go upstream, before any credential is put in.
    ///
    /// # Errors
    /// [`Refusal::Ambiguous`] when `Connection` names a header that another hop must not remove.
    pub fn forwarded(&self) -> Result<Vec<(String, String)>, Refusal> {
        let listed =
            self.headers.iter().filter(|(name, _)| name == "connection").flat_map(|(_, value)| value.split(','));
        for token in listed.map(|token| token.trim_matches([' ', '\t']).to_ascii_lowercase()) {
            if !token.is_empty() && !CONNECTION_TOKENS.contains(&token.as_str()) {
                return Err(Refusal::Ambiguous(format!("`Connection` names `{token}`")));
            }
        }
        Ok(self.headers.iter().filter(|(name, _)| !stays_here(name)).cloned().collect())
    }
}

/// Reads `parts` as a request for one authority and one path.
///
/// # Errors
/// [`Refusal::AuthorityMismatch`] when the places that name the authority disagree, [`Refusal::Ambiguous`] for a
/// target, Host or path that can be read in two ways.
pub fn read(parts: &Parts, way: &Way, limits: &Limits) -> Result<Asked, Refusal> {
    head::check_method(parts.method.as_str())?;
    let headers = headers(parts, limits)?;
    let host = match headers
        .iter()
        .filter(|(name, _)| name == "host")
        .map(|(_, value)| value.as_str())
        .collect::<Vec<_>>()
        .as_slice()
    {
        [host] => Some(*host),
        [] => None,
        _ => return Err(Refusal::ambiguous("there is more than one Host header")),
    };
    let socket = asks_for_socket(parts, &headers, way)?;
    let absolute = absolute(parts)?;
    if absolute.is_none() && host.is_none() && parts.version != Version::HTTP_10 {
        return Err(Refusal::ambiguous("nothing names the host"));
    }
    let authority = match (&way.entry, absolute) {
        (Entry::Tunnel(tunnel), absolute) => Some(in_tunnel(tunnel, absolute, host)?),
        (Entry::Forward | Entry::Reverse(_), Some(absolute)) => {
            agree(&absolute, absolute.scheme(), host)?;
            Some(absolute)
        }
        (Entry::Forward, None) => {
            check_own(way, host)?;
            None
        }
        (Entry::Reverse(_), None) => None,
    };
    if parts.uri.query().is_some_and(|query| !query.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(Refusal::ambiguous("the query holds white space, a control or bytes outside ASCII"));
    }
    let path = if parts.uri.path().is_empty() { "/" } else { parts.uri.path() };
    let path = path::canonical(path)?;
    let (authority, path, via) = match &way.entry {
        Entry::Reverse(door) => {
            let host = host.map(str::to_owned).or(authority.map(|authority| authority.host_header()));
            let host = host.unwrap_or_default();
            let found = door.find(&host, &path);
            let (authority, path, via) = found.ok_or_else(|| Refusal::NoRoute(format!("`{host}{path}`")))?;
            (authority, path, Some(via))
        }
        Entry::Forward | Entry::Tunnel(_) => (authority.filter(|authority| !way.names_gate(authority)), path, None),
    };
    let query = parts.uri.query().map(str::to_owned);
    Ok(Asked { method: parts.method.as_str().to_owned(), authority, path, query, headers, socket, via })
}

/// The headers as text. Over HTTP/2 nothing has looked at them yet: what HTTP/1.1 refuses on raw bytes is refused here.
fn headers(parts: &Parts, limits: &Limits) -> Result<Vec<(String, String)>, Refusal> {
    let mut headers: Vec<(String, String)> = Vec::with_capacity(parts.headers.len());
    let mut bytes = 0;
    for (name, value) in &parts.headers {
        let value = value.to_str().map_err(|_| Refusal::ambiguous("a header value holds bytes outside ASCII"))?;
        bytes += name.as_str().len() + value.len() + 4;
        // HTTP/2 may split a cookie into crumbs (RFC 9113 section 8.2.3).
        match headers.last_mut() {
            Some((last, crumbs)) if name == "cookie" && last == "cookie" => *crumbs = format!("{crumbs}; {value}"),
            Some(_) | None => headers.push((name.as_str().to_owned(), value.trim_matches([' ', '\t']).to_owned())),
        }
    }
    if !headers.iter().all(|(name, _)| head::is_name(name)) {
        return Err(Refusal::ambiguous("a header name holds a character that is not allowed"));
    }
    head::check_expect(&headers)?;
    if headers.len() > Limits::size(limits.headers) || bytes > Limits::size(limits.head_bytes) {
        return Err(Refusal::HeadTooLarge(format!(
            "more than {} headers or {} bytes",
            limits.headers, limits.head_bytes
        )));
    }
    Ok(headers)
}

/// Whether a WebSocket is asked for. Other protocols are not asked for on anyone's behalf: `Upgrade` is left out, as an
/// intermediary may do (RFC 9110 section 7.8); HTTP/2 is not offered that way inside a tunnel, where a client can have it
/// by ALPN.
fn asks_for_socket(parts: &Parts, headers: &[(String, String)], way: &Way) -> Result<bool, Refusal> {
    let asked = headers.iter().filter(|(name, _)| name == "upgrade").flat_map(|(_, value)| value.split(','));
    // A version may follow the name.
    for protocol in asked.filter_map(|protocol| protocol.trim_matches([' ', '\t']).split('/').next()) {
        if protocol.eq_ignore_ascii_case("websocket") {
            return websocket::check_asked(&parts.method, parts.version, headers).map(|()| true);
        }
        if protocol.eq_ignore_ascii_case("h2c") && matches!(way.entry, Entry::Tunnel(_)) {
            return Err(Refusal::ambiguous("inside a tunnel HTTP/2 is chosen by ALPN, not by `Upgrade`"));
        }
    }
    Ok(false)
}

/// The authority of an absolute-form target (RFC 9112 section 3.2.2).
fn absolute(parts: &Parts) -> Result<Option<Authority>, Refusal> {
    let scheme = match parts.uri.scheme_str() {
        None if parts.uri.authority().is_none() => return Ok(None),
        None => return Err(Refusal::ambiguous("the target is neither a path nor a whole URL")),
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        Some(_) => return Err(Refusal::ambiguous("the scheme is neither http nor https")),
    };
    let named = parts.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    parse(scheme, named).map(Some)
}

fn in_tunnel(tunnel: &Authority, absolute: Option<Authority>, host: Option<&str>) -> Result<Authority, Refusal> {
    if let Some(absolute) = absolute.filter(|absolute| absolute != tunnel) {
        return Err(Refusal::AuthorityMismatch(format!(
            "the tunnel is to {tunnel}, the request line names {absolute}"
        )));
    }
    agree(tunnel, tunnel.scheme(), host)?;
    Ok(tunnel.clone())
}

fn agree(authority: &Authority, scheme: Scheme, host: Option<&str>) -> Result<(), Refusal> {
    let Some(host) = host else { return Ok(()) };
    let named = parse(scheme, host)?;
    if named == *authority {
        return Ok(());
    }
    Err(Refusal::AuthorityMismatch(format!("the request is for {authority}, its Host header names {named}")))
}

/// A request in origin form on the forward door is for the gate itself, and must say so.
fn check_own(way: &Way, host: Option<&str>) -> Result<(), Refusal> {
    let host = host.unwrap_or_default().to_ascii_lowercase();
    if way.is_own(&host) {
        return Ok(());
    }
    Err(Refusal::AuthorityMismatch(format!(
        "`{host}` is not this gate; a request through the proxy names the whole URL"
    )))
}

fn parse(scheme: Scheme, text: &str) -> Result<Authority, Refusal> {
    Authority::parse(scheme, text).map_err(|error| Refusal::Ambiguous(error.to_string()))
}

/// Headers that end at this hop or must not be believed further on.
fn stays_here(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
        || MISLEADING.contains(&name)
        || name.starts_with("proxy-")
        || name.starts_with("writ-")
        || name.starts_with("x-gate-")
        || name.starts_with("x-forwarded-")
}

/// The gate's own name for requests through the proxy.
pub const OWN_NAME: &str = "writ.internal";

/// What `Connection` may list. Anything else could make the next hop drop a header we rely on.
const CONNECTION_TOKENS: &[&str] =
    &["close", "keep-alive", "te", "upgrade", "http2-settings", "proxy-connection", "proxy-authorization"];

/// RFC 9110 section 7.6.1, and what is set again from the checked request.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "sec-websocket-extensions",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Headers that some servers take for the host, the path or the method.
const MISLEADING: &[&str] = &[
    "forwarded",
    "max-forwards",
    "x-accel-redirect",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-envoy-original-path",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::builder().method("GET").uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn door() -> Way {
        Way { door: "127.0.0.1:4001".parse().unwrap(), entry: Entry::Forward }
    }

    fn tunnel() -> Way {
        Way { entry: Entry::Tunnel(Authority::parse(Scheme::Https, "good.example:443").unwrap()), ..door() }
    }

    #[test]
    fn c02_to_c11_places_that_name_the_authority_must_agree() {
        let door = door();
        let passes = [
            (tunnel(), "/a", "good.example"),
            (tunnel(), "/a", "GOOD.example:443"),
            (tunnel(), "https://good.example/a", "good.example"),
            (door.clone(), "http://good.example/a", "good.example"),
            (door.clone(), "http://good.example:80/a", "good.example"),
            (door.clone(), "/v1/intents/x", "127.0.0.1:4001"),
            (door.clone(), "/v1/intents/x", "writ.internal"),
            (door.clone(), "http://127.0.0.1:4001/v1/intents/x", "127.0.0.1:4001"),
            (door.clone(), "http://writ.internal/v1/intents/x", "writ.internal"),
        ];
        for (way, target, host) in passes {
            assert!(read(&request(target, &[("host", host)]), &way, &Limits::default()).is_ok(), "{target} {host}");
        }
        let fails = [
            (tunnel(), "/a", "evil.example"),
            (tunnel(), "/a", "good.example:444"),
            (tunnel(), "https://evil.example/a", "good.example"),
            (tunnel(), "http://good.example/a", "good.example"),
            (door.clone(), "http://evil.example/a", "good.example"),
            (door.clone(), "/a", "good.example"),
        ];
        for (way, target, host) in fails {
            let refused = read(&request(target, &[("host", host)]), &way, &Limits::default());
            assert!(matches!(refused, Err(Refusal::AuthorityMismatch(_))), "{target} {host}: {refused:?}");
        }
        for host in ["good@evil", "good.example,evil.example", "a b", "good.example.", "2130706433", "[::1%25eth0]", ""]
        {
            let refused = read(&request("/a", &[("host", host)]), &tunnel(), &Limits::default());
            assert!(matches!(refused, Err(Refusal::Ambiguous(_))), "{host}: {refused:?}");
        }
    }

    #[test]
    fn hop_by_hop_gate_and_misleading_headers_stay_here() {
        let kept = [("accept", "*/*"), ("x-request-id", "7")];
        let dropped = [
            ("connection", "keep-alive, TE"),
            ("te", "trailers"),
            ("proxy-authorization", "Basic x"),
            ("writ-decision", "allow"),
            ("x-gate-wait", "true"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "host=evil"),
            ("x-original-url", "/admin"),
            ("x-http-method-override", "DELETE"),
            ("upgrade", "TLS/1.0"),
            ("http2-settings", "AA"),
            ("expect", "100-continue"),
        ];
        let all: Vec<_> = [("host", "good.example")].into_iter().chain(kept).chain(dropped).collect();
        let asked = read(&request("/a", &all), &tunnel(), &Limits::default()).unwrap();
        let expected: Vec<(String, String)> =
            kept.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(asked.forwarded().unwrap(), expected);
    }

    #[test]
    fn a38_connection_may_not_name_other_headers() {
        let asked = read(
            &request("/a", &[("host", "good.example"), ("connection", "authorization, close")]),
            &tunnel(),
            &Limits::default(),
        )
        .unwrap();
        assert!(matches!(asked.forwarded(), Err(Refusal::Ambiguous(_))));
    }
}
