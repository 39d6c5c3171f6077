//! Making evidence: the entries of a scope, what they need to be checked, and the proof that they are in the ledger.
//!
//! Writes no entry. The same scope gives the same bytes as long as nothing new belongs to it: the checkpoint is the first
//! that was made of all its entries, and not the newest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use crc32fast::Hasher;
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use super::Scope;
use super::archive::{ArchiveError, Builder};
use super::bundle;
use super::capsule;
use super::lives::Lives;
use super::manifest::{Entries, FileDigest, Manifest, SCHEMA};
use super::select::{Selection, select, visit};
use super::summary::Tally;
use crate::append::AppendError;
use crate::chain::Flaw;
use crate::checkpoint::Checkpoint;
use crate::checkpoints::MakeError;
use crate::event::sha256_hex;
use crate::handle::Ledger;
use crate::note::{Note, NoteError};
use crate::query::{Query, ReadError};
use crate::store::StoreError;
use crate::tree;

/// What to export.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Which entries.
    pub scope: Scope,
    /// A checkpoint that the auditor has; the bundle then proves that the ledger continues it.
    pub held: Option<Note>,
}

/// Why evidence cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger is closed.
    #[error(transparent)]
    Closed(#[from] AppendError),
    /// An entry cannot be what was once written.
    #[error("entry {seq} {flaw}; run `writ ledger verify`")]
    Entry {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The checkpoint given is not one of this ledger.
    #[error("the checkpoint cannot be continued: {0}")]
    Held(NoteError),
    /// A checkpoint of this ledger cannot be used.
    #[error("{0}; run `writ ledger verify`")]
    Make(String),
    /// The checkpoint given is newer than the ledger.
    #[error(
        "the checkpoint is of {held} entries, the ledger has {size}; it is of another ledger, or this one lost entries"
    )]
    Newer {
        /// Size in the checkpoint.
        held: u64,
        /// Entries there are.
        size: u64,
    },
    /// Nothing is inside the scope.
    #[error("no entry is inside the scope; widen it")]
    Nothing,
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The bundle would be larger than an archive can be, or a part of it than a verifier takes.
    #[error("the bundle cannot be made: {0}")]
    TooLarge(String),
    /// It cannot be written.
    #[error("cannot write the bundle: {0}")]
    Write(#[from] io::Error),
}

/// A bundle gathered, all but its lines in memory.
#[derive(Debug)]
pub struct Bundle<'a> {
    ledger: &'a Ledger,
    seqs: Vec<u64>,
    content: Content,
    files: BTreeMap<String, Vec<u8>>,
}

/// The entries of a scope, and the checkpoint they are proved to be in.
struct Choice<'a> {
    ledger: &'a Ledger,
    seqs: Vec<u64>,
    note: Note,
    checkpoint: Checkpoint,
}

/// `events.jsonl` before it is written: digests, and what its lines amount to.
#[derive(Debug)]
struct Content {
    crc: u32,
    size: u32,
    sha256: String,
    entries: Entries,
    lives: Lives,
    tally: Tally,
    named: BTreeSet<String>,
}

// === impl Ledger ===

impl Ledger {
    /// The proof of one entry, as <https://c2sp.org/tlog-proof>; `None` if it does not exist. Blocks.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn proof(&self, seq: u64) -> Result<Option<String>, ExportError> {
        self.checkpointed_blocking()?;
        let query = Query { after: seq.checked_sub(1), limit: 1, ..Query::default() };
        let Some(line) = self.events(&query)?.pop().filter(|_| seq <= self.head().seq) else { return Ok(None) };
        let note = self.shared().checkpoints.covering(&self.shared().store, seq + 1)?;
        let size = Checkpoint::of(&note).map_err(MakeError::Note)?.size;
        let path = tree::inclusion(seq, size, |node| self.shared().store.node(node))?;
        let path: String = path.iter().map(|hash| format!("{hash}\n")).collect();
        let extra = BASE64.encode(line.as_bytes());
        Ok(Some(format!("c2sp.org/tlog-proof@v1\nextra {extra}\nindex {seq}\n{path}\n{note}")))
    }

    /// The proof that the newest checkpoint continues the tree of `old` entries (RFC 6962, 2.1.2), and that checkpoint;
    /// `None` if it has fewer.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn consistency(&self, old: u64) -> Result<Option<(Vec<tree::Hash>, Note)>, ExportError> {
        let note = self.checkpoint();
        let size = Checkpoint::of(&note).map_err(MakeError::Note)?.size;
        if old > size {
            return Ok(None);
        }
        let proof = tree::consistency(old, size, |node| self.shared().store.node(node))?;
        Ok(Some((proof, note)))
    }

    /// What was recorded inside a scope, as one JSON file in the shape `proofguard-1.0`. Blocks.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn capsule(&self, scope: &Scope) -> Result<String, ExportError> {
        let choice = Choice::of(self, scope)?;
        let mut events = Vec::new();
        visit(self, choice.seqs.iter().copied(), &mut |event, _| {
            events.push(event.clone());
            Ok(())
        })?;
        let cover = String::from_utf8_lossy(&choice.cover()?).into_owned();
        let frame = capsule::Frame { checkpoint: choice.note.to_string(), cover, scope: scope.clone() };
        Ok(capsule::text(&capsule::make(events.into_iter(), &frame)))
    }
}

