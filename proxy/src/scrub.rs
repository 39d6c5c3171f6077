//! Masks a credential in what comes back: a secret put in on the far side must not return to the agent.
//!
//! Every rendered form of the secret is looked for in the bytes as they stream by. Only bytes that may be the beginning
//! of one are held back, so a stream of events is not delayed. Masked bytes keep their number. What an upstream
//! deliberately disguises in another way cannot be found: that is what the binding to trusted hosts is for.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

mod forms;
mod needles;

pub use needles::Needles;

/// Looks for the secrets of one execution in one reply.
pub struct Scrubber {
    needles: Arc<Needles>,
    /// The end of what came: it may be the beginning of a secret.
    held: Held,
    /// Bytes masked so far.
    masked: u64,
}

/// The end of what came, which what follows may show to be a secret.
#[derive(Default)]
struct Held {
    /// As it came.
    came: Zeroizing<Vec<u8>>,
    /// As it will go on, without what went on already.
    shown: Vec<u8>,
}

// === impl Scrubber ===

impl Scrubber {
    /// Looks for what `needles` were made of.
    pub fn new(needles: Arc<Needles>) -> Scrubber {
        Scrubber { needles, held: Held::default(), masked: 0 }
    }

    /// How many bytes were masked so far.
    pub fn masked(&self) -> u64 {
        self.masked
    }

    /// Takes the next bytes of the body, and gives those that can go on now.
    pub fn push(&mut self, mut data: Bytes) -> Bytes {
        if !self.held.came.is_empty() {
            return self.join(&data);
        }
        let runs = self.needles.runs(&data);
        if !runs.is_empty() {
            return self.split(&data, &runs, data.to_vec());
        }
        // Nearly always: what goes on is what came, without a copy.
        let end = data.split_off(data.len() - self.needles.live(&data));
        self.held = Held { came: Zeroizing::new(end.to_vec()), shown: end.to_vec() };
        data
    }

    /// How many of the bytes that came last are held.
    pub fn holds(&self) -> usize {
        self.held.shown.len()
    }

    /// Whether so little is held that it gives nothing away.
    pub fn holds_little(&self) -> bool {
        !self.held.shown.is_empty() && self.held.came.len() <= LITTLE
    }

    /// What is held, for when nothing follows for now or at all. It is still known when more comes.
    pub fn release(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.held.shown))
    }

    /// Masks in the values of headers or trailers. A header whose name has it is removed.
    pub fn scrub_headers(&mut self, headers: &mut HeaderMap) {
        let named: Vec<_> =
            headers.keys().filter(|name| !self.needles.runs(name.as_str().as_bytes()).is_empty()).cloned().collect();
        for name in named {
            self.masked += name.as_str().len() as u64;
            headers.remove(name);
        }
        for value in headers.values_mut() {
            let runs = self.needles.runs(value.as_bytes());
            if runs.is_empty() {
                continue;
            }
            let mut shown = value.as_bytes().to_vec();
            self.masked += mask(&mut shown, runs.into_iter());
            *value = HeaderValue::from_bytes(&shown).unwrap_or(HeaderValue::from_static(""));
        }
    }

    /// Takes bytes that follow some that are held. What spans both shows where they meet: long data is not copied to be
    /// looked through once more.
    fn join(&mut self, data: &[u8]) -> Bytes {
        let (near, far) = data.split_at(data.len().min(self.needles.reach()));
        let came = Zeroizing::new([&self.held.came, near].concat());
        let gone = self.held.came.len() - self.held.shown.len();
        let moved = |run: &Range<usize>| run.start.saturating_sub(gone)..run.end.saturating_sub(gone);
        let mut runs: Vec<_> = self.needles.runs(&came).iter().map(moved).collect();
        let shown = [&self.held.shown, data].concat();
        if far.is_empty() {
            return self.split(&came, &runs, shown);
        }
        let held = self.held.shown.len();
        runs.extend(self.needles.runs(data).iter().map(|run| run.start + held..run.end + held));
        self.split(data, &runs, shown)
    }

    /// Masks the stretches `runs` of `shown`, and holds what may be a beginning at the end of what came.
    fn split(&mut self, came: &[u8], runs: &[Range<usize>], mut shown: Vec<u8>) -> Bytes {
        self.masked += mask(&mut shown, runs.iter().cloned());
        let live = self.needles.live(came);
        let held = shown.split_off(shown.len().saturating_sub(live));
        let (_, end) = came.split_at(came.len() - live);
        self.held = Held { came: Zeroizing::new(end.to_vec()), shown: held };
        Bytes::from(shown)
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Scrubber").field("masked", &self.masked).finish_non_exhaustive()
    }
}

/// Masks the stretches and says how many bytes were not masked before.
fn mask(shown: &mut [u8], runs: impl Iterator<Item = Range<usize>>) -> u64 {
    let mut fresh = 0;
    for run in runs {
        for byte in shown.get_mut(run).unwrap_or_default().iter_mut().filter(|byte| **byte != MASK) {
            *byte = MASK;
            fresh += 1;
        }
    }
    fresh
}

/// Bytes that a silent stream is not kept waiting for.
const LITTLE: usize = 3;

/// What stands in the place of each byte of a secret.
const MASK: u8 = b'*';

#[cfg(test)]
mod tests;
