//! The second thread: brings the index up to date with what the journal has made durable, in steps.
//!
//! The writer never waits for the index unless it is too far behind, because a step takes as long as many commits: its
//! cost is in keys and pages, not in entries. So the index is a bounded number of entries behind. Readers get those
//! from memory, a start after a crash from the journal. The price: if the journal lost its end between a crash and that
//! start, it shows only as far as the index or a checkpoint had come.
//!
//! Behind a step it signs a checkpoint of what the index has, so that what was written is in one within little more than a
//! second.
//!
//! Never touches the journal. An index that fails closes the ledger.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::append::AppendError;
use crate::backlog::Step;
use crate::chain::Entry;
use crate::crash;
use crate::kind::{EventType, Kind};
use crate::shared::Shared;

/// The thread's own state.
#[derive(Debug)]
pub(crate) struct Follower {
    shared: Arc<Shared>,
    /// Entries the index has.
    indexed: u64,
    /// When the last checkpoint was made, and when the next has to be if anything is not in one.
    checkpointed: Instant,
    checkpoint_at: Option<Instant>,
    /// Correlation ids of the executions that the index holds. Most begin and end within a step and never enter it.
    executions: HashSet<String>,
}

/// Lets the writer go on whatever ended the thread, and latches the ledger if that was a panic.
struct End(Arc<Shared>);

// === impl Follower ===

impl Follower {
    /// A follower of a ledger whose index is complete; `executions` are open there.
    pub(crate) fn new(shared: Arc<Shared>, executions: HashSet<String>) -> Follower {
        let indexed = shared.read(|published| published.head.seq + 1);
        // What a crash left without a checkpoint gets one at once.
        Follower { shared, indexed, checkpointed: Instant::now(), checkpoint_at: Some(Instant::now()), executions }
    }

    /// What the follower shares with the others.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Follows until nothing more will come, then flushes the index.
    pub(crate) fn run(mut self) -> Result<(), AppendError> {
        let _end = End(Arc::clone(&self.shared));
        loop {
            let work = self.shared.backlog.next(self.checkpoint_at);
            // What a closed ledger did not index is replayed by the start that verifies it.
            if let Some(step) = work.step.filter(|_| self.shared.latched().is_none()) {
                self.take(step)?;
            }
            if work.hurried || work.ended || self.checkpoint_at.is_some_and(|at| at <= Instant::now()) {
                self.checkpoint()?;
            }
            if work.ended {
                break;
            }
        }
        self.shared.store.flush().map_err(|error| self.shared.latch(error.to_string()))
    }

    fn take(&mut self, mut step: Step) -> Result<(), AppendError> {
        let seq = step.applied.last.seq;
        step.changes.executions.retain(|correlation, change| match change {
            None => self.executions.remove(correlation),
            Some(_) => {
                self.executions.insert(correlation.clone());
                true
            }
        });
        let fresh: Vec<Arc<Vec<Entry>>> = self.shared.read(|published| {
            let due = |entries: &&Arc<Vec<Entry>>| entries.last().is_some_and(|last| last.event.seq <= seq);
            published.fresh.iter().take_while(due).cloned().collect()
        });
        let entries = fresh.iter().flat_map(|entries| entries.iter());
        // Dying before or inside this leaves the index behind; opening replays what it lacks.
        let applied = self.shared.store.apply(entries, &step.changes, &step.applied);
        applied.map_err(|error| self.shared.latch(error.to_string()))?;
        let rotated = |entry: &Entry| entry.event.kind == Kind::Known(EventType::LedgerKeyRotated);
        if fresh.iter().any(|entries| entries.iter().any(rotated)) {
            let turned = self.shared.checkpoints.rotate();
            turned.map_err(|error| self.shared.latch(format!("turning to the next key failed: {error}")))?;
        }
        // Only now: who does not find an entry in memory must find it in the index.
        self.shared.forget(seq, &step.changes);
        crash::point("store.applied");
        self.indexed = seq + 1;
        self.checkpoint_at.get_or_insert_with(|| self.checkpointed + PAUSE);
        Ok(())
    }

    /// Signs what the index has.
    fn checkpoint(&mut self) -> Result<(), AppendError> {
        self.checkpoint_at = None;
        if self.shared.latched().is_some() {
            return Ok(());
        }
        let made = self.shared.checkpoints.make(&self.shared.store, self.indexed);
        made.map_err(|error| self.shared.latch(error.to_string()))?;
        crash::point("checkpoint.made");
        self.checkpointed = Instant::now();
        Ok(())
    }
}

// === impl End ===

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.latch("the index stopped unexpectedly".to_owned()));
        }
        self.0.backlog.abandon();
    }
}

/// Between two checkpoints while much is written: each costs two syncs, which the journal's have to wait for.
const PAUSE: Duration = Duration::from_millis(750);
