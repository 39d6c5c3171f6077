//! Who shares a fetch, and how long its secret stays.

use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::{Providers, Secret};

use super::*;

/// A source that counts how often it was asked, and takes a second for each answer; the third is a fault.
#[derive(Default)]
struct Source {
    flights: Flights,
    asked: AtomicUsize,
}

impl Source {
    async fn answer(&self) -> Result<Fetched, Fault> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        if number == 2 {
            return Err(Fault::Empty);
        }
        let secret = Secret::new(Zeroizing::new(number.to_string().into_bytes()), 8, false)?;
        Ok(Fetched { secret: Arc::new(secret), version: None, lease: None })
    }

    async fn ask(&self, place: &Place) -> Result<Fetched, Fault> {
        self.flights.join(place, self.answer()).await
    }

    async fn number(self: Arc<Self>, place: Place) -> Result<Vec<u8>, Fault> {
        self.ask(&place).await.map(|fetched| fetched.secret.lend(<[u8]>::to_vec))
    }
}

fn place(kept_for: u64) -> Place {
    let place = Providers::default().place("exec:///bin/a".parse().unwrap(), None).unwrap();
    place.kept_for(Duration::from_secs(kept_for))
}

#[tokio::test(start_paused = true)]
async fn who_asks_at_the_same_time_shares_one_fetch_and_its_failure() {
    let source = Arc::new(Source::default());
    for expected in [Ok(b"0".to_vec()), Ok(b"1".to_vec()), Err(Fault::Empty), Ok(b"3".to_vec())] {
        let askers: Vec<_> = (0..64).map(|_| tokio::spawn(Arc::clone(&source).number(place(0)))).collect();
        for asker in askers {
            assert_eq!(asker.await.unwrap(), expected);
        }
        assert!(source.flights.lock().is_empty(), "nothing is kept");
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn g14_a_secret_is_kept_for_its_time_and_then_wiped_though_nobody_asks() {
    let source = Arc::new(Source::default());
    let kept: Weak<Secret> = Arc::downgrade(&source.ask(&place(10)).await.unwrap().secret);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(Arc::clone(&source).number(place(10)).await, Ok(b"0".to_vec()));
    // A place that keeps nothing takes nothing that was kept.
    assert_eq!(Arc::clone(&source).number(place(0)).await, Ok(b"1".to_vec()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(kept.upgrade().is_none() && source.flights.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn when_the_first_asker_goes_away_the_next_one_fetches() {
    let source = Arc::new(Source::default());
    let first = tokio::spawn(Arc::clone(&source).number(place(0)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = tokio::spawn(Arc::clone(&source).number(place(0)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.abort();
    assert_eq!(second.await.unwrap(), Ok(b"1".to_vec()));
}
