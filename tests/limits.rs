//! Every limit of the table is set low and seen from outside. A limit that nobody can see is none.

use std::time::{Duration, Instant};

use writ::limits::Limits;

mod clients;
mod held;
mod ledger;
mod requests;
mod upstreams;

#[test]
fn every_limit_has_a_test_that_sets_it() {
    let sets = |name: &str| SOURCES.iter().any(|source| source.contains(&format!("\"{name}\", ")));
    let untested: Vec<&str> = Limits::TABLE.iter().map(|(name, _)| *name).filter(|name| !sets(name)).collect();
    assert!(untested.is_empty(), "no test sets {untested:?}");
}

/// Runs something that a limit of a second or less must end, and says what it gave.
fn soon<T>(what: &str, run: impl FnOnce() -> T) -> T {
    sooner_than(Duration::from_secs(8), what, run)
}

/// Runs something that must take less than `time`: what a busy machine may need, and still less than the default.
fn sooner_than<T>(time: Duration, what: &str, run: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let given = run();
    assert!(started.elapsed() < time, "{what} had no effect: {:?}", started.elapsed());
    given
}

const SOURCES: [&str; 6] = [
    include_str!("limits/clients.rs"),
    include_str!("limits/held.rs"),
    include_str!("limits/ledger.rs"),
    include_str!("limits/requests.rs"),
    include_str!("limits/upstreams.rs"),
    include_str!("sockets.rs"),
];
