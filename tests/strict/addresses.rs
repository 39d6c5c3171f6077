//! E01 to E16: spellings of addresses that no agent may reach, as the target of CONNECT, in absolute form, and in Host.
//! Policy allows every one of them that is a host at all: what stops them is the guard of addresses alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::client::Client;
use super::payload::latin1;
use crate::harness::agent::Agent;
use crate::harness::gate::{Gate, Plan};
use crate::harness::trace::strace;
use crate::harness::world::DESTINATIONS;

/// A listener that counts who comes, and answers anything with `ok`.
pub(crate) struct Trap {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    caught: Arc<AtomicUsize>,
}

// === impl Trap ===

impl Trap {
    /// Listens; nothing when there is no such address on this machine.
    pub(crate) fn at(address: SocketAddr) -> Option<Trap> {
        let listener = TcpListener::bind(address).ok()?;
        let address = listener.local_addr().unwrap();
        let caught = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&caught);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || serve(stream?));
            }
        });
        Some(Trap { address, caught })
    }

    /// How many connections came.
    pub(crate) fn caught(&self) -> usize {
        self.caught.load(Ordering::SeqCst)
    }
}

#[test]
fn e01_to_e16_forbidden_addresses_are_never_dialled() {
    let first = Trap::at((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
    let port = first.address.port();
    let second = Trap::at((Ipv6Addr::LOCALHOST, port).into());
    let folder = tempfile::tempdir().unwrap();
    let calls = folder.path().join("connects");
    let traced = strace(&calls, &["-yy", "-e", "trace=connect"]);
    let gate = start(port, traced.as_deref());

    let spellings = spellings();
    let answers = try_all(&gate.agent(), &spellings, port);
    println!("{} spellings, answers {answers:?}", spellings.len());
    assert!(spellings.len() >= 150);
    assert!(answers.keys().all(|status| (400..=502).contains(status)), "{answers:?}");
    assert!(answers[&502] > 100, "most must get as far as the guard: {answers:?}");
    assert_eq!(first.caught() + second.as_ref().map_or(0, Trap::caught), 0);
    drop(gate);
    if traced.is_some() {
        let calls = std::fs::read_to_string(&calls).unwrap();
        // Names are asked of the resolver, over UDP or its own port.
        let dialled = calls.lines().filter(|line| line.contains("<TCP") && !line.contains("htons(53)"));
        assert_eq!(dialled.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[test]
fn e12_e13_the_gate_never_dials_its_own_doors_even_where_loopback_is_open() {
    let gate = start(1, None);
    let doors = [gate.forward, gate.operator];
    let asked: Vec<(&str, u16)> = doors.iter().flat_map(|door| OWN.iter().map(|host| (*host, door.port()))).collect();
    let entries = asked.iter().enumerate().map(|(at, (host, port))| {
        destination(&format!("door.{at}"), host, *port) + "    addresses: ['127.0.0.0/8', '::1/128']\n"
    });
    let entries: String = entries.collect();
    let keys: String = (0..asked.len()).map(|at| format!(", door.{at}")).collect();
    let plan = gate.stop();
    let plan = plan.file("destinations.yaml", &format!("{DESTINATIONS}{entries}"));
    let plan = plan.file("policies/reads.yaml", &format!("destinations: [api.read, plain.read{keys}]\n"));
    // On the same ports again, which the destinations now name.
    let [forward, operator] = doors.map(|door| door.to_string());
    let gate = plan.start_with(&[("WRIT_DOORS_FORWARD", &forward), ("WRIT_DOORS_OPERATOR", &operator)]);
    for (host, port) in asked {
        let answer = gate.agent().get(&format!("http://{host}:{port}/x"));
        // The forward door knows some of its own names, and answers for itself without dialling.
        let answered = port == doors[0].port() && (answer.status, answer.code().as_str()) == (404, "not_found");
        let refused = answer.status == 502 && answer.text_at("/detail").contains("is this gate itself");
        assert!(answered || refused, "{host}:{port}: {answer:?} {}", answer.text());
    }
    assert_eq!(gate.events_called("action.executed").len(), 0);
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let _ = stream.read(&mut [0; 4096])?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
}

/// A gate that has a destination for every spelling that is a host.
fn start(port: u16, under: Option<&[String]>) -> Gate {
    let hosts: BTreeSet<String> = spellings().iter().filter_map(|spelling| host(spelling)).collect();
    let keys: String = (0..hosts.len()).map(|at| format!(", addr.{at}")).collect();
    let entries: String =
        hosts.iter().enumerate().map(|(at, host)| destination(&format!("addr.{at}"), host, port)).collect();
    let plan = Plan::new()
        .file("destinations.yaml", &format!("{DESTINATIONS}{entries}"))
        .file("policies/reads.yaml", &format!("destinations: [api.read, plain.read{keys}]\n"))
        .limit("leaves_per_minute", 1_000_000);
    match under {
        Some(words) => plan.under(&words.iter().map(String::as_str).collect::<Vec<_>>()).start(),
        None => plan.start(),
    }
}

fn destination(key: &str, host: &str, port: u16) -> String {
    format!(
        "  - key: {key}\n    match: {{ host: '{host}', methods: [GET], path: /** }}\n    schemes: [http, https]\n    ports: [{port}]\n    \
         effect: read\n    policy: reads\n"
    )
}

/// Asks for each spelling in each way; how often there was which answer, 0 for none.
fn try_all(agent: &Agent, spellings: &[String], port: u16) -> BTreeMap<u16, usize> {
    let client = Client::new(agent.clone());
    let next = AtomicUsize::new(0);
    let worker = || {
        let taken = std::iter::from_fn(|| spellings.get(next.fetch_add(1, Ordering::Relaxed)));
        taken.flat_map(|spelling| ask(agent, &client, spelling, port)).collect::<Vec<_>>()
    };
    let mut answers = BTreeMap::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(worker)).collect();
        for status in workers.into_iter().flat_map(|worker| worker.join().unwrap()) {
            *answers.entry(status).or_default() += 1;
        }
    });
    answers
}

/// The answers to one spelling: in absolute form twice, in Host, and inside a tunnel to it.
fn ask(agent: &Agent, client: &Client, spelling: &str, port: u16) -> [u16; 4] {
    let status = |target: &str, host: &str| {
        let mut connection = agent.connect();
        connection.send(&latin1(&format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{}\r\n", agent.credential())));
        connection.answer().map_or(0, |answer| answer.status)
    };
    let named = format!("{spelling}:{port}");
    let tunnelled = match client.connect(&named) {
        Err(status) => status,
        Ok(mut tunnel) => {
            tunnel.send(&latin1(&format!("GET /x HTTP/1.1\r\nhost: {named}\r\n\r\n")));
            tunnel.answer().map_or(0, |answer| answer.status)
        }
    };
    [
        status(&format!("http://{named}/x"), &named),
        status(&format!("https://{named}/x"), &named),
        status("http://plain.example/x", &named),
        tunnelled,
    ]
}

/// The host a spelling is, as a destination names it, if it is one.
fn host(spelling: &str) -> Option<String> {
    if let Some(inner) = spelling.strip_prefix('[') {
        return inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|ip| format!("[{ip}]"));
    }
    let name = spelling.to_ascii_lowercase();
    let numeric = name.rsplit('.').next()?.starts_with(|first: char| first.is_ascii_digit());
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let usable = if numeric {
        name.parse::<Ipv4Addr>().is_ok()
    } else {
        plain && !name.split('.').any(|label| label.is_empty() || label.starts_with('-'))
    };
    usable.then_some(name)
}

fn spellings() -> Vec<String> {
    let plain = V4.iter().chain(ODD).chain(NAMES).map(|&text| text.to_owned());
    let bracketed = V6.iter().map(|text| format!("[{text}]"));
    plain.chain(bracketed).collect()
}

/// What a door on 127.0.0.1 could be reached by.
const OWN: &[&str] = &["127.0.0.1", "127.0.0.2", "localhost", "[::ffff:7f00:1]"];

/// E01, E06, E07.
const V4: &[&str] = &[
    "127.0.0.1",
    "127.0.0.2",
    "127.1.1.1",
    "127.8.9.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.0.0.1",
    "0.255.255.255",
    "10.0.0.1",
    "10.1.2.3",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "100.100.100.200",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "168.63.129.16",
    "172.16.0.1",
    "172.17.0.1",
    "172.31.255.254",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.1.254",
    "192.168.255.255",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "254.1.1.1",
    "255.255.255.255",
];

/// E02: what resolvers take for an address, and what parsers disagree about.
const ODD: &[&str] = &[
    "0",
    "1",
    "127",
    "127.1",
    "127.0.1",
    "127.0.0",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0X7F000001",
    "0x7f.1",
    "0x7f.0.0.1",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "0177.1",
    "0177.0.01",
    "127.0.0.01",
    "127.000.000.001",
    "127.0.0.1.",
    "127.0.0.1..",
    ".127.0.0.1",
    "127..0.1",
    "127.0.0.1.1",
    "127.0.0.256",
    "127.0.0.-1",
    "+127.0.0.1",
    "127.0.0.1%00",
    "127.0.0.1%2e",
    "127%2e0%2e0%2e1",
    "127.0.0.1#",
    "127.0.0.1?",
    "127.0.0.1\\",
    "127.0.0.1/",
    "127.0.0.1@",
    "x@127.0.0.1",
    "plain.example@127.0.0.1",
    "127.0.0.1,plain.example",
    "127.0.0.1 plain.example",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "0xa9.254.0251.254",
    "10.1",
    "0xa000001",
    "192.168.1",
    "3232235777",
    "a.0x7f000001",
    "1.2.3.0x4",
    "4294967295",
    "4294967297",
    "\u{e2}\u{91}\u{a0}\u{e2}\u{91}\u{a1}\u{e2}\u{91}\u{a6}.0.0.1",
    "127\u{e3}\u{80}\u{82}0\u{e3}\u{80}\u{82}0\u{e3}\u{80}\u{82}1",
    "127.0.0.\u{b9}",
    "::1",
    "::ffff:127.0.0.1",
    "[127.0.0.1]",
    "[::1",
    "::1]",
    "[::1]x",
    "[]",
    "[localhost]",
];

/// E01, E06: names that stand for such addresses.
const NAMES: &[&str] = &[
    "localhost",
    "LOCALHOST",
    "LocalHost",
    "localhost.",
    "localhost.localdomain",
    "x.localhost",
    "ip6-localhost",
    "ip6-loopback",
    "metadata.google.internal",
    "metadata",
    "instance-data",
    "host.docker.internal",
    "kubernetes.default.svc",
    "broadcasthost",
];

/// E04, E05, E07: loopback, mapped, compatible, NAT64, 6to4, Teredo, ISATAP, link-local, site-local, unique local, multicast,
/// discard, documentation, segment routing.
const V6: &[&str] = &[
    "::1",
    "::",
    "0:0:0:0:0:0:0:1",
    "0000:0000:0000:0000:0000:0000:0000:0001",
    "::0001",
    "0::1",
    "::ffff:127.0.0.1",
    "::FFFF:127.0.0.1",
    "::ffff:7f00:1",
    "0:0:0:0:0:ffff:7f00:0001",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::ffff:0.0.0.0",
    "::127.0.0.1",
    "::7f00:1",
    "::ffff:0:127.0.0.1",
    "::ffff:0:7f00:1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "64:ff9b:1:ffff::1",
    "2002:7f00:1::",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "2002:a00:1::",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2001:db8::5efe:127.0.0.1",
    "fe80::1",
    "fe80::5efe:7f00:1",
    "fe80::1%25lo",
    "fe80::1%lo",
    "fe80::1%1",
    "::1%lo",
    "::1%25lo",
    "febf::1",
    "fec0::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fdff:ffff::1",
    "ff02::1",
    "ff05::2",
    "ff0e::1",
    "100::1",
    "3fff::1",
    "5f00::1",
    "1::1",
    "4000::1",
    "::2",
    "::ffff:0:0",
    "2620:4f:8000::1",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "::1::",
    ":::1",
    "::g",
    "::ffff:127.1",
    "::ffff:0x7f.0.0.1",
    "::ffff:0177.0.0.1",
];
