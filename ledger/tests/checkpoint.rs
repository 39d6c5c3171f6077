//! Checkpoints: made by themselves, in time, and what they show at the next start that a chain cannot.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ledger::checkpoint::Checkpoint;
use ledger::note::{Note, Purpose, Signer};
use ledger::tree::{Edge, Hash};
use ledger::{Draft, EventType, Ledger, OpenError, Options, VerifyError, rebuild, signing_key, verify, verify_against};
use sha2::Digest;

fn open(dir: &Path) -> Result<Ledger, OpenError> {
    Ledger::open(Options { dir: dir.to_owned(), queue: 64, reserve_bytes: 0 })
}

fn create() -> (tempfile::TempDir, PathBuf, Ledger) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    Ledger::create(&dir, "example.com/test").unwrap();
    let ledger = open(&dir).unwrap();
    (home, dir, ledger)
}

fn tell(ledger: &Ledger, note: usize) {
    drop(ledger.append_blocking(vec![Draft::new(EventType::GateStarted).with("note", note)]).unwrap());
}

fn size(note: &Note) -> u64 {
    Checkpoint::of(note).unwrap().size
}

fn newest(dir: &Path) -> Note {
    Note::parse(&fs::read(dir.join("checkpoints/newest")).unwrap()).unwrap()
}

fn day_file(dir: &Path) -> PathBuf {
    dir.join("events").read_dir().unwrap().next().unwrap().unwrap().path()
}

fn root_of(dir: &Path) -> Hash {
    let mut edge = Edge::default();
    fs::read_to_string(day_file(dir)).unwrap().lines().for_each(|line| edge.push(Hash::of_leaf(line.as_bytes())));
    edge.root()
}

#[test]
fn what_is_written_is_in_a_signed_checkpoint_soon_and_at_the_end_at_once() {
    let (_home, dir, ledger) = create();
    let key = signing_key(&dir, None).unwrap().verifier();
    for turn in 0..3 {
        tell(&ledger, turn);
        let written = Instant::now();
        while size(&ledger.checkpoint()) <= ledger.head().seq {
            assert!(written.elapsed() < Duration::from_secs(3), "no checkpoint came");
            sleep(Duration::from_millis(10));
        }
    }
    tell(&ledger, 3);
    ledger.close().unwrap();
    let note = newest(&dir);
    assert_eq!(note.verify(&key), Ok(None));
    let expected = Checkpoint { origin: "example.com/test".to_owned(), size: 5, root: root_of(&dir) };
    assert_eq!(Checkpoint::of(&note).unwrap(), expected);
}

#[test]
fn nothing_written_no_checkpoint_made() {
    let (_home, dir, ledger) = create();
    tell(&ledger, 0);
    ledger.close().unwrap();
    let before = fs::read(dir.join("checkpoints/newest")).unwrap();
    open(&dir).unwrap().close().unwrap();
    assert_eq!(fs::read(dir.join("checkpoints/newest")).unwrap(), before);
}

#[tokio::test]
async fn an_approved_request_is_in_a_checkpoint_before_it_is_carried_out() {
    let (_home, dir, ledger) = create();
    let about = |kind| Draft::new(kind).correlation("corr_1").intent("int_1").agent("crawler");
    drop(ledger.append(vec![about(EventType::DecisionApprovalRequired)]).await.unwrap());
    let granted = ledger.append(vec![about(EventType::ApprovalGranted)]).await.unwrap();
    drop(ledger.append(vec![about(EventType::ActionExecuting)]).await.unwrap());
    assert!(size(&newest(&dir)) > granted.first().unwrap().seq());
}

#[tokio::test]
async fn nobody_waits_for_the_checkpoint_of_a_closed_ledger() {
    let (_home, _dir, ledger) = create();
    tell(&ledger, 0);
    ledger.latch("found out");
    assert!(ledger.checkpointed().await.is_err());
}

