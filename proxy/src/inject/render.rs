//! A secret in the place its shape says, as octets ready to be sent.

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderName, HeaderValue};
use policy::{Authority, Facts, Scheme};
use zeroize::Zeroizing;

use super::template::{escaped, filled, joined};
use super::{Injected, field, segment};
use crate::credential::{PLACEHOLDER, Slot};
use crate::path;

/// What a text in its place makes of the request.
///
/// # Errors
/// Why it does not fit its place. Never the secret.
pub(super) fn render(slot: &Slot, secret: &str, facts: &Facts) -> Result<Injected, String> {
    let fill = |template: &str| filled(template, PLACEHOLDER, secret);
    let body = facts.body.bytes();
    match slot {
        Slot::Basic { user, password } => {
            let pair = joined(&[&fill(user), ":", &fill(password)]);
            let encoded = Zeroizing::new(BASE64.encode(pair.as_bytes()));
            header("authorization", joined(&["Basic ", &encoded]))
        }
        Slot::Cookie { name } => cookie(name, secret),
        Slot::Form { field } => in_body(field::with_field(body, field, secret)?),
        Slot::Header { name, value } => header(name, fill(value)),
        Slot::Json { field } => in_body(field::with_member(body, field, secret)?),
        Slot::Path { template } => {
            let place = segment::find(template, &facts.path).ok_or("the path has no place for the secret")?;
            let path = segment::replaced(&facts.path, place, &escaped(secret, PATH_CHARACTERS));
            Ok(target(&path, facts.query.as_deref().unwrap_or_default()))
        }
        Slot::Query { name } => {
            let own = facts.query.as_deref().unwrap_or_default();
            let between = if own.is_empty() { "" } else { "&" };
            Ok(target(&facts.path, &joined(&[own, between, name, "=", &escaped(secret, b"")])))
        }
        Slot::Url => url(secret, &facts.authority),
    }
}

