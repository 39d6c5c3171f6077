//! Evidence: what an auditor gets, and what it takes to believe it without trusting whoever hands it over.
//!
//! `FORMAT.md` is the contract; `deploy/verify.py` was written from the same text. Checking uses files alone: no database,
//! no network, no clock. It never repairs, and it says what it did not check.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::event::{Event, format_ts};
use crate::note::{Note, Verifier};

mod archive;
mod bundle;
mod capsule;
mod check;
#[cfg(feature = "store")]
mod export;
pub(crate) mod keys;
mod lines;
mod lives;
mod manifest;
mod page;
mod report;
#[cfg(feature = "store")]
mod select;
mod summary;
mod walk;

#[cfg(feature = "store")]
pub use export::{Bundle, ExportError, Order};
pub use report::Checked;

/// Which entries a bundle is about; what is not set is not restricted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Only of this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Only with this correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// Only for this destination key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Only with this intent id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// Not before this time, written as in an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Before this time, written as in an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time; write `2026-11-20` or `2026-11-20T08:00:00Z`")]
pub struct BadTime(String);

/// What the auditor knows from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The ledger's key, the present one or an earlier one.
    pub key: Option<Verifier>,
    /// Witnesses that must have cosigned.
    pub witnesses: Vec<Verifier>,
    /// A checkpoint seen before.
    pub checkpoint: Option<Note>,
}

/// Which check failed first. The names are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// `archive`
    Archive,
    /// `capsule`
    Capsule,
    /// `chain.clock`
    ChainClock,
    /// `chain.genesis`
    ChainGenesis,
    /// `chain.order`
    ChainOrder,
    /// `chain.prev`
    ChainPrev,
    /// `checkpoint`
    Checkpoint,
    /// `checksums`
    Checksums,
    /// `entry.form`
    EntryForm,
    /// `entry.hash`
    EntryHash,
    /// `entry.version`
    EntryVersion,
    /// `files`
    Files,
    /// `key`
    Key,
    /// `manifest`
    Manifest,
    /// `open`
    Open,
    /// `proof`
    Proof,
    /// `rule.digest`
    RuleDigest,
    /// `rule.duplicate_outcome`
    RuleDuplicateOutcome,
    /// `rule.no_allow`
    RuleNoAllow,
    /// `rule.step`
    RuleStep,
    /// `rule.two_sends`
    RuleTwoSends,
    /// `rule.vote`
    RuleVote,
    /// `scope`
    Scope,
    /// `signature`
    Signature,
    /// `summary`
    Summary,
    /// `texts`
    Texts,
    /// `trust.checkpoint`
    TrustCheckpoint,
    /// `trust.key`
    TrustKey,
    /// `trust.witness`
    TrustWitness,
}

/// Why evidence is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The check that failed.
    pub code: Code,
    /// The entry it failed at.
    pub entry: Option<u64>,
    /// What was claimed and what is, for a person.
    pub message: String,
}

/// What became of checking a file.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It does not hold.
    Refused(Refusal),
    /// It holds in itself, but nothing known from elsewhere says whose it is.
    Unauthenticated(Checked),
    /// It holds, under a key known from elsewhere.
    Verified(Checked),
}

/// Checks a bundle, a proof capsule, or the proof of one entry.
///
/// # Errors
/// When the file cannot be read; what is wrong with its content is a [`Verdict::Refused`].
pub fn verify(path: &Path, trust: &Trust) -> io::Result<Verdict> {
    check::any(File::open(path)?, trust)
}

/// [`verify`] for bytes at hand.
///
/// # Errors
/// Never; memory can be read.
pub fn verify_bytes(bytes: &[u8], trust: &Trust) -> io::Result<Verdict> {
    check::any(io::Cursor::new(bytes), trust)
}

// === impl Scope ===

impl Scope {
    /// Whether an event is inside.
    pub(crate) fn holds(&self, event: &Event) -> bool {
        let fits = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let ts = event.ts_text();
        fits(&self.agent, &event.agent_id)
            && fits(&self.correlation, &event.correlation_id)
            && fits(&self.destination, &event.dest_key)
            && fits(&self.intent, &event.intent_id)
            && self.since.as_ref().is_none_or(|since| *since <= ts)
            && self.until.as_ref().is_none_or(|until| ts < *until)
    }

    /// A time as an event has it, from a date (`2026-11-20`, its beginning in UTC) or an RFC 3339 time.
    ///
    /// # Errors
    /// [`BadTime`].
    pub fn time(text: &str) -> Result<String, BadTime> {
        let date = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
        let time = text.parse::<Timestamp>().ok().or_else(date).ok_or_else(|| BadTime(text.to_owned()))?;
        Ok(format_ts(time))
    }

    /// Whether it restricts nothing but time, so that leaving out an entry shows.
    pub(crate) fn is_of_time_alone(&self) -> bool {
        [&self.agent, &self.correlation, &self.destination, &self.intent].into_iter().all(Option::is_none)
    }
}

// === impl Code ===

impl Code {
    /// The name in the format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Archive => "archive",
            Code::Capsule => "capsule",
            Code::ChainClock => "chain.clock",
            Code::ChainGenesis => "chain.genesis",
            Code::ChainOrder => "chain.order",
            Code::ChainPrev => "chain.prev",
            Code::Checkpoint => "checkpoint",
            Code::Checksums => "checksums",
            Code::EntryForm => "entry.form",
            Code::EntryHash => "entry.hash",
            Code::EntryVersion => "entry.version",
            Code::Files => "files",
            Code::Key => "key",
            Code::Manifest => "manifest",
            Code::Open => "open",
            Code::Proof => "proof",
            Code::RuleDigest => "rule.digest",
            Code::RuleDuplicateOutcome => "rule.duplicate_outcome",
            Code::RuleNoAllow => "rule.no_allow",
            Code::RuleStep => "rule.step",
            Code::RuleTwoSends => "rule.two_sends",
            Code::RuleVote => "rule.vote",
            Code::Scope => "scope",
            Code::Signature => "signature",
            Code::Summary => "summary",
            Code::Texts => "texts",
            Code::TrustCheckpoint => "trust.checkpoint",
            Code::TrustKey => "trust.key",
            Code::TrustWitness => "trust.witness",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Refusal ===

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { code, entry: None, message: message.into() }
    }

    pub(crate) fn at(code: Code, entry: u64, message: impl Into<String>) -> Refusal {
        Refusal { code, entry: Some(entry), message: message.into() }
    }
}

// === impl Verdict ===

impl Verdict {
    /// The exit code of a verifier that could not read the file, or was asked wrongly.
    pub const UNREADABLE: u8 = 1;

    /// The exit code of a verifier.
    pub fn exit_code(&self) -> u8 {
        match self {
            Verdict::Refused(_) => 4,
            Verdict::Unauthenticated(_) => 5,
            Verdict::Verified(_) => 0,
        }
    }
}
