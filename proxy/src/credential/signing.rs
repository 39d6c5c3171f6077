//! Secrets that sign and never leave: what an HMAC or AWS signature is made of.
//!
//! Nothing here sees a secret or a request.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use vault::Place;

use super::slot::check_header;

/// A keyed digest (RFC 2104) over a text made of parts of the request, and the headers that carry it.
#[derive(Debug)]
pub struct Hmac {
    /// The digest.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// Template of what is signed: `{method}`, `{host}`, `{path}`, `{query}`, `{body}`, `{body_sha256}`, `{timestamp}`.
    pub over: String,
    /// Headers to set, names in lower case, values as templates of `{signature}` and `{timestamp}`.
    pub headers: BTreeMap<String, String>,
}

/// A digest of the SHA-2 family (FIPS 180-4).
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How octets are written as text.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Base64 (RFC 4648 section 4).
    Base64,
    /// Hexadecimal digits in lower case.
    Hex,
}

/// AWS Signature Version 4; the configured secret is the secret access key.
#[derive(Debug)]
pub struct SigV4 {
    /// The region, such as `eu-west-1`.
    pub region: String,
    /// The service, such as `s3`.
    pub service: String,
    /// The access key id: it is no secret, but often kept beside one.
    pub access_key_id: Text,
    /// The session token of temporary keys.
    pub session_token: Option<Place>,
}

/// A text in the file, or where it is kept.
#[derive(Debug)]
pub enum Text {
    /// Where it is kept.
    Kept(Place),
    /// The text.
    Plain(String),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHmac {
    over: String,
    headers: BTreeMap<String, String>,
    #[serde(default = "sha256")]
    algorithm: Algorithm,
    #[serde(default = "hex")]
    encoding: Encoding,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSigV4 {
    region: String,
    service: String,
    access_key_id: String,
    session_token: Option<String>,
}

// === impl Hmac ===

impl Hmac {
    pub(super) fn check(raw: RawHmac) -> Result<Hmac, String> {
        let headers = raw.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let hmac =
            Hmac { algorithm: raw.algorithm, encoding: raw.encoding, over: raw.over, headers: headers.collect() };
        if !["{body}", "{body_sha256}"].iter().any(|part| hmac.over.contains(part)) {
            let why = "the signature would fit any body";
            return Err(format!("`over:` names neither `{{body}}` nor `{{body_sha256}}`: {why}"));
        }
        if !hmac.headers.values().any(|value| value.contains("{signature}")) {
            return Err("no value under `headers:` holds `{signature}`".to_owned());
        }
        hmac.headers.keys().try_for_each(|name| check_header(name)).map(|()| hmac)
    }
}

// === impl SigV4 ===

impl SigV4 {
    /// `place` reads a reference.
    pub(super) fn check(raw: RawSigV4, place: impl Fn(&str) -> Result<Place, String>) -> Result<SigV4, String> {
        let RawSigV4 { region, service, access_key_id, session_token } = raw;
        if let Some(odd) = [&region, &service].into_iter().find(|name| name.is_empty() || name.contains(['/', ' '])) {
            return Err(format!("`{odd}` is neither a region nor a service"));
        }
        let access_key_id =
            if access_key_id.contains("://") { Text::Kept(place(&access_key_id)?) } else { Text::Plain(access_key_id) };
        let session_token = session_token.map(|token| place(&token)).transpose()?;
        Ok(SigV4 { region, service, access_key_id, session_token })
    }
}

fn sha256() -> Algorithm {
    Algorithm::Sha256
}

fn hex() -> Encoding {
    Encoding::Hex
}
