//! The tree in tiles: hashes of complete subtrees, kept so that a proof takes as many reads as the tree has levels.
//!
//! Level 0 holds the hashes of entries, each level above one hash for 256 of the level below. A tile is 256 hashes of a
//! level; it is kept as two rows, because what the store keeps as one value must stay small. Pure: whoever keeps the
//! rows says how they are read.

use crate::tree::{Hash, Node};

/// Where a row is: its level, and how many rows of that level are before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) level: u8,
    pub(crate) index: u64,
}

/// The right edge of all levels, to which entries are added.
#[derive(Debug, Default)]
pub(crate) struct Tiles {
    levels: Vec<Level>,
    /// Rows that are full, since the edge was read.
    full: Vec<(Row, Vec<Hash>)>,
}

/// The right edge of one level.
#[derive(Debug, Default)]
struct Level {
    /// Rows before the one that grows.
    rows: u64,
    growing: Vec<Hash>,
    /// Whether `growing` is not yet as it is kept.
    changed: bool,
    /// Root of the row before, if the growing one completes its tile.
    left: Option<Hash>,
}

// === impl Tiles ===

impl Tiles {
    /// The edge of a tree of `size` entries; `read` gives the first hashes of a row, as many as are asked for.
    pub(crate) fn of<E>(size: u64, read: impl Fn(Row, usize) -> Result<Vec<Hash>, E>) -> Result<Tiles, E> {
        let mut levels = Vec::new();
        let mut count = size;
        while count > 0 {
            let (level, rows, length) = (number(levels.len()), count / WIDTH as u64, (count % WIDTH as u64) as usize);
            let growing = if length == 0 { Vec::new() } else { read(Row { level, index: rows }, length)? };
            let left = if rows % 2 == 1 { Some(root(&read(Row { level, index: rows - 1 }, WIDTH)?)) } else { None };
            levels.push(Level { rows, growing, changed: false, left });
            count /= 2 * WIDTH as u64;
        }
        Ok(Tiles { levels, full: Vec::new() })
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut carried = Some(leaf);
        for at in 0.. {
            let Some(hash) = carried else { return };
            if self.levels.len() == at {
                self.levels.push(Level::default());
            }
            carried = self.levels.get_mut(at).and_then(|level| level.push(hash, number(at), &mut self.full));
        }
    }

    /// The rows that have to be kept now: those that are full, and those that have grown.
    pub(crate) fn changed(&mut self) -> Vec<(Row, Vec<Hash>)> {
        let mut changed = std::mem::take(&mut self.full);
        for (at, level) in self.levels.iter_mut().enumerate().filter(|(_, level)| level.changed) {
            level.changed = false;
            changed.push((Row { level: number(at), index: level.rows }, level.growing.clone()));
        }
        changed
    }
}

// === impl Level ===

impl Level {
    /// Adds a hash, and gives the hash of the tile that it completes.
    fn push(&mut self, hash: Hash, level: u8, full: &mut Vec<(Row, Vec<Hash>)>) -> Option<Hash> {
        self.growing.push(hash);
        self.changed = true;
        if self.growing.len() < WIDTH {
            return None;
        }
        let row = std::mem::take(&mut self.growing);
        let right = root(&row);
        full.push((Row { level, index: self.rows }, row));
        self.rows += 1;
        self.changed = false;
        match self.left.take() {
            None => {
                self.left = Some(right);
                None
            }
            Some(left) => Some(Hash::above(&left, &right)),
        }
    }
}

/// The row that a node is made of, and which of its hashes.
pub(crate) fn place(node: Node) -> (Row, std::ops::Range<usize>) {
    let (level, height) = (node.height / LEVEL, node.height % LEVEL);
    let first = node.index << height;
    let start = (first % WIDTH as u64) as usize;
    (Row { level: level as u8, index: first / WIDTH as u64 }, start..start + (1 << height))
}

/// Root over a power of two of hashes.
pub(crate) fn root(hashes: &[Hash]) -> Hash {
    let mut hashes = hashes.to_vec();
    while hashes.len() > 1 {
        hashes = hashes.chunks(2).filter_map(pair).collect();
    }
    hashes.pop().unwrap_or_else(Hash::of_nothing)
}

fn pair(pair: &[Hash]) -> Option<Hash> {
    match pair {
        [left, right] => Some(Hash::above(left, right)),
        _ => pair.first().copied(),
    }
}

/// A level as part of a key; there are eight at most.
fn number(level: usize) -> u8 {
    level as u8
}

/// Hashes in a row.
pub(crate) const WIDTH: usize = 128;

/// Heights of the tree in one level of tiles.
const LEVEL: u32 = 8;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;
    use crate::tree::{self, Edge};

    #[test]
    fn rows_lead_to_the_root_however_the_tree_grew() {
        let mut kept: BTreeMap<Row, Vec<Hash>> = BTreeMap::new();
        let mut edge = Edge::default();
        let sizes = [1, 127, 128, 129, 255, 256, 257, 400, 512, 1000, 32_768, 65_536, 65_537, 66_000];
        for size in sizes {
            let known = RefCell::new(&kept);
            let read = |row: Row, length: usize| Ok::<_, Infallible>(known.borrow()[&row][..length].to_vec());
            let mut tiles = Tiles::of(edge.size(), read).unwrap();
            while edge.size() < size {
                let leaf = Hash::of_leaf(&edge.size().to_be_bytes());
                edge.push(leaf);
                tiles.push(leaf);
            }
            kept.extend(tiles.changed());
            assert!(tiles.changed().is_empty());
            let node = |node: Node| {
                let (row, part) = place(node);
                Ok::<_, Infallible>(root(&kept[&row][part]))
            };
            assert_eq!(tree::root(size, node).unwrap(), edge.root(), "{size}");
            let path = tree::inclusion(size / 2, size, node).unwrap();
            let leaf = Hash::of_leaf(&(size / 2).to_be_bytes());
            tree::verify_inclusion(leaf, size / 2, size, edge.root(), &path).unwrap();
        }
        assert!(kept.values().all(|row| row.len() <= WIDTH));
        assert_eq!(kept.len(), 516 + 3 + 1, "a row for 128 entries, one for 128 tiles of 256, one above");
    }
}
