//! A batch in the making: submissions checked one after the other and chained, not yet written anywhere.
//!
//! The writer builds one per group commit, and opening builds the same from lines that the store lacks, so recovery
//! runs through the code that every append runs through.

use std::ops::Range;

use crate::append::AppendError;
use crate::chain::{self, Entry, Link, Prepared, Stamp};
use crate::kind::EventType;
use crate::state::{Book, Changes};
use crate::store::Store;
use crate::trial::Trial;

/// Entries behind the end of the chain, and what they change.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The end of the chain with this batch.
    pub(crate) last: Option<Link>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) changes: Changes,
}

// === impl Batch ===

impl Batch {
    /// An empty batch behind `last`.
    pub(crate) fn behind(last: Option<Link>) -> Batch {
        Batch { last, entries: Vec::new(), changes: Changes::default() }
    }

    /// Adds one submission, all of it or nothing, and says which entries it became.
    pub(crate) fn add(
        &mut self,
        book: &Book,
        store: &Store,
        stamp: &Stamp,
        drafts: Vec<Prepared>,
    ) -> Result<Range<usize>, AppendError> {
        let mut trial = Trial::new(book, &self.changes, store);
        let mut last = self.last.clone();
        let mut entries = Vec::with_capacity(drafts.len());
        for draft in drafts {
            if draft.kind() == EventType::LedgerCreated {
                return Err(AppendError::Reserved { event: draft.kind() });
            }
            let entry = chain::seal(last.as_ref(), stamp, draft)?;
            trial.admit(&entry.event)?;
            last = Some(Link::of(&entry.event));
            entries.push(entry);
        }
        let changes = trial.changes();
        let first = self.entries.len();
        self.changes.absorb(changes);
        self.entries.append(&mut entries);
        self.last = last;
        Ok(first..self.entries.len())
    }

    /// Adds an entry read back from a verified journal.
    pub(crate) fn replay(&mut self, book: &Book, store: &Store, entry: Entry) -> Result<(), AppendError> {
        let mut trial = Trial::replay(book, &self.changes, store);
        trial.admit(&entry.event)?;
        let changes = trial.changes();
        self.changes.absorb(changes);
        self.last = Some(Link::of(&entry.event));
        self.entries.push(entry);
        Ok(())
    }
}
