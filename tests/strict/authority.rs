//! C01 to C19: CONNECT target x TLS server name x Host x absolute form, twelve spellings each, over both versions of
//! HTTP, as the first and as the second request: forwarded only when all of them name one authority.
//!
//! The good host's credential is a canary: it may reach the good host's server, and no other, ever.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::client::{Client, Protocol};
use super::frames::{Frames, Outcome};
use super::framing::mark_in;
use super::payload::latin1;
use crate::harness::connection::Connection;
use crate::harness::gate::Plan;
use crate::harness::origin::Origin;
use crate::harness::world::{API, DESTINATIONS, SECRET};

/// A spelling, and the `host:port` it stands for, if it stands for one.
type Spelling = (&'static str, Option<&'static str>);

/// Four spellings that meet in one request.
#[derive(Clone, Copy, Debug)]
struct Meeting {
    connect: Spelling,
    name: Spelling,
    host: Spelling,
    absolute: Spelling,
    protocol: Protocol,
    /// Whether a plain request goes first on the same connection.
    second: bool,
}

// === impl Meeting ===

impl Meeting {
    /// The authority that all four name.
    fn agreed(&self) -> Option<&'static str> {
        let authority = self.connect.1?;
        let host = authority.rsplit_once(':').map(|(host, _)| host);
        let named = self.name.1 == host || (self.name.1.is_none() && !authority.contains("example"));
        let same = |spelling: Spelling| spelling.0.is_empty() || spelling.1 == Some(authority);
        (named && same(self.host) && same(self.absolute)).then_some(authority)
    }

    fn passes(&self) -> bool {
        self.agreed().is_some_and(|authority| SERVED.contains(&authority))
    }

    /// Sends the request; the statuses of its answers, 0 for an end without one.
    fn send(&self, client: &Client, mark: &str) -> Vec<u16> {
        let tunnel = match client.connect(self.connect.0) {
            Ok(tunnel) => tunnel,
            Err(status) => return vec![status],
        };
        let name = if self.name.0.is_empty() { "203.0.113.9" } else { self.name.0 };
        let Ok(connection) = client.secure(tunnel, name, self.protocol) else { return vec![0] };
        match self.protocol {
            Protocol::Http1 => self.over_http1(connection, mark),
            Protocol::Http2 => self.over_http2(Frames::open(connection), mark),
        }
    }

    fn over_http1(&self, mut connection: Connection, mark: &str) -> Vec<u16> {
        let first = self.second.then(|| format!("GET /first/{mark} HTTP/1.1\r\nHost: {API}\r\n\r\n"));
        let own = format!("GET {}/{mark} HTTP/1.1\r\nHost: {}\r\n\r\n", self.absolute.0, self.host.0);
        let mut statuses = Vec::new();
        for head in first.into_iter().chain([own]) {
            connection.send(&latin1(&head));
            statuses.push(connection.answer().map_or(0, |answer| answer.status));
        }
        let closes = statuses.last().is_some_and(|status| CLOSING.contains(status));
        if closes && !connection.is_closed() { vec![1] } else { statuses }
    }

    fn over_http2(&self, mut frames: Frames, mark: &str) -> Vec<u16> {
        let mut statuses = Vec::new();
        if self.second {
            frames.request(
                1,
                &[(":method", "GET"), (":scheme", "https"), (":authority", API), (":path", &format!("/first/{mark}"))],
            );
            statuses.push(status(frames.outcome(1)));
        }
        let path = format!("/{mark}");
        let authority = self.absolute.0.trim_start_matches("https://").trim_start_matches("http://");
        let scheme = if self.absolute.0.starts_with("http:") { "http" } else { "https" };
        let mut fields = vec![(":method", "GET"), (":scheme", scheme), (":path", path.as_str())];
        fields.extend((!authority.is_empty()).then_some((":authority", authority)));
        fields.extend((!self.host.0.is_empty()).then_some(("host", self.host.0)));
        frames.request(3, &fields);
        statuses.push(status(frames.outcome(3)));
        statuses
    }
}

