//! Owns the root key of one installation and signs short-lived leaf certificates with it.
//!
//! Agents trust the root, so whoever holds its key can be any site to them. The key therefore stays in this crate:
//! [`Root`] is read from a directory only its owner can reach, and nothing hands out the key or a leaf's key.
//! What comes out is a ready [`rustls::ServerConfig`] for one name.
//!
//! This crate knows nothing of requests, agents or policy. It does not decide for which names a leaf may be made.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! let root = ca::Root::create(&home.path().join("ca"), "Writ root")?;
//! println!("trust this: {}\n{}", root.fingerprint(), root.pem());
//!
//! let issuer = ca::Issuer::new(root, ca::CAPACITY);
//! let config = issuer.server_config(&ca::Name::dns("api.example.com")?)?;
//! assert_eq!(config.alpn_protocols, ca::ALPN);
//! # Ok(())
//! # }
//! ```

use std::path::PathBuf;

mod cache;
mod leaf;
mod root;

pub use cache::{ALPN, CAPACITY, Issuer, Leaves};
pub use leaf::Name;
pub use root::Root;

/// Why a root could not be made or opened, or a leaf could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The certificate says that it is not a certificate authority.
    #[error("certificate `{}` is not a certificate authority; restore the root made with this key", .path.display())]
    Authority {
        /// The certificate.
        path: PathBuf,
    },
    /// The wanted common name does not fit into a certificate.
    #[error("common name `{name}` does not fit a certificate; use 1 to 55 characters without control characters")]
    CommonName {
        /// The name as given.
        name: String,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system ({reason}); nothing was made")]
    Entropy {
        /// What the system said.
        reason: String,
    },
    /// There is a root already; it is never overwritten.
    #[error("`{}` exists; move it away first if a new root is wanted", .path.display())]
    Exists {
        /// The file that is in the way.
        path: PathBuf,
    },
    /// A file or directory could not be read or written.
    #[error("cannot use `{}`: {source}; restore it or make it accessible to this user", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A certificate could not be made or loaded for a name.
    #[error("no certificate for `{name}`: {reason}")]
    Leaf {
        /// The name asked for.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// A file does not hold what it should.
    #[error("`{}` cannot be read as {what}; restore it, or move the directory away and make a new root", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The key and the certificate do not belong together.
    #[error("`root.key` and `root.pem` in `{}` do not belong together; restore the pair", .dir.display())]
    Mismatch {
        /// The directory of the root.
        dir: PathBuf,
    },
    /// There is no root yet.
    #[error("no root in `{}`; run `writ init` to make one", .dir.display())]
    Missing {
        /// The directory of the root.
        dir: PathBuf,
    },
    /// Others than the owner can reach the key, or the owner cannot use it.
    #[error("{what} `{}` is {} (mode {mode:o}); run `chmod {wanted:o} {}`", .path.display(), root::reachable(*.mode), .path.display())]
    Mode {
        /// What it is: `root key` or `root directory`.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The permission bits found.
        mode: u32,
        /// The permission bits demanded.
        wanted: u32,
    },
    /// A name that no leaf is made for.
    #[error("`{name}` is not a DNS name a certificate can carry; use an ASCII host name without a final dot")]
    Name {
        /// The name as given.
        name: String,
    },
    /// The root is past its end, or the clock is before its beginning.
    #[error("root certificate `{}` is valid from {from} to {until}; check the clock, or make a new root", .path.display())]
    NotValidNow {
        /// The certificate.
        path: PathBuf,
        /// Beginning of its validity.
        from: String,
        /// End of its validity.
        until: String,
    },
    /// The root could not be made.
    #[error("the root could not be made: {reason}")]
    Root {
        /// What went wrong.
        reason: String,
    },
    /// The key is behind a symbolic link, whose target others may control.
    #[error("`{}` is a symbolic link; put the file itself there", .path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
}
