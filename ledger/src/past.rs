//! Looking back: the newest entries that match a filter, where a time begins, how many entries of a type there are.
//!
//! Every filter has an index, and filters are combined by leaping from one index to the other: a page costs what it
//! shows, not what was ever recorded. Never writes.

use std::ops::Range;

use jiff::Timestamp;

use crate::chain::Entry;
use crate::event::Event;
use crate::group::Group;
use crate::kind::EventType;
use crate::query::ReadError;
use crate::shared::Shared;
use crate::store::{Store, StoreError};

/// What to look for, newest first. Every field that is set must match.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Types, of which an entry has one; all if empty.
    pub kinds: Vec<EventType>,
    /// The agent.
    pub agent: Option<String>,
    /// Key of the destination.
    pub destination: Option<String>,
    /// Only entries before this number.
    pub before: Option<u64>,
    /// Only entries not older than this.
    pub since: Option<Timestamp>,
    /// Only entries not newer than this.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
}

/// Entries, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Their exact lines, without newlines.
    pub lines: Vec<String>,
    /// Where the next page begins ([`Past::before`]), if there may be one. The page can be short of its limit: a
    /// search that leaps too often pauses here.
    pub older: Option<u64>,
}

/// The index of one field: its entries have one of several ids.
struct Trail<'a> {
    group: Group,
    lanes: Vec<Lane<'a>>,
}

/// One id, walked downwards.
struct Lane<'a> {
    id: &'a str,
    /// Numbers under the key read last, in order.
    places: Vec<u64>,
    /// Nothing is further down.
    ended: bool,
}

// === impl Past ===

impl Past {
    fn matches(&self, event: &Event) -> bool {
        let fits = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.as_str() == event.kind.as_str()))
            && fits(&self.agent, &event.agent_id)
            && fits(&self.destination, &event.dest_key)
    }

    /// One trail for each field that is set.
    fn trails(&self) -> Vec<Trail<'_>> {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.as_str()).collect();
        let agents = self.agent.as_deref().into_iter().collect();
        let destinations = self.destination.as_deref().into_iter().collect();
        let all = [(Group::Kind, kinds), (Group::Agent, agents), (Group::Destination, destinations)];
        let given = all.into_iter().filter(|(_, ids): &(Group, Vec<&str>)| !ids.is_empty());
        let lane = |id| Lane { id, places: Vec::new(), ended: false };
        given.map(|(group, ids)| Trail { group, lanes: ids.into_iter().map(lane).collect() }).collect()
    }
}

// === impl Trail ===

impl Trail<'_> {
    /// The greatest number below `below`, which never grows from call to call.
    fn below(&mut self, store: &Store, below: u64) -> Result<Option<u64>, StoreError> {
        let mut found = None;
        for lane in self.lanes.iter_mut().filter(|lane| !lane.ended) {
            if lane.places.first().is_none_or(|first| *first >= below) {
                lane.places = store.places_below(self.group, lane.id, below)?;
                lane.ended = lane.places.is_empty();
            }
            let until = lane.places.partition_point(|place| *place < below);
            let nearest = until.checked_sub(1).and_then(|at| lane.places.get(at)).copied();
            found = found.max(nearest);
        }
        Ok(found)
    }
}

/// The newest entries that match.
pub(crate) fn page(shared: &Shared, past: &Past) -> Result<Page, ReadError> {
    // Memory before the index: what moves over in between is then found in memory.
    let (fresh, head) = shared.read(|published| (published.fresh.clone(), published.head.seq));
    let mut below = past.before.unwrap_or(u64::MAX).min(head.saturating_add(1));
    if let Some(until) = past.until {
        let behind = until.checked_add(jiff::SignedDuration::from_micros(1)).unwrap_or(Timestamp::MAX);
        below = below.min(first_since(shared, behind)?);
    }
    let from = past.since.map_or(Ok(0), |since| first_since(shared, since))?;
    let mut page = Page::default();
    for entry in fresh.iter().rev().flat_map(|entries| entries.iter().rev()) {
        let seq = entry.event.seq;
        if seq < below && page.lines.len() < past.limit {
            below = seq;
            if seq >= from && past.matches(&entry.event) {
                page.lines.push(entry.line.clone());
            }
        }
    }
    let mut trails = past.trails();
    for _ in 0..LEAPS {
        if page.lines.len() >= past.limit {
            page.older = (below > from).then_some(below);
            return Ok(page);
        }
        let Some((seq, everywhere)) = leap(&shared.store, &mut trails, below)? else { return Ok(page) };
        if seq < from {
            return Ok(page);
        }
        if everywhere {
            page.lines.push(line(&shared.store, seq)?);
            below = seq;
        } else {
            below = seq + 1;
        }
    }
    page.older = Some(below);
    Ok(page)
}

/// The lowest of the numbers nearest below `below` on each trail, and whether all trails have it.
fn leap(store: &Store, trails: &mut [Trail<'_>], below: u64) -> Result<Option<(u64, bool)>, StoreError> {
    let mut lowest = below.checked_sub(1);
    let mut everywhere = true;
    for (count, trail) in trails.iter_mut().enumerate() {
        let Some(nearest) = trail.below(store, below)? else { return Ok(None) };
        everywhere = everywhere && (count == 0 || Some(nearest) == lowest);
        lowest = lowest.map(|seq| seq.min(nearest));
    }
    Ok(lowest.map(|seq| (seq, everywhere)))
}

/// The number of the first entry that is not older than a time; one past the last if all are.
pub(crate) fn first_since(shared: &Shared, time: Timestamp) -> Result<u64, ReadError> {
    let (fresh, head) = shared.read(|published| (published.fresh.clone(), published.head.clone()));
    if head.ts < time {
        return Ok(head.seq + 1);
    }
    let mut entries = fresh.iter().flat_map(|entries| entries.iter());
    let indexed = entries.clone().next().map_or(head.seq + 1, |first| first.event.seq);
    // Times never go back, so halving finds it.
    let (mut low, mut high) = (0, indexed);
    while low < high {
        let middle = low + (high - low) / 2;
        match time_of(&line(&shared.store, middle)?)? < time {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    if low < indexed {
        return Ok(low);
    }
    Ok(entries.find(|entry| entry.event.ts >= time).map_or(head.seq + 1, |entry| entry.event.seq))
}

/// How many entries of a type have a number in `range`.
pub(crate) fn count(shared: &Shared, kind: EventType, range: Range<u64>) -> Result<u64, ReadError> {
    let fresh = shared.read(|published| published.fresh.clone());
    let in_range = |entry: &&Entry| range.contains(&entry.event.seq) && entry.event.kind.as_str() == kind.as_str();
    let fresh_entries = || fresh.iter().flat_map(|entries| entries.iter());
    let indexed = fresh_entries().next().map_or(range.end, |first| first.event.seq.min(range.end));
    let fresh_count = fresh_entries().filter(in_range).count() as u64;
    Ok(fresh_count + shared.store.count(Group::Kind, kind.as_str(), range.start..indexed)?)
}

fn line(store: &Store, seq: u64) -> Result<String, StoreError> {
    store.line(seq)?.ok_or_else(|| StoreError::Damaged(format!("entry {seq} is missing")))
}

fn time_of(line: &str) -> Result<Timestamp, StoreError> {
    let event: Event = serde_json::from_str(line).map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok(event.ts)
}

/// Leaps of one search: some milliseconds.
const LEAPS: usize = 20_000;
