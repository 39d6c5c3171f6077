//! The handle everybody holds: appends go to the writer, reads to what the writer has published.
//!
//! Contains no rules of its own.

use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use crate::amount::Amount;
use crate::append::{AppendError, Receipt, Recorded};
use crate::budget;
use crate::chain::Prepared;
use crate::event::Draft;
use crate::figures::Figures;
use crate::follower::Follower;
use crate::home::Home;
use crate::intent::{Intent, State};
use crate::kind::EventType;
use crate::once::Taken;
use crate::open::{self, OpenError, Opened};
use crate::past::{self, Page, Past};
use crate::principal::Principal;
use crate::query::{self, Query, ReadError};
use crate::shared::Shared;
use crate::space::{self, Room, Space};
use crate::standing::Standing;
use crate::state::Execution;
use crate::switch::KillSwitches;
use crate::texts;
use crate::verify::{Verified, VerifyError, survey};
use crate::writer::{Answer, Message, Submission, Urgency, Writer, now};

/// An open ledger. Clones share it; the directory is free again when the last one is gone.
#[derive(Clone, Debug)]
pub struct Ledger {
    inner: Arc<Inner>,
}

/// How to open a ledger.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub dir: PathBuf,
    /// How many submissions may wait for the writer before appends are refused as busy.
    pub queue: usize,
    /// Bytes of the file system to be kept free: with less, nothing new is authorised or held.
    pub reserve_bytes: u64,
}

/// The durable end of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the last entry.
    pub seq: u64,
    /// Hash of the last entry, which fixes all entries before it.
    pub entry_hash: String,
    /// Time of the last entry.
    pub ts: Timestamp,
    /// Name of this ledger, from entry 0.
    pub origin: String,
}

struct Inner {
    home: Home,
    origin: String,
    shared: Arc<Shared>,
    queue: SyncSender<Message>,
    reserve_bytes: u64,
    /// Taken by whoever stops them.
    threads: Mutex<Option<Threads>>,
}

/// The writer, and the follower with what closing the index came to.
struct Threads {
    writer: JoinHandle<()>,
    follower: JoinHandle<Result<(), AppendError>>,
}

// === impl Ledger ===

impl Ledger {
    /// Creates a ledger in `dir`: folders, signing key, entry 0 with `origin` and the public key. Refuses if any part of
    /// a ledger is there already.
    pub fn create(dir: &Path, origin: &str) -> Result<(), OpenError> {
        open::create(&Home::new(dir), origin)
    }

    /// Whether any part of a ledger is in `dir`. Then [`Ledger::open`] says what it is worth.
    pub fn exists(dir: &Path) -> bool {
        Home::new(dir).occupied().is_some()
    }

    /// Opens a ledger: takes the lock, checks the journal against the index, brings the index up to date, sets half a
    /// line at the end aside, and records as `action.unknown` every authorised send without an outcome.
    pub fn open(options: Options) -> Result<Ledger, OpenError> {
        Ledger::open_with_key(options, None)
    }

    /// [`Ledger::open`] with the signing key in a file outside the data directory.
    pub fn open_with_key(options: Options, key: Option<&Path>) -> Result<Ledger, OpenError> {
        let home = Home::new(&options.dir).with_key(key);
        let Opened { lock, origin, store, book, head, journal, checkpoints, torn_bytes } = open::open(&home)?;
        let time = now().max(head.ts);
        let is_interrupted = |one: &&Execution| one.ordered_until.is_none_or(|until| until <= time);
        let mut interrupted: Vec<_> = book.executions.values().filter(is_interrupted).cloned().collect();
        interrupted.sort_by(|a, b| a.correlation_id.cmp(&b.correlation_id));
        let executions = book.executions.keys().cloned().collect();
        let shared = Arc::new(Shared::new(lock, store, book, head, checkpoints));
        let (queue, receiver) = sync_channel(options.queue.max(1));
        let space = Space::new(options.dir.clone(), options.reserve_bytes);
        let writer = Writer::new(Arc::clone(&shared), receiver, journal, space);
        let threads = Threads::start(writer, Follower::new(Arc::clone(&shared), executions));
        let threads = threads.map_err(|source| OpenError::Io { path: options.dir.clone(), source })?;
        let threads = Mutex::new(Some(threads));
        let reserve_bytes = options.reserve_bytes;
        let ledger = Ledger { inner: Arc::new(Inner { home, origin, shared, queue, reserve_bytes, threads }) };
        for draft in open::recovery(interrupted, torn_bytes) {
            // One by one: each is complete in itself, and the next start finishes what this one does not.
            ledger.append_blocking(vec![draft]).map_err(OpenError::Recovery)?;
        }
        Ok(ledger)
    }

