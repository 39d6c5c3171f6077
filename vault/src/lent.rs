//! Secrets that somebody uses right now: who fetches one again meanwhile gets the same copy, with what is kept beside it.
//!
//! Must never keep a secret that nobody uses, nor lend one that has changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::providers::Key;
use crate::{Place, Secret};

/// The copies in use.
#[derive(Debug, Default)]
pub(crate) struct Lent(Mutex<HashMap<Arc<Key>, Weak<Secret>>>);

// === impl Lent ===

impl Lent {
    /// The copy in use, if it has the value that was fetched now; else the one that was fetched.
    pub(crate) fn share(&self, place: &Place, fetched: Secret) -> Arc<Secret> {
        let mut lent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = lent.get(&place.key).and_then(Weak::upgrade);
        if let Some(used) = used.filter(|used| used.lend(|used| fetched.lend(|fetched| used == fetched))) {
            return used;
        }
        let fetched = Arc::new(fetched);
        lent.insert(Arc::clone(&place.key), Arc::downgrade(&fetched));
        fetched
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use crate::Providers;

    use super::*;

    #[test]
    fn a_copy_is_shared_while_it_is_used_and_has_not_changed() {
        let place = Providers::default().place("env://A".parse().unwrap(), None).unwrap();
        let secret = |value: &str| Secret::new(Zeroizing::new(value.as_bytes().to_vec()), 8, false).unwrap();
        let lent = Lent::default();
        let first = lent.share(&place, secret("one"));
        assert!(Arc::ptr_eq(&first, &lent.share(&place, secret("one"))));
        let second = lent.share(&place, secret("two"));
        second.lend(|value| assert_eq!(value, b"two"));
        let unused = Arc::downgrade(&second);
        drop(second);
        assert!(unused.upgrade().is_none());
    }
}
