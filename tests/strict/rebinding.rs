//! E08 to E11: names whose addresses change between two looks. The gate looks once, checks all it sees, and dials only
//! what it checked.
//!
//! The test runs itself again in a network of its own, where it is the only DNS server and owns public addresses too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use super::addresses::Trap;
use super::resolver::{self, Lie};
use crate::harness::gate::Plan;
use crate::harness::world::DESTINATIONS;

#[test]
fn e08_to_e11_names_that_change_their_address_reach_nothing_forbidden() {
    let folder = tempfile::tempdir().unwrap();
    let resolv = folder.path().join("resolv.conf");
    std::fs::write(&resolv, "nameserver 127.0.0.1\noptions timeout:10 attempts:1\n").unwrap();
    let setup = "set -e; ip link set lo up; ip addr add 93.184.216.34/32 dev lo; ip addr add 10.1.2.3/32 dev lo; ip addr add \
                 169.254.169.254/32 dev lo; mount --bind \"$1\" /etc/resolv.conf; shift; exec \"$@\"";
    let namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-c", script, "sh", resolv.to_str().unwrap()]);
        command
    };
    if !namespace(setup).arg("true").output().is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: no network of its own to be had here; it takes root, unshare and ip");
        return;
    }
    let own = std::env::current_exe().unwrap();
    let inside = ["--exact", "strict::rebinding::in_a_network_of_its_own", "--ignored", "--nocapture"];
    let output = namespace(setup).arg(own).args(inside).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    println!("{}", printed.lines().filter(|line| line.contains("lookups")).collect::<String>());
}

#[test]
#[ignore = "only in a network of its own, by the test above"]
fn in_a_network_of_its_own() {
    resolver::serve(UdpSocket::bind("127.0.0.1:53").unwrap(), LIES);
    let public = Trap::at(at("93.184.216.34")).unwrap();
    let forbidden: Vec<Trap> = FORBIDDEN.iter().filter_map(|address| Trap::at(at(address))).collect();
    assert!(forbidden.len() >= 3, "{} addresses to be kept from", forbidden.len());
    let open = "  - key: names.read\n    match: { host: '*.names.example', methods: [GET], path: /** }\n    schemes: [http, https]\n    \
                effect: read\n    policy: reads\n";
    let gate = Plan::new()
        .file("destinations.yaml", &format!("{DESTINATIONS}{open}"))
        .file("policies/reads.yaml", "destinations: [api.read, plain.read, names.read]\n")
        .start();
    let agent = gate.agent();

    let mut lookups = 0;
    for (name, lie) in LIES {
        let start = Instant::now();
        let times = if matches!(lie, Lie::Flips(..)) { 100 } else { 3 };
        let statuses: Vec<u16> =
            (0..times).map(|_| agent.get(&format!("http://{name}.names.example/x")).status).collect();
        lookups += times;
        let (served, refused) = (statuses.contains(&200), statuses.contains(&502));
        assert!(statuses.iter().all(|status| [200, 502].contains(status)), "{name}: {statuses:?}");
        match name.split('-').next().unwrap() {
            "good" => assert!(served && !refused, "{name}: {statuses:?}"),
            "flip" => assert!(served && refused, "{name}: {statuses:?}"),
            _ => assert!(refused && !served, "{name}: {statuses:?}"),
        }
        let limit = Duration::from_secs(3) * u32::try_from(times).unwrap();
        assert!(start.elapsed() < limit, "{name} took {:?}", start.elapsed());
    }
    let caught: Vec<_> = forbidden.iter().map(|trap| (trap.address, trap.caught())).collect();
    assert!(caught.iter().all(|(_, count)| *count == 0), "{caught:?}");
    let allowed = gate.events_called("action.executed").len();
    println!("{lookups} lookups, {} connections to the public address, {allowed} executed", public.caught());
    assert_eq!(public.caught(), allowed);
}

/// A name with `good` at its front is served, one with `flip` now and then, any other never.
const LIES: &[(&str, Lie)] = &[
    ("good", Lie::Addresses(&[PUBLIC])),
    ("good-slow", Lie::Slow(500, &[PUBLIC])),
    ("flip", Lie::Flips(&[PUBLIC], &["127.0.0.1"])),
    ("flip-private", Lie::Flips(&["10.1.2.3"], &[PUBLIC])),
    ("flip-metadata", Lie::Flips(&[PUBLIC], &["169.254.169.254"])),
    ("flip-mixed", Lie::Flips(&[PUBLIC], &[PUBLIC, "127.0.0.1"])),
    ("flip-six", Lie::Flips(&[PUBLIC], &["::1"])),
    ("loopback", Lie::Addresses(&["127.0.0.1"])),
    ("loopback-six", Lie::Addresses(&["::1"])),
    ("zero", Lie::Addresses(&["0.0.0.0"])),
    ("private", Lie::Addresses(&["10.1.2.3"])),
    ("metadata", Lie::Addresses(&["169.254.169.254"])),
    ("mixed", Lie::Addresses(&[PUBLIC, "127.0.0.1"])),
    ("mixed-other-way", Lie::Addresses(&["127.0.0.1", PUBLIC])),
    ("mixed-private", Lie::Addresses(&[PUBLIC, "10.1.2.3"])),
    ("six-private", Lie::Addresses(&[PUBLIC, "::1"])),
    ("mapped", Lie::Addresses(&["::ffff:127.0.0.1"])),
    ("mapped-beside", Lie::Addresses(&[PUBLIC, "::ffff:10.1.2.3"])),
    ("compatible", Lie::Addresses(&["::127.0.0.1"])),
    ("nat64", Lie::Addresses(&["64:ff9b::7f00:1"])),
    ("nat64-beside", Lie::Addresses(&[PUBLIC, "64:ff9b::a9fe:a9fe"])),
    ("six-to-four", Lie::Addresses(&["2002:7f00:1::1"])),
    ("unique-local", Lie::Addresses(&[PUBLIC, "fd00:ec2::254"])),
    ("link-local", Lie::Addresses(&["fe80::1"])),
    ("many", Lie::Many(100)),
    ("many-seventeen", Lie::Many(17)),
    ("none", Lie::Addresses(&[])),
    ("loop", Lie::Loop),
    ("garbage", Lie::Garbage),
    ("silence", Lie::Silence),
    ("slow", Lie::Slow(2500, &[PUBLIC])),
];

const PUBLIC: &str = "93.184.216.34";

/// Where somebody listens and must not be called.
const FORBIDDEN: &[&str] = &["127.0.0.1", "::1", "10.1.2.3", "169.254.169.254"];

fn at(address: &str) -> SocketAddr {
    let ip: IpAddr = address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    SocketAddr::new(ip, 80)
}
