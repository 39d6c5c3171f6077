//! Reads secrets of HashiCorp Vault and OpenBao: KV version 1 and 2, and dynamic secrets, which are leased.
//!
//! Requests are those of `vaultrs`; they go out through our own [`Caller`], which knows a limit and no redirects, and
//! what comes back is read into memory that is wiped. Must never guess a field, or keep a lease that nobody will use.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode, Uri};
use rustify::Endpoint;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use vaultrs::api::{kv1, kv2};

use crate::call::{self, Caller, Reply};
use crate::local::Local;
use crate::{Fault, Raw, json};

mod endpoints;
mod login;

use endpoints::{MountOf, RevokeLease};
pub(crate) use login::Settings as LoginSettings;
use login::{Login, Session};

/// How a vault is reached.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hashicorp")]
pub(crate) struct Settings {
    /// Its URL, without a path.
    pub(crate) address: String,
    /// The namespace of everything that is read through this provider.
    pub(crate) namespace: Option<String>,
    /// PEM file of the authorities that its certificate may be of; the public ones without it.
    pub(crate) roots: Option<PathBuf>,
    pub(crate) login: LoginSettings,
}

/// A vault, and the login to it.
#[derive(Debug)]
pub(crate) struct Hashicorp {
    api: Api,
    login: Login,
    /// What is known of the engines at paths that were read.
    mounts: Mutex<HashMap<String, Mount>>,
}

/// The vault's API, without a login.
#[derive(Debug)]
pub(crate) struct Api {
    caller: Caller,
    address: String,
    namespace: Option<HeaderValue>,
}

/// A dynamic secret that was lent to us, and the login that it was lent to.
#[derive(Debug)]
pub(crate) struct Loan {
    vault: Arc<Hashicorp>,
    session: Arc<Session>,
    id: String,
}

/// Where one secret is.
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a str,
    pub(crate) field: &'a str,
    pub(crate) version: Option<u64>,
}

/// Which engine answers for a path, and the part of the path before its own.
#[derive(Debug, Clone)]
struct Mount {
    path: String,
    is_kv2: bool,
}

/// An answer of the API. What may be secret in it is borrowed from the reply.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    lease_id: String,
    /// Seconds.
    #[serde(default)]
    lease_duration: u64,
}

/// The data of a KV version 2 secret.
#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

#[derive(Deserialize)]
struct MountData {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    options: Option<BTreeMap<String, String>>,
}

// === impl Hashicorp ===

impl Hashicorp {
    pub(crate) fn new(settings: Settings) -> Result<Hashicorp, String> {
        let Settings { address, namespace, roots, login } = settings;
        call::check_address(&address)?;
        let namespace =
            namespace.map(|name| HeaderValue::from_str(&name).map_err(|_| format!("`{name}` is no namespace")));
        let api = Api { caller: Caller::new(roots.as_deref())?, address, namespace: namespace.transpose()? };
        Ok(Hashicorp { api, login: Login::new(login)?, mounts: Mutex::default() })
    }

    /// Reads one field. A login that is not accepted any more is renewed once.
    pub(crate) async fn read(self: &Arc<Self>, wanted: &Wanted<'_>, local: &Local) -> Result<Raw, Fault> {
        let session = self.login.session(&self.api, local, None).await?;
        match self.read_as(&session, wanted).await {
            Err(Fault::Denied) => {
                let session = self.login.session(&self.api, local, Some(&session)).await?;
                self.read_as(&session, wanted).await
            }
            ended => ended,
        }
    }

    /// Renews the login when most of its time is over.
    pub(crate) async fn tend(&self) {
        self.login.tend(&self.api).await;
    }

