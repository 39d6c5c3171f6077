//! The hash chain: adding an entry to it and walking along it.
//!
//! One walker serves everybody who reads a journal: opening, rebuilding, verifying. It never repairs, skips or guesses;
//! the first entry that does not follow from the one before ends the walk.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::append::AppendError;
use crate::event::{Draft, Event, VERSION, format_ts, unrepresentable};
use crate::kind::{EventType, Kind};

/// The entry a chain ends with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub entry_hash: String,
    /// Its time.
    pub ts: Timestamp,
}

/// Walks along a chain, entry by entry, in constant memory.
#[derive(Clone, Debug)]
pub struct Walker {
    last: Option<Link>,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Earlier than the entry before.
    #[error("is of `{found}`, before the entry before it (`{expected}`)")]
    Clock {
        /// Time of the entry before.
        expected: Timestamp,
        /// Time of this entry.
        found: Timestamp,
    },
    /// In the file of another day.
    #[error("is of day `{found}` but in the file of `{expected}`")]
    Day {
        /// Day of the file.
        expected: String,
        /// Day of the entry.
        found: String,
    },
    /// The first entry is not the creation of a ledger.
    #[error("should be `ledger.created` but is `{found}`")]
    Genesis {
        /// Type of the entry.
        found: String,
    },
    /// Content and hash differ.
    #[error("hashes to `{expected}` but says `{found}`")]
    Hash {
        /// Hash of the content.
        expected: String,
        /// Hash in the entry.
        found: String,
    },
    /// Longer than an entry may be.
    #[error("is longer than {limit} bytes")]
    Long {
        /// The longest line allowed.
        limit: usize,
    },
    /// Not an entry at all.
    #[error("is not an entry: {detail}")]
    Malformed {
        /// What the parser said.
        detail: String,
    },
    /// Not the one canonical spelling (RFC 8785), or holds what that cannot represent.
    #[error("is not canonical JSON")]
    NotCanonical,
    /// Does not continue the entry before.
    #[error("continues `{found}` but the entry before is `{expected}`")]
    PrevHash {
        /// Hash of the entry before.
        expected: String,
        /// What the entry says.
        found: String,
    },
    /// Not the next number.
    #[error("says it is entry {found}")]
    Seq {
        /// The next number.
        expected: u64,
        /// What the entry says.
        found: u64,
    },
    /// A version this build cannot verify.
    #[error("is of version {found}, this build verifies {VERSION} only")]
    Version {
        /// What the entry says.
        found: String,
    },
}

/// An event and its line in the journal, without the newline.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The event; of its data a live request's has only what the state depends on, and the line all.
    pub event: Event,
    /// Its canonical form.
    pub line: String,
}

/// A draft whose line is written as far as it does not depend on its place in the chain. That is most of it, so whoever
/// drafts does it on a thread of its own and leaves less to the one that writes for all.
#[derive(Clone, Debug)]
pub struct Prepared {
    draft: Draft,
    /// The line up to where `entry_hash` goes.
    front: String,
}

/// The time of an entry, spelled once for all that become entries together.
#[derive(Clone, Debug)]
pub struct Stamp {
    ts: Timestamp,
    text: String,
}

// === impl Link ===

impl Link {
    /// The link an event is.
    pub(crate) fn of(event: &Event) -> Link {
        Link { seq: event.seq, entry_hash: event.entry_hash.clone(), ts: event.ts }
    }
}

// === impl Walker ===

impl Walker {
    /// A walk from entry 0.
    pub fn from_start() -> Walker {
        Walker { last: None }
    }

    /// A walk that continues behind an entry already trusted.
    pub fn behind(last: Link) -> Walker {
        Walker { last: Some(last) }
    }

    /// The entry last stepped over.
    pub fn last(&self) -> Option<&Link> {
        self.last.as_ref()
    }

    /// The number the next entry must have.
    pub fn expected_seq(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.seq.saturating_add(1))
    }

    /// Steps over one line, given without its newline. After an error the walk cannot go on.
    pub fn step(&mut self, line: &str) -> Result<Event, Flaw> {
        let event = parse(line)?;
        let expected = self.expected_seq();
        if event.seq != expected {
            return Err(Flaw::Seq { expected, found: event.seq });
        }
        let prev_hash = self.last.as_ref().map_or(GENESIS, |last| last.entry_hash.as_str());
        if event.prev_hash != prev_hash {
            return Err(Flaw::PrevHash { expected: prev_hash.to_owned(), found: event.prev_hash });
        }
        check_hash(line, &event)?;
        if let Some(last) = self.last.as_ref().filter(|last| event.ts < last.ts) {
            return Err(Flaw::Clock { expected: last.ts, found: event.ts });
        }
        if event.seq == 0 && event.kind != Kind::Known(EventType::LedgerCreated) {
            return Err(Flaw::Genesis { found: event.kind.to_string() });
        }
        self.last = Some(Link::of(&event));
        Ok(event)
    }
}

// === impl Prepared ===

