//! Owns secrets: fetches one from where it is kept, lends it, wipes it.
//!
//! A [`Secret`] can only be made here, never printed, copied or serialised, and its bytes are wiped when it is
//! dropped. It is fetched at the moment it is used and not kept, unless the operator allows it for a while: a rotated
//! secret works at once, a revoked one stops.
//!
//! This crate knows nothing of requests, destinations or policy. It does not decide who may use a secret or where it
//! may go, and it records nothing: the caller may record a reference, a provider and a version, never a value.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # let path = home.path().join("stripe");
//! # std::fs::write(&path, "sk_test_1\n")?;
//! let reference: vault::Reference = format!("file://{}", path.display()).parse()?;
//! let place = vault::Providers::default().place(reference, None)?;
//! let fetched = vault::Vault::new(vault::Limits::default()).fetch(&place).await?;
//! let header = fetched.secret.lend(|secret| [b"Bearer ", secret].concat());
//! assert_eq!(header, b"Bearer sk_test_1");
//! assert_eq!(format!("{:?}", fetched.secret), "Secret(redacted)");
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use flight::Flights;
use hashicorp::Loan;
use lent::Lent;
use local::Local;
use program::Programs;
use providers::Source;

mod aws;
mod call;
mod env;
mod exec;
mod fault;
mod field;
mod file;
mod flight;
mod hashicorp;
mod json;
mod lent;
mod local;
mod onepassword;
mod program;
mod providers;
mod reference;
mod secret;

pub use fault::{Fault, VaultError};
pub use providers::{Place, ProviderSettings, Providers};
pub use reference::{LocalReference, Reference, ReferenceError};
pub use secret::Secret;

/// Fetches secrets from the places references name.
#[derive(Debug)]
pub struct Vault {
    limits: Limits,
    local: Local,
    programs: Programs,
    flights: Flights,
    lent: Lent,
}

/// What one fetch may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a fetch may take.
    pub deadline: Duration,
    /// How long a secret may be, in bytes.
    pub max_bytes: usize,
}

/// A secret and what may be recorded about it. Callers that asked at the same time share it.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The secret itself.
    pub secret: Arc<Secret>,
    /// The provider's name for this state of the secret: the version of a KV v2 secret, the id of a lease, for a file
    /// its time of change in Unix seconds.
    pub version: Option<String>,
    /// What has to be given back after use; only dynamic secrets have it.
    pub lease: Option<Lease>,
}

/// A dynamic secret on loan. Whoever gives it back last ends it.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Loan>);

/// What a provider read, before it is checked.
struct Raw {
    value: Zeroizing<Vec<u8>>,
    version: Option<String>,
    loan: Option<Loan>,
}

// === impl Vault ===

impl Vault {
    /// A vault whose fetches keep to `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Vault {
        let max_bytes = limits.max_bytes;
        let (local, programs) = (Local::new(max_bytes), Programs::new(max_bytes));
        Vault { limits, local, programs, flights: Flights::default(), lent: Lent::default() }
    }

    /// Fetches the secret at `place`: anew, unless the place may keep it for a while or somebody else is fetching it
    /// right now.
    ///
    /// # Errors
    /// If it cannot be read within the deadline, is empty or too long, or has a byte other than printable ASCII:
    /// what is put into a header must not be able to end it.
    pub async fn fetch(&self, place: &Place) -> Result<Fetched, VaultError> {
        let fetched = match &place.source {
            // A variable is at hand: there is nothing to share.
            Source::Local(LocalReference::Env(_)) => self.fetch_anew(place).await,
            Source::Aws { .. }
            | Source::Exec { .. }
            | Source::Hashicorp { .. }
            | Source::Local(LocalReference::File(_))
            | Source::OnePassword { .. } => self.flights.join(place, self.fetch_anew(place)).await,
        };
        let (reference, provider) = (place.reference(), place.provider());
        fetched.map_err(|fault| VaultError { reference: reference.clone(), provider, fault })
    }

    async fn fetch_anew(&self, place: &Place) -> Result<Fetched, Fault> {
        let deadline = self.limits.deadline;
        let raw = tokio::time::timeout(deadline, self.read(place)).await.map_err(|_| Fault::Deadline(deadline))??;
        let lease = raw.loan.map(|loan| Lease(Arc::new(loan)));
        match Secret::new(raw.value, self.limits.max_bytes, place.key.lines) {
            Ok(secret) => Ok(Fetched { secret: self.lent.share(place, secret), version: raw.version, lease }),
            Err(fault) => {
                if let Some(lease) = lease {
                    // Nobody will use it. When it cannot be given back it ends by itself.
                    let _ended_by_itself = self.give_back(lease).await;
                }
                Err(fault)
            }
        }
    }

    /// Has the vault end a dynamic secret, when nobody else uses it any more, and waits until it has.
    ///
    /// # Errors
    /// When the vault does not do that within the deadline. The secret then ends by itself, later.
    pub async fn give_back(&self, lease: Lease) -> Result<(), Fault> {
        let Some(loan) = Arc::into_inner(lease.0) else { return Ok(()) };
        let deadline = self.limits.deadline;
        tokio::time::timeout(deadline, loan.give_back()).await.map_err(|_| Fault::Deadline(deadline))?
    }

    async fn read(&self, place: &Place) -> Result<Raw, Fault> {
        // Boxed where a vault is spoken to: else every fetch, of a file too, would carry a hundred kilobytes of state.
        match &place.source {
            Source::Aws { provider, id, key, stage, version } => {
                let (key, stage, version) = (key.as_deref(), stage.as_deref(), version.as_deref());
                Box::pin(provider.read(&aws::Wanted { id, key, stage, version })).await
            }
            Source::Exec { program, arguments } => Box::pin(exec::read(program, arguments, &self.programs)).await,
            Source::Hashicorp { provider, path, field, version } => {
                let wanted = hashicorp::Wanted { path, field, version: *version };
                Box::pin(provider.read(&wanted, &self.local)).await
            }
            Source::Local(reference) => self.local.read(reference).await,
            Source::OnePassword { provider, item } => Box::pin(provider.read(item, &self.local, &self.programs)).await,
        }
    }
}

// === impl Limits ===

impl Default for Limits {
    /// Five seconds and 64 KiB.
    fn default() -> Self {
        Limits { deadline: Duration::from_secs(5), max_bytes: 64 * 1024 }
    }
}

/// Takes one line break away from the end: files and programs put it there.
fn without_line_end(value: &mut Vec<u8>) {
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
}
