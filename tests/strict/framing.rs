//! Every payload in every mode: as the first request in absolute form, inside a tunnel, at the reverse door, as the second
//! request on a connection of each kind, and a sample of them byte by byte.
//!
//! Whatever a payload is, the origin must have read exactly the requests that the ledger permitted.

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::payload::{Case, Place, Verdict};
use super::{bodies, heads, requests, targets};
use crate::harness::agent::Agent;
use crate::harness::connection::Connection;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Hit, Origin};
use crate::harness::world::{API, PLAIN};

/// How a payload is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    PlainBytewise,
    PlainSecond,
    Reverse,
    ReverseSecond,
    Tunnel,
    TunnelSecond,
}

/// One payload in one mode.
struct Run<'a> {
    case: &'a Case,
    mode: Mode,
    mark: String,
    credential: String,
}

/// A gate with both origins behind it.
struct Scene {
    gate: Gate,
    https: Origin,
    plain: Origin,
}

// === impl Mode ===

impl Mode {
    /// A header line with the agent's credential, where one is needed.
    fn credential(self, agent: &Agent) -> String {
        match self {
            Mode::Plain | Mode::PlainBytewise | Mode::PlainSecond => agent.credential().trim_end().to_owned(),
            Mode::Reverse | Mode::ReverseSecond => format!("Writ-Agent-Token: {}", agent.token),
            Mode::Tunnel | Mode::TunnelSecond => "X-Plain: yes".to_owned(),
        }
    }

    /// Whether a payload means the same here. At the reverse door a port in Host means nothing, and HTTP/2 may begin
    /// without TLS.
    fn fits(self, case: &Case) -> bool {
        match self {
            Mode::Plain | Mode::PlainBytewise | Mode::PlainSecond | Mode::Tunnel | Mode::TunnelSecond => true,
            Mode::Reverse => !case.text.starts_with("PRI ") && !case.text.contains("Host: {N}:1\r\n"),
            Mode::ReverseSecond => !case.text.contains("Host: {N}:1\r\n"),
        }
    }

    fn is_second(self) -> bool {
        matches!(self, Mode::PlainSecond | Mode::ReverseSecond | Mode::TunnelSecond)
    }
}

// === impl Run ===

impl Run<'_> {
    fn place(&self) -> Place<'_> {
        let (prefix, host) = match self.mode {
            Mode::Plain | Mode::PlainBytewise | Mode::PlainSecond => ("http://plain.example", PLAIN),
            Mode::Reverse | Mode::ReverseSecond | Mode::Tunnel | Mode::TunnelSecond => ("", API),
        };
        Place { prefix, host, credential: &self.credential, mark: &self.mark }
    }

    /// Sends the payload and looks at what comes back. `Err` says what is wrong.
    fn go(&self, gate: &Gate, agent: &Agent) -> Result<(), String> {
        let mut connection = match self.mode {
            Mode::Plain | Mode::PlainBytewise | Mode::PlainSecond => agent.connect(),
            Mode::Reverse | Mode::ReverseSecond => Connection::open(gate.reverse()),
            Mode::Tunnel | Mode::TunnelSecond => agent.tunnel(API),
        };
        if self.mode.is_second() {
            let first = connection.ask(&self.place().fill("GET {T}/first HTTP/1.1\r\n{H}\r\n"));
            if first.status != 200 {
                return Err(format!("the first request got {first:?}"));
            }
        }
        let bytes = self.place().bytes(&self.case.text);
        match self.mode {
            Mode::PlainBytewise => bytes.chunks(1).for_each(|byte| connection.send(byte)),
            Mode::Plain
            | Mode::PlainSecond
            | Mode::Reverse
            | Mode::ReverseSecond
            | Mode::Tunnel
            | Mode::TunnelSecond => connection.send(&bytes),
        }
        let start = Instant::now();
        match &self.case.verdict {
            Verdict::Answers(answers) => expect_answers(&mut connection, answers)?,
            Verdict::Cut => expect_end(&mut connection)?,
            Verdict::Refuse => expect_refusal(&mut connection)?,
            Verdict::Send(..) => expect_answers(&mut connection, &[200])?,
        }
        let took = start.elapsed();
        if took > HANGS { Err(format!("it took {took:?}")) } else { Ok(()) }
    }

    /// What the origin must have read because of this payload.
    fn check(&self, hits: &[Hit]) -> Result<(), String> {
        let targets: Vec<&str> = hits.iter().map(|hit| hit.target.as_str()).collect();
        let expected = match &self.case.verdict {
            Verdict::Answers(answers) => answers.iter().filter(|status| **status == 200).count(),
            Verdict::Cut | Verdict::Refuse => 0,
            Verdict::Send(..) => 1,
        };
        if hits.len() != expected {
            return Err(format!("the origin read {targets:?}"));
        }
        if let (Verdict::Send(target, body), [hit]) = (&self.case.verdict, hits) {
            let (target, body) = (self.place().fill(target), self.place().bytes(body));
            if (hit.target.as_str(), &hit.body) != (target.as_str(), &body) {
                return Err(format!("the origin read {} with {:?}", hit.target, String::from_utf8_lossy(&hit.body)));
            }
        }
        hits.iter().try_for_each(|hit| is_plain(hit, self.place().host))
    }
}

