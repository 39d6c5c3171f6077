//! Puts a credential into a permitted request, and takes the agent's own out of it before anyone decides.
//!
//! A secret is fetched only with a [`Permit`] in hand, goes only to a host its credential is bound to, and every copy
//! made here is wiped. (The copy in the TLS library's write buffer is not under our control.)

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::credential::{Credential, PLACEHOLDER, Shape};
use crate::gate::Gate;
use crate::permit::Permit;
use crate::refusal::Refusal;

/// A credential rendered for one request.
#[derive(Default)]
pub struct Injected {
    /// A header to set.
    pub header: Option<(HeaderName, HeaderValue)>,
    /// A query parameter to append, percent-encoded.
    pub query: Option<Zeroizing<String>>,
    /// Reference, provider and version for the ledger; null without a credential.
    pub origin: Value,
}

// === impl Injected ===

impl std::fmt::Debug for Injected {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Injected").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Fetches and renders the credential that the permit's grant names.
///
/// # Errors
/// [`Refusal::Unfetched`] when its source failed, [`Refusal::VaultUnavailable`] when it is not configured or not bound
/// to this host. Never the secret.
pub async fn credentials(gate: &Gate, permit: &Permit) -> Result<Injected, Refusal> {
    let Some(name) = permit.grant().credential() else { return Ok(Injected::default()) };
    let credential = permit.rulebook().credentials.get(name);
    let credential =
        credential.ok_or_else(|| Refusal::VaultUnavailable(format!("credential `{name}` is not configured")))?;
    let authority = &permit.facts().authority;
    if !credential.is_bound_to(authority) {
        return Err(Refusal::VaultUnavailable(format!("credential `{name}` is not bound to {authority}")));
    }
    let fetched = gate.vault.fetch(&credential.place).await;
    let fetched = fetched.map_err(|error| Refusal::Unfetched(error.fault.clone(), error.to_string()))?;
    let rendered = fetched.secret.lend(|secret| render(&credential.shape, secret));
    let mut injected = rendered.map_err(Refusal::VaultUnavailable)?;
    injected.origin = origin(permit, fetched.version);
    Ok(injected)
}

/// What the ledger says of the credential that a permit names: null when it names none.
pub fn origin(permit: &Permit, version: Option<String>) -> Value {
    let name = permit.grant().credential();
    let credential = name.and_then(|name| permit.rulebook().credentials.get(name));
    let Some(place) = credential.map(|credential| &credential.place) else { return Value::Null };
    json!({
        "name": name,
        "reference": place.reference().to_string(),
        "provider": place.provider(),
        "version": version,
    })
}

/// Removes whatever the agent itself would authenticate with at a destination that gets a credential from the gate.
pub fn strip(credential: &Credential, headers: &mut Vec<(String, String)>, query: &mut Option<String>) {
    let own = match &credential.shape {
        Shape::Basic { .. } => "authorization",
        Shape::Header { name, .. } => name.as_str(),
        Shape::Query { name } => {
            strip_query(query, name);
            "authorization"
        }
    };
    headers.retain(|(name, _)| name != own && !CREDENTIAL_HEADERS.contains(&name.as_str()));
}

fn strip_query(query: &mut Option<String>, name: &str) {
    let Some(text) = query.as_deref() else { return };
    let kept: Vec<&str> = text.split('&').filter(|pair| !names(pair, name)).collect();
    *query = (!kept.is_empty()).then(|| kept.join("&"));
}

/// Whether a `name=value` pair has this name, however it is escaped.
fn names(pair: &str, name: &str) -> bool {
    let given = pair.split('=').next().unwrap_or_default().as_bytes();
    let mut decoded = Vec::with_capacity(given.len());
    let mut rest = given;
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| tail.get(..2).and_then(|hex| str::from_utf8(hex).ok()));
        match escaped.flatten().and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(octet) => {
                decoded.push(octet);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded.eq_ignore_ascii_case(name.as_bytes())
}

fn render(shape: &Shape, secret: &[u8]) -> Result<Injected, String> {
    let secret = str::from_utf8(secret).map_err(|_| "the secret is not text".to_owned())?;
    let fill = |template: &str| filled(template, secret);
    match shape {
        Shape::Basic { user, password } => {
            let (user, password) = (fill(user), fill(password));
            let pair = joined(&[&user, ":", &password]);
            let encoded = Zeroizing::new(BASE64.encode(pair.as_bytes()));
            header("authorization", joined(&["Basic ", &encoded]))
        }
        Shape::Header { name, value } => header(name, fill(value)),
        Shape::Query { name } => {
            let mut pair = Zeroizing::new(String::with_capacity(name.len() + 1 + 3 * secret.len()));
            pair.push_str(name);
            pair.push('=');
            encode_into(&mut pair, secret);
            Ok(Injected { query: Some(pair), ..Injected::default() })
        }
    }
}

fn header(name: &str, value: Zeroizing<String>) -> Result<Injected, String> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))?;
    // The value lives in memory that is wiped when the last copy of the header is gone.
    let bytes = Bytes::from_owner(Zeroizing::new(value.as_bytes().to_vec()));
    let mut value =
        HeaderValue::from_maybe_shared(bytes).map_err(|_| "the secret cannot stand in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(Injected { header: Some((name, value)), ..Injected::default() })
}

