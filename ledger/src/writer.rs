//! The one thread that writes: takes submissions from a bounded queue and commits them in groups.
//!
//! Order of a commit: check, write, `fdatasync`, publish, wake. Nothing is published or acknowledged before it is
//! durable. After any failure it writes nothing more: every later submission is refused until a restart has verified
//! what is on disk.
//!
//! The index follows in larger steps: once it lacks [`STEP_ENTRIES`], [`STEP_AFTER`] the first of them, and when the
//! ledger closes. It costs several times what the journal costs if every commit goes there by itself, because the cost
//! is in keys and pages and not in entries; and a send opened and closed within one step never enters its views. So it
//! is a bounded number of entries behind, fewer than `STEP_ENTRIES` and one group. Readers get those from memory, a
//! start after a crash from the journal. The price: if the journal lost its end between a crash and that start, it shows
//! only as far as the index had come.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::append::{AppendError, Receipt};
use crate::batch::Batch;
use crate::chain::{Entry, Link};
use crate::crash;
use crate::event::Draft;
use crate::home::Lock;
use crate::journal::{Journal, Position};
use crate::state::{Book, Changes};
use crate::store::Store;
use crate::verify::day_of;

/// What the writer receives.
pub(crate) enum Message {
    /// Ends the writer after what was queued before; answered when everything is flushed.
    Stop(SyncSender<Result<(), AppendError>>),
    /// Wants to be recorded.
    Submit(Submission),
}

/// Drafts that are recorded together, and whom to tell.
pub(crate) struct Submission {
    pub(crate) drafts: Vec<Draft>,
    pub(crate) answer: Answer,
}

/// Called exactly once. Whoever waits may be gone by then; that does not cancel anything.
pub(crate) type Answer = Box<dyn FnOnce(Result<Vec<Receipt>, AppendError>) + Send>;

/// What the writer shares with everybody who reads.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Held as long as anybody uses the directory.
    #[expect(dead_code, reason = "held, never read")]
    pub(crate) lock: Lock,
    /// The index; lacks what is in [`Published::fresh`].
    pub(crate) store: Store,
    /// Replaced by the writer only.
    pub(crate) published: RwLock<Published>,
    /// Number of the last durable entry.
    pub(crate) seq: watch::Sender<u64>,
    /// Why the ledger is closed. Set once; only a restart, which verifies, starts over.
    pub(crate) latch: OnceLock<String>,
}

/// The durable state of the ledger.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) book: Book,
    pub(crate) head: Link,
    /// Durable entries that the index does not hold yet, in order, by commit.
    pub(crate) fresh: Vec<Arc<Vec<Entry>>>,
}

/// The thread's own state.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Receiver<Message>,
    pub(crate) journal: Journal,
    /// The next step of the index, if it lacks anything.
    pub(crate) step: Option<Step>,
}

/// What the entries in [`Published::fresh`] amount to.
pub(crate) struct Step {
    /// When the first of them was committed.
    since: Instant,
    entries: usize,
    changes: Changes,
    /// Where the last of them is.
    position: Position,
}

/// Latches the ledger if the thread ends by a panic, so that nobody waits for an answer that cannot come.
struct Watchdog(Arc<Shared>);

// === impl Shared ===

impl Shared {
    /// Reads the published state. A poisoned lock is no reason to stop: a panicking writer has latched the ledger.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Published) -> T) -> T {
        read(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes the ledger; the first reason stays.
    pub(crate) fn latch(&self, reason: String) -> AppendError {
        AppendError::Latched(self.latch.get_or_init(|| reason).clone())
    }

    /// Refuses if the ledger is closed.
    pub(crate) fn check_open(&self) -> Result<(), AppendError> {
        self.latch.get().map_or(Ok(()), |reason| Err(AppendError::Latched(reason.clone())))
    }

    fn change(&self, change: impl FnOnce(&mut Published)) {
        change(&mut self.published.write().unwrap_or_else(PoisonError::into_inner));
    }
}

// === impl Writer ===

impl Writer {
    /// Serves until told to stop or until nobody is left who could submit.
    pub(crate) fn run(mut self) {
        let _watchdog = Watchdog(Arc::clone(&self.shared));
        while let Some(message) = self.next() {
            let (group, stop) = self.gather(message);
            self.commit(group);
            self.index_if_due();
            if let Some(answer) = stop {
                self.index();
                let flushed = self.shared.store.flush().map_err(|error| self.shared.latch(error.to_string()));
                // Whoever asked to stop may be gone; the writer stops all the same.
                drop(answer.send(flushed));
                return;
            }
        }
    }