// === impl Scene ===

impl Scene {
    fn new() -> Scene {
        let (https, plain) = (Origin::https(&[API]), Origin::plain());
        let routes = "reverse:\n  routes: [{ host: api.example, upstream: 'https://api.example' }]\n";
        let plan = Plan::new().origin(API, &https).origin(PLAIN, &plain).section(routes);
        let gate = plan.limit("leaves_per_minute", 1_000_000).limit("body_seconds", 5).start();
        Scene { gate, https, plain }
    }

    /// Sends everything, several connections at a time, then compares origin, ledger and expectation.
    fn judge(&self, cases: &[Case], modes: impl Fn(usize) -> Vec<Mode>) {
        let agent = self.gate.agent();
        let pairs = cases.iter().enumerate().flat_map(|(at, case)| modes(at).into_iter().map(move |mode| (case, mode)));
        let runs: Vec<Run<'_>> = pairs
            .filter(|(case, mode)| mode.fits(case))
            .enumerate()
            .map(|(at, (case, mode))| Run { case, mode, mark: format!("m{at}m"), credential: mode.credential(&agent) })
            .collect();
        let mut wrong = send_all(&self.gate, &agent, &runs);
        let hits = self.hits();
        let permits = self.permits();
        for run in &runs {
            let seen = hits.get(&run.mark).map(Vec::as_slice).unwrap_or_default();
            let permitted = permits.get(&run.mark).copied().unwrap_or_default();
            if seen.len() != permitted {
                wrong.push(describe(run, &format!("{} requests at the origin, {permitted} permits", seen.len())));
            }
            wrong.extend(run.check(seen).err().map(|why| describe(run, &why)));
        }
        let totals = (hits.values().map(Vec::len).sum::<usize>(), permits.values().sum::<usize>());
        println!(
            "{} payloads, {} runs, {} requests at the origins, {} permits",
            cases.len(),
            runs.len(),
            totals.0,
            totals.1
        );
        assert!(wrong.is_empty(), "{} of {} runs:\n{}", wrong.len(), runs.len(), wrong.join("\n"));
        assert_eq!(totals.0, totals.1, "as many requests as permits");
        self.gate.assert_verifies();
    }

    /// What the origins read, by mark; requests without one stand under "".
    fn hits(&self) -> HashMap<String, Vec<Hit>> {
        let mut hits: HashMap<String, Vec<Hit>> = HashMap::new();
        for hit in self.https.hits().into_iter().chain(self.plain.hits()) {
            hits.entry(mark_in(&hit.target)).or_default().push(hit);
        }
        hits
    }

    fn permits(&self) -> HashMap<String, usize> {
        let mut permits: HashMap<String, usize> = HashMap::new();
        for event in self.gate.events_called("decision.allowed") {
            *permits.entry(mark_in(event["data"]["path"].as_str().unwrap())).or_default() += 1;
        }
        permits
    }
}

#[test]
fn heads_have_one_reading_or_none() {
    Scene::new().judge(&heads::cases(), all_modes);
}

#[test]
fn requests_have_one_meaning_or_none() {
    Scene::new().judge(&requests::cases(), all_modes);
}

#[test]
fn a06_noise_around_a_transfer_encoding_is_never_ignored() {
    Scene::new().judge(&heads::noise(), all_modes);
}

#[test]
fn a19_to_a25_bodies_have_one_end_or_none() {
    Scene::new().judge(&bodies::cases(), all_modes);
}

#[test]
fn d01_to_d22_targets_have_one_reading_or_none() {
    Scene::new().judge(&targets::cases(), all_modes);
}

