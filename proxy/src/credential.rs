//! What `credentials.yaml` says: where a secret is, which hosts it may go to, and how it is put into a request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::{Authority, Scheme};
use schemars::JsonSchema;
use serde::Deserialize;
use vault::{Place, Providers, Reference};

mod oauth2;
mod shape;
mod signing;
mod slot;

pub use oauth2::{ClientAuth, Grant, OAuth2};
use shape::RawInject;
pub use shape::Shape;
pub use signing::{Algorithm, Encoding, Hmac, SigV4, Text};
pub use slot::{PLACEHOLDER, Slot};

/// One entry of `credentials.yaml`.
#[derive(Debug)]
pub struct Credential {
    /// Where the secret is, and what reads it there.
    pub place: Place,
    /// How it goes into a request.
    pub shape: Shape,
    /// What agents send in the place of the secret, because their clients want something there.
    pub placeholder: Option<String>,
    /// Whether a request without that is refused.
    pub requires_placeholder: bool,
    /// Whether parts of replies may be asked for: what comes back in pieces cannot be told to be the secret.
    pub ranges: bool,
    /// Reply headers that reach the agent although an upstream hands out credentials in them; names in lower case.
    pub reply_headers: BTreeSet<String>,
    /// Hosts it may go to: exact names, or `*.suffix`.
    hosts: Vec<String>,
}

/// The file as written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCredentials {
    #[serde(default)]
    credentials: BTreeMap<String, RawCredential>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawCredential {
    secret: String,
    provider: Option<String>,
    #[serde(default)]
    cache_seconds: u64,
    hosts: Vec<String>,
    inject: RawInject,
    placeholder: Option<String>,
    #[serde(default)]
    require_placeholder: bool,
    #[serde(default)]
    ranges: bool,
    #[serde(default = "challenges")]
    reply_headers: BTreeSet<String>,
}

// === impl Credential ===

impl Credential {
    /// Whether the secret may go to `authority`: one of its hosts, over TLS.
    pub fn is_bound_to(&self, authority: &Authority) -> bool {
        authority.scheme() == Scheme::Https && self.hosts.iter().any(|host| covers(host, authority.host().as_str()))
    }

    /// Whether no part of a reply may reach the agent, because the secret could come back in it.
    pub fn withholds_parts(&self) -> bool {
        self.shape.travels() && !self.ranges
    }

    /// The hosts it may go to, as written.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Whether the secret may go to every host that the pattern of a destination can match.
    pub fn covers(&self, pattern: &str) -> bool {
        let under = |suffix: &str| self.hosts.iter().any(|host| host.starts_with("*.") && covers(host, suffix));
        let listed = self.hosts.iter().any(|host| host == pattern || covers(host, pattern));
        listed || pattern.strip_prefix("*.").is_some_and(under)
    }
}

// === impl RawCredentials ===

impl RawCredentials {
    /// Checks every entry; `providers` are those that may be asked.
    ///
    /// # Errors
    /// The name of each entry that cannot be used, with a sentence about what to write instead; never a secret.
    pub fn check(self, providers: &Providers) -> Result<BTreeMap<String, Credential>, Vec<(String, String)>> {
        let mut checked = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, raw) in self.credentials {
            match credential(raw, providers) {
                Ok(credential) => {
                    checked.insert(name, credential);
                }
                Err(fault) => faults.push((name, fault)),
            }
        }
        if faults.is_empty() { Ok(checked) } else { Err(faults) }
    }
}

fn credential(raw: RawCredential, providers: &Providers) -> Result<Credential, String> {
    let kept = kept_for(raw.cache_seconds)?;
    let place = |text: &str, provider: Option<&str>| {
        let reference = text.parse::<Reference>().map_err(|error| error.to_string())?;
        let place = providers.place(reference, provider).map_err(|error| error.to_string())?;
        Ok::<Place, String>(place.kept_for(kept))
    };
    let provider = raw.provider.as_deref();
    // What stands beside the secret may be kept elsewhere.
    let beside = |text: &str| place(text, provider).or_else(|_| place(text, None));
    let place = place(&raw.secret, provider)?;
    if raw.hosts.is_empty() {
        return Err("`hosts:` is empty; name the hosts this secret may go to".to_owned());
    }
    let hosts = raw.hosts.iter().map(|host| bound_host(host)).collect::<Result<_, _>>()?;
    let reply_headers = raw.reply_headers.iter().map(|name| name.to_ascii_lowercase()).collect::<BTreeSet<_>>();
    if let Some(name) = reply_headers.iter().find(|name| !HANDING_OUT.contains(&name.as_str())) {
        return Err(format!("`{name}` passes anyway; `reply_headers:` may list {}", HANDING_OUT.join(", ")));
    }
    let shape = raw.inject.check(beside)?;
    let place = if let Shape::Certificate(_) = shape { place.with_lines() } else { place };
    check_placeholder(raw.placeholder.as_deref(), raw.require_placeholder, &shape)?;
    Ok(Credential {
        place,
        shape,
        placeholder: raw.placeholder,
        requires_placeholder: raw.require_placeholder,
        ranges: raw.ranges,
        reply_headers,
        hosts,
    })
}

