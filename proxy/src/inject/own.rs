//! Takes what the agent itself would authenticate with out of a request that gets a credential from the gate.
//!
//! It happens before anyone decides: what is decided, shown and recorded has no credential in it, neither the agent's
//! nor the gate's. A body stays as the agent made it: the digest that is recorded is over what the agent sent, and the
//! place in it is filled only on the way out.

use policy::Facts;

use super::{aws_chunked, field, segment, template};
use crate::credential::{Credential, Shape, Slot};
use crate::refusal::Refusal;

/// Removes the agent's own credentials and checks that the request has a place for the gate's.
///
/// # Errors
/// [`Refusal::NoPlace`] when the secret could not be put in: another path, another kind of body;
/// [`Refusal::RangeRefused`] when it could come back in pieces; [`Refusal::Ambiguous`] for a malformed upload.
pub(super) fn remove(credential: &Credential, facts: &mut Facts) -> Result<(), Refusal> {
    let shape = &credential.shape;
    if credential.withholds_parts() && facts.headers.iter().any(|(name, _)| is_any_of(RANGE_HEADERS, name)) {
        return Err(Refusal::RangeRefused);
    }
    // A reply in another charset could not be looked through.
    let goes = |name: &str| is_any_of(CREDENTIAL_HEADERS, name) || is_set_by(shape, name) || name == "accept-charset";
    facts.headers.retain(|(name, _)| !goes(name));
    if let Some(query) = facts.query.take() {
        facts.query = without_credentials(shape, &query);
    }
    if let Shape::SigV4(_) = shape {
        aws_chunked::unframe(facts).map_err(Refusal::Ambiguous)?;
    }
    shape.slot().map_or(Ok(()), |slot| make_room(slot, facts))
}

fn make_room(slot: &Slot, facts: &mut Facts) -> Result<(), Refusal> {
    match slot {
        Slot::Form { .. } | Slot::Json { .. } => {
            field::check(slot, &facts.headers, facts.body.bytes()).map_err(Refusal::NoPlace)
        }
        Slot::Path { template } => {
            let found = segment::find(template, &facts.path).ok_or_else(|| {
                Refusal::NoPlace(format!("the path does not begin as `{template}`, where the credential stands"))
            })?;
            facts.path = segment::replaced(&facts.path, found, segment::MARK).to_string();
            Ok(())
        }
        Slot::Basic { .. } | Slot::Cookie { .. } | Slot::Header { .. } | Slot::Query { .. } | Slot::Url => Ok(()),
    }
}

/// Whether the request has a credential of the agent's besides cookies, which are no keys.
pub(super) fn has_credentials(shape: &Shape, facts: &Facts) -> bool {
    let is_key = |name: &str| is_any_of(CREDENTIAL_HEADERS, name) && !name.starts_with("cookie");
    let query = facts.query.as_deref();
    facts.headers.iter().any(|(name, _)| is_key(name) || is_set_by(shape, name))
        || query.is_some_and(|query| without_credentials(shape, query).as_deref() != Some(query))
}

/// Whether the shape sets this header.
fn is_set_by(shape: &Shape, name: &str) -> bool {
    match shape {
        Shape::Fill(Slot::Header { name: own, .. }) => is_read_as(name, own),
        Shape::Hmac(hmac) => hmac.headers.keys().any(|own| is_read_as(name, own)),
        Shape::SigV4(_) => is_any_of(AWS_HEADERS, name),
        Shape::Certificate(_) | Shape::Fill(_) | Shape::OAuth2(_) => false,
    }
}

fn is_any_of(known: &[&str], name: &str) -> bool {
    known.iter().any(|known| is_read_as(name, known))
}

/// Whether a server may take one header name for the other: where they become variables (RFC 3875 section 4.1.18), some
/// turn all that is neither letter nor digit into one character.
fn is_read_as(given: &str, known: &str) -> bool {
    let same = |(one, other): (u8, u8)| one == other || !one.is_ascii_alphanumeric() && !other.is_ascii_alphanumeric();
    given.len() == known.len() && given.bytes().zip(known.bytes()).all(same)
}

