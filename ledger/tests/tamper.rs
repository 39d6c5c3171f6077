//! What somebody with the files could do to a ledger: 10,000 flipped bits and every edit of its structure. Given a
//! checkpoint kept elsewhere all of it shows, at the right place, or has changed nothing.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panic")]

use std::fs;
use std::path::{Path, PathBuf};

use ledger::checkpoint::Checkpoint;
use ledger::evidence::{self, Bundle, Order, Trust, Verdict};
use ledger::note::{Note, Signer};
use ledger::tree::{Edge, Hash};
use ledger::{Draft, EventType, Ledger, OpenError, Options, Query, VerifyError, signing_key, verify_against};
use sha2::Digest;

const JOURNAL_FLIPS: usize = 7000;
const BUNDLE_FLIPS: usize = 2700;
const INDEX_FLIPS: usize = 300;

/// A ledger that was closed in order, and the checkpoint that somebody keeps.
struct Kept {
    _home: tempfile::TempDir,
    dir: PathBuf,
    held: Note,
    journal: String,
}

/// Numbers that are the same in every run.
struct Dice(u64);

#[test]
fn a_flipped_bit_in_a_day_file_is_found_at_its_entry() {
    let kept = Kept::make();
    let mut dice = Dice(1);
    for _ in 0..JOURNAL_FLIPS {
        let mut bytes = kept.journal.clone().into_bytes();
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
        let entry = kept.journal.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        fs::write(day_file(&kept.dir), bytes).unwrap();
        let error = kept.verify().unwrap_err();
        let found = match error {
            VerifyError::Broken { seq, .. } | VerifyError::Torn { seq, .. } => Some(seq),
            VerifyError::Checkpoint { .. }
            | VerifyError::Cut { .. }
            | VerifyError::Empty { .. }
            | VerifyError::Read { .. }
            | VerifyError::Rewritten { .. } => None,
        };
        assert_eq!(found, Some(entry), "byte {at}");
    }
    println!("{JOURNAL_FLIPS} flips in a day file, all found at their entry");
}

#[test]
fn a_flipped_bit_in_a_bundle_is_found() {
    let kept = Kept::make();
    let ledger = open(&kept.dir).unwrap();
    let trust = Trust { key: Some(ledger.key()), ..Trust::default() };
    let mut bundle = Vec::new();
    Bundle::gather(&ledger, &Order::default()).unwrap().write(&mut bundle).unwrap();
    assert!(matches!(evidence::verify_bytes(&bundle, &trust), Ok(Verdict::Verified(_))));
    let mut dice = Dice(2);
    for _ in 0..BUNDLE_FLIPS {
        let (at, bit) = (dice.below(bundle.len()), 1 << dice.below(8));
        bundle[at] ^= bit;
        assert!(matches!(evidence::verify_bytes(&bundle, &trust), Ok(Verdict::Refused(_))), "byte {at}");
        bundle[at] ^= bit;
    }
    println!("{BUNDLE_FLIPS} flips in a bundle, all found");
}

/// The index holds nothing that the journal does not: a start throws a damaged one away, or the damage is where nothing is.
#[test]
fn a_flipped_bit_in_the_index_is_mended_or_refused() {
    let kept = Kept::make();
    let (mut dice, mut refused) = (Dice(3), 0);
    for _ in 0..INDEX_FLIPS {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        copy(&kept.dir, &dir);
        let files = files(&dir.join("ledger"));
        let file = &files[dice.below(files.len())];
        let mut bytes = fs::read(file).unwrap();
        // Most of a file is room for later.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let at = dice.below(used);
        bytes[at] ^= 1 << dice.below(8);
        fs::write(file, bytes).unwrap();
        match open(&dir) {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("writ ledger rebuild"), "{}: {error}", file.display());
            }
            Ok(ledger) => {
                assert_eq!(lines(&ledger), kept.journal, "byte {at} of {}", file.display());
                assert_eq!(ledger.agents().len(), 1);
                drop(ledger.append_blocking(vec![Draft::new(EventType::GateStarted)]).unwrap());
                ledger.close().unwrap();
                kept.verify_at(&dir).unwrap();
            }
        }
    }
    println!("{INDEX_FLIPS} flips in the index, {refused} refused, the others without any effect");
}

