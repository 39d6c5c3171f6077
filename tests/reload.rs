//! New rules while the gate serves: all of a version or nothing of it, and no request is lost on the way.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::connection::Connection;
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::Origin;
use crate::harness::world::{API, POLICIES, SECRET, credentials};

#[test]
fn a_broken_file_is_noticed_refused_with_file_and_line_and_changes_nothing() {
    let (origin, gate) = api();
    gate.write(
        "policies/reads.yaml",
        "destinations: [api.read, plain.read]\nrequire_aproval: always\nexpiry_minutes: 0\n",
    );
    let refused = gate.wait_for("config.refused", |_| true);
    let faults = refused["data"]["faults"].as_array().unwrap();
    let found: Vec<(&str, u64)> =
        faults.iter().map(|fault| (fault["code"].as_str().unwrap(), fault["line"].as_u64().unwrap())).collect();
    assert_eq!(found, [("unknown_key", 2), ("out_of_range", 3)], "{refused:#}");
    assert!(faults[0]["file"].as_str().unwrap().ends_with("policies/reads.yaml"), "{refused:#}");
    assert!(gate.log().contains("reads.yaml:2:1"), "{}", gate.log());
    assert_eq!((gate.agent().get("https://api.example/a").status, origin.hits().len()), (200, 1));

    gate.write("policies/reads.yaml", "destinations: [api.read, plain.read]\nrequire_approval: always\n");
    assert!(is_loaded_again(&gate), "{}", gate.log());
    assert_eq!((gate.agent().get("https://api.example/a").status, origin.hits().len()), (202, 1));
    gate.assert_verifies();
}

#[test]
fn credentials_and_manifests_are_read_again_like_everything_else() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let seen = || origin.hits().last().and_then(|hit| hit.header("authorization").map(str::to_owned));
    assert_eq!((agent.get("https://api.example/a").status, seen()), (200, Some(format!("Bearer {SECRET}"))));

    let other = credentials(&gate.home(), "{ header: { name: authorization, value: 'Token {secret}' } }");
    gate.write("credentials.yaml", &other);
    assert!(within(PATIENCE, || (gate.log().matches("were loaded again").count() == 1).then_some(())).is_some());
    assert_eq!((agent.get("https://api.example/a").status, seen()), (200, Some(format!("Token {SECRET}"))));

    // A secret where its place belongs: the old file stays in force, and nothing says what stood there.
    gate.write("credentials.yaml", &other.replace("'file://", "'").replace("api.key", "s3cret"));
    let refused = gate.wait_for("config.refused", |_| true);
    let fault = &refused["data"]["faults"][0];
    assert_eq!((fault["code"].as_str(), fault["line"].as_u64()), (Some("bad_credential"), Some(3)), "{refused:#}");
    assert!(!format!("{refused}{}", gate.log()).contains("s3cret"));
    assert_eq!((agent.get("https://api.example/a").status, seen()), (200, Some(format!("Token {SECRET}"))));

    gate.write("credentials.yaml", &other);
    fs::DirBuilder::new().mode(0o700).create(gate.home().join("agents")).unwrap();
    gate.write("agents/default.yaml", "name: default\nallowed_actions: [write]\n");
    assert!(within(PATIENCE, || (agent.get("https://api.example/a").status == 403).then_some(())).is_some());
    gate.write("agents/default.yaml", "name: default\nallowed_actons: [read]\n");
    let refused = gate.wait_for("config.refused", |event| event["seq"].as_u64() > refused["seq"].as_u64());
    let fault = &refused["data"]["faults"][0];
    assert_eq!((fault["code"].as_str(), fault["line"].as_u64()), (Some("unknown_key"), Some(2)), "{refused:#}");
    assert_eq!(agent.get("https://api.example/a").status, 403, "what is wrong loosens nothing");
    gate.assert_verifies();
}

