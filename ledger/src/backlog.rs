//! What the index lacks: gathered by the writer, taken in steps by the follower.
//!
//! Keeps order and stays bounded: a writer too far ahead waits. Knows when a step is due, not what is done with it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::state::Changes;
use crate::store::Applied;

/// The steps between writer and follower.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    gathered: Mutex<Gathered>,
    /// A step begins, is due, or no more will come.
    grown: Condvar,
    /// The follower has finished a step, or has ended.
    shrunk: Condvar,
}

/// Consecutive durable entries that the index takes in one go.
#[derive(Debug)]
pub(crate) struct Step {
    /// How far the index has come with this step.
    pub(crate) applied: Applied,
    /// What the entries change in the state.
    pub(crate) changes: Changes,
    /// How many entries there are.
    pub(crate) entries: usize,
    /// When the first of them became durable.
    since: Instant,
}

/// How long to wait for something to do.
enum Wait {
    Any,
    For(Duration),
}

#[derive(Debug, Default)]
struct Gathered {
    step: Option<Step>,
    /// Entries of the step the follower is busy with.
    in_hand: usize,
    /// Nothing more will come.
    complete: bool,
    /// The follower takes nothing more.
    abandoned: bool,
    /// Entries in all steps taken.
    taken: u64,
    /// Somebody waits for a checkpoint of so many entries.
    wanted: Option<u64>,
}

/// What the follower has to do next.
#[derive(Debug)]
pub(crate) struct Work {
    /// A step that is due.
    pub(crate) step: Option<Step>,
    /// A checkpoint is wanted at once.
    pub(crate) hurried: bool,
    /// Nothing more will come.
    pub(crate) ended: bool,
}

// === impl Backlog ===

impl Backlog {
    /// Adds what has become durable behind everything added before.
    pub(crate) fn add(&self, more: Step) {
        let mut gathered = self.lock();
        let begins = gathered.step.is_none();
        match &mut gathered.step {
            None => gathered.step = Some(more),
            Some(step) => step.extend(more),
        }
        if begins || gathered.wanted.is_some() || gathered.step.as_ref().is_some_and(Step::is_full) {
            self.grown.notify_one();
        }
    }

    /// Entries that the index lacks.
    pub(crate) fn behind(&self) -> usize {
        self.lock().behind()
    }