#[test]
fn c01_to_c19_only_what_all_agree_on_is_forwarded() {
    let good = Origin::https(&[API]);
    let evil = Origin::https(&["evil.example", "evilapi.example", "api.example.evil.example", API]);
    let served = DESTINATIONS.to_owned()
        + "  - key: evil.read\n    match: { host: evil.example, methods: [GET], path: /** }\n    effect: read\n    policy: reads\n";
    let mut plan = Plan::new()
        .file("destinations.yaml", &served)
        .file("policies/reads.yaml", "destinations: [api.read, plain.read, evil.read]\n")
        .limit("leaves_per_minute", 1_000_000)
        .origin(API, &good)
        .origin("evil.example", &evil);
    for elsewhere in [
        "evilapi.example:443",
        "api.example.evil.example:443",
        "api.example:8443",
        "203.0.113.9:443",
        "[2001:db8::9]:443",
    ] {
        plan = plan.dial(elsewhere, evil.port());
    }
    let gate = plan.start();
    let meetings = meetings();
    let mut wrong = send_all(&Client::new(gate.agent()), &meetings);

    let mut hits: HashMap<String, Vec<bool>> = HashMap::new();
    for (origin, bound) in [(&good, true), (&evil, false)] {
        for hit in origin.hits() {
            let canaries = String::from_utf8_lossy(&hit.raw).matches(SECRET).count();
            assert_eq!(canaries, usize::from(bound), "the canary at {:?}: {hit:?}", hit.sni);
            if !hit.target.starts_with("/first") {
                hits.entry(mark_in(&hit.target)).or_default().push(bound);
            }
        }
    }
    for (at, meeting) in meetings.iter().enumerate() {
        let seen = hits.remove(&format!("m{at}m")).unwrap_or_default();
        let expected = if meeting.passes() { vec![meeting.agreed() == Some(GOOD)] } else { vec![] };
        if seen != expected {
            wrong.push(format!("{meeting:?}: read by {seen:?}"));
        }
    }
    let passing = meetings.iter().filter(|meeting| meeting.passes()).count();
    println!("{} of {} combinations, {passing} of them to be forwarded", meetings.len(), 4 * 12_usize.pow(4));
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(hits.is_empty(), "nobody sent these: {hits:?}");
}

/// Every Host with every absolute form where CONNECT and server name agree; elsewhere one in twelve, chosen so that each
/// spelling meets each.
fn meetings() -> Vec<Meeting> {
    let mut meetings = Vec::new();
    for place in 0..12_usize.pow(4) {
        let [at, also, third, fourth] = [1728, 144, 12, 1].map(|step| place / step % 12);
        let (connect, name, host, absolute) = (CONNECT[at], NAMES[also], HOSTS[third], ABSOLUTE[fourth]);
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let meeting = Meeting { connect, name, host, absolute, protocol, second: false };
            let agree = Meeting { host: ("", None), absolute: ("", None), ..meeting }.passes();
            if agree || (at + also + third + fourth).is_multiple_of(12) {
                meetings.push(meeting);
            }
            if agree && connect.1 == Some(GOOD) {
                meetings.push(Meeting { second: true, ..meeting });
            }
        }
    }
    meetings
}

