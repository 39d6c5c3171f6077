//! Opening from outside: what a crash leaves is repaired and recorded, what nobody may lose is refused.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use EventType as T;
use ledger::{Draft, EventType, Ledger, OpenError, Options, Query, State, Status, VerifyError, rebuild, verify};
use tempfile::TempDir;

/// A closed ledger with one intent in each way of being open or settled, a live request without an outcome, an agent
/// and an operator.
fn closed_ledger() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    Ledger::create(&dir, "example.com/test").unwrap();
    let ledger = open(&dir).unwrap();
    ledger.append_blocking(vec![Draft::new(T::AgentRegistered).agent("crawler")]).unwrap();
    ledger.append_blocking(vec![Draft::new(T::OperatorAdded).with("operator", "ann")]).unwrap();
    for (id, steps) in [
        ("held", vec![T::DecisionApprovalRequired, T::ApprovalVote]),
        ("approved", vec![T::DecisionApprovalRequired, T::ApprovalGranted]),
        ("rejected", vec![T::DecisionApprovalRequired, T::ApprovalDenied]),
    ] {
        for kind in steps {
            ledger.append_blocking(vec![intent(kind, id)]).unwrap();
        }
    }
    ledger.close().unwrap();
    (home, dir)
}

fn open(dir: &Path) -> Result<Ledger, OpenError> {
    Ledger::open(Options { dir: dir.to_owned(), queue: 64, reserve_bytes: 0 })
}

fn intent(kind: EventType, id: &str) -> Draft {
    let draft = Draft::new(kind).intent(id).correlation(format!("corr_{id}")).agent("crawler").destination("crm");
    draft.with("operator", "ann")
}

/// The newest file of the journal.
fn day_file(dir: &Path) -> PathBuf {
    let files = dir.join("events").read_dir().unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.extension().unwrap() == "jsonl").max().unwrap()
}

fn lines(ledger: &Ledger) -> Vec<String> {
    ledger.events(&Query { limit: usize::MAX, ..Query::default() }).unwrap()
}

/// What [`closed_ledger`] recorded is there, in every view.
fn check_views(ledger: &Ledger) {
    let state = |id: &str| ledger.intent(id).unwrap().state;
    assert_eq!([state("held"), state("approved"), state("rejected")], [State::Held, State::Approved, State::Rejected]);
    assert_eq!(
        ledger.intents(&[], 10).iter().map(|intent| intent.id.as_str()).collect::<Vec<_>>(),
        ["rejected", "approved", "held"]
    );
    assert_eq!(ledger.intent("held").unwrap().votes.len(), 1);
    assert_eq!((ledger.agents()[0].name.as_str(), ledger.agents()[0].status), ("crawler", Status::Active));
    assert_eq!(ledger.operators()[0].name, "ann");
    assert_eq!(ledger.events(&Query { intent: Some("held".to_owned()), ..Query::default() }).unwrap().len(), 2);
    assert!(ledger.append_blocking(vec![intent(T::ApprovalVote, "held")]).is_err(), "a vote is remembered");
    assert!(ledger.append_blocking(vec![intent(T::DecisionApprovalRequired, "rejected")]).is_err(), "an end is final");
}

#[test]
fn reopening_keeps_everything_and_adds_nothing() {
    let (_home, dir) = closed_ledger();
    let before = verify(&dir).unwrap();
    for _ in 0..3 {
        let ledger = open(&dir).unwrap();
        check_views(&ledger);
        assert_eq!(ledger.head().entry_hash, before.head_hash);
        ledger.close().unwrap();
    }
    assert_eq!(verify(&dir).unwrap(), before);
}

#[test]
fn a_dropped_handle_leaves_the_directory_free() {
    let (_home, dir) = closed_ledger();
    drop(open(&dir).unwrap());
    let ledger = open(&dir).unwrap();
    let clone = ledger.clone();
    ledger.close().unwrap();
    assert!(clone.append_blocking(vec![Draft::new(T::GateStarted)]).unwrap_err().to_string().contains("it was closed"));
}

#[test]
fn files_are_private_and_the_origin_is_signed_in() {
    let (_home, dir) = closed_ledger();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in ["", "events", "keys", "texts"] {
        assert_eq!(mode(&dir.join(folder)), 0o700, "{folder}");
    }
    for file in [&day_file(&dir), &dir.join("keys/ledger.key"), &dir.join("lock")] {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    let first = lines(&open(&dir).unwrap()).swap_remove(0);
    let key = fs::read_to_string(dir.join("keys/ledger.key")).unwrap();
    let id = key.trim_end().strip_prefix("PRIVATE+KEY+example.com/test+").unwrap().split('+').next().unwrap();
    assert!(first.contains(&format!("\"public_key\":\"example.com/test+{id}+A")), "{first}");
}

#[test]
fn creating_is_explicit_and_never_replaces() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    assert!(!Ledger::exists(&dir));
    assert!(matches!(open(&dir), Err(OpenError::Absent { .. })));
    for origin in ["", "a b", "a+b", "a\nb"] {
        assert!(matches!(Ledger::create(&dir, origin), Err(OpenError::Origin(_))), "{origin}");
    }
    Ledger::create(&dir, "example.com/test").unwrap();
    for part in ["events", "keys", "nothing"] {
        assert!(Ledger::exists(&dir));
        assert!(matches!(Ledger::create(&dir, "example.com/test"), Err(OpenError::Exists { .. })), "{part} is left");
        drop(fs::remove_dir_all(dir.join("ledger")));
        if part != "nothing" {
            fs::rename(dir.join(part), home.path().join(part)).unwrap();
            let left = Ledger::create(&dir, "example.com/test");
            assert!(matches!(left, Err(OpenError::Exists { .. })), "without {part}");
            fs::rename(home.path().join(part), dir.join(part)).unwrap();
        }
    }
}

