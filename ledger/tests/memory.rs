//! Memory stays bounded however many entries there are. A program of its own: the measure is that of the process.
#![expect(clippy::unwrap_used, reason = "tests fail by panic")]

use ledger::{Draft, EventType, Ledger, Options};

/// About 50 MB here, most of it the index's cache; without the collection after each batch it was 370 MB.
#[test]
fn appending_does_not_accumulate() {
    let home = tempfile::tempdir().unwrap();
    Ledger::create(home.path(), "example.com/test").unwrap();
    let ledger = Ledger::open(Options { dir: home.path().to_owned(), queue: 64, reserve_bytes: 0 }).unwrap();
    let before = resident_kib();
    for submission in 0..80 {
        let draft = |index| {
            let draft = Draft::new(EventType::RequestRefused).correlation(format!("corr_{submission}-{index}"));
            draft.agent("crawler").run(format!("run-{submission}")).with("code", "unknown_destination")
        };
        ledger.append_blocking((0..1000).map(draft).collect()).unwrap();
    }
    let grown = resident_kib().saturating_sub(before);
    println!("{grown} KiB for {} entries", ledger.head().seq);
    assert!(grown < 150 * 1024, "memory grew by {grown} KiB");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}