impl Prepared {
    /// Writes what can be written of the draft's line.
    ///
    /// # Errors
    /// [`AppendError::Unrepresentable`].
    pub fn new(mut draft: Draft) -> Result<Prepared, AppendError> {
        if let Some(key) = unrepresentable(&draft.data) {
            return Err(AppendError::Unrepresentable { key: format!("data.{key}") });
        }
        let front = draft.front().map_err(|error| AppendError::Unrepresentable { key: error.to_string() })?;
        draft.forget_unread();
        Ok(Prepared { draft, front })
    }

    /// What is to be recorded.
    pub(crate) fn kind(&self) -> EventType {
        self.draft.kind
    }
}

// === impl Stamp ===

impl Stamp {
    /// The stamp of a time, which is a whole number of microseconds.
    pub fn new(ts: Timestamp) -> Stamp {
        Stamp { ts, text: format_ts(ts) }
    }
}

/// Makes a draft the entry behind `last`; entry 0 if there is none.
///
/// # Errors
/// [`AppendError::TooLarge`].
pub fn seal(last: Option<&Link>, stamp: &Stamp, prepared: Prepared) -> Result<Entry, AppendError> {
    let Prepared { draft, front } = prepared;
    let kind = draft.kind;
    let mut event = Event {
        action: draft.action,
        agent_id: draft.agent_id,
        correlation_id: draft.correlation_id,
        data: draft.data,
        dest_key: draft.dest_key,
        entry_hash: String::new(),
        intent_id: draft.intent_id,
        prev_hash: last.map_or(GENESIS, |last| last.entry_hash.as_str()).to_owned(),
        run_id: draft.run_id,
        seq: last.map_or(0, |last| last.seq.saturating_add(1)),
        ts: stamp.ts,
        kind: Kind::Known(kind),
        v: VERSION,
    };
    let back = back(&event, stamp);
    event.entry_hash = HEXLOWER.encode(&Sha256::new().chain_update(&front).chain_update(&back).finalize());
    let mut line = front;
    for part in [",\"entry_hash\":\"", &event.entry_hash, "\"", &back] {
        line.push_str(part);
    }
    if line.len() > MAX_LINE {
        return Err(AppendError::TooLarge { event: kind, bytes: line.len(), limit: MAX_LINE });
    }
    Ok(Entry { event, line })
}

/// The line behind `entry_hash`: all members whose names sort behind it, in order.
fn back(event: &Event, stamp: &Stamp) -> String {
    let mut back = String::with_capacity(BACK_BYTES);
    if let Some(intent) = &event.intent_id {
        back.extend([",\"intent_id\":", &json_text(intent)]);
    }
    back.extend([",\"prev_hash\":\"", &event.prev_hash, "\""]);
    if let Some(run) = &event.run_id {
        back.extend([",\"run_id\":", &json_text(run)]);
    }
    back.extend([",\"seq\":", &event.seq.to_string(), ",\"ts\":\"", &stamp.text, "\",\"type\":\""]);
    back.extend([event.kind.as_str(), "\",\"v\":", &event.v.to_string(), "}"]);
    back
}

fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

/// Reads one line, refusing every spelling but the canonical one.
pub(crate) fn parse(line: &str) -> Result<Event, Flaw> {
    let event: Event = serde_json::from_str(line).map_err(|error| misread(line, &error))?;
    if event.v != VERSION {
        return Err(Flaw::Version { found: event.v.to_string() });
    }
    if unrepresentable(&event.data).is_some() || event.canonical().map_or(true, |canonical| canonical != line) {
        return Err(Flaw::NotCanonical);
    }
    Ok(event)
}

/// Checks that an entry hashes to what it says.
pub(crate) fn check_hash(line: &str, event: &Event) -> Result<(), Flaw> {
    let hash = digest(line, &event.entry_hash).ok_or(Flaw::NotCanonical)?;
    if hash == event.entry_hash { Ok(()) } else { Err(Flaw::Hash { expected: hash, found: event.entry_hash.clone() }) }
}

/// Tells an entry of another version from something that is no entry.
fn misread(line: &str, error: &serde_json::Error) -> Flaw {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    match value.get("v").filter(|version| version.as_u64() != Some(VERSION)) {
        Some(found) => Flaw::Version { found: found.to_string() },
        None => Flaw::Malformed { detail: error.to_string() },
    }
}

/// SHA-256 over a canonical line without its `entry_hash`.
///
/// Cutting the member out equals writing the event without it. The *last* occurrence is the right one: what follows
/// `entry_hash` in the sorted order are numbers and strings, and inside a string its quotes would be escaped.
fn digest(line: &str, entry_hash: &str) -> Option<String> {
    let (before, behind) = line.rsplit_once(&format!("\"entry_hash\":\"{entry_hash}\","))?;
    Some(HEXLOWER.encode(&Sha256::new().chain_update(before).chain_update(behind).finalize()))
}

/// What is usual behind `entry_hash`.
const BACK_BYTES: usize = 256;

/// Longest line, so that a block of one line stays under what the store keeps in its log (32 KiB).
pub(crate) const MAX_LINE: usize = 30 * 1024;

/// `prev_hash` of entry 0.
pub(crate) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[cfg(test)]
mod tests;
