//! Where the ledger's files are, who may open them, and the key they are signed with.
//!
//! Never creates anything by itself except the lock file: a missing file is something to report, not to replace.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::durable;
use crate::note::{Purpose, Signer, Verifier};
use crate::open::OpenError;

/// The folders and files of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    /// The signing key's file, if it is not in the data directory.
    key: Option<PathBuf>,
}

/// Keeps other processes out of a data directory.
#[derive(Debug)]
pub(crate) struct Lock(File);

// === impl Home ===

impl Home {
    pub(crate) fn new(dir: &Path) -> Home {
        Home { dir: dir.to_owned(), key: None }
    }

    /// With the signing key in a file of its own, which whoever can write the data directory should not be able to read.
    pub(crate) fn with_key(self, key: Option<&Path>) -> Home {
        Home { key: key.map(Path::to_owned), ..self }
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

    /// Checkpoints.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.dir.join("checkpoints")
    }

    /// The newest checkpoint.
    pub(crate) fn newest(&self) -> PathBuf {
        self.checkpoints().join(NEWEST)
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// The ledger's signing key.
    pub(crate) fn key(&self) -> PathBuf {
        self.key.clone().unwrap_or_else(|| self.keys().join(KEY_NAME))
    }

    /// The key that takes its place when the rotation to it is recorded.
    pub(crate) fn next_key(&self) -> PathBuf {
        let mut name = self.key().into_os_string();
        name.push(".next");
        PathBuf::from(name)
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

    /// Makes a signing key in the file `path`.
    pub(crate) fn create_key(path: &Path, origin: &str) -> io::Result<Signer> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut()).map_err(io::Error::other)?;
        let signer = Signer::from_seed(origin, Purpose::Sign, &seed);
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        durable::write(path.parent().unwrap_or(Path::new(".")), name, signer.to_text().as_bytes())?;
        Ok(signer)
    }

    /// Puts the next key in the place of the present one.
    pub(crate) fn turn_key(&self) -> io::Result<()> {
        std::fs::rename(self.next_key(), self.key())?;
        durable::sync_dir(self.key().parent().unwrap_or(Path::new(".")))
    }

    /// The signing key, or why the key file cannot be used.
    pub(crate) fn signer(&self) -> Result<Signer, OpenError> {
        read_key(self.key())
    }

    /// The signing key whose public half is `key`: the present one, or the next, which a rotation that was recorded and
    /// then interrupted left beside it.
    pub(crate) fn signer_of(&self, key: Option<&Verifier>) -> Result<Signer, OpenError> {
        let present = self.signer()?;
        if Some(&present.verifier()) == key {
            return Ok(present);
        }
        let next = self.next_key();
        if next.exists() && Some(&read_key(next)?.verifier()) == key {
            self.turn_key().map_err(|source| OpenError::Io { path: self.key(), source })?;
            return self.signer();
        }
        Err(OpenError::ForeignKey { path: self.key() })
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

fn read_key(path: PathBuf) -> Result<Signer, OpenError> {
    let metadata = path.metadata().map_err(|source| OpenError::Io { path: path.clone(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode != 0o600 {
        return Err(OpenError::KeyMode { path, mode });
    }
    let text = std::fs::read_to_string(&path).map(Zeroizing::new);
    let text = text.map_err(|source| OpenError::Io { path: path.clone(), source })?;
    Signer::parse(&text).ok_or(OpenError::Key { path })
}

const KEY_NAME: &str = "ledger.key";

/// Name of the newest checkpoint in its folder; a copy of it elsewhere is worth keeping.
pub(crate) const NEWEST: &str = "newest";
