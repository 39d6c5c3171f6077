//! The Merkle tree over the journal (RFC 6962): roots, and proofs that an entry is in it or that it only grew.
//!
//! Pure. Whoever proves says where the hashes of complete subtrees are found; whoever verifies needs hashes alone. A proof
//! is read to its last hash: one too many is as wrong as one too few.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

/// SHA-256 of a leaf or of an inner node.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

/// A complete subtree: the leaves from `index * 2^height` on, `2^height` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Levels above the leaves.
    pub height: u32,
    /// How many subtrees of this height are left of it.
    pub index: u64,
}

/// The right edge of a tree that grows from the left: complete subtrees, the largest first.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    peaks: Vec<(u32, Hash)>,
    size: u64,
}

/// Why a proof does not prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The proof leads to another root.
    #[error("the proof leads to root `{found}` but the checkpoint says `{expected}`")]
    Root {
        /// Root to be reached.
        expected: Hash,
        /// Root that was reached.
        found: Hash,
    },
    /// The proof has too many or too few hashes, or is for a place outside the tree.
    #[error("the proof does not fit a tree of {size} entries")]
    Shape {
        /// Size of the tree.
        size: u64,
    },
}

// === impl Hash ===

impl Hash {
    /// Hash of an entry: its exact line in the journal, with `entry_hash`, without the newline.
    pub fn of_leaf(line: &[u8]) -> Hash {
        Hash(Sha256::new().chain_update([0]).chain_update(line).finalize().0)
    }

    /// Hash of the node above two nodes.
    pub fn above(left: &Hash, right: &Hash) -> Hash {
        Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().0)
    }

    /// Root of a tree without entries.
    pub fn of_nothing() -> Hash {
        Hash(Sha256::digest([]).0)
    }

    /// Reads base64, in its one spelling only.
    pub fn from_base64(text: &str) -> Option<Hash> {
        let bytes = BASE64.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

// === impl Edge ===

impl Edge {
    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds one leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_node(0, leaf);
    }

    /// Adds the leaves of a complete subtree. The size so far must be a multiple of what is added.
    fn push_node(&mut self, height: u32, hash: Hash) {
        let (mut height, mut hash) = (height, hash);
        self.size += 1 << height;
        while let Some((_, left)) = self.peaks.pop_if(|(other, _)| *other == height) {
            hash = Hash::above(&left, &hash);
            height += 1;
        }
        self.peaks.push((height, hash));
    }

    /// Adds everything up to `end` from a cover: the hashes of the subtrees that [`gap`] names.
    pub fn skip_to(&mut self, end: u64, cover: &mut impl Iterator<Item = Hash>) -> Option<()> {
        for node in gap(self.size, end) {
            self.push_node(node.height, cover.next()?);
        }
        Some(())
    }

    /// Root of what there is.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev().map(|(_, hash)| *hash);
        let last = peaks.next().unwrap_or_else(Hash::of_nothing);
        peaks.fold(last, |right, left| Hash::above(&left, &right))
    }
}

/// The fewest complete subtrees that make up the leaves from `start` to before `end`, from left to right.
pub fn gap(start: u64, end: u64) -> impl Iterator<Item = Node> {
    let mut at = start;
    std::iter::from_fn(move || {
        let left = end.checked_sub(at).filter(|left| *left > 0)?;
        let height = left.ilog2().min(at.trailing_zeros());
        let node = Node { height, index: at >> height };
        at += 1 << height;
        Some(node)
    })
}

/// The root of the first `size` entries, from the hashes of complete subtrees.
///
/// # Errors
/// Whatever `node` fails with.
pub fn root<E>(size: u64, mut node: impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    range(0, size, &mut node)
}

