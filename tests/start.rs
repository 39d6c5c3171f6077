//! What keeps a gate from starting: each fault is named with its file and with what mends it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::gate::{Plan, Printed};
use crate::harness::origin::Origin;
use crate::harness::world::{API, CREDENTIALS, DESTINATIONS};

#[test]
fn files_with_keys_must_be_private() {
    let plan = used_home();
    let keys = ["data/keys/principals.json", "data/keys/ledger.key", "data/keys/seal.key", "data/ca/root.key"];
    for key in keys {
        let path = plan.home().join(key);
        mode(&path, 0o644);
        refused(&plan, &[&format!("chmod 600 {}", path.display())]);
        mode(&path, 0o600);
    }
    plan.start();
}

#[test]
fn what_others_may_change_is_not_trusted() {
    let plan = used_home();
    for (name, own) in [("", 0o700), ("policies", 0o700), ("policies/reads.yaml", 0o600), ("destinations.yaml", 0o600)]
    {
        let path = plan.home().join(name);
        mode(&path, own | 0o020);
        refused(&plan, &["can be changed by others", "chmod go-w"]);
        assert_eq!(plan.writ(&["check"]).code, 3, "{name}");
        mode(&path, own);
    }
    plan.start();
}

#[test]
fn i24_a_second_gate_on_the_same_home_is_refused() {
    let gate = Plan::new().start();
    let second = gate.start_again();
    assert!(second.code != 0 && second.err.contains("in use by another process"), "{second:?}");
    assert_eq!(gate.agent().get("http://writ.internal/health").status, 200);
}

