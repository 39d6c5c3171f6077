//! Reading what is recorded: lines of the journal by what they are about, and the views of intents.
//!
//! Every answer includes all that is durable: what the index does not hold yet is read from memory. Never writes.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::chain::Entry;
use crate::event::Event;
use crate::index::Index;
use crate::intent::{Intent, State};
use crate::shared::Shared;
use crate::store::StoreError;

/// What to look for. Every field that is set must match; entries come in order.
#[derive(Clone, Debug)]
pub struct Query {
    /// Only entries behind this number.
    pub after: Option<u64>,
    /// Name of the type, for example `decision.denied`.
    pub kind: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The correlation id.
    pub correlation: Option<String>,
    /// The intent id.
    pub intent: Option<String>,
    /// The run id.
    pub run: Option<String>,
    /// Key of the destination.
    pub destination: Option<String>,
    /// At most so many entries, the oldest of those that match. 100 by default.
    pub limit: usize,
}

/// Why something recorded cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A stored text is not what its digest says.
    #[error("the text `{sha256}` was changed on disk; restore it from a copy")]
    Changed {
        /// The digest asked for.
        sha256: String,
    },
    /// A text exists but cannot be read.
    #[error("cannot read the text `{sha256}`: {source}")]
    Io {
        /// The digest asked for.
        sha256: String,
        /// What the file system said.
        source: std::io::Error,
    },
    /// Not a digest.
    #[error("`{0}` is not a SHA-256 in lower-case hexadecimal")]
    NotADigest(String),
    /// The index cannot answer.
    #[error("{0}; restart the gate, or run `writ ledger rebuild` while it is stopped")]
    Store(String),
}

/// A query being answered.
struct Search<'a> {
    query: &'a Query,
    /// The first number not yet looked at.
    next: u64,
    found: Vec<String>,
}

// === impl Query ===

impl Default for Query {
    fn default() -> Query {
        Query {
            after: None,
            kind: None,
            agent: None,
            correlation: None,
            intent: None,
            run: None,
            destination: None,
            limit: 100,
        }
    }
}

impl Query {
    /// The narrowest index that covers this query.
    fn index(&self) -> Option<(Index, &str)> {
        let correlation = self.correlation.as_deref().map(|id| (Index::Correlation, id));
        let intent = self.intent.as_deref().map(|id| (Index::Intent, id));
        let run = self.run.as_deref().map(|id| (Index::Run, id));
        correlation.or(intent).or(run)
    }

    fn matches(&self, event: &Event) -> bool {
        let fits = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        fits(&self.kind, Some(event.kind.as_str()))
            && fits(&self.agent, event.agent_id.as_deref())
            && fits(&self.correlation, event.correlation_id.as_deref())
            && fits(&self.intent, event.intent_id.as_deref())
            && fits(&self.run, event.run_id.as_deref())
            && fits(&self.destination, event.dest_key.as_deref())
    }
}

// === impl Search ===

impl Search<'_> {
    fn is_full(&self) -> bool {
        self.found.len() >= self.query.limit
    }

    /// Looks at an entry unless it was looked at before or nothing more is wanted.
    fn offer(&mut self, seq: u64, line: String) -> Result<(), StoreError> {
        if self.is_full() || seq < self.next {
            return Ok(());
        }
        self.next = seq.saturating_add(1);
        let event: Event = serde_json::from_str(&line).map_err(|error| StoreError::Damaged(error.to_string()))?;
        if self.query.matches(&event) {
            self.found.push(line);
        }
        Ok(())
    }

    /// Looks at an entry in memory in the same way.
    fn offer_entry(&mut self, entry: &Entry) {
        if !self.is_full() && entry.event.seq >= self.next && self.query.matches(&entry.event) {
            self.found.push(entry.line.clone());
        }
    }
}

// === impl ReadError ===

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> ReadError {
        ReadError::Store(error.to_string())
    }
}

/// The lines a query asks for.
pub(crate) fn events(shared: &Shared, query: &Query) -> Result<Vec<String>, ReadError> {
    let store = &shared.store;
    let from = query.after.map_or(0, |after| after.saturating_add(1));
    // Memory before the index: what moves over in between is then seen twice, never missed.
    let fresh = shared.read(|published| published.fresh.clone());
    let mut search = Search { query, next: from, found: Vec::new() };
    if search.is_full() {
        return Ok(search.found);
    }
    match query.index() {
        None => {
            for line in store.lines(from)? {
                let (seq, line) = line?;
                search.offer(seq, line)?;
                if search.is_full() {
                    break;
                }
            }
        }
        Some((index, id)) => {
            for seq in store.occurrences(index, id, from)? {
                let seq = seq?;
                let missing = || StoreError::Damaged(format!("entry {seq} is missing"));
                search.offer(seq, store.line(seq)?.ok_or_else(missing)?)?;
                if search.is_full() {
                    break;
                }
            }
        }
    }
    fresh.iter().flat_map(|entries| entries.iter()).for_each(|entry| search.offer_entry(entry));
    Ok(search.found)
}

/// An intent, whatever its state.
pub(crate) fn intent(shared: &Shared, id: &str) -> Result<Option<Intent>, StoreError> {
    // What memory no longer holds has reached the index before it left.
    match shared.read(|published| published.book.intent(id).cloned()) {
        Some(intent) => Ok(Some(intent)),
        None => shared.store.intent(id),
    }
}

/// Intents in one of `states` (all if empty), the one opened last first.
pub(crate) fn intents(shared: &Shared, states: &[State], limit: usize) -> Result<Vec<Intent>, StoreError> {
    let wanted = |state: State| states.is_empty() || states.contains(&state);
    let in_memory: HashMap<String, Intent> = shared.read(|published| {
        let book = &published.book;
        book.open.iter().chain(&book.settled).map(|(id, intent)| (id.clone(), intent.clone())).collect()
    });
    let mut settled = Vec::new();
    // Open intents are all in memory; only for settled ones the index has to be walked.
    if State::ALL.iter().any(|state| state.is_terminal() && wanted(*state)) {
        for id in shared.store.newest_intents() {
            let id = id?;
            if settled.len() == limit {
                break;
            }
            let known = if in_memory.contains_key(&id) { None } else { shared.store.intent(&id)? };
            settled.extend(known.filter(|intent| intent.state.is_terminal() && wanted(intent.state)));
        }
    }
    let mut intents: Vec<Intent> = in_memory.into_values().filter(|intent| wanted(intent.state)).collect();
    intents.append(&mut settled);
    intents.sort_by_key(|intent| Reverse(intent.opened.seq));
    intents.truncate(limit);
    Ok(intents)
}
