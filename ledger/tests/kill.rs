//! Kills a writing process at every point of the write path, again and again in the same directory, and checks that
//! nothing acknowledged is ever missing.
//!
//! `cargo test -p ledger --features crash-points --test kill`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test program: it prints counts and fails by panic")]

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use ledger::{AppendError, Draft, EventType, Ledger, Options, Query, Receipt, Reservation, State};

fn main() {
    match std::env::var_os(CHILD) {
        // One after the other: a process forked while another thread has a ledger open inherits its lock until it execs.
        None => ledger::crash::POINTS.iter().for_each(|point| kill_at(point)),
        Some(dir) => write_until_killed(Path::new(&dir)),
    }
}

/// All rounds of one point, in one directory.
fn kill_at(point: &str) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    Ledger::create(&dir, "example.com/kill").unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        // A different commit each round, early ones included: those hit the recovery of the round before. The index moves
        // in steps of many commits, so the kills at all other points find it at any distance behind.
        let seldom = ["checkpoint.made", "store.applied"].contains(&point);
        let hit = 1 + round * 13 % if seldom { 4 } else { 47 };
        acknowledged.extend(run_child(&dir, &format!("{point}:{hit}")));
        check(&dir, &acknowledged);
    }
    let torn = dir.join("events").read_dir().unwrap().any(|file| file.unwrap().path().extension().unwrap() == "bin");
    assert_eq!(torn, point == "journal.half-written", "half a line is left at that point and at no other");
    let count = acknowledged.len();
    println!("{point}: {ROUNDS} kills, {count} acknowledged, 0 missing");
}

/// Runs a child until it is killed and returns what it was told is durable.
fn run_child(dir: &Path, crash_at: &str) -> BTreeMap<u64, String> {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.env(CHILD, dir).env("WRIT_CRASH_AT", crash_at).stdout(Stdio::piped());
    let output = child.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{crash_at}: the child ended by itself: {}", output.status);
    let acks = String::from_utf8(output.stdout).unwrap();
    let parse = |ack: &str| ack.split_once(' ').map(|(seq, hash)| (seq.parse().unwrap(), hash.to_owned())).unwrap();
    acks.lines().map(parse).collect()
}

fn check(dir: &Path, acknowledged: &BTreeMap<u64, String>) {
    let ledger = Ledger::open(Options { dir: dir.to_owned(), queue: 64, reserve_bytes: 0 }).unwrap();
    let lines = ledger.events(&Query { limit: usize::MAX, ..Query::default() }).unwrap();
    for (seq, hash) in acknowledged {
        let line = lines.get(usize::try_from(*seq).unwrap());
        let found = line.is_some_and(|line| line.contains(&format!("\"entry_hash\":\"{hash}\"")));
        assert!(found, "acknowledged entry {seq} is missing");
    }
    let count = |kind: &str| lines.iter().filter(|line| line.contains(&format!("\"type\":\"{kind}\""))).count();
    let sends = count("decision.allowed") + count("action.executing");
    assert_eq!(sends, count("action.executed") + count("action.unknown"), "every send has exactly one outcome");
    let reserved = ledger.spent(RESERVED, DAY);
    assert_eq!(reserved, (count("decision.allowed") as u64).into(), "every recorded reservation counts once");
    assert!(ledger.intents(&[State::Executing], 1).is_empty(), "no intent is left executing");
    let head = ledger.head();
    ledger.close().unwrap();
    let verified = ledger::verify(dir).unwrap();
    assert_eq!((verified.entries, verified.head_hash), (lines.len() as u64, head.entry_hash));
}

/// The child: several threads append all kinds of submissions and print each receipt.
fn write_until_killed(dir: &Path) {
    let ledger = Ledger::open(Options { dir: dir.to_owned(), queue: 64, reserve_bytes: 0 }).unwrap();
    let write = |thread: usize| {
        for turn in 0_u64.. {
            one_turn(&ledger, &format!("{}-{thread}-{turn}", std::process::id()));
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|thread| drop(scope.spawn(move || write(thread)))));
}

/// One live request and one held one, each to its end.
fn one_turn(ledger: &Ledger, id: &str) {
    let live = |kind| Draft::new(kind).correlation(format!("corr_live-{id}")).agent("crawler").destination("crm");
    let held =
        |kind| Draft::new(kind).correlation(format!("corr_held-{id}")).intent(format!("int_{id}")).agent("crawler");
    let vote = held(EventType::ApprovalVote).with("operator", "ann").with("rationale", "x".repeat(1000));
    let one = Reservation { key: RESERVED.to_owned(), amount: 1.into(), limit: u64::MAX.into(), window_seconds: DAY };
    append(ledger, vec![live(EventType::DecisionAllowed).reserving(&[one]), Draft::new(EventType::ConfigLoaded)]);
    append_soon(ledger, vec![live(EventType::ActionExecuted).with("status", 200)]);
    append(ledger, vec![held(EventType::DecisionApprovalRequired)]);
    append(ledger, vec![vote, held(EventType::ApprovalGranted)]);
    append(ledger, vec![held(EventType::ActionExecuting)]);
    append(ledger, vec![held(EventType::ActionExecuted)]);
}

fn append(ledger: &Ledger, drafts: Vec<Draft>) {
    match ledger.append_blocking(drafts.clone()) {
        Err(AppendError::Busy) => append(ledger, drafts),
        appended => acknowledge(&appended.unwrap()),
    }
}

/// The outcome of a live request: it shares the commit of whatever is urgent.
fn append_soon(ledger: &Ledger, drafts: Vec<Draft>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match runtime.block_on(ledger.append_soon(drafts.clone())) {
        Err(AppendError::Busy) => append_soon(ledger, drafts),
        appended => acknowledge(&appended.unwrap()),
    }
}

fn acknowledge(receipts: &[Receipt]) {
    let acks: String = receipts.iter().map(|receipt| format!("{} {}\n", receipt.seq(), receipt.entry_hash())).collect();
    // One write per submission straight to the pipe: what was printed was acknowledged before the kill.
    std::io::stdout().lock().write_all(acks.as_bytes()).unwrap();
}

/// Tells a process that it is the child, and where to write.
const CHILD: &str = "LEDGER_KILL_CHILD";
const ROUNDS: u64 = 15;
const RESERVED: &str = "kill/day";
const DAY: u32 = 86_400;
const THREADS: usize = 4;