#[test]
fn doors_need_addresses_of_their_own() {
    let plan = Plan::new().file("writ.yaml", "doors: { forward: '127.0.0.1:4999', operator: '127.0.0.1:4999' }\n");
    refused(&plan, &["doors.forward", "doors.operator", "its own"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = std::net::TcpListener::bind(taken).unwrap();
    let plan = Plan::new().file("writ.yaml", &format!("doors: {{ forward: '{taken}', operator: '127.0.0.1:0' }}\n"));
    refused(&plan, &["cannot open the forward door", &taken.to_string(), "doors.forward"]);
    drop(listener);
}

#[test]
fn unknown_and_repeated_keys_are_named_with_file_and_line() {
    let credentials = CREDENTIALS.replace("FILE", "/nowhere");
    let cases = [
        ("writ.yaml", "doors:\n  forwad: '127.0.0.1:0'\n".to_owned(), 2),
        ("writ.yaml", "limits:\n  headers: 5\n  headers: 6\n".to_owned(), 3),
        ("writ.yaml", "limit:\n  headers: 5\n".to_owned(), 1),
        ("destinations.yaml", DESTINATIONS.replacen("    effect: read\n", "    efect: read\n", 1), 4),
        (
            "destinations.yaml",
            DESTINATIONS.replacen("    effect: read\n", "    effect: read\n    effect: write\n", 1),
            5,
        ),
        ("credentials.yaml", credentials.replace("    hosts:", "    host:"), 4),
        (
            "credentials.yaml",
            credentials.replace("    hosts: [api.example]\n", "    hosts: [api.example]\n    hosts: []\n"),
            5,
        ),
        ("policies/reads.yaml", "destinations: [api.read, plain.read]\nrequire_aproval: always\n".to_owned(), 2),
        ("policies/reads.yaml", "destinations: [api.read, plain.read]\nid: reads\nid: reads\n".to_owned(), 3),
    ];
    for (name, text, line) in cases {
        let plan = Plan::new().file(name, &text);
        let place = format!("{}:{line}", plan.home().join(name).display());
        refused(&plan, &[&place]);
        let checked = plan.writ(&["check"]);
        assert!(checked.code == 3 && checked.out.contains(&place), "{name}: {checked:?}");
    }
}

#[test]
fn what_configuration_leaves_open_is_refused() {
    let without_policy = Plan::new().without("policies/reads.yaml");
    refused(&without_policy, &["destinations.yaml", "reads"]);
    assert_eq!(without_policy.writ(&["check"]).code, 3);
    let credentials = CREDENTIALS.replace("FILE", "/nowhere");
    let unused = Plan::new().file("policies/unused.yaml", "destinations: []\n");
    refused(&unused, &["unused.yaml"]);
    let stray = Plan::new().file("credentials.yaml", &credentials.replace("[api.example]", "[other.example]"));
    refused(&stray, &["api.read", "`api`", "hosts"]);
    let no_roots = Plan::new().file(
        "writ.yaml",
        "doors: { forward: '127.0.0.1:0', operator: '127.0.0.1:0' }\nupstream: { roots: /nowhere/roots.pem }\n",
    );
    refused(&no_roots, &["/nowhere/roots.pem"]);
    let unknown_limit = Plan::new().variable("WRIT_LIMITS_HEADERS", "many");
    refused(&unknown_limit, &["WRIT_LIMITS_HEADERS"]);
}

#[test]
fn m_a_journal_that_was_changed_is_refused() {
    let plan = used_home();
    let (journal, whole) = journal(&plan);
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let (middle, last) = (lines[..lines.len() / 2].concat().len(), lines.len() - 1);
    let flipped = |at: usize| {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        changed
    };
    // What lies before the end is `writ ledger verify`'s to find: a start reads what the index has not seen.
    let cases = [
        ("a byte in the first entry is changed", flipped(200), true),
        ("a byte in the middle is changed", flipped(middle + 40), false),
        ("a byte in the last entry is changed", flipped(whole.len() - 40), true),
        ("an entry in the middle is missing", [&lines[..3], &lines[4..]].concat().concat(), true),
        ("the last entry is there twice", [&lines[..], &lines[last..]].concat().concat(), true),
        ("nothing is left", Vec::new(), true),
    ];
    for (what, bytes, at_start) in cases {
        fs::write(&journal, bytes).unwrap();
        let verified = plan.writ(&["ledger", "verify"]);
        assert_eq!(verified.code, 4, "{what}: {verified:?}");
        if at_start {
            let said = plan.refuses_to_start();
            assert!(said.code != 0 && said.err.contains("restore"), "{what}: {said:?}");
        }
    }
    // A chain cut at its end is a chain; only who knows how long it was can tell.
    fs::write(&journal, lines[..last].concat()).unwrap();
    let said = plan.refuses_to_start();
    assert!(said.code != 0 && said.err.contains("restore the journal"), "{said:?}");
    fs::write(&journal, &whole).unwrap();
    assert_eq!(plan.writ(&["ledger", "verify"]).code, 0);
    plan.start();
}

#[test]
fn m_parts_of_the_ledger_that_are_gone_are_not_made_anew() {
    let plan = used_home();
    for part in ["data/events", "data/keys/ledger.key", "data/ca/root.key", "data/keys/principals.json"] {
        let (path, aside) = (plan.home().join(part), plan.home().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let said = plan.refuses_to_start();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(said.code != 0 && said.err.contains(name), "without {part}: {said:?}");
        assert!(!path.exists(), "{part} was made anew");
        fs::rename(&aside, &path).unwrap();
    }
    plan.start();
}

#[test]
fn a_torn_last_line_is_set_aside_and_recorded() {
    let plan = used_home();
    let (journal, mut whole) = journal(&plan);
    whole.extend_from_slice(b"{\"v\":1,\"seq\":99,\"ts\":\"20");
    fs::write(&journal, whole).unwrap();
    let gate = plan.start();
    assert_eq!(gate.events_called("gate.recovered").len(), 1);
    gate.assert_verifies();
}

#[test]
fn the_database_can_be_rebuilt_from_the_journal() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    let intent = gate.agent().held("https://api.example/change/7", "x");
    let plan = gate.stop();
    fs::remove_dir_all(plan.home().join("data/ledger")).unwrap();
    assert_eq!(plan.writ(&["ledger", "rebuild"]).code, 0);
    let gate = plan.start();
    assert_eq!(gate.agent().status(&intent), "pending_approval");
    gate.approve(&intent);
    assert_eq!((gate.agent().settled(&intent).as_str(), origin.hits().len()), ("succeeded", 1));
}

/// A home that has served a few requests.
fn used_home() -> Plan {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    assert_eq!(gate.agent().get("https://api.example/a").status, 200);
    assert_eq!(gate.agent().request("DELETE", "https://api.example/a", &[], b"").status, 403);
    gate.agent().held("https://api.example/change/7", "x");
    gate.stop()
}

/// The journal of a home that was used on one day, and its content.
fn journal(plan: &Plan) -> (PathBuf, Vec<u8>) {
    let mut days: Vec<PathBuf> =
        fs::read_dir(plan.home().join("data/events")).unwrap().map(|day| day.unwrap().path()).collect();
    days.sort();
    let path = days.pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

/// The gate does not start, and says all of this.
fn refused(plan: &Plan, words: &[&str]) {
    let said: Printed = plan.refuses_to_start();
    assert_ne!(said.code, 0, "{words:?}");
    for word in words {
        assert!(said.err.contains(word), "`{word}` is missing: {}", said.err);
    }
    assert!(said.out.is_empty(), "{}", said.out);
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The first command of the README on a machine that has never seen the program.
#[test]
fn the_first_run_needs_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (home, said) = (folder.path().join("home"), folder.path().join("said"));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_writ"));
    command
        .arg("up")
        .env("WRIT_HOME", &home)
        .env("WRIT_DOORS_FORWARD", "127.0.0.1:0")
        .env("WRIT_DOORS_OPERATOR", "127.0.0.1:0");
    let mut gate = command.stdout(std::fs::File::create(&said).unwrap()).spawn().unwrap();
    let printed = || std::fs::read_to_string(&said).ok().filter(|text| text.contains("Ctrl-C"));
    let printed = crate::harness::gate::within(crate::harness::gate::PATIENCE, printed);
    let printed = printed.expect("it says what to paste");
    let proxy = printed.split("HTTPS_PROXY=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let curl = |request: &str| {
        let line = format!(
            "curl -s -o /dev/null -w '%{{http_code}}' --noproxy '' --cacert {}/ca-bundle.pem -x \"{proxy}\" {request}",
            home.display()
        );
        let output = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let codes = [curl("-X DELETE https://example.com/"), curl("-d hello https://example.com/")];
    gate.kill().unwrap();
    gate.wait().unwrap();
    assert_eq!(codes, ["403", "202"], "{printed}");
    assert!(printed.contains(" approve INTENT --rationale"), "{printed}");
}
