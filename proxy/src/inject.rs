//! Puts a credential into a permitted request, and takes the agent's own out of it before anyone decides.
//!
//! A secret is fetched only with a [`Permit`] in hand, goes only to a host its credential is bound to, and every copy
//! made here is wiped. (The copy in the TLS library's write buffer is not under our control.)

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::gate::Gate;
use crate::permit::Permit;
use crate::refusal::Refusal;
use crate::scrub::Needles;

mod field;
mod own;
mod render;
mod signature;
mod slot;
mod template;

pub use own::prepare;

/// A credential rendered for one request: what takes the place of the request's own parts.
#[derive(Default)]
pub struct Injected {
    /// Headers to set, each in place of any other of its name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Path and query.
    pub target: Option<Zeroizing<String>>,
    /// The body.
    pub body: Option<Bytes>,
    /// What must not come back.
    pub guard: Option<Guard>,
    /// Reference, provider and version for the ledger; null without a credential.
    pub origin: Value,
    /// What has to be given back when the request is over.
    pub lease: Option<vault::Lease>,
}

/// What the gate looks for in the reply to a request with a credential.
#[derive(Debug)]
pub struct Guard {
    /// The secrets, in all their forms.
    pub needles: Arc<Needles>,
    /// Headers that pass although they could hand out another credential.
    pub passing: BTreeSet<String>,
}

// === impl Injected ===

impl std::fmt::Debug for Injected {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Injected").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Fetches and renders the credential that the permit's grant names.
///
/// # Errors
/// [`Refusal::Unfetched`] when its source failed, [`Refusal::VaultUnavailable`] when it is not configured or not bound
/// to this host. Never the secret.
pub async fn credentials(gate: &Gate, permit: &Permit) -> Result<Injected, Refusal> {
    let Some(name) = permit.grant().credential() else { return Ok(Injected::default()) };
    let credential = permit.rulebook().credentials.get(name);
    let credential =
        credential.ok_or_else(|| Refusal::VaultUnavailable(format!("credential `{name}` is not configured")))?;
    let authority = &permit.facts().authority;
    if !credential.is_bound_to(authority) {
        return Err(Refusal::VaultUnavailable(format!("credential `{name}` is not bound to {authority}")));
    }
    let fetched = gate.vault.fetch(&credential.place).await;
    let fetched = fetched.map_err(|error| Refusal::Unfetched(error.fault.clone(), error.to_string()))?;
    let facts = permit.facts();
    let rendered = fetched.secret.lend(|secret| render::render(&credential.shape, secret, facts, Timestamp::now()));
    let mut injected = match rendered {
        Ok(injected) => injected,
        Err(why) => {
            if let Some(lease) = fetched.lease {
                // Nobody will use it. When it cannot be given back it ends by itself.
                let _ended_by_itself = gate.vault.give_back(lease).await;
            }
            return Err(Refusal::VaultUnavailable(why));
        }
    };
    let needles = fetched.secret.kept_beside(|secret| Needles::new(&[secret]));
    injected.guard = Some(Guard { needles, passing: credential.reply_headers.clone() });
    // A reply that is not encoded can be looked through as it comes.
    injected.headers.push((header::ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    injected.origin = origin(permit, fetched.version);
    injected.lease = fetched.lease;
    Ok(injected)
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