/// The audit path of entry `index` in a tree of `size` (RFC 6962, 2.1.1), from the leaf up. `index` must be below `size`.
///
/// # Errors
/// Whatever `node` fails with.
pub fn inclusion<E>(index: u64, size: u64, mut node: impl FnMut(Node) -> Result<Hash, E>) -> Result<Vec<Hash>, E> {
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        let (sibling_start, sibling_end) = if index < middle { (middle, end) } else { (start, middle) };
        path.push(range(sibling_start, sibling_end, &mut node)?);
        (start, end) = if index < middle { (start, middle) } else { (middle, end) };
    }
    path.reverse();
    Ok(path)
}

/// The proof that a tree of `size` continues the one of `old` (RFC 6962, 2.1.2). Empty if `old` is 0 or `size`.
///
/// # Errors
/// Whatever `node` fails with.
pub fn consistency<E>(old: u64, size: u64, mut node: impl FnMut(Node) -> Result<Hash, E>) -> Result<Vec<Hash>, E> {
    if old == 0 || old >= size {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    // Down to where the old tree ends: what the new tree has beside that way is what the proof consists of.
    while end != old {
        let middle = start + split(end - start);
        let (sibling_start, sibling_end) = if old <= middle { (middle, end) } else { (start, middle) };
        proof.push(range(sibling_start, sibling_end, &mut node)?);
        (start, end) = if old <= middle { (start, middle) } else { (middle, end) };
    }
    // The old tree as a whole is known to whoever verifies.
    if start > 0 {
        proof.push(range(start, end, &mut node)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that an entry is in a tree.
///
/// # Errors
/// [`ProofError`], if it does not follow that it is.
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, root: Hash, path: &[Hash]) -> Result<(), ProofError> {
    let shape = ProofError::Shape { size };
    if index >= size {
        return Err(shape);
    }
    // RFC 9162, 2.1.3.2: `at` is the place on a level, `last` the last place there.
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return Err(shape);
        }
        if at & 1 == 1 || at == last {
            hash = Hash::above(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = Hash::above(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last != 0 { Err(shape) } else { reached(root, hash) }
}

/// Checks that the tree of `size` and `root` continues the one of `old_size` and `old_root`.
///
/// # Errors
/// [`ProofError`], if it does not follow that it does.
pub fn verify_consistency(
    (old_size, old_root): (u64, Hash),
    (size, root): (u64, Hash),
    proof: &[Hash],
) -> Result<(), ProofError> {
    let shape = ProofError::Shape { size };
    if old_size == size || old_size == 0 {
        return match (proof, old_size) {
            ([], 0) => reached(old_root, Hash::of_nothing()),
            ([], _) => reached(root, old_root),
            _ => Err(shape),
        };
    }
    if old_size > size {
        return Err(shape);
    }
    // RFC 9162, 2.1.4.2. An old tree that is complete is where the way begins; it is not part of the proof.
    let (first, rest) =
        if old_size.is_power_of_two() { (&old_root, proof) } else { proof.split_first().ok_or(shape)? };
    let (mut at, mut last) = (old_size - 1, size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut old, mut new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(shape);
        }
        if at & 1 == 1 || at == last {
            (old, new) = (Hash::above(sibling, &old), Hash::above(sibling, &new));
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new = Hash::above(&new, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last != 0 {
        return Err(shape);
    }
    reached(old_root, old).and_then(|()| reached(root, new))
}

/// Hash of the leaves from `start` to before `end`, which is a subtree of some RFC 6962 tree.
fn range<E>(start: u64, end: u64, node: &mut impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    let mut peaks = gap(start, end).map(node).collect::<Result<Vec<_>, E>>()?;
    let last = peaks.pop().unwrap_or_else(Hash::of_nothing);
    Ok(peaks.iter().rev().fold(last, |right, left| Hash::above(left, &right)))
}

/// Leaves in the left part of a tree of `size`, which is at least 2: the largest power of two below it.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

fn reached(expected: Hash, found: Hash) -> Result<(), ProofError> {
    if expected == found { Ok(()) } else { Err(ProofError::Root { expected, found }) }
}

#[cfg(test)]
mod tests;
