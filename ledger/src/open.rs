//! Creating, opening and rebuilding a ledger: every check that stands between a start and the first append.
//!
//! Refuses instead of guessing: nothing that was ever acknowledged is dropped here. What a crash legitimately leaves (half
//! a line, an index behind the journal, sends without an outcome) is repaired and recorded.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::append::AppendError;
use crate::batch::Batch;
use crate::chain::{self, Entry, Link, Prepared, Stamp};
use crate::durable;
use crate::event::{Draft, Event};
use crate::home::{Home, Lock};
use crate::journal::{Journal, Position};
use crate::kind::EventType;
use crate::note::Signer;
use crate::state::{Book, Execution};
use crate::store::{Applied, Store, StoreError};
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
    pub(crate) torn_bytes: u64,
}

/// Journal entries on their way into the index.
struct Replay {
    store: Store,
    book: Book,
    batch: Batch,
    /// The last entry taken, and where its line is.
    end: Option<(Link, Position)>,
    /// What a crash left behind the last complete line.
    torn: Option<VerifyError>,
}

/// Creates a ledger: folders, signing key, entry 0.
pub(crate) fn create(dir: &Path, origin: &str) -> Result<(), OpenError> {
    if origin.is_empty() || origin.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control()) {
        return Err(OpenError::Origin(origin.to_owned()));
    }
    let home = Home::new(dir);
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    durable::create_dir(dir).map_err(io)?;
    let _lock = home.lock()?;
    if let Some(path) = home.occupied() {
        return Err(OpenError::Exists { path });
    }
    durable::create_dir(&home.keys()).map_err(io)?;
    durable::create_dir(&home.texts()).map_err(io)?;
    let public_key = home.create_key(origin).map_err(io)?;
    let draft = Draft::new(EventType::LedgerCreated).with("origin", origin).with("public_key", public_key);
    let sealed = Prepared::new(draft).and_then(|prepared| chain::seal(None, &Stamp::new(now()), prepared));
    let entry = sealed.map_err(OpenError::Recovery)?;
    // The journal appears last. Dying before leaves a key without a ledger, which no later start mistakes for an empty
    // ledger: it says what is missing.
    durable::create_dir(&home.events()).map_err(io)?;
    Journal::create(&home.events(), &day_of(entry.event.ts), &entry.line).map_err(io)
}

/// Opens a ledger for writing.
pub(crate) fn open(dir: &Path) -> Result<Opened, OpenError> {
    let home = Home::new(dir);
    check_parts(&home)?;
    let lock = home.lock()?;
    let created = first_entry(&home)?;
    let origin = origin_of(&created);
    if created.text("public_key") != Some(home.signer()?.verifier().to_string().as_str()) {
        return Err(OpenError::ForeignKey { path: home.key() });
    }
    let Replay { store, book, end, torn, .. } = catch_up(&home)?;
    let events = home.events();
    let (head, position) = end.ok_or_else(|| VerifyError::Empty { dir: events.clone() })?;
    let io = |source| OpenError::Io { path: events.clone(), source };
    let torn_bytes = torn.map_or(Ok(0), |torn| set_aside(&events, &torn)).map_err(io)?;
    let journal = Journal::open(&events, position).map_err(io)?;
    Ok(Opened { lock, origin, store, book, head, journal, torn_bytes })
}

/// Verifies the journal and builds the index anew from it.
pub fn rebuild(dir: &Path) -> Result<Verified, OpenError> {
    let home = Home::new(dir);
    check_parts(&home)?;
    let _lock = home.lock()?;
    let (verified, _torn) = survey(&home.events(), u64::MAX)?;
    let replay = from_journal(&home)?;
    replay.store.flush()?;
    Ok(verified)
}

/// The key that the ledger in a data directory signs with.
///
/// # Errors
/// [`OpenError`] when it is not there, not a key, or open to others.
pub fn signing_key(dir: &Path) -> Result<Signer, OpenError> {
    Home::new(dir).signer()
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

/// The parts of a ledger that cannot be built anew must be there, all or none.
fn check_parts(home: &Home) -> Result<(), OpenError> {
    if home.occupied().is_none() {
        return Err(OpenError::Absent { dir: home.dir().to_owned() });
    }
    match [home.events(), home.key()].into_iter().find(|path| !path.exists()) {
        None => Ok(()),
        Some(path) => Err(OpenError::Missing { path }),
    }
}

fn first_entry(home: &Home) -> Result<Event, OpenError> {
    let events = home.events();
    let first = Walk::from_start(&events)?.step()?;
    first.map(|(entry, _)| entry.event).ok_or(OpenError::Verify(VerifyError::Empty { dir: events }))
}

/// Brings the index up to date with the journal. An index that is damaged, or contradicts a journal that verifies, is
/// thrown away: it holds nothing the journal does not.
fn catch_up(home: &Home) -> Result<Replay, OpenError> {
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

fn from_journal(home: &Home) -> Result<Replay, OpenError> {
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

/// Entries per step while the index is brought up to date.
const REPLAY_BATCH: usize = 256;

/// What of a torn tail is kept for inspection: a power cut can leave any length of zeros.
const MAX_TORN: u64 = 1 << 20;
