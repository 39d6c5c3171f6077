//! Creating, opening and rebuilding a ledger: every check that stands between a start and the first append.
//!
//! Refuses instead of guessing: nothing that was ever acknowledged is dropped here. What a crash legitimately leaves (half
//! a line, an index behind the journal, sends without an outcome) is repaired and recorded.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::append::AppendError;
use crate::chain::{self, Link, Prepared, Stamp};
use crate::checkpoint::Checkpoint;
use crate::checkpoints::Checkpoints;
use crate::durable;
use crate::event::{Draft, Event};
use crate::evidence::Refusal;
use crate::evidence::keys::Keys;
use crate::group::Group;
use crate::home::{Home, Lock};
use crate::journal::Journal;
use crate::kind::EventType;
use crate::note::Signer;
use crate::replay::{Replay, catch_up, from_journal};
use crate::state::{Book, Execution};
use crate::store::{Store, StoreError};
use crate::tree::{self, Hash};
use crate::verify::{Verified, VerifyError, Walk, day_of, origin_of, survey};
use crate::writer::now;

/// Why a ledger cannot be created, opened or rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no ledger.
    #[error("there is no ledger in `{}`; create one with `writ init`", .dir.display())]
    Absent {
        /// The data directory.
        dir: PathBuf,
    },
    /// There is a ledger, or what is left of one, where a new one was to be made.
    #[error("`{}` is there already; open it, or choose an empty directory", .path.display())]
    Exists {
        /// What is in the way.
        path: PathBuf,
    },
    /// The newest checkpoint cannot be used.
    #[error("checkpoint `{}`: {why}; restore it from a copy", .path.display())]
    Checkpoint {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The signing key is not the one entry 0 names.
    #[error("`{}` is not the key this ledger was created with; restore it from a copy", .path.display())]
    ForeignKey {
        /// The key file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot use `{}`: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The signing key cannot be read as one.
    #[error("`{}` is not a signing key; restore it from a copy", .path.display())]
    Key {
        /// The key file.
        path: PathBuf,
    },
    /// Others than the owner may use the signing key.
    #[error("key `{}` has mode {mode:o}; run `chmod 600 {}`", .path.display(), .path.display())]
    KeyMode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process uses the ledger.
    #[error("`{}` is in use by another process; stop that gate first", .dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// The journal does not hold what the index has seen in it: acknowledged entries are gone or were rewritten.
    #[error("entry {seq} should have hash `{expected}` but the journal has {found}; restore the journal from a copy")]
    Mismatch {
        /// The last entry the index has seen.
        seq: u64,
        /// Its hash.
        expected: String,
        /// What the journal has in its place.
        found: String,
    },
    /// Entries that a checkpoint was made of are not there any more.
    #[error(
        "the newest checkpoint is of {claimed} entries but the journal has {found}: {} are missing; restore the journal from a copy",
        .claimed - .found
    )]
    Lost {
        /// Entries there once were.
        claimed: u64,
        /// Entries there are.
        found: u64,
    },
    /// There is no checkpoint to compare the journal with.
    #[error(
        "checkpoint `{}` is missing, so nothing shows whether the journal is whole; restore it from a copy, or take the \
         journal as it is with `writ ledger rebuild`", .path.display()
    )]
    NoCheckpoint {
        /// Its file.
        path: PathBuf,
    },
    /// A part of the ledger is missing.
    #[error("`{}` is missing but other parts of the ledger are there; restore it, or run `writ init` in an empty home", .path.display())]
    Missing {
        /// What is missing.
        path: PathBuf,
    },
    /// The origin cannot name a ledger.
    #[error("`{0}` cannot be an origin; use a name without spaces and `+`, such as `example.com/gate`")]
    Origin(String),
    /// What was repaired could not be recorded.
    #[error("cannot record the recovery: {0}")]
    Recovery(#[source] AppendError),
    /// An entry verifies but contradicts the entries before it.
    #[error("entry {seq} cannot have happened: {source}; restore the journal from a copy")]
    Replay {
        /// The entry.
        seq: u64,
        /// What it contradicts.
        source: AppendError,
    },
    /// The journal verifies but is not the one a checkpoint was made of.
    #[error(
        "the first {size} entries are not those of the newest checkpoint: the journal was rewritten; restore it from a copy"
    )]
    Rewritten {
        /// Entries the checkpoint is of.
        size: u64,
    },
    /// The index cannot be used.
    #[error("{0}; run `writ ledger rebuild`")]
    Store(String),
    /// The journal does not verify.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// A ledger checked and brought up to date, ready for its writer.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) lock: Lock,
    pub(crate) origin: String,
    pub(crate) store: Store,
    pub(crate) book: Book,
    pub(crate) head: Link,
    pub(crate) journal: Journal,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) torn_bytes: u64,
}

