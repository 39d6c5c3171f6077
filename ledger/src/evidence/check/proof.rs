//! Checking the proof of one entry (<https://c2sp.org/tlog-proof>).

use std::io::BufRead;

use data_encoding::BASE64;

use super::{Rest, Stop, check_trust, read_whole, refused};
use crate::chain;
use crate::evidence::keys::Keys;
use crate::evidence::report::Checked;
use crate::evidence::{Code, Refusal, Trust};
use crate::tree::{self, Hash};

/// A proof taken apart.
struct Proof {
    line: String,
    index: u64,
    path: Vec<Hash>,
    note: String,
}

/// Checks everything.
pub(super) fn check(source: &mut impl BufRead, trust: &Trust) -> Result<Checked, Stop> {
    let bytes = read_whole(source, MAX_BYTES)?.ok_or_else(|| refused(Code::Proof, "it is larger than 1 MiB"))?;
    let proof = Proof::parse(&bytes).ok_or_else(|| refused(Code::Proof, "it is not the proof of an entry"))?;
    let rest = Rest::read(proof.note.as_bytes())?;
    let at = |code, what: String| Stop::Refused(Refusal::at(code, proof.index, what));
    let event = chain::parse(&proof.line).map_err(|flaw| at(Code::EntryForm, format!("it {flaw}")))?;
    chain::check_hash(&proof.line, &event).map_err(|flaw| at(Code::EntryHash, format!("it {flaw}")))?;
    if event.seq != proof.index {
        return Err(at(Code::ChainOrder, format!("the line says it is entry {}", event.seq)));
    }
    let leaf = Hash::of_leaf(proof.line.as_bytes());
    let proved = tree::verify_inclusion(leaf, proof.index, rest.checkpoint.size, rest.checkpoint.root, &proof.path);
    proved.map_err(|error| at(Code::Proof, error.to_string()))?;
    // The entries that name the keys are not here: the key is known from elsewhere, or not at all.
    let keys = Keys::from(trust.key.clone());
    if let Some(key) = keys.last() {
        rest.check_signed(key)?;
    }
    let cosigned = check_trust(trust, &rest, &keys, b"")?;
    Ok(Checked::of_entry(&rest.checkpoint, &proof.line, cosigned, trust))
}

// === impl Proof ===

impl Proof {
    fn parse(bytes: &[u8]) -> Option<Proof> {
        let text = str::from_utf8(bytes).ok()?.strip_prefix(HEADER)?;
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let line = BASE64.decode(lines.next()?.strip_prefix("extra ")?.as_bytes()).ok()?;
        let number = lines.next()?.strip_prefix("index ")?;
        let index: u64 = number.parse().ok().filter(|index: &u64| index.to_string() == number)?;
        let path = lines.map(Hash::from_base64).collect::<Option<_>>()?;
        Some(Proof { line: String::from_utf8(line).ok()?, index, path, note: note.to_owned() })
    }
}

/// How a proof begins.
const HEADER: &str = "c2sp.org/tlog-proof@v1\n";

const MAX_BYTES: u64 = 1 << 20;
