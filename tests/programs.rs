//! Programs under the gate: `writ run` and `writ env`, with real programs, and one that tries every way around.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::trace::skip;
use crate::harness::world::API;

#[test]
fn a_program_runs_under_the_gate_with_its_own_input_output_and_exit_code() {
    let (_origin, gate) = api();
    let mut child = under(&gate, &["run", "--", "sh", "-c", "cat; echo said >&2; exit 7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"to the program").unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), text(&ended.stdout).as_str()), (Some(7), "to the program"), "{ended:?}");
    assert!(text(&ended.stderr).contains("said"), "{ended:?}");
    for (program, code) in [("kill -9 $$", 137), ("no-such-program-anywhere", 127)] {
        assert_eq!(run(&gate, &["run", "--", "sh", "-c", program]).status.code(), Some(code), "{program}");
    }
    assert_eq!(run(&gate, &["run", "--", "no-such-program-anywhere"]).status.code(), Some(127));
}

#[test]
fn a_program_needs_no_other_set_up_and_its_token_ends_with_it() {
    let (origin, gate) = api();
    let ended = run(&gate, &["run", "--", "sh", "-c", "curl -sS https://api.example/a; echo; echo $HTTPS_PROXY"]);
    let said = text(&ended.stdout);
    let (answer, proxy) = said.split_once("\n\n").unwrap_or_else(|| panic!("{ended:?}"));
    assert_eq!((answer, origin.hits()[0].target.as_str()), ("ok", "/a"));
    let login = gate.wait_for("operator.login", |event| event["data"]["pass_until"].is_string());
    assert_eq!((&login["agent_id"], &login["data"]["operator"]), (&json!("default"), &json!("admin")));
    assert_eq!(gate.events_called("decision.allowed")[0]["agent_id"], "default");
    let token = proxy.trim().split([':', '@']).find(|part| part.starts_with("writ_agt_")).unwrap();
    assert_ne!(token, gate.agent().token, "the run has a token of its own");
    assert_eq!(gate.agent().with_token(token).connect().ask(&connect(token)).code(), "credential_invalid");
}

#[test]
fn a_signal_to_the_run_reaches_the_program() {
    let (_origin, gate) = api();
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let mut child = under(&gate, &["run", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut first = [0_u8; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), text(&ended.stdout).trim()), (Some(3), "caught"));
}

#[test]
fn secrets_of_the_gate_are_not_in_a_programs_environment() {
    let (_origin, gate) = api();
    let credentials = fs::read_to_string(gate.home().join("credentials.yaml")).unwrap();
    let more =
        "  other:\n    secret: env://OTHER_KEY\n    hosts: [other.example]\n    inject: { bearer: '{secret}' }\n";
    gate.write("credentials.yaml", &(credentials + more));
    for isolation in ["auto", "off"] {
        let ended = under(&gate, &["run", "--isolation", isolation, "--", "env"])
            .envs([("OTHER_KEY", "sk_other"), ("VAULT_TOKEN", "hvs_x"), ("WRIT_TOKEN", "")])
            .env("AWS_SECRET_ACCESS_KEY", "aws_x")
            .env_remove("WRIT_TOKEN")
            .output()
            .unwrap();
        let said = text(&ended.stdout);
        assert!(
            said.contains("NO_PROXY=localhost,127.0.0.1,::1\n") && said.contains("JAVA_TOOL_OPTIONS="),
            "{ended:?}"
        );
        for secret in ["sk_other", "hvs_x", "aws_x", "WRIT_HOME", "VAULT_TOKEN"] {
            assert!(!said.contains(secret), "{isolation}: {secret}");
        }
        assert!(
            said.contains("OTHER_KEY=put-in-by-writ\n"),
            "clients that want a key do not start without one: {said}"
        );
        assert_eq!(text(&ended.stderr).contains("NOT ISOLATED"), isolation == "off", "{ended:?}");
    }
}

#[test]
fn a_confined_program_has_no_way_out_but_the_gate() {
    if !has_namespaces() {
        return skip("this system gives no namespaces to a user");
    }
    let (origin, gate) = api();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host.sock");
    let _path_socket = UnixListener::bind(&path).unwrap();
    let name = format!("writ-test-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let six = TcpListener::bind("[::1]:0").unwrap();
    let facts = json!({
        "home": gate.home(), "tcp": origin.port(), "udp": udp.local_addr().unwrap().port(),
        "tcp6": six.local_addr().unwrap().port(), "operator": gate.operator.port(), "path": path, "abstract": name,
        "pid": std::process::id(),
    });
    let script = folder.path().join("escape.py");
    fs::write(&script, ESCAPE).unwrap();
    let words = ["python3", script.to_str().unwrap(), &facts.to_string()];
    // Outside every way is open: what fails inside fails because of the walls.
    let outside = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let all: Value = serde_json::from_slice(&outside.stdout).unwrap_or_else(|_| panic!("{outside:?}"));
    let open = all["open"].as_array().unwrap().iter().filter_map(Value::as_str);
    // Whether this machine has a network, and names, is not the point.
    let open: Vec<&str> = open.filter(|way| !["dns", "outside"].contains(way)).collect();
    assert_eq!(open, ["tcp", "operator", "tcp6", "udp", "abstract", "path", "home", "token", "process", "root"]);
    udp.set_nonblocking(true).unwrap();
    while udp.recv(&mut [0; 64]).is_ok() {}

    let inside = run(&gate, &[&["run", "--isolation", "required", "--"], words.as_slice()].concat());
    let found: Value = serde_json::from_slice(&inside.stdout).unwrap_or_else(|_| panic!("{inside:?}"));
    assert_eq!(found["open"], json!([]), "{found}");
    assert_eq!(found["gate"], "ok\n", "the one way that is left: {found}");
    assert!(udp.recv(&mut [0; 64]).is_err(), "a datagram came out");
    assert_eq!(origin.hits().len(), 1);
}

#[test]
fn a_user_who_is_not_root_is_confined_as_well_and_nobody_keeps_rights() {
    if !has_namespaces() || !nix::unistd::geteuid().is_root() {
        return skip("becoming another user takes root, and namespaces");
    }
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin);
    plan.configure();
    let folder = plan.home().parent().unwrap().to_owned();
    // Another user may not reach the folder that this one was built in.
    let program = folder.join("writ");
    fs::copy(env!("CARGO_BIN_EXE_writ"), &program).unwrap();
    let home = plan.home();
    let script = format!(
        "curl -sS https://api.example/a; grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status; \
         cat {}/operator.token; ls /proc | grep -c '^[0-9]'",
        home.display()
    );
    for user in ["1234", "0"] {
        let owned = Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(&folder).status().unwrap();
        assert!(owned.success());
        let ended = Command::new("setpriv")
            .args(["--reuid", user, "--regid", user, "--clear-groups"])
            .arg(&program)
            .args(["run", "--isolation", "required", "--", "sh", "-c", &script])
            .env("WRIT_HOME", &home)
            .env("WRIT_DOORS_FORWARD", free())
            .env("WRIT_DOORS_OPERATOR", free())
            .env_remove("WRIT_TOKEN")
            .current_dir("/")
            .output()
            .unwrap();
        let said = text(&ended.stdout);
        assert!(said.starts_with("ok\n"), "{user}: {ended:?}");
        let rights: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("Cap")).collect();
        assert_eq!(rights.len(), 5, "{said}");
        assert!(rights.iter().all(|right| right.ends_with(":\t0000000000000000")), "{user}: {said}");
        assert!(!said.contains("writ_op"), "{user}: {said}");
        let processes: u32 = said.lines().last().unwrap().parse().unwrap();
        assert!(processes < 8, "{user}: {said}");
    }
    assert_eq!(origin.hits().len(), 2);
}

#[test]
fn what_was_open_before_the_walls_is_closed_inside() {
    if !has_namespaces() {
        return skip("this system gives no namespaces to a user");
    }
    let (_origin, gate) = api();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "reached").unwrap();
    for (isolation, expected) in [("off", "reached\n"), ("required", "\n")] {
        let mut command = Command::new("bash");
        command.args(["-c", "dir=$1; shift; exec \"$@\" 7<\"$dir\" 8<>/dev/null", "bash"]).arg(folder.path());
        let run =
            under(&gate, &["run", "--isolation", isolation, "--", "bash", "-c", "cat /proc/self/fd/7/secret; echo"]);
        command.arg(run.get_program()).args(run.get_args());
        run.get_envs().for_each(|(name, value)| match value {
            Some(value) => drop(command.env(name, value)),
            None => drop(command.env_remove(name)),
        });
        let ended = command.output().unwrap();
        assert_eq!(text(&ended.stdout), expected, "{isolation}: {ended:?}");
    }
}