#[test]
fn a29_a30_what_was_sent_behind_a_refused_request_is_never_read() {
    Scene::new().judge(&requests::behind_a_refusal(), |_| {
        vec![Mode::Plain, Mode::PlainSecond, Mode::Reverse, Mode::ReverseSecond, Mode::Tunnel, Mode::TunnelSecond]
    });
}

#[test]
fn f07_http2_without_tls_is_left_out_or_refused() {
    Scene::new().judge(&requests::http2_upgrades(false), |_| vec![Mode::Plain, Mode::PlainSecond]);
    Scene::new().judge(&requests::http2_upgrades(true), |_| vec![Mode::Tunnel, Mode::TunnelSecond]);
}

#[test]
fn at_least_six_hundred_payloads_besides_noise() {
    let count =
        [heads::cases(), requests::cases(), bodies::cases(), targets::cases()].iter().map(Vec::len).sum::<usize>();
    assert!(count >= 600, "{count}");
}

/// All but the slow one, which a sample is enough for.
fn all_modes(at: usize) -> Vec<Mode> {
    let mut modes =
        vec![Mode::Plain, Mode::PlainSecond, Mode::Reverse, Mode::ReverseSecond, Mode::Tunnel, Mode::TunnelSecond];
    if at.is_multiple_of(5) {
        modes.push(Mode::PlainBytewise);
    }
    modes
}

fn send_all(gate: &Gate, agent: &Agent, runs: &[Run<'_>]) -> Vec<String> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = || {
            let taken = std::iter::from_fn(|| runs.get(next.fetch_add(1, Ordering::Relaxed)));
            taken.filter_map(|run| run.go(gate, agent).err().map(|why| describe(run, &why))).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn expect_answers(connection: &mut Connection, answers: &[u16]) -> Result<(), String> {
    for expected in answers {
        let answer = connection.answer().map_err(|error| format!("instead of {expected}: {error}"))?;
        if answer.status != *expected {
            return Err(format!("instead of {expected}: {answer:?}"));
        }
    }
    Ok(())
}

/// One answer that the gate itself made, and then the end.
fn expect_refusal(connection: &mut Connection) -> Result<(), String> {
    let answer = connection.rest().map_err(|error| format!("it is not closed: {error}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.get(9..12).and_then(|status| status.parse::<u16>().ok());
    let own = answer.matches("\r\nwrit-decision: ").count();
    match status {
        Some(400..=499) if own == 1 && status != Some(407) => Ok(()),
        Some(_) | None => Err(format!("instead of a refusal: {answer:?}")),
    }
}

fn expect_end(connection: &mut Connection) -> Result<(), String> {
    drop(connection.socket().shutdown(Shutdown::Write));
    let rest = connection.rest().map_err(|error| format!("it is not closed: {error}"))?;
    if rest.starts_with(b"HTTP/1.1 2") { Err("it was answered as if it were whole".to_owned()) } else { Ok(()) }
}

/// Whether a request at the origin holds nothing that belongs to another hop, or that frames it twice.
fn is_plain(hit: &Hit, host: &str) -> Result<(), String> {
    let count = |name: &str| hit.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).count();
    let kept = |prefix: &str| hit.headers.iter().any(|(own, _)| own.to_ascii_lowercase().starts_with(prefix));
    let sound = hit.complete
        && (count("host"), hit.header("host")) == (1, Some(host))
        && count("content-length") <= 1
        && STAY_HERE.iter().all(|name| count(name) == 0)
        && ["proxy-", "writ-", "x-gate-", "x-forwarded-"].iter().all(|prefix| !kept(prefix));
    if sound { Ok(()) } else { Err(format!("the origin read {:?}", String::from_utf8_lossy(&hit.raw))) }
}

/// The mark in a target or path, or nothing.
pub(crate) fn mark_in(text: &str) -> String {
    let pieces: Vec<&str> = text.split('m').collect();
    let between = pieces.get(1..pieces.len() - 1).unwrap_or_default();
    let number = between.iter().rfind(|piece| !piece.is_empty() && piece.bytes().all(|byte| byte.is_ascii_digit()));
    number.map_or(String::new(), |number| format!("m{number}m"))
}

fn describe(run: &Run<'_>, why: &str) -> String {
    let text: String = run.case.text.chars().take(200).collect();
    format!("{} {:?} {text:?}: {why}", run.case.id, run.mode)
}

/// Headers that end at the gate.
const STAY_HERE: &[&str] = &[
    "connection",
    "expect",
    "forwarded",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-accel-redirect",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

const WORKERS: usize = 8;

/// Longer than any timeout that a payload can run into.
const HANGS: Duration = Duration::from_secs(15);
