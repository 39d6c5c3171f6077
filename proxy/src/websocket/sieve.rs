//! Looks for a credential in what comes back over a WebSocket, whatever frames it is cut into.
//!
//! Only what the frames carry is looked at, messages and control frames each in their order. Bytes that may be the
//! beginning of a secret wait until more of their message shows that they are not, or until it ends. Nothing is masked:
//! that would change a frame.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::frames::{Kind, Stretch};
use crate::scrub::{Needles, Scrubber};

/// One direction that is looked through.
#[derive(Debug)]
pub(super) struct Sieve {
    messages: Lane,
    controls: Lane,
    /// What came and may not go on yet.
    held: Vec<u8>,
}

/// What frames of one sort carry.
#[derive(Debug)]
struct Lane {
    scrubber: Scrubber,
    /// Where in the held bytes it stands.
    carried: Vec<Range<usize>>,
}

// === impl Sieve ===

impl Sieve {
    pub(super) fn new(needles: &Arc<Needles>) -> Sieve {
        let lane = || Lane { scrubber: Scrubber::new(Arc::clone(needles)), carried: Vec::new() };
        Sieve { messages: lane(), controls: lane(), held: Vec::new() }
    }

    /// Takes a piece and what its frames carry, and gives the bytes that can go on now.
    ///
    /// # Errors
    /// Why the connection has to end. Nothing that is held may be passed on then.
    pub(super) fn pass(&mut self, piece: &[u8], stretches: &[Stretch]) -> Result<Vec<u8>, &'static str> {
        let start = self.held.len();
        self.held.extend_from_slice(piece);
        for stretch in stretches {
            let lane = match stretch.kind {
                Kind::Data => &mut self.messages,
                Kind::Close | Kind::Other => &mut self.controls,
            };
            let carried = piece.get(stretch.range.clone()).unwrap_or_default();
            lane.carried.push(stretch.range.start + start..stretch.range.end + start);
            lane.take(carried, stretch.is_last)?;
        }
        let clear = [&self.messages, &self.controls].iter().filter_map(|lane| lane.waits_from()).min();
        let rest = self.held.split_off(clear.unwrap_or(self.held.len()));
        let clear = std::mem::replace(&mut self.held, rest);
        for lane in [&mut self.messages, &mut self.controls] {
            lane.move_up(clear.len());
        }
        if self.held.len() > MOST_HELD { Err(UNCLEAR) } else { Ok(clear) }
    }
}

// === impl Lane ===

impl Lane {
    fn take(&mut self, carried: &[u8], is_last: bool) -> Result<(), &'static str> {
        drop(self.scrubber.push(Bytes::copy_from_slice(carried)));
        if self.scrubber.masked() > 0 {
            return Err(super::ECHOED);
        }
        if is_last {
            // Its receiver has to have it. What it ended with is still known when the next one comes.
            drop(self.scrubber.release());
        }
        Ok(())
    }

    /// Where the first byte stands that may be of a secret.
    fn waits_from(&self) -> Option<usize> {
        let mut left = self.scrubber.holds();
        if left == 0 {
            return None;
        }
        for carried in self.carried.iter().rev() {
            if left <= carried.len() {
                return Some(carried.end - left);
            }
            left -= carried.len();
        }
        // All of what is here, then.
        Some(0)
    }

    /// So many of the held bytes went on.
    fn move_up(&mut self, gone: usize) {
        self.carried.retain(|carried| carried.end > gone);
        for carried in &mut self.carried {
            *carried = carried.start.saturating_sub(gone)..carried.end - gone;
        }
    }
}

/// Bytes that wait at most, heads of frames among them: a secret in its longest form is much shorter.
const MOST_HELD: usize = 1 << 20;

/// Said when so much comes between the pieces of a message that it cannot be looked through.
pub(super) const UNCLEAR: &str = "held_too_long";