    /// Waits for the next message; `None` if none can come. The index does not wait for one longer than its time.
    fn next(&mut self) -> Option<Message> {
        if let Some(step) = &self.step {
            match self.queue.recv_timeout(STEP_AFTER.saturating_sub(step.since.elapsed())) {
                Err(_) => self.index(),
                Ok(message) => return Some(message),
            }
        }
        self.queue.recv().ok()
    }

    /// Takes what waits already: while one group is being synced the next one gathers by itself.
    fn gather(&self, first: Message) -> (Vec<Submission>, Option<SyncSender<Result<(), AppendError>>>) {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Stop(answer) => return (group, Some(answer)),
                Message::Submit(submission) => group.push(submission),
            }
            next = if group.len() < MAX_GROUP { self.queue.try_recv().ok() } else { None };
        }
        (group, None)
    }

    fn commit(&mut self, group: Vec<Submission>) {
        let head = self.shared.read(|published| published.head.clone());
        let ts = now().max(head.ts);
        let mut batch = Batch::behind(Some(head));
        // Dying anywhere up to the write loses nothing: nobody was answered and nothing is on disk.
        let checked: Vec<_> =
            group.into_iter().map(|one| (one.answer, self.check(&mut batch, ts, one.drafts))).collect();
        let Batch { last, entries, changes } = batch;
        let entries = Arc::new(entries);
        let written = self.write(&entries);
        if let (Ok(Some(_)), Some(head)) = (&written, last) {
            self.publish(head, &entries, &changes);
        }
        for (answer, checked) in checked {
            // A refusal stands whatever became of the others: it was given against entries that come before it.
            answer(checked.and_then(|range| match &written {
                Err(reason) => Err(AppendError::Latched(reason.clone())),
                Ok(_) => Ok(receipts(&entries, range)),
            }));
        }
        crash::point("waiters.woken");
        // Dying before or inside the next step of the index leaves it behind; opening replays what it lacks.
        if let Ok(Some(position)) = written {
            let step = self.step.get_or_insert_with(|| Step::new(position.clone()));
            step.entries += entries.len();
            step.changes.absorb(changes);
            step.position = position;
        }
    }

    fn check(&self, batch: &mut Batch, ts: Timestamp, drafts: Vec<Draft>) -> Result<Range<usize>, AppendError> {
        self.shared.check_open()?;
        let added = self.shared.read(|published| batch.add(&published.book, &self.shared.store, ts, drafts));
        if let Err(AppendError::Latched(reason)) = &added {
            self.shared.latch(reason.clone());
        }
        added
    }

    /// Makes the entries durable; `None` if there are none. Any error latches.
    fn write(&mut self, entries: &[Entry]) -> Result<Option<Position>, String> {
        let Some(first) = entries.first() else { return Ok(None) };
        if let Some(reason) = self.shared.latch.get() {
            return Err(reason.clone());
        }
        let lines = entries.iter().map(|entry| entry.line.as_str());
        let written = self.journal.append(&day_of(first.event.ts), lines);
        written.map(Some).map_err(|error| {
            let reason = format!("writing the journal failed: {error}");
            self.shared.latch(reason.clone());
            reason
        })
    }

    fn publish(&self, head: Link, entries: &Arc<Vec<Entry>>, changes: &Changes) {
        let seq = head.seq;
        self.shared.change(|published| {
            published.book.merge(changes);
            published.head = head;
            published.fresh.push(Arc::clone(entries));
        });
        self.shared.seq.send_replace(seq);
    }

    fn index_if_due(&mut self) {
        if self.step.as_ref().is_some_and(Step::is_due) {
            self.index();
        }
    }

    /// Brings the index up to date. Until then readers get from memory what it lacks.
    fn index(&mut self) {
        let Some(step) = self.step.take().filter(|_| self.shared.latch.get().is_none()) else { return };
        let applied = self.shared.read(|published| {
            let entries = published.fresh.iter().flat_map(|entries| entries.iter());
            self.shared.store.apply(entries, &step.changes, &published.book, &step.position)
        });
        match applied {
            Err(error) => drop(self.shared.latch(error.to_string())),
            Ok(()) => self.shared.change(|published| {
                published.book.settled.clear();
                published.fresh.clear();
            }),
        }
        crash::point("store.applied");
    }
}

// === impl Step ===

impl Step {
    fn new(position: Position) -> Step {
        Step { since: Instant::now(), entries: 0, changes: Changes::default(), position }
    }

    fn is_due(&self) -> bool {
        self.entries >= STEP_ENTRIES || self.since.elapsed() >= STEP_AFTER
    }
}

// === impl Watchdog ===