#[test]
fn a_configuration_and_keys_outside_of_the_home_are_hidden_and_the_runs_own_gate_has_them() {
    if !has_namespaces() {
        return skip("this system gives no namespaces to a user");
    }
    let origin = Origin::https(&[API]);
    let elsewhere = tempfile::tempdir().unwrap();
    let (config, operators) = (elsewhere.path().join("config"), elsewhere.path().join("operators"));
    let key = elsewhere.path().join("ledger.key");
    let plan = Plan::new().origin(API, &origin);
    plan.configure();
    assert_eq!(plan.writ(&["init"]).code, 0);
    for folder in [&config, &operators] {
        DirBuilder::new().mode(0o700).create(folder).unwrap();
    }
    for name in ["writ.yaml", "destinations.yaml", "credentials.yaml", "policies"] {
        fs::rename(plan.home().join(name), config.join(name)).unwrap();
    }
    fs::rename(plan.home().join("data/keys/ledger.key"), &key).unwrap();
    let section = format!("tokens: {{ operators: {} }}\nledger: {{ key: {} }}\n", operators.display(), key.display());
    let mut main = OpenOptions::new().append(true).open(config.join("writ.yaml")).unwrap();
    main.write_all(section.as_bytes()).unwrap();
    let script = format!(
        "curl -sS https://api.example/a; cd {}; ls config operators; cat ledger.key; \
         for each in config/policies/mine.yaml operators/mine ledger.key; do echo x > $each && echo wrote $each; done",
        elsewhere.path().display()
    );
    let ended = Command::new(env!("CARGO_BIN_EXE_writ"))
        .arg("--config")
        .arg(&config)
        .args(["run", "--isolation", "required", "--", "bash", "-c", &script])
        .env("WRIT_HOME", plan.home())
        .env("WRIT_DOORS_FORWARD", free())
        .env("WRIT_DOORS_OPERATOR", free())
        .env_remove("WRIT_TOKEN")
        .output()
        .unwrap();
    // What is written to a hidden file is written to nowhere.
    assert_eq!(text(&ended.stdout), "ok\nconfig:\n\noperators:\nwrote ledger.key\n", "{ended:?}");
    assert!(fs::read(&key).unwrap().len() > 2 && !config.join("policies/mine.yaml").exists());
}