/// A header whose value lives in memory that is wiped when the last copy of it is gone.
pub(super) fn header_value(name: &str, value: Zeroizing<String>) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))?;
    let bytes = Bytes::from_owner(Zeroizing::new(value.as_bytes().to_vec()));
    let mut value =
        HeaderValue::from_maybe_shared(bytes).map_err(|_| "the secret cannot stand in a header".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn header(name: &str, value: Zeroizing<String>) -> Result<Injected, String> {
    Ok(Injected { headers: vec![header_value(name, value)?], ..Injected::default() })
}

fn in_body(body: Bytes) -> Result<Injected, String> {
    Ok(Injected { body: Some(body), ..Injected::default() })
}

/// RFC 6265 section 4.1.1.
fn cookie(name: &str, secret: &str) -> Result<Injected, String> {
    if secret.bytes().any(|byte| !byte.is_ascii_graphic() || b"\",;\\".contains(&byte)) {
        return Err("the secret has a character that cannot stand in a cookie".to_owned());
    }
    header("cookie", joined(&[name, "=", secret]))
}

fn target(path: &str, query: &str) -> Injected {
    let target = if query.is_empty() { joined(&[path]) } else { joined(&[path, "?", query]) };
    Injected { target: Some(target), ..Injected::default() }
}

/// Path and query of a secret that is a URL. It may lead to the host of the request and nowhere else.
fn url(secret: &str, authority: &Authority) -> Result<Injected, String> {
    let rest = secret.strip_prefix("https://").ok_or("the secret is not an `https://` URL")?;
    let (named, path) = rest.split_once('/').ok_or("the URL in the secret has no path")?;
    if Authority::parse(Scheme::Https, named).ok().as_ref() != Some(authority) {
        return Err(format!("the URL in the secret does not lead to {authority}"));
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = joined(&["/", path]);
    if query.contains('#') || path::canonical(&path).ok().as_deref() != Some(path.as_str()) {
        return Err("the URL in the secret is not in its canonical form".to_owned());
    }
    Ok(target(&path, query))
}

/// What may stand in a segment of a path beside unreserved characters (RFC 3986 section 3.3), without what some
/// servers cut a segment at.
const PATH_CHARACTERS: &[u8] = b"!$&'()*+,=:@";

#[cfg(test)]
mod tests {
    use policy::Body;

    use super::*;

    fn facts(target: &str, body: &'static str) -> Facts {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Facts {
            agent: "bot".into(),
            method: "POST".into(),
            authority: Authority::parse(Scheme::Https, "a.example").unwrap(),
            path: path.into(),
            query: query.map(str::to_owned),
            headers: Vec::new(),
            body: Body::new(Bytes::from_static(body.as_bytes())),
            votes: Vec::new(),
            unanswered: false,
            lost: Vec::new(),
        }
    }

    fn rendered(slot: &Slot, secret: &str, facts: &Facts) -> Result<String, String> {
        let injected = render(slot, secret, facts)?;
        let mut lines = injected.target.iter().map(|target| target.to_string()).collect::<Vec<_>>();
        lines.extend(injected.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
        lines.extend(injected.body.iter().map(|body| String::from_utf8(body.to_vec()).unwrap()));
        Ok(lines.join("\n"))
    }

    #[test]
    fn shapes_render_as_their_specifications_say() {
        let table = [
            (Slot::Basic { user: "{secret}".into(), password: String::new() }, "authorization: Basic c2tfMS8yOg=="),
            (Slot::Cookie { name: "sid".into() }, "cookie: sid=sk_1/2"),
            (Slot::Header { name: "x-api-key".into(), value: "{secret}".into() }, "x-api-key: sk_1/2"),
            (Slot::Path { template: "/{secret}".into() }, "/sk_1%2F2/b?c=d"),
            (Slot::Query { name: "key".into() }, "/a/b?c=d&key=sk_1%2F2"),
            (Slot::Form { field: "key".into() }, "x=1&key=sk_1%2F2"),
        ];
        for (slot, expected) in table {
            assert_eq!(rendered(&slot, "sk_1/2", &facts("/a/b?c=d", "x=1")).as_deref(), Ok(expected), "{slot:?}");
        }
    }

    #[test]
    fn a_secret_that_is_a_url_leads_to_its_host_only() {
        let hook = facts("/services/any?x=1", "");
        let url = |secret: &str| rendered(&Slot::Url, secret, &hook);
        assert_eq!(url("https://a.example/services/T0/B0/x%2Fy").as_deref(), Ok("/services/T0/B0/x%2Fy"));
        assert_eq!(url("https://A.example:443/hook?k=v").as_deref(), Ok("/hook?k=v"));
        for elsewhere in [
            "http://a.example/x",
            "https://b.example/x",
            "https://a.example:444/x",
            "https://a.example@b.example/x",
            "https://a.example",
            "https://a.example/../x",
            "https://a.example/x#y",
            "https://a.example/x?y#z",
        ] {
            let error = url(elsewhere).unwrap_err();
            assert!(!error.contains("/x"), "{error}");
        }
    }

    #[test]
    fn a_secret_that_would_end_its_place_is_refused() {
        for secret in ["a;b=c", "a b", "a\"b", "a\\b"] {
            assert!(rendered(&Slot::Cookie { name: "sid".into() }, secret, &facts("/", "")).is_err(), "{secret}");
        }
        let header = Slot::Header { name: "x".into(), value: "{secret}".into() };
        assert!(rendered(&header, "a\r\nb", &facts("/", "")).is_err());
    }

    #[test]
    fn debug_never_shows_the_secret() {
        let slot = Slot::Header { name: "x".into(), value: "{secret}".into() };
        let shown = format!("{:?}", render(&slot, "canary-7", &facts("/", "")).unwrap());
        assert!(!shown.contains("canary-7"), "{shown}");
    }
}
