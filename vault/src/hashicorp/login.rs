//! The login to a vault: a token of the operator's, an AppRole, or the service account of a Kubernetes pod.
//!
//! One login is shared by all fetches. It is renewed before it ends, and made anew when the vault does not accept it any
//! more. Must never write a token anywhere; copies in the libraries that build a login's request are not wiped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use rustify::Endpoint;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use vaultrs::api::auth::{approle, kubernetes};
use vaultrs::api::token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest};
use zeroize::Zeroizing;

use super::Api;
use crate::local::Local;
use crate::{Fault, LocalReference};

/// How to log in: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Login", extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct Settings {
    pub(crate) token: Option<LocalReference>,
    pub(crate) approle: Option<AppRole>,
    pub(crate) kubernetes: Option<Kubernetes>,
}

/// An AppRole.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppRole {
    #[serde(default = "approle_mount")]
    mount: String,
    role_id: LocalReference,
    secret_id: LocalReference,
}

/// The service account of this pod.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kubernetes {
    #[serde(default = "kubernetes_mount")]
    mount: String,
    role: String,
    /// Where its token is; where Kubernetes mounts it, without this.
    #[serde(default = "mounted_token")]
    token: LocalReference,
}

/// A login, and what became of it.
#[derive(Debug)]
pub(super) struct Login {
    method: Method,
    session: Mutex<Option<Arc<Session>>>,
}

#[derive(Debug)]
enum Method {
    AppRole(AppRole),
    Kubernetes(Kubernetes),
    Token(LocalReference),
}

/// A token of the vault's, and how long it lasts.
pub(super) struct Session {
    token: Zeroizing<String>,
    renewable: bool,
    since: Instant,
    /// Nothing for a token that does not end.
    lasts: Option<Duration>,
}

#[derive(Deserialize)]
struct Granted {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: Zeroizing<String>,
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct LookedUp {
    data: TokenData,
}

#[derive(Deserialize)]
struct TokenData {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

// === impl Login ===

impl Login {
    pub(super) fn new(settings: Settings) -> Result<Login, String> {
        let Settings { token, approle, kubernetes } = settings;
        let methods = [token.map(Method::Token), approle.map(Method::AppRole), kubernetes.map(Method::Kubernetes)];
        let mut given = methods.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(method), None) => Ok(Login { method, session: Mutex::default() }),
            _ => Err("`login:` needs exactly one of token, approle, kubernetes".to_owned()),
        }
    }

    /// The login in force: renewed when most of its time is over, made anew when there is none, when it cannot be
    /// renewed, or when it is the one that was `refused`.
    pub(super) async fn session(
        &self,
        api: &Api,
        local: &Local,
        refused: Option<&Arc<Session>>,
    ) -> Result<Arc<Session>, Fault> {
        // Held while logging in: who comes meanwhile waits for that one login.
        let mut current = self.session.lock().await;
        if let Some(session) = current.as_ref().filter(|session| refused.is_none_or(|old| !Arc::ptr_eq(old, session))) {
            if session.is_fresh() {
                return Ok(Arc::clone(session));
            }
            if let Some(renewed) = session.renewed(api).await {
                return Ok(Arc::clone(current.insert(Arc::new(renewed))));
            }
        }
        let session = self.log_in(api, local).await.map_err(refusal)?;
        if current.as_ref().is_some_and(|last| last.is_over() && last.token == session.token) && session.lasts.is_none()
        {
            // The vault does not say any more how long it lasts.
            return Err(Fault::Expired("the provider's token; give the provider another one"));
        }
        Ok(Arc::clone(current.insert(Arc::new(session))))
    }

    /// Renews the login in force when most of its time is over; nothing without one.
    pub(super) async fn tend(&self, api: &Api) {
        let mut current = self.session.lock().await;
        if let Some(session) = current.as_ref().filter(|session| !session.is_fresh())
            && let Some(renewed) = session.renewed(api).await
        {
            *current = Some(Arc::new(renewed));
        }
    }