    /// Records drafts, all of them or none, next to each other, and returns once they are durable. Dropping the future
    /// after its first poll does not cancel the append.
    pub async fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Receipt>, AppendError> {
        self.append_by(drafts, Urgency::Now).await
    }

    /// Like [`Ledger::append`], for what nothing waits for: recorded together with the next append that is urgent, or
    /// after two milliseconds if there is none.
    pub async fn append_soon(&self, drafts: Vec<Draft>) -> Result<Vec<Receipt>, AppendError> {
        self.append_by(drafts, Urgency::Soon).await
    }

    /// Like [`Ledger::append`], for threads that may block.
    pub fn append_blocking(&self, drafts: Vec<Draft>) -> Result<Vec<Receipt>, AppendError> {
        let (sender, receiver) = sync_channel(1);
        self.submit(drafts, Urgency::Now, Box::new(move |answer| drop(sender.send(answer))))?;
        receiver.recv().unwrap_or_else(|_| Err(self.stopped())).map(Recorded::receipts)
    }

    /// Stores a text (a policy, a destination file) durably under its SHA-256 and returns that in hexadecimal.
    pub fn store_text(&self, text: &[u8]) -> Result<String, AppendError> {
        texts::store(&self.inner.home.texts(), text)
    }

    /// A stored text, checked against its digest; `None` if it was never stored.
    pub fn text(&self, sha256: &str) -> Result<Option<Vec<u8>>, ReadError> {
        texts::read(&self.inner.home.texts(), sha256)
    }

    /// The durable end of the ledger.
    pub fn head(&self) -> Head {
        let head = self.inner.shared.read(|published| published.head.clone());
        Head { seq: head.seq, entry_hash: head.entry_hash, ts: head.ts, origin: self.inner.origin.clone() }
    }

    /// Closes the ledger: every later append is refused until a restart. For whoever finds that it cannot be trusted.
    pub fn latch(&self, reason: &str) {
        drop(self.inner.shared.latch(reason.to_owned()));
    }

    /// An intent by id, whatever its state. If the index fails here, the ledger is closed.
    pub fn intent(&self, id: &str) -> Option<Intent> {
        self.or_latch(query::intent(&self.inner.shared, id))
    }

    /// Intents in one of `states` (in any, if empty), the one opened last first. If the index fails here, the ledger is
    /// closed.
    pub fn intents(&self, states: &[State], limit: usize) -> Vec<Intent> {
        self.or_latch(query::intents(&self.inner.shared, states, limit))
    }

    /// All agents ever registered, by name.
    pub fn agents(&self) -> Vec<Principal> {
        self.inner.shared.read(|published| published.book.agents.values().cloned().collect())
    }

    /// All operators ever added, by name.
    pub fn operators(&self) -> Vec<Principal> {
        self.inner.shared.read(|published| published.book.operators.values().cloned().collect())
    }

    /// The kill switches that are on. Cheap enough to ask on every request; and whatever was decided before one was on,
    /// no append authorises it after.
    pub fn kill_switches(&self) -> Arc<KillSwitches> {
        self.inner.shared.read(|published| Arc::clone(&published.book.switches))
    }

    /// Standing approvals that can still be used, by id.
    pub fn standings(&self) -> Vec<Standing> {
        let now = self.now();
        let mut standings: Vec<Standing> = self.inner.shared.read(|published| {
            published.book.standings.values().filter(|standing| standing.is_usable(now)).cloned().collect()
        });
        standings.sort_by(|a, b| a.id.cmp(&b.id));
        standings
    }

    /// What took `key`, if anything did and its time is not over.
    pub fn taken(&self, key: &str) -> Option<Taken> {
        let now = self.now();
        self.inner.shared.read(|published| published.book.taken.get(key).filter(|taken| taken.holds(now)).cloned())
    }

    /// Whether what was authorised under a correlation id has no outcome yet.
    pub fn is_executing(&self, correlation: &str) -> bool {
        self.inner.shared.read(|published| published.book.executions.contains_key(correlation))
    }

    /// How much is reserved under `key` in the last `window_seconds`.
    pub fn spent(&self, key: &str, window_seconds: u32) -> Amount {
        let (now, slot) = (self.now(), budget::slot(key, window_seconds));
        self.inner.shared.read(|published| published.book.windows.get(&slot).map_or(Amount::ZERO, |w| w.sum(now)))
    }

    /// The exact lines of entries, without newlines, in order.
    pub fn events(&self, query: &Query) -> Result<Vec<String>, ReadError> {
        query::events(&self.inner.shared, query)
    }

    /// The newest entries that match, newest first.
    pub fn past(&self, past: &Past) -> Result<Page, ReadError> {
        past::page(&self.inner.shared, past)
    }

