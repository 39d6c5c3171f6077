//! How long an upstream or a secret may take, and how many of them are kept.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::agent::{Agent, Response};
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::{Origin, Reply};
use crate::harness::trace;
use crate::harness::world::{API, PLAIN, SECRET};
use crate::limits::{soon, sooner_than};

#[test]
fn connect_seconds_bounds_connecting_and_again_the_tls_handshake() {
    let (full, _held) = full_listener();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    for (what, port) in [("no answer", full.port()), ("no TLS handshake", mute.local_addr().unwrap().port())] {
        let gate = Plan::new().dial("api.example:443", port).limit("connect_seconds", 1).start();
        let answer = soon("connect_seconds", || gate.agent().get(READ));
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"), "{what}");
        assert!(answer.text_at("/detail").contains(&format!("{what} within 1 s")), "{answer:?}");
        let outcome = gate.event("action.failed", &answer.correlation());
        assert_eq!(outcome["data"]["sent"], false, "{what}");
    }
}

#[test]
fn reply_head_seconds_bounds_the_wait_for_a_reply_and_its_outcome_is_unknown() {
    let origin = Origin::https(&[API]).reply("/never", never());
    let gate = Plan::new().origin(API, &origin).limit("reply_head_seconds", 1).start();
    let answer = soon("reply_head_seconds", || gate.agent().get("https://api.example/never"));
    assert_eq!((answer.status, answer.code().as_str()), (502, "outcome_unknown"));
    gate.event("action.unknown", &answer.correlation());
    assert_eq!(origin.hits().len(), 1);
}

#[test]
fn reply_idle_seconds_ends_a_reply_that_stalls_and_it_does_not_look_complete() {
    let stalls = Reply::new(200).chunks(vec![(Duration::ZERO, b"half".to_vec()), (HOUR, b"rest".to_vec())]);
    let origin = Origin::https(&[API]).reply("/stalls", stalls);
    let gate = Plan::new().origin(API, &origin).limit("reply_idle_seconds", 1).start();
    let answer = soon("reply_idle_seconds", || gate.agent().get("https://api.example/stalls"));
    assert_eq!((answer.status, answer.text().as_str(), answer.complete), (200, "half", false));
    let outcome = gate.event("action.executed", &answer.correlation());
    assert_eq!(outcome["data"]["ended"], "upstream_stalled");
}

#[test]
fn reply_bytes_and_reply_seconds_end_a_reply_that_never_does() {
    let part = |pause| vec![(Duration::from_millis(pause), b"part".to_vec()); 40];
    for (limit, pause, why) in
        [(("reply_bytes", 10), 0, "reply_too_large"), (("reply_seconds", 1), 100, "reply_too_long")]
    {
        let origin = Origin::https(&[API]).reply("/x", Reply::new(200).chunks(part(pause)));
        let gate = Plan::new().origin(API, &origin).limit(limit.0, limit.1).start();
        let answer = gate.agent().get(READ);
        assert!(!answer.complete && answer.body.len() < 160, "{answer:?}");
        assert_eq!(gate.event("action.executed", &answer.correlation())["data"]["ended"], why);
    }
}

/// One agent has half of it; what another agent asks for is not behind what nobody reads.
#[test]
fn reply_budget_bytes_bounds_what_waits_for_its_reader() {
    let large = Reply::new(200).body(vec![b'x'; 16 << 20]);
    let origin = Origin::https(&[API]).reply("/x", large);
    let gate = Plan::new().origin(API, &origin).limit("reply_budget_bytes", 4 << 20).start();
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() >> 10
    };
    assert_eq!(gate.add_agent("other", "").get(READ).body.len(), 16 << 20);
    let before = resident();
    let unread: Vec<_> = (0..100).map(|_| gate.agent().begin("GET", READ, &[], b"")).collect();
    within(PATIENCE, || (origin.hits().len() == 1 + unread.len()).then_some(())).unwrap();
    assert_eq!(gate.add_agent("another", "").get(READ).body.len(), 16 << 20);
    let grown = resident() - before;
    println!("{grown} MiB for {} replies of 16 MiB that nobody reads", unread.len());
    // On top of the budget comes what each connection has in its own buffers; without a bound it would be 1,600 MiB.
    assert!(grown < 120, "{grown} MiB");
}

#[test]
fn write_seconds_ends_a_reply_that_nobody_reads() {
    let large = vec![b'x'; 1 << 20];
    let origin = Origin::plain().reply("/large", Reply::new(200).chunks(vec![(Duration::ZERO, large); 48]));
    let gate = Plan::new().origin(PLAIN, &origin).limit("write_seconds", 1).start();
    let mut unread = gate.agent().begin("GET", "http://plain.example/large", &[], b"");
    let ended = || gate.events_called("action.executed").pop();
    let outcome = within(PATIENCE, ended).unwrap_or_else(|| panic!("write_seconds had no effect:\n{}", gate.log()));
    assert_eq!(outcome["data"]["ended"], "client_stalled");
    assert!(!unread.answer().unwrap().complete, "a reply that was given up looks complete");
}

#[test]
fn upstream_idle_and_upstream_idle_seconds_bound_the_connections_kept() {
    let opened = |plan: Plan| {
        let origin = Origin::https(&[API]);
        let gate = plan.origin(API, &origin).start();
        for _ in 0..4 {
            let answer = gate.agent().get(READ);
            gate.event("action.executed", &answer.correlation());
        }
        assert_eq!(origin.hits().len(), 4);
        origin.connections()
    };
    assert_eq!(opened(Plan::new()), 1, "a kept connection is used again");
    assert_eq!(opened(Plan::new().limit("upstream_idle", 0)), 4);
    assert_eq!(opened(Plan::new().limit("upstream_idle_seconds", 0)), 4);
}

