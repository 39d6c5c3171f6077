//! The index over the journal: sled holds the chain in blocks and the views, all rebuilt from the journal at any time.
//!
//! Never the reason why anything is durable. sled's `flush` is no `fsync` and a damaged tail disappears from it without
//! a word, so a commit counts once the journal has it, and the store may be behind. One tree, because one
//! `apply_batch` on one tree is atomic across a crash: `m` always tells exactly what the rest contains.
//!
//! | key | value |
//! |---|---|
//! | `m` | [`Applied`] |
//! | `b` seq | block: lines from that entry on, each with its newline |
//! | `i` id | intent |
//! | `n` seq | id of the intent opened there |
//! | `o` id | nothing; the intent can still move |
//! | `e` correlation | open execution |
//! | `a` name, `u` name | agent, operator |
//! | `g` window, `d` key, `s` id | what is reserved, a key that is taken, a standing approval |
//! | `k` | kill switches |
//! | `c`, `j`, `r`, then bucket, seq | where correlations, intents, runs of that bucket occur, from seq on; see [`index`] |
//! | `x` level index | row of a tile: hashes of the tree |
//! | `z` size | the checkpoint of that size |
//! | `h` agent 0 seq, `q` destination 0 seq, `t` type 0 seq | numbers of its entries from seq on; see [`group`] |

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sled::{Batch, IVec};

use crate::budget::Window;
use crate::chain::{Entry, Link};
use crate::event::Event;
use crate::group::{self, Group};
use crate::index::{self, Index, Sought};
use crate::intent::Intent;
use crate::journal::Position;
use crate::once::Taken;
use crate::principal::Principal;
use crate::standing::Standing;
use crate::state::{Book, Changes, Execution};
use crate::tile::Tiles;

mod tiles;

/// An open database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    db: sled::Db,
}

/// How far the store has come, written with every batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// The last entry applied.
    pub(crate) last: Link,
    /// The hash it continues.
    pub(crate) prev_hash: String,
    /// Its line.
    pub(crate) position: Position,
    /// How many records of each kind there are, to notice a view that lost some.
    pub(crate) live: [usize; 8],
}

/// Why the store cannot answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A view does not hold what it must.
    #[error("the index is damaged: {0}")]
    Damaged(String),
    /// sled gave up.
    #[error("the index panicked; its files are damaged")]
    Panicked,
    /// sled refused.
    #[error("the index failed: {0}")]
    Sled(#[from] sled::Error),
}

// === impl Applied ===

impl Applied {
    /// The index up to `last`, whose line is at `position`. `book` is the state after it.
    pub(crate) fn up_to(last: &Event, position: &Position, book: &Book) -> Applied {
        let prev_hash = last.prev_hash.clone();
        Applied { last: Link::of(last), prev_hash, position: position.clone(), live: book.live() }
    }
}

// === impl Store ===

impl Store {
    /// Opens or creates the database. Its own flushing thread stays off: durability is the journal's.
    pub(crate) fn open(path: &Path) -> Result<Store, StoreError> {
        let config = sled::Config::new().path(path).flush_every_ms(None).cache_capacity(CACHE_BYTES);
        Ok(Store { db: guarded(|| config.open())? })
    }

    /// What was applied and the state it amounts to; `None` for an empty store.
    pub(crate) fn load(&self) -> Result<Option<(Applied, Book)>, StoreError> {
        let Some(applied) = self.value::<Applied>(b"m")? else { return Ok(None) };
        let mut book = Book::default();
        for id in self.suffixes(b'o')? {
            let intent = self.intent(&id)?.ok_or_else(|| StoreError::Damaged(format!("intent `{id}` is missing")))?;
            book.open.insert(id, intent);
        }
        book.executions = self.records::<Execution>(b'e')?.collect::<Result<_, _>>()?;
        book.agents = self.records::<Principal>(b'a')?.collect::<Result<_, _>>()?;
        book.operators = self.records::<Principal>(b'u')?.collect::<Result<_, _>>()?;
        book.windows = self.records::<Window>(b'g')?.collect::<Result<_, _>>()?;
        book.taken = self.records::<Taken>(b'd')?.collect::<Result<_, _>>()?;
        book.standings = self.records::<Standing>(b's')?.collect::<Result<_, _>>()?;
        book.switches = Arc::new(self.value(b"k")?.unwrap_or_default());
        let live = book.live();
        if live != applied.live {
            return Err(StoreError::Damaged(format!("{:?} open records expected, {live:?} found", applied.live)));
        }
        // What an older build left has no tree; it is made anew from the journal like anything else that is missing.
        Tiles::of(applied.last.seq + 1, |row, length| self.row(row, length))?;
        Ok(Some((applied, book)))
    }

