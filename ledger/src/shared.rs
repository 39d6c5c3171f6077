//! What the threads of the ledger share with everybody who reads: the durable state, the index, and why the ledger is
//! closed if it is.
//!
//! Contains no rules: the writer alone publishes, the follower alone takes back what the index has.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tokio::sync::watch;

use crate::append::AppendError;
use crate::backlog::Backlog;
use crate::chain::{Entry, Link};
use crate::checkpoints::Checkpoints;
use crate::figures::Commits;
use crate::home::Lock;
use crate::state::{Book, Changes};
use crate::store::Store;

/// Everything the handle, the writer and the follower have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Held as long as anybody uses the directory.
    #[expect(dead_code, reason = "held, never read")]
    lock: Lock,
    /// The index; lacks what is in [`Published::fresh`].
    pub(crate) store: Store,
    /// What the index lacks, as a step that the follower takes.
    pub(crate) backlog: Backlog,
    /// What was signed of the entries in the index.
    pub(crate) checkpoints: Checkpoints,
    /// How large commits are and how long they take.
    pub(crate) commits: Commits,
    /// Number of the last durable entry.
    pub(crate) seq: watch::Sender<u64>,
    published: RwLock<Published>,
    /// Why the ledger is closed. Set once; only a restart, which verifies, starts over.
    latch: OnceLock<String>,
}

/// The durable state of the ledger.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) book: Book,
    pub(crate) head: Link,
    /// Durable entries that the index does not hold yet, in order, by commit.
    pub(crate) fresh: VecDeque<Arc<Vec<Entry>>>,
}

// === impl Shared ===

impl Shared {
    /// The state of a ledger just opened, whose index is complete.
    pub(crate) fn new(lock: Lock, store: Store, book: Book, head: Link, checkpoints: Checkpoints) -> Shared {
        let (seq, _) = watch::channel(head.seq);
        let published = RwLock::new(Published { book, head, fresh: VecDeque::new() });
        let (backlog, commits) = (Backlog::default(), Commits::default());
        Shared { lock, store, backlog, checkpoints, commits, seq, published, latch: OnceLock::new() }
    }

    /// Reads the published state. A poisoned lock is no reason to stop: a panicking writer has latched the ledger.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Published) -> T) -> T {
        read(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes what has become durable, and says what that and the time changed.
    pub(crate) fn publish(&self, head: Link, entries: Arc<Vec<Entry>>, mut changes: Changes) -> Changes {
        let (seq, now) = (head.seq, head.ts);
        let over = self.change(|published| {
            published.book.merge(&changes);
            published.head = head;
            published.fresh.push_back(entries);
            published.book.sweep(now)
        });
        self.seq.send_replace(seq);
        changes.absorb(over);
        changes
    }

    /// Forgets entries up to `seq`, which the index holds by now, and the intents that came to an end in them.
    pub(crate) fn forget(&self, seq: u64, changes: &Changes) {
        let is_old = |entries: &Arc<Vec<Entry>>| entries.last().is_none_or(|last| last.event.seq <= seq);
        let forgotten: Vec<_> = self.change(|published| {
            published.book.forget_settled(changes);
            let old = published.fresh.partition_point(is_old);
            published.fresh.drain(..old).collect()
        });
        // Not under the lock: there may be thousands.
        drop(forgotten);
    }

    /// Closes the ledger; the first reason stays.
    pub(crate) fn latch(&self, reason: String) -> AppendError {
        let reason = self.latch.get_or_init(|| reason).clone();
        // Whoever waits for a checkpoint looks up.
        self.checkpoints.size.send_modify(|_| {});
        AppendError::Latched(reason)
    }

    /// Why the ledger is closed, if it is.
    pub(crate) fn latched(&self) -> Option<&String> {
        self.latch.get()
    }

    /// Refuses if the ledger is closed.
    pub(crate) fn check_open(&self) -> Result<(), AppendError> {
        self.latched().map_or(Ok(()), |reason| Err(AppendError::Latched(reason.clone())))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Published) -> T) -> T {
        change(&mut self.published.write().unwrap_or_else(PoisonError::into_inner))
    }
}
