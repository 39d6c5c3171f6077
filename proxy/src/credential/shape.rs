//! What a secret does for a request: what `inject:` says, checked once when the file is loaded.
//!
//! Nothing here sees a secret or a request.

use schemars::JsonSchema;
use serde::Deserialize;
use vault::Place;

use super::oauth2::{OAuth2, RawOAuth2};
use super::signing::{Hmac, RawHmac, RawSigV4, SigV4};
use super::slot::{RawBasic, RawField, RawHeader, RawNamed, Slot};

/// How a credential makes a request an authenticated one.
#[derive(Debug)]
pub enum Shape {
    /// It is the private key of a certificate that the connection presents (RFC 8446 section 4.4.2). In it, or where
    /// this says, are the certificate and those between it and its root.
    Certificate(Option<Place>),
    /// The secret itself fills a place.
    Fill(Slot),
    /// It is the key of a signature over the request.
    Hmac(Hmac),
    /// It fetches an access token, which fills a place.
    OAuth2(Box<OAuth2>),
    /// It signs as AWS wants it.
    SigV4(SigV4),
}

/// `inject:` as written: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInject {
    basic: Option<RawBasic>,
    bearer: Option<String>,
    client_certificate: Option<RawCertificate>,
    cookie: Option<RawNamed>,
    form: Option<RawField>,
    header: Option<RawHeader>,
    hmac: Option<RawHmac>,
    json: Option<RawField>,
    oauth2: Option<RawOAuth2>,
    path: Option<String>,
    query: Option<RawNamed>,
    sigv4: Option<RawSigV4>,
    url: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawCertificate {
    chain: Option<String>,
}

// === impl Shape ===

impl Shape {
    /// The place that a text fills, if one does.
    pub fn slot(&self) -> Option<&Slot> {
        match self {
            Shape::Fill(slot) => Some(slot),
            Shape::OAuth2(oauth2) => Some(&oauth2.slot),
            Shape::Certificate(_) | Shape::Hmac(_) | Shape::SigV4(_) => None,
        }
    }

    /// Whether a request carries a secret that its reply could bring back.
    pub fn travels(&self) -> bool {
        match self {
            Shape::Fill(_) | Shape::OAuth2(_) => true,
            // Beside the signature.
            Shape::SigV4(sigv4) => sigv4.session_token.is_some(),
            Shape::Certificate(_) | Shape::Hmac(_) => false,
        }
    }

    /// A file of root certificates that it wants loaded.
    pub fn roots(&self) -> Option<&str> {
        match self {
            Shape::OAuth2(oauth2) => oauth2.roots.as_deref(),
            Shape::Certificate(_) | Shape::Fill(_) | Shape::Hmac(_) | Shape::SigV4(_) => None,
        }
    }
}

// === impl RawInject ===

impl RawInject {
    /// The one shape it names. `place` reads a reference.
    ///
    /// # Errors
    /// One sentence: none or several are given, or what is wrong with the one.
    pub(super) fn check(self, place: impl Fn(&str) -> Result<Place, String>) -> Result<Shape, String> {
        let fill = |slot: Slot| slot.check().map(|()| Shape::Fill(slot));
        let shapes = [
            self.basic.map(|raw| fill(Slot::basic(raw))),
            self.bearer.map(|template| fill(Slot::bearer(&template))),
            self.client_certificate.map(|raw| certificate(raw, &place)),
            self.cookie.map(|raw| fill(Slot::cookie(raw))),
            self.form.map(|raw| fill(Slot::form(raw))),
            self.header.map(|raw| fill(Slot::header(raw))),
            self.hmac.map(|raw| Hmac::check(raw).map(Shape::Hmac)),
            self.json.map(|raw| fill(Slot::json(raw))),
            self.oauth2.map(|raw| OAuth2::check(raw, &place).map(|oauth2| Shape::OAuth2(Box::new(oauth2)))),
            self.path.map(|template| fill(Slot::Path { template })),
            self.query.map(|raw| fill(Slot::query(raw))),
            self.sigv4.map(|raw| SigV4::check(raw, &place).map(Shape::SigV4)),
            self.url.filter(|url| *url).map(|_| fill(Slot::Url)),
        ];
        let mut given = shapes.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(shape), None) => shape,
            (Some(_), Some(_)) | (None, _) => Err(format!("`inject:` needs exactly one of {KINDS}")),
        }
    }
}

fn certificate(raw: RawCertificate, place: impl Fn(&str) -> Result<Place, String>) -> Result<Shape, String> {
    let chain = raw.chain.map(|chain| place(&chain)).transpose()?;
    Ok(Shape::Certificate(chain.map(Place::with_lines)))
}

const KINDS: &str =
    "basic, bearer, client_certificate, cookie, form, header, hmac, json, oauth2, path, query, sigv4, `url: true`";
