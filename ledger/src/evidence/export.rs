//! Making a bundle: the entries of a scope, what they need to be checked, and the proof that they are in the ledger.
//!
//! Writes nothing to the ledger. The same scope at the same size gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use crc32fast::Hasher;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::Scope;
use super::archive::{ArchiveError, Builder};
use super::bundle;
use super::lives::Lives;
use super::manifest::{Entries, FileDigest, Manifest, SCHEMA};
use super::summary::Tally;
use crate::chain::{self, Flaw};
use crate::checkpoint::Checkpoint;
use crate::event::{Event, sha256_hex};
use crate::handle::Ledger;
use crate::kind::{EventType, Kind};
use crate::note::{Note, NoteError, Signer};
use crate::query::{Query, ReadError};
use crate::tree::{self, Hash, Node};

/// What to export.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Which entries.
    pub scope: Scope,
    /// A checkpoint that the auditor has; the bundle then proves that the ledger continues it.
    pub held: Option<Note>,
}

/// Why a bundle cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The checkpoint given is not one of this ledger.
    #[error("the checkpoint cannot be continued: {0}")]
    Held(#[from] NoteError),
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
    /// An entry cannot be what was once written.
    #[error("entry {seq} {flaw}; run `writ ledger verify`")]
    Entry {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The bundle would be larger than an archive can be, or a part of it than a verifier takes.
    #[error("the bundle cannot be made: {0}")]
    TooLarge(String),
    /// It cannot be written.
    #[error("cannot write the bundle: {0}")]
    Write(#[from] io::Error),
}

/// The entries of a bundle and the hashes around them.
struct Choice {
    seqs: Vec<u64>,
    leaves: Vec<Hash>,
}

/// What an entry has to have in common with those inside the scope to be context.
#[derive(Default)]
struct Common {
    agents: BTreeSet<String>,
    ids: BTreeSet<String>,
    first: Option<u64>,
    last: u64,
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

/// A bundle gathered, all but its lines in memory.
#[derive(Debug)]
pub struct Bundle<'a> {
    ledger: &'a Ledger,
    seqs: Vec<u64>,
    content: Content,
    files: BTreeMap<String, Vec<u8>>,
}

// === impl Bundle ===

impl<'a> Bundle<'a> {
    /// Gathers what was recorded so far inside the scope.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn gather(ledger: &'a Ledger, signer: &Signer, order: &Order) -> Result<Bundle<'a>, ExportError> {
        let head = ledger.head();
        let size = head.seq + 1;
        let choice = choose(ledger, &order.scope, size)?;
        let root = tree::root(size, |node| Ok::<Hash, ExportError>(choice.node(node)))?;
        let checkpoint = Checkpoint { origin: head.origin, size, root };
        let content = Content::of(ledger, &choice.seqs, &order.scope)?;
        let note = Note::signed(checkpoint.text(), signer, 0);
        let mut files = BTreeMap::from([
            (bundle::CHECKPOINT.to_owned(), note.to_string().into_bytes()),
            (bundle::COVER.to_owned(), choice.cover(size)),
            (bundle::VERIFY.to_owned(), include_bytes!("VERIFY.md").to_vec()),
        ]);
        if let Some(held) = &order.held {
            files.insert(bundle::CONSISTENCY.to_owned(), choice.consistency(held, size)?);
        }
        let missing = texts(ledger, &content.named, &mut files);
        let manifest = Manifest {
            entries: content.entries,
            files: BTreeMap::new(),
            key: signer.verifier().to_string(),
            missing,
            open: content.lives.open(),
            origin: checkpoint.origin,
            root: root.to_string(),
            schema: SCHEMA.to_owned(),
            scope: order.scope.clone(),
            size,
        };
        describe(manifest, &content, &mut files, signer)?;
        Ok(Bundle { ledger, seqs: choice.seqs, content, files })
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
                runs(self.ledger, &self.seqs, &mut |_, line| Ok(writeln!(body, "{line}")?))?;
            } else {
                builder.add(name, bytes)?;
            }
        }
        Ok(builder.finish()?)
    }
}

/// Adds what is derived from the rest: the summaries, the manifest, its signature, the checksums.
fn describe(
    mut manifest: Manifest,
    content: &Content,
    files: &mut BTreeMap<String, Vec<u8>>,
    signer: &Signer,
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
    let signature = signer.sign_bytes(&bytes).to_vec();
    files.insert(bundle::CHECKSUMS.to_owned(), bundle::checksums(&manifest, &bytes, &signature).into_bytes());
    files.insert(bundle::MANIFEST.to_owned(), bytes);
    files.insert(bundle::SIGNATURE.to_owned(), signature);
    match files.iter().find(|(_, bytes)| bytes.len() > bundle::MAX_SMALL as usize) {
        None => Ok(()),
        Some((name, _)) => Err(ExportError::TooLarge(format!("`{name}` would be larger than 8 MiB; narrow the scope"))),
    }
}