/// One that is short or has odd characters could stand anywhere by chance, or not be found where it stands.
fn check_placeholder(placeholder: Option<&str>, required: bool, shape: &Shape) -> Result<(), String> {
    let Some(placeholder) = placeholder else {
        let why = "`require_placeholder:` needs a `placeholder:`, such as `sk-writ-` and twenty random characters";
        return if required { Err(why.to_owned()) } else { Ok(()) };
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if placeholder.len() < LEAST_PLACEHOLDER || !placeholder.bytes().all(plain) {
        return Err(format!(
            "`placeholder:` needs {LEAST_PLACEHOLDER} or more letters, digits, `-` and `_`, so that it is nothing else"
        ));
    }
    match shape.slot() {
        Some(Slot::Url) | None => Err("a placeholder has no place with this `inject:`; leave it out".to_owned()),
        Some(_) => Ok(()),
    }
}

fn kept_for(seconds: u64) -> Result<Duration, String> {
    if seconds > MOST_CACHE_SECONDS {
        return Err(format!("`cache_seconds` is {seconds}; a secret is kept for {MOST_CACHE_SECONDS} at most"));
    }
    Ok(Duration::from_secs(seconds))
}

/// A client such as git wants to see how it should have authenticated.
fn challenges() -> BTreeSet<String> {
    BTreeSet::from(["www-authenticate".to_owned()])
}

fn bound_host(host: &str) -> Result<String, String> {
    let host = host.to_ascii_lowercase();
    let suffix = host.strip_prefix("*.");
    if policy::Host::parse(suffix.unwrap_or(&host)).is_err() {
        return Err(format!("`{host}` is not a host name or `*.suffix`"));
    }
    if suffix.is_some_and(is_shared) {
        return Err(format!("under `{host}` anybody can have a name; list the exact hosts this secret may go to"));
    }
    Ok(host)
}

/// Whether strangers get names under it: it is a public suffix (of registries, or the private section of the list, as
/// of hosting services), or has such below it.
fn is_shared(suffix: &str) -> bool {
    let public = psl::suffix(suffix.as_bytes());
    public.is_none_or(|public| public.as_bytes() == suffix.as_bytes()) || ABOVE_SHARED.contains(&suffix)
}

fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1),
        None => pattern == host,
    }
}

/// Reply headers in which an upstream hands out credentials, or asks for them.
pub const HANDING_OUT: &[&str] = &["authentication-info", "set-cookie", "set-cookie2", "www-authenticate"];

/// Seconds after which a secret that was rotated or revoked has to be noticed.
const MOST_CACHE_SECONDS: u64 = 300;

/// Characters of the shortest placeholder.
const LEAST_PLACEHOLDER: usize = 20;

