//! Budgets and rate limits: what was reserved in a sliding window of time, and whether more fits.
//!
//! Pure: the time is that of the entry, so a restart comes to the same sums. Never decides what a key stands for.
//!
//! A window is a row of at most 61 buckets. A bucket counts as long as any moment of it lies within the window, so the
//! limit holds for *every* stretch of `window_seconds`, not only for those that begin on the hour; the price is that an
//! amount is given back up to a sixtieth of the window late.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;

/// A part of a budget that one entry takes: as much as `limit` may be reserved under `key` in any `window_seconds`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Whose budget: policy, scope and window, for example `finance/agent/crawler/day`.
    pub key: String,
    /// How much the entry takes; 1 for a rate.
    pub amount: Amount,
    /// The most that may be taken.
    pub limit: Amount,
    /// Length of the window.
    pub window_seconds: u32,
}

/// What is reserved under one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    seconds: u32,
    /// Number of the bucket and what is reserved in it, oldest first.
    buckets: VecDeque<(i64, Amount)>,
}

/// Where a reservation went, to give it back from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reserved {
    pub(crate) slot: String,
    bucket: i64,
    amount: Amount,
}

// === impl Reservation ===

impl Reservation {
    /// The name of its window: one key with two lengths has two.
    pub(crate) fn slot(&self) -> String {
        slot(&self.key, self.window_seconds)
    }
}

// === impl Window ===

impl Window {
    /// An empty window.
    pub(crate) fn new(seconds: u32) -> Window {
        Window { seconds: seconds.max(1), buckets: VecDeque::new() }
    }

    /// Everything reserved that still counts at `now`.
    pub(crate) fn sum(&self, now: Timestamp) -> Amount {
        let counting = self.buckets.iter().filter(|(bucket, _)| self.ends(*bucket) > now.as_second());
        counting.fold(Amount::ZERO, |sum, (_, amount)| sum.plus(*amount))
    }

    /// Whether `reservation` fits at `now`. If not, after how many seconds it does when nothing else is reserved; `None`
    /// if never.
    pub(crate) fn fits(&self, now: Timestamp, reservation: &Reservation) -> Result<(), Option<u64>> {
        let mut sum = self.sum(now).plus(reservation.amount);
        if sum <= reservation.limit {
            return Ok(());
        }
        let counting = self.buckets.iter().filter(|(bucket, _)| self.ends(*bucket) > now.as_second());
        for (bucket, amount) in counting {
            sum = sum.minus(*amount);
            if sum <= reservation.limit {
                return Err(u64::try_from(self.ends(*bucket) - now.as_second()).ok());
            }
        }
        Err(None)
    }

    /// Takes a reservation, whether it fits or not, and forgets what no longer counts.
    pub(crate) fn reserve(&mut self, now: Timestamp, reservation: &Reservation) -> Reserved {
        while self.buckets.front().is_some_and(|(bucket, _)| self.ends(*bucket) <= now.as_second()) {
            self.buckets.pop_front();
        }
        let (bucket, amount) = (now.as_second().div_euclid(self.width()), reservation.amount);
        match self.buckets.back_mut().filter(|(last, _)| *last == bucket) {
            None => self.buckets.push_back((bucket, amount)),
            Some((_, sum)) => *sum = sum.plus(amount),
        }
        Reserved { slot: reservation.slot(), bucket, amount }
    }

    /// Gives a reservation back.
    pub(crate) fn give_back(&mut self, reserved: &Reserved) {
        if let Some((_, sum)) = self.buckets.iter_mut().find(|(bucket, _)| *bucket == reserved.bucket) {
            *sum = sum.minus(reserved.amount);
        }
    }

    /// The second from which nothing in it counts any more.
    pub(crate) fn over(&self) -> i64 {
        self.buckets.back().map_or(i64::MIN, |(bucket, _)| self.ends(*bucket))
    }

    /// The second from which a bucket counts no more: then its last moment has left the window.
    fn ends(&self, bucket: i64) -> i64 {
        bucket.saturating_add(1).saturating_mul(self.width()).saturating_add(i64::from(self.seconds))
    }

    /// Seconds in a bucket.
    fn width(&self) -> i64 {
        i64::from(self.seconds.div_ceil(BUCKETS))
    }
}

/// The name of the window of `key` that is so long.
pub(crate) fn slot(key: &str, window_seconds: u32) -> String {
    format!("{window_seconds} {key}")
}

/// Buckets in a window.
const BUCKETS: u32 = 60;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn reservation(amount: u64, limit: u64, window_seconds: u32) -> Reservation {
        Reservation { key: "k".to_owned(), amount: amount.into(), limit: limit.into(), window_seconds }
    }

    #[test]
    fn a_rate_holds_over_the_minute_s_end_and_says_when_to_come_back() {
        let mut window = Window::new(60);
        let one = reservation(1, 3, 60);
        for second in [10, 55, 55] {
            assert_eq!(window.fits(at(second), &one), Ok(()));
            window.reserve(at(second), &one);
        }
        assert_eq!(window.fits(at(59), &one), Err(Some(12)), "the first of them leaves at 71");
        assert_eq!(window.fits(at(70), &one), Err(Some(1)));
        assert_eq!(window.fits(at(71), &one), Ok(()));
        assert_eq!(window.fits(at(71), &reservation(3, 3, 60)), Err(Some(45)));
        assert_eq!(window.fits(at(71), &reservation(4, 3, 60)), Err(None));
        assert_eq!((window.sum(at(115)), window.sum(at(116)), window.over()), (2.into(), Amount::ZERO, 116));
    }

    #[test]
    fn what_was_given_back_can_be_reserved_again() {
        let mut window = Window::new(86_400);
        let half = reservation(50, 100, 86_400);
        let first = window.reserve(at(0), &half);
        window.reserve(at(10_000), &half);
        assert!(window.fits(at(20_000), &half).is_err());
        window.give_back(&first);
        assert_eq!(window.fits(at(20_000), &half), Ok(()));
        // Giving back what no longer counts changes nothing.
        window.reserve(at(200_000), &half);
        window.give_back(&first);
        assert_eq!(window.sum(at(200_000)), 50.into());
    }

    proptest! {
        /// Against the definition: of every reservation ever made, those in the last `seconds`.
        #[test]
        fn no_stretch_of_time_holds_more_than_the_limit(
            seconds in prop_oneof![Just(1_u32), Just(59), Just(60), Just(61), Just(3600), Just(86_400)],
            steps in prop::collection::vec((0_i64..4000, 1_u64..40), 1..60),
        ) {
            let mut window = Window::new(seconds);
            let (mut now, mut taken) = (0, Vec::new());
            for (pause, amount) in steps {
                now += pause;
                let reservation = reservation(amount, 100, seconds);
                match window.fits(at(now), &reservation) {
                    Ok(()) => {
                        window.reserve(at(now), &reservation);
                        taken.push((now, amount));
                    }
                    Err(wait) => {
                        let wait = wait.and_then(|wait| i64::try_from(wait).ok()).unwrap();
                        prop_assert!(window.fits(at(now + wait - 1), &reservation).is_err());
                        prop_assert_eq!(window.fits(at(now + wait), &reservation), Ok(()));
                    }
                }
                let recent = taken.iter().filter(|(then, _)| *then > now - i64::from(seconds));
                prop_assert!(recent.map(|(_, amount)| amount).sum::<u64>() <= 100);
                prop_assert!(window.buckets.len() <= 61);
            }
        }
    }
}
