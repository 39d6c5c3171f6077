//! The gate under strace: its system calls as they were made, or made to fail.
//!
//! Where the machine does not let one process trace another, a test says so in one line and ends.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

use super::gate::Gate;

/// The words that start a program under strace: it writes what it sees to `file`. The program keeps its process id,
/// so that it can be signalled. `None`, with a line that says so, where tracing is not possible.
pub(crate) fn strace(file: &Path, options: &[&str]) -> Option<Vec<String>> {
    // The gate hides its memory from its own user, not from root: others than root become it in a namespace.
    let as_root = if geteuid().is_root() { [].as_slice() } else { &["unshare", "--map-root-user"] };
    // Every thread, whole strings.
    let always = ["strace", "-D", "-f", "-qq", "-s", "4096", "-o", file.to_str().unwrap()];
    let words: Vec<String> = as_root.iter().chain(&always).chain(options).map(|&word| word.to_owned()).collect();
    let probe = Command::new(&words[0]).args(&words[1..]).arg("true").stderr(Stdio::null()).status();
    if probe.is_ok_and(|status| status.success()) {
        return Some(words);
    }
    skip("strace is missing or may not trace here");
    None
}

/// Says that a test proves nothing here. `tests/run` does not accept that where it could have installed what it takes.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("WRIT_TESTS_NO_SKIP").is_none(), "{why}");
    eprintln!("skipped: {why}");
}

/// How many entries a gate records when it starts again. Each of them is synced by itself, so this is also how often its
/// writer calls `fdatasync` before the first request. `gate` was started once: the next start records the gap as well.
pub(crate) fn entries_at_start(gate: &Gate) -> usize {
    let events = gate.events();
    let started = events.iter().rposition(|event| event["type"] == "gate.started").unwrap();
    events.len() - started + 1
}
