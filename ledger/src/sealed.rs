//! Sealed bodies: held requests and replies waiting for their agent, encrypted and bound to their name.
//!
//! XChaCha20-Poly1305 with a random nonce; the name is authenticated with the content, so a file swapped for another is
//! noticed. The key lives outside the folder. Never part of the chain: deleting a sealed body breaks nothing there.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::HEXLOWER;
use hmac::{Mac, SimpleHmac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::durable;

/// A folder of sealed bodies.
pub struct Sealed {
    dir: PathBuf,
    cipher: XChaCha20Poly1305,
    /// Keys the marks of [`Sealed::mark`]; derived from the sealing key, and of no use for it.
    marking: Zeroizing<[u8; 32]>,
    limits: Limits,
    /// Bytes on disk. Held while files change, so that two writers cannot both use the last of the room.
    used: Mutex<u64>,
}

/// How much a folder of sealed bodies may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files together.
    pub max_bytes: u64,
}

/// Why a body cannot be sealed, opened or removed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file was changed, swapped, or sealed with another key.
    #[error("sealed body `{name}` does not open: it was changed, swapped, or sealed with another key; remove it")]
    Broken {
        /// Its name.
        name: String,
    },
    /// There is no room.
    #[error("sealed bodies use {used} of {limit} bytes, `{name}` needs {needed}; wait until older ones are swept")]
    Full {
        /// Its name.
        name: String,
        /// Bytes in use.
        used: u64,
        /// Bytes it needs.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The file system refused.
    #[error("cannot use `{}`: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The key file is not 32 bytes.
    #[error("`{}` is not a sealing key; restore it, or remove it together with all sealed bodies", .path.display())]
    Key {
        /// The key file.
        path: PathBuf,
    },
    /// There are sealed bodies but no key for them.
    #[error("`{}` is missing but there are sealed bodies; restore it, or remove the sealed bodies", .path.display())]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// Others than the owner may use the key.
    #[error("key `{}` has mode {mode:o}; run `chmod 600 {}`", .path.display(), .path.display())]
    KeyMode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a name for a sealed body.
    #[error("`{0}` cannot name a sealed body; use a-z, 0-9, `_`, `.` and `-`, no dot in front, at most 200 characters")]
    Name(String),
}

// === impl Sealed ===

impl Sealed {
    /// Opens the folder with its key. The key is made if it is missing and nothing is sealed yet.
    pub fn open(dir: &Path, key_file: &Path, limits: Limits) -> Result<Sealed, SealError> {
        durable::create_dir(dir).map_err(|source| SealError::Io { path: dir.to_owned(), source })?;
        let files = files(dir)?;
        if !key_file.exists() {
            if !files.is_empty() {
                return Err(SealError::KeyMissing { path: key_file.to_owned() });
            }
            create_key(key_file).map_err(|source| SealError::Io { path: key_file.to_owned(), source })?;
        }
        let key = read_key(key_file)?;
        let used = Mutex::new(files.iter().map(|file| file.bytes).sum());
        let marking = Zeroizing::new(keyed(&key, b"writ mark key v1"));
        Ok(Sealed { dir: dir.to_owned(), cipher: XChaCha20Poly1305::new((&*key).into()), marking, limits, used })
    }

    /// HMAC-SHA256 (RFC 2104) of a message under a key of this store, in hex: who cannot read the key cannot make it.
    pub fn mark(&self, message: &[u8]) -> String {
        HEXLOWER.encode(&keyed(&self.marking, message))
    }

    /// Seals a body under a name, replacing an earlier one. Durable on return.
    pub fn put(&self, name: &str, plaintext: &[u8]) -> Result<(), SealError> {
        let path = self.path(name)?;
        let io = |source| SealError::Io { path: path.clone(), source };
        let mut nonce = [0_u8; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| io(io::Error::other(error)))?;
        let payload = Payload { msg: plaintext, aad: name.as_bytes() };
        let ciphertext = self.cipher.encrypt(&XNonce::from(nonce), payload);
        let ciphertext = ciphertext.map_err(|_| io(io::Error::other("too long to seal")))?;
        let file = [&[FORMAT], nonce.as_slice(), &ciphertext].concat();

        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let others = used.saturating_sub(size_of(&path).map_err(io)?);
        let needed = file.len() as u64;
        if others.saturating_add(needed) > self.limits.max_bytes {
            let limit = self.limits.max_bytes;
            return Err(SealError::Full { name: name.to_owned(), used: *used, needed, limit });
        }
        durable::write(&self.dir, name, &file).map_err(io)?;
        *used = others + needed;
        Ok(())
    }

