//! Who holds how much of something there is only so much of: connections of one address, upstreams of one agent, memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// At most so many places for all, and at most so many for each key.
#[derive(Debug)]
pub struct Shares<K: Eq + Hash> {
    taken: Mutex<(usize, HashMap<K, usize>)>,
    most: usize,
    each: usize,
}

/// One place, or several at once, until dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    shares: Arc<Shares<K>>,
    key: K,
    size: usize,
}

// === impl Shares ===

impl<K: Clone + Eq + Hash> Shares<K> {
    /// `most` places in all, `each` at most for one key.
    pub fn new(most: usize, each: usize) -> Arc<Shares<K>> {
        Arc::new(Shares { taken: Mutex::default(), most, each })
    }

    /// A place for `key`, if there is one left.
    pub fn take(self: &Arc<Shares<K>>, key: K) -> Option<Place<K>> {
        self.take_several(key, 1)
    }

    /// As many places as `size` for `key`, if there are so many left.
    pub fn take_several(self: &Arc<Shares<K>>, key: K, size: usize) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_key) = &mut *taken;
        let own = by_key.get(&key).copied().unwrap_or_default();
        let (all_then, own_then) = (all.checked_add(size)?, own.checked_add(size)?);
        if all_then > self.most || own_then > self.each {
            return None;
        }
        *all = all_then;
        by_key.insert(key.clone(), own_then);
        Some(Place { shares: Arc::clone(self), key, size })
    }
}

// === impl Place ===

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_key) = &mut *taken;
        *all = all.saturating_sub(self.size);
        if let Some(own) = by_key.get_mut(&self.key) {
            *own = own.saturating_sub(self.size);
            if *own == 0 {
                by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_takes_all_and_places_come_back() {
        let shares = Shares::new(3, 2);
        let (one, two) = (shares.take("a"), shares.take("a"));
        assert!(one.is_some() && two.is_some() && shares.take("a").is_none(), "two of one key");
        let other = shares.take("b");
        assert!(other.is_some() && shares.take("c").is_none(), "three in all");
        drop(one);
        assert!(shares.take("c").is_some());
        drop((two, other));
        assert!(shares.taken.lock().unwrap().1.is_empty(), "nothing is remembered of who holds nothing");
    }
}
