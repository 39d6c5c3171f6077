//! A secret that signs (RFC 2104): it never leaves, only the digest of what it was applied to.

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac as Keyed, KeyInit, Mac};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use policy::Facts;
use sha2::{Sha256, Sha512};

use super::render::header_value;
use super::template::{joined, parts};
use crate::credential::{Algorithm, Encoding, Hmac};

/// The headers that carry the signature of `facts` at `now`.
///
/// # Errors
/// When a header cannot be written as its template says.
pub(super) fn headers(
    hmac: &Hmac,
    secret: &[u8],
    facts: &Facts,
    now: Timestamp,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let timestamp = now.as_second().to_string();
    let host = facts.authority.host_header();
    let signed = parts(
        &hmac.over,
        &[
            ("{method}", facts.method.as_bytes()),
            ("{host}", host.as_bytes()),
            ("{path}", facts.path.as_bytes()),
            ("{query}", facts.query.as_deref().unwrap_or_default().as_bytes()),
            ("{body}", facts.body.bytes()),
            ("{body_sha256}", facts.body.sha256().as_bytes()),
            ("{timestamp}", timestamp.as_bytes()),
        ],
    );
    let signature = match hmac.algorithm {
        Algorithm::Sha256 => encode(hmac.encoding, &sign::<Keyed<Sha256>>(secret, &signed)?),
        Algorithm::Sha512 => encode(hmac.encoding, &sign::<Keyed<Sha512>>(secret, &signed)?),
    };
    let values = [("{signature}", signature.as_bytes()), ("{timestamp}", timestamp.as_bytes())];
    let fill = |template| {
        parts(template, &values).into_iter().filter_map(|part| str::from_utf8(part).ok()).collect::<Vec<_>>()
    };
    hmac.headers.iter().map(|(name, template)| header_value(name, joined(&fill(template)))).collect()
}

fn sign<M: KeyInit + Mac>(secret: &[u8], signed: &[&[u8]]) -> Result<Vec<u8>, String> {
    let mut mac = <M as KeyInit>::new_from_slice(secret).map_err(|_| "the secret cannot be a key".to_owned())?;
    signed.iter().for_each(|part| mac.update(part));
    Ok(mac.finalize().into_bytes().to_vec())
}

fn encode(encoding: Encoding, octets: &[u8]) -> String {
    match encoding {
        Encoding::Base64 => BASE64.encode(octets),
        Encoding::Hex => HEXLOWER.encode(octets),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use policy::{Authority, Body, Scheme};

    use super::*;

    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        let facts = Facts {
            agent: "bot".into(),
            method: "POST".into(),
            authority: Authority::parse(Scheme::Https, "a.example").unwrap(),
            path: "/".into(),
            query: None,
            headers: Vec::new(),
            body: Body::new(Bytes::from_static(b"what do ya want for nothing?")),
            votes: Vec::new(),
            unanswered: false,
            lost: Vec::new(),
        };
        let headers = BTreeMap::from([("x-signature".to_owned(), "v1={signature},t={timestamp}".to_owned())]);
        let mut hmac =
            Hmac { algorithm: Algorithm::Sha256, encoding: Encoding::Hex, over: "{body}".to_owned(), headers };
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let mut value = |algorithm| {
            hmac.algorithm = algorithm;
            super::headers(&hmac, b"Jefe", &facts, now).unwrap()[0].1.to_str().unwrap().to_owned()
        };
        let sha256 = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(value(Algorithm::Sha256), format!("v1={sha256},t=1700000000"));
        assert!(
            value(Algorithm::Sha512).starts_with("v1=164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554")
        );
    }
}