    /// Opens a body; `None` if there is none of that name. Wiped from memory when dropped.
    pub fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        let path = self.path(name)?;
        let file = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SealError::Io { path, source }),
            Ok(file) => file,
        };
        let opened = self.unseal(name, &file).ok_or_else(|| SealError::Broken { name: name.to_owned() })?;
        Ok(Some(Zeroizing::new(opened)))
    }

    /// Removes a body; does nothing if there is none of that name.
    pub fn remove(&self, name: &str) -> Result<(), SealError> {
        let path = self.path(name)?;
        self.unlink(&path).map(drop)
    }

    /// Removes everything last written before a point in time but what is `kept` by name, and says how many files that
    /// were.
    pub fn sweep(&self, before: SystemTime, kept: &BTreeSet<String>) -> Result<usize, SealError> {
        let is_kept = |path: &Path| path.file_name().is_some_and(|name| kept.contains(&*name.to_string_lossy()));
        let mut swept = 0;
        for file in files(&self.dir)?.into_iter().filter(|file| file.written < before && !is_kept(&file.path)) {
            swept += usize::from(self.unlink(&file.path)?);
        }
        Ok(swept)
    }

    fn unseal(&self, name: &str, file: &[u8]) -> Option<Vec<u8>> {
        let (format, rest) = file.split_first()?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>()?;
        let payload = Payload { msg: ciphertext, aad: name.as_bytes() };
        (*format == FORMAT).then(|| self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()).flatten()
    }

    fn unlink(&self, path: &Path) -> Result<bool, SealError> {
        let io = |source| SealError::Io { path: path.to_owned(), source };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = size_of(path).map_err(io)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(io(source)),
            Ok(()) => {
                *used = used.saturating_sub(bytes);
                Ok(true)
            }
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf, SealError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        let valid = (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed);
        if valid { Ok(self.dir.join(name)) } else { Err(SealError::Name(name.to_owned())) }
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").field("dir", &self.dir).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A file in the folder, finished or not.
struct Stored {
    path: PathBuf,
    bytes: u64,
    written: SystemTime,
}

fn files(dir: &Path) -> Result<Vec<Stored>, SealError> {
    let read = || {
        let mut files = Vec::new();
        for entry in dir.read_dir()? {
            let path = entry?.path();
            match path.metadata() {
                // A file being written elsewhere gets its final name, or is removed, at any moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(metadata) => {
                    files.push(Stored { path, bytes: metadata.len(), written: metadata.modified()? });
                }
            }
        }
        Ok(files)
    };
    read().map_err(|source| SealError::Io { path: dir.to_owned(), source })
}

fn size_of(path: &Path) -> io::Result<u64> {
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
        Ok(metadata) => Ok(metadata.len()),
    }
}

fn create_key(path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0_u8; 32]);
    getrandom::fill(key.as_mut()).map_err(io::Error::other)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    durable::create_dir(dir)?;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    durable::write(dir, name, key.as_slice())
}

fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let io = |source| SealError::Io { path: path.to_owned(), source };
    let mode = path.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode != 0o600 {
        return Err(SealError::KeyMode { path: path.to_owned(), mode });
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(io)?);
    let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| SealError::Key { path: path.to_owned() })?;
    Ok(Zeroizing::new(key))
}

/// First byte of every file.
const FORMAT: u8 = 1;

/// Bytes of the nonce.
const NONCE: usize = 24;

/// Longest name; file systems allow 255.
const MAX_NAME: usize = 200;

