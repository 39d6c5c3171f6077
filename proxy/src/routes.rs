//! The reverse door's table: which upstream a name or a path prefix of the door stands for, and the way back.
//!
//! Nothing here decides whether a request is allowed. It names the authority and the path that policies then see, and
//! there is no default: what no route is for is refused.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use http::header::{CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use policy::{Authority, Host, Scheme};
use rustls::ServerConfig;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::canonical::OWN_NAME;
use crate::{path, trust};

/// The reverse door as the operator configured it.
#[derive(Debug)]
pub struct Reverse {
    /// Where it listens.
    pub address: SocketAddr,
    /// The one agent that speaks at a bound door without a token.
    pub agent: Option<String>,
    /// Whose certificate it shows; without one it speaks plain HTTP.
    pub identity: Option<Identity>,
    /// Where the key of the operator's own certificate is.
    pub key: Option<PathBuf>,
    /// Hosts by which clients reach it, besides its address and `localhost`.
    names: BTreeSet<String>,
    routes: Vec<Arc<Route>>,
}

/// Whose certificate the reverse door shows.
#[derive(Debug)]
pub enum Identity {
    /// The operator's own.
    Given(Arc<ServerConfig>),
    /// Leaves of the gate's authority.
    Local,
}

/// What a host, or a path prefix, stands for.
#[derive(Debug)]
pub struct Route {
    /// The host it is for; without one it is for the door's own names.
    host: Option<String>,
    /// Empty, or `/…` without a slash at its end.
    prefix: String,
    upstream: Authority,
    /// Path of the upstream that the prefix stands for: empty, or `/…` without a slash at its end.
    base: String,
}

/// How a request came through the reverse door.
#[derive(Debug)]
pub struct Via {
    door: Arc<Reverse>,
    /// `host[:port]` as the client wrote it.
    host: String,
    /// Absent for a request to the gate itself.
    route: Option<Arc<Route>>,
}

/// `reverse:` of `writ.yaml`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReverse {
    routes: Vec<RawRoute>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    tls: bool,
    #[serde(default)]
    certificate: Option<PathBuf>,
    #[serde(default)]
    key: Option<PathBuf>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    prefix: Option<String>,
    upstream: String,
}

// === impl Reverse ===

impl Reverse {
    /// Where a request for `host` and a canonical path goes: what it asks for, and how it came. No authority: it is for
    /// the gate itself. `None`: no route is for it.
    pub fn find(self: &Arc<Reverse>, host: &str, path: &str) -> Option<(Option<Authority>, String, Via)> {
        let named = Authority::parse(Scheme::Http, host).ok()?;
        let via = |route| Via { door: Arc::clone(self), host: host.to_owned(), route };
        let for_host = self.routes.iter().any(|route| route.host.as_deref() == Some(named.host().as_str()));
        if !for_host && !self.is_own(named.host()) {
            return None;
        }
        if let Some(own) = below(OWN_PREFIX, path) {
            return Some((None, rooted(own), via(None)));
        }
        let wanted = for_host.then(|| named.host().as_str());
        let routes = self.routes.iter().filter(|route| route.host.as_deref() == wanted);
        let route =
            routes.filter(|route| below(&route.prefix, path).is_some()).max_by_key(|route| route.prefix.len())?;
        let rest = below(&route.prefix, path).unwrap_or_default();
        Some((Some(route.upstream.clone()), rooted(&format!("{}{rest}", route.base)), via(Some(Arc::clone(route)))))
    }

    /// Whether a TLS client may ask for this name.
    pub fn is_known(&self, name: &str) -> bool {
        let host = Host::parse(name).ok();
        host.is_some_and(|host| {
            self.is_own(&host) || self.routes.iter().any(|route| route.host.as_deref() == Some(host.as_str()))
        })
    }

    /// Each route in words, `/prefix → https://upstream/base`.
    pub fn shown(&self) -> impl Iterator<Item = String> {
        self.routes.iter().map(|route| {
            let host = route.host.as_deref().unwrap_or_default();
            format!("{host}{} → {}{}", rooted(&route.prefix), route.upstream, route.base)
        })
    }

    /// Only names that were given: a page whose name resolves to this machine must not reach the door.
    fn is_own(&self, host: &Host) -> bool {
        host.ip().is_some() || ["localhost", OWN_NAME].contains(&host.as_str()) || self.names.contains(host.as_str())
    }
}

// === impl Via ===

impl Via {
    /// Under which URL this client reaches the agent API.
    pub fn base(&self) -> String {
        let scheme = if self.door.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{OWN_PREFIX}", self.host)
    }

    /// Maps what a reply says of its upstream's places to places of this door: where it redirects to, and where its
    /// cookies belong. Bodies are not touched.
    pub fn restore(&self, headers: &mut HeaderMap) {
        let Some(route) = &self.route else { return };
        for name in [LOCATION, CONTENT_LOCATION] {
            replace(headers, &name, |value| self.location(route, value));
        }
        let plain = self.door.identity.is_none();
        replace(headers, &SET_COOKIE, |value| Some(cookie(route, value, plain)));
    }

    /// A reference of the upstream as one of this door; `None` where it leads elsewhere, or is relative.
    fn location(&self, route: &Route, value: &str) -> Option<String> {
        let scheme = route.upstream.scheme();
        let whole = if value.starts_with("//") { format!("{scheme}:{value}") } else { value.to_owned() };
        if whole.starts_with('/') {
            return route.outside(&whole);
        }
        let (scheme, rest) = [Scheme::Http, Scheme::Https]
            .into_iter()
            .find_map(|scheme| Some((scheme, whole.strip_prefix(scheme.as_str())?.strip_prefix("://")?)))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, place) = rest.split_at_checked(end)?;
        let named = Authority::parse(scheme, authority).ok()?;
        let place = if place.starts_with('/') { place.to_owned() } else { format!("/{place}") };
        // Only what the client reaches under the name it used.
        let others = self.door.routes.iter().filter(|other| other.host == route.host && other.upstream == named);
        let fitting = others.filter_map(|other| Some((other.base.len(), other.outside(&place)?)));
        fitting.max_by_key(|(length, _)| *length).map(|(_, outside)| outside)
    }
}

