//! Things kept by name until they are over, in memory that follows their number.
//!
//! What is over leaves when there are twice as many things as when that happened last: each pays for a constant share of
//! the search, and there are never more than twice as many as needed, or [`FEW`].

use std::collections::HashMap;

/// Things by name.
#[derive(Clone, Debug)]
pub(crate) struct Passing<T> {
    things: HashMap<String, T>,
    /// How many there are to be before those that are over leave.
    full: usize,
}

// === impl Passing ===

impl<T> Default for Passing<T> {
    fn default() -> Passing<T> {
        Passing { things: HashMap::new(), full: FEW }
    }
}

impl<T: Clone> Passing<T> {
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.things.get(name)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.things.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.things.len()
    }

    /// Takes over changes: what a thing is now, or that it is gone.
    pub(crate) fn merge(&mut self, changes: &HashMap<String, Option<T>>) {
        for (name, thing) in changes {
            match thing {
                None => drop(self.things.remove(name)),
                Some(thing) => drop(self.things.insert(name.clone(), thing.clone())),
            }
        }
    }

    /// Lets go of what is over, if it is time to look, and says what that was.
    pub(crate) fn sweep(&mut self, is_over: impl Fn(&T) -> bool) -> HashMap<String, Option<T>> {
        if self.things.len() < self.full {
            return HashMap::new();
        }
        let over = self.things.extract_if(|_, thing| is_over(thing)).map(|(name, _)| (name, None)).collect();
        self.full = FEW.max(2 * self.things.len());
        over
    }
}

impl<T> FromIterator<(String, T)> for Passing<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(things: I) -> Passing<T> {
        Passing { things: things.into_iter().collect(), full: FEW }
    }
}

/// So many are kept without looking.
const FEW: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_many_more_than_are_needed() {
        let mut passing = Passing::default();
        for turn in 0..100_000_u32 {
            passing.merge(&HashMap::from([(turn.to_string(), Some(turn))]));
            // The last ten are not over.
            let gone = passing.sweep(|thing| thing + 10 <= turn);
            assert!(gone.keys().all(|name| passing.get(name).is_none()));
            assert!((turn.saturating_sub(9)..=turn).all(|kept| passing.get(&kept.to_string()).is_some()));
            assert!(passing.len() <= FEW);
        }
    }
}
