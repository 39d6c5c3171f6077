//! The second thread: brings the index up to date with what the journal has made durable, in steps.
//!
//! The writer never waits for the index unless it is too far behind, because a step takes as long as many commits: its
//! cost is in keys and pages, not in entries. So the index is a bounded number of entries behind. Readers get those
//! from memory, a start after a crash from the journal. The price: if the journal lost its end between a crash and that
//! start, it shows only as far as the index had come.
//!
//! Never touches the journal. An index that fails closes the ledger.

use std::collections::HashSet;
use std::sync::Arc;

use crate::append::AppendError;
use crate::backlog::Step;
use crate::chain::Entry;
use crate::crash;
use crate::shared::Shared;

/// The thread's own state.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) shared: Arc<Shared>,
    /// Correlation ids of the executions that the index holds. Most begin and end within a step and never enter it.
    pub(crate) executions: HashSet<String>,
}

/// Lets the writer go on whatever ended the thread, and latches the ledger if that was a panic.
struct End(Arc<Shared>);

// === impl Follower ===

impl Follower {
    /// Follows until nothing more will come, then flushes the index.
    pub(crate) fn run(mut self) -> Result<(), AppendError> {
        let _end = End(Arc::clone(&self.shared));
        while let Some(step) = self.shared.backlog.next() {
            // What a closed ledger did not index is replayed by the start that verifies it.
            if self.shared.latched().is_none() {
                self.take(step)?;
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
        // Only now: who does not find an entry in memory must find it in the index.
        self.shared.forget(seq, &step.changes);
        crash::point("store.applied");
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
