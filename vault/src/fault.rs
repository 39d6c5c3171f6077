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
    /// Which kind of provider was asked: as [`Place::provider`](crate::Place::provider)
    /// names it.
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
    /// The vault's certificate is not trusted, for this reason.
    #[error("is not asked for: the certificate of its vault is not trusted ({0}); name its authority in `roots:`")]
    Certificate(String),
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
    /// The vault's policy does not allow it to be read.
    #[error("may not be read with this provider's login; allow that in the vault")]
    Denied,
    /// There is nothing in it.
    #[error("is empty; store a value there")]
    Empty,
    /// What it, or the login to its vault, was lent for is over.
    #[error("is lent for a time that is over: {0}")]
    Expired(&'static str),
    /// The answer is not what a vault says.
    #[error("was answered for by something that is no vault; check the provider's address")]
    Garbled,
    /// The place could not be read, for the reason the system gave.
    #[error("cannot be read: {0}; make it readable to this user")]
    Io(String),
    /// The provider's own token could not be had.
    #[error("cannot be asked for: {0}")]
    Login(String),
    /// There is no such secret, or not this version of it.
    #[error("is not there, or not in this version; check path and version")]
    Missing,
    /// The secret is there and has no field of this name.
    #[error("has no field `{0}`; name one that it has")]
    NoField(String),
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
    /// The field holds something else than a text.
    #[error("is no text; store the value of `{0}` as a string")]
    NotText(String),
    /// The vault points elsewhere, which is not followed.
    #[error("was answered with a redirect, which is not followed; name the vault's own address")]
    Redirected,
    /// The vault answered with this status.
    #[error("was refused by its vault with status {0}; look into the vault's log")]
    Refused(u16),
    /// The vault is sealed.
    #[error("cannot be read: the vault is sealed; unseal it")]
    Sealed,
    /// The vault takes no more requests for now.
    #[error("cannot be read: the vault takes no more requests for now; raise its quota")]
    Throttled,
    /// The value is longer than this many bytes.
    #[error("is longer than {0} bytes; store the secret alone")]
    TooLong(usize),
    /// The vault failed with this status.
    #[error("cannot be read: its vault failed with status {0}; look into the vault's log")]
    Unavailable(u16),
    /// The vault could not be reached, for this reason.
    #[error("cannot be read: its vault could not be reached: {0}")]
    Unreachable(String),
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