/// A template with the secret in its places.
fn filled(template: &str, secret: &str) -> Zeroizing<String> {
    let mut parts = Vec::new();
    for (at, part) in template.split(PLACEHOLDER).enumerate() {
        if at > 0 {
            parts.push(secret);
        }
        parts.push(part);
    }
    joined(&parts)
}

/// Parts put together in memory that is made at once: a text that grows leaves copies behind that nobody wipes.
fn joined(parts: &[&str]) -> Zeroizing<String> {
    let mut whole = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        whole.push_str(part);
    }
    whole
}

fn encode_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Headers that APIs take credentials from.
const CREDENTIAL_HEADERS: &[&str] = &[
    "api-key",
    "apikey",
    "authorization",
    "cookie",
    "private-token",
    "x-access-token",
    "x-api-key",
    "x-auth-token",
    "x-goog-api-key",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_render_as_their_specifications_say() {
        let value = |shape: &Shape| {
            let injected = render(shape, b"sk_1/2").unwrap();
            injected.header.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        };
        let basic = Shape::Basic { user: "{secret}".into(), password: String::new() };
        assert_eq!(value(&basic), Some(("authorization".into(), "Basic c2tfMS8yOg==".into())));
        let header = Shape::Header { name: "x-api-key".into(), value: "{secret}".into() };
        assert_eq!(value(&header), Some(("x-api-key".into(), "sk_1/2".into())));
        let query = render(&Shape::Query { name: "key".into() }, b"sk_1/2").unwrap();
        assert_eq!(query.query.unwrap().as_str(), "key=sk_1%2F2");
    }

    #[test]
    fn g01_the_agents_own_credentials_are_removed() {
        let credential = |inject: &str| {
            let text = format!("credentials: {{ x: {{ secret: 'env://K', hosts: [a.example], inject: {inject} }} }}\n");
            let source = policy::Source { name: "c".into(), text };
            policy::yaml::read::<crate::credential::RawCredentials>(&source)
                .unwrap()
                .check(&vault::Providers::default())
                .unwrap()
                .remove("x")
                .unwrap()
        };
        let mut headers: Vec<(String, String)> = ["authorization", "x-api-key", "cookie", "x-mine", "accept"]
            .iter()
            .map(|name| ((*name).to_owned(), "v".to_owned()))
            .collect();
        let mut query = Some("a=1&KEY=x&k%65y=y&keys=2".to_owned());
        strip(&credential("{ header: { name: x-mine } }"), &mut headers, &mut query);
        assert_eq!(headers, [("accept".to_owned(), "v".to_owned())]);
        strip(&credential("{ query: { name: key } }"), &mut headers, &mut query);
        assert_eq!(query.as_deref(), Some("a=1&keys=2"));
    }

    #[test]
    fn debug_never_shows_the_secret() {
        let shape = Shape::Header { name: "x".into(), value: "{secret}".into() };
        let shown = format!("{:?}", render(&shape, b"canary-7").unwrap());
        assert!(!shown.contains("canary-7"), "{shown}");
    }
}