// === impl Bundle ===

impl<'a> Bundle<'a> {
    /// Gathers what was recorded so far inside the scope. Blocks.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn gather(ledger: &'a Ledger, order: &Order) -> Result<Bundle<'a>, ExportError> {
        let choice = Choice::of(ledger, &order.scope)?;
        let content = Content::of(ledger, &choice.seqs, &order.scope)?;
        let mut files = BTreeMap::from([
            (bundle::CHECKPOINT.to_owned(), choice.note.to_string().into_bytes()),
            (bundle::COVER.to_owned(), choice.cover()?),
            (bundle::VERIFY.to_owned(), include_bytes!("VERIFY.md").to_vec()),
        ]);
        if let Some(held) = &order.held {
            files.insert(bundle::CONSISTENCY.to_owned(), choice.consistency(held)?);
        }
        let missing = texts(ledger, &content.named, &mut files);
        let Choice { seqs, checkpoint, .. } = choice;
        let manifest = Manifest {
            entries: content.entries,
            files: BTreeMap::new(),
            key: ledger.key().to_string(),
            missing,
            open: content.lives.open(),
            origin: checkpoint.origin,
            root: checkpoint.root.to_string(),
            schema: SCHEMA.to_owned(),
            scope: order.scope.clone(),
            size: checkpoint.size,
        };
        describe(ledger, manifest, &content, &mut files)?;
        Ok(Bundle { ledger, seqs, content, files })
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`ExportError`]; what was written is then no bundle.
    pub fn write(&self, out: impl Write) -> Result<(), ExportError> {
        let mut builder = Builder::new(out);
        let events = (&bundle::EVENTS.to_owned(), &Vec::new());
        let mut members: Vec<(&String, &Vec<u8>)> = self.files.iter().chain([events]).collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        for (name, bytes) in members {
            if name == bundle::EVENTS {
                let body = builder.start(name, self.content.crc, self.content.size)?;
                visit(self.ledger, self.seqs.iter().copied(), &mut |_, line| Ok(writeln!(body, "{line}")?))?;
            } else {
                builder.add(name, bytes)?;
            }
        }
        Ok(builder.finish()?)
    }
}

/// Adds what is derived from the rest: the summaries, the manifest, its signature, the checksums.
fn describe(
    ledger: &Ledger,
    mut manifest: Manifest,
    content: &Content,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), ExportError> {
    let unwritable = |error: serde_json::Error| ExportError::TooLarge(error.to_string());
    let summary = content.tally.finish(&manifest, content.lives.correlations());
    let (json, page) = summary.files().map_err(unwritable)?;
    files.insert(bundle::SUMMARY.to_owned(), json);
    files.insert(bundle::PAGE.to_owned(), page.into_bytes());
    let digest = |bytes: &Vec<u8>| FileDigest { bytes: bytes.len() as u64, sha256: sha256_hex(bytes) };
    manifest.files = files.iter().map(|(name, bytes)| (name.clone(), digest(bytes))).collect();
    let events = FileDigest { bytes: u64::from(content.size), sha256: content.sha256.clone() };
    manifest.files.insert(bundle::EVENTS.to_owned(), events);
    let bytes = manifest.to_bytes().map_err(unwritable)?;
    let signature = ledger.shared().checkpoints.sign(&bytes).to_vec();
    files.insert(bundle::CHECKSUMS.to_owned(), bundle::checksums(&manifest, &bytes, &signature).into_bytes());
    files.insert(bundle::MANIFEST.to_owned(), bytes);
    files.insert(bundle::SIGNATURE.to_owned(), signature);
    match files.iter().find(|(_, bytes)| bytes.len() > bundle::MAX_SMALL as usize) {
        None => Ok(()),
        Some((name, _)) => Err(ExportError::TooLarge(format!("`{name}` would be larger than 8 MiB; narrow the scope"))),
    }
}