#[test]
fn secret_bytes_bounds_a_secret() {
    let length = SECRET.len() as u64;
    let origin = Origin::https(&[API]);
    for (limit, status) in [(length, 200), (length - 1, 502)] {
        let gate = Plan::new().origin(API, &origin).limit("secret_bytes", limit).start();
        let answer = gate.agent().get(READ);
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(origin.hits().len(), 1);
    }
}

#[test]
fn encoded_reply_bytes_bounds_what_is_decoded_to_look_for_a_secret() {
    // Of nothing.
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";
    let origin = Origin::https(&[API]).reply("/", Reply::new(200).header("content-encoding", "gzip").body(*gzip));
    for (limit, status) in [(20, 200), (19, 502)] {
        let gate = Plan::new().origin(API, &origin).limit("encoded_reply_bytes", limit).start();
        let answer = gate.agent().get(READ);
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[test]
fn secret_millis_bounds_the_wait_for_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin).limit("secret_millis", 300);
    let secret = plan.home().join("api.key");
    let slow = ["-P", secret.to_str().unwrap(), "-e", "inject=openat:delay_enter=9s"];
    let Some(strace) = trace::strace(&folder.path().join("trace"), &slow) else { return };
    let gate = plan.under(&words(&strace)).start();
    let answer = sooner_than(Duration::from_secs(4), "secret_millis", || gate.agent().get(READ));
    assert_eq!((answer.status, answer.code().as_str()), (503, "credential_timeout"), "{answer:?}");
    let outcome = gate.event("action.failed", &answer.correlation());
    assert_eq!((&outcome["data"]["sent"], origin.connections()), (&false.into(), 0));
}

#[test]
fn resolve_seconds_bounds_the_wait_for_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    // Whoever opens it waits for somebody to write into it.
    nix::unistd::mkfifo(&hosts, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    let Some(words_before) = with_hosts(&hosts) else { return };
    let gate = many(1).limit("resolve_seconds", 1).under(&words(&words_before)).start();
    let answer = soon("resolve_seconds", || gate.agent().get("http://many.example:1/x"));
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"));
    assert_eq!(answer.text_at("/detail"), "`many.example` was not resolved within 1 s");
}

#[test]
fn lookups_bounds_the_names_that_are_looked_up_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    nix::unistd::mkfifo(&hosts, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    let Some(words_before) = with_hosts(&hosts) else { return };
    let plan = many(1).limit("lookups", 2).limit("resolve_seconds", 1);
    let gate = plan.under(&words(&words_before)).start();
    let detail = |agent: &Agent| agent.get("http://many.example:1/x").text_at("/detail");
    // One of the two places is all that one agent may have, and it is kept until the resolver gives up.
    let gave_up = "`many.example` was not resolved within 1 s";
    assert_eq!(detail(&gate.agent()), gave_up);
    assert_eq!(detail(&gate.agent()), "`many.example`: too many names are being resolved");
    assert_eq!(detail(&gate.add_agent("other", "")), gave_up);
}

#[test]
fn addresses_bounds_one_answer_of_the_resolver() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 many.example\n127.0.0.2 many.example\n127.0.0.3 many.example\n").unwrap();
    let Some(words_before) = with_hosts(&hosts) else { return };
    let origin = Origin::plain();
    let ask = |gate: &Gate| -> Response { gate.agent().get(&format!("http://many.example:{}/x", origin.port())) };
    let gate = many(origin.port()).limit("addresses", 2).under(&words(&words_before)).start();
    let answer = ask(&gate);
    assert_eq!((answer.status, origin.connections()), (502, 0), "{answer:?}");
    assert_eq!(answer.text_at("/detail"), "`many.example` has 3 addresses; between 1 and 2 are taken");
    let gate = gate.stop().start_with(&[("WRIT_LIMITS_ADDRESSES", "3")]);
    assert_eq!((ask(&gate).status, origin.hits().len()), (200, 1));
}

/// A reply that does not come while a test runs.
pub(super) fn never() -> Reply {
    Reply::ok().delay(HOUR)
}

/// A gate that may read from `many.example` at one port of this machine.
fn many(port: u16) -> Plan {
    let destinations = format!(
        "destinations:\n  - key: many\n    match: {{ host: many.example, methods: [GET], path: /** }}\n    schemes: [http]\n    \
         ports: [{port}]\n    addresses: [127.0.0.0/8]\n    effect: read\n    policy: many\n"
    );
    let policies = ["changes", "pairs", "reads", "sends"];
    let plan = policies.iter().fold(Plan::new(), |plan, id| plan.without(&format!("policies/{id}.yaml")));
    plan.file("destinations.yaml", &destinations).file("policies/many.yaml", "destinations: [many]\n")
}

/// The words that start a program with another `/etc/hosts`, in a mount namespace of its own.
fn with_hosts(hosts: &Path) -> Option<Vec<String>> {
    let script = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", hosts.display());
    let words: Vec<String> = ["unshare", "--mount", "--map-root-user", "sh", "-c", &script, "sh"]
        .iter()
        .map(|&word| word.to_owned())
        .collect();
    let probe = Command::new(&words[0]).args(&words[1..]).arg("true").stderr(Stdio::null()).status();
    if probe.is_ok_and(|status| status.success()) {
        return Some(words);
    }
    crate::harness::trace::skip("no mount namespaces for this user here");
    None
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// A listener whose queue is full: the kernel leaves the next connection without an answer.
fn full_listener() -> (SocketAddr, (Socket, Vec<TcpStream>)) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        held.push(stream);
    }
    (address, (listener, held))
}

const READ: &str = "https://api.example/x";
const HOUR: Duration = Duration::from_secs(3600);
