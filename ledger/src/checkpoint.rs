//! A checkpoint: how many entries a ledger has and what their root is (<https://c2sp.org/tlog-checkpoint>), as the text
//! of a signed note.
//!
//! Says nothing about who signed it; that is the note's.

use std::fmt;

use crate::note::{Note, NoteError, is_name};
use crate::tree::Hash;

/// Size and root of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the ledger.
    pub origin: String,
    /// Number of entries; the last has the number `size - 1`.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

// === impl Checkpoint ===

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// What a note says, if it is a checkpoint. Lines behind the third, which others may add, are left alone.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn of(note: &Note) -> Result<Checkpoint, NoteError> {
        let read = || {
            let mut lines = note.text().strip_suffix('\n')?.split('\n');
            let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
            let checkpoint =
                Checkpoint { origin: origin.to_owned(), size: size.parse().ok()?, root: Hash::from_base64(root)? };
            let is_plain = is_name(origin) && checkpoint.size.to_string() == size && checkpoint.size <= MAX_SIZE;
            (is_plain && lines.all(|line| !line.is_empty())).then_some(checkpoint)
        };
        read().ok_or(NoteError::Malformed { detail: "its text is not origin, size and root" })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries of `{}` with root `{}`", self.size, self.origin, self.root)
    }
}

/// Largest tree: beyond it `seq` would not be an exact number for everybody.
const MAX_SIZE: u64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Purpose, Signer};

    #[test]
    fn only_origin_size_and_root_make_a_checkpoint() {
        let signer = Signer::from_seed("example.com/log", Purpose::Sign, &[7; 32]);
        let checkpoint = Checkpoint { origin: "example.com/log".to_owned(), size: 3, root: Hash::of_leaf(b"3") };
        let of = |text: String| Checkpoint::of(&Note::signed(text, &signer, 0));
        assert_eq!(of(checkpoint.text()).unwrap(), checkpoint);
        assert_eq!(of(checkpoint.text() + "extension\n").unwrap(), checkpoint);
        let text = checkpoint.text();
        for wrong in [
            text.replace("\n3\n", "\n03\n"),
            text.replace("\n3\n", "\n-3\n"),
            text.replace("\n3\n", "\n+3\n"),
            text.replace("\n3\n", "\n9007199254740993\n"),
            text.replace("=\n", "\n"),
            text.replace("example.com/log", "example.com log"),
            text.replace("example.com/log\n", ""),
            text.clone() + "\nextension\n",
            "example.com/log\n3\n".to_owned(),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
