//! Faults of the file system and of the operator while a ledger is in use: it closes itself and says why.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use ledger::{AppendError, Draft, EventType, Ledger, OpenError, Options, verify};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn open(dir: &Path) -> Result<Ledger, OpenError> {
    Ledger::open(Options { dir: dir.to_owned(), queue: 64, reserve_bytes: 0 })
}

fn create() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    Ledger::create(&dir, "example.com/test").unwrap();
    (home, dir)
}

fn draft() -> Vec<Draft> {
    vec![Draft::new(EventType::GateStarted)]
}

fn day_file(dir: &Path) -> PathBuf {
    dir.join("events").read_dir().unwrap().next().unwrap().unwrap().path()
}

/// Runs one of the ignored tests below in a process of its own.
fn run_child(name: &str, dir: &Path) -> ExitStatus {
    // A process that writes over its limit gets SIGXFSZ; ignored, and that is inherited, the write fails with EFBIG.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    shell.args(["--exact", name, "--ignored", "--nocapture"]).env(CHILD_DIR, dir).status().unwrap()
}

#[test]
fn a_failed_write_closes_the_ledger_until_a_restart() {
    let (_home, dir) = create();
    assert!(run_child("child_writes_over_its_limit", &dir).success());
    // What the failed write left is half a line; the restart sets it aside and goes on.
    let ledger = open(&dir).unwrap();
    assert_eq!(ledger.latched(), None);
    assert_eq!(ledger.head().seq, 2, "`gate.started` before the fault and `gate.recovered` behind it");
    ledger.append_blocking(draft()).unwrap();
    ledger.close().unwrap();
    assert_eq!(verify(&dir).unwrap().entries, 4);
}

#[test]
#[ignore = "the child of `a_failed_write_closes_the_ledger_until_a_restart`"]
fn child_writes_over_its_limit() {
    let dir = PathBuf::from(std::env::var_os(CHILD_DIR).unwrap());
    let ledger = open(&dir).unwrap();
    ledger.append_blocking(draft()).unwrap();
    let head = ledger.head();

    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let room = fs::metadata(day_file(&dir)).unwrap().len() + 100;
    setrlimit(Resource::RLIMIT_FSIZE, room, hard).unwrap();
    let error = ledger.append_blocking(draft()).unwrap_err();
    assert!(matches!(&error, AppendError::Latched(reason) if reason.contains("File too large")), "{error}");
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();

    // There is room again, but what the file holds is no longer certain: nothing more is written.
    let torn = fs::read(day_file(&dir)).unwrap();
    assert!(matches!(ledger.append_blocking(draft()), Err(AppendError::Latched(_))));
    assert!(ledger.latched().is_some());
    assert_eq!(ledger.head(), head, "a failed append is not published");
    assert_eq!(fs::read(day_file(&dir)).unwrap(), torn);
    assert!(!torn.ends_with(b"\n"));
}

/// Each call that makes something durable fails, the first of its kind in one run, the second in the next, until a run
/// has fewer of them.
#[test]
fn an_error_at_any_call_closes_the_ledger_and_loses_nothing_acknowledged() {
    let mut runs = 0;
    for (call, error) in
        [("write", "ENOSPC"), ("write", "EIO"), ("fdatasync", "EIO"), ("fsync", "EIO"), ("rename", "EROFS")]
    {
        for n in 1.. {
            let (_home, dir) = create();
            let inject = format!("inject={call}:error={error}:when={n}");
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
            if call == "write" {
                // What it says to its parent must not fail.
                strace.arg("-P").arg(day_file(&dir));
            }
            strace.arg(std::env::current_exe().unwrap()).args(["--exact", "child_appends_until_it_fails", "--ignored"]);
            let output = strace.arg("--nocapture").env(CHILD_DIR, &dir).output();
            let Some(said) = output.ok().filter(|output| output.status.success()) else {
                assert!(std::env::var_os("WRIT_TESTS_NO_SKIP").is_none(), "strace does not work here");
                return println!("skipped: strace is missing or may not trace here");
            };
            let said = String::from_utf8(said.stdout).unwrap();
            let acknowledged = said.lines().filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).max();
            let ledger = open(&dir).unwrap();
            assert!(acknowledged.unwrap_or(0) <= ledger.head().seq, "{inject}: {said}");
            drop(ledger.append_blocking(draft()).unwrap());
            ledger.close().unwrap();
            drop(verify(&dir).unwrap());
            runs += 1;
            if said.contains("nothing failed") {
                assert!(n > APPENDS, "{inject}");
                break;
            }
        }
    }
    println!("{runs} runs, 0 acknowledged entries lost");
}

#[test]
#[ignore = "the child of `an_error_at_any_call_closes_the_ledger_and_loses_nothing_acknowledged`"]
fn child_appends_until_it_fails() {
    let dir = PathBuf::from(std::env::var_os(CHILD_DIR).unwrap());
    let Ok(ledger) = open(&dir) else { return println!("refused to open") };
    let mut failed = false;
    for _ in 0..APPENDS {
        let appended = ledger.append_blocking(draft());
        match &appended {
            Err(error) => assert!(matches!(error, AppendError::Latched(_)), "{error}"),
            Ok(_) if failed => panic!("a closed ledger took an entry"),
            Ok(receipts) => println!("acknowledged {}", receipts[0].seq()),
        }
        failed |= appended.is_err() || ledger.checkpointed_blocking().is_err();
    }
    failed |= ledger.close().is_err();
    if !failed {
        println!("nothing failed");
    }
}

#[test]
fn a_second_process_is_refused() {
    let (_home, dir) = create();
    let ledger = open(&dir).unwrap();
    assert!(run_child("child_finds_the_ledger_locked", &dir).success());
    ledger.append_blocking(draft()).unwrap();
}

#[test]
#[ignore = "the child of `a_second_process_is_refused`"]
fn child_finds_the_ledger_locked() {
    let dir = PathBuf::from(std::env::var_os(CHILD_DIR).unwrap());
    let error = open(&dir).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
}

/// Each row does something to the journal of a running ledger; an append must not seem to succeed.
#[test]
fn a_journal_changed_while_in_use_closes_the_ledger() {
    let delete = |file: &Path| fs::remove_file(file).unwrap();
    let extend = |file: &Path| fs::write(file, fs::read_to_string(file).unwrap() + "{}\n").unwrap();
    let truncate = |file: &Path| fs::write(file, "").unwrap();
    let delete_all = |file: &Path| fs::remove_dir_all(file.parent().unwrap()).unwrap();
    let faults: [&dyn Fn(&Path); 4] = [&delete, &extend, &truncate, &delete_all];
    for (row, fault) in faults.into_iter().enumerate() {
        let (_home, dir) = create();
        let ledger = open(&dir).unwrap();
        fault(&day_file(&dir));
        for _ in 0..2 {
            let error = ledger.append_blocking(draft()).unwrap_err().to_string();
            assert!(error.contains("was changed by somebody else"), "row {row}: {error}");
        }
        drop(ledger);
        let refused =
            matches!(open(&dir), Err(OpenError::Missing { .. } | OpenError::Mismatch { .. } | OpenError::Verify(_)));
        assert!(refused, "row {row}: a restart does not paper over it");
    }
}

/// Entries that a child appends, each in a commit and in a checkpoint of its own.
const APPENDS: usize = 5;

const CHILD_DIR: &str = "LEDGER_FAULTS_CHILD";