    /// Applies durable entries, which make the index come as far as `applied`, in one step.
    pub(crate) fn apply<'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry> + Clone,
        changes: &Changes,
        applied: &Applied,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let count = entries.clone().count();
        put_blocks(&mut batch, entries.clone());
        for (key, places) in index::places(entries.clone()).into_iter().chain(group::places(entries.clone())) {
            batch.insert(key, places);
        }
        self.put_tiles(&mut batch, applied.last.seq + 1 - count as u64, entries)?;
        put_views(&mut batch, changes)?;
        batch.insert(b"m", encode(applied)?);
        guarded(|| self.db.apply_batch(batch))?;
        collect_garbage(count);
        Ok(())
    }

    /// An intent by id, whatever its state.
    pub(crate) fn intent(&self, id: &str) -> Result<Option<Intent>, StoreError> {
        self.value(&key(b'i', id.as_bytes()))
    }

    /// Ids of all intents, the one opened last first.
    pub(crate) fn newest_intents(&self) -> impl Iterator<Item = Result<String, StoreError>> + use<> {
        let mut found = self.db.scan_prefix(b"n").rev();
        std::iter::from_fn(move || guarded(|| found.next().transpose()).transpose())
            .map(|pair| pair.and_then(|(_, id)| text(&id)))
    }

    /// Lines from entry `from` on, in order.
    pub(crate) fn lines(
        &self,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<(u64, String), StoreError>> + use<>, StoreError> {
        let first = guarded(|| self.db.range(key(b'b', &[0; 8])..=seq_key(b'b', from)).next_back().transpose())?;
        let start = first.map_or_else(|| seq_key(b'b', 0), |(block, _)| block.to_vec());
        let mut blocks = self.db.range(start..key(b'c', b""));
        let blocks = std::iter::from_fn(move || guarded(|| blocks.next().transpose()).transpose());
        Ok(blocks.flat_map(split).filter(move |line| line.as_ref().map_or(true, |(seq, _)| *seq >= from)))
    }

    /// Numbers not below `from` at which an id may occur, in order; seldom one at which another does.
    pub(crate) fn occurrences(
        &self,
        index: Index,
        id: &str,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<u64, StoreError>> + use<>, StoreError> {
        let sought = Sought::new(index, id);
        let first = sought.key(0);
        let mut before = self.db.range(first.clone()..=sought.key(from)).rev();
        let nearest = guarded(|| before.next().transpose())?;
        let start = nearest.map_or(first, |(key, _)| key.to_vec());
        let mut found = self.db.range(start..=sought.key(u64::MAX));
        let found = std::iter::from_fn(move || guarded(|| found.next().transpose()).transpose());
        let places = found.flat_map(move |pair| match pair {
            Err(error) => vec![Err(error)],
            Ok((_, value)) => sought.places(&value).map(Ok).collect(),
        });
        Ok(places.filter(move |seq| seq.as_ref().map_or(true, |seq| *seq >= from)))
    }

    /// The numbers under the last key of a name that begins below `below`, in order; some may not be below it.
    pub(crate) fn places_below(&self, group: Group, name: &str, below: u64) -> Result<Vec<u64>, StoreError> {
        let mut before = self.db.range(group::key(group, name, 0)..group::key(group, name, below)).rev();
        let nearest = guarded(|| before.next().transpose())?;
        Ok(nearest.map(|(_, value)| group::numbers(&value)).unwrap_or_default())
    }

    /// How many numbers in `range` a name has.
    pub(crate) fn count(&self, group: Group, name: &str, range: Range<u64>) -> Result<u64, StoreError> {
        let first = group::key(group, name, 0);
        let mut before = self.db.range(first.clone()..=group::key(group, name, range.start)).rev();
        let start = guarded(|| before.next().transpose())?.map_or(first, |(key, _)| key.to_vec());
        let mut found = self.db.range(start..group::key(group, name, range.end));
        let mut count = 0;
        while let Some((_, value)) = guarded(|| found.next().transpose())? {
            count += group::numbers(&value).iter().filter(|seq| range.contains(*seq)).count() as u64;
        }
        Ok(count)
    }

    /// The line of one entry.
    pub(crate) fn line(&self, seq: u64) -> Result<Option<String>, StoreError> {
        let found = self.lines(seq)?.next().transpose()?;
        Ok(found.filter(|(number, _)| *number == seq).map(|(_, line)| line))
    }

    /// Hands everything to the operating system.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        guarded(|| self.db.flush()).map(drop)
    }

    fn value<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        guarded(|| self.db.get(key))?.map(|bytes| decode(&bytes)).transpose()
    }

    fn suffixes(&self, tag: u8) -> Result<Vec<String>, StoreError> {
        let pairs: Vec<(IVec, IVec)> = guarded(|| self.db.scan_prefix([tag]).collect())?;
        pairs.iter().map(|(key, _)| text(key.get(1..).unwrap_or_default())).collect()
    }

    fn records<T: DeserializeOwned>(
        &self,
        tag: u8,
    ) -> Result<impl Iterator<Item = Result<(String, T), StoreError>>, StoreError> {
        let pairs: Vec<(IVec, IVec)> = guarded(|| self.db.scan_prefix([tag]).collect())?;
        Ok(pairs.into_iter().map(|(key, bytes)| Ok((text(key.get(1..).unwrap_or_default())?, decode(&bytes)?))))
    }
}

