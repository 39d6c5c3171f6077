//! Signed notes (<https://c2sp.org/signed-note>) and the keys that sign them: text, and lines saying who vouches for it.
//!
//! Only Ed25519: the ledger's own signatures, and the timestamped cosignatures of witnesses
//! (<https://c2sp.org/tlog-cosignature>). A signature of an unknown key means nothing, a false one of a known key is fatal.

use std::fmt;

use data_encoding::BASE64;

mod key;

pub use key::{Purpose, Signer, Verifier, is_name};

/// A text and the signatures under it. Parsing verifies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signed>,
}

/// One signature line: `— name base64(id || bytes)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// Why a note or a key cannot be read, or does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A known key, and not its signature.
    #[error("the signature of `{name}` is false")]
    False {
        /// Name of the key.
        name: String,
    },
    /// Not a key in the one spelling there is.
    #[error("`{text}` is not a key of the form `name+id+base64`; copy it whole")]
    Key {
        /// What was given.
        text: String,
    },
    /// Not a note.
    #[error("this is not a signed note: {detail}")]
    Malformed {
        /// What is wrong with it.
        detail: &'static str,
    },
    /// Nobody known signed.
    #[error("there is no signature of `{name}`")]
    Unsigned {
        /// Name of the key.
        name: String,
    },
}

// === impl Note ===

impl Note {
    /// A note with a signature. The text must end in a newline, as every text made here does.
    pub fn signed(text: String, signer: &Signer, time: u64) -> Note {
        let signature = signer.sign(&text, time);
        Note::of(text, vec![signature])
    }

    /// A note with signatures made elsewhere.
    pub fn of(text: String, signatures: Vec<Signed>) -> Note {
        Note { text, signatures }
    }

    /// Reads a note of at most 64 KiB with at most 64 signatures.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Note, NoteError> {
        let malformed = |detail| NoteError::Malformed { detail };
        if bytes.len() > MAX_BYTES {
            return Err(malformed("it is longer than 64 KiB"));
        }
        let note = str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(malformed("it holds control characters"));
        }
        let (text, lines) =
            note.rsplit_once("\n\n").ok_or_else(|| malformed("there is no line between text and signatures"))?;
        let lines = lines.strip_suffix('\n').ok_or_else(|| malformed("it does not end in a newline"))?;
        let signatures: Option<Vec<Signed>> = lines.split('\n').map(Signed::parse).collect();
        let signatures = signatures.ok_or_else(|| malformed("a signature line is not `— name base64`"))?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(malformed("it has more than 64 signatures"));
        }
        Ok(Note { text: format!("{text}\n"), signatures })
    }

    /// What is signed, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures.
    pub fn signatures(&self) -> &[Signed] {
        &self.signatures
    }

    /// Adds signatures that are not there yet.
    pub fn extend(&mut self, signatures: impl IntoIterator<Item = Signed>) {
        for signature in signatures {
            if !self.signatures.contains(&signature) {
                self.signatures.push(signature);
            }
        }
    }

    /// Checks that a key vouches for the text, and says when it did if its signatures carry a time (seconds since 1970).
    ///
    /// # Errors
    /// [`NoteError::Unsigned`] if it did not, [`NoteError::False`] if somebody pretends that it did.
    pub fn verify(&self, verifier: &Verifier) -> Result<Option<u64>, NoteError> {
        let mut time = Err(NoteError::Unsigned { name: verifier.name().to_owned() });
        for signature in self.signatures.iter().filter(|signature| signature.is_of(verifier)) {
            let verified = verifier.verify(&self.text, &signature.bytes);
            time = Ok(verified.ok_or_else(|| NoteError::False { name: verifier.name().to_owned() })?);
        }
        time
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

// === impl Signed ===

impl Signed {
    /// Reads one line, given without its newline.
    pub fn parse(line: &str) -> Option<Signed> {
        let (name, blob) = line.strip_prefix("— ")?.split_once(' ')?;
        let blob = BASE64.decode(blob.as_bytes()).ok()?;
        let (id, bytes) = blob.split_first_chunk()?;
        let is_whole = is_name(name) && !bytes.is_empty();
        is_whole.then(|| Signed { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }

    /// Name of the key that it claims.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn is_of(&self, verifier: &Verifier) -> bool {
        self.name == verifier.name() && self.id == verifier.id()
    }
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "— {} {}", self.name, BASE64.encode(&[&self.id, self.bytes.as_slice()].concat()))
    }
}

const MAX_BYTES: usize = 64 * 1024;

const MAX_SIGNATURES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Note and key of the package that the format comes from, <https://pkg.go.dev/golang.org/x/mod/sumdb/note>.
    const ELSEWHERE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const ELSEWHERE_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    fn signer(name: &str, purpose: Purpose) -> Signer {
        Signer::from_seed(name, purpose, &[7; 32])
    }

    #[test]
    fn a_note_signed_elsewhere_verifies_and_is_written_as_it_was() {
        let note = Note::parse(ELSEWHERE.as_bytes()).unwrap();
        assert_eq!(note.verify(&Verifier::parse(ELSEWHERE_KEY).unwrap()), Ok(None));
        assert_eq!(note.to_string(), ELSEWHERE);
        assert!(matches!(
            note.verify(&signer("PeterNeumann", Purpose::Sign).verifier()),
            Err(NoteError::Unsigned { .. })
        ));
        let changed = Note::parse(ELSEWHERE.replace("the answer", "no answer").as_bytes()).unwrap();
        assert!(matches!(changed.verify(&Verifier::parse(ELSEWHERE_KEY).unwrap()), Err(NoteError::False { .. })));
    }

    #[test]
    fn a_cosignature_carries_its_time_and_does_not_pass_for_a_signature() {
        let (log, witness) = (signer("example.com/log", Purpose::Sign), signer("example.com/witness", Purpose::Cosign));
        let mut note = Note::signed("example.com/log\n1\nAAAA\n".to_owned(), &log, 0);
        note.extend([witness.sign(note.text(), 1_679_315_147)]);
        assert_eq!(note.verify(&witness.verifier()), Ok(Some(1_679_315_147)));
        assert_eq!(note.verify(&log.verifier()), Ok(None));
        let plain = signer("example.com/witness", Purpose::Sign);
        assert!(note.verify(&plain.verifier()).is_err(), "same name and key, other purpose");
        let again = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!(again, note);
        let mut twice = note.clone();
        twice.extend(note.signatures().to_vec());
        assert_eq!(twice, note);
    }

    #[test]
    fn what_is_not_a_note_is_refused() {
        let line = ELSEWHERE.lines().last().unwrap();
        for wrong in [
            String::new(),
            "text\n".to_owned(),
            format!("text\n{line}\n"),
            format!("text\n\n{line}"),
            format!("text\n\n{line}\n\n"),
            format!("te\rxt\n\n{line}\n"),
            "text\n\n— name AAAA\n".to_owned(),
            "text\n\n— name AAAAAAB=\n".to_owned(),
            format!("text\n\n{}", format!("{line}\n").repeat(65)),
            format!("{}\n\n{line}\n", "x".repeat(65_536)),
        ] {
            assert!(Note::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
