//! The tree and the checkpoints in the index: hashes in rows of tiles, and each checkpoint under its size.

use sled::Batch;

use super::{Store, StoreError, guarded, key, seq_key};
use crate::chain::Entry;
use crate::tile::{self, Row, Tiles};
use crate::tree::{Hash, Node};

// === impl Store ===

impl Store {
    /// Hash of a complete subtree of the tree over the entries applied.
    pub(crate) fn node(&self, node: Node) -> Result<Hash, StoreError> {
        let (row, part) = tile::place(node);
        let hashes = self.row(row, part.end)?;
        Ok(tile::root(hashes.get(part).unwrap_or_default()))
    }

    /// Keeps a checkpoint, for evidence of what is in it.
    pub(crate) fn keep_checkpoint(&self, size: u64, note: &str) -> Result<(), StoreError> {
        guarded(|| self.db.insert(seq_key(b'z', size), note)).map(drop)
    }

    /// The smallest checkpoint kept of at least `size` entries.
    pub(crate) fn checkpoint_from(&self, size: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let found = guarded(|| self.db.range(seq_key(b'z', size)..key(b'z' + 1, b"")).next().transpose())?;
        Ok(found.map(|(_, note)| note.to_vec()))
    }

    /// Adds the entries to the tree, of which `size` are in it.
    pub(super) fn put_tiles<'a>(
        &self,
        batch: &mut Batch,
        size: u64,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Result<(), StoreError> {
        let mut tiles = Tiles::of(size, |row, length| self.row(row, length))?;
        entries.for_each(|entry| tiles.push(Hash::of_leaf(entry.line.as_bytes())));
        for (row, hashes) in tiles.changed() {
            let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
            batch.insert(row_key(row), bytes);
        }
        Ok(())
    }

    /// The first hashes of a row.
    pub(super) fn row(&self, row: Row, length: usize) -> Result<Vec<Hash>, StoreError> {
        let bytes = guarded(|| self.db.get(row_key(row)))?.unwrap_or_default();
        let (hashes, _) = bytes.as_chunks();
        let found = hashes.get(..length).map(|hashes| hashes.iter().copied().map(Hash).collect());
        found.ok_or_else(|| StoreError::Damaged(format!("hashes of level {} are missing", row.level)))
    }
}

fn row_key(row: Row) -> Vec<u8> {
    key(b'x', &[&[row.level], row.index.to_be_bytes().as_slice()].concat())
}