    async fn read_as(self: &Arc<Self>, session: &Arc<Session>, wanted: &Wanted<'_>) -> Result<Raw, Fault> {
        let mount = self.mount(session, wanted.path).await?;
        let own_path = wanted.path.strip_prefix(&mount.path).unwrap_or(wanted.path).trim_start_matches('/').to_owned();
        let mount_path = mount.path.trim_end_matches('/').to_owned();
        if mount.is_kv2 {
            let request =
                kv2::requests::ReadSecretRequest { mount: mount_path, path: own_path, version: wanted.version };
            let reply = self.api.ask(&request, Some(session)).await;
            return versioned(&self.known(wanted, reply)?, wanted.field);
        }
        if wanted.version.is_some() {
            return Err(Fault::Missing);
        }
        let request = kv1::requests::GetSecretRequest { mount: mount_path, path: own_path };
        let asked = Instant::now();
        let reply = self.api.ask(&request, Some(session)).await;
        self.leased(session, &self.known(wanted, reply)?, wanted.field, asked).await
    }

    /// One field of a secret without versions, and its lease if it is a dynamic one.
    async fn leased(
        self: &Arc<Self>,
        session: &Arc<Session>,
        reply: &Reply,
        name: &str,
        asked: Instant,
    ) -> Result<Raw, Fault> {
        let answer: Answer<'_> = reply.json()?;
        let mut value = answer.data.ok_or(Fault::Missing).and_then(|data| json::field(data.get(), name));
        if answer.lease_id.is_empty() {
            return Ok(Raw { value: value?, version: None, loan: None });
        }
        if asked.elapsed() >= Duration::from_secs(answer.lease_duration) {
            value = Err(Fault::Expired("its lease was over when it came; have the vault lend it for longer"));
        }
        let (vault, session, id) = (Arc::clone(self), Arc::clone(session), answer.lease_id);
        let loan = Loan { vault, session, id: id.clone() };
        match value {
            Ok(value) => Ok(Raw { value, version: Some(id), loan: Some(loan) }),
            Err(fault) => {
                // Nobody will use it. When it cannot be given back it ends by itself.
                let _ended_by_itself = loan.give_back().await;
                Err(fault)
            }
        }
    }

    /// Which engine answers for `path`. Asked once for each path, until a secret is not found there.
    async fn mount(&self, session: &Session, path: &str) -> Result<Mount, Fault> {
        let known = || self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mount) = known().get(path) {
            return Ok(mount.clone());
        }
        let reply = self.api.ask(&MountOf(path.to_owned()), Some(session)).await?;
        let answer: Answer<'_> = reply.json()?;
        let data = answer.data.map(|data| serde_json::from_str::<MountData>(data.get()));
        let data = data.and_then(Result::ok).ok_or(Fault::Garbled)?;
        let version = data.options.as_ref().and_then(|options| options.get("version"));
        let mount =
            Mount { path: data.path, is_kv2: data.kind == "kv" && version.is_some_and(|version| version == "2") };
        known().insert(path.to_owned(), mount.clone());
        Ok(mount)
    }

    /// A reply to the read of a secret. One that is not there may be because its engine is another one by now.
    fn known(&self, wanted: &Wanted<'_>, reply: Result<Reply, Fault>) -> Result<Reply, Fault> {
        if reply.as_ref().is_err_and(|fault| *fault == Fault::Missing) {
            self.mounts.lock().unwrap_or_else(PoisonError::into_inner).remove(wanted.path);
        }
        reply
    }
}

// === impl Api ===