#[test]
fn every_edit_of_the_structure_is_found_and_named() {
    let kept = Kept::make();
    let all: Vec<&str> = kept.journal.lines().collect();
    let count = all.len() as u64;
    let edited = |edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = all.iter().map(|line| (*line).to_owned()).collect();
        edit(&mut lines);
        fs::write(day_file(&kept.dir), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        kept.verify().unwrap_err()
    };
    for at in 1..all.len() {
        let broken = |error: VerifyError, expected: usize| {
            assert!(matches!(error, VerifyError::Broken { seq, .. } if seq == expected as u64), "{at}: {error}");
        };
        let cut = edited(&|lines| lines.truncate(at));
        assert!(matches!(cut, VerifyError::Cut { claimed, found } if claimed == count && found == at as u64), "{cut}");
        if at + 1 < all.len() {
            broken(edited(&|lines| drop(lines.remove(at))), at);
            broken(edited(&|lines| lines.swap(at, at + 1)), at);
        }
        broken(edited(&|lines| lines.insert(at, lines[at - 1].clone())), at);
        broken(edited(&|lines| lines[at] = changed(&lines[at])), at);
        // One entry changed and hashed anew: the next does not follow. All behind it hashed anew: the root is another.
        let rehashed = edited(&|lines| lines[at] = sealed(&changed(&lines[at]), None));
        match at + 1 < all.len() {
            true => broken(rehashed, at + 1),
            false => assert!(matches!(rehashed, VerifyError::Rewritten { size, .. } if size == count), "{rehashed}"),
        }
        let rewritten = edited(&|lines| rewrite(lines, at));
        assert!(matches!(rewritten, VerifyError::Rewritten { size, .. } if size == count), "{rewritten}");
    }
    fs::remove_file(day_file(&kept.dir)).unwrap();
    assert!(matches!(kept.verify(), Err(VerifyError::Empty { .. })));
}

/// With the stolen key everything can be made anew, checkpoint and all. Only what is kept elsewhere shows it.
#[test]
fn a_fork_and_a_rollback_signed_with_the_stolen_key_are_found() {
    let kept = Kept::make();
    let signer = signing_key(&kept.dir, None).unwrap();
    let all: Vec<String> = kept.journal.lines().map(str::to_owned).collect();
    for at in [1, 5, all.len() - 1] {
        let mut fork = all.clone();
        rewrite(&mut fork, at);
        let mut longer = fork.clone();
        longer.push(next(fork.last().unwrap()));
        for lines in [all[..at].to_vec(), fork, longer] {
            let forged = forge(&kept, &lines, &signer);
            assert_eq!(ledger::verify(&forged.dir).unwrap().entries, lines.len() as u64, "in itself it is right");
            let error = kept.verify_at(&forged.dir).unwrap_err();
            assert!(matches!(error, VerifyError::Cut { .. } | VerifyError::Rewritten { .. }), "{error}");
            // The gate itself is not fooled either, if that is where the copy is.
            let gate = open(&forged.dir).unwrap();
            let copy = forged.dir.join("held");
            fs::write(&copy, kept.held.to_string()).unwrap();
            let refused = gate.compare(&copy);
            assert!(matches!(refused, Err(OpenError::Lost { .. } | OpenError::Rewritten { .. })), "{refused:?}");
        }
    }
}

#[test]
fn an_empty_or_exchanged_folder_is_no_ledger() {
    let kept = Kept::make();
    let other = Kept::make();
    for part in ["events", "keys", "checkpoints"] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        copy(&kept.dir, &dir);
        fs::remove_dir_all(dir.join(part)).unwrap();
        assert!(open(&dir).is_err(), "{part} is missing");
        copy(&other.dir.join(part), &dir.join(part));
        assert!(open(&dir).is_err(), "{part} is of another ledger");
    }
    let home = tempfile::tempdir().unwrap();
    assert!(matches!(open(home.path()), Err(OpenError::Absent { .. })));
    assert!(matches!(kept.verify_at(&other.dir), Err(VerifyError::Checkpoint { .. })));
}