/// The texts that events name go into `files`; gives the names of those that are not there any more.
fn texts(ledger: &Ledger, named: &BTreeSet<String>, files: &mut BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut missing = Vec::new();
    for name in named {
        let text = bundle::digest_of_text(name).and_then(|digest| ledger.text(digest).ok().flatten());
        match text {
            // One that was changed on disk is as good as gone; the auditor is told.
            None => missing.push(name.clone()),
            Some(text) => drop(files.insert(name.clone(), text)),
        }
    }
    missing
}

// === impl Choice ===

impl<'a> Choice<'a> {
    fn of(ledger: &'a Ledger, scope: &Scope) -> Result<Choice<'a>, ExportError> {
        ledger.checkpointed_blocking()?;
        let checkpoints = &ledger.shared().checkpoints;
        let newest = checkpoints.newest();
        let bound = Checkpoint::of(&newest).map_err(MakeError::Note)?.size;
        let Selection { seqs, reaches_end } = select(ledger, scope, bound)?;
        let covered = seqs.last().map_or(bound, |last| last + 1);
        // Whether more fits a scope that reaches the end shows only in the tree that ends there.
        let note = match reaches_end && scope.is_of_time_alone() {
            true => newest,
            false => checkpoints.covering(&ledger.shared().store, covered)?,
        };
        let checkpoint = Checkpoint::of(&note).map_err(MakeError::Note)?;
        Ok(Choice { ledger, seqs, note, checkpoint })
    }

    /// The cover of the chosen entries.
    fn cover(&self) -> Result<Vec<u8>, ExportError> {
        let mut at = 0;
        let mut text = String::new();
        for seq in self.seqs.iter().copied().chain([self.checkpoint.size]) {
            text.push_str(&self.gap(at, seq)?);
            at = seq + 1;
        }
        Ok(text.into_bytes())
    }

    fn gap(&self, start: u64, end: u64) -> Result<String, ExportError> {
        let store = &self.ledger.shared().store;
        tree::gap(start, end).map(|node| Ok(format!("{}\n", store.node(node)?))).collect()
    }

    /// What shows that the ledger continues a checkpoint.
    fn consistency(&self, held: &Note) -> Result<Vec<u8>, ExportError> {
        let (old, size) = (Checkpoint::of(held).map_err(ExportError::Held)?.size, self.checkpoint.size);
        if old > size {
            return Err(ExportError::Newer { held: old, size });
        }
        Ok(format!("old {old}\n{}{}", self.gap(0, old)?, self.gap(old, size)?).into_bytes())
    }
}

// === impl Content ===

impl Content {
    fn of(ledger: &Ledger, seqs: &[u64], scope: &Scope) -> Result<Content, ExportError> {
        let (mut crc, mut sha256, mut size) = (Hasher::new(), Sha256::new(), 0_u64);
        let (mut entries, mut lives, mut tally) = (Entries::default(), Lives::default(), Tally::default());
        let mut named = BTreeSet::new();
        visit(ledger, seqs.iter().copied(), &mut |event, line| {
            for bytes in [line.as_bytes(), b"\n"] {
                crc.update(bytes);
                sha256.update(bytes);
                size += bytes.len() as u64;
            }
            // A ledger that breaks a rule is exported like any other: the verifier is to see it.
            drop(lives.take(event));
            tally.take(event);
            named.extend(bundle::texts_of(event));
            entries.count += 1;
            entries.selected += u64::from(scope.holds(event));
            Ok(())
        })?;
        let size = u32::try_from(size).map_err(|_| ExportError::TooLarge("it would pass 4 GiB".to_owned()))?;
        let sha256 = HEXLOWER.encode(&sha256.finalize());
        Ok(Content { crc: crc.finalize(), size, sha256, entries, lives, tally, named })
    }
}

// === impl ExportError ===

impl From<ArchiveError> for ExportError {
    fn from(error: ArchiveError) -> ExportError {
        match error {
            ArchiveError::Io(error) => ExportError::Write(error),
            ArchiveError::Layout(what) => ExportError::TooLarge(what),
        }
    }
}

impl From<MakeError> for ExportError {
    fn from(error: MakeError) -> ExportError {
        ExportError::Make(error.to_string())
    }
}

impl From<StoreError> for ExportError {
    fn from(error: StoreError) -> ExportError {
        ExportError::Make(error.to_string())
    }
}
