//! Evidence as an auditor meets it: exported from a running gate, checked by two programs that do not trust the gate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, SECRET};

#[test]
fn what_a_gate_exports_verifies_with_its_key_and_nothing_else_does() {
    let gate = busy();
    let key = gate.succeeds(&["ledger", "key"]).trim().to_owned();
    for (name, scope) in [
        ("all", vec![]),
        ("agent", vec!["--agent", "default"]),
        ("destination", vec!["--destination", "api.change"]),
        ("time", vec!["--since", "2020-01-01", "--until", "2100-01-01T00:00:00Z"]),
    ] {
        let bundle = export(&gate, name, &scope);
        let verified = verify(&gate, &bundle, &["--key", &key]);
        assert_eq!((verified.0, verified.1["verdict"].as_str()), (0, Some("verified")), "{name}: {verified:?}");
        assert_eq!(verify(&gate, &bundle, &[]).0, 5, "{name}: without a key");
        let other = key.replace("+A", "+B");
        assert_ne!(gate.writ(&["verify", &path(&bundle), "--key", &other]).code, 0, "{name}: that is no key");
        let mut bytes = fs::read(&bundle).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&bundle, bytes).unwrap();
        assert_eq!(verify(&gate, &bundle, &["--key", &key]).0, 4, "{name}: a flipped bit");
    }
}

#[test]
fn a_blocked_attempt_is_exported_like_an_executed_one() {
    let gate = busy();
    let denied = gate.agent().request("DELETE", "https://api.example/change/7", &[], b"").correlation();
    gate.event("decision.denied", &denied);
    let bundle = export(&gate, "denied", &[&denied]);
    let (code, said) = verify(&gate, &bundle, &["--key", gate.succeeds(&["ledger", "key"]).trim()]);
    assert_eq!((code, &said["checked"]["selected"]), (0, &Value::from(1)), "{said}");
}

#[test]
fn no_secret_is_in_a_bundle_and_its_policies_are() {
    let gate = busy();
    let text = String::from_utf8_lossy(&fs::read(export(&gate, "all", &[])).unwrap()).into_owned();
    assert!(!text.contains(SECRET));
    for file in ["destinations.yaml", "policies/changes.yaml"] {
        assert!(text.contains(&fs::read_to_string(gate.home().join(file)).unwrap()), "{file}");
    }
}

#[test]
fn an_export_that_fails_leaves_no_file() {
    let gate = busy();
    let out = gate.home().join("nothing.zip");
    let printed = gate.writ(&["export", "corr_nobody", "--out", &path(&out)]);
    assert!(printed.code == 1 && printed.err.contains("no entry is inside the scope"), "{printed:?}");
    assert!(!out.exists());
    let printed = gate.writ(&["export", "--since", "yesterday", "--out", &path(&out)]);
    assert!(printed.err.contains("`yesterday` is no time"), "{printed:?}");
    fs::write(&out, "mine").unwrap();
    assert!(gate.writ(&["export", "--out", &path(&out)]).err.contains("is there already"));
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
}

#[test]
fn a_capsule_and_the_proof_of_one_entry_verify_too() {
    let gate = busy();
    let key = gate.succeeds(&["ledger", "key"]).trim().to_owned();
    let capsule = gate.home().join("capsule.json");
    gate.succeeds(&["export", "--capsule", "--out", &path(&capsule)]);
    let proof = gate.home().join("entry.tlog-proof");
    let executed = gate.events_called("action.executed")[0]["seq"].to_string();
    fs::write(&proof, gate.succeeds(&["ledger", "proof", &executed])).unwrap();
    for file in [&capsule, &proof] {
        let said: Value =
            serde_json::from_str(&gate.succeeds(&["--json", "verify", &path(file), "--key", &key])).unwrap();
        assert_eq!(said["verdict"], "verified", "{said}");
        assert_eq!(gate.writ(&["verify", &path(file)]).code, 5);
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text.replacen('7', "8", 1)).unwrap();
        assert_eq!(gate.writ(&["verify", &path(file), "--key", &key]).code, 4);
    }
    assert!(gate.writ(&["ledger", "proof", "100000"]).err.contains("there is no entry 100000"));
}

#[test]
fn a_checkpoint_kept_elsewhere_and_a_rotated_key_still_lead_to_the_evidence() {
    let gate = busy();
    let (old, held) = (gate.succeeds(&["ledger", "key"]), gate.home().join("held"));
    fs::write(&held, gate.succeeds(&["ledger", "checkpoint"])).unwrap();
    let new = gate.succeeds(&["ledger", "rotate-key"]);
    assert_ne!(new, old);
    assert_eq!(gate.succeeds(&["ledger", "key"]), new);
    assert_eq!(gate.agent().get("https://elsewhere.example/").status, 403);
    let bundle = export(&gate, "since", &["--checkpoint", &path(&held)]);
    for key in [old.trim(), new.trim()] {
        let (code, said) = verify(&gate, &bundle, &["--key", key, "--checkpoint", &path(&held)]);
        assert_eq!(code, 0, "{said}");
    }
    gate.succeeds(&["ledger", "verify", "--checkpoint", &path(&held)]);
}

#[test]
fn the_signing_key_can_lie_where_a_copy_of_the_data_directory_does_not_have_it() {
    let gate = busy();
    let key = gate.succeeds(&["ledger", "key"]);
    let plan = gate.stop();
    let (own, elsewhere) = (plan.home().join("data/keys/ledger.key"), plan.home().join("signing.key"));
    fs::rename(&own, &elsewhere).unwrap();
    assert!(plan.refuses_to_start().err.contains("keys/ledger.key` is missing"));
    let text = fs::read_to_string(plan.home().join("writ.yaml")).unwrap();
    let named = format!("{text}ledger: {{ key: '{}' }}\n", elsewhere.display());
    let gate = plan.file("writ.yaml", &named).start();
    assert_eq!(gate.succeeds(&["ledger", "key"]), key);
    let bundle = export(&gate, "all", &[]);
    assert_eq!(verify(&gate, &bundle, &["--key", key.trim()]).0, 0);
    assert!(!own.exists());
}

/// A gate with a live request, and one that was held, approved and run.
fn busy() -> Gate {
    let origin = Origin::https(&[API]).reply("/read", Reply::new(200)).reply("/change", Reply::new(201));
    let gate = Plan::new().origin(API, &origin).start();
    let agent = gate.agent();
    assert_eq!(agent.get("https://api.example/read/1").status, 200);
    let intent = agent.held("https://api.example/change/7", "x");
    gate.approve(&intent);
    assert_eq!(agent.settled(&intent), "succeeded");
    gate
}

fn export(gate: &Gate, name: &str, scope: &[&str]) -> PathBuf {
    let out = gate.home().join(format!("{name}.zip"));
    gate.succeeds(&[&["export", "--out", &path(&out)], scope].concat());
    out
}

/// What `writ verify` says, once `verify.py` has said the same.
fn verify(gate: &Gate, bundle: &Path, trust: &[&str]) -> (i32, Value) {
    let printed = gate.writ(&[&["--json", "verify", &path(bundle)], trust].concat());
    let said: Value = serde_json::from_str(&printed.out).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/verify.py");
    let python = Command::new("python3").arg("-B").arg(script).arg(bundle).arg("--json").args(trust).output().unwrap();
    let other: Value = serde_json::from_slice(&python.stdout).unwrap();
    assert_eq!((python.status.code(), &other["code"]), (Some(printed.code), &said["code"]), "{said} {other}");
    (printed.code, said)
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
