//! Access tokens from a token endpoint (RFC 6749): for the client's own credentials, or for a refresh token.
//!
//! The endpoint is the one the credential names, reached as any upstream is: resolved once, every address checked,
//! certificates verified, redirects not followed. What it answers is never recorded or logged, only its status and a
//! plain error code.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::Borrower;
use super::render::header_value;
use super::template::{escaped, joined};
use crate::access_tokens::{Fresh, Missing, Token};
use crate::credential::{ClientAuth, Credential, Grant, OAuth2};
use crate::gate::Gate;
use crate::permit::Permit;
use crate::upstream::{self, Route};

/// What a client says about itself to the endpoint.
struct Client {
    /// Its secret; not every client has one.
    secret: Option<Zeroizing<String>>,
    /// The refresh token, for that grant.
    refresh: Option<Zeroizing<String>>,
}

/// The answer (RFC 6749 section 5.1), or the error (section 5.2).
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    access_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    token_type: Option<Cow<'a, str>>,
    expires_in: Option<Seconds<'a>>,
    #[serde(borrow)]
    refresh_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
}

/// A number; some write it as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds<'a> {
    Number(f64),
    #[serde(borrow)]
    Text(Cow<'a, str>),
}

/// The token that is kept under `key`, or one that the endpoint gives now.
///
/// # Errors
/// That a secret could not be fetched, or the endpoint not be reached, or that it gave no token.
pub(super) async fn token(
    gate: &Gate,
    permit: &Permit,
    credential: &Credential,
    (oauth2, key): (&OAuth2, &str),
) -> Result<Arc<Token>, Missing> {
    let fetch = async |refresh| {
        let mut borrower = Borrower::new(gate);
        let fresh = match client(&mut borrower, credential, oauth2, refresh).await {
            Ok(client) => ask(gate, permit, oauth2, &client).await,
            Err(missing) => Err(missing),
        };
        borrower.give_back().await;
        fresh
    };
    gate.tokens.get(key, fetch).await
}

async fn ask(gate: &Gate, permit: &Permit, oauth2: &OAuth2, client: &Client) -> Result<Fresh, Missing> {
    let request = request(oauth2, client).map_err(Missing::Refused)?;
    let roots = permit.rulebook().trust.roots(oauth2.roots.as_deref());
    let agent = &permit.facts().agent;
    let route = Route { agent, authority: &oauth2.authority, open: &oauth2.addresses, roots, certificate: None };
    let (status, body) = upstream::ask(gate, &route, request).await.map_err(Missing::Unreachable)?;
    read(status, &body).map_err(Missing::Refused)
}

/// The configured secret is the client's, or a refresh token; a newer refresh token takes its place.
async fn client(
    borrower: &mut Borrower<'_>,
    credential: &Credential,
    oauth2: &OAuth2,
    newer: Option<Zeroizing<String>>,
) -> Result<Client, Missing> {
    match oauth2.grant {
        Grant::ClientCredentials => Ok(Client { secret: Some(borrower.copy(&credential.place).await?), refresh: None }),
        Grant::RefreshToken => {
            let secret = match &oauth2.client_secret {
                Some(place) => Some(borrower.copy(place).await?),
                None => None,
            };
            let refresh = match newer {
                Some(newer) => newer,
                None => borrower.copy(&credential.place).await?,
            };
            Ok(Client { secret, refresh: Some(refresh) })
        }
    }
}

fn request(oauth: &OAuth2, client: &Client) -> Result<Request<Full<Bytes>>, String> {
    let mut fields = vec![("grant_type", oauth.grant.as_str())];
    let secret = client.secret.as_deref().map(String::as_str);
    fields.extend(client.refresh.as_deref().map(|token| ("refresh_token", token.as_str())));
    fields.extend(oauth.scope.as_deref().map(|scope| ("scope", scope)));
    fields.extend(oauth.audience.as_deref().map(|audience| ("audience", audience)));
    let in_body = oauth.client_auth == ClientAuth::Body || secret.is_none();
    if in_body {
        fields.push(("client_id", &oauth.client_id));
        fields.extend(secret.map(|secret| ("client_secret", secret)));
    }
    let pairs: Vec<_> = fields.iter().map(|(name, value)| joined(&[name, "=", &escaped(value, b"")])).collect();
    let pairs: Vec<&str> =
        pairs.iter().enumerate().flat_map(|(at, pair)| [if at > 0 { "&" } else { "" }, pair]).collect();
    let body = Bytes::from_owner(Zeroizing::new(joined(&pairs).as_bytes().to_vec()));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    let target = format!("https://{}{}", oauth.authority.host_header(), oauth.target);
    *request.uri_mut() = target.parse().map_err(|_| "the token endpoint is not a URL".to_owned())?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let (false, Some(secret)) = (in_body, secret) {
        // Both are escaped as in a form first (RFC 6749 section 2.3.1).
        let pair = joined(&[&escaped(&oauth.client_id, b""), ":", &escaped(secret, b"")]);
        let encoded = Zeroizing::new(BASE64.encode(pair.as_bytes()));
        let (name, value) = header_value("authorization", joined(&["Basic ", &encoded]))?;
        headers.insert(name, value);
    }
    Ok(request)
}

