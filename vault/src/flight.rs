//! Shares one fetch among all that ask for the same secret at the same time, and keeps its secret for a while where the
//! operator allows that.
//!
//! Must never keep a secret past its time, nor one that is leased.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::providers::Key;
use crate::{Fault, Fetched, Place};

/// Fetches under way, and what is kept of those that ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<Arc<Key>, Flight>>>);

/// One fetch, set when it has landed.
type Flight = Arc<OnceCell<Landed>>;

/// How a fetch ended, and when.
#[derive(Debug)]
struct Landed {
    result: Result<Fetched, Fault>,
    at: Instant,
}

// === impl Flights ===

impl Flights {
    /// What `fetch` gives, or another caller's fetch of the same secret that is under way or still kept.
    pub(crate) async fn join(
        &self,
        place: &Place,
        fetch: impl Future<Output = Result<Fetched, Fault>>,
    ) -> Result<Fetched, Fault> {
        let flight = self.board(place);
        // Whoever comes first flies. If that caller goes away, the next one begins anew.
        let mut own = false;
        let fly = || async {
            own = true;
            Landed { result: fetch.await, at: Instant::now() }
        };
        let landed = flight.get_or_init(fly).await;
        if !landed.is_kept(place) {
            self.remove(&place.key, &flight);
        } else if own {
            self.remove_in_time(place, &flight, landed.at);
        }
        landed.result.clone()
    }

    fn board(&self, place: &Place) -> Flight {
        let mut flights = self.lock();
        match flights.get(&place.key) {
            Some(flight) if flight.get().is_none_or(|landed| landed.is_kept(place)) => Arc::clone(flight),
            Some(_) | None => {
                let fresh = Flight::default();
                flights.insert(Arc::clone(&place.key), Arc::clone(&fresh));
                fresh
            }
        }
    }

    /// A secret that nobody asks for again is wiped in time too.
    fn remove_in_time(&self, place: &Place, flight: &Flight, landed: Instant) {
        let (flights, key, flight) = (self.clone(), Arc::clone(&place.key), Arc::clone(flight));
        let end = landed + place.kept_for;
        tokio::spawn(async move {
            tokio::time::sleep_until(end).await;
            flights.remove(&key, &flight);
        });
    }

    fn remove(&self, key: &Key, flight: &Flight) {
        let mut flights = self.lock();
        if flights.get(key).is_some_and(|known| Arc::ptr_eq(known, flight)) {
            flights.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Key>, Flight>> {
        // Nothing is left half done under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Landed ===

impl Landed {
    /// Whether its secret may be lent again.
    fn is_kept(&self, place: &Place) -> bool {
        self.result.as_ref().is_ok_and(|fetched| fetched.lease.is_none()) && self.at.elapsed() < place.kept_for
    }
}

#[cfg(test)]
mod tests;
