//! AWS Signature Version 4: the request is signed anew with the credential's keys, whatever the agent signed it with.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use http::{HeaderName, HeaderValue};
use policy::Facts;
use zeroize::Zeroizing;

use super::render::header_value;
use super::template::{escaped, unescaped};
use crate::credential::SigV4;

/// The keys to sign with.
pub(super) struct Keys<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a str,
    pub(super) session: Option<&'a str>,
}

/// The headers that sign `facts` at `now`.
///
/// # Errors
/// When the request cannot be signed. Never a key.
pub(super) fn headers(
    shape: &SigV4,
    keys: &Keys<'_>,
    facts: &Facts,
    now: SystemTime,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let unsigned = |what: &str| format!("the request cannot be signed: {what}");
    let identity = Credentials::new(keys.id, keys.secret, keys.session.map(str::to_owned), None, "writ").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&shape.region)
        .name(&shape.service)
        .time(now)
        .settings(settings(&shape.service))
        .build()
        .map_err(|_| unsigned("a parameter is missing"))?
        .into();
    let host = facts.authority.host_header();
    let signed = facts.headers.iter().filter(|(name, _)| name == "content-type" || name.starts_with("x-amz-"));
    let signed = signed.map(|(name, value)| (name.as_str(), value.as_str())).chain([("host", host.as_str())]);
    let body = SignableBody::Precomputed(facts.body.sha256().to_owned());
    let request =
        SignableRequest::new(&facts.method, url(facts), signed, body).map_err(|_| unsigned("it is no URL"))?;
    let (instructions, _) = sign(request, &parameters).map_err(|_| unsigned("a header is not text"))?.into_parts();
    instructions.headers().map(|(name, value)| header_value(name, Zeroizing::new(value.to_owned()))).collect()
}

/// S3 signs the path as it is and wants the digest of the body in a header; the others normalise the path.
fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    settings
}

/// The URL as AWS reads it: what is not unreserved is escaped in every segment of the path.
fn url(facts: &Facts) -> String {
    let path = String::from_utf8_lossy(&unescaped(facts.path.as_bytes(), false)).into_owned();
    let query = facts.query.as_deref().map(|query| ["?", query]).unwrap_or_default();
    format!("{}{}{}", facts.authority, escaped(&path, b"/").as_str(), query.concat())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use bytes::Bytes;
    use policy::{Authority, Body, Scheme};

    use super::*;
    use crate::credential::Text;

    #[test]
    fn the_signature_is_that_of_the_documented_example() {
        let shape = SigV4 {
            region: "us-east-1".to_owned(),
            service: "iam".to_owned(),
            access_key_id: Text::Plain("AKIDEXAMPLE".to_owned()),
            session_token: None,
        };
        let keys = Keys { id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", session: None };
        let kind = ("content-type".to_owned(), "application/x-www-form-urlencoded; charset=utf-8".to_owned());
        let facts = Facts {
            agent: "bot".into(),
            method: "GET".into(),
            authority: Authority::parse(Scheme::Https, "iam.amazonaws.com").unwrap(),
            path: "/".into(),
            query: Some("Action=ListUsers&Version=2010-05-08".to_owned()),
            headers: vec![kind, ("user-agent".to_owned(), "not signed".to_owned())],
            body: Body::new(Bytes::new()),
            votes: Vec::new(),
            unanswered: false,
            lost: Vec::new(),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let headers = headers(&shape, &keys, &facts, now).unwrap();
        let value =
            |name: &str| headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.to_str().unwrap());
        assert_eq!(value("x-amz-date"), Some("20150830T123600Z"));
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                        SignedHeaders=content-type;host;x-amz-date, \
                        Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert_eq!(value("authorization"), Some(expected));
    }
}
