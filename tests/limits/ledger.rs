//! What happens to requests when the ledger is slow, full or broken: nothing leaves.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::Origin;
use crate::harness::trace;
use crate::harness::world::API;
use crate::limits::sooner_than;

#[test]
fn ledger_millis_bounds_the_wait_and_a_late_success_sends_nothing() {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin).limit("ledger_millis", 500);
    let Some((gate, _trace)) = with_syncs(plan, "delay_enter=6s") else { return };
    let answer = sooner_than(Duration::from_secs(3), "ledger_millis", || gate.agent().get(READ));
    assert_eq!((answer.status, answer.code().as_str()), (503, "ledger_unavailable"), "{answer:?}");
    // The disk comes back: what was authorised too late is closed as not sent.
    let outcome = gate.event("action.failed", &answer.correlation());
    assert_eq!((&outcome["data"]["sent"], &outcome["data"]["reason"]), (&false.into(), &"recorded_too_late".into()));
    assert_eq!(origin.connections(), 0);
    assert_eq!(gate.agent().get(READ).status, 200, "a slow disk is not a broken one");
    assert_eq!(origin.hits().len(), 1);
    gate.assert_verifies();
}

#[test]
fn a_stalled_disk_is_given_up_within_five_seconds_by_default() {
    let origin = Origin::https(&[API]);
    let Some((gate, _trace)) = with_syncs(Plan::new().origin(API, &origin), "delay_enter=10s") else { return };
    let started = Instant::now();
    let answer = gate.agent().get(READ);
    assert_eq!((answer.status, answer.code().as_str()), (503, "ledger_unavailable"), "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(origin.connections(), 0);
}

#[test]
fn ledger_queue_bounds_the_submissions_that_wait() {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin).limit("ledger_queue", 1).limit("ledger_millis", 12_000);
    let Some((gate, _trace)) = with_syncs(plan, "delay_enter=10s") else { return };
    let agent = gate.agent();
    let _first = agent.begin("GET", READ, &[], b"");
    within(PATIENCE, || gate.events_called("decision.allowed").pop()).expect("the writer is at work");
    let at_once = || {
        let started = Instant::now();
        let answer = agent.get(READ);
        if started.elapsed() < Duration::from_secs(5) { answer.status } else { 0 }
    };
    let answers: Vec<u16> = thread::scope(|scope| {
        let asked: Vec<_> = (0..5).map(|_| scope.spawn(at_once)).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let refused = answers.iter().filter(|status| **status == 503).count();
    assert_eq!(refused, 4, "one waits, the others are refused at once: {answers:?}");
}

#[test]
fn reserve_bytes_keeps_room_for_what_must_still_be_recorded() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).limit("reserve_bytes", 1 << 62).start();
    let agent = gate.agent();
    for answer in [agent.get(READ), agent.post("https://api.example/change/1", "x")] {
        assert_eq!((answer.status, answer.code().as_str()), (507, "storage_low"), "{answer:?}");
    }
    assert_eq!(origin.connections(), 0);
    let denied = agent.get("https://elsewhere.example/x");
    assert_eq!(denied.status, 403);
    gate.event("decision.denied", &denied.correlation());
    gate.assert_verifies();
}

#[test]
fn a_failed_sync_closes_the_ledger_until_a_restart() {
    let origin = Origin::https(&[API]);
    let Some((gate, _trace)) = with_syncs(Plan::new().origin(API, &origin), "error=EIO") else { return };
    assert_closed(&gate, &origin);
    let plan = gate.kill().under(&[]);
    assert_serves(&plan.start(), &origin);
}

#[test]
fn a_full_disk_closes_the_ledger_until_a_restart() {
    let origin = Origin::https(&[API]);
    // Without the trap the signal for too large a file would end the process, as it ends any other.
    let gate = Plan::new().origin(API, &origin).under(&["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]).start();
    assert_eq!(gate.agent().get(READ).status, 200);
    within(PATIENCE, || gate.events_called("action.executed").pop()).unwrap();
    let journal = std::fs::read_dir(gate.home().join("data/events")).unwrap().next().unwrap().unwrap();
    let room = journal.metadata().unwrap().len() + 100;
    limit_files(&gate, &format!("{room}:"));
    let before = origin.hits().len();
    assert_closed(&gate, &origin);
    assert_eq!(origin.hits().len(), before);
    limit_files(&gate, "unlimited:");
    assert_closed(&gate, &origin);
    let plan = gate.kill().under(&[]);
    assert_serves(&plan.start(), &origin);
}

/// Every request is refused within five seconds and nothing leaves; health says so too.
fn assert_closed(gate: &Gate, origin: &Origin) {
    let before = origin.hits().len();
    let agent = gate.agent();
    for _ in 0..3 {
        let started = Instant::now();
        let answer = agent.get(READ);
        assert_eq!((answer.status, answer.code().as_str()), (503, "ledger_unavailable"), "{answer:?}");
        assert_eq!(agent.post("https://api.example/change/1", "x").status, 503);
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
    assert_eq!(agent.get("http://writ.internal/health").status, 503);
    assert_eq!(origin.hits().len(), before);
}

fn assert_serves(gate: &Gate, origin: &Origin) {
    let before = origin.hits().len();
    assert_eq!(gate.agent().get(READ).status, 200);
    assert_eq!(origin.hits().len(), before + 1);
    gate.assert_verifies();
}

/// Starts the gate so that something happens to the first `fdatasync` after its start. Keep what comes beside it.
fn with_syncs(plan: Plan, fault: &str) -> Option<(Gate, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let gate = plan.start();
    let at = trace::entries_at_start(&gate) + 1;
    let inject = format!("inject=fdatasync:{fault}:when={at}{}", if fault.starts_with("error") { "+" } else { "" });
    let strace = trace::strace(&folder.path().join("trace"), &["-e", "trace=fdatasync", "-e", &inject])?;
    let words: Vec<&str> = strace.iter().map(String::as_str).collect();
    let gate = gate.stop().under(&words).start();
    Some((gate, folder))
}

fn limit_files(gate: &Gate, limit: &str) {
    let pid = gate.pid().to_string();
    let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}")]).status().unwrap();
    assert!(set.success());
}

const READ: &str = "https://api.example/x";
