//! Programs under the gate: `writ run` and `writ env`, with real programs, and one that tries every way around.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
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
fn a_run_starts_a_gate_of_its_own_where_none_runs() {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin);
    plan.configure();
    assert_eq!(plan.writ(&["init"]).code, 0);
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
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