    /// Waits while the index is too far behind. Does not wait for a follower that has ended: its end closed the ledger.
    pub(crate) fn wait_for_room(&self) {
        let mut gathered = self.lock();
        while !gathered.abandoned && gathered.behind() >= MAX_BEHIND {
            gathered = self.shrunk.wait(gathered).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that nothing more will come.
    pub(crate) fn complete(&self) {
        self.lock().complete = true;
        self.grown.notify_one();
    }

    /// Says that nothing more will be taken.
    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
        self.shrunk.notify_one();
    }

    /// Asks for the first `size` entries to be taken at once, those still on their way included.
    pub(crate) fn hurry(&self, size: u64) {
        let mut gathered = self.lock();
        gathered.wanted = gathered.wanted.max(Some(size));
        drop(gathered);
        self.grown.notify_one();
    }

    /// Waits until a step is due and takes it, the one before being finished; no longer than `until`.
    pub(crate) fn next(&self, until: Option<Instant>) -> Work {
        let mut gathered = self.lock();
        gathered.in_hand = 0;
        self.shrunk.notify_one();
        while let Some(wait) = gathered.time_left(until) {
            gathered = match wait {
                Wait::Any => self.grown.wait(gathered).unwrap_or_else(PoisonError::into_inner),
                Wait::For(left) => self.grown.wait_timeout(gathered, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        let due = gathered.complete || gathered.wanted.is_some() || gathered.step.as_ref().is_some_and(Step::is_due);
        let step = if due { gathered.step.take() } else { None };
        gathered.in_hand = step.as_ref().map_or(0, |step| step.entries);
        gathered.taken = step.as_ref().map_or(gathered.taken, |step| step.applied.last.seq + 1);
        let ended = gathered.complete && step.is_none();
        let hurried = gathered.has_wanted();
        if hurried {
            gathered.wanted = None;
        }
        Work { step, hurried, ended }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Gathered ===

impl Gathered {
    /// How long there is nothing to do; `None` if there is something.
    fn time_left(&self, until: Option<Instant>) -> Option<Wait> {
        if self.complete || self.has_wanted() || (self.wanted.is_some() && self.step.is_some()) {
            return None;
        }
        let step = self.step.as_ref().map(|step| if step.is_full() { Duration::ZERO } else { step.time_left() });
        let until = until.map(|until| until.saturating_duration_since(Instant::now()));
        match step.into_iter().chain(until).min() {
            None => Some(Wait::Any),
            Some(left) => (!left.is_zero()).then_some(Wait::For(left)),
        }
    }

    /// Whether what somebody waits for has been taken.
    fn has_wanted(&self) -> bool {
        self.wanted.is_some_and(|size| size <= self.taken)
    }

    fn behind(&self) -> usize {
        self.in_hand + self.step.as_ref().map_or(0, |step| step.entries)
    }
}

// === impl Step ===

impl Step {
    /// A step that begins with entries just made durable.
    pub(crate) fn new(applied: Applied, changes: Changes, entries: usize) -> Step {
        Step { applied, changes, entries, since: Instant::now() }
    }

    fn extend(&mut self, more: Step) {
        self.applied = more.applied;
        self.changes.absorb(more.changes);
        self.entries += more.entries;
    }

    fn is_due(&self) -> bool {
        self.is_full() || self.time_left().is_zero()
    }

    fn is_full(&self) -> bool {
        self.entries >= STEP_ENTRIES
    }

    fn time_left(&self) -> Duration {
        STEP_AFTER.saturating_sub(self.since.elapsed())
    }
}

/// Entries that are worth a step. In large ones most sends are opened and closed again and never enter the views, and a
/// page of the index is written once for many keys.
const STEP_ENTRIES: usize = 2048;

/// How long an entry may be missing from the index while nothing else happens.
const STEP_AFTER: Duration = Duration::from_secs(1);

/// Entries the index may lack before the writer waits: they are in memory, and a start after a crash replays them.
const MAX_BEHIND: usize = 4 * STEP_ENTRIES;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use jiff::Timestamp;

    use super::*;
    use crate::chain::Link;
    use crate::journal::Position;

    fn step(seq: u64, entries: usize) -> Step {
        let last = Link { seq, entry_hash: String::new(), ts: Timestamp::UNIX_EPOCH };
        let position = Position { day: "2025-01-31".to_owned(), line: 0, start: 0, end: 0 };
        let applied = Applied { last, prev_hash: String::new(), position, live: [0; 8] };
        Step::new(applied, Changes::default(), entries)
    }

    #[test]
    fn what_gathers_is_one_step_that_ends_with_the_last() {
        let backlog = Backlog::default();
        backlog.add(step(7, 3));
        backlog.add(step(9, 2));
        backlog.complete();
        let taken = backlog.next(None).step.unwrap();
        assert_eq!((taken.applied.last.seq, taken.entries), (9, 5));
        assert!(backlog.next(None).ended);
    }

    #[test]
    fn a_step_is_due_when_it_is_full_or_old() {
        let backlog = Backlog::default();
        backlog.add(step(STEP_ENTRIES as u64, STEP_ENTRIES));
        let begun = Instant::now();
        assert!(backlog.next(None).step.is_some());
        assert!(begun.elapsed() < STEP_AFTER / 2);
        backlog.add(step(STEP_ENTRIES as u64 + 1, 1));
        assert!(backlog.next(None).step.is_some());
        assert!(begun.elapsed() >= STEP_AFTER);
    }

    #[test]
    fn what_somebody_waits_for_is_taken_at_once_even_if_it_is_still_on_its_way() {
        let backlog = Arc::new(Backlog::default());
        backlog.hurry(8);
        let writer = Arc::clone(&backlog);
        let writes = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            writer.add(step(5, 6));
            thread::sleep(Duration::from_millis(20));
            writer.add(step(7, 2));
        });
        let begun = Instant::now();
        let work = backlog.next(None);
        assert!(work.step.is_some_and(|step| step.applied.last.seq == 5) && !work.hurried);
        let work = backlog.next(None);
        assert!(work.step.is_some_and(|step| step.applied.last.seq == 7) && work.hurried);
        assert!(begun.elapsed() < STEP_AFTER / 2);
        writes.join().unwrap();
        // What was taken before needs no step.
        backlog.hurry(3);
        assert!(backlog.next(None).hurried);
    }

    #[test]
    fn a_writer_too_far_ahead_waits_for_the_step_in_hand() {
        let backlog = Arc::new(Backlog::default());
        backlog.add(step(1, MAX_BEHIND));
        drop(backlog.next(None));
        backlog.add(step(2, STEP_ENTRIES));
        let writer = Arc::clone(&backlog);
        let waits = thread::spawn(move || writer.wait_for_room());
        thread::sleep(Duration::from_millis(50));
        assert!(!waits.is_finished());
        drop(backlog.next(None));
        waits.join().unwrap();
        // A follower that has ended must not be waited for.
        backlog.add(step(3, MAX_BEHIND));
        backlog.abandon();
        backlog.wait_for_room();
    }
}