impl Drop for Watchdog {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.latch("the writer stopped unexpectedly".to_owned()));
        }
    }
}

/// Receipts for a range of durable entries.
fn receipts(entries: &[Entry], range: Range<usize>) -> Vec<Receipt> {
    let sealed = entries.get(range).unwrap_or_default();
    sealed.iter().filter_map(|entry| Receipt::of(&entry.event)).collect()
}

/// The time in whole microseconds, as the format holds it. Outside the years the format knows, the clock is as good as
/// stopped: the caller never goes back behind the last entry.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap_or(Timestamp::MIN)
}

/// Submissions in one commit. More would only make the first of them wait longer.
const MAX_GROUP: usize = 256;

/// Entries the index takes in one step, or more of them if they come in one group. Enough for most sends to be opened and
/// closed within a step even when 256 wait for each other; a step delays the next group by some milliseconds.
const STEP_ENTRIES: usize = 512;

/// How long an entry may be missing from the index.
const STEP_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::handle::{Ledger, Options};
    use crate::kind::EventType;
    use crate::open::{self, Opened};

    fn drafts(turn: usize) -> Vec<Draft> {
        let draft = |kind| Draft::new(kind).correlation(format!("corr_{turn}")).agent("crawler");
        vec![draft(EventType::DecisionAllowed), draft(EventType::ActionExecuted)]
    }

    /// How many entries only memory holds.
    fn fresh(shared: &Shared) -> usize {
        shared.read(|published| published.fresh.iter().map(|entries| entries.len()).sum())
    }

    fn writer(dir: &Path, queue: Receiver<Message>) -> Writer {
        let Opened { lock, store, book, head, journal, .. } = open::open(dir).unwrap();
        let (seq, _) = watch::channel(head.seq);
        let published = RwLock::new(Published { book, head, fresh: Vec::new() });
        let shared = Arc::new(Shared { lock, store, published, seq, latch: OnceLock::new() });
        Writer { shared, queue, journal, step: None }
    }

    #[test]
    fn the_index_is_a_bounded_number_of_entries_behind() {
        let home = tempfile::tempdir().unwrap();
        Ledger::create(home.path(), "example.com/test").unwrap();
        let (_sender, receiver) = sync_channel(1);
        let mut writer = writer(home.path(), receiver);
        let mut most = 0;
        for turn in 0..STEP_ENTRIES {
            writer.commit(vec![Submission { drafts: drafts(turn), answer: Box::new(|_| {}) }]);
            most = most.max(fresh(&writer.shared));
            writer.index_if_due();
        }
        assert!((3..=STEP_ENTRIES).contains(&most), "{most}");
        // As if nothing had come for a while.
        writer.commit(vec![Submission { drafts: drafts(STEP_ENTRIES), answer: Box::new(|_| {}) }]);
        assert!(fresh(&writer.shared) >= 2);
        if let Some(step) = &mut writer.step {
            step.since -= STEP_AFTER;
        }
        writer.index_if_due();
        assert_eq!(fresh(&writer.shared), 0);
        let (applied, _) = writer.shared.store.load().unwrap().unwrap();
        assert_eq!(applied.last, writer.shared.read(|published| published.head.clone()));
    }

    #[test]
    fn a_writer_nobody_can_reach_any_more_leaves_a_complete_index() {
        let home = tempfile::tempdir().unwrap();
        Ledger::create(home.path(), "example.com/test").unwrap();
        let (sender, receiver) = sync_channel(1);
        let writer = writer(home.path(), receiver);
        let shared = Arc::clone(&writer.shared);
        sender.send(Message::Submit(Submission { drafts: drafts(0), answer: Box::new(|_| {}) })).unwrap();
        drop(sender);
        writer.run();
        assert_eq!((fresh(&shared), shared.store.load().unwrap().unwrap().0.last.seq), (0, 2));
    }

    #[test]
    fn what_a_latched_ledger_did_not_index_is_replayed() {
        let home = tempfile::tempdir().unwrap();
        Ledger::create(home.path(), "example.com/test").unwrap();
        let ledger = Ledger::open(Options { dir: home.path().to_owned(), queue: 64 }).unwrap();
        drop(ledger.append_blocking(drafts(0)).unwrap());
        ledger.latch("found out");
        ledger.close().unwrap();
        // What the index lacks it gets from the journal.
        let ledger = Ledger::open(Options { dir: home.path().to_owned(), queue: 64 }).unwrap();
        let query = crate::Query { correlation: Some("corr_0".to_owned()), ..crate::Query::default() };
        assert_eq!(ledger.events(&query).unwrap().len(), 2);
    }
}
