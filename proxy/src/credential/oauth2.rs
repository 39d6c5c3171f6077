//! Credentials that fetch an access token: which endpoint is asked for it, and how.
//!
//! Nothing here sees a secret or a request.

use ipnet::IpNet;
use policy::{Authority, Scheme};
use schemars::JsonSchema;
use serde::Deserialize;
use vault::Place;

use super::slot::{PLACEHOLDER, Slot};

/// A token endpoint (RFC 6749) and what it is asked.
#[derive(Debug)]
pub struct OAuth2 {
    /// Host of the endpoint.
    pub authority: Authority,
    /// Its path and query.
    pub target: String,
    /// What the configured secret is: the client's, or a refresh token.
    pub grant: Grant,
    /// The client's identifier.
    pub client_id: String,
    /// The client's secret, where the configured one is a refresh token.
    pub client_secret: Option<Place>,
    /// How the client authenticates.
    pub client_auth: ClientAuth,
    /// Scopes, separated by spaces.
    pub scope: Option<String>,
    /// The audience, for servers that want one.
    pub audience: Option<String>,
    /// Address ranges the endpoint may resolve to although they are closed by default.
    pub addresses: Vec<IpNet>,
    /// A file of root certificates that replaces the public roots.
    pub roots: Option<String>,
    /// Where the token goes.
    pub slot: Slot,
}

/// What a token is asked for with (RFC 6749 sections 4.4 and 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// The client's own credentials.
    #[default]
    ClientCredentials,
    /// A refresh token.
    RefreshToken,
}

/// How a client authenticates at the endpoint (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// With HTTP Basic.
    #[default]
    Basic,
    /// In the body.
    Body,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOAuth2 {
    token_url: String,
    #[serde(default)]
    grant: Grant,
    client_id: String,
    client_secret: Option<String>,
    #[serde(default)]
    client_auth: ClientAuth,
    scope: Option<String>,
    audience: Option<String>,
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    addresses: Vec<IpNet>,
    roots: Option<String>,
}

// === impl OAuth2 ===

impl OAuth2 {
    /// `place` reads a reference.
    pub(super) fn check(raw: RawOAuth2, place: impl Fn(&str) -> Result<Place, String>) -> Result<OAuth2, String> {
        let (authority, target) = endpoint(&raw.token_url)?;
        if raw.grant == Grant::ClientCredentials && raw.client_secret.is_some() {
            return Err(
                "`client_secret:` goes with `grant: refresh_token`; here the secret itself is the client's".to_owned()
            );
        }
        Ok(OAuth2 {
            authority,
            target,
            grant: raw.grant,
            client_id: raw.client_id,
            client_secret: raw.client_secret.map(|secret| place(&secret)).transpose()?,
            client_auth: raw.client_auth,
            scope: raw.scope,
            audience: raw.audience,
            addresses: raw.addresses,
            roots: raw.roots,
            slot: Slot::bearer(PLACEHOLDER),
        })
    }

    /// What tells its tokens from all others: everything that decides what the endpoint gives.
    pub fn key(&self, name: &str, place: &Place) -> String {
        let endpoint = format!("{}{}", self.authority, self.target);
        format!("{name} {} {endpoint} {} {:?} {:?}", place.reference(), self.client_id, self.scope, self.audience)
    }
}

// === impl Grant ===

impl Grant {
    /// The value of `grant_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Grant::ClientCredentials => "client_credentials",
            Grant::RefreshToken => "refresh_token",
        }
    }
}

fn endpoint(url: &str) -> Result<(Authority, String), String> {
    let wrong = || format!("`token_url: {url}` is not an `https://` URL with a path");
    let rest = url.strip_prefix("https://").ok_or_else(wrong)?;
    let (host, path) = rest.split_once('/').ok_or_else(wrong)?;
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let authority = Authority::parse(Scheme::Https, host).ok().filter(|_| plain).ok_or_else(wrong)?;
    Ok((authority, format!("/{path}")))
}
