//! Whose turn it is on one connection: what its reading side and the code that answers know of each other.
//!
//! A request's turn lasts from the moment it is handed over until the last part of its answer is. What stands behind it
//! is not looked at before that (RFC 9112 section 9.3.2), and a connection with a turn under way is not idle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;

use crate::refusal::Refusal;

/// The turns of one connection, shared by its two sides.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

/// One request's turn, until dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    number: u64,
}

#[derive(Debug)]
struct Shared {
    /// How many turns have begun and how many have ended.
    counts: watch::Sender<(u64, u64)>,
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
        let mut number = 0;
        self.0.counts.send_modify(|(begun, _)| {
            number = *begun;
            *begun += 1;
        });
        Turn { turns: self.clone(), number }
    }

    /// Keeps the refusal of request `number`, counted from 0; the first one counts.
    pub fn refuse(&self, number: u64, refusal: Refusal) {
        self.found().refused.get_or_insert((number, refusal));
    }

    /// Remembers that more stands behind request `number`.
    pub fn follow(&self, number: u64) {
        self.found().followed = Some(number);
    }

    /// Ready when the first `requests` have had their turns.
    pub fn poll_ended(&self, requests: u64, context: &mut Context<'_>) -> Poll<()> {
        let mut found = self.found();
        if self.0.counts.borrow().1 >= requests {
            return Poll::Ready(());
        }
        found.waiting = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready when there was no turn for this long.
    pub async fn idle_for(&self, time: Duration) {
        let mut changes = self.0.counts.subscribe();
        loop {
            let (begun, ended) = *changes.borrow_and_update();
            match tokio::time::timeout(time, changes.changed()).await {
                Err(_) if begun == ended => return,
                Err(_) | Ok(Ok(())) => {}
                Ok(Err(_)) => return,
            }
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Turns {
    fn default() -> Turns {
        Turns(Arc::new(Shared { counts: watch::Sender::new((0, 0)), found: Mutex::default() }))
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

    /// Whether the client sent more behind this request without waiting for its answer.
    pub fn is_followed(&self) -> bool {
        self.turns.found().followed == Some(self.number)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.counts.send_modify(|(_, ended)| *ended += 1);
        let waiting = self.turns.found().waiting.take();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}