#[test]
fn a_swapped_mount_of_kubernetes_is_a_change_like_any_other() {
    let origin = Origin::https(&[API]);
    let plan = POLICIES
        .iter()
        .fold(Plan::new().origin(API, &origin), |plan, (id, _)| plan.without(&format!("policies/{id}.yaml")));
    let policies = plan.home().join("policies");
    mount(&policies, "..1", |_, text| text.to_owned());
    symlink("..1", policies.join("..data")).unwrap();
    for (id, _) in POLICIES {
        symlink(format!("..data/{id}.yaml"), policies.join(format!("{id}.yaml"))).unwrap();
    }
    let gate = plan.start();
    assert_eq!(gate.agent().get("https://api.example/a").status, 200);

    let approval = |id: &str, text: &str| {
        if id == "reads" { format!("{text}require_approval: always\n") } else { text.to_owned() }
    };
    mount(&policies, "..2", approval);
    symlink("..2", policies.join("..data_tmp")).unwrap();
    fs::rename(policies.join("..data_tmp"), policies.join("..data")).unwrap();
    assert!(is_loaded_again(&gate), "{}", gate.log());
    assert_eq!((gate.agent().get("https://api.example/a").status, origin.hits().len()), (202, 1));
}

#[test]
fn under_load_no_request_is_dropped_and_no_decision_mixes_two_versions() {
    let (origin, gate) = api();
    let done = AtomicBool::new(false);
    let (answers, reloads) = thread::scope(|scope| {
        let agents: Vec<_> = (0..4).map(|_| scope.spawn(|| ask_until(&done, &gate))).collect();
        let reloads = swap_versions(&gate);
        done.store(true, Ordering::Relaxed);
        (agents.into_iter().flat_map(|agent| agent.join().unwrap()).collect::<Vec<u16>>(), reloads)
    });
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert_eq!(answers.len(), origin.hits().len());
    assert!(reloads >= 60 && answers.len() >= 60, "{reloads} reloads, {} requests", answers.len());

    let decisions = gate.events_called("decision.allowed");
    let versions: BTreeSet<[String; 3]> = decisions.iter().map(version_of).collect();
    assert_eq!(
        versions.len(),
        2,
        "each version has one destination, one policy and one file of destinations: {versions:?}"
    );
    assert_eq!(decisions.len(), answers.len());
    gate.assert_verifies();
    println!("{reloads} reloads in {} s beside {} requests", LOAD.as_secs(), answers.len());
}

/// Asks one request after the other, and returns how each was answered.
fn ask_until(done: &AtomicBool, gate: &Gate) -> Vec<u16> {
    let mut answers = Vec::new();
    while !done.load(Ordering::Relaxed) {
        answers.push(gate.agent().post("https://api.example/send/x", "x").status);
    }
    answers
}

/// Puts two versions in force by turns, twenty times a second, and returns how often. They name the destination and its
/// policy differently, so a mixture of both does not even load.
fn swap_versions(gate: &Gate) -> usize {
    let token = fs::read_to_string(gate.home().join("operator.token")).unwrap();
    let destinations = crate::harness::world::DESTINATIONS;
    let versions = [("api.send", "sends"), ("api.send.two", "sends")].map(|(key, policy)| {
        let text = destinations.replace("key: api.send\n", &format!("key: {key}\n"));
        let list = format!("destinations: [{key}, api.small, plain.send]\nrequire_approval: never\n");
        (text, policy, list)
    });
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < LOAD {
        let next = Instant::now() + Duration::from_millis(50);
        let (text, policy, list) = &versions[count % 2];
        gate.write("destinations.yaml", text);
        gate.write(&format!("policies/{policy}.yaml"), list);
        let answer = Connection::open(gate.operator).ask(&format!(
            "POST /v1/reload HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-length: 0\r\n\r\n",
            gate.operator,
            token.trim()
        ));
        assert_eq!(answer.status, 200, "{answer:?}");
        count += 1;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    count
}

fn version_of(event: &Value) -> [String; 3] {
    ["/dest_key", "/data/policy_hash", "/data/destinations_hash"]
        .map(|pointer| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// Writes the policies, changed, into a folder of their own, as a mount does.
fn mount(policies: &Path, version: &str, changed: impl Fn(&str, &str) -> String) {
    let folder = policies.join(version);
    fs::DirBuilder::new().mode(0o755).create(&folder).unwrap();
    for (id, text) in POLICIES {
        let path = folder.join(format!("{id}.yaml"));
        fs::write(&path, changed(id, text)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

/// On the ledger before they are in force, in the log after it.
fn is_loaded_again(gate: &Gate) -> bool {
    within(PATIENCE, || gate.log().contains("were loaded again").then_some(())).is_some()
}

fn api() -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    (origin, gate)
}

/// How long rules are swapped.
const LOAD: Duration = Duration::from_secs(5);