/// The hole that a chain and its index leave: both cut back together look whole.
#[test]
fn a_journal_cut_back_with_its_index_is_refused_and_what_is_missing_is_named() {
    let (_home, dir, ledger) = create();
    (0..5).for_each(|note| tell(&ledger, note));
    ledger.close().unwrap();
    let text = fs::read_to_string(day_file(&dir)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(day_file(&dir), lines.iter().take(4).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    let error = open(&dir).unwrap_err();
    assert!(matches!(error, OpenError::Lost { claimed: 6, found: 4 }), "{error}");
    assert!(error.to_string().contains("2 are missing"), "{error}");
    let error = verify(&dir).unwrap_err();
    assert!(matches!(error, VerifyError::Cut { claimed: 6, found: 4 }), "{error}");
    assert!(error.to_string().contains("entries 4 to 5 are missing"), "{error}");
    // Put back, it opens as if nothing had been.
    fs::write(day_file(&dir), text).unwrap();
    open(&dir).unwrap().close().unwrap();
}

/// Somebody with the files writes the same number of entries anew, with fresh hashes, and removes the index.
#[test]
fn a_journal_written_anew_is_refused() {
    let (_home, dir, ledger) = create();
    (0..5).for_each(|note| tell(&ledger, note));
    ledger.close().unwrap();
    let (_other_home, other, forger) = create();
    (0..5).for_each(|note| tell(&forger, note + 1));
    forger.close().unwrap();
    // With the forger's key the first entry differs already; the checkpoint is still the old one.
    fs::write(day_file(&dir), fs::read(day_file(&other)).unwrap()).unwrap();
    fs::copy(other.join("keys/ledger.key"), dir.join("keys/ledger.key")).unwrap();
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::Checkpoint { .. })));
    let own = newest(&dir);
    fs::copy(other.join("checkpoints/newest"), dir.join("checkpoints/newest")).unwrap();
    // All of it swapped: only a checkpoint kept elsewhere shows it.
    assert_eq!(verify(&dir).unwrap().entries, 6);
    assert!(matches!(verify_against(&dir, &[own]), Err(VerifyError::Checkpoint { .. })));
}

/// Rewritten and signed anew with the stolen key, at the same size, longer, or shorter.
#[test]
fn a_checkpoint_kept_elsewhere_shows_a_history_rewritten_with_the_stolen_key() {
    let (_home, dir, ledger) = create();
    (0..5).for_each(|note| tell(&ledger, note));
    ledger.close().unwrap();
    let (held, key) = (newest(&dir), fs::read(dir.join("keys/ledger.key")).unwrap());
    assert_eq!(verify_against(&dir, std::slice::from_ref(&held)).unwrap().entries, 6);
    for entries in [4_usize, 6, 8] {
        let signer = Signer::parse(str::from_utf8(&key).unwrap()).unwrap();
        let text = forged(&fs::read_to_string(day_file(&dir)).unwrap(), entries);
        let (_forged_home, forged, other) = create();
        drop(other);
        fs::remove_dir_all(forged.join("ledger")).unwrap();
        fs::write(day_file(&forged), text).unwrap();
        fs::write(forged.join("keys/ledger.key"), &key).unwrap();
        let anew = Checkpoint { origin: "example.com/test".to_owned(), size: entries as u64, root: root_of(&forged) };
        fs::write(forged.join("checkpoints/newest"), Note::signed(anew.text(), &signer, 0).to_string()).unwrap();
        assert_eq!(verify(&forged).unwrap().entries, entries as u64, "in itself it is right");
        open(&forged).unwrap().close().unwrap();
        let error = verify_against(&forged, std::slice::from_ref(&held)).unwrap_err();
        let found = matches!(error, VerifyError::Cut { .. } | VerifyError::Rewritten { size: 6, .. });
        assert!(found, "{entries}: {error}");
    }
}

#[test]
fn a_checkpoint_that_is_gone_or_of_somebody_else_is_refused() {
    let (_home, dir, ledger) = create();
    tell(&ledger, 0);
    ledger.close().unwrap();
    let path = dir.join("checkpoints/newest");
    let own = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::NoCheckpoint { .. })));
    let stranger = Signer::from_seed("example.com/test", Purpose::Sign, &[7; 32]);
    let note = Note::parse(&own).unwrap();
    fs::write(&path, Note::signed(note.text().to_owned(), &stranger, 0).to_string()).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::Checkpoint { .. })));
    assert!(matches!(verify(&dir), Err(VerifyError::Checkpoint { .. })));
    for junk in [b"".as_slice(), b"checkpoint", &own[..own.len() - 1]] {
        fs::write(&path, junk).unwrap();
        assert!(matches!(open(&dir), Err(OpenError::Checkpoint { .. })));
    }
    fs::write(&path, own).unwrap();
    open(&dir).unwrap().close().unwrap();
}

/// What an earlier build left. Nothing shows whether it is whole, so somebody has to say that it is taken as it is.
#[test]
fn a_ledger_without_a_checkpoint_opens_once_it_was_taken_as_it_is() {
    let (_home, dir, ledger) = create();
    (0..3).for_each(|note| tell(&ledger, note));
    ledger.close().unwrap();
    fs::remove_dir_all(dir.join("checkpoints")).unwrap();
    let refused = open(&dir).unwrap_err().to_string();
    assert!(refused.contains("writ ledger rebuild"), "{refused}");
    assert_eq!(rebuild(&dir, None).unwrap().entries, 4);
    let first = Checkpoint { origin: "example.com/test".to_owned(), size: 4, root: root_of(&dir) };
    assert_eq!(Checkpoint::of(&newest(&dir)).unwrap(), first);
    open(&dir).unwrap().close().unwrap();
    // One that is there is not made anew: it would sign whatever is left.
    let text = fs::read_to_string(day_file(&dir)).unwrap();
    let (kept, _) = text.trim_end().rsplit_once('\n').unwrap();
    fs::write(day_file(&dir), format!("{kept}\n")).unwrap();
    assert_eq!(rebuild(&dir, None).unwrap().entries, 3);
    assert!(matches!(open(&dir), Err(OpenError::Lost { claimed: 4, found: 3 })));
}

