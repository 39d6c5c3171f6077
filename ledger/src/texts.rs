//! Texts that events name by digest: policies, destinations, long explanations.
//!
//! Content-addressed and never changed. A text that no longer matches its name is an error, never an answer.

use std::io;
use std::path::Path;

use crate::append::AppendError;
use crate::durable;
use crate::event::sha256_hex;
use crate::query::ReadError;

/// Stores a text durably and returns its SHA-256 in hexadecimal. Storing it again does nothing.
pub(crate) fn store(dir: &Path, text: &[u8]) -> Result<String, AppendError> {
    let sha256 = sha256_hex(text);
    // Not merely "exists": a name without its content, from whatever cause, is repaired by writing it again.
    if read(dir, &sha256).is_ok_and(|stored| stored.is_some()) {
        return Ok(sha256);
    }
    let written = durable::create_dir(dir).and_then(|()| durable::write(dir, &sha256, text));
    written.map_err(|source| AppendError::Text { path: dir.display().to_string(), source })?;
    Ok(sha256)
}

/// Reads a text back, checked against its digest; `None` if it was never stored.
pub(crate) fn read(dir: &Path, sha256: &str) -> Result<Option<Vec<u8>>, ReadError> {
    let digest = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if sha256.len() != 64 || !sha256.bytes().all(digest) {
        return Err(ReadError::NotADigest(sha256.to_owned()));
    }
    match std::fs::read(dir.join(sha256)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReadError::Io { sha256: sha256.to_owned(), source }),
        Ok(text) if sha256_hex(&text) == sha256 => Ok(Some(text)),
        Ok(_) => Err(ReadError::Changed { sha256: sha256.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_by_its_digest_and_only_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let sha256 = store(dir.path(), b"id: crm").unwrap();
        assert_eq!(store(dir.path(), b"id: crm").unwrap(), sha256);
        assert_eq!(read(dir.path(), &sha256).unwrap().as_deref(), Some(b"id: crm".as_slice()));
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);

        std::fs::write(dir.path().join(&sha256), b"id: crn").unwrap();
        assert!(matches!(read(dir.path(), &sha256), Err(ReadError::Changed { .. })));
    }

    #[test]
    fn only_digests_are_names() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path(), &"0".repeat(64)).unwrap().is_none());
        for name in ["../keys/ledger.key", "", &"A".repeat(64), &"0".repeat(63)] {
            assert!(matches!(read(dir.path(), name), Err(ReadError::NotADigest(_))), "{name}");
        }
    }
}
