//! A gate in a container: its configuration is mounted, its principals come from files, its certificates go elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::harness::agent::Agent;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::trace::skip;
use crate::harness::world::API;

const AGENT: &str = "writ_agt_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OPERATOR: &str = "writ_op_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The folders that a container would have mounted.
struct Mounts {
    folder: TempDir,
}

#[test]
fn configuration_tokens_and_certificates_have_folders_of_their_own() {
    let (origin, mounts) = (Origin::https(&[API]), Mounts::new());
    let gate = mounts.plan(&origin).start();
    assert!(!gate.home().join("destinations.yaml").exists() && !gate.home().join("ca-bundle.pem").exists());
    let mode = fs::metadata(mounts.path("ca/ca-bundle.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "agents of other users have to read it");
    let robot = mounts.agent(&gate);
    assert_eq!(robot.get("https://api.example/a").status, 200);
    let intent = robot.held("https://api.example/change/1", "x");
    let voted = gate.writ_as(OPERATOR, &["approve", &intent, "--rationale", "looks right"]);
    assert_eq!(voted.code, 0, "{voted:?}");
    assert_eq!(robot.settled(&intent), "succeeded");
    assert_ne!(gate.writ_as(OPERATOR, &["agents", "revoke", "robot"]).code, 0, "a reviewer is no admin");

    // A change is taken up from there, and another start adds nobody twice.
    fs::write(mounts.path("config/policies/reads.yaml"), "destinations: [api.read, plain.read\n").unwrap();
    assert_ne!(gate.writ(&["reload"]).code, 0);
    fs::write(mounts.path("config/policies/reads.yaml"), "destinations: [api.read, plain.read]\n").unwrap();
    let gate = gate.restart();
    assert_eq!(gate.events_called("agent.registered").iter().filter(|event| event["agent_id"] == "robot").count(), 1);
    assert_eq!(mounts.agent(&gate).get("https://api.example/a").status, 200);
}

#[test]
fn a_file_brings_nobody_back_and_gives_no_name_to_another_token() {
    let (origin, mounts) = (Origin::https(&[API]), Mounts::new());
    let gate = mounts.plan(&origin).start();
    gate.succeeds(&["agents", "revoke", "robot"]);
    let gate = gate.restart();
    assert_eq!(mounts.agent(&gate).get("http://plain.example/a").status, 407);
    let plan = gate.stop();
    let cases = [
        ("agents/robot", AGENT.replace("0123", "3210"), "choose a new name"),
        ("agents/robot", "writ_agt_short".to_owned(), "random letters and digits"),
        ("agents/robot", OPERATOR.to_owned(), "writ_agt_"),
        ("agents/other", AGENT.to_owned(), "`robot` has this token already"),
        ("operators/rita", OPERATOR.to_owned(), "NAME.reviewer"),
    ];
    for (file, token, words) in cases {
        let before = fs::read(mounts.path(file)).ok();
        fs::write(mounts.path(file), &token).unwrap();
        let said = plan.refuses_to_start();
        assert!(said.code != 0 && said.err.contains(words) && said.err.contains(file), "{file}: {said:?}");
        assert!(!said.err.contains(&token), "{said:?}");
        before
            .map_or_else(|| fs::remove_file(mounts.path(file)), |before| fs::write(mounts.path(file), before))
            .unwrap();
    }
}

#[test]
fn nothing_is_created_where_the_configuration_is_mounted() {
    let (origin, mounts) = (Origin::https(&[API]), Mounts::new());
    let plan = mounts.plan(&origin);
    fs::remove_file(mounts.path("config/destinations.yaml")).unwrap();
    let said = plan.refuses_to_start();
    assert!(said.code != 0 && said.err.contains("nothing is created"), "{said:?}");
    assert!(!mounts.path("config/destinations.yaml").exists());
}

#[test]
fn n10_a_folder_of_every_mode_is_trusted_only_where_it_is_mounted_read_only() {
    let (origin, mounts) = (Origin::https(&[API]), Mounts::new());
    let plan = mounts.plan(&origin);
    let policies = mounts.path("config/policies");
    fs::set_permissions(&policies, fs::Permissions::from_mode(0o777)).unwrap();
    let said = plan.refuses_to_start();
    assert!(said.code != 0 && said.err.contains("can be changed by others"), "{said:?}");
    if !geteuid().is_root() {
        return skip("only root can mount");
    }
    let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    let gate = plan.under(&["unshare", "--mount", "sh", "-c", mount, policies.to_str().unwrap()]).start();
    assert_eq!(mounts.agent(&gate).get("https://api.example/a").status, 200);
}

// === impl Mounts ===

impl Mounts {
    fn new() -> Mounts {
        let mounts = Mounts { folder: tempfile::tempdir().unwrap() };
        for folder in ["config", "agents", "operators", "ca"] {
            fs::create_dir(mounts.path(folder)).unwrap();
        }
        fs::write(mounts.path("agents/robot"), format!("{AGENT}\n")).unwrap();
        fs::write(mounts.path("operators/rita.reviewer"), OPERATOR).unwrap();
        mounts
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The shared world with its configuration in a folder of its own.
    fn plan(&self, origin: &Origin) -> Plan {
        let plan = Plan::new().origin(API, origin);
        plan.configure();
        for name in ["writ.yaml", "destinations.yaml", "credentials.yaml", "policies"] {
            fs::rename(plan.home().join(name), self.path("config").join(name)).unwrap();
        }
        let variables = [
            ("WRIT_CONFIG", "config"),
            ("WRIT_TOKENS_AGENTS", "agents"),
            ("WRIT_TOKENS_OPERATORS", "operators"),
            ("WRIT_TRUST", "ca"),
        ];
        variables.into_iter().fold(plan, |plan, (name, path)| plan.variable(name, self.path(path).to_str().unwrap()))
    }

    fn agent(&self, gate: &Gate) -> Agent {
        Agent::new(gate.forward, &self.path("ca/ca-bundle.pem"), "robot", AGENT)
    }
}
