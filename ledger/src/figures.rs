//! Numbers about the ledger at work, for whoever watches it.
//!
//! Counted by the writer in passing, with relaxed atomics: nothing is decided on them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::space::Room;

/// How the ledger is doing, since it was opened.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Time of a commit, from the write to the end of its `fdatasync`, in seconds.
    pub commit_seconds: Histogram,
    /// Entries in a commit.
    pub commit_entries: Histogram,
    /// Durable entries that the index does not hold yet.
    pub behind: u64,
    /// Space on its disk.
    pub room: Room,
}

/// How often values of which size came.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Upper bound, and the number of values not above it; the last bound is infinite, so its number is that of all.
    pub buckets: Vec<(f64, u64)>,
    /// All values together.
    pub sum: f64,
}

/// What the writer counts.
#[derive(Debug)]
pub(crate) struct Commits {
    micros: Counts<13>,
    entries: Counts<9>,
}

/// Values by their size: one count for each bound, and one for what is above all of them.
#[derive(Debug)]
struct Counts<const N: usize> {
    bounds: [u64; N],
    counts: [AtomicU64; N],
    above: AtomicU64,
    sum: AtomicU64,
}

// === impl Commits ===

impl Commits {
    pub(crate) fn record(&self, entries: usize, took: Duration) {
        self.micros.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.entries.add(entries as u64);
    }

    pub(crate) fn seconds(&self) -> Histogram {
        self.micros.histogram(1e-6)
    }

    pub(crate) fn entries(&self) -> Histogram {
        self.entries.histogram(1.0)
    }
}

impl Default for Commits {
    fn default() -> Commits {
        Commits { micros: Counts::new(MICROS), entries: Counts::new(ENTRIES) }
    }
}

// === impl Counts ===

impl<const N: usize> Counts<N> {
    fn new(bounds: [u64; N]) -> Counts<N> {
        let counts = std::array::from_fn(|_| AtomicU64::default());
        Counts { bounds, counts, above: AtomicU64::default(), sum: AtomicU64::default() }
    }

    fn add(&self, value: u64) {
        let fitting = self.bounds.iter().zip(&self.counts).find(|(bound, _)| value <= **bound);
        fitting.map_or(&self.above, |(_, count)| count).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// As it is now, each value being so many `units`.
    fn histogram(&self, unit: f64) -> Histogram {
        let mut all = 0;
        let mut buckets = Vec::with_capacity(N + 1);
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            all += count.load(Ordering::Relaxed);
            buckets.push((*bound as f64 * unit, all));
        }
        buckets.push((f64::INFINITY, all + self.above.load(Ordering::Relaxed)));
        Histogram { buckets, sum: self.sum.load(Ordering::Relaxed) as f64 * unit }
    }
}

/// Bounds for the time of a commit: a fast disk is below 0.2 ms, a stalled one above a second.
const MICROS: [u64; 13] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 4_000_000];

/// Bounds for the entries of a commit.
const ENTRIES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_not_above_its_bound() {
        let commits = Commits::default();
        for (entries, micros) in [(1, 50), (2, 51), (300, 5_000_000)] {
            commits.record(entries, Duration::from_micros(micros));
        }
        let (seconds, entries) = (commits.seconds(), commits.entries());
        assert_eq!(seconds.buckets.iter().map(|(_, count)| *count).take(3).collect::<Vec<_>>(), [1, 2, 2]);
        assert_eq!(seconds.buckets.last().unwrap(), &(f64::INFINITY, 3));
        assert!((seconds.sum - 5.000_101).abs() < 1e-9, "{seconds:?}");
        assert_eq!((entries.buckets[0], entries.buckets[1], entries.buckets[8]), ((1.0, 1), (2.0, 2), (256.0, 2)));
    }
}
