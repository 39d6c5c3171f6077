//! Bringing the index up to date with the journal, and making it anew where it cannot be trusted.
//!
//! Changes nothing in the journal. The index only ever saw durable entries: whatever it has seen and the journal does not
//! hold means that acknowledged entries are gone, and is never repaired.

use std::io;
use std::path::Path;

use jiff::Timestamp;

use crate::batch::Batch;
use crate::chain::{Entry, Link};
use crate::home::Home;
use crate::journal::Position;
use crate::open::OpenError;
use crate::state::Book;
use crate::store::{Applied, Store};
use crate::verify::{VerifyError, Walk, survey};

/// Journal entries on their way into the index.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) store: Store,
    pub(crate) book: Book,
    batch: Batch,
    /// The last entry taken, and where its line is.
    pub(crate) end: Option<(Link, Position)>,
    /// What a crash left behind the last complete line.
    pub(crate) torn: Option<VerifyError>,
}

// === impl Replay ===

impl Replay {
    fn behind(store: Store, book: Book, end: Option<(Link, Position)>) -> Replay {
        let batch = Batch::behind(end.as_ref().map(|(last, _)| last.clone()));
        Replay { store, book, batch, end, torn: None }
    }

    /// Takes everything the walk still finds.
    fn run(mut self, mut walk: Walk) -> Result<Replay, OpenError> {
        loop {
            match walk.step() {
                Err(torn @ VerifyError::Torn { .. }) if walk.in_last_file() => {
                    self.torn = Some(torn);
                    break;
                }
                Err(error) => return Err(error.into()),
                Ok(None) => break,
                Ok(Some((entry, position))) => self.take(entry, position)?,
            }
        }
        self.apply()?;
        Ok(self)
    }

    fn take(&mut self, entry: Entry, position: Position) -> Result<(), OpenError> {
        let seq = entry.event.seq;
        self.end = Some((Link::of(&entry.event), position));
        let replayed = self.batch.replay(&self.book, &self.store, entry);
        replayed.map_err(|source| OpenError::Replay { seq, source })?;
        if self.batch.entries.len() >= REPLAY_BATCH { self.apply() } else { Ok(()) }
    }

    fn apply(&mut self) -> Result<(), OpenError> {
        let Some((link, position)) = &self.end else { return Ok(()) };
        let batch = std::mem::replace(&mut self.batch, Batch::behind(Some(link.clone())));
        let Some(last) = batch.entries.last() else { return Ok(()) };
        self.book.merge(&batch.changes);
        let applied = Applied::up_to(&last.event, position, &self.book);
        self.store.apply(batch.entries.iter(), &batch.changes, &applied)?;
        self.book.settled.clear();
        Ok(())
    }
}

/// Brings the index up to date with the journal. An index that is damaged, or contradicts a journal that verifies, is
/// thrown away: it holds nothing the journal does not.
pub(crate) fn catch_up(home: &Home) -> Result<Replay, OpenError> {
    let replayed = from_index(home);
    if matches!(replayed, Err(OpenError::Store(_) | OpenError::Replay { .. })) {
        survey(&home.events(), u64::MAX)?;
        return from_journal(home);
    }
    replayed
}

fn from_index(home: &Home) -> Result<Replay, OpenError> {
    let store = Store::open(&home.store())?;
    match store.load()? {
        None => Replay::behind(store, Book::default(), None).run(Walk::from_start(&home.events())?),
        Some((applied, book)) => {
            let walk = resume(&home.events(), &applied)?;
            Replay::behind(store, book, Some((applied.last, applied.position))).run(walk)
        }
    }
}

/// Makes the index anew.
pub(crate) fn from_journal(home: &Home) -> Result<Replay, OpenError> {
    let path = home.store();
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(OpenError::Io { path, source }),
        Err(_) | Ok(()) => {}
    }
    Replay::behind(Store::open(&path)?, Book::default(), None).run(Walk::from_start(&home.events())?)
}

/// A walk behind the last entry the index has seen, once the journal proves to hold exactly that entry there. The
/// index only ever saw durable entries, so anything else means that acknowledged entries are gone or rewritten.
fn resume(events: &Path, applied: &Applied) -> Result<Walk, OpenError> {
    let seq = applied.last.seq;
    let mismatch = |found| OpenError::Mismatch { seq, expected: applied.last.entry_hash.clone(), found };
    let before = seq.checked_sub(1).map(|seq| Link { seq, entry_hash: applied.prev_hash.clone(), ts: Timestamp::MIN });
    let mut walk =
        Walk::from(events, &applied.position, before).map_err(|error| mismatch(format!("none ({error})")))?;
    match walk.step() {
        Err(error) => Err(mismatch(format!("none ({error})"))),
        Ok(None) => Err(mismatch("none (it ends before)".to_owned())),
        Ok(Some((entry, _))) if entry.event.entry_hash == applied.last.entry_hash => Ok(walk),
        Ok(Some((entry, _))) => Err(mismatch(format!("`{}`", entry.event.entry_hash))),
    }
}

/// Entries per step while the index is brought up to date.
const REPLAY_BATCH: usize = 256;