/// An index that lost its tree, or was made before there was one, is made anew.
#[test]
fn the_tree_is_made_anew_from_the_journal() {
    let (_home, dir, ledger) = create();
    (0..300).for_each(|note| tell(&ledger, note));
    ledger.close().unwrap();
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    let ledger = open(&dir).unwrap();
    tell(&ledger, 300);
    ledger.close().unwrap();
    assert_eq!(Checkpoint::of(&newest(&dir)).unwrap().root, root_of(&dir));
}

/// The key lies where the data directory's reader cannot reach it.
#[test]
fn the_signing_key_can_lie_elsewhere() {
    let (home, dir, ledger) = create();
    tell(&ledger, 0);
    ledger.close().unwrap();
    let key = home.path().join("ledger.key");
    fs::rename(dir.join("keys/ledger.key"), &key).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::Missing { .. })));
    let open = || {
        let options = Options { dir: dir.clone(), queue: 64, reserve_bytes: 0 };
        Ledger::open_with_key(options, Some(&key)).unwrap()
    };
    let ledger = open();
    tell(&ledger, 1);
    // The next one is made beside it.
    let rotated = ledger.rotate_key().unwrap();
    ledger.close().unwrap();
    assert_eq!(signing_key(&dir, Some(&key)).unwrap().verifier(), rotated);
    open().close().unwrap();
    assert!(!dir.join("keys/ledger.key").exists());
}

#[test]
fn a_rotated_key_signs_from_then_on_and_the_old_one_is_gone() {
    let (_home, dir, ledger) = create();
    tell(&ledger, 0);
    let (old, secret) = (ledger.key(), fs::read(dir.join("keys/ledger.key")).unwrap());
    let new = ledger.rotate_key().unwrap();
    assert!(new != old && ledger.key() == new);
    assert_eq!(ledger.checkpoint().verify(&new), Ok(None));
    tell(&ledger, 1);
    ledger.close().unwrap();
    assert_eq!(newest(&dir).verify(&new), Ok(None));
    assert_eq!(fs::read_dir(dir.join("keys")).unwrap().count(), 1);
    assert_ne!(fs::read(dir.join("keys/ledger.key")).unwrap(), secret);
    // Opened again, also with the index made anew, and rotated once more.
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    let ledger = open(&dir).unwrap();
    assert_eq!(ledger.key(), new);
    let newer = ledger.rotate_key().unwrap();
    ledger.close().unwrap();
    assert_eq!(open(&dir).unwrap().key(), newer);
    // The old key does not open it any more.
    fs::write(dir.join("keys/ledger.key"), secret).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::ForeignKey { .. })));
}

/// Died after the rotation was recorded and before the key took its place.
#[test]
fn an_interrupted_rotation_is_finished_by_the_next_start() {
    let (home, dir, ledger) = create();
    let old = home.path().join("old");
    fs::copy(dir.join("keys/ledger.key"), &old).unwrap();
    let new = ledger.rotate_key().unwrap();
    ledger.close().unwrap();
    fs::rename(dir.join("keys/ledger.key"), dir.join("keys/ledger.key.next")).unwrap();
    fs::rename(&old, dir.join("keys/ledger.key")).unwrap();
    let ledger = open(&dir).unwrap();
    assert_eq!(ledger.key(), new);
    ledger.close().unwrap();
    assert!(!dir.join("keys/ledger.key.next").exists());
}

/// A journal of `entries` entries that begins like the true one: same origin, same key, other content.
fn forged(journal: &str, entries: usize) -> String {
    let first = journal.lines().next().unwrap().to_owned();
    let mut previous = first.clone();
    let mut text = format!("{first}\n");
    for seq in 1..entries {
        let before: serde_json::Value = serde_json::from_str(&previous).unwrap();
        let mut event = serde_json::json!({
            "data": {"note": "forged"}, "prev_hash": before["entry_hash"], "seq": seq, "ts": before["ts"],
            "type": "gate.started", "v": 1,
        });
        let hash = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(event.to_string()));
        event["entry_hash"] = hash.into();
        previous = event.to_string();
        text.push_str(&format!("{previous}\n"));
    }
    text
}
