//! The secret: the one value in the program that must not be seen.
//!
//! Must never be printed, copied, serialised or made outside this crate.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;

use crate::Fault;

/// Bytes of printable ASCII that are wiped when dropped and can only be borrowed; in lines only where the place of the
/// secret allows that.
///
/// It cannot be made, cloned or printed elsewhere:
///
/// ```compile_fail,E0451
/// let forged = vault::Secret { value: b"x".to_vec().into(), beside: Default::default() };
/// ```
/// ```compile_fail,E0308
/// fn keep(secret: &vault::Secret) -> vault::Secret { secret.clone() }
/// ```
/// ```compile_fail,E0599
/// fn print(secret: &vault::Secret) -> String { secret.to_string() }
/// ```
pub struct Secret {
    value: Zeroizing<Vec<u8>>,
    beside: OnceLock<Arc<dyn Any + Send + Sync>>,
}

// === impl Secret ===

impl Secret {
    /// Takes over `value` if it is fit to be sent: 1 to `max_bytes` bytes, each printable ASCII, or the end of one of
    /// its `lines`.
    pub(crate) fn new(value: Zeroizing<Vec<u8>>, max_bytes: usize, lines: bool) -> Result<Secret, Fault> {
        if value.is_empty() {
            return Err(Fault::Empty);
        }
        if value.len() > max_bytes {
            return Err(Fault::TooLong(max_bytes));
        }
        if !value.iter().all(|byte| matches!(byte, b' '..=b'~') || lines && b"\r\n".contains(byte)) {
            return Err(Fault::Byte);
        }
        Ok(Secret { value, beside: OnceLock::new() })
    }

    /// Lends the bytes to `use_it`. What it returns is no longer guarded: keep it short-lived and unprinted.
    pub fn lend<R>(&self, use_it: impl FnOnce(&[u8]) -> R) -> R {
        use_it(&self.value)
    }

    /// What `make` makes of the bytes: made once, kept beside the secret and dropped with it. It is no longer guarded
    /// here, so it must wipe itself.
    pub fn kept_beside<T: Any + Send + Sync>(&self, make: impl Fn(&[u8]) -> T) -> Arc<T> {
        let kept = self.beside.get_or_init(|| Arc::new(make(&self.value)));
        // Somebody may keep something else beside it: that one stays.
        Arc::clone(kept).downcast().unwrap_or_else(|_| Arc::new(make(&self.value)))
    }

    /// The length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a secret is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.value.len()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_but_printable_ascii_is_refused() {
        for byte in 0..=u8::MAX {
            let made = |lines| Secret::new(Zeroizing::new(vec![b'a', byte, b'z']), 3, lines).is_ok();
            let printable = byte == b' ' || byte.is_ascii_graphic();
            assert_eq!(
                (made(false), made(true)),
                (printable, printable || byte == b'\r' || byte == b'\n'),
                "{byte:#04x}"
            );
        }
    }

    #[test]
    fn what_is_kept_beside_a_secret_is_made_once_and_goes_with_it() {
        let secret = Secret::new(Zeroizing::new(b"abc".to_vec()), 3, false).unwrap();
        let made = std::cell::Cell::new(0);
        let length = |value: &[u8]| {
            made.set(made.get() + 1);
            value.len()
        };
        assert_eq!((*secret.kept_beside(length), *secret.kept_beside(length), made.get()), (3, 3, 1));
        assert_eq!(*secret.kept_beside(|value| value.to_vec()), b"abc");
        let kept = Arc::downgrade(&secret.kept_beside(length));
        drop(secret);
        assert!(kept.upgrade().is_none());
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let secret = Secret::new(Zeroizing::new(b"CANARY".to_vec()), 6, false).unwrap();
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "Secret(redacted) Some(\n    Secret(redacted),\n)");
    }
}
