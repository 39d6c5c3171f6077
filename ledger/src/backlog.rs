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

#[derive(Debug, Default)]
struct Gathered {
    step: Option<Step>,
    /// Entries of the step the follower is busy with.
    in_hand: usize,
    /// Nothing more will come.
    complete: bool,
    /// The follower takes nothing more.
    abandoned: bool,
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
        if begins || gathered.step.as_ref().is_some_and(Step::is_full) {
            self.grown.notify_one();
        }
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

    /// Waits until a step is due and takes it, the one before being finished. `None` once nothing more will come.
    pub(crate) fn next(&self) -> Option<Step> {
        let mut gathered = self.lock();
        gathered.in_hand = 0;
        self.shrunk.notify_one();
        loop {
            let left =
                gathered.step.as_ref().map(|step| if step.is_full() { Duration::ZERO } else { step.time_left() });
            gathered = match left {
                None if gathered.complete => return None,
                None => self.grown.wait(gathered).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() || gathered.complete => break,
                Some(left) => self.grown.wait_timeout(gathered, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        let step = gathered.step.take();
        gathered.in_hand = step.as_ref().map_or(0, |step| step.entries);
        step
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Gathered ===

impl Gathered {
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
        let taken = backlog.next().unwrap();
        assert_eq!((taken.applied.last.seq, taken.entries), (9, 5));
        assert!(backlog.next().is_none());
    }

    #[test]
    fn a_step_is_due_when_it_is_full_or_old() {
        let backlog = Backlog::default();
        backlog.add(step(STEP_ENTRIES as u64, STEP_ENTRIES));
        let begun = Instant::now();
        assert!(backlog.next().is_some());
        assert!(begun.elapsed() < STEP_AFTER / 2);
        backlog.add(step(STEP_ENTRIES as u64 + 1, 1));
        assert!(backlog.next().is_some());
        assert!(begun.elapsed() >= STEP_AFTER);
    }

    #[test]
    fn a_writer_too_far_ahead_waits_for_the_step_in_hand() {
        let backlog = Arc::new(Backlog::default());
        backlog.add(step(1, MAX_BEHIND));
        drop(backlog.next());
        backlog.add(step(2, STEP_ENTRIES));
        let writer = Arc::clone(&backlog);
        let waits = thread::spawn(move || writer.wait_for_room());
        thread::sleep(Duration::from_millis(50));
        assert!(!waits.is_finished());
        drop(backlog.next());
        waits.join().unwrap();
        // A follower that has ended must not be waited for.
        backlog.add(step(3, MAX_BEHIND));
        backlog.abandon();
        backlog.wait_for_room();
    }
}