#[test]
fn an_authorised_send_without_an_outcome_becomes_unknown_once() {
    let (_home, dir) = closed_ledger();
    let ledger = open(&dir).unwrap();
    let live = Draft::new(T::DecisionAllowed).correlation("corr_live").agent("crawler").run("run-1").destination("crm");
    ledger.append_blocking(vec![live, intent(T::ActionExecuting, "approved")]).unwrap();
    let seq = ledger.head().seq;
    ledger.close().unwrap();

    let ledger = open(&dir).unwrap();
    let added = ledger.events(&Query { after: Some(seq), ..Query::default() }).unwrap();
    assert_eq!(added.len(), 3);
    for (line, parts) in added.iter().zip([
        [
            "\"type\":\"action.unknown\"",
            "\"correlation_id\":\"corr_approved\"",
            "\"intent_id\":\"approved\"",
            "interrupted",
        ],
        [
            "\"type\":\"action.unknown\"",
            "\"correlation_id\":\"corr_live\"",
            "\"run_id\":\"run-1\"",
            "\"dest_key\":\"crm\"",
        ],
        ["\"type\":\"gate.recovered\"", "\"data\":{\"unknown\":2}", "", ""],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    assert_eq!(ledger.intent("approved").unwrap().state, State::Unknown);
    // The permit is used up: neither can be sent again.
    assert!(ledger.append_blocking(vec![intent(T::ActionExecuting, "approved")]).is_err());
    ledger.close().unwrap();
    assert_eq!(open(&dir).unwrap().head().seq, seq + 3, "recovered once");
}

#[test]
fn half_a_line_at_the_end_is_set_aside_and_recorded() {
    let (_home, dir) = closed_ledger();
    let before = verify(&dir).unwrap();
    let file = day_file(&dir);
    let half = "{\"data\":{\"half\":";
    fs::write(&file, fs::read_to_string(&file).unwrap() + half).unwrap();
    assert!(matches!(verify(&dir), Err(VerifyError::Torn { bytes: 16, .. })));

    let ledger = open(&dir).unwrap();
    check_views(&ledger);
    let recovered = lines(&ledger).pop().unwrap();
    assert!(recovered.contains("\"data\":{\"torn_bytes\":16,\"unknown\":0}"), "{recovered}");
    ledger.close().unwrap();
    assert_eq!(verify(&dir).unwrap().entries, before.entries + 1);
    let day = file.file_stem().unwrap().to_str().unwrap();
    assert_eq!(fs::read_to_string(dir.join(format!("events/torn-{day}.bin"))).unwrap(), half);
}

#[test]
fn an_index_behind_the_journal_catches_up() {
    let (home, dir) = closed_ledger();
    let older = home.path().join("older");
    copy_dir(&dir.join("ledger"), &older);
    let ledger = open(&dir).unwrap();
    ledger
        .append_blocking(vec![intent(T::DecisionApprovalRequired, "later"), intent(T::ApprovalGranted, "held")])
        .unwrap();
    ledger.close().unwrap();
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    fs::rename(older, dir.join("ledger")).unwrap();

    let ledger = open(&dir).unwrap();
    assert_eq!(ledger.intent("later").unwrap().state, State::Held);
    assert_eq!(ledger.intent("held").unwrap().state, State::Approved);
    assert_eq!(lines(&ledger).len() as u64, verify(&dir).unwrap().entries);
}

#[test]
fn a_lost_or_damaged_index_is_rebuilt() {
    for damage in [Damage::Directory, Damage::Flip, Damage::Garbage, Damage::Truncate] {
        let (_home, dir) = closed_ledger();
        let before = verify(&dir).unwrap();
        damage.inflict(&dir.join("ledger"));
        let ledger = open(&dir).unwrap();
        check_views(&ledger);
        assert_eq!(ledger.head().entry_hash, before.head_hash, "{damage:?}");
        assert_eq!(lines(&ledger).len() as u64, before.entries, "{damage:?}");
        ledger.append_blocking(vec![Draft::new(T::GateStarted)]).unwrap();
        ledger.close().unwrap();
        check_views(&open(&dir).unwrap());
    }
}

#[test]
fn a_rebuild_verifies_first() {
    let (_home, dir) = closed_ledger();
    let before = verify(&dir).unwrap();
    assert_eq!(rebuild(&dir, None).unwrap(), before);
    check_views(&open(&dir).unwrap());

    let file = day_file(&dir);
    let intact = fs::read_to_string(&file).unwrap();
    fs::write(&file, intact.replacen("crawler", "Crawler", 1)).unwrap();
    assert!(matches!(rebuild(&dir, None), Err(OpenError::Verify(VerifyError::Broken { seq: 1, .. }))));
    assert!(dir.join("ledger").exists(), "the index is kept until the journal verifies");
}

/// Every way to lose or rewrite an entry that the index knows to be durable.
#[test]
fn a_journal_that_lost_acknowledged_entries_is_refused() {
    let (_home, dir) = closed_ledger();
    let file = day_file(&dir);
    let intact = fs::read_to_string(&file).unwrap();
    let last_line = intact.trim_end().rfind('\n').unwrap() + 1;
    let (all_but_last, last) = intact.split_at(last_line);
    for (what, changed) in [
        ("the last entry cut", all_but_last.to_owned()),
        ("the last entry torn", intact.trim_end_matches("\"v\":1}\n").to_owned()),
        ("the last entry changed", format!("{all_but_last}{}", last.replace("rejected", "Rejected"))),
        ("everything moved", format!("\n{intact}")),
        ("nothing left", String::new()),
    ] {
        fs::write(&file, changed).unwrap();
        let error = open(&dir).unwrap_err();
        let refused = matches!(error, OpenError::Mismatch { seq: 8, .. } | OpenError::Verify(_));
        assert!(refused, "{what}: {error}");
        assert!(
            !fs::read_dir(dir.join("events")).unwrap().any(|file| file.unwrap().path().extension().unwrap() == "bin")
        );
    }
    fs::write(&file, &intact).unwrap();
    check_views(&open(&dir).unwrap());
}

/// Opening reads the end only; a change far behind it is for `verify` to find.
#[test]
fn an_old_entry_changed_is_found_by_verifying() {
    let (_home, dir) = closed_ledger();
    let file = day_file(&dir);
    fs::write(&file, fs::read_to_string(&file).unwrap().replacen("crawler", "Crawler", 1)).unwrap();
    let ledger = open(&dir).unwrap();
    assert!(matches!(ledger.verify(), Err(VerifyError::Broken { seq: 1, .. })));
    assert!(matches!(verify(&dir), Err(VerifyError::Broken { seq: 1, .. })));
}

#[test]
fn another_ledger_in_the_same_place_is_refused() {
    let (_home, dir) = closed_ledger();
    let (_other_home, other) = closed_ledger();
    fs::remove_dir_all(dir.join("events")).unwrap();
    fs::rename(other.join("events"), dir.join("events")).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::Mismatch { .. })));
    fs::remove_dir_all(dir.join("ledger")).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::ForeignKey { .. })));
    fs::copy(other.join("keys/ledger.key"), dir.join("keys/ledger.key")).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::Checkpoint { .. })));
}