// === impl Route ===

impl Route {
    /// A path of the upstream, with what follows it, as one of this door.
    fn outside(&self, place: &str) -> Option<String> {
        let end = place.find(['?', '#']).unwrap_or(place.len());
        let (path, rest) = place.split_at_checked(end)?;
        let inside = below(&self.base, path)?;
        Some(rooted(&format!("{}{inside}", self.prefix)) + rest)
    }
}

// === impl RawReverse ===

impl RawReverse {
    /// Checks the section for a door at `address`.
    ///
    /// # Errors
    /// Names the setting and what to do.
    pub(crate) fn check(self, address: SocketAddr) -> Result<Reverse> {
        if self.routes.is_empty() {
            bail!("`reverse.routes` is empty; name at least one upstream, or leave `reverse` out");
        }
        if self.agent.is_some() && !address.ip().is_loopback() {
            bail!(
                "`reverse.agent` binds a door that others reach ({address}); let `doors.reverse` be a loopback address"
            );
        }
        let identity = match (self.tls, &self.certificate, &self.key) {
            (false, None, None) => None,
            (true, None, None) => Some(Identity::Local),
            (true, Some(certificate), Some(key)) => Some(Identity::Given(trust::server(certificate, key)?)),
            _ => bail!("`reverse.certificate` and `reverse.key` go together, with `tls: true`"),
        };
        let names = self.names.iter().map(|name| host(name)).collect::<Result<_>>()?;
        let mut routes: Vec<Arc<Route>> = Vec::new();
        for raw in self.routes {
            let route = raw.check()?;
            if routes.iter().any(|other| (&other.host, &other.prefix) == (&route.host, &route.prefix)) {
                bail!("two `reverse.routes` are for `{}{}`", route.host.unwrap_or_default(), rooted(&route.prefix));
            }
            routes.push(Arc::new(route));
        }
        Ok(Reverse { address, agent: self.agent, identity, key: self.key, names, routes })
    }
}

// === impl RawRoute ===

impl RawRoute {
    fn check(self) -> Result<Route> {
        if self.host.is_none() && self.prefix.is_none() {
            bail!("the route to `{}` has neither `prefix:` nor `host:`", self.upstream);
        }
        let prefix = segments(self.prefix.as_deref().unwrap_or("/"))?;
        if below(OWN_PREFIX, &prefix).is_some() {
            bail!("`{prefix}` is where the gate's own pages are; choose another prefix");
        }
        let (upstream, base) = upstream(&self.upstream)
            .with_context(|| format!("`{}` is not an upstream, such as `https://api.example.com/v1`", self.upstream))?;
        let host = self.host.as_deref().map(host).transpose()?;
        Ok(Route { host, prefix, upstream, base })
    }
}

fn upstream(url: &str) -> Result<(Authority, String)> {
    let (scheme, rest) = url.split_once("://").context("it has no scheme")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => bail!("its scheme is neither http nor https"),
    };
    let (authority, base) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).context("it has no host")?;
    Ok((Authority::parse(scheme, authority)?, segments(if base.is_empty() { "/" } else { base })?))
}

fn host(text: &str) -> Result<String> {
    let host = Host::parse(text).with_context(|| format!("`{text}` is not a host name; leave scheme and port out"))?;
    Ok(host.as_str().to_owned())
}

/// A canonical path without a slash at its end; the root is empty.
fn segments(text: &str) -> Result<String> {
    let canonical =
        path::canonical(text).map_err(|refusal| anyhow!("`{text}` is not a path: {}", refusal.answer().detail))?;
    if canonical.trim_end_matches('/') != text.trim_end_matches('/') {
        bail!("`{text}` is not a plain path; write it as `{canonical}`");
    }
    Ok(canonical.trim_end_matches('/').to_owned())
}

/// What of `path` stands below `prefix`: empty, or `/…`.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn rooted(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// A cookie of the upstream as one of this door: without its domain, its path below the prefix. Over plain HTTP it would
/// be lost if it stayed `Secure`.
fn cookie(route: &Route, value: &str, plain: bool) -> String {
    let kept = value.split(';').enumerate().filter_map(|(at, part)| {
        let (name, set) = part.trim().split_once('=').unwrap_or((part.trim(), ""));
        match name.to_ascii_lowercase().as_str() {
            _ if at == 0 => Some(part.trim().to_owned()),
            "domain" => None,
            "secure" if plain => None,
            "path" => Some(format!("Path={}", route.outside(set).unwrap_or_else(|| rooted(&route.prefix)))),
            _ => Some(part.trim().to_owned()),
        }
    });
    kept.collect::<Vec<_>>().join("; ")
}

/// Replaces every value of a header for which `map` has another.
fn replace(headers: &mut HeaderMap, name: &HeaderName, map: impl Fn(&str) -> Option<String>) {
    for value in headers.iter_mut().filter(|(each, _)| *each == name).map(|(_, value)| value) {
        let mapped = value.to_str().ok().and_then(&map).and_then(|text| HeaderValue::from_str(&text).ok());
        if let Some(mapped) = mapped {
            *value = mapped;
        }
    }
}

/// Where the agent API is on the reverse door.
const OWN_PREFIX: &str = "/_writ";

#[cfg(test)]
mod tests;
