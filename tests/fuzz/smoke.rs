//! The fuzz targets on their committed corpus and on a bounded number of mutations, the same ones every time.
#![expect(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::fs;
use std::path::Path;

mod targets;

/// Small, repeatable randomness (Marsaglia, "Xorshift RNGs", 2003).
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).unwrap()
    }
}

#[test]
fn every_target_holds_on_its_corpus_and_its_mutations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let mut seeds: Vec<Vec<u8>> = Vec::new();
        for entry in fs::read_dir(folder.join(name)).expect("each target has a corpus") {
            seeds.push(fs::read(entry.unwrap().path()).unwrap());
        }
        seeds.sort();
        assert!(seeds.len() >= 5, "{name} has {} seeds", seeds.len());
        let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
        for seed in &seeds {
            target(seed);
            for _ in 0..MUTATIONS {
                target(&mutated(seed, &seeds, &mut random));
            }
        }
        println!("{name}: {} seeds, {} mutations each", seeds.len(), MUTATIONS);
    }
}

/// One to four of: a flipped bit, a byte that matters to HTTP, a cut, a doubled part, a splice of another seed.
fn mutated(seed: &[u8], seeds: &[Vec<u8>], random: &mut Xorshift) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.insert(at, b"\r\n\0 \t:;,%/\\.#@[]+0x"[random.below(19)]),
            2 => bytes.truncate(at),
            3 => bytes.extend_from_within(at..),
            _ => {
                let other = &seeds[random.below(seeds.len())];
                bytes.splice(at..at, other[random.below(other.len())..].iter().copied());
            }
        }
    }
    bytes.truncate(seed.len().max(4096));
    bytes
}

const MUTATIONS: usize = 4000;