    /// The number of the first entry that is not older than `time`; one past the last if all are.
    pub fn first_since(&self, time: Timestamp) -> Result<u64, ReadError> {
        past::first_since(&self.inner.shared, time)
    }

    /// How many entries of a type have a number in `range`.
    pub fn count(&self, kind: EventType, range: Range<u64>) -> Result<u64, ReadError> {
        past::count(&self.inner.shared, kind, range)
    }

    /// Verifies the journal on disk up to the present head.
    pub fn verify(&self) -> Result<Verified, VerifyError> {
        survey(&self.inner.home.events(), self.head().seq).map(|(verified, _)| verified)
    }

    /// Follows the number of the last durable entry.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.shared.seq.subscribe()
    }

    /// Why the ledger is closed to appends, if it is. Only a restart opens it again.
    pub fn latched(&self) -> Option<String> {
        self.inner.shared.latched().cloned()
    }

    /// What is free on the disk, looked at now.
    pub fn room(&self) -> Room {
        Room { free: space::free(self.inner.home.dir()), reserve: self.inner.reserve_bytes }
    }

    /// How it is doing.
    pub fn figures(&self) -> Figures {
        let shared = &self.inner.shared;
        Figures {
            commit_seconds: shared.commits.seconds(),
            commit_entries: shared.commits.entries(),
            behind: shared.backlog.behind() as u64,
            room: self.room(),
        }
    }

    /// Stops after everything already submitted, and flushes the index.
    pub fn close(self) -> Result<(), AppendError> {
        let stopped = self.inner.stop();
        // sled syncs once more when it goes, and panics if that fails.
        match catch_unwind(AssertUnwindSafe(move || drop(self))) {
            Ok(()) => stopped,
            Err(_) => Err(AppendError::Latched("the index could not be synced".to_owned())),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// The time an entry would have now.
    fn now(&self) -> Timestamp {
        now().max(self.inner.shared.read(|published| published.head.ts))
    }

    async fn append_by(&self, drafts: Vec<Draft>, urgency: Urgency) -> Result<Vec<Receipt>, AppendError> {
        // What a person approved is in a checkpoint before it is carried out: it cannot be denied later that it was so.
        if drafts.iter().any(|draft| draft.kind == EventType::ActionExecuting) {
            self.checkpointed().await?;
        }
        let (sender, receiver) = oneshot::channel();
        self.submit(drafts, urgency, Box::new(move |answer| drop(sender.send(answer))))?;
        receiver.await.unwrap_or_else(|_| Err(self.stopped())).map(Recorded::receipts)
    }

    fn submit(&self, drafts: Vec<Draft>, urgency: Urgency, answer: Answer) -> Result<(), AppendError> {
        self.inner.shared.check_open()?;
        let drafts = drafts.into_iter().map(Prepared::new).collect::<Result<_, _>>()?;
        let message = Message::Submit(Submission { drafts, urgency, answer });
        self.inner.queue.try_send(message).map_err(|error| match error {
            TrySendError::Disconnected(_) => self.stopped(),
            TrySendError::Full(_) => AppendError::Busy,
        })
    }

    fn stopped(&self) -> AppendError {
        AppendError::Latched(self.latched().unwrap_or_else(|| "it was closed".to_owned()))
    }

    /// A view that cannot be read is as bad as one that lies: nothing may be decided on it.
    fn or_latch<T: Default>(&self, read: Result<T, impl fmt::Display>) -> T {
        read.unwrap_or_else(|error| {
            drop(self.inner.shared.latch(error.to_string()));
            T::default()
        })
    }
}

// === impl Inner ===

impl Inner {
    fn stop(&self) -> Result<(), AppendError> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Threads { writer, follower }) = threads else { return Ok(()) };
        // A writer that is gone already has ended by a panic, and joining it says so.
        drop(self.queue.send(Message::Stop));
        match (writer.join(), follower.join()) {
            (Ok(()), Ok(flushed)) => flushed,
            // A panic has latched the ledger.
            (Err(_), _) | (_, Err(_)) => self.shared.check_open(),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("home", &self.home).field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left to hear an error; the journal is durable in any case.
        drop(self.stop());
    }
}

// === impl Threads ===

impl Threads {
    /// If the writer cannot be started the follower, which nobody will ever tell anything, is told that it can end.
    fn start(writer: Writer, follower: Follower) -> io::Result<Threads> {
        let shared = Arc::clone(follower.shared());
        let follower = thread::Builder::new().name("ledger-follower".to_owned()).spawn(move || follower.run())?;
        let writer = thread::Builder::new().name("ledger-writer".to_owned()).spawn(move || writer.run());
        let writer = writer.inspect_err(|_| shared.backlog.complete())?;
        Ok(Threads { writer, follower })
    }
}

#[cfg(test)]
mod tests;