/// Creates a ledger: folders, signing key, entry 0.
pub(crate) fn create(home: &Home, origin: &str) -> Result<(), OpenError> {
    if origin.is_empty() || origin.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control()) {
        return Err(OpenError::Origin(origin.to_owned()));
    }
    let io = |source| OpenError::Io { path: home.dir().to_owned(), source };
    durable::create_dir(home.dir()).map_err(io)?;
    let _lock = home.lock()?;
    if let Some(path) = home.occupied() {
        return Err(OpenError::Exists { path });
    }
    durable::create_dir(&home.keys()).map_err(io)?;
    durable::create_dir(&home.texts()).map_err(io)?;
    let signer = Home::create_key(&home.key(), origin).map_err(io)?;
    let public_key = signer.verifier().to_string();
    let draft = Draft::new(EventType::LedgerCreated).with("origin", origin).with("public_key", public_key);
    let sealed = Prepared::new(draft).and_then(|prepared| chain::seal(None, &Stamp::new(now()), prepared));
    let entry = sealed.map_err(OpenError::Recovery)?;
    let root = Hash::of_leaf(entry.line.as_bytes());
    Checkpoints::begin(home, &signer, &Checkpoint { origin: origin.to_owned(), size: 1, root }).map_err(io)?;
    // The journal appears last. Dying before leaves a key without a ledger, which no later start mistakes for an empty
    // ledger: it says what is missing.
    durable::create_dir(&home.events()).map_err(io)?;
    Journal::create(&home.events(), &day_of(entry.event.ts), &entry.line).map_err(io)
}

/// Opens a ledger for writing.
pub(crate) fn open(home: &Home) -> Result<Opened, OpenError> {
    check_parts(home, &[home.events(), home.key()])?;
    let lock = home.lock()?;
    let created = first_entry(home)?;
    let compared = catch_up(home).and_then(|replay| compare(home, &created, replay));
    let (replay, checkpoints) = match compared {
        // The index alone may be wrong. What the journal itself amounts to says whether it is.
        Err(OpenError::Rewritten { .. } | OpenError::Store(_)) => {
            survey(&home.events(), u64::MAX)?;
            from_journal(home).and_then(|replay| compare(home, &created, replay))
        }
        compared => compared,
    }?;
    let Replay { store, book, end, torn, .. } = replay;
    let events = home.events();
    let (head, position) = end.ok_or_else(|| VerifyError::Empty { dir: events.clone() })?;
    let io = |source| OpenError::Io { path: events.clone(), source };
    let torn_bytes = torn.map_or(Ok(0), |torn| set_aside(&events, &torn)).map_err(io)?;
    let journal = Journal::open(&events, position).map_err(io)?;
    Ok(Opened { lock, origin: origin_of(&created), store, book, head, journal, checkpoints, torn_bytes })
}

/// Verifies the journal and builds the index anew from it. A ledger that has no checkpoint, as one of an earlier build,
/// gets one: from then on it is compared like any other.
pub fn rebuild(dir: &Path, key: Option<&Path>) -> Result<Verified, OpenError> {
    let home = Home::new(dir).with_key(key);
    check_parts(&home, &[home.events()])?;
    let _lock = home.lock()?;
    let (verified, _torn) = survey(&home.events(), u64::MAX)?;
    let replay = from_journal(&home)?;
    replay.store.flush()?;
    if !home.newest().exists() {
        let signer = home.signer_of(keys(&first_entry(&home)?, &replay.store)?.last())?;
        let root = tree::root(verified.entries, |node| replay.store.node(node))?;
        let first = Checkpoint { origin: verified.origin.clone(), size: verified.entries, root };
        let io = |source| OpenError::Io { path: home.newest(), source };
        Checkpoints::begin(&home, &signer, &first).map_err(io)?;
    }
    Ok(verified)
}