fn read(status: StatusCode, body: &[u8]) -> Result<Fresh, String> {
    let answer = serde_json::from_slice::<Answer<'_>>(body);
    if status != StatusCode::OK {
        let plain = |code: &Cow<'_, str>| {
            code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let code = answer.ok().and_then(|answer| answer.error).filter(plain);
        return Err(format!(
            "the token endpoint answered {}{}",
            status.as_u16(),
            code.map(|code| format!(" `{code}`")).unwrap_or_default()
        ));
    }
    let answer = answer.map_err(|_| "the token endpoint did not answer with a token in JSON".to_owned())?;
    if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("the token endpoint gave a token of another type than `Bearer`".to_owned());
    }
    let wiped = |text: Cow<'_, str>| Zeroizing::new(text.into_owned());
    let token = answer.access_token.map(wiped).ok_or("the token endpoint gave no `access_token`")?;
    let seconds = match answer.expires_in {
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => text.parse().ok(),
        None => None,
    };
    Ok(Fresh { token: Token::new(token)?, lasts: usable(seconds), refresh: answer.refresh_token.map(wiped) })
}

/// How long a token is used that is valid for so many seconds: a tenth less, so that it does not expire on its way.
fn usable(seconds: Option<f64>) -> Duration {
    let valid = Duration::try_from_secs_f64(seconds.unwrap_or(UNSAID)).unwrap_or(Duration::ZERO).min(LONGEST);
    valid.saturating_sub((valid / 10).clamp(Duration::from_secs(1), Duration::from_secs(60)))
}

/// Seconds a token is taken to be valid when the endpoint does not say.
const UNSAID: f64 = 60.0;

/// No token is used longer than this, whatever the endpoint says.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_bearer_token_or_an_error_that_tells_nothing_else() {
        let read = |status: u16, body: &str| {
            let fresh = read(StatusCode::from_u16(status).unwrap(), body.as_bytes())?;
            Ok::<_, String>((fresh.token.as_str().to_owned(), fresh.lasts.as_secs(), fresh.refresh.is_some()))
        };
        let good = r#"{"access_token":"a\/b","token_type":"bearer","expires_in":3600,"refresh_token":"r"}"#;
        assert_eq!(read(200, good), Ok(("a/b".to_owned(), 3540, true)));
        assert_eq!(read(200, r#"{"access_token":"t","expires_in":"20","x":{}}"#), Ok(("t".to_owned(), 18, false)));
        assert_eq!(read(200, r#"{"access_token":"t"}"#), Ok(("t".to_owned(), 54, false)));
        assert_eq!(read(200, r#"{"access_token":"t","expires_in":-1}"#), Ok(("t".to_owned(), 0, false)));
        for (status, body, expected) in [
            (401, r#"{"error":"invalid_client","error_description":"CANARY"}"#, "answered 401 `invalid_client`"),
            (400, r#"{"error":"CANARY"}"#, "answered 400"),
            (302, "", "answered 302"),
            (200, "<html>CANARY", "in JSON"),
            (200, r#"{"token_type":"bearer"}"#, "no `access_token`"),
            (200, r#"{"access_token":"CANARY","token_type":"mac"}"#, "another type"),
            (200, r#"{"access_token":"CANARY\r\nx"}"#, "printable"),
        ] {
            let error = read(status, body).unwrap_err();
            assert!(error.contains(expected) && !error.contains("CANARY"), "{body}: {error}");
        }
    }
}
