//! Nothing leaves before the record that allows it is on disk, shown in the order of the gate's own system calls.

use std::collections::HashMap;
use std::fs;

use crate::harness::gate::{PATIENCE, Plan, within};
use crate::harness::origin::Origin;
use crate::harness::trace;
use crate::harness::world::PLAIN;

/// One system call.
#[derive(Debug)]
struct Call {
    name: String,
    /// Descriptor with its path or address, then the other arguments.
    arguments: String,
    result: String,
    /// Line of the trace on which it was made.
    begun: usize,
    /// Line on which it returned.
    ended: usize,
}

#[test]
fn the_record_is_synced_before_the_first_byte_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let calls = ["-yy", "-e", "trace=write,writev,sendto,sendmsg,fdatasync,connect"];
    let Some(strace) = trace::strace(&file, &calls) else { return };
    let origin = Origin::plain();
    let words: Vec<&str> = strace.iter().map(String::as_str).collect();
    let gate = Plan::new().origin(PLAIN, &origin).under(&words).start();
    for at in 0..ROUNDS {
        let answer = gate.agent().get(&format!("http://{PLAIN}/round-{at}"));
        assert_eq!(answer.status, 200);
        gate.event("action.executed", &answer.correlation());
    }
    let plan = gate.stop();
    within(PATIENCE, || fs::read_to_string(&file).ok().filter(|text| text.contains("gate.stopped"))).unwrap();

    let calls = calls_in(&fs::read_to_string(&file).unwrap());
    let journal = plan.home().join("data/events").to_str().unwrap().to_owned();
    let port = origin.port();
    let connected = first(&calls, "connect", 0, &[&format!("htons({port})")]);
    for at in 0..ROUNDS {
        let written = first(&calls, "write", 0, &[&journal, "decision.allowed", &format!("/round-{at}\\\"")]);
        let synced = first(&calls, "fdatasync", written.ended, &[&journal]);
        assert_eq!(synced.result, "0", "{synced:?}");
        let sent = first(&calls, "", 0, &[&format!("127.0.0.1:{port}]"), &format!("\"GET /round-{at} ")]);
        assert!(synced.ended < sent.begun, "round {at}: {synced:?} {sent:?}");
        assert!(at > 0 || synced.ended < connected.begun, "{synced:?} {connected:?}");
    }
}

/// A head and a body written apart must not wait for each other's acknowledgement, on either side.
#[test]
fn both_sides_send_without_delay() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let Some(strace) = trace::strace(&file, &["-yy", "-e", "trace=setsockopt,write"]) else { return };
    let origin = Origin::plain();
    let words: Vec<&str> = strace.iter().map(String::as_str).collect();
    let gate = Plan::new().origin(PLAIN, &origin).under(&words).start();
    assert_eq!(gate.agent().get(&format!("http://{PLAIN}/a")).status, 200);
    let door = gate.forward;
    gate.stop();
    within(PATIENCE, || fs::read_to_string(&file).ok().filter(|text| text.contains("gate.stopped"))).unwrap();
    let calls = calls_in(&fs::read_to_string(&file).unwrap());
    for side in [format!("TCP:[{door}->"), format!("->127.0.0.1:{}]", origin.port())] {
        let set = first(&calls, "setsockopt", 0, &["TCP_NODELAY, [1]", &side]);
        assert_eq!(set.result, "0", "{set:?}");
    }
}

/// The first call of this name, or of any, that began behind a line of the trace and has all of these in its arguments.
fn first<'a>(calls: &'a [Call], name: &str, behind: usize, has: &[&str]) -> &'a Call {
    let fits = |call: &&Call| {
        call.name.starts_with(name) && call.begun >= behind && has.iter().all(|each| call.arguments.contains(each))
    };
    let found = calls.iter().filter(fits).min_by_key(|call| call.begun);
    found.unwrap_or_else(|| panic!("no {name} with {has:?} behind line {behind} in {calls:#?}"))
}

/// What `strace -f` wrote. A call that others interrupted stands on two lines.
fn calls_in(trace: &str) -> Vec<Call> {
    let mut unfinished = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (at, start.trim_end()));
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            calls
                .extend(unfinished.remove(thread).and_then(|(begun, start)| call(&format!("{start}{end}"), begun, at)));
        } else {
            calls.extend(call(rest, at, at));
        }
    }
    calls
}

fn call(text: &str, begun: usize, ended: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    Some(Call { name: name.to_owned(), arguments: arguments.to_owned(), result: result.to_owned(), begun, ended })
}

const ROUNDS: usize = 8;
