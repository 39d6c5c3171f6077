//! How many requests were executed, blocked, failed or held in each of the last hours, as bars.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use ledger::{EventType, Ledger, ReadError};

/// Counts so far of the last hours: what was counted never changes, so only what came since is looked at.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<i64, Counted>>);

/// What one hour had up to an entry.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    hour: Hour,
    /// The first entry that is not counted yet.
    next: u64,
    /// Nothing more can come.
    is_over: bool,
}

/// What one hour had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hour([u64; 4]);

/// Bars, oldest hour first, in a picture [`WIDTH`] by [`HEIGHT`].
pub(super) struct Chart {
    pub(super) bars: Vec<Bar>,
    pub(super) total: [u64; 4],
    pub(super) most: u64,
}

/// One hour's bar.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) x: u64,
    pub(super) parts: Vec<Part>,
    pub(super) counts: [u64; 4],
}

/// One colour of a bar.
pub(super) struct Part {
    pub(super) class: &'static str,
    pub(super) y: u64,
    pub(super) height: u64,
}

// === impl Counts ===

impl Counts {
    /// The last 24 hours, the one under way included.
    pub(super) fn chart(&self, ledger: &Ledger, now: Timestamp) -> Result<Chart, ReadError> {
        let current = now.as_second().div_euclid(SECONDS);
        let mut hours = Vec::new();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|hour, _| *hour > current - HOURS);
        for hour in current - HOURS + 1..=current {
            let mut counted = known.get(&hour).copied().unwrap_or_default();
            if !counted.is_over {
                counted.go_on(ledger, hour)?;
                // An entry of the last second of an hour may still be on its way.
                counted.is_over = hour < current - 1;
                known.insert(hour, counted);
            }
            hours.push((hour, counted.hour));
        }
        Ok(Chart::of(&hours))
    }
}

// === impl Counted ===

impl Counted {
    fn go_on(&mut self, ledger: &Ledger, hour: i64) -> Result<(), ReadError> {
        let start = Timestamp::from_second(hour * SECONDS).unwrap_or(Timestamp::MIN);
        let end = start.checked_add(SignedDuration::from_secs(SECONDS)).unwrap_or(Timestamp::MAX);
        let (from, to) = (ledger.first_since(start)?.max(self.next), ledger.first_since(end)?);
        if from >= to {
            return Ok(());
        }
        for (count, (_, _, kinds)) in self.hour.0.iter_mut().zip(CLASSES) {
            for kind in *kinds {
                *count += ledger.count(*kind, from..to)?;
            }
        }
        self.next = to;
        Ok(())
    }
}

// === impl Chart ===

impl Chart {
    fn of(hours: &[(i64, Hour)]) -> Chart {
        let most = hours.iter().map(|(_, hour)| hour.0.iter().sum::<u64>()).max().unwrap_or(0);
        let mut total = [0; 4];
        for (_, hour) in hours {
            total.iter_mut().zip(hour.0).for_each(|(sum, count)| *sum += count);
        }
        let bars = (0..).zip(hours).map(|(place, (hour, counts))| Bar::of(place, *hour, *counts, most.max(1)));
        Chart { bars: bars.collect(), total, most }
    }

    /// Name, class and sum of each colour.
    pub(super) fn legend(&self) -> Vec<(&'static str, &'static str, u64)> {
        CLASSES.iter().zip(self.total).map(|((name, class, _), sum)| (*name, *class, sum)).collect()
    }
}

// === impl Bar ===

impl Bar {
    fn of(place: u64, hour: i64, counts: Hour, most: u64) -> Bar {
        let start = Timestamp::from_second(hour * SECONDS).unwrap_or(Timestamp::MIN);
        let mut parts = Vec::new();
        let mut top = HEIGHT;
        for (count, (_, class, _)) in counts.0.iter().zip(CLASSES) {
            let height = (count * HEIGHT).div_ceil(most).min(top);
            top -= height;
            if height > 0 {
                parts.push(Part { class, y: top, height });
            }
        }
        Bar {
            label: start.strftime("%H:00 UTC").to_string(),
            x: place * WIDTH / HOURS.unsigned_abs(),
            parts,
            counts: counts.0,
        }
    }
}

/// Name, class and events of each colour, bottom first.
const CLASSES: &[(&str, &str, &[EventType])] = &[
    ("executed", "executed", &[EventType::ActionExecuted]),
    ("blocked", "blocked", &[EventType::DecisionDenied, EventType::RequestRefused]),
    ("failed", "failed", &[EventType::ActionFailed, EventType::ActionUnknown]),
    ("held", "held", &[EventType::DecisionApprovalRequired]),
];

/// Hours in the picture.
const HOURS: i64 = 24;

/// Seconds of an hour.
const SECONDS: i64 = 3600;

/// Of the picture, in its own units.
pub(super) const WIDTH: u64 = 960;

/// See [`WIDTH`].
pub(super) const HEIGHT: u64 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fit_the_picture_and_show_what_is_rare() {
        let chart = Chart::of(&[(0, Hour([1000, 1, 0, 0])), (1, Hour([0, 0, 3, 1]))]);
        assert_eq!(chart.most, 1001);
        assert_eq!(chart.total, [1000, 1, 3, 1]);
        for bar in &chart.bars {
            assert!(bar.parts.iter().map(|part| part.height).sum::<u64>() <= HEIGHT);
        }
        let rare: Vec<&str> = chart.bars[1].parts.iter().map(|part| part.class).collect();
        assert_eq!(rare, ["failed", "held"]);
    }
}
