//! Puts a credential into a permitted request, and takes the agent's own out of it before anyone decides.
//!
//! A secret is fetched only with a [`Permit`] in hand, goes only to a host its credential is bound to, and every copy
//! made here is wiped. (The copy in the TLS library's write buffer is not under our control.)

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use jiff::Timestamp;
use policy::Facts;
use serde_json::{Value, json};
use vault::{Fetched, Lease, Place, Secret};
use zeroize::Zeroizing;

use crate::access_tokens::Missing;
use crate::credential::{Credential, Shape, SigV4, Slot, Text};
use crate::gate::Gate;
use crate::health;
use crate::metrics::Stage;
use crate::permit::Permit;
use crate::record::Trace;
use crate::refusal::Refusal;
use crate::scrub::Needles;
use crate::trust::ClientCertificate;

mod aws_chunked;
mod field;
mod oauth2;
mod own;
mod placeholder;
mod render;
mod segment;
mod signature;
mod sigv4;
mod template;

pub(crate) use template::unescaped;

/// A credential rendered for one request: what takes the place of the request's own parts.
#[derive(Default)]
pub struct Injected {
    /// Headers to set, each in place of any other of its name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Path and query.
    pub target: Option<Zeroizing<String>>,
    /// The body.
    pub body: Option<Bytes>,
    /// What the connection presents.
    pub certificate: Option<ClientCertificate>,
    /// What must not come back.
    pub guard: Option<Guard>,
    /// Reference, provider and version for the ledger; null without a credential.
    pub origin: Value,
    /// What has to be given back when the request is over.
    pub leases: Vec<Lease>,
}

/// What the gate looks for in the reply to a request with a credential.
#[derive(Debug)]
pub struct Guard {
    /// The secrets, in all their forms; none where the upstream knows none.
    pub needles: Option<Arc<Needles>>,
    /// Headers that pass although they could hand out another credential.
    pub passing: BTreeSet<String>,
    /// Whether a reply that is only a part is withheld.
    pub withholds_parts: bool,
    /// The access token that is kept no longer if the upstream does not take it.
    pub token: Option<String>,
    /// The secrets themselves: while they are in use, others that fetch them share what they are found by.
    pub secrets: Vec<Arc<Secret>>,
}

/// Fetches for one request, and knows what was lent for it.
struct Borrower<'a> {
    gate: &'a Gate,
    leases: Vec<Lease>,
    secrets: Vec<Arc<Secret>>,
}

/// What came of a credential for one request.
struct Rendered {
    injected: Injected,
    needles: Option<Arc<Needles>>,
    /// Version of the secret, where its provider has one.
    version: Option<String>,
    token: Option<String>,
}

// === impl Injected ===

impl std::fmt::Debug for Injected {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Injected").field("origin", &self.origin).finish_non_exhaustive()
    }
}

// === impl Borrower ===