impl Api {
    /// Sends one request, as `session` or as nobody.
    async fn ask<E: Endpoint>(&self, endpoint: &E, session: Option<&Session>) -> Result<Reply, Fault> {
        let unsendable = |error: &dyn std::fmt::Display| Fault::Unreachable(error.to_string());
        let mut request = endpoint.request(&self.address).map_err(|error| unsendable(&error))?;
        *request.uri_mut() = versioned_uri(request.uri()).map_err(|error| unsendable(&error))?;
        let headers = request.headers_mut();
        headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            headers.insert(HeaderName::from_static("x-vault-namespace"), namespace.clone());
        }
        if let Some(session) = session {
            headers.insert(HeaderName::from_static("x-vault-token"), session.header()?);
        }
        let reply = self.caller.call(request, MOST_BYTES).await?;
        match reply.status {
            status if status.is_success() => Ok(reply),
            StatusCode::FORBIDDEN => Err(Fault::Denied),
            StatusCode::NOT_FOUND => Err(Fault::Missing),
            StatusCode::TOO_MANY_REQUESTS => Err(Fault::Throttled),
            StatusCode::SERVICE_UNAVAILABLE if is_sealed(&reply.body) => Err(Fault::Sealed),
            status if status.is_server_error() => Err(Fault::Unavailable(status.as_u16())),
            status => Err(Fault::Refused(status.as_u16())),
        }
    }
}

// === impl Loan ===

impl Loan {
    /// Has the vault end the secret, and waits until it has.
    pub(crate) async fn give_back(self) -> Result<(), Fault> {
        let request = RevokeLease::new(self.id);
        self.vault.api.ask(&request, Some(&self.session)).await.map(|_| ())
    }
}

// === impl Reply ===

impl Reply {
    /// The body as JSON.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Fault> {
        serde_json::from_slice(&self.body).map_err(|_| Fault::Garbled)
    }
}

fn versioned(reply: &Reply, name: &str) -> Result<Raw, Fault> {
    let answer: Answer<'_> = reply.json()?;
    let data = answer.data.ok_or(Fault::Missing)?;
    let data: Versioned<'_> = serde_json::from_str(data.get()).map_err(|_| Fault::Garbled)?;
    let value = json::field(data.data.ok_or(Fault::Missing)?.get(), name)?;
    Ok(Raw { value, version: Some(data.metadata.version.to_string()), loan: None })
}

/// Every path of the API stands under its version.
fn versioned_uri(uri: &Uri) -> Result<Uri, http::Error> {
    let path = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("/v1{path}").parse()?);
    Ok(Uri::from_parts(parts)?)
}

fn is_sealed(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).to_ascii_lowercase().contains("sealed")
}

/// Bytes of one reply: a secret as long as one may be, escaped, among a few others.
const MOST_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use crate::LocalReference;

    use super::*;

    fn made(address: &str, roots: Option<&str>, logins: usize) -> String {
        let token = || LocalReference::Env("T".into());
        let account = || serde_json::from_str(r#"{"role": "gate"}"#).ok();
        let login = LoginSettings {
            token: (logins > 0).then(token),
            approle: None,
            kubernetes: if logins > 1 { account() } else { None },
        };
        let settings = Settings { address: address.into(), namespace: None, roots: roots.map(PathBuf::from), login };
        Hashicorp::new(settings).map(|_| String::new()).unwrap_or_else(|fault| fault)
    }

    #[test]
    fn n22_settings_that_could_not_work_are_refused_at_once() {
        for address in [
            "https://vault.example",
            "https://10.0.0.7:8200/",
            "http://127.0.0.1:8200",
            "http://[::1]:1",
            "http://localhost:1",
        ] {
            assert_eq!(made(address, None, 1), "", "{address}");
        }
        let faults = [
            (made("http://vault.example:8200", None, 1), "is without TLS"),
            (made("https://vault.example/v1", None, 1), "has a path"),
            (made("vault.example:8200", None, 1), "is not a URL"),
            (made("ftp://vault.example", None, 1), "is not a URL"),
            (made("https://vault.example", Some("/nowhere.pem"), 1), "cannot read roots from `/nowhere.pem`"),
            (made("https://vault.example", Some("/dev/null"), 1), "holds no certificate"),
            (made("https://vault.example", None, 0), "exactly one of token, approle, kubernetes"),
            (made("https://vault.example", None, 2), "exactly one of token, approle, kubernetes"),
        ];
        for (fault, expected) in faults {
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
