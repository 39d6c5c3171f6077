//! Checking evidence, each kind in the order of its table in the format: the first failure is the verdict.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::keys::Keys;
use super::{Code, Refusal, Trust, Verdict};
use crate::checkpoint::Checkpoint;
use crate::note::{Note, Verifier};
use crate::tree::{Edge, Hash};

mod archive;
mod capsule;
mod proof;

/// Why checking ended early.
pub(super) enum Stop {
    Io(io::Error),
    Refused(Refusal),
}

/// A checkpoint that evidence rests on.
pub(super) struct Rest {
    note: Note,
    checkpoint: Checkpoint,
}

/// Checks evidence of any kind, told by how it begins.
pub(super) fn any<R: Read + Seek>(mut source: R, trust: &Trust) -> io::Result<Verdict> {
    let mut start = Vec::new();
    source.by_ref().take(1).read_to_end(&mut start)?;
    source.seek(SeekFrom::Start(0))?;
    let checked = match start.as_slice() {
        b"{" => capsule::check(&mut BufReader::new(source), trust),
        b"c" => proof::check(&mut BufReader::new(source), trust),
        _ => archive::check(source, trust),
    };
    match checked {
        Err(Stop::Io(error)) => Err(error),
        Err(Stop::Refused(refusal)) => Ok(Verdict::Refused(refusal)),
        Ok(checked) if trust.key.is_some() => Ok(Verdict::Verified(checked)),
        Ok(checked) => Ok(Verdict::Unauthenticated(checked)),
    }
}

/// What the auditor knows from elsewhere: the key, witnesses with the times they cosigned at, a checkpoint.
/// `consistency` is what the evidence has to lead from that checkpoint to its own.
fn check_trust(trust: &Trust, rest: &Rest, keys: &Keys, consistency: &[u8]) -> Result<Vec<(String, u64)>, Stop> {
    if let Some(key) = trust.key.as_ref().filter(|key| !keys.known().contains(key)) {
        let own = keys.last().map(Verifier::to_string).unwrap_or_default();
        return Err(refused(Code::TrustKey, format!("this ledger is signed by `{own}`, not by `{key}`")));
    }
    let mut cosigned = Vec::new();
    for witness in &trust.witnesses {
        let time = rest.note.verify(witness).map_err(|error| refused(Code::TrustWitness, error.to_string()))?;
        let what = format!("`{witness}` is not the key of a witness");
        cosigned.push((witness.name().to_owned(), time.ok_or_else(|| refused(Code::TrustWitness, what))?));
    }
    if let Some(held) = &trust.checkpoint {
        let checked = check_held(held, consistency, &rest.checkpoint, keys.known());
        checked.map_err(|what| refused(Code::TrustCheckpoint, what))?;
    }
    Ok(cosigned)
}

/// The checkpoint held elsewhere and the evidence's are of the same ledger.
fn check_held(held: &Note, consistency: &[u8], own: &Checkpoint, keys: &[Verifier]) -> Result<(), String> {
    let seen = Checkpoint::of(held).map_err(|error| error.to_string())?;
    if seen.origin != own.origin || !keys.iter().any(|key| held.verify(key).is_ok()) {
        return Err(format!("the checkpoint held elsewhere is not one of the ledger `{}`", own.origin));
    }
    let rewritten =
        || format!("the ledger does not continue what it was at {} entries: history was rewritten", seen.size);
    if seen.size == own.size {
        return if seen.root == own.root { Ok(()) } else { Err(rewritten()) };
    }
    let proof = consistency.strip_prefix(format!("old {}\n", seen.size).as_bytes()).and_then(hashes);
    let mut proof = proof.map(Vec::into_iter).ok_or_else(|| {
        format!("nothing here leads from {} entries to {}; export with `--checkpoint`", seen.size, own.size)
    })?;
    let mut edge = Edge::default();
    let old = edge.skip_to(seen.size, &mut proof).map(|()| edge.root());
    let new = edge.skip_to(own.size, &mut proof).map(|()| edge.root());
    let holds = old == Some(seen.root) && new == Some(own.root) && proof.next().is_none();
    if holds { Ok(()) } else { Err(rewritten()) }
}

// === impl Rest ===

impl Rest {
    /// Reads a checkpoint.
    fn read(note: &[u8]) -> Result<Rest, Stop> {
        let bad = |error: crate::note::NoteError| refused(Code::Checkpoint, error.to_string());
        let note = Note::parse(note).map_err(bad)?;
        let checkpoint = Checkpoint::of(&note).map_err(bad)?;
        Ok(Rest { note, checkpoint })
    }

    /// The ledger's present key signed it.
    fn check_signed(&self, key: &Verifier) -> Result<(), Stop> {
        let verified = self.note.verify(key).map(drop);
        verified.map_err(|error| refused(Code::Checkpoint, error.to_string()))
    }
}

// === impl Stop ===

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Io(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

fn refused(code: Code, message: impl Into<String>) -> Stop {
    Stop::Refused(Refusal::new(code, message))
}

/// Hashes in base64, one a line.
fn hashes(text: &[u8]) -> Option<Vec<Hash>> {
    let text = str::from_utf8(text).ok()?;
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.strip_suffix('\n')?.split('\n').map(Hash::from_base64).collect()
}

/// A whole file, if it is not longer than it may be.
fn read_whole(source: &mut impl BufRead, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}