fn keyed(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // RFC 2104 section 2: a key shorter than the block is filled up with zeros.
    let mut block = Zeroizing::new([0_u8; 64]);
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut code = <SimpleHmac<Sha256> as hmac::KeyInit>::new((&*block).into());
    code.update(message);
    code.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn open(home: &Path, max_bytes: u64) -> Result<Sealed, SealError> {
        Sealed::open(&home.join("sealed"), &home.join("keys/seal.key"), Limits { max_bytes })
    }

    fn get(sealed: &Sealed, name: &str) -> Option<Vec<u8>> {
        sealed.get(name).unwrap().map(|body| body.to_vec())
    }

    #[test]
    fn a_body_comes_back_also_after_reopening() {
        let home = tempfile::tempdir().unwrap();
        open(home.path(), 1000).unwrap().put("int_1.request", b"POST /v1/refunds").unwrap();
        let sealed = open(home.path(), 1000).unwrap();
        assert_eq!(get(&sealed, "int_1.request").as_deref(), Some(b"POST /v1/refunds".as_slice()));
        assert_eq!(get(&sealed, "int_2.request"), None);
        let stored = std::fs::read(home.path().join("sealed/int_1.request")).unwrap();
        assert!(!stored.windows(4).any(|window| window == b"POST"));
        sealed.remove("int_1.request").unwrap();
        sealed.remove("int_1.request").unwrap();
        assert_eq!(get(&sealed, "int_1.request"), None);
    }

    #[test]
    fn every_flipped_byte_and_a_swapped_file_are_noticed() {
        let home = tempfile::tempdir().unwrap();
        let sealed = open(home.path(), 1000).unwrap();
        sealed.put("a", b"for a").unwrap();
        sealed.put("b", b"for b").unwrap();
        let file = home.path().join("sealed/a");
        let intact = std::fs::read(&file).unwrap();
        let broken = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            matches!(sealed.get("a"), Err(SealError::Broken { .. }))
        };
        for index in 0..intact.len() {
            let mut bytes = intact.clone();
            bytes[index] ^= 1;
            assert!(broken(&bytes), "byte {index}");
            assert!(broken(&intact[..index]), "cut at {index}");
        }
        assert!(broken(&std::fs::read(home.path().join("sealed/b")).unwrap()));
        assert!(!broken(&intact));
    }

    #[test]
    fn the_total_is_bounded_and_room_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let overhead = 1 + NONCE as u64 + 16;
        let sealed = open(home.path(), 2 * (overhead + 10)).unwrap();
        sealed.put("a", &[0; 10]).unwrap();
        sealed.put("b", &[0; 10]).unwrap();
        sealed.put("b", &[1; 10]).unwrap();
        assert!(matches!(sealed.put("b", &[0; 11]), Err(SealError::Full { .. })));
        assert_eq!(get(&sealed, "b"), Some(vec![1; 10]), "a refused replacement leaves the body");
        let sealed = open(home.path(), 2 * (overhead + 10)).unwrap();
        assert!(matches!(sealed.put("c", b""), Err(SealError::Full { .. })));
        sealed.remove("a").unwrap();
        sealed.put("c", &[0; 10]).unwrap();
    }

    #[test]
    fn a_sweep_takes_what_is_older_and_unfinished_files() {
        let home = tempfile::tempdir().unwrap();
        let sealed = open(home.path(), 1000).unwrap();
        sealed.put("old", b"x").unwrap();
        sealed.put("new", b"x").unwrap();
        std::fs::write(home.path().join("sealed/.new-0011"), b"half").unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        for name in ["old", ".new-0011"] {
            let file = std::fs::File::options().append(true).open(home.path().join("sealed").join(name)).unwrap();
            file.set_modified(hour_ago - Duration::from_secs(1)).unwrap();
        }
        assert_eq!(sealed.sweep(hour_ago, &BTreeSet::new()).unwrap(), 2);
        assert_eq!(get(&sealed, "old"), None);
        assert!(get(&sealed, "new").is_some());
    }

    #[test]
    fn the_key_is_made_once_and_must_stay_private() {
        let home = tempfile::tempdir().unwrap();
        let key = home.path().join("keys/seal.key");
        open(home.path(), 1000).unwrap().put("a", b"x").unwrap();
        let mode = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        assert!(matches!(open(home.path(), 1000), Err(SealError::KeyMode { mode: 0o640, .. })));
        mode(0o600);
        std::fs::write(&key, [0; 31]).unwrap();
        assert!(matches!(open(home.path(), 1000), Err(SealError::Key { .. })));
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(open(home.path(), 1000), Err(SealError::KeyMissing { .. })));
        assert!(!key.exists());
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let home = tempfile::tempdir().unwrap();
        let sealed = open(home.path(), 1000).unwrap();
        for name in ["", ".", "..", ".hidden", "../a", "a/b", "A", "ä", "a b", "a\0", &"a".repeat(201)] {
            assert!(matches!(sealed.put(name, b"x"), Err(SealError::Name(_))), "{name}");
        }
        sealed.put(&"a".repeat(200), b"x").unwrap();
    }
}