/// Lines in blocks, so that a batch is a few values, each short enough to live in sled's log and not in a file beside.
fn put_blocks<'a>(batch: &mut Batch, entries: impl Iterator<Item = &'a Entry>) {
    let mut block: Vec<u8> = Vec::new();
    let mut first = 0;
    for entry in entries {
        if !block.is_empty() && block.len() + entry.line.len() >= BLOCK_BYTES {
            batch.insert(seq_key(b'b', first), std::mem::take(&mut block));
        }
        if block.is_empty() {
            first = entry.event.seq;
        }
        block.extend_from_slice(entry.line.as_bytes());
        block.push(b'\n');
    }
    if !block.is_empty() {
        batch.insert(seq_key(b'b', first), block);
    }
}

fn put_views(batch: &mut Batch, changes: &Changes) -> Result<(), StoreError> {
    for seq in &changes.reopened {
        batch.remove(seq_key(b'n', *seq));
    }
    for (id, intent) in &changes.intents {
        batch.insert(key(b'i', id.as_bytes()), encode(intent)?);
        batch.insert(seq_key(b'n', intent.opened.seq), id.as_bytes());
        match intent.state.is_terminal() {
            true => batch.remove(key(b'o', id.as_bytes())),
            false => batch.insert(key(b'o', id.as_bytes()), b""),
        }
    }
    put_records(batch, b'e', &changes.executions)?;
    put_records(batch, b'g', &changes.windows)?;
    put_records(batch, b'd', &changes.taken)?;
    put_records(batch, b's', &changes.standings)?;
    if let Some(switches) = &changes.switches {
        batch.insert(b"k", encode(switches.as_ref())?);
    }
    for (tag, principals) in [(b'a', &changes.agents), (b'u', &changes.operators)] {
        for (name, principal) in principals {
            batch.insert(key(tag, name.as_bytes()), encode(principal)?);
        }
    }
    Ok(())
}

fn put_records<T: Serialize>(
    batch: &mut Batch,
    tag: u8,
    records: &HashMap<String, Option<T>>,
) -> Result<(), StoreError> {
    for (name, record) in records {
        match record {
            None => batch.remove(key(tag, name.as_bytes())),
            Some(record) => batch.insert(key(tag, name.as_bytes()), encode(record)?),
        }
    }
    Ok(())
}

/// The lines of one block with their numbers.
fn split(block: Result<(IVec, IVec), StoreError>) -> Vec<Result<(u64, String), StoreError>> {
    let read = |(key, bytes): (IVec, IVec)| Ok((seq_of(&key)?, text(&bytes)?));
    match block.and_then(read) {
        Err(error) => vec![Err(error)],
        Ok((first, lines)) => (first..).zip(lines.lines()).map(|(seq, line)| Ok((seq, line.to_owned()))).collect(),
    }
}

/// sled panics on some damage instead of returning an error; here that is an error like any other.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Err(_) => Err(StoreError::Panicked),
        Ok(result) => Ok(result?),
    }
}

/// Frees the page versions a batch replaced. sled pins the epoch once per batch however many keys that has, and a pin
/// collects about four objects on average: without this, large batches leave up to 4 KB per entry behind, for ever.
fn collect_garbage(entries: usize) {
    // One round frees up to 512 objects, once the epoch has moved on twice.
    for _ in 0..3 + entries / 8 {
        crossbeam_epoch::pin().flush();
    }
}

fn key(tag: u8, rest: &[u8]) -> Vec<u8> {
    [&[tag], rest].concat()
}

/// Numbers are big-endian so that sled's order is the ledger's.
fn seq_key(tag: u8, seq: u64) -> Vec<u8> {
    key(tag, &seq.to_be_bytes())
}

fn seq_of(key: &[u8]) -> Result<u64, StoreError> {
    let number = key.last_chunk().copied().map(u64::from_be_bytes);
    number.ok_or_else(|| StoreError::Damaged("a key is too short".to_owned()))
}

fn text(bytes: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| StoreError::Damaged("a text is not UTF-8".to_owned()))
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// Memory for pages of the index; the whole gate is to stay under 512 MiB.
const CACHE_BYTES: u64 = 64 << 20;

/// A block ends before it grows to this, unless it is a single line. sled writes up to 17 values as one page, over and
/// over as the page fills, and a page of 128 KiB or more into a synced file of its own.
const BLOCK_BYTES: usize = 7 * 1024;
const _: () = assert!(17 * BLOCK_BYTES < 120 * 1024);