#[test]
fn missing_parts_are_named_and_not_replaced() {
    for part in ["events", "keys/ledger.key"] {
        let (_home, dir) = closed_ledger();
        let path = dir.join(part);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        for _ in 0..2 {
            let error = open(&dir).unwrap_err();
            assert!(matches!(&error, OpenError::Missing { path: missing } if *missing == path), "{error}");
        }
        assert!(!path.exists() && Ledger::exists(&dir));
    }
    let (_home, dir) = closed_ledger();
    fs::remove_file(day_file(&dir)).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::Verify(VerifyError::Empty { .. }))));
}

#[test]
fn a_key_others_can_read_is_refused_with_the_remedy() {
    let (_home, dir) = closed_ledger();
    let key = dir.join("keys/ledger.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = open(&dir).unwrap_err().to_string();
    assert_eq!(error, format!("key `{0}` has mode 644; run `chmod 600 {0}`", key.display()));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    for broken in ["", "PRIVATE+KEY+a+b+AQID", "not a key"] {
        fs::write(&key, broken).unwrap();
        assert!(matches!(open(&dir), Err(OpenError::Key { .. })), "{broken}");
    }
}

#[test]
fn a_second_opening_is_refused_while_the_first_lasts() {
    let (_home, dir) = closed_ledger();
    let first = open(&dir).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::Locked { .. })));
    assert!(matches!(rebuild(&dir, None), Err(OpenError::Locked { .. })));
    drop(first);
    assert!(open(&dir).is_ok());
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Directory,
    Flip,
    Garbage,
    Truncate,
}

impl Damage {
    fn inflict(self, store: &Path) {
        let db = store.join("db");
        let mut bytes = fs::read(&db).unwrap();
        match self {
            Damage::Directory => return fs::remove_dir_all(store).unwrap(),
            Damage::Flip => bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 1),
            Damage::Garbage => fs::write(store.join("conf"), "garbage").unwrap(),
            Damage::Truncate => bytes.truncate(bytes.len() / 3),
        }
        fs::write(db, bytes).unwrap();
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => assert!(fs::copy(entry.path(), target).is_ok()),
        }
    }
}
