//! `writ doctor`: what it says of clients that work, that ignore the gate, and that do not trust it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::gate::Plan;

#[test]
fn each_client_is_judged_by_what_it_does() {
    let bin = tempfile::tempdir().unwrap();
    for program in ["curl", "true"] {
        let path = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().stdout;
        symlink(String::from_utf8(path).unwrap().trim(), bin.path().join(program)).unwrap();
    }
    // One that takes no variable for its proxy, and one that takes none for its roots.
    client(&bin.path().join("wget"), "exit 4");
    client(&bin.path().join("git"), "exec curl --silent --cacert /dev/null \"$2\"");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().to_string();
    let findings = examine(&home(), bin.path(), &open);
    let of = |check: &str| {
        findings.iter().find(|each| each["check"] == check).unwrap_or_else(|| panic!("{check}: {findings:#?}"))
    };
    for (check, verdict, words) in [
        ("client curl", "good", "goes through the gate"),
        ("client wget", "doubt", "ignores the proxy"),
        ("client git", "doubt", "does not trust"),
        ("bypass", "doubt", "was opened"),
        ("home", "good", "destinations"),
        ("file modes", "good", ""),
        ("clock", "good", ""),
        ("gate", "doubt", "no gate answers"),
        ("credential api", "good", ""),
    ] {
        let found = of(check);
        assert_eq!(found["verdict"], verdict, "{found}");
        assert!(found["detail"].as_str().unwrap().contains(words), "{found}");
        assert_eq!(found["fix"].as_str().unwrap().is_empty(), verdict == "good", "{found}");
    }
    assert!(!findings.iter().any(|each| each["check"] == "client npm"), "what is not there is not judged");
}

#[test]
fn what_stops_a_gate_is_said_and_fails() {
    let bin = tempfile::tempdir().unwrap();
    let plan = home();
    let token = plan.home().join("operator.token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ended = doctor(&plan, bin.path(), &["doctor", "--bypass", &closed]);
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("BAD   file modes") && said.contains("chmod 600"), "{said}");
    assert!(said.contains("got nowhere"), "{said}");
}

fn home() -> Plan {
    let plan = Plan::new();
    plan.configure();
    assert_eq!(plan.writ(&["init"]).code, 0);
    plan
}

fn client(path: &Path, ask: &str) {
    fs::write(path, format!("#!/bin/sh\n[ \"$1\" = --version ] || {ask}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn examine(plan: &Plan, bin: &Path, bypass: &str) -> Vec<Value> {
    let ended = doctor(plan, bin, &["--json", "doctor", "--bypass", bypass]);
    let said = String::from_utf8(ended.stdout).unwrap();
    said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}"))).collect()
}

fn doctor(plan: &Plan, bin: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_writ"))
        .args(words)
        .env("WRIT_HOME", plan.home())
        .env("PATH", bin)
        .env_remove("WRIT_TOKEN")
        .output()
        .unwrap()
}