// === impl Kept ===

impl Kept {
    fn make() -> Kept {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        Ledger::create(&dir, "example.com/test").unwrap();
        let ledger = open(&dir).unwrap();
        drop(ledger.append_blocking(vec![Draft::new(EventType::AgentRegistered).agent("crawler")]).unwrap());
        for turn in 0..8 {
            let about = |kind| Draft::new(kind).correlation(format!("corr_{turn}")).agent("crawler");
            drop(ledger.append_blocking(vec![about(EventType::DecisionAllowed).with("rule", "reads")]).unwrap());
            drop(ledger.append_blocking(vec![about(EventType::ActionExecuted).with("status", 200)]).unwrap());
        }
        ledger.close().unwrap();
        let held = Note::parse(&fs::read(dir.join("checkpoints/newest")).unwrap()).unwrap();
        let journal = fs::read_to_string(day_file(&dir)).unwrap();
        Kept { _home: home, dir, held, journal }
    }

    fn verify(&self) -> Result<ledger::Verified, VerifyError> {
        self.verify_at(&self.dir)
    }

    fn verify_at(&self, dir: &Path) -> Result<ledger::Verified, VerifyError> {
        verify_against(dir, std::slice::from_ref(&self.held))
    }
}

// === impl Dice ===

impl Dice {
    /// A number below `limit` (splitmix64).
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

/// A ledger of these lines, with a checkpoint of them.
fn forge(kept: &Kept, lines: &[String], signer: &Signer) -> Kept {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    copy(&kept.dir, &dir);
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    let journal: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(day_file(&dir), &journal).unwrap();
    let mut edge = Edge::default();
    lines.iter().for_each(|line| edge.push(Hash::of_leaf(line.as_bytes())));
    let own = Checkpoint { origin: "example.com/test".to_owned(), size: edge.size(), root: edge.root() };
    let note = Note::signed(own.text(), signer, 0);
    fs::write(dir.join("checkpoints/newest"), note.to_string()).unwrap();
    Kept { _home: home, dir, held: note, journal }
}

/// Changes entry `at`, and makes every hash from there on anew.
fn rewrite(lines: &mut [String], at: usize) {
    lines[at] = sealed(&changed(&lines[at]), None);
    for behind in at + 1..lines.len() {
        let previous = hash_of(&lines[behind - 1]);
        lines[behind] = sealed(&lines[behind], Some(previous));
    }
}

fn changed(line: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["data"]["note"] = "of somebody else".into();
    event.to_string()
}

/// An entry as it would follow.
fn next(line: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["seq"] = (event["seq"].as_u64().unwrap() + 1).into();
    event["type"] = "gate.started".into();
    sealed(&event.to_string(), Some(hash_of(line)))
}

/// The line with a fresh hash, behind another entry if one is given.
fn sealed(line: &str, previous: Option<String>) -> String {
    let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
    event.as_object_mut().unwrap().remove("entry_hash");
    if let Some(previous) = previous {
        event["prev_hash"] = previous.into();
    }
    event["entry_hash"] = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(event.to_string())).into();
    event.to_string()
}

fn hash_of(line: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["entry_hash"].as_str().unwrap().to_owned()
}

fn open(dir: &Path) -> Result<Ledger, OpenError> {
    Ledger::open(Options { dir: dir.to_owned(), queue: 64, reserve_bytes: 0 })
}

fn lines(ledger: &Ledger) -> String {
    let lines = ledger.events(&Query { limit: usize::MAX, ..Query::default() }).unwrap();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn day_file(dir: &Path) -> PathBuf {
    files(&dir.join("events")).remove(0)
}

/// All files below a folder, in order of their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
