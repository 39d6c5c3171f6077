//! The gate's clock is moved: what has ended stays ended, and time in the ledger never goes back.

use std::path::PathBuf;

use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::PLAIN;

#[test]
fn a_clock_that_is_set_back_revives_nothing() {
    let Some(library) = faketime() else {
        assert!(std::env::var_os("WRIT_TESTS_NO_SKIP").is_none(), "libfaketime is not installed");
        return;
    };
    let origin = Origin::plain();
    let held = "destinations: [api.send, api.small, plain.send]\nrequire_approval: always\nexpiry_minutes: 60\n";
    let gate = Plan::new().origin(PLAIN, &origin).file("policies/sends.yaml", held).start();
    let old = gate.agent().held("http://plain.example/send/1", "x");
    // Two hours later nobody has decided.
    let moved = [("LD_PRELOAD", library.to_str().unwrap()), ("FAKETIME", "+2h"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    let gate = gate.stop().start_with(&moved);
    assert_eq!(gate.agent().settled(&old), "expired");
    let later = gate.agent().held("http://plain.example/send/2", "x");

    let gate = gate.stop().start();
    let agent = gate.agent();
    assert_eq!(agent.status(&old), "expired");
    assert_ne!(gate.writ(&["approve", &old, "--rationale", "it is early again"]).code, 0);
    // What is held counts from the ledger's time, not from the clock's: it has its hour.
    let now = agent.held("http://plain.example/send/3", "x");
    for intent in [&later, &now] {
        gate.approve(intent);
        assert_eq!(agent.settled(intent), "succeeded");
    }
    assert_eq!((agent.status(&old).as_str(), origin.hits().len()), ("expired", 2));
    let times = times(&gate);
    assert!(times.is_sorted(), "time went back: {times:?}");
    gate.assert_verifies();
}

fn times(gate: &Gate) -> Vec<String> {
    gate.events().iter().map(|event| event["ts"].as_str().unwrap().to_owned()).collect()
}

/// The library that moves the clock of one process.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}