#[test]
fn a_socket_is_hidden_however_it_is_called_now() {
    if !has_namespaces() {
        return skip("this system gives no namespaces to a user");
    }
    let (_origin, gate) = api();
    let folder = tempfile::tempdir().unwrap();
    let [space, old, new, linked] = ["two words", "old", "new", "linked"].map(|name| folder.path().join(name));
    let _sockets = [&space, &old].map(|path| UnixListener::bind(path).unwrap());
    fs::hard_link(&space, &linked).unwrap();
    fs::rename(&old, &new).unwrap();
    let script = "import socket,sys\nfor path in sys.argv[1:]:\n s = socket.socket(socket.AF_UNIX)\n try:\n  \
                  s.connect(path); print('reached')\n except OSError: print('no')\n";
    for (isolation, expected) in [("off", "reached\n"), ("required", "no\n")] {
        let mut command = under(&gate, &["run", "--isolation", isolation, "--", "python3", "-c", script]);
        let ended = command.args([&space, &new, &linked]).output().unwrap();
        assert_eq!(text(&ended.stdout), expected.repeat(3), "{isolation}: {ended:?}");
    }
}

#[test]
fn one_run_finds_neither_its_plan_nor_the_folder_of_another() {
    if !has_namespaces() {
        return skip("this system gives no namespaces to a user");
    }
    let (_origin, gate) = api();
    let other = tempfile::Builder::new().prefix("writ-run-").tempdir().unwrap();
    fs::write(other.path().join("plan.json"), "of another run").unwrap();
    let script = format!("cat {}/writ-run-*/plan.json; env | grep WRIT_", std::env::temp_dir().display());
    let outside = run(&gate, &["run", "--isolation", "off", "--", "sh", "-c", &script]);
    assert!(text(&outside.stdout).contains("of another run"), "{outside:?}");
    let inside = run(&gate, &["run", "--isolation", "required", "--", "sh", "-c", &script]);
    assert_eq!(text(&inside.stdout), "", "{inside:?}");
    assert!(text(&inside.stderr).contains("plan.json"), "it was looked for: {inside:?}");
}