fn send_all(client: &Client, meetings: &[Meeting]) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let taken = std::iter::from_fn(|| {
            let at = next.fetch_add(1, Ordering::Relaxed);
            meetings.get(at).map(|meeting| (at, meeting))
        });
        let judged = taken.filter_map(|(at, meeting)| {
            let statuses = meeting.send(client, &format!("m{at}m"));
            let own = statuses.last().copied().unwrap_or_default();
            let first = !meeting.second || statuses.first() == Some(&200);
            let fits = match (meeting.passes(), meeting.protocol) {
                (true, _) => own == 200,
                (false, Protocol::Http1) => [400, 403, 421].contains(&own),
                // The library below refuses some of it as no HTTP/2 at all: a reset, without an answer.
                (false, Protocol::Http2) => [0, 400, 403, 421].contains(&own),
            };
            // Once all agree on a host that is not served, that is a denial and no ambiguity.
            let named = meeting.agreed().is_some() || own != 403;
            (!(first && fits && named)).then(|| format!("{meeting:?}: answered {statuses:?}"))
        });
        judged.collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn status(outcome: Outcome) -> u16 {
    match outcome {
        Outcome::Answer(status) => status,
        Outcome::Closed | Outcome::Gone(_) | Outcome::Reset(_) => 0,
    }
}

const GOOD: &str = "api.example:443";

/// What there is a destination for.
const SERVED: &[&str] = &[GOOD, "evil.example:443"];

/// Answers after which the connection must end.
const CLOSING: &[u16] = &[400, 421];

const CONNECT: [Spelling; 12] = [
    ("api.example:443", Some(GOOD)),
    ("API.eXample:443", Some(GOOD)),
    ("api.example:8443", Some("api.example:8443")),
    ("api.example.:443", None),
    ("evil.example:443", Some("evil.example:443")),
    ("evilapi.example:443", Some("evilapi.example:443")),
    ("api.example.evil.example:443", Some("api.example.evil.example:443")),
    ("203.0.113.9:443", Some("203.0.113.9:443")),
    ("[2001:db8::9]:443", Some("[2001:db8::9]:443")),
    ("api.example@evil.example:443", None),
    ("xn--pi-bja.example:443", Some("xn--pi-bja.example:443")),
    ("\u{e1}pi.example:443", None),
];

/// Without a name stands for the address that was connected to.
const NAMES: [Spelling; 12] = [
    ("api.example", Some("api.example")),
    ("API.EXAMPLE", Some("api.example")),
    ("", None),
    ("evil.example", Some("evil.example")),
    ("evilapi.example", Some("evilapi.example")),
    ("api.example.evil.example", Some("api.example.evil.example")),
    ("xn--pi-bja.example", Some("xn--pi-bja.example")),
    ("localhost", Some("localhost")),
    ("a.api.example", Some("a.api.example")),
    ("writ.internal", Some("writ.internal")),
    ("api.example.example", Some("api.example.example")),
    ("api-example.test", Some("api-example.test")),
];

const HOSTS: [Spelling; 12] = [
    ("api.example", Some(GOOD)),
    ("Api.EXAMPLE", Some(GOOD)),
    ("api.example:443", Some(GOOD)),
    ("api.example:8443", Some("api.example:8443")),
    ("api.example.", None),
    ("evil.example", Some("evil.example:443")),
    ("evilapi.example", Some("evilapi.example:443")),
    ("api.example.evil.example", Some("api.example.evil.example:443")),
    ("203.0.113.9", Some("203.0.113.9:443")),
    ("api.example@evil.example", None),
    ("xn--pi-bja.example", Some("xn--pi-bja.example:443")),
    ("\u{e1}pi.example", None),
];

/// The first is origin form, or no `:authority`.
const ABSOLUTE: [Spelling; 12] = [
    ("", None),
    ("https://api.example", Some(GOOD)),
    ("https://API.example:443", Some(GOOD)),
    ("http://api.example", Some("api.example:80")),
    ("https://api.example:8443", Some("api.example:8443")),
    ("https://api.example.", None),
    ("https://evil.example", Some("evil.example:443")),
    ("https://evilapi.example", Some("evilapi.example:443")),
    ("https://api.example.evil.example", Some("api.example.evil.example:443")),
    ("https://203.0.113.9", Some("203.0.113.9:443")),
    ("https://api.example@evil.example", None),
    ("https://xn--pi-bja.example", Some("xn--pi-bja.example:443")),
];
