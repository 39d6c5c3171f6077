//! The one thread that writes: takes submissions from a bounded queue and commits them in groups.
//!
//! Order of a commit: check, write, `fdatasync`, publish, wake. Nothing is published or acknowledged before it is
//! durable. After any failure it writes nothing more: every later submission is refused until a restart has verified
//! what is on disk.
//!
//! What nobody waits for, such as the outcome of a live request, is in no hurry: it shares the `fdatasync` of the next
//! submission that is. A commit of its own would stand in front of that connection's next request.
//!
//! A crowd is let gather: the more submissions the last commit held, the longer the next one waits for company, up to
//! [`MAX_PAUSE`]. Each `fdatasync` and each waking costs the processor what a request costs; alone nobody waits.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::append::{AppendError, Recorded};
use crate::backlog::Step;
use crate::batch::Batch;
use crate::chain::{Entry, Prepared, Stamp};
use crate::crash;
use crate::journal::{Journal, Position};
use crate::shared::Shared;
use crate::space::Space;
use crate::state::Changes;
use crate::store::Applied;
use crate::verify::day_of;

/// What the writer receives.
pub(crate) enum Message {
    /// Ends the writer after what was queued before.
    Stop,
    /// Wants to be recorded.
    Submit(Submission),
}

/// Drafts that are recorded together, and whom to tell.
pub(crate) struct Submission {
    pub(crate) drafts: Vec<Prepared>,
    pub(crate) urgency: Urgency,
    pub(crate) answer: Answer,
}

/// Whether somebody waits for a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Recorded with the next one that is urgent, and after [`PATIENCE`] in any case.
    Soon,
    /// Recorded at once.
    Now,
}

/// Called exactly once. Whoever waits may be gone by then; that does not cancel anything.
pub(crate) type Answer = Box<dyn FnOnce(Result<Recorded, AppendError>) + Send>;

/// The thread's own state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    queue: Receiver<Message>,
    journal: Journal,
    space: Space,
    stopped: bool,
    /// Urgent submissions of the last commit.
    crowd: u32,
}

/// Lets the follower finish whatever ended the thread, and latches the ledger if that was a panic, so that nobody waits
/// for an answer that cannot come.
struct End(Arc<Shared>);

