//! Where the ledger's files are, who may open them, and the key they are signed with.
//!
//! Never creates anything by itself except the lock file: a missing file is something to report, not to replace.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::durable;
use crate::note::{Purpose, Signer};
use crate::open::OpenError;

/// The folders and files of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    dir: PathBuf,
}

/// Keeps other processes out of a data directory.
#[derive(Debug)]
pub(crate) struct Lock(File);

// === impl Home ===

impl Home {
    pub(crate) fn new(dir: &Path) -> Home {
        Home { dir: dir.to_owned() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The journal.
    pub(crate) fn events(&self) -> PathBuf {
        self.dir.join("events")
    }

    /// The index.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    /// Texts by their digest.
    pub(crate) fn texts(&self) -> PathBuf {
        self.dir.join("texts")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// The ledger's signing key.
    pub(crate) fn key(&self) -> PathBuf {
        self.keys().join(KEY_NAME)
    }

    /// The first file or folder of a ledger that is there already.
    pub(crate) fn occupied(&self) -> Option<PathBuf> {
        [self.events(), self.store(), self.key()].into_iter().find(|path| path.exists())
    }

    /// Locks the directory for this process, until the lock is dropped.
    pub(crate) fn lock(&self) -> Result<Lock, OpenError> {
        let path = self.dir.join("lock");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: self.dir.clone() }),
        }
    }

    /// Makes the signing key and returns its public form.
    pub(crate) fn create_key(&self, origin: &str) -> io::Result<String> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut()).map_err(io::Error::other)?;
        let signer = Signer::from_seed(origin, Purpose::Sign, &seed);
        durable::write(&self.keys(), KEY_NAME, signer.to_text().as_bytes())?;
        Ok(signer.verifier().to_string())
    }

    /// The signing key, or why the key file cannot be used.
    pub(crate) fn signer(&self) -> Result<Signer, OpenError> {
        let path = self.key();
        let metadata = path.metadata().map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode != 0o600 {
            return Err(OpenError::KeyMode { path, mode });
        }
        let text = std::fs::read_to_string(&path).map(Zeroizing::new);
        let text = text.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        Signer::parse(&text).ok_or(OpenError::Key { path })
    }
}

// === impl Lock ===

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a child process that was just forked and has not yet called exec. If this
        // fails, closing follows anyway.
        drop(self.0.unlock());
    }
}

const KEY_NAME: &str = "ledger.key";
