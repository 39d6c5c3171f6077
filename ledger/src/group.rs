//! Which entries an agent, a destination or a type has: keys and values of the index for what few values share.
//!
//! A value's numbers stand together, those of one step under one key, so that a page of the newest reads a key or two.

use std::collections::HashMap;

use sled::IVec;

use crate::chain::Entry;

/// What entries are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    Agent,
    Destination,
    Kind,
}

/// Keys and values for the groups of entries, which follow each other.
pub(crate) fn places<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut groups: HashMap<(Group, &str), Vec<u64>> = HashMap::new();
    for event in entries.map(|entry| &entry.event) {
        let names = [
            (Group::Agent, event.agent_id.as_deref()),
            (Group::Destination, event.dest_key.as_deref()),
            (Group::Kind, Some(event.kind.as_str())),
        ];
        for (group, name) in names {
            if let Some(name) = name {
                groups.entry((group, name)).or_default().push(event.seq);
            }
        }
    }
    let chunks = groups.iter().flat_map(|(at, seqs)| seqs.chunks(MAX_PLACES).map(move |chunk| (*at, chunk)));
    let pairs = chunks.filter_map(|((group, name), chunk)| {
        let value = chunk.iter().flat_map(|seq| seq.to_be_bytes()).collect();
        Some((key(group, name, *chunk.first()?), value))
    });
    pairs.collect()
}

/// The key of a name for places from `seq` on. Numbers are big-endian so that the store's order is the ledger's.
pub(crate) fn key(group: Group, name: &str, seq: u64) -> Vec<u8> {
    let tag = match group {
        Group::Agent => b'h',
        Group::Destination => b'q',
        Group::Kind => b't',
    };
    [&[tag], name.as_bytes(), &[0], &seq.to_be_bytes()].concat()
}

/// The numbers under one key, in order.
pub(crate) fn numbers(value: &IVec) -> Vec<u64> {
    let (numbers, _) = value.as_chunks();
    numbers.iter().map(|seq| u64::from_be_bytes(*seq)).collect()
}

/// Numbers under one key, 2 KiB of them: sled writes many values as one page, over and over as the page fills.
const MAX_PLACES: usize = 256;
