//! Whose turn it is on one connection: what its reading side and the code that answers know of each other.
//!
//! A request's turn lasts from the moment it is handed over until the last part of its answer is. What stands behind it
//! is not looked at before that (RFC 9112 section 9.3.2). A connection is idle when the gate owes it nothing: a client that
//! does not take what is there for it may wait no longer than one that asks for nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::refusal::Refusal;

/// The turns of one connection, shared by its two sides.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Shared>);

/// One request's turn, until dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    number: u64,
    /// Whether the client waits for the gate, or the other way around.
    owed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Turns in which the client waits for the gate.
    owed: AtomicUsize,
    /// How often any of these changed.
    moves: AtomicU64,
    /// Whether the connection is handed over with the end of the turn under way.
    open: AtomicBool,
    found: Mutex<Found>,
}

/// What the reading side found, kept for the code that answers.
#[derive(Debug, Default)]
struct Found {
    /// Which request was refused while it was read, and why.
    refused: Option<(u64, Refusal)>,
    /// The last request behind which more was sent before its answer could be known.
    followed: Option<u64>,
    /// The reading side, where it waits for a turn to end.
    waiting: Option<Waker>,
}

// === impl Turns ===

impl Turns {
    /// A turn for the next request that hyper hands over.
    pub fn begin(&self) -> Turn {
        let number = self.0.begun.fetch_add(1, Ordering::SeqCst);
        let mut turn = Turn { turns: self.clone(), number, owed: false };
        turn.owe(true);
        turn
    }

    /// Keeps the refusal of request `number`, counted from 0; the first one counts.
    pub fn refuse(&self, number: u64, refusal: Refusal) {
        self.found().refused.get_or_insert((number, refusal));
    }

    /// Remembers that more stands behind request `number`.
    pub fn follow(&self, number: u64) {
        self.found().followed = Some(number);
    }

    /// Whether the connection is handed over: no request comes any more.
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::SeqCst)
    }

    /// Ready when the first `requests` have had their turns.
    pub fn poll_ended(&self, requests: u64, context: &mut Context<'_>) -> Poll<()> {
        let mut found = self.found();
        if self.0.ended.load(Ordering::SeqCst) >= requests {
            return Poll::Ready(());
        }
        found.waiting = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready when nothing was owed and nothing was taken: for `unread` with a turn under way, for `idle` without. It may
    /// take twice as long to notice.
    pub async fn at_rest(&self, idle: Duration, unread: Duration) {
        loop {
            let before = self.0.moves.load(Ordering::SeqCst);
            let under_way = self.0.begun.load(Ordering::SeqCst) != self.0.ended.load(Ordering::SeqCst);
            tokio::time::sleep(if under_way { unread } else { idle }).await;
            if self.0.owed.load(Ordering::SeqCst) == 0 && self.0.moves.load(Ordering::SeqCst) == before {
                return;
            }
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Turn ===

impl Turn {
    /// The refusal of this request, if its head or its body was refused while it was read.
    pub fn refusal(&self) -> Option<Refusal> {
        let mut found = self.turns.found();
        match found.refused.as_ref() {
            Some((at, _)) if *at == self.number => found.refused.take().map(|(_, refusal)| refusal),
            Some(_) | None => None,
        }
    }

    /// Hands the connection over when this turn ends.
    pub fn open(&self) {
        self.turns.0.open.store(true, Ordering::SeqCst);
    }

    /// Says whether the client waits for the gate now, or has not taken yet what is there.
    pub fn owe(&mut self, owed: bool) {
        if self.owed == owed {
            return;
        }
        self.owed = owed;
        let shared = &self.turns.0;
        if owed {
            shared.owed.fetch_add(1, Ordering::SeqCst)
        } else {
            shared.owed.fetch_sub(1, Ordering::SeqCst)
        };
        shared.moves.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the client sent more behind this request without waiting for its answer.
    pub fn is_followed(&self) -> bool {
        self.turns.found().followed == Some(self.number)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.owe(false);
        self.turns.0.ended.fetch_add(1, Ordering::SeqCst);
        let waiting = self.turns.found().waiting.take();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}
