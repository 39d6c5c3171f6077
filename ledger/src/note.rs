//! Signed notes (<https://c2sp.org/signed-note>) and the keys that sign them: text, and lines saying who vouches for it.
//!
//! Only Ed25519: the ledger's own signatures, and the timestamped cosignatures of witnesses
//! (<https://c2sp.org/tlog-cosignature>). A signature of an unknown key means nothing, a false one of a known key is fatal.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

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

/// What a signature says besides that the key vouches for the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A witness saw that the tree only grew; carries a time.
    Cosign,
    /// The ledger says so itself.
    Sign,
}

/// A public key under its name, `name+id+base64(algorithm || key)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    purpose: Purpose,
    key: VerifyingKey,
}

/// A private key under its name, `PRIVATE+KEY+name+id+base64(algorithm || seed)`.
pub struct Signer {
    name: String,
    purpose: Purpose,
    key: SigningKey,
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
        Note { text, signatures: vec![signature] }
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
        let mut time = Err(NoteError::Unsigned { name: verifier.name.clone() });
        for signature in self.signatures.iter().filter(|signature| signature.is_of(verifier)) {
            let verified = verifier.verify(&self.text, &signature.bytes);
            time = Ok(verified.ok_or_else(|| NoteError::False { name: verifier.name.clone() })?);
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
        self.name == verifier.name && self.id == verifier.id()
    }
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "— {} {}", self.name, BASE64.encode(&[&self.id, self.bytes.as_slice()].concat()))
    }
}

// === impl Purpose ===

impl Purpose {
    fn algorithm(self) -> u8 {
        match self {
            Purpose::Cosign => 4,
            Purpose::Sign => 1,
        }
    }

    fn of_algorithm(byte: u8) -> Option<Purpose> {
        [Purpose::Cosign, Purpose::Sign].into_iter().find(|purpose| purpose.algorithm() == byte)
    }
}

// === impl Verifier ===

impl Verifier {
    /// Reads `name+id+base64(algorithm || key)`.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Verifier, NoteError> {
        let read = || {
            let mut parts = text.splitn(3, '+');
            let (name, _, material) = (parts.next()?, parts.next()?, parts.next()?);
            let material = BASE64.decode(material.as_bytes()).ok()?;
            let (algorithm, key) = material.split_first()?;
            let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok().filter(|key| !key.is_weak())?;
            let verifier = Verifier { name: name.to_owned(), purpose: Purpose::of_algorithm(*algorithm)?, key };
            (is_name(name) && verifier.to_string() == text).then_some(verifier)
        };
        read().ok_or_else(|| NoteError::Key { text: text.to_owned() })
    }

    /// Its name; the origin for a ledger's own key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its signatures say.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Checks a plain Ed25519 signature over any bytes.
    pub fn is_signature(&self, bytes: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify_strict(bytes, &signature).is_ok())
    }

    fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.purpose.algorithm()])
            .chain_update(self.key.as_bytes())
            .finalize();
        let [a, b, c, d, ..] = digest.0;
        [a, b, c, d]
    }

    /// The time in a signature over `text`, if it has one; `None` if it is no signature of this key.
    fn verify(&self, text: &str, bytes: &[u8]) -> Option<Option<u64>> {
        match self.purpose {
            Purpose::Cosign => {
                let (time, signature) = bytes.split_first_chunk()?;
                let time = u64::from_be_bytes(*time);
                self.is_signature(cosigned(text, time).as_bytes(), signature).then_some(Some(time))
            }
            Purpose::Sign => self.is_signature(text.as_bytes(), bytes).then_some(None),
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let material = [&[self.purpose.algorithm()], self.key.as_bytes().as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, HEXLOWER.encode(&self.id()), BASE64.encode(&material))
    }
}

// === impl Signer ===

impl Signer {
    /// A key with this seed. The seed must come from the system's randomness, except in tests.
    pub fn from_seed(name: &str, purpose: Purpose, seed: &[u8; 32]) -> Signer {
        Signer { name: name.to_owned(), purpose, key: SigningKey::from_bytes(seed) }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Signer> {
        // Base64 has a `+` of its own, so the secret is everything behind the third separator; a name has none.
        let mut parts = text.trim_end().strip_prefix(PRIVATE)?.splitn(3, '+');
        let (name, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let secret = Zeroizing::new(BASE64.decode(secret.as_bytes()).ok()?);
        let (algorithm, seed) = secret.split_first()?;
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).ok()?);
        let signer = Signer::from_seed(name, Purpose::of_algorithm(*algorithm)?, &seed);
        (is_name(name) && HEXLOWER.encode(&signer.verifier().id()) == id).then_some(signer)
    }

    /// The text form, one line.
    pub fn to_text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new([&[self.purpose.algorithm()], self.key.as_bytes().as_slice()].concat());
        let id = HEXLOWER.encode(&self.verifier().id());
        Zeroizing::new(format!("{PRIVATE}{}+{id}+{}\n", self.name, BASE64.encode(&secret)))
    }

    /// The public half.
    pub fn verifier(&self) -> Verifier {
        Verifier { name: self.name.clone(), purpose: self.purpose, key: self.key.verifying_key() }
    }

    /// A plain Ed25519 signature over bytes that cannot be mistaken for a note.
    pub fn sign_bytes(&self, bytes: &[u8]) -> [u8; 64] {
        self.key.sign(bytes).to_bytes()
    }

    /// A signature line for `text`. `time`, in seconds since 1970, is part of it only if its purpose carries one.
    pub fn sign(&self, text: &str, time: u64) -> Signed {
        let bytes = match self.purpose {
            Purpose::Cosign => {
                [time.to_be_bytes().as_slice(), &self.sign_bytes(cosigned(text, time).as_bytes())].concat()
            }
            Purpose::Sign => self.sign_bytes(text.as_bytes()).to_vec(),
        };
        Signed { name: self.name.clone(), id: self.verifier().id(), bytes }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", &self.verifier().to_string()).finish_non_exhaustive()
    }
}

/// Whether a key can have this name.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control())
}

/// What a witness signs.
fn cosigned(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// How the text of a private key begins.
const PRIVATE: &str = "PRIVATE+KEY+";

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
    fn keys_have_one_spelling() {
        let signer = signer("example.com/log", Purpose::Sign);
        let text = signer.to_text();
        assert_eq!(Signer::parse(&text).unwrap().verifier(), signer.verifier());
        let public = signer.verifier().to_string();
        assert_eq!(Verifier::parse(&public).unwrap(), signer.verifier());
        for wrong in [
            public.replace("log+", "log2+"),
            public.to_uppercase(),
            format!("{public} "),
            public.replace("+", " "),
            String::new(),
        ] {
            assert!(Verifier::parse(&wrong).is_err(), "{wrong}");
        }
        assert!(!format!("{signer:?}").contains("BwcH"), "the seed does not show");
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
