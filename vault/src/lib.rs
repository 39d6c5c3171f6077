//! Owns secrets: fetches one from where it is kept, lends it, wipes it.
//!
//! A [`Secret`] can only be made here, never printed, copied or serialised, and its bytes are wiped when it is
//! dropped. It is fetched at the moment it is used and not kept: a rotated secret works at once, a revoked one stops.
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

use std::time::Duration;

use zeroize::Zeroizing;

use local::Local;
use program::Programs;
use providers::Source;

mod env;
mod exec;
mod fault;
mod file;
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
}

/// What one fetch may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a fetch may take.
    pub deadline: Duration,
    /// How long a secret may be, in bytes.
    pub max_bytes: usize,
}

/// A secret and what may be recorded about it.
#[derive(Debug)]
pub struct Fetched {
    /// The secret itself.
    pub secret: Secret,
    /// The provider's name for this state of the secret; for a file its time of change in Unix seconds.
    pub version: Option<String>,
}

/// What a provider read, before it is checked.
struct Raw {
    value: Zeroizing<Vec<u8>>,
    version: Option<String>,
}

// === impl Vault ===

impl Vault {
    /// A vault whose fetches keep to `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Vault {
        Vault { limits, local: Local::new(limits.max_bytes), programs: Programs::new(limits.max_bytes) }
    }

    /// Fetches the secret at `place`, anew on every call.
    ///
    /// # Errors
    /// If it cannot be read within the deadline, is empty or too long, or has a byte other than printable ASCII:
    /// what is put into a header must not be able to end it.
    pub async fn fetch(&self, place: &Place) -> Result<Fetched, VaultError> {
        self.fetch_anew(place).await.map_err(|fault| VaultError {
            reference: place.reference().clone(),
            provider: place.provider(),
            fault,
        })
    }

    async fn fetch_anew(&self, place: &Place) -> Result<Fetched, Fault> {
        let deadline = self.limits.deadline;
        let raw = tokio::time::timeout(deadline, self.read(place)).await.map_err(|_| Fault::Deadline(deadline))??;
        let secret = Secret::new(raw.value, self.limits.max_bytes)?;
        Ok(Fetched { secret, version: raw.version })
    }

    async fn read(&self, place: &Place) -> Result<Raw, Fault> {
        match &place.source {
            Source::Exec { program, arguments } => exec::read(program, arguments, &self.programs).await,
            Source::Local(reference) => self.local.read(reference).await,
            Source::OnePassword { provider, item } => provider.read(item, &self.local, &self.programs).await,
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