/// The key that the ledger in a data directory signs with, from there or from the file `key`.
///
/// # Errors
/// [`OpenError`] when it is not there, not a key, or open to others.
pub fn signing_key(dir: &Path, key: Option<&Path>) -> Result<Signer, OpenError> {
    Home::new(dir).with_key(key).signer()
}

/// What a start records about what it repaired: outcomes nobody knows, then one summary.
pub(crate) fn recovery(executions: Vec<Execution>, torn_bytes: u64) -> Vec<Draft> {
    if executions.is_empty() && torn_bytes == 0 {
        return Vec::new();
    }
    let mut summary = Draft::new(EventType::GateRecovered).with("unknown", executions.len());
    if torn_bytes > 0 {
        summary = summary.with("torn_bytes", torn_bytes);
    }
    let interrupted = |execution: Execution| Draft {
        correlation_id: Some(execution.correlation_id),
        intent_id: execution.intent_id,
        run_id: execution.run_id,
        agent_id: execution.agent_id,
        action: execution.action,
        dest_key: execution.dest_key,
        ..Draft::new(EventType::ActionUnknown).with("reason", "interrupted")
    };
    executions.into_iter().map(interrupted).chain([summary]).collect()
}

// === impl OpenError ===

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> OpenError {
        OpenError::Store(error.to_string())
    }
}

/// The parts of a ledger that cannot be built anew must be there, all or none.
fn check_parts(home: &Home, parts: &[PathBuf]) -> Result<(), OpenError> {
    if home.occupied().is_none() {
        return Err(OpenError::Absent { dir: home.dir().to_owned() });
    }
    match parts.iter().find(|path| !path.exists()) {
        None => Ok(()),
        Some(path) => Err(OpenError::Missing { path: path.clone() }),
    }
}

/// Compares a ledger whose index is up to date with its newest checkpoint.
fn compare(home: &Home, created: &Event, replay: Replay) -> Result<(Replay, Checkpoints), OpenError> {
    let size = replay.end.as_ref().map_or(0, |(head, _)| head.seq + 1);
    let keys = keys(created, &replay.store)?;
    let signer = home.signer_of(keys.last())?;
    let checkpoints = Checkpoints::open(home, signer, keys.known().to_vec(), &replay.store, size)?;
    Ok((replay, checkpoints))
}

fn first_entry(home: &Home) -> Result<Event, OpenError> {
    let events = home.events();
    let first = Walk::from_start(&events)?.step()?;
    first.map(|(entry, _)| entry.event).ok_or(OpenError::Verify(VerifyError::Empty { dir: events }))
}

/// The keys of the ledger, from entry 0 and the rotations since.
fn keys(created: &Event, store: &Store) -> Result<Keys, OpenError> {
    let mut rotations = Vec::new();
    let mut below = u64::MAX;
    loop {
        let places = store.places_below(Group::Kind, EventType::LedgerKeyRotated.as_str(), below)?;
        let Some(first) = places.first() else { break };
        below = *first;
        rotations.splice(..0, places);
    }
    let mut keys = Keys::default();
    let invalid = |refusal: Refusal| OpenError::Store(format!("the index is damaged: {refusal}"));
    keys.take(created).map_err(invalid)?;
    for seq in rotations {
        let line = store.line(seq)?.unwrap_or_default();
        let event = chain::parse(&line).map_err(|flaw| OpenError::Store(format!("entry {seq} {flaw}")))?;
        keys.take(&event).map_err(invalid)?;
    }
    Ok(keys)
}

/// Moves the half line at the end of the journal into a file of its own and says how long it is. Dying between the
/// copy and the cut copies it again; the half line itself was never acknowledged.
fn set_aside(events: &Path, torn: &VerifyError) -> io::Result<u64> {
    let VerifyError::Torn { file: path, start, bytes, .. } = torn else { return Ok(0) };
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(*start))?;
    let mut half = Vec::new();
    (&file).take(MAX_TORN).read_to_end(&mut half)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let aside = events.join(format!("torn-{name}.bin"));
    let mut copy = OpenOptions::new().append(true).create(true).mode(0o600).open(aside)?;
    copy.write_all(&half)?;
    copy.sync_all()?;
    durable::sync_dir(events)?;
    file.set_len(*start)?;
    file.sync_all()?;
    Ok(*bytes)
}

/// What of a torn tail is kept for inspection: a power cut can leave any length of zeros.
const MAX_TORN: u64 = 1 << 20;