#[test]
fn a_run_starts_a_gate_of_its_own_where_none_runs() {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin);
    plan.configure();
    assert_eq!(plan.writ(&["init"]).code, 0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_writ"));
    command.env("WRIT_HOME", plan.home()).env_remove("WRIT_TOKEN");
    command.env("WRIT_DOORS_FORWARD", free()).env("WRIT_DOORS_OPERATOR", free());
    let ended = command.args(["run", "--", "curl", "-sS", "https://api.example/a"]).output().unwrap();
    assert_eq!((ended.status.code(), text(&ended.stdout).as_str()), (Some(0), "ok\n"), "{ended:?}");
    assert_eq!(plan.writ(&["ledger", "verify"]).code, 0, "its gate has ended, and in order");
}

#[test]
fn a_working_gate_is_left_running_and_unknown_agents_are_told() {
    let (_origin, gate) = api();
    let unknown = run(&gate, &["run", "--agent", "nobody", "--", "true"]);
    assert_eq!((unknown.status.code(), text(&unknown.stderr).contains("there is no `nobody`")), (Some(1), true));
    gate.add_agent("builder", "");
    let start = Instant::now();
    assert_eq!(run(&gate, &["run", "--agent", "builder", "--", "true"]).status.code(), Some(0));
    println!("writ run -- true: {:?}", start.elapsed());
    assert_eq!(gate.agent().get("https://api.example/a").status, 200);
}

#[test]
fn printed_variables_bring_a_shell_under_the_gate() {
    let (origin, gate) = api();
    let printed = run(&gate, &["env"]);
    let script = format!("{}curl -sS https://api.example/a", text(&printed.stdout));
    let ended = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!((text(&ended.stdout).as_str(), origin.hits().len()), ("ok\n", 1), "{ended:?}");
    for (shell, line) in [
        ("fish", "set -gx HTTPS_PROXY 'http://default:writ_agt_"),
        ("powershell", "$env:HTTPS_PROXY = 'http://default:writ_agt_"),
        ("dotenv", "HTTPS_PROXY=\"http://default:writ_agt_"),
        ("docker", "SSL_CERT_FILE=/etc/writ/ca-bundle.pem"),
    ] {
        let said = text(&run(&gate, &["env", "--shell", shell]).stdout);
        assert!(said.lines().any(|each| each.starts_with(line)), "{shell}: {said}");
    }
    let other = run(&gate, &["env", "--agent", "builder"]);
    assert!(text(&other.stderr).contains("WRIT_AGENT_TOKEN"), "{other:?}");
}

