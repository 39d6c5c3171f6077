//! The keys that sign notes: their names, what their signatures say, and the texts they are written as.
//!
//! A private key never shows in what is printed.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{NoteError, Signed};

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

    pub(super) fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.purpose.algorithm()])
            .chain_update(self.key.as_bytes())
            .finalize();
        let [a, b, c, d, ..] = digest.0;
        [a, b, c, d]
    }

    /// The time in a signature over `text`, if it has one; `None` if it is no signature of this key.
    pub(super) fn verify(&self, text: &str, bytes: &[u8]) -> Option<Option<u64>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_spelling() {
        let signer = Signer::from_seed("example.com/log", Purpose::Sign, &[7; 32]);
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
}
