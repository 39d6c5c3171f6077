//! Random identifiers and tokens: 128 bits for ids, 256 bits for tokens, in lower-case base32 without padding.

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};

/// A fresh id such as `corr_…` or `int_…` (128 random bits).
///
/// # Errors
/// When the operating system gives no randomness; nothing can be decided then.
pub fn fresh(prefix: &str) -> Result<String, getrandom::Error> {
    random::<16>(prefix)
}

/// A fresh token such as `writ_agt_…` (256 random bits). Shown once, never stored; see [`digest`].
///
/// # Errors
/// When the operating system gives no randomness.
pub fn token(prefix: &str) -> Result<String, getrandom::Error> {
    random::<32>(prefix)
}

/// SHA-256 of a text in lower-case hex: what is stored of a token.
pub fn digest(text: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(text))
}

/// Whether `text` could be an intent id: `int_` and 26 characters of base32.
pub fn is_intent(text: &str) -> bool {
    text.strip_prefix("int_").is_some_and(|id| {
        id.len() == 26 && id.bytes().all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte))
    })
}

fn random<const N: usize>(prefix: &str) -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{prefix}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()))
}
