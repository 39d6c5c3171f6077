//! Every proof of every small tree holds, against hashes computed as RFC 6962 defines them, and nothing else does.

use std::convert::Infallible;

use super::*;

const LARGEST: u64 = 40;

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|seq| Hash::of_leaf(seq.to_string().as_bytes())).collect()
}

/// RFC 6962, 2.1, word for word.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash(Sha256::digest([]).0),
        [leaf] => *leaf,
        _ => {
            let mut k = 1;
            while k * 2 < leaves.len() {
                k *= 2;
            }
            Hash::above(&mth(&leaves[..k]), &mth(&leaves[k..]))
        }
    }
}

fn node(leaves: &[Hash]) -> impl FnMut(Node) -> Result<Hash, Infallible> {
    |node| {
        let start = usize::try_from(node.index << node.height).unwrap();
        Ok(mth(&leaves[start..start + (1 << node.height)]))
    }
}

fn wrong(hashes: &[Hash]) -> Vec<Vec<Hash>> {
    let mut wrong = vec![[hashes, &[Hash::of_nothing()]].concat(), [&[Hash::of_nothing()], hashes].concat()];
    for at in 0..hashes.len() {
        let mut changed = hashes.to_vec();
        changed[at].0[at % 32] ^= 1;
        wrong.push(changed);
        let mut shorter = hashes.to_vec();
        shorter.remove(at);
        wrong.push(shorter);
    }
    wrong
}

#[test]
fn the_edge_and_the_nodes_lead_to_the_root_of_rfc_6962() {
    let mut edge = Edge::default();
    for size in 0..=LARGEST {
        let leaves = leaves(size);
        assert_eq!(edge.root(), mth(&leaves), "{size}");
        assert_eq!(root(size, node(&leaves)).unwrap(), mth(&leaves), "{size}");
        edge.push(Hash::of_leaf(size.to_string().as_bytes()));
    }
}

#[test]
fn every_entry_is_proved_to_be_where_it_is_and_nowhere_else() {
    for size in 1..=LARGEST {
        let leaves = leaves(size);
        let root = mth(&leaves);
        for index in 0..size {
            let path = inclusion(index, size, node(&leaves)).unwrap();
            let leaf = leaves[usize::try_from(index).unwrap()];
            verify_inclusion(leaf, index, size, root, &path).unwrap();
            for other in (0..=size).filter(|other| *other != index) {
                assert!(verify_inclusion(leaf, other, size, root, &path).is_err(), "{index} as {other} of {size}");
            }
            for wrong in wrong(&path) {
                assert!(verify_inclusion(leaf, index, size, root, &wrong).is_err(), "{index} of {size}");
            }
        }
    }
}

#[test]
fn every_tree_is_proved_to_continue_the_smaller_ones_and_no_others() {
    for size in 0..=LARGEST {
        let all = leaves(size);
        let new = (size, mth(&all));
        for old_size in 0..=size {
            let old = (old_size, mth(&leaves(old_size)));
            let proof = consistency(old_size, size, node(&all)).unwrap();
            verify_consistency(old, new, &proof).unwrap();
            let other = (old_size, Hash::of_leaf(b"another"));
            assert!(verify_consistency(other, new, &proof).is_err(), "{old_size} to {size}");
            if old_size != size {
                assert!(verify_consistency(new, old, &proof).is_err(), "back from {size} to {old_size}");
            }
            for wrong in wrong(&proof) {
                assert!(verify_consistency(old, new, &wrong).is_err(), "{old_size} to {size}");
            }
        }
    }
}

#[test]
fn a_cover_proves_any_choice_of_entries() {
    for size in 1..=10_u64 {
        let leaves = leaves(size);
        for choice in 1..(1_u64 << size) {
            let chosen: Vec<u64> = (0..size).filter(|seq| choice >> seq & 1 == 1).collect();
            let mut cover = Vec::new();
            let mut at = 0;
            for seq in chosen.iter().copied().chain([size]) {
                cover.extend(gap(at, seq).map(|each| node(&leaves)(each).unwrap()));
                at = seq + 1;
            }
            let mut edge = Edge::default();
            let mut hashes = cover.into_iter();
            for seq in chosen {
                edge.skip_to(seq, &mut hashes).unwrap();
                edge.push(leaves[usize::try_from(seq).unwrap()]);
            }
            edge.skip_to(size, &mut hashes).unwrap();
            assert_eq!((edge.root(), edge.size(), hashes.next()), (mth(&leaves), size, None));
        }
    }
}

#[test]
fn the_largest_sizes_do_not_overflow() {
    let none = |_: Node| Ok::<Hash, Infallible>(Hash::of_nothing());
    for size in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) + 1] {
        for index in [0, 1, size / 2, size - 1] {
            let path = inclusion(index, size, none).unwrap();
            assert!(verify_inclusion(Hash::of_nothing(), index, size, Hash::of_nothing(), &path).is_err());
        }
        let old = size - 1;
        let proof = consistency(old, size, none).unwrap();
        let nothing = Hash::of_nothing();
        assert!(verify_consistency((old, nothing), (size, nothing), &proof).is_err());
        assert!(verify_inclusion(nothing, size, size, nothing, &[]).is_err());
    }
    assert_eq!(gap(u64::MAX, 0).count(), 0);
}
