//! `/health` and `/ready` say what is wrong, and `writ health` says it for a container.

use std::fs;

use serde_json::Value;

use super::look;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::trace::skip;
use crate::harness::world::{API, POLICIES, SECRET};

#[test]
fn a_gate_without_faults_is_ready_under_any_name() {
    let gate = Plan::new().start();
    for (path, status) in [("/health", "ok"), ("/ready", "ready")] {
        let answer = look(&gate, "10.1.2.3:8787", None, path);
        assert_eq!((answer.status, answer.text_at("/status").as_str()), (200, status), "{answer:?}");
    }
    assert_eq!(look(&gate, "10.1.2.3:8787", None, "/v1/head").status, 421, "everything else wants the door's own name");
    let asked = gate.writ(&["health"]);
    assert_eq!((asked.code, asked.out.as_str()), (0, "ready\n"), "{asked:?}");
    assert_eq!(gate.writ(&["health", "--live"]).code, 0);
    let plan = gate.stop();
    let gone = plan.writ(&["health"]);
    assert!(gone.code == 1 && gone.err.contains("no gate answers"), "{gone:?}");
}

#[test]
fn rules_that_are_refused_degrade_and_do_not_stop() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    let (id, text) = POLICIES[2];
    gate.write(&format!("policies/{id}.yaml"), "destinations: [api.read\n");
    assert_ne!(gate.writ(&["reload"]).code, 0);
    assert_eq!(reasons(&gate), (200, "degraded".to_owned(), vec!["rules_refused".to_owned()]));
    assert_eq!(gate.agent().get("https://api.example/a").status, 200, "the rules in force stay");
    let asked = gate.writ(&["health"]);
    assert!(asked.code == 0 && asked.out.contains(&format!("policies/{id}.yaml:2")), "{asked:?}");
    gate.write(&format!("policies/{id}.yaml"), text);
    gate.succeeds(&["reload"]);
    assert_eq!(reasons(&gate), (200, "ready".to_owned(), vec![]));
}

#[test]
fn a_vault_that_lends_nothing_degrades_until_it_lends_again() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    fs::remove_file(gate.home().join("api.key")).unwrap();
    assert_eq!(gate.agent().get("https://api.example/a").status, 503);
    assert_eq!(reasons(&gate), (200, "degraded".to_owned(), vec!["vault_down".to_owned()]));
    gate.write("api.key", SECRET);
    assert_eq!(gate.agent().get("https://api.example/a").status, 200);
    assert_eq!(reasons(&gate), (200, "ready".to_owned(), vec![]));
}

#[test]
fn a_disk_that_is_nearly_full_is_told() {
    let gate = Plan::new().limit("reserve_bytes", 1 << 62).start();
    assert_eq!(reasons(&gate), (503, "not_ready".to_owned(), vec!["storage_low".to_owned()]));
    let asked = gate.writ(&["health"]);
    assert!(asked.code == 1 && asked.out.contains("reserve_bytes"), "{asked:?}");
    assert_eq!(gate.writ(&["health", "--live"]).code, 0, "a restart would not help");
}

#[test]
fn a_closed_ledger_wants_a_restart() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    let journal = fs::read_dir(gate.home().join("data/events")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(journal).unwrap();
    assert_eq!(gate.agent().get("https://api.example/a").status, 503);
    assert_eq!(reasons(&gate), (503, "not_ready".to_owned(), vec!["ledger_closed".to_owned()]));
    assert_eq!((gate.writ(&["health", "--live"]).code, gate.writ(&["health"]).code), (1, 1));
    let public = gate.agent().get("http://writ.internal/health");
    assert_eq!((public.status, public.code().as_str()), (503, "ledger_unavailable"));
}

#[test]
fn a_clock_behind_the_ledger_is_told() {
    let Some(library) = faketime() else { return skip("faketime is missing") };
    let ahead = [("LD_PRELOAD", library.as_str()), ("FAKETIME", "+1h"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    let gate = Plan::new().start_with(&ahead).restart();
    assert_eq!(reasons(&gate), (503, "not_ready".to_owned(), vec!["clock_behind".to_owned()]));
    assert!(gate.writ(&["health"]).out.contains("set it right"));
}

/// The library that gives a program another clock, where Debian puts it.
fn faketime() -> Option<String> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let found = folders.map(|each| each.path().join("faketime/libfaketime.so.1")).find(|path| path.exists())?;
    found.to_str().map(str::to_owned)
}

/// Status of `/ready`, its word, and the codes of its reasons.
fn reasons(gate: &Gate) -> (u16, String, Vec<String>) {
    let answer = look(gate, "localhost", None, "/ready");
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    let codes = document["reasons"].as_array().unwrap().iter().map(|each| each["code"].as_str().unwrap().to_owned());
    (answer.status, answer.text_at("/status"), codes.collect())
}
