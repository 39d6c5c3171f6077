//! Who keeps a checkpoint elsewhere: the real `writ witness`, a file, an endpoint; and what a ledger that was led back, or
//! a witness that is gone, looks like then.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::Origin;

/// A running `writ witness`.
struct Witness {
    process: Child,
    address: String,
    key: String,
}

#[test]
fn a_witness_cosigns_what_the_gate_records_and_an_auditor_can_ask_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, key) = created();
    let witness = Witness::start(folder.path(), &key);
    let gate = witnessed(plan, &[witness.entry()]).start();
    refused(&gate);
    let cosigned = || gate.succeeds(&["ledger", "checkpoint"]).contains("— example.com/w ").then_some(());
    within(PATIENCE, cosigned).expect("the newest checkpoint is cosigned");
    let recorded = gate.wait_for("ledger.checkpoint", |event| event["data"]["cosigned_by"] == "example.com/w");
    assert!(recorded["data"]["size"].as_u64().unwrap() > 1, "{recorded}");
    let bundle = gate.home().join("evidence.zip").to_str().unwrap().to_owned();
    // The last entry is the record of the cosignature, whose own checkpoint is cosigned a moment later.
    let cosigned = || {
        drop(fs::remove_file(&bundle));
        gate.succeeds(&["export", "--out", &bundle]);
        (gate.writ(&["verify", &bundle, "--key", &key, "--witness", &witness.key]).code == 0).then_some(())
    };
    within(PATIENCE, cosigned).expect("the bundle carries the cosignature");
    let stranger = Witness::start(&folder.path().join("other"), &key);
    let printed = gate.writ(&["verify", &bundle, "--key", &key, "--witness", &stranger.key]);
    assert!(printed.code == 4 && printed.out.contains("trust.witness"), "{printed:?}");
}

#[test]
fn i23_a_ledger_led_back_to_an_older_state_is_found_out_by_its_witness() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, key) = created();
    let witness = Witness::start(folder.path(), &key);
    let plan = witnessed(plan, &[witness.entry()]).start().stop();
    let (data, kept) = (plan.home().join("data"), folder.path().join("kept"));
    copy(&data, &kept);
    let gate = plan.start();
    (0..10).for_each(|_| refused(&gate));
    let size = gate.events().len() as u64;
    let seen = || witness.seen(folder.path()).filter(|seen| *seen >= size);
    within(PATIENCE, seen).expect("the witness has seen them");
    let plan = gate.stop();
    fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    let gate = plan.start();
    let found = gate.wait_for("violation", |event| event["data"]["kind"] == "ledger_behind_witness");
    assert_eq!(
        (&found["data"]["severity"], gate.succeeds(&["ledger", "verify"]).is_empty()),
        (&json!("critical"), false)
    );
}

#[test]
fn a_witness_that_is_silent_is_recorded_once_and_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, key) = created();
    let entry = Witness::start(folder.path(), &key).entry();
    let gate = witnessed(plan, &[entry]).start();
    refused(&gate);
    let silent = |gate: &Gate| {
        let gaps = gate.events_called("ledger.gap");
        gaps.into_iter().filter(|gap| gap["data"]["reason"] == "witness_silent").collect::<Vec<Value>>()
    };
    let gap = within(Duration::from_secs(60), || silent(&gate).pop()).expect("the silence is recorded");
    assert_eq!(gap["data"]["witness"], "example.com/w");
    refused(&gate);
    assert_eq!(silent(&gate).len(), 1);
    gate.assert_verifies();
}

#[test]
fn a_file_and_an_endpoint_get_every_checkpoint_and_the_file_is_compared_at_the_start() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::plain());
    let copied = folder.path().join("checkpoint");
    let (plan, _key) = created();
    let kept = folder.path().join("kept");
    copy(&plan.home().join("data"), &kept);
    let file = json!({"file": copied});
    let endpoint = json!({"post": format!("http://127.0.0.1:{}/checkpoints", origin.port())});
    let gate = witnessed(plan, &[file, endpoint]).start();
    refused(&gate);
    let newest = gate.succeeds(&["ledger", "checkpoint"]);
    within(PATIENCE, || (fs::read_to_string(&copied).ok()? == newest).then_some(())).expect("the file has the newest");
    let posted = || origin.hits().iter().any(|hit| hit.body == newest.as_bytes()).then_some(());
    within(PATIENCE, posted).expect("the endpoint has the newest");
    let plan = gate.stop();
    // Everything the gate has is led back together; only the file elsewhere knows.
    let data = plan.home().join("data");
    fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    let printed = plan.refuses_to_start();
    assert!(printed.err.contains("are missing; restore the journal from a copy"), "{printed:?}");
}

#[test]
fn what_cannot_be_a_witness_is_refused_with_its_place() {
    for (entry, why) in [
        (json!({"url": "https://witness.example"}), "give `url` with `key`"),
        (json!({"url": "https://witness.example", "key": "key"}), "is not that of a witness"),
        (json!({"url": "witness.example", "key": "key"}), "is not that of a witness"),
        (json!({"post": "ftp://audit.example/"}), "has to begin with http:// or https://"),
        (json!({"file": "/tmp/x", "post": "https://audit.example/"}), "give `url` with `key`"),
    ] {
        let printed = witnessed(Plan::new(), &[entry]).refuses_to_start();
        assert!(printed.err.contains(why), "{printed:?}");
    }
}

// === impl Witness ===

impl Witness {
    fn start(dir: &Path, log: &str) -> Witness {
        let mut command = Command::new(env!("CARGO_BIN_EXE_writ"));
        command.args(["witness", "--listen", "127.0.0.1:0", "--name", "example.com/w", "--log", log, "--dir"]);
        let mut process = command.arg(dir.join("witness")).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut said = |label: &str| lines.next().unwrap().unwrap().strip_prefix(label).unwrap().to_owned();
        Witness { address: said("witness at "), key: said("key "), process }
    }

    /// As `writ.yaml` has it.
    fn entry(&self) -> Value {
        json!({"url": self.address, "key": self.key})
    }

    /// Size of the checkpoint it cosigned last.
    fn seen(&self, dir: &Path) -> Option<u64> {
        let mut files = dir.join("witness").read_dir().unwrap().map(|entry| entry.unwrap().path());
        let file = files.find(|file| file.extension().is_some_and(|extension| extension == "checkpoint"))?;
        fs::read_to_string(file).ok()?.lines().nth(1)?.parse().ok()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A home with a ledger, and the ledger's key.
fn created() -> (Plan, String) {
    let plan = Plan::new();
    plan.configure();
    let printed = plan.writ(&["init"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let key = plan.writ(&["ledger", "key"]).out.trim().to_owned();
    (plan, key)
}

fn witnessed(plan: Plan, witnesses: &[Value]) -> Plan {
    plan.configure();
    let text = fs::read_to_string(plan.home().join("writ.yaml")).unwrap();
    // JSON is YAML.
    plan.file("writ.yaml", &format!("{text}witnesses: {}\n", Value::from(witnesses)))
}

/// Something that is recorded.
fn refused(gate: &Gate) {
    assert_eq!(gate.agent().get("https://elsewhere.example/").status, 403);
}

/// With the modes of its files, which a gate looks at.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}
