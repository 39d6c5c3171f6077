//! What a ledger of many entries takes: memory and disk for each, how long it is until it is ready again, how long it
//! takes to find the entries of one request, and to verify the journal and a bundle of everything.
//!
//! `cargo bench -p ledger --bench size`, with another number of entries: `-- 100000`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program: it prints and fails by panic")]

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ledger::evidence::{Bundle, Order, Trust, Verdict};
use ledger::{Draft, EventType, Ledger, Options, Query};

fn main() {
    if let Some(evidence) = std::env::var_os(VERIFIED) {
        return verify(Path::new(&evidence));
    }
    let entries = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000_u64);
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    Ledger::create(dir, "example.com/bench").unwrap();
    let ledger = open(dir);
    let half = fill(&ledger, 0, entries / 2);
    let full = fill(&ledger, entries / 2, entries);
    println!("memory: {} MiB after half, {} MiB after {entries} entries", half >> 20, full >> 20);
    println!("memory per entry of the second half: {:.1} bytes", (full as f64 - half as f64) / (entries as f64 / 2.0));
    let seen = seek(&ledger, entries);
    println!("entries of one correlation: {:.2} ms", millis(seen));
    ledger.close().unwrap();
    let per_entry = |folder| size(&dir.join(folder)) as f64 / entries as f64;
    println!("disk per entry: journal {:.0} bytes, index {:.0} bytes", per_entry("events"), per_entry("ledger"));

    let before = Instant::now();
    let ledger = open(dir);
    println!("ready after an orderly end: {:.0} ms", millis(before.elapsed()));
    println!("entries of one correlation then: {:.2} ms", millis(seek(&ledger, entries)));
    fill(&ledger, entries, entries + 5_000);
    // What was not indexed by now is replayed, as after a kill.
    ledger.latch("measured");
    drop(ledger);
    let before = Instant::now();
    let ledger = open(dir);
    println!("ready after a crash: {:.0} ms", millis(before.elapsed()));

    let bundle = dir.join("evidence.zip");
    let before = Instant::now();
    let gathered = Bundle::gather(&ledger, &Order::default()).unwrap();
    gathered.write(BufWriter::new(File::create(&bundle).unwrap())).unwrap();
    println!(
        "exported as a bundle in {:.1} s, {} MiB",
        millis(before.elapsed()) / 1e3,
        bundle.metadata().unwrap().len() >> 20
    );
    ledger.close().unwrap();
    for evidence in [dir, &bundle] {
        // In a process of its own: the measure is that of the process.
        let status = Command::new(std::env::current_exe().unwrap()).env(VERIFIED, evidence).status().unwrap();
        assert!(status.success());
    }
}

/// Verifies a journal or a bundle, and says what that took.
fn verify(evidence: &Path) {
    let before = Instant::now();
    let what = if evidence.is_dir() {
        format!("the journal of {} entries", ledger::verify(evidence).unwrap().entries)
    } else {
        let verdict = ledger::evidence::verify(evidence, &Trust::default()).unwrap();
        assert!(matches!(verdict, Verdict::Unauthenticated(_)), "{verdict}");
        "the bundle".to_owned()
    };
    println!("{what} verified in {:.1} s and {} MiB", millis(before.elapsed()) / 1e3, memory("VmHWM") >> 20);
}

fn open(dir: &Path) -> Ledger {
    Ledger::open(Options { dir: dir.to_owned(), queue: 16, reserve_bytes: 0 }).unwrap()
}

/// Appends live requests up to entry `until`, and says how much memory the process then takes.
fn fill(ledger: &Ledger, from: u64, until: u64) -> u64 {
    for first in (from..until).step_by(1000) {
        drop(ledger.append_blocking((first..first + 1000).map(draft).collect()).unwrap());
    }
    // The index follows within a second.
    std::thread::sleep(Duration::from_millis(1500));
    memory("VmRSS")
}

/// Bytes: `VmRSS` is now, `VmHWM` the most there ever was.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// Decision and outcome of a live request, in turn.
fn draft(number: u64) -> Draft {
    let draft = |kind| Draft::new(kind).correlation(correlation(number / 2)).agent("crawler").destination("crm");
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    if number.is_multiple_of(2) {
        draft(EventType::DecisionAllowed).with("path", "/v1/customers/search").with("policy_hash", hash)
    } else {
        draft(EventType::ActionExecuted).with("status", 200).with("reply_sha256", hash)
    }
}

/// Ids are random in use; a multiplication scatters these just as well.
fn correlation(request: u64) -> String {
    format!("corr_{:026x}", u128::from(request).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060) >> 24)
}

/// How long it takes to find both entries of a request, on average over many.
fn seek(ledger: &Ledger, entries: u64) -> Duration {
    let (rounds, before) = (50, Instant::now());
    for round in 0..rounds {
        let correlation = Some(correlation(entries / 2 / u64::from(rounds) * u64::from(round)));
        assert_eq!(ledger.events(&Query { correlation, ..Query::default() }).unwrap().len(), 2);
    }
    before.elapsed() / rounds
}

fn size(folder: &Path) -> u64 {
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| if path.is_dir() { size(&path) } else { path.metadata().unwrap().len() }).sum()
}

/// Names what a child verifies.
const VERIFIED: &str = "LEDGER_SIZE_VERIFIED";

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