    async fn log_in(&self, api: &Api, local: &Local) -> Result<Session, Fault> {
        let text = |secret: crate::Secret| secret.lend(|bytes| String::from_utf8_lossy(bytes).into_owned());
        match &self.method {
            Method::AppRole(role) => {
                let role_id = text(local.token(&role.role_id).await?);
                let secret_id = text(local.token(&role.secret_id).await?);
                let mount = role.mount.clone();
                granted(api, &approle::requests::LoginWithApproleRequest { mount, role_id, secret_id }).await
            }
            Method::Kubernetes(account) => {
                let (mount, role) = (account.mount.clone(), account.role.clone());
                let jwt = text(local.token(&account.token).await?);
                granted(api, &kubernetes::requests::LoginWithKubernetesRequest { mount, role, jwt }).await
            }
            Method::Token(reference) => looked_up(api, Zeroizing::new(text(local.token(reference).await?))).await,
        }
    }
}

// === impl Session ===

impl Session {
    fn new(token: Zeroizing<String>, renewable: bool, seconds: u64) -> Session {
        let lasts = (seconds > 0).then(|| Duration::from_secs(seconds));
        Session { token, renewable, since: Instant::now(), lasts }
    }

    /// The token as a header that is wiped with the request.
    pub(super) fn header(&self) -> Result<HeaderValue, Fault> {
        let bytes = bytes::Bytes::from_owner(Zeroizing::new(self.token.as_bytes().to_vec()));
        let header = HeaderValue::from_maybe_shared(bytes);
        let mut header = header.map_err(|_| Fault::Login("the vault's token cannot stand in a header".to_owned()))?;
        header.set_sensitive(true);
        Ok(header)
    }

    /// Whether less than two thirds of its time is over.
    fn is_fresh(&self) -> bool {
        self.lasts.is_none_or(|lasts| self.since.elapsed() < lasts * 2 / 3)
    }

    /// Whether all of its time is over.
    fn is_over(&self) -> bool {
        self.lasts.is_some_and(|lasts| self.since.elapsed() >= lasts)
    }

    /// The same login for longer; nothing if the vault does not grant that.
    async fn renewed(&self, api: &Api) -> Option<Session> {
        if !self.renewable {
            return None;
        }
        let request = RenewTokenSelfRequest::default();
        let reply = api.ask(&request, Some(self)).await.ok()?;
        let Granted { auth } = reply.json().ok()?;
        Some(Session::new(auth.client_token, auth.renewable, auth.lease_duration))
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Session").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

async fn granted(api: &Api, request: &impl Endpoint) -> Result<Session, Fault> {
    let reply = api.ask(request, None).await?;
    let Granted { auth } = reply.json()?;
    Ok(Session::new(auth.client_token, auth.renewable, auth.lease_duration))
}

/// A token that was not made by a login: how long it lasts is asked for, and not every token may know that.
async fn looked_up(api: &Api, token: Zeroizing<String>) -> Result<Session, Fault> {
    let unknown = Session::new(token, false, 0);
    let reply = match api.ask(&LookupTokenSelfRequest {}, Some(&unknown)).await {
        Err(Fault::Denied) => return Ok(unknown),
        reply => reply?,
    };
    let LookedUp { data } = reply.json()?;
    Ok(Session::new(unknown.token, data.renewable, data.ttl))
}

/// What the vault refuses at a login is the login, not the secret.
fn refusal(fault: Fault) -> Fault {
    if matches!(fault, Fault::Denied | Fault::Missing | Fault::Refused(_)) {
        Fault::Login("the vault does not accept the login; check its role and its secrets".to_owned())
    } else {
        fault
    }
}

fn approle_mount() -> String {
    "approle".to_owned()
}

fn kubernetes_mount() -> String {
    "kubernetes".to_owned()
}

fn mounted_token() -> LocalReference {
    LocalReference::File("/var/run/secrets/kubernetes.io/serviceaccount/token".into())
}
