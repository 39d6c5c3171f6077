//! Closed days packed: everything that reads the journal reads them as before, and no damage to them goes unseen.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panic")]

use std::fs;
use std::path::{Path, PathBuf};

use ledger::{Draft, EventType, Ledger, OpenError, Options, Query, Verified, VerifyError, archive, rebuild, verify};
use sha2::Digest;

const DAYS: [&str; 3] = ["2025-01-30", "2025-01-31", "2025-02-01"];

#[test]
fn packed_days_are_read_like_any_other() {
    let (_home, dir) = of_three_days();
    let before = verify(&dir).unwrap();
    let plain: Vec<Vec<u8>> = DAYS.iter().map(|day| fs::read(file(&dir, day, "jsonl")).unwrap()).collect();
    let archived = archive(&dir).unwrap();
    let days: Vec<&str> = archived.iter().map(|archived| archived.day.as_str()).collect();
    assert_eq!(days, DAYS[..2]);
    for (archived, plain) in archived.iter().zip(&plain) {
        let packed = fs::read(file(&dir, &archived.day, "jsonl.zst")).unwrap();
        assert_eq!((archived.bytes, archived.packed), (plain.len() as u64, packed.len() as u64));
        assert!(packed.len() < plain.len() / 2, "{} of {}", packed.len(), plain.len());
        assert!(!file(&dir, &archived.day, "jsonl").exists());
    }
    assert_eq!(verify(&dir).unwrap(), before);
    assert_eq!(archive(&dir).unwrap(), []);
    // A gate goes on behind them, also with an index made anew from them.
    for _ in 0..2 {
        let ledger = open(&dir).unwrap();
        let lines = ledger.events(&Query { limit: usize::MAX, ..Query::default() }).unwrap();
        let journal: Vec<u8> = plain.concat();
        assert!(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes().starts_with(&journal));
        drop(ledger.append_blocking(vec![Draft::new(EventType::GateStarted)]).unwrap());
        ledger.close().unwrap();
        fs::remove_dir_all(dir.join("ledger")).unwrap();
    }
    assert_eq!(verify(&dir).unwrap().entries, before.entries + 2);
}

/// Killed after the packed file appeared and before the plain one was gone.
#[test]
fn a_day_that_is_there_in_both_forms_is_read_once_and_packed_again() {
    let (_home, dir) = of_three_days();
    let before = verify(&dir).unwrap();
    let plain = fs::read(file(&dir, DAYS[0], "jsonl")).unwrap();
    drop(archive(&dir).unwrap());
    fs::write(file(&dir, DAYS[0], "jsonl"), plain).unwrap();
    assert_eq!(verify(&dir).unwrap(), before);
    assert_eq!(archive(&dir).unwrap().len(), 1);
    assert_eq!(verify(&dir).unwrap(), before);
}

#[test]
fn every_changed_byte_of_a_packed_day_shows_or_changes_nothing() {
    let (_home, dir) = of_three_days();
    let before = verify(&dir).unwrap();
    drop(archive(&dir).unwrap());
    let path = file(&dir, DAYS[1], "jsonl.zst");
    let packed = fs::read(&path).unwrap();
    let mut found = 0;
    for at in 0..packed.len() {
        let mut changed = packed.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&path, changed).unwrap();
        match verify(&dir) {
            Err(error) => found += usize::from(error.to_string().contains(DAYS[1])),
            Ok(verified) => assert_eq!(verified, before, "byte {at}"),
        }
    }
    assert!(found > packed.len() * 9 / 10, "{found} of {}", packed.len());
    fs::write(&path, &packed[..packed.len() - 1]).unwrap();
    assert!(matches!(verify(&dir), Err(VerifyError::Read { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(verify(&dir), Err(VerifyError::Broken { .. })));
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::Verify(_))));
}

fn open(dir: &Path) -> Result<Ledger, OpenError> {
    Ledger::open(Options { dir: dir.to_owned(), queue: 64, reserve_bytes: 0 })
}

fn file(dir: &Path, day: &str, form: &str) -> PathBuf {
    dir.join("events").join(format!("{day}.{form}"))
}

/// A ledger whose entries are of three days that are over.
fn of_three_days() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    Ledger::create(&dir, "example.com/test").unwrap();
    let today = dir.join("events").read_dir().unwrap().next().unwrap().unwrap().path();
    let mut event: serde_json::Value = serde_json::from_slice(&fs::read(&today).unwrap()).unwrap();
    fs::remove_file(today).unwrap();
    for (seq, day) in DAYS.iter().flat_map(|day| [*day; 20]).enumerate() {
        if seq > 0 {
            event["prev_hash"] = event["entry_hash"].take();
            event["data"] = serde_json::json!({"version": format!("{seq}"), "note": "of a day that is over"});
            event["type"] = "gate.started".into();
        }
        event["seq"] = seq.into();
        event["ts"] = format!("{day}T12:00:00.{seq:06}Z").into();
        event.as_object_mut().unwrap().remove("entry_hash");
        event["entry_hash"] = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(event.to_string())).into();
        let path = file(&dir, day, "jsonl");
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, format!("{before}{event}\n")).unwrap();
    }
    fs::remove_dir_all(dir.join("checkpoints")).unwrap();
    let Verified { entries, .. } = rebuild(&dir, None).unwrap();
    assert_eq!(entries, 60);
    (home, dir)
}