// === impl Writer ===

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, queue: Receiver<Message>, journal: Journal, space: Space) -> Writer {
        Writer { shared, queue, journal, space, stopped: false, crowd: 0 }
    }

    /// Serves until told to stop or until nobody is left who could submit.
    pub(crate) fn run(mut self) {
        let _end = End(Arc::clone(&self.shared));
        while let Some(group) = self.gather() {
            self.commit(group);
            self.shared.backlog.wait_for_room();
        }
    }

    /// The submissions of the next commit, in order; `None` when no more will come. While one group is being synced the
    /// next one gathers by itself.
    fn gather(&mut self) -> Option<Vec<Submission>> {
        let mut group: Vec<Submission> = Vec::new();
        let mut urgency = Urgency::Soon;
        let mut until = None;
        let mut crowd = 0;
        while !self.stopped && group.len() < MAX_GROUP {
            let Some(message) = self.next(urgency, until) else { break };
            let Message::Submit(submission) = message else {
                self.stopped = true;
                break;
            };
            if submission.urgency > urgency {
                self.let_gather();
            }
            crowd += u32::from(submission.urgency == Urgency::Now);
            urgency = urgency.max(submission.urgency);
            until.get_or_insert_with(|| Instant::now() + PATIENCE);
            group.push(submission);
        }
        self.crowd = crowd;
        (!group.is_empty()).then_some(group)
    }

    /// Asleep, not in the queue: there each that comes would wake this thread.
    fn let_gather(&self) {
        if let Some(pause) = pause(self.crowd) {
            thread::sleep(pause);
        }
    }

    /// The next message that the group being gathered can wait for.
    fn next(&self, urgency: Urgency, until: Option<Instant>) -> Option<Message> {
        match (urgency, until) {
            (Urgency::Now, _) => self.queue.try_recv().ok(),
            (Urgency::Soon, None) => self.queue.recv().ok(),
            (Urgency::Soon, Some(until)) => {
                self.queue.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
            }
        }
    }

    fn commit(&mut self, group: Vec<Submission>) {
        let head = self.shared.read(|published| published.head.clone());
        let stamp = Stamp::new(now().max(head.ts));
        let mut batch = Batch::behind(Some(head));
        self.space.look();
        // Dying anywhere up to the write loses nothing: nobody was answered and nothing is on disk.
        let checked: Vec<_> =
            group.into_iter().map(|one| (one.answer, self.check(&mut batch, &stamp, one.drafts))).collect();
        let Batch { last, entries, changes } = batch;
        let entries = Arc::new(entries);
        let written = self.write(&entries);
        let changes = match (&written, last) {
            (Ok(Some(_)), Some(head)) => self.shared.publish(head, Arc::clone(&entries), changes),
            (Err(_) | Ok(_), _) => Changes::default(),
        };
        for (answer, checked) in checked {
            // A refusal stands whatever became of the others: it was given against entries that come before it.
            answer(checked.and_then(|range| match &written {
                Err(reason) => Err(AppendError::Latched(reason.clone())),
                Ok(_) => Ok(Recorded { entries: Arc::clone(&entries), range }),
            }));
        }
        crash::point("waiters.woken");
        if let (Ok(Some(position)), Some(last)) = (written, entries.last()) {
            let applied = self.shared.read(|published| Applied::up_to(&last.event, &position, &published.book));
            self.shared.backlog.add(Step::new(applied, changes, entries.len()));
        }
    }

    fn check(&self, batch: &mut Batch, stamp: &Stamp, drafts: Vec<Prepared>) -> Result<Range<usize>, AppendError> {
        self.shared.check_open()?;
        drafts.iter().try_for_each(|draft| self.space.check(draft.kind()))?;
        let added = self.shared.read(|published| batch.add(&published.book, &self.shared.store, stamp, drafts));
        if let Err(AppendError::Latched(reason)) = &added {
            self.shared.latch(reason.clone());
        }
        added
    }

    /// Makes the entries durable; `None` if there are none. Any error latches.
    fn write(&mut self, entries: &[Entry]) -> Result<Option<Position>, String> {
        let Some(first) = entries.first() else { return Ok(None) };
        if let Some(reason) = self.shared.latched() {
            return Err(reason.clone());
        }
        let lines = entries.iter().map(|entry| entry.line.as_str());
        let begun = Instant::now();
        let written = self.journal.append(&day_of(first.event.ts), lines);
        self.shared.commits.record(entries.len(), begun.elapsed());
        written.map(Some).map_err(|error| {
            let reason = format!("writing the journal failed: {error}");
            self.shared.latch(reason.clone());
            reason
        })
    }
}

// === impl End ===

impl Drop for End {
    fn drop(&mut self) {
        if thread::panicking() {
            drop(self.0.latch("the writer stopped unexpectedly".to_owned()));
        }
        self.0.backlog.complete();
    }
}

/// How long a commit waits for company, after one of that many urgent submissions.
fn pause(crowd: u32) -> Option<Duration> {
    (crowd > COMPANY).then(|| PAUSE.saturating_mul(crowd).min(MAX_PAUSE))
}

/// The time in whole microseconds, as the format holds it. Outside the years the format knows, the clock is as good as
/// stopped: the caller never goes back behind the last entry.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap_or(Timestamp::MIN)
}

/// Submissions in one commit. More would only make the first of them wait longer.
const MAX_GROUP: usize = 256;

/// How long a submission that is in no hurry waits for one that is.
const PATIENCE: Duration = Duration::from_millis(2);

/// So many urgent submissions in one commit are no crowd yet.
const COMPANY: u32 = 2;

/// What the next commit waits for each of the last one.
const PAUSE: Duration = Duration::from_micros(50);

