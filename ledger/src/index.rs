//! Where an id occurs: keys and values of the index that the store keeps, and how they are searched.
//!
//! Ids are random. A key of its own for each would touch a page of its own, and that cost more than the journal itself.
//! So the ids of one step are spread over [`BUCKETS`] keys, each behind what its bucket had before; whoever looks for an
//! id reads through the 8-byte fingerprints of one bucket. Seldom two ids have the same; the entry itself tells.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::chain::Entry;

/// Which of the three ids of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Index {
    Correlation,
    Intent,
    Run,
}

/// An id that is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought {
    index: Index,
    print: Print,
}

/// What an id is found by. Agents choose some ids, so it must not be easy to make two alike.
type Print = [u8; 8];

// === impl Sought ===

impl Sought {
    pub(crate) fn new(index: Index, id: &str) -> Sought {
        Sought { index, print: fingerprint(id) }
    }

    /// The key of its bucket for places from `seq` on.
    pub(crate) fn key(&self, seq: u64) -> Vec<u8> {
        key(self.index, bucket(self.print), seq)
    }

    /// Its places among those of its bucket, in order.
    pub(crate) fn places(&self, value: &[u8]) -> impl Iterator<Item = u64> {
        let (words, _) = value.as_chunks();
        let (places, _) = words.as_chunks();
        places.iter().filter(|[print, _]| *print == self.print).map(|[_, seq]| u64::from_be_bytes(*seq))
    }
}

/// Keys and values for the ids of entries, which follow each other.
pub(crate) fn places<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut buckets: HashMap<(Index, u8), Vec<(Print, u64)>> = HashMap::new();
    for event in entries.map(|entry| &entry.event) {
        let ids = [
            (Index::Correlation, &event.correlation_id),
            (Index::Intent, &event.intent_id),
            (Index::Run, &event.run_id),
        ];
        for (index, id) in ids {
            if let Some(id) = id {
                let print = fingerprint(id);
                buckets.entry((index, bucket(print))).or_default().push((print, event.seq));
            }
        }
    }
    let chunks = buckets.iter().flat_map(|(at, places)| places.chunks(MAX_PLACES).map(move |chunk| (*at, chunk)));
    let pairs = chunks.filter_map(|((index, bucket), chunk)| {
        let (_, first) = chunk.first()?;
        Some((
            key(index, bucket, *first),
            chunk.iter().flat_map(|(print, seq)| [*print, seq.to_be_bytes()]).flatten().collect(),
        ))
    });
    pairs.collect()
}

/// Numbers are big-endian so that the store's order is the ledger's.
fn key(index: Index, bucket: u8, seq: u64) -> Vec<u8> {
    let tag = match index {
        Index::Correlation => b'c',
        Index::Intent => b'j',
        Index::Run => b'r',
    };
    [&[tag, bucket], seq.to_be_bytes().as_slice()].concat()
}

fn fingerprint(id: &str) -> Print {
    let [a, b, c, d, e, f, g, h, ..] = Sha256::digest(id).0;
    [a, b, c, d, e, f, g, h]
}

fn bucket([first, ..]: Print) -> u8 {
    first % BUCKETS
}

/// Keys that the ids of one step are spread over. With more of them an id is found faster and a step takes longer.
const BUCKETS: u8 = 64;

/// Places under one key, 4 KiB of them: sled writes many values as one page, over and over as the page fills.
const MAX_PLACES: usize = 256;