/// Domains that are no public suffix themselves, below which services give names to strangers.
const ABOVE_SHARED: &[&str] = &["amazonaws.com", "amazonaws.com.cn", "core.windows.net", "googleapis.com", "on.aws"];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<String, Credential>, String> {
        let source = policy::Source { name: "credentials.yaml".to_owned(), text: text.to_owned() };
        let raw: RawCredentials = policy::yaml::read(&source).map_err(|error| error.to_string())?;
        raw.check(&Providers::default())
            .map_err(|faults| faults.iter().map(|(name, fault)| format!("{name}: {fault}\n")).collect())
    }

    fn one(entry: &str) -> Result<Credential, String> {
        read(&format!("credentials:\n  x: {entry}\n")).map(|mut all| all.remove("x").unwrap())
    }

    #[test]
    fn a_secret_goes_to_its_hosts_over_tls_only() {
        let stripe = one(
            "{ secret: env://K, hosts: [api.stripe.com, \"*.my.salesforce.com\"], inject: { bearer: \"{secret}\" } }",
        )
        .unwrap();
        let bound = |scheme, name: &str| stripe.is_bound_to(&Authority::parse(scheme, name).unwrap());
        assert!(bound(Scheme::Https, "api.stripe.com"));
        assert!(bound(Scheme::Https, "acme.my.salesforce.com"));
        assert!(!bound(Scheme::Http, "api.stripe.com"));
        for host in
            ["evil.com", "api.stripe.com.evil.com", "evilapi.stripe.com", "my.salesforce.com", "xmy.salesforce.com"]
        {
            assert!(!bound(Scheme::Https, host), "{host}");
        }
        for pattern in ["api.stripe.com", "*.my.salesforce.com", "a.my.salesforce.com", "*.eu.my.salesforce.com"] {
            assert!(stripe.covers(pattern), "{pattern}");
        }
        for pattern in ["*.stripe.com", "*.api.stripe.com", "*.salesforce.com", "my.salesforce.com"] {
            assert!(!stripe.covers(pattern), "{pattern}");
        }
    }

    #[test]
    fn faults_are_named() {
        let faults = [
            ("{ secret: op://v/i/f, hosts: [a.com], inject: { bearer: \"{secret}\" } }", "provider of the kind"),
            ("{ secret: env://K, provider: x, hosts: [a.com], inject: {} }", "leave `provider: x` out"),
            (
                "{ secret: env://K, cache_seconds: 301, hosts: [a.com], inject: { bearer: \"{secret}\" } }",
                "300 at most",
            ),
            ("{ secret: nope, hosts: [a.com], inject: { bearer: \"{secret}\" } }", "reference"),
            ("{ secret: env://K, hosts: [], inject: { bearer: \"{secret}\" } }", "hosts"),
            ("{ secret: env://K, hosts: [\"*.amazonaws.com\"], inject: { bearer: \"{secret}\" } }", "exact hosts"),
            ("{ secret: env://K, hosts: [\"*.s3.amazonaws.com\"], inject: { bearer: \"{secret}\" } }", "exact hosts"),
            ("{ secret: env://K, hosts: [\"*.github.io\"], inject: { bearer: \"{secret}\" } }", "exact hosts"),
            ("{ secret: env://K, hosts: [\"*.myshopify.com\"], inject: { bearer: \"{secret}\" } }", "exact hosts"),
            ("{ secret: env://K, hosts: [\"*.co.uk\"], inject: { bearer: \"{secret}\" } }", "exact hosts"),
            ("{ secret: env://K, hosts: [a.com], inject: { bearer: \"{secret}\" }, placeholder: sk-writ-short }", "20"),
            (
                "{ secret: env://K, hosts: [a.com], inject: { url: true }, placeholder: sk-writ-00000000000000 }",
                "no place",
            ),
            (
                "{ secret: env://K, hosts: [a.com], inject: { bearer: \"{secret}\" }, require_placeholder: true }",
                "needs a",
            ),
            ("{ secret: env://K, hosts: [a.com], inject: {} }", "exactly one"),
            ("{ secret: env://K, hosts: [a.com], inject: { bearer: x } }", "{secret}"),
            ("{ secret: env://K, hosts: [a.com], inject: { header: { name: host } } }", "frames"),
            ("{ secret: env://K, hosts: [a.com], inject: { bearer: \"{secret}\", url: true } }", "exactly one"),
            ("{ secret: env://K, hosts: [a.com], inject: { cookie: { name: 'a b' } } }", "plain name"),
            ("{ secret: env://K, hosts: [a.com], inject: { json: { field: / } } }", "/auth/token"),
            ("{ secret: env://K, hosts: [a.com], inject: { path: bot } }", "/bot{secret}"),
            (
                "{ secret: env://K, hosts: [a.com], inject: { hmac: { over: x, headers: { x: '{signature}' } } } }",
                "{body}",
            ),
            (
                "{ secret: env://K, hosts: [a.com], inject: { hmac: { over: '{body}', headers: { x: y } } } }",
                "{signature}",
            ),
            ("{ secret: env://K, hosts: [a.com], inject: { bearer: \"{secret}\" }, extra: 1 }", "extra"),
            ("{ secret: env://K, hosts: [a.com], inject: { url: true }, reply_headers: [etag] }", "passes anyway"),
        ];
        for (entry, expected) in faults {
            let fault = one(entry).err().unwrap_or_default();
            assert!(fault.contains(expected), "{entry}: {fault}");
        }
        assert!(read("credentials:\n  x: {}\n  x: {}\n").is_err(), "a duplicate entry");
    }
}