/// The query without parameters that name a credential, however they are escaped.
fn without_credentials(shape: &Shape, query: &str) -> Option<String> {
    let own = match shape {
        Shape::Fill(Slot::Query { name }) => &[name.as_str()],
        Shape::SigV4(_) => AWS_PARAMETERS,
        Shape::Certificate(_) | Shape::Fill(_) | Shape::Hmac(_) | Shape::OAuth2(_) => &[],
    };
    let named = |pair: &str| CREDENTIAL_PARAMETERS.iter().chain(own).any(|name| is_named(pair, name));
    let kept: Vec<&str> = query.split('&').filter(|pair| !named(pair)).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// Whether a `name=value` pair has this name, however it is spelled.
pub(super) fn is_named(pair: &str, name: &str) -> bool {
    let given = pair.split('=').next().unwrap_or_default();
    given.len() >= name.len() && template::unescaped(given.as_bytes(), true).eq_ignore_ascii_case(name.as_bytes())
}

/// Headers that APIs take credentials from.
const CREDENTIAL_HEADERS: &[&str] = &[
    "api-key",
    "apikey",
    "authorization",
    "cookie",
    "cookie2",
    "private-token",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-key",
    "x-auth-token",
    "x-goog-api-key",
    "x-goog-iam-authorization-token",
    "x-vault-token",
];

/// Headers that ask for a part of a reply: the standard one, and those that some servers take for it.
const RANGE_HEADERS: &[&str] = &["range", "request-range", "x-ms-range"];

/// What an AWS signature sets beside `Authorization`.
const AWS_HEADERS: &[&str] = &["x-amz-content-sha256", "x-amz-date"];

/// What a signed AWS URL has beside the parameters that are credentials everywhere.
const AWS_PARAMETERS: &[&str] = &["x-amz-algorithm", "x-amz-date", "x-amz-expires", "x-amz-signedheaders"];

/// Query parameters that are credentials whatever the API is (RFC 6750 section 2.3, AWS and Google signed URLs).
/// Shorter names, such as `key` or `token`, mean other things elsewhere: they are removed where a credential fills them.
const CREDENTIAL_PARAMETERS: &[&str] = &[
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth_token",
    "awsaccesskeyid",
    "client_secret",
    "private_token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-credential",
    "x-goog-signature",
];

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use policy::{Authority, Body, Scheme};

    use super::*;
    use crate::credential::RawCredentials;

    fn credential(inject: &str) -> Credential {
        let text = format!("credentials: {{ x: {{ secret: 'env://K', hosts: [a.example], inject: {inject} }} }}\n");
        let source = policy::Source { name: "c".into(), text };
        policy::yaml::read::<RawCredentials>(&source)
            .unwrap()
            .check(&vault::Providers::default())
            .unwrap()
            .remove("x")
            .unwrap()
    }

    fn facts(path: &str, query: Option<&str>, headers: &[&str]) -> Facts {
        Facts {
            agent: "bot".into(),
            method: "POST".into(),
            authority: Authority::parse(Scheme::Https, "a.example").unwrap(),
            path: path.into(),
            query: query.map(str::to_owned),
            headers: headers.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect(),
            body: Body::new(Bytes::from_static(b"{}")),
            votes: Vec::new(),
            unanswered: false,
            lost: Vec::new(),
        }
    }

    #[test]
    fn g01_the_agents_own_credentials_are_removed_in_every_spelling() {
        let mut request = facts(
            "/a",
            Some("a=1&KEY=x&k%65y=y&keys=2&%41ccess_token=mine&key&api%5Fkey=3"),
            &[
                "authorization",
                "authorization",
                "x-api-key",
                "x.api!key",
                "cookie",
                "x-mine",
                "x+mine",
                "accept",
                "x-mines",
            ],
        );
        remove(&credential("{ header: { name: X-Mine } }"), &mut request).unwrap();
        assert_eq!(request.headers, ["accept", "x-mines"].map(|name| (name.to_owned(), "v".to_owned())));
        assert_eq!(request.query.as_deref(), Some("a=1&KEY=x&k%65y=y&keys=2&key"));
        remove(&credential("{ query: { name: key } }"), &mut request).unwrap();
        assert_eq!(request.query.as_deref(), Some("a=1&keys=2"));
    }

    #[test]
    fn what_the_agent_put_into_the_path_is_neither_decided_nor_recorded() {
        let telegram = credential("{ path: '/bot{secret}' }");
        let mut request = facts("/bot123:own/sendMessage", None, &[]);
        remove(&telegram, &mut request).unwrap();
        assert_eq!(request.path, "/bot-secret-/sendMessage");
        for elsewhere in ["/file/bot1/x", "/", "/bo/x"] {
            let refused = remove(&telegram, &mut facts(elsewhere, None, &[]));
            assert!(matches!(refused, Err(Refusal::NoPlace(_))), "{elsewhere}");
        }
    }
}
