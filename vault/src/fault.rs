//! Why there is no secret, in words for the operator and as a closed list to decide on.
//!
//! Must never hold a secret's value or anything computed from it.

use std::time::Duration;

use crate::Reference;

/// A fetch that gave no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{reference}` {fault}")]
pub struct VaultError {
    /// Where the secret is kept.
    pub reference: Reference,
    /// Which kind of provider was asked: `env`, `file`, `exec`, `1password`.
    pub provider: &'static str,
    /// What went wrong.
    pub fault: Fault,
}

/// What can go wrong with a fetch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The value has a byte that could end a header or that clients encode in different ways.
    #[error("has a byte that is not printable ASCII; store it without line breaks")]
    Byte,
    /// The program ended without success. What it wrote to its standard error is not kept: it may hold the secret.
    #[error("could not be read: `{program}` ended with {status}; run it by hand to see why")]
    Command {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
    },
    /// The fetch took longer than this.
    #[error("was not read within {0:?}; check that its storage answers")]
    Deadline(Duration),
    /// There is nothing in it.
    #[error("is empty; store a value there")]
    Empty,
    /// The place could not be read, for the reason the system gave.
    #[error("cannot be read: {0}; make it readable to this user")]
    Io(String),
    /// The provider's own token could not be had.
    #[error("cannot be asked for: {0}")]
    Login(String),
    /// What is there is a directory, a pipe or a device.
    #[error("is not a regular file; name a file")]
    NotRegular,
    /// The program could not be started, for the reason the system gave.
    #[error("could not be read: `{program}` did not start: {why}")]
    NotStarted {
        /// The program.
        program: String,
        /// What the system said.
        why: String,
    },
    /// The value is longer than this many bytes.
    #[error("is longer than {0} bytes; store the secret alone")]
    TooLong(usize),
    /// The variable is not set.
    #[error("is not set; set the variable before the start")]
    Unset,
    /// Somebody else could put another program in the place of this one.
    #[error("is not read: `{0}` can be changed by others; give it to root or this user and run `chmod go-w` on it")]
    Unsafe(String),
    /// Others than the owner can change the file; its permission bits.
    #[error("can be changed by others than its owner (mode {0:o}); run `chmod go-w` on it")]
    Writable(u32),
}
