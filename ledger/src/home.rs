//! Where the ledger's files are, who may open them, and the key they are signed with.
//!
//! Never creates anything by itself except the lock file: a missing file is something to report, not to replace.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::durable;
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

    /// Makes the signing key and returns its public form, a C2SP verifier key.
    pub(crate) fn create_key(&self, origin: &str) -> io::Result<String> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut()).map_err(io::Error::other)?;
        let key = SigningKey::from_bytes(&seed);
        let secret = Zeroizing::new([&[ED25519], seed.as_slice()].concat());
        let id = HEXLOWER.encode(&key_id(origin, &key));
        let text = Zeroizing::new(format!("{PRIVATE}+{origin}+{id}+{}\n", BASE64.encode(&secret)));
        durable::write(&self.keys(), KEY_NAME, text.as_bytes())?;
        Ok(verifier_key(origin, &key))
    }

    /// The public form of the signing key, or why the key file cannot be used.
    pub(crate) fn public_key(&self, origin: &str) -> Result<String, OpenError> {
        let path = self.key();
        let metadata = path.metadata().map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode != 0o600 {
            return Err(OpenError::KeyMode { path, mode });
        }
        let text = std::fs::read_to_string(&path).map(Zeroizing::new);
        let text = text.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let key = parse_key(&text).ok_or(OpenError::Key { path })?;
        Ok(verifier_key(origin, &key))
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

/// Reads `PRIVATE+KEY+origin+id+base64(1 || seed)`, the text form of a signed-note key. Base64 has a `+` of its own, so
/// the secret is everything behind the third separator; an origin has none.
fn parse_key(text: &str) -> Option<SigningKey> {
    let (_, fields) = text.trim_end().split_once(PRIVATE)?;
    let secret = fields.splitn(4, '+').nth(3)?;
    let secret = Zeroizing::new(BASE64.decode(secret.as_bytes()).ok()?);
    let (algorithm, seed) = secret.split_first()?;
    let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).ok()?);
    (*algorithm == ED25519).then(|| SigningKey::from_bytes(&seed))
}

/// `origin+id+base64(1 || public key)`, see <https://c2sp.org/signed-note>.
fn verifier_key(origin: &str, key: &SigningKey) -> String {
    let public = [&[ED25519], key.verifying_key().as_bytes().as_slice()].concat();
    format!("{origin}+{}+{}", HEXLOWER.encode(&key_id(origin, key)), BASE64.encode(&public))
}

/// First four bytes of SHA-256 over name, newline, algorithm and public key.
fn key_id(origin: &str, key: &SigningKey) -> [u8; 4] {
    let digest = Sha256::new()
        .chain_update(origin)
        .chain_update([b'\n', ED25519])
        .chain_update(key.verifying_key().as_bytes())
        .finalize();
    let [a, b, c, d, ..] = digest.0;
    [a, b, c, d]
}

const KEY_NAME: &str = "ledger.key";

/// How the text of a signed-note private key begins.
const PRIVATE: &str = "PRIVATE+KEY";

/// Algorithm byte of Ed25519 in signed notes.
const ED25519: u8 = 1;
