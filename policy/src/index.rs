//! Finds the destination that a request is for: the most specific one.
//!
//! Two destinations that could claim one request with equal right are a load error, so a lookup has one answer and the
//! order of the file never matters.

use std::collections::HashMap;

use crate::authority::Authority;
use crate::destination::{Destination, LIST, Pattern};
use crate::fault::{Code, Faults};
use crate::pattern::HostPattern;
use crate::yaml::Step;

/// Finds destinations by host, then the most specific pattern first.
#[derive(Debug, Default)]
pub(crate) struct Index {
    exact: HashMap<String, Vec<Candidate>>,
    under: HashMap<String, Vec<Candidate>>,
}

#[derive(Debug)]
struct Candidate {
    pattern: Pattern,
    destination: usize,
}

// === impl Index ===

impl Index {
    /// Sorts the patterns of all destinations, and notes those that tie.
    pub(crate) fn build(destinations: &[Destination], faults: &mut Faults<'_>) -> Self {
        note_ties(destinations, faults);
        let mut index = Self::default();
        for (place, destination) in destinations.iter().enumerate() {
            for pattern in &destination.matches {
                let (map, host) = match &pattern.host {
                    HostPattern::Exact(host) => (&mut index.exact, host),
                    HostPattern::Under(host) => (&mut index.under, host),
                };
                let candidate = Candidate { pattern: pattern.clone(), destination: place };
                map.entry(host.as_str().to_owned()).or_default().push(candidate);
            }
        }
        for candidates in index.exact.values_mut().chain(index.under.values_mut()) {
            candidates
                .sort_by_cached_key(|candidate| (candidate.pattern.path.rank(), candidate.pattern.methods.is_none()));
        }
        index
    }

    /// The most specific of `destinations` for a request line.
    pub(crate) fn find<'a>(
        &self,
        destinations: &'a [Destination],
        method: &str,
        authority: &Authority,
        path: &str,
    ) -> Option<&'a Destination> {
        let host = authority.host().as_str();
        let parents = std::iter::successors(parent(host), |name| parent(name));
        let candidates = self.exact.get(host).into_iter().chain(parents.filter_map(|name| self.under.get(name)));
        candidates
            .flatten()
            .filter(|candidate| candidate.pattern.accepts(method, path))
            .filter_map(|candidate| destinations.get(candidate.destination))
            .find(|destination| destination.is_open_to(authority))
    }
}

/// The name without its first label.
fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, rest)| rest)
}

fn note_ties(destinations: &[Destination], faults: &mut Faults<'_>) {
    let mut alike: HashMap<_, Vec<(usize, &Destination, &Pattern)>> = HashMap::new();
    for (place, destination) in destinations.iter().enumerate() {
        for pattern in &destination.matches {
            let same = alike.entry((&pattern.host, &pattern.path)).or_default();
            let rival = same.iter().find(|(other, rival, patterns)| {
                *other != place && pattern.ties_with(patterns) && !rival.endpoints.is_disjoint(&destination.endpoints)
            });
            if let Some((_, rival, _)) = rival {
                let message =
                    format!("`{}` and `{}` match the same requests with equal right", rival.key, destination.key);
                let path = [LIST, Step::Item(place), Step::Key("match")];
                faults.note(&path, Code::Tie, message, "make one of them more specific, or remove it");
            }
            same.push((place, destination, pattern));
        }
    }
}