/// The longest such wait, a few times what a commit takes.
const MAX_PAUSE: Duration = Duration::from_micros(500);

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::{SyncSender, sync_channel};

    use super::*;
    use crate::event::Draft;
    use crate::handle::{Ledger, Options};
    use crate::home::Home;
    use crate::kind::EventType;
    use crate::open::{self, Opened};

    fn drafts(turn: usize) -> Vec<Draft> {
        let draft = |kind| Draft::new(kind).correlation(format!("corr_{turn}")).agent("crawler");
        vec![draft(EventType::DecisionAllowed), draft(EventType::ActionExecuted)]
    }

    fn submission(turn: usize, urgency: Urgency) -> Message {
        let drafts = drafts(turn).into_iter().map(|draft| Prepared::new(draft).unwrap()).collect();
        Message::Submit(Submission { drafts, urgency, answer: Box::new(|_| {}) })
    }

    fn writer(dir: &Path) -> (Writer, SyncSender<Message>, Arc<Shared>) {
        Ledger::create(dir, "example.com/test").unwrap();
        let Opened { lock, store, book, head, journal, checkpoints, .. } = open::open(&Home::new(dir)).unwrap();
        let (sender, receiver) = sync_channel(64);
        let shared = Arc::new(Shared::new(lock, store, book, head, checkpoints));
        (Writer::new(Arc::clone(&shared), receiver, journal, Space::new(dir.to_owned(), 0)), sender, shared)
    }

    #[test]
    fn what_is_in_no_hurry_shares_the_next_urgent_commit() {
        let home = tempfile::tempdir().unwrap();
        let (mut writer, queue, _shared) = writer(home.path());
        for (turn, urgency) in [Urgency::Soon, Urgency::Soon, Urgency::Now, Urgency::Soon].into_iter().enumerate() {
            queue.send(submission(turn, urgency)).unwrap();
        }
        assert_eq!(writer.gather().unwrap().len(), 4);
        // Alone it waits, and not for long.
        let begun = Instant::now();
        queue.send(submission(4, Urgency::Soon)).unwrap();
        assert_eq!(writer.gather().unwrap().len(), 1);
        assert!(begun.elapsed() >= PATIENCE);
        // An end is not waited for, and nothing is lost by it.
        queue.send(submission(5, Urgency::Soon)).unwrap();
        queue.send(Message::Stop).unwrap();
        assert_eq!(writer.gather().unwrap().len(), 1);
        assert!(writer.gather().is_none());
    }

    #[test]
    fn a_crowd_is_let_gather_and_nobody_waits_alone() {
        assert_eq!([pause(0), pause(1), pause(2)], [None; 3]);
        assert_eq!(pause(4), Some(Duration::from_micros(200)));
        assert_eq!([pause(64), pause(u32::MAX)], [Some(MAX_PAUSE); 2]);
        let home = tempfile::tempdir().unwrap();
        let (mut writer, queue, _shared) = writer(home.path());
        for turn in 0..4 {
            queue.send(submission(turn, Urgency::Now)).unwrap();
        }
        queue.send(submission(4, Urgency::Soon)).unwrap();
        assert_eq!(writer.gather().unwrap().len(), 5);
        assert_eq!(writer.crowd, 4);
        // The next commit takes what comes while it pauses.
        let begun = Instant::now();
        queue.send(submission(5, Urgency::Now)).unwrap();
        assert_eq!(writer.gather().unwrap().len(), 1);
        assert!(begun.elapsed() >= Duration::from_micros(200));
        assert_eq!(writer.crowd, 1);
    }

    #[test]
    fn a_writer_nobody_can_reach_any_more_leaves_everything_to_the_follower() {
        let home = tempfile::tempdir().unwrap();
        let (writer, queue, shared) = writer(home.path());
        queue.send(submission(0, Urgency::Soon)).unwrap();
        drop(queue);
        writer.run();
        assert_eq!(shared.read(|published| published.fresh.len()), 1);
        let step = shared.backlog.next(None).step.unwrap();
        assert_eq!((step.applied.last.seq, step.entries), (2, 2));
        assert!(shared.backlog.next(None).ended);
    }

    #[test]
    fn what_a_latched_ledger_did_not_index_is_replayed() {
        let home = tempfile::tempdir().unwrap();
        Ledger::create(home.path(), "example.com/test").unwrap();
        let ledger = Ledger::open(Options { dir: home.path().to_owned(), queue: 64, reserve_bytes: 0 }).unwrap();
        drop(ledger.append_blocking(drafts(0)).unwrap());
        ledger.latch("found out");
        ledger.close().unwrap();
        // What the index lacks it gets from the journal.
        let ledger = Ledger::open(Options { dir: home.path().to_owned(), queue: 64, reserve_bytes: 0 }).unwrap();
        let query = crate::Query { correlation: Some("corr_0".to_owned()), ..crate::Query::default() };
        assert_eq!(ledger.events(&query).unwrap().len(), 2);
    }
}
