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
//! let fetched = vault::Vault::new(vault::Limits::default()).fetch(&reference).await?;
//! let header = fetched.secret.lend(|secret| [b"Bearer ", secret].concat());
//! assert_eq!(header, b"Bearer sk_test_1");
//! assert_eq!(format!("{:?}", fetched.secret), "Secret(redacted)");
//! # Ok(())
//! # }
//! ```

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

mod env;
mod file;
mod secret;

pub use secret::Secret;

/// Fetches secrets from the places references name.
#[derive(Debug)]
pub struct Vault {
    limits: Limits,
    file_slots: Arc<Semaphore>,
}

/// What one fetch may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a fetch may take.
    pub deadline: Duration,
    /// How long a secret may be, in bytes.
    pub max_bytes: usize,
}

/// Where a secret is kept. It is configuration, not a secret, and may be printed and recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `env://NAME`: a variable of this process's environment. For development: the environment is readable for
    /// everything that runs as the same user, and cannot be changed without a restart.
    Env(String),
    /// `file:///absolute/path`, taken literally, without percent-decoding.
    File(PathBuf),
}

/// A secret and what may be recorded about it.
#[derive(Debug)]
pub struct Fetched {
    /// The secret itself.
    pub secret: Secret,
    /// Which provider it came from: `env` or `file`.
    pub provider: &'static str,
    /// The provider's name for this state of the secret; for a file its time of change in Unix seconds.
    pub version: Option<String>,
}

/// Why there is no secret. No variant holds a secret's value or anything computed from it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The value has a byte that could end a header or that clients encode in different ways.
    #[error("the secret at `{reference}` has a byte that is not printable ASCII; store it without line breaks")]
    Byte {
        /// Where it is kept.
        reference: Reference,
    },
    /// The fetch took too long.
    #[error("`{reference}` was not read within {deadline:?}; check that its storage answers")]
    Deadline {
        /// Where it is kept.
        reference: Reference,
        /// The time it had.
        deadline: Duration,
    },
    /// There is nothing in it.
    #[error("the secret at `{reference}` is empty; store a value there")]
    Empty {
        /// Where it is kept.
        reference: Reference,
    },
    /// The place could not be read.
    #[error("cannot read `{reference}`: {source}; make it readable to this user")]
    Io {
        /// Where it is kept.
        reference: Reference,
        /// What the system said.
        source: io::Error,
    },
    /// The text is no reference. It is not repeated, because it may be the secret itself.
    #[error("not a reference to a secret (the text is withheld); {KNOWN}")]
    NotReference,
    /// What is there is a directory, a pipe or a device.
    #[error("`{reference}` is not a regular file; name a file")]
    NotRegular {
        /// Where it is kept.
        reference: Reference,
    },
    /// The value is longer than the limit.
    #[error("the secret at `{reference}` is longer than {max_bytes} bytes; store the secret alone")]
    TooLong {
        /// Where it is kept.
        reference: Reference,
        /// The limit.
        max_bytes: usize,
    },
    /// The scheme is not one of ours.
    #[error("unknown scheme `{scheme}://` in a reference to a secret; {KNOWN}")]
    UnknownScheme {
        /// The scheme, without what follows it.
        scheme: String,
    },
    /// The variable is not set.
    #[error("`{reference}` is not set; set the variable before the start")]
    Unset {
        /// Where it is kept.
        reference: Reference,
    },
    /// Others than the owner can change the file.
    #[error("`{reference}` can be changed by others than its owner (mode {mode:o}); run `chmod go-w` on it")]
    Writable {
        /// Where it is kept.
        reference: Reference,
        /// The permission bits found.
        mode: u32,
    },
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
        Vault { limits, file_slots: Arc::new(Semaphore::new(FILE_SLOTS)) }
    }

    /// Fetches the secret at `reference`, anew on every call.
    ///
    /// # Errors
    /// If it cannot be read within the deadline, is empty or too long, or has a byte other than printable ASCII:
    /// what is put into a header must not be able to end it.
    pub async fn fetch(&self, reference: &Reference) -> Result<Fetched, VaultError> {
        let deadline = self.limits.deadline;
        let late = |_| VaultError::Deadline { reference: reference.clone(), deadline };
        let raw = tokio::time::timeout(deadline, self.read(reference)).await.map_err(late)??;
        let secret = Secret::new(raw.value, reference, self.limits.max_bytes)?;
        Ok(Fetched { secret, provider: reference.provider(), version: raw.version })
    }

    async fn read(&self, reference: &Reference) -> Result<Raw, VaultError> {
        match reference {
            Reference::Env(name) => env::read(reference, name),
            Reference::File(path) => file::read(reference, path, self.limits.max_bytes, &self.file_slots).await,
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

// === impl Reference ===

impl Reference {
    fn provider(&self) -> &'static str {
        match self {
            Reference::Env(_) => "env",
            Reference::File(_) => "file",
        }
    }
}

impl FromStr for Reference {
    type Err = VaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, place) = text.split_once("://").ok_or(VaultError::NotReference)?;
        match scheme {
            "env" if is_variable(place) => Ok(Reference::Env(place.into())),
            "file" if place.starts_with('/') && !place.contains(char::is_control) => Ok(Reference::File(place.into())),
            "env" | "file" => Err(VaultError::NotReference),
            _ if is_scheme(scheme) => Err(VaultError::UnknownScheme { scheme: scheme.into() }),
            _ => Err(VaultError::NotReference),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Env(name) => write!(out, "env://{name}"),
            Reference::File(path) => write!(out, "file://{}", path.display()),
        }
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether this is short and plain enough to be a scheme, and not the beginning of a secret.
fn is_scheme(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

const KNOWN: &str = "write `env://NAME` or `file:///absolute/path`";

/// How many files may be read at once. A file system that hangs then holds this many threads and no more.
const FILE_SLOTS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_printed_as_it_was_configured() {
        let cases = [
            ("env://STRIPE_KEY", Reference::Env("STRIPE_KEY".into())),
            ("file:///run/secrets/a%20b c", Reference::File("/run/secrets/a%20b c".into())),
        ];
        for (text, expected) in cases {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference, expected);
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_and_never_repeated() {
        let texts = [
            "",
            "CANARY",
            "CANARY://x",
            "canary-very-long-scheme://x",
            "env://",
            "env://CANARY=1",
            "env://CANARY KEY",
            "file://CANARY",
            "file://./CANARY",
            "file:///CANARY\n",
            "file:/CANARY",
            "env:CANARY",
            "://CANARY",
        ];
        for text in texts {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(matches!(error, VaultError::NotReference), "{text}: {error}");
            let all = format!("{error} {error:?}");
            assert!(!all.to_lowercase().contains("canary"), "{all}");
            assert!(all.contains("env://NAME") && all.contains("file:///absolute/path"), "{all}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_named_with_the_known_ones() {
        let error = "postgres://user:CANARY@host".parse::<Reference>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown scheme `postgres://` in a reference to a secret; write `env://NAME` or `file:///absolute/path`"
        );
        assert!(!format!("{error:?}").contains("CANARY"));
    }
}
