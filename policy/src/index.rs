//! Finds the destination that a request is for: the most specific one.
//!
//! Two destinations that could claim one request with equal right are a load error, so a lookup has one answer and the
//! order of the file never matters. What a lookup costs grows with the labels of the host and the segments of the path,
//! not with the number of destinations.

use std::collections::HashMap;
use std::str::Split;

use crate::authority::Authority;
use crate::destination::{Destination, LIST, Pattern};
use crate::fault::{Code, Faults};
use crate::pattern::{HostPattern, Segment};
use crate::yaml::Step;

/// Finds destinations by host, then the most specific pattern first.
#[derive(Debug, Default)]
pub(crate) struct Index {
    exact: HashMap<String, Paths>,
    under: HashMap<String, Paths>,
}

/// The patterns of one host, by what their paths begin with.
#[derive(Debug, Default)]
struct Paths {
    literal: HashMap<String, Paths>,
    one: Option<Box<Paths>>,
    /// Those that end here.
    here: Vec<Candidate>,
    /// Those that mean any rest.
    rest: Vec<Candidate>,
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
                map.entry(host.as_str().to_owned()).or_default().add(candidate);
            }
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
        let mut hosts = self.exact.get(host).into_iter().chain(parents.filter_map(|name| self.under.get(name)));
        let segments = path.strip_prefix('/')?.split('/');
        hosts.find_map(|paths| {
            paths.find(segments.clone(), &|candidate| {
                let accepted = candidate.pattern.accepts(method, path);
                destinations
                    .get(candidate.destination)
                    .filter(|destination| accepted && destination.is_open_to(authority))
            })
        })
    }
}

// === impl Paths ===

impl Paths {
    fn add(&mut self, candidate: Candidate) {
        let mut node = self;
        let mut any_rest = false;
        for segment in candidate.pattern.path.segments() {
            node = match segment {
                Segment::Literal(text) => node.literal.entry(text.clone()).or_default(),
                Segment::One => node.one.get_or_insert_default(),
                Segment::Rest => {
                    any_rest = true;
                    node
                }
            };
        }
        let list = if any_rest { &mut node.rest } else { &mut node.here };
        list.push(candidate);
        list.sort_by_key(|candidate| candidate.pattern.methods.is_none());
    }

    /// What `look` finds first among the patterns that may mean the segments, the most specific first.
    fn find<T>(&self, mut segments: Split<'_, char>, look: &impl Fn(&Candidate) -> Option<T>) -> Option<T> {
        let deeper = match segments.next() {
            None => self.here.iter().find_map(look),
            Some(segment) => {
                let literal = self.literal.get(segment).and_then(|paths| paths.find(segments.clone(), look));
                literal.or_else(|| self.one.as_ref()?.find(segments, look))
            }
        };
        deeper.or_else(|| self.rest.iter().find_map(look))
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