impl<'a> Borrower<'a> {
    fn new(gate: &'a Gate) -> Borrower<'a> {
        Borrower { gate, leases: Vec::new(), secrets: Vec::new() }
    }

    async fn fetch(&mut self, place: &Place) -> Result<Fetched, Missing> {
        let begun = Instant::now();
        let fetched = self.gate.vault.fetch(place).await;
        health::fetched(self.gate, place.provider(), fetched.as_ref().err().map(|error| &error.fault), begun);
        let mut fetched = fetched.map_err(|error| Missing::Unfetched(error.fault.clone(), error.to_string()))?;
        self.leases.extend(fetched.lease.take());
        self.secrets.push(Arc::clone(&fetched.secret));
        Ok(fetched)
    }

    /// A copy of a secret that is wiped, for where it cannot be lent.
    async fn copy(&mut self, place: &Place) -> Result<Zeroizing<String>, Missing> {
        self.fetch(place).await.map(|fetched| copied(&fetched.secret))
    }

    /// Gives everything back that nobody will use. What cannot be given back ends by itself.
    async fn give_back(self) {
        for lease in self.leases {
            let _ended_by_itself = self.gate.vault.give_back(lease).await;
        }
    }
}

/// Makes room for the credential of a request's destination, and looks for placeholders where they are not replaced.
///
/// # Errors
/// What is wrong with the request: a placeholder in another place, another key, no place for the secret.
pub fn prepare(
    placeholders: Option<&Needles>,
    credential: Option<&Credential>,
    facts: &mut Facts,
) -> Result<(), Refusal> {
    if let Some(placeholders) = placeholders {
        placeholder::check(placeholders, credential, facts)?;
    }
    credential.map_or(Ok(()), |credential| own::remove(credential, facts))
}

/// Fetches and renders the credential that the permit's grant names. Where there is a collector of traces, the upstream
/// is told which one the request is in.
///
/// # Errors
/// [`Refusal::Unfetched`] when its source failed, [`Refusal::TokenRefused`] or [`Refusal::TokenUnreachable`] when its
/// token endpoint did, [`Refusal::VaultUnavailable`] when it is not configured or not bound to this host. Never the
/// secret.
pub async fn credentials(gate: &Gate, permit: &Permit, trace: &Trace) -> Result<Injected, Refusal> {
    let mut injected = match permit.grant().credential() {
        None => Injected::default(),
        Some(name) => {
            let begun = Instant::now();
            let lent = lent(gate, permit, name).await;
            gate.passed(Stage::Vault, begun, trace);
            lent?
        }
    };
    injected.headers.extend(trace.span.and_then(|context| context.header()));
    Ok(injected)
}

async fn lent(gate: &Gate, permit: &Permit, name: &str) -> Result<Injected, Refusal> {
    let credential = permit.rulebook().credentials.get(name);
    let credential =
        credential.ok_or_else(|| Refusal::VaultUnavailable(format!("credential `{name}` is not configured")))?;
    let authority = &permit.facts().authority;
    if !credential.is_bound_to(authority) {
        return Err(Refusal::VaultUnavailable(format!("credential `{name}` is not bound to {authority}")));
    }
    let mut borrower = Borrower::new(gate);
    let Rendered { mut injected, needles, version, token } =
        match rendered(&mut borrower, permit, (name, credential)).await {
            Ok(rendered) => rendered,
            Err(refusal) => {
                borrower.give_back().await;
                return Err(refusal);
            }
        };
    if needles.is_some() {
        // A reply that is not encoded can be looked through as it comes.
        injected.headers.push((header::ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    let passing = credential.reply_headers.clone();
    let withholds_parts = credential.withholds_parts();
    injected.guard = Some(Guard { needles, passing, withholds_parts, token, secrets: borrower.secrets });
    injected.origin = origin(permit, version);
    injected.leases = borrower.leases;
    Ok(injected)
}

/// Whatever has to be fetched for it, and what it makes of the request.
async fn rendered(
    borrower: &mut Borrower<'_>,
    permit: &Permit,
    (name, credential): (&str, &Credential),
) -> Result<Rendered, Refusal> {
    let facts = permit.facts();
    match &credential.shape {
        Shape::Certificate(chain) => presented(borrower, credential, chain.as_ref()).await,
        Shape::Fill(slot) => {
            let Fetched { secret, version, .. } = borrower.fetch(&credential.place).await?;
            let injected = filled(slot, &copied(&secret), facts)?;
            Ok(Rendered { injected, needles: Some(needles(&secret)), version, token: None })
        }
        Shape::Hmac(hmac) => {
            let Fetched { secret, version, .. } = borrower.fetch(&credential.place).await?;
            let headers = secret.lend(|secret| signature::headers(hmac, secret, facts, Timestamp::now()));
            Ok(Rendered { injected: set(headers)?, needles: Some(needles(&secret)), version, token: None })
        }
        Shape::OAuth2(oauth2) => {
            let key = oauth2.key(name, &credential.place);
            let token = Box::pin(oauth2::token(borrower.gate, permit, credential, (oauth2, &key))).await?;
            let injected = filled(&oauth2.slot, token.as_str(), facts)?;
            Ok(Rendered { injected, needles: Some(token.needles()), version: None, token: Some(key) })
        }
        Shape::SigV4(sigv4) => Box::pin(signed(borrower, credential, sigv4, facts)).await,
    }
}

async fn signed(
    borrower: &mut Borrower<'_>,
    credential: &Credential,
    sigv4: &SigV4,
    facts: &Facts,
) -> Result<Rendered, Refusal> {
    let Fetched { secret, version, .. } = borrower.fetch(&credential.place).await?;
    let id = match &sigv4.access_key_id {
        Text::Plain(id) => Zeroizing::new(id.clone()),
        Text::Kept(place) => borrower.copy(place).await?,
    };
    let session = match &sigv4.session_token {
        Some(place) => Some(borrower.fetch(place).await?.secret),
        None => None,
    };
    let token = session.as_deref().map(copied);
    let key = copied(&secret);
    let keys = sigv4::Keys { id: &id, secret: &key, session: token.as_deref().map(String::as_str) };
    let injected = set(sigv4::headers(sigv4, &keys, facts, SystemTime::now()))?;
    let needles = match session {
        // Both belong together, and are issued together.
        Some(session) => session.kept_beside(|session| Needles::new(&[key.as_bytes(), session])),
        None => needles(&secret),
    };
    Ok(Rendered { injected, needles: Some(needles), version, token: None })
}

async fn presented(
    borrower: &mut Borrower<'_>,
    credential: &Credential,
    chain: Option<&Place>,
) -> Result<Rendered, Refusal> {
    let Fetched { secret, version, .. } = borrower.fetch(&credential.place).await?;
    let chain = match chain {
        Some(place) => borrower.fetch(place).await?.secret,
        None => Arc::clone(&secret),
    };
    let certificate = chain.lend(|chain| secret.lend(|key| ClientCertificate::read(chain, key)));
    let certificate = Some(certificate.map_err(Refusal::VaultUnavailable)?);
    Ok(Rendered { injected: Injected { certificate, ..Injected::default() }, needles: None, version, token: None })
}

fn filled(slot: &Slot, text: &str, facts: &Facts) -> Result<Injected, Refusal> {
    render::render(slot, text, facts).map_err(Refusal::VaultUnavailable)
}

fn set(headers: Result<Vec<(HeaderName, HeaderValue)>, String>) -> Result<Injected, Refusal> {
    Ok(Injected { headers: headers.map_err(Refusal::VaultUnavailable)?, ..Injected::default() })
}

fn needles(secret: &Secret) -> Arc<Needles> {
    secret.kept_beside(|secret| Needles::new(&[secret]))
}

fn copied(secret: &Secret) -> Zeroizing<String> {
    // It is printable ASCII: nothing is lost.
    secret.lend(|secret| template::joined(&[str::from_utf8(secret).unwrap_or_default()]))
}

/// What the ledger says of the credential that a permit names: null when it names none.
pub fn origin(permit: &Permit, version: Option<String>) -> Value {
    let name = permit.grant().credential();
    let credential = name.and_then(|name| permit.rulebook().credentials.get(name));
    let Some(place) = credential.map(|credential| &credential.place) else { return Value::Null };
    json!({
        "name": name,
        "reference": place.reference().to_string(),
        "provider": place.provider(),
        "version": version,
    })
}