/// The entries inside the scope and those without which they cannot be checked.
fn choose(ledger: &Ledger, scope: &Scope, size: u64) -> Result<Choice, ExportError> {
    let mut common = Common::default();
    let mut leaves = Vec::new();
    each(ledger, 0, size, &mut |event, line| {
        leaves.push(Hash::of_leaf(line.as_bytes()));
        if scope.holds(event) {
            common.take(event);
        }
        Ok(())
    })?;
    let first = common.first.ok_or(ExportError::Nothing)?;
    // Beside a scope of time alone its neighbours show that nothing at its ends is left out.
    let around = if scope.is_of_time_alone() { first.saturating_sub(1)..=common.last + 1 } else { first..=common.last };
    let mut seqs = Vec::new();
    each(ledger, 0, size, &mut |event, _| {
        let beside = scope.is_of_time_alone() && around.contains(&event.seq);
        if beside || scope.holds(event) || common.concerns(event) {
            seqs.push(event.seq);
        }
        Ok(())
    })?;
    Ok(Choice { seqs, leaves })
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

/// Visits chosen entries in order.
fn runs(ledger: &Ledger, seqs: &[u64], visit: Visit<'_>) -> Result<(), ExportError> {
    for run in seqs.chunk_by(|a, b| a + 1 == *b) {
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            each(ledger, *first, last + 1, visit)?;
        }
    }
    Ok(())
}

/// Visits the entries from `start` to before `end`.
fn each(ledger: &Ledger, start: u64, end: u64, visit: Visit<'_>) -> Result<(), ExportError> {
    let mut next = start;
    while next < end {
        let limit = usize::try_from(end - next).unwrap_or(PAGE).min(PAGE);
        let lines = ledger.events(&Query { after: next.checked_sub(1), limit, ..Query::default() })?;
        if lines.is_empty() {
            return Err(ExportError::Entry { seq: next, flaw: Flaw::Malformed { detail: "it is missing".to_owned() } });
        }
        for line in lines {
            let event = chain::parse(&line).map_err(|flaw| ExportError::Entry { seq: next, flaw })?;
            visit(&event, &line)?;
            next += 1;
        }
    }
    Ok(())
}

type Visit<'a> = &'a mut dyn FnMut(&Event, &str) -> Result<(), ExportError>;

// === impl Choice ===

impl Choice {
    fn node(&self, node: Node) -> Hash {
        let start = usize::try_from(node.index << node.height).unwrap_or(usize::MAX);
        let end = start.saturating_add(1 << node.height);
        let mut edge = tree::Edge::default();
        self.leaves.get(start..end).unwrap_or_default().iter().for_each(|leaf| edge.push(*leaf));
        edge.root()
    }

    /// The cover of the chosen entries.
    fn cover(&self, size: u64) -> Vec<u8> {
        let mut at = 0;
        let mut text = String::new();
        for seq in self.seqs.iter().copied().chain([size]) {
            text.push_str(&self.gap(at, seq));
            at = seq + 1;
        }
        text.into_bytes()
    }

    fn gap(&self, start: u64, end: u64) -> String {
        tree::gap(start, end).map(|node| format!("{}\n", self.node(node))).collect()
    }

    /// What shows that the ledger continues a checkpoint.
    fn consistency(&self, held: &Note, size: u64) -> Result<Vec<u8>, ExportError> {
        let old = Checkpoint::of(held)?.size;
        if old > size {
            return Err(ExportError::Newer { held: old, size });
        }
        Ok(format!("old {old}\n{}{}", self.gap(0, old), self.gap(old, size)).into_bytes())
    }
}

// === impl Common ===

impl Common {
    /// Takes an event inside the scope.
    fn take(&mut self, event: &Event) {
        self.agents.extend(event.agent_id.clone());
        self.ids.extend([&event.correlation_id, &event.intent_id].into_iter().flatten().cloned());
        self.first.get_or_insert(event.seq);
        self.last = event.seq;
    }

    /// Whether the event is context.
    fn concerns(&self, event: &Event) -> bool {
        let known = |id: &Option<String>| id.as_ref().is_some_and(|id| self.ids.contains(id));
        let names_key = [EventType::LedgerCreated, EventType::LedgerKeyRotated].map(Kind::Known).contains(&event.kind);
        let registers = event.kind == Kind::Known(EventType::AgentRegistered)
            && event.agent_id.as_ref().is_some_and(|agent| self.agents.contains(agent));
        names_key || registers || known(&event.correlation_id) || known(&event.intent_id)
    }
}

// === impl Content ===

impl Content {
    fn of(ledger: &Ledger, seqs: &[u64], scope: &Scope) -> Result<Content, ExportError> {
        let (mut crc, mut sha256, mut size) = (Hasher::new(), Sha256::new(), 0_u64);
        let (mut entries, mut lives, mut tally) = (Entries::default(), Lives::default(), Tally::default());
        let mut named = BTreeSet::new();
        runs(ledger, seqs, &mut |event, line| {
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

/// Entries read at once.
const PAGE: usize = 1000;