#[test]
fn java_trusts_the_keystore_of_the_home() {
    let (_origin, gate) = api();
    let keystore = gate.home().join("ca-bundle.p12");
    let listed = Command::new("keytool").args(["-list", "-storetype", "PKCS12", "-keystore"]).arg(keystore).output();
    let Ok(listed) = listed else { return skip("there is no Java") };
    let said = text(&listed.stdout);
    let trusted = said.matches("trustedCertEntry").count();
    let bundle = fs::read_to_string(gate.home().join("ca-bundle.pem")).unwrap();
    assert_eq!(trusted, bundle.matches("-----BEGIN CERTIFICATE-----").count(), "{listed:?}");
}

fn api() -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    (origin, gate)
}

/// A command that finds the doors of this gate.
fn under(gate: &Gate, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_writ"));
    command.args(arguments).env("WRIT_HOME", gate.home()).env_remove("WRIT_TOKEN").stdin(Stdio::null());
    command.env("WRIT_DOORS_FORWARD", gate.forward.to_string());
    command.env("WRIT_DOORS_OPERATOR", gate.operator.to_string());
    command
}

/// An address that nobody listens at.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn run(gate: &Gate, arguments: &[&str]) -> Output {
    under(gate, arguments).output().unwrap()
}

fn connect(token: &str) -> String {
    format!("CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\nproxy-authorization: Bearer {token}\r\n\r\n")
}

fn has_namespaces() -> bool {
    let probe = Command::new("unshare").args(["-Urnpf", "--mount-proc", "true"]).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Tries every way there is, and says which are open.
const ESCAPE: &str = r#"
import json, os, socket, subprocess, sys
known = json.loads(sys.argv[1])

def tcp(family, host, port):
    with socket.socket(family, socket.SOCK_STREAM) as to:
        to.settimeout(3)
        to.connect((host, port))

def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
        to.connect(("127.0.0.1", known["udp"]))
        to.send(b"out")
        to.settimeout(0.3)
        try:
            to.recv(1)
        except TimeoutError:
            pass

def dns():
    socket.getaddrinfo("one.one.one.one", 80)

def unix(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as to:
        to.connect(address)

def read(path):
    with open(path, "rb") as file:
        assert file.read(1)

home = known["home"]
ways = {
    "tcp": lambda: tcp(socket.AF_INET, "127.0.0.1", known["tcp"]),
    "operator": lambda: tcp(socket.AF_INET, "127.0.0.1", known["operator"]),
    "outside": lambda: tcp(socket.AF_INET, "192.0.2.1", 80),
    "tcp6": lambda: tcp(socket.AF_INET6, "::1", known["tcp6"]),
    "udp": udp,
    "dns": dns,
    "abstract": lambda: unix("\0" + known["abstract"]),
    "path": lambda: unix(known["path"]),
    "home": lambda: read(home + "/destinations.yaml"),
    "token": lambda: read(home + "/operator.token"),
    "process": lambda: os.kill(known["pid"], 0),
    "root": lambda: read(f"/proc/{known['pid']}/root{home}/operator.token"),
    "unmount": lambda: subprocess.run(["umount", home], check=True, capture_output=True),
    "again": lambda: subprocess.run(
        ["unshare", "-Urm", "sh", "-c", f"umount {home} && cat {home}/operator.token"], check=True, capture_output=True),
}
tried = {}
for name, way in ways.items():
    try:
        way()
        tried[name] = None
    except Exception as error:
        tried[name] = repr(error)
gate = subprocess.run(["curl", "-sS", "https://api.example/a"], capture_output=True, text=True).stdout
print(json.dumps({"open": [name for name in tried if tried[name] is None], "tried": tried, "gate": gate}))
"#;
