//! What must hold for any bytes, one function for each fuzz target. `smoke.rs` runs them on the committed corpus and a
//! bounded number of mutations with every test run; `cargo fuzz` runs them for as long as one likes.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use ledger::chain::Walker;
use ledger::checkpoint::Checkpoint;
use ledger::evidence::{self as proof, Trust, verify_bytes};
use ledger::note::{Note, Verifier};
use policy::{Authority, Body, Decision, Facts, Rules, Scheme, Source, Verdict};
use writ::chunk::{Chunk, Chunks};
use writ::framed::{Grammar, Step};
use writ::limits::Limits;
use writ::replies::{Due, Replies};
use writ::requests::Requests;
use writ::turns::Turns;
use writ::{head, path};

/// A target by the name of its corpus folder.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    ("authority", authority),
    ("chunked", chunked),
    ("decide", decide),
    ("event", event),
    ("evidence", evidence),
    ("head", head),
    ("note", note),
    ("path", path),
    ("replies", replies),
    ("requests", requests),
    ("sni", sni),
];

/// A head that passes is read the same when it is written again, and never from less than its bytes.
pub(crate) fn head(data: &[u8]) {
    let limits = Limits::default();
    let Ok(Some(found)) = head::parse(data, &limits) else { return };
    assert!(found.bytes <= data.len());
    assert!(matches!(head::parse(&data[..found.bytes - 1], &limits), Ok(None)), "read before its end");
    let lines: String = found.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let again = format!("{} {} HTTP/1.{}\r\n{lines}\r\n", found.method, found.target, found.minor);
    let again = head::parse(again.as_bytes(), &limits).expect("what passed once passes again").expect("it is whole");
    assert_eq!(
        (&again.method, &again.target, &again.headers, again.framing),
        (&found.method, &found.target, &found.headers, found.framing)
    );
}

/// A chunked body ends at the same byte, or is refused, however it arrives.
pub(crate) fn chunked(data: &[u8]) {
    let read = |piece: usize| {
        let mut chunks = Chunks::new(64);
        let (mut at, mut seen) = (0, piece.min(data.len()));
        loop {
            match chunks.step(&data[at..seen]) {
                Chunk::Bad(_) => return Err(()),
                Chunk::Last(bytes) => return Ok(Some(at + bytes)),
                Chunk::More if seen == data.len() => return Ok(None),
                Chunk::More => seen = (seen + piece).min(data.len()),
                Chunk::Pass(bytes) => at += bytes,
            }
        }
    };
    let whole = read(data.len().max(1));
    assert_eq!(whole, read(1), "byte by byte");
    assert_eq!(whole, read(7), "in sevens");
}

/// Requests pass the same bytes however they arrive, and what passes starts with requests that pass alone.
pub(crate) fn requests(data: &[u8]) {
    let fresh = || Requests::new(Arc::new(Limits::default()), Turns::default());
    assert_same_in_pieces(data, fresh);
}

/// Replies pass the same bytes however they arrive.
pub(crate) fn replies(data: &[u8]) {
    for method in ["GET", "HEAD"] {
        let fresh = || {
            let due = Due::default();
            due.expect(method, false);
            Replies::new(due)
        };
        assert_same_in_pieces(data, fresh);
    }
}

/// A body of any type, first the number of the type, gets one decision; what cannot be measured is never let through, and
/// a batch is as strict as the whole of it in one call.
pub(crate) fn decide(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let kind = KINDS[usize::from(*kind) % KINDS.len()];
    for path in ["/measured", "/mcp", "/rpc", "/graphql"] {
        let facts = Facts {
            agent: "a".to_owned(),
            method: "POST".to_owned(),
            authority: Authority::parse(Scheme::Https, "api.example").expect("a host"),
            path: path.to_owned(),
            query: None,
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            body: Body::new(body.to_vec().into()),
            votes: Vec::new(),
            unanswered: false,
            lost: Vec::new(),
        };
        let (one, other) = (judged(&facts), judged(&facts));
        assert_eq!(one.basis(), other.basis());
        let basis = one.basis();
        assert_eq!(Some(one.verdict()), basis.rules.iter().map(|rule| rule.verdict).max());
        let unknown = basis.measured.values().any(|value| value.starts_with("unmeasurable"));
        assert!(!unknown || one.verdict() != Verdict::Allow, "{basis:?}");
    }
}

/// A line that passes as the first of a ledger is the one spelling of its event.
pub(crate) fn event(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else { return };
    if let Ok(event) = Walker::from_start().step(line) {
        assert_eq!(serde_json::to_string(&event).expect("it was read"), line);
    }
}

/// Bundles, capsules and proofs of one entry: what verifies with the ledger's key holds without it as well.
pub(crate) fn evidence(data: &[u8]) {
    let known = Trust { key: Some(Verifier::parse(LEDGER_KEY).expect("a key")), ..Trust::default() };
    let verdict = verify_bytes(data, &known).expect("memory can be read");
    assert!(!verdict.to_string().is_empty());
    if matches!(verdict, proof::Verdict::Verified(_)) {
        assert!(matches!(verify_bytes(data, &Trust::default()), Ok(proof::Verdict::Unauthenticated(_))));
    }
}

/// A note that is read is written again as it was, and what it says of a ledger is how it begins.
pub(crate) fn note(data: &[u8]) {
    let Ok(note) = Note::parse(data) else { return };
    assert_eq!(note.to_string().as_bytes(), data);
    if let Ok(checkpoint) = Checkpoint::of(&note) {
        assert!(note.text().starts_with(&checkpoint.text()));
    }
}

fn judged(facts: &Facts) -> Decision {
    RULES.decide(facts, "2026-01-01T00:00:00Z".parse().expect("a time"))
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let policies = [
        ("p".to_owned(), source("p.yaml", "allowed_types: [json, form, text, csv, xml, multipart]\n")),
        ("m".to_owned(), source("m.yaml", "auto_approve_under: {rows: 2, amount: 3, each: 1}\n")),
    ];
    Rules::load(&source("destinations.yaml", DESTINATIONS), &policies, Some(&BTreeSet::new()), None)
        .expect("sound files")
});

const DESTINATIONS: &str = "destinations:
  - key: measured
    match: { host: api.example, path: /measured }
    effect: read
    policy: m
    measure: { rows: 'csv:rows', each: 'json:/r/*/n', amount: { from: 'form:amount', minor_units: 2 } }
  - { key: mcp, match: { host: api.example, path: /mcp }, effect: read, policy: p, calls: { mcp: { 'a*': { effect: read } } } }
  - { key: rpc, match: { host: api.example, path: /rpc }, effect: read, policy: p, calls: { jsonrpc: { 'a*': { effect: read } } } }
  - { key: graph, match: { host: api.example, path: /graphql }, effect: read, policy: p, calls: { graphql: { 'query.*': { effect: read } } } }
";

/// The key of the ledger that the corpus is of.
const LEDGER_KEY: &str = include_str!("ledger-key");

const KINDS: [&str; 7] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "text/csv",
    "application/graphql",
    "text/plain",
    "application/xml",
];

/// A canonical path stays as it is and holds nothing two servers could read differently (d26).
pub(crate) fn path(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(canonical) = path::canonical(text) else { return };
    assert_eq!(path::canonical(&canonical).expect("a canonical path passes"), canonical);
    let lower = canonical.to_ascii_lowercase();
    for forbidden in ["//", "\\", ";", "%2e", "%5c", "%00", "%0a", "%0d", "%252e", "%252f"] {
        assert!(!lower.contains(forbidden), "{canonical} holds {forbidden}");
    }
    assert!(canonical.starts_with('/') && !canonical.split('/').any(|segment| segment == "." || segment == ".."));
    let seen = lenient(&canonical);
    // Behind an encoded slash servers may see more segments, but never fewer or others before it.
    let mut segments = canonical.split('/').filter(|segment| !segment.is_empty());
    let sure: Vec<Vec<u8>> = segments.by_ref().take_while(|segment| !segment.contains("%2F")).map(decoded).collect();
    assert!(seen.starts_with(&sure), "{canonical} is {seen:?} to some server");
    assert!(canonical.contains("%2F") || seen.len() == sure.len(), "{canonical} is {seen:?} to some server");
}

/// The segments as a server sees them that does all that any is known to do: cut off path parameters (Tomcat), decode
/// (all), take `\\` for `/` (IIS, Node's URL), merge slashes (nginx, Go), resolve dots (all).
fn lenient(path: &str) -> Vec<Vec<u8>> {
    let plain: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for segment in decoded(&plain.join("/")).split(|byte| b"/\\".contains(byte)) {
        match segment {
            b"" | b"." => {}
            b".." => drop(seen.pop()),
            plain => seen.push(plain.to_vec()),
        }
    }
    seen
}

/// `%XX` decoded once.
fn decoded(text: &str) -> Vec<u8> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2).expect("a canonical path has two digits behind each %");
        bytes.push(u8::from_str_radix(code, 16).expect("hexadecimal digits"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

/// An authority that parses is written as something that parses to the same.
pub(crate) fn authority(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    for scheme in [policy::Scheme::Http, policy::Scheme::Https] {
        let Ok(found) = policy::Authority::parse(scheme, text) else { continue };
        let again = policy::Authority::parse(scheme, &found.host_header()).expect("what was written parses");
        assert_eq!(again, found);
        let host = found.host().as_str();
        assert!(
            !host
                .bytes()
                .any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_control() || b"@/\\?# ".contains(&byte)),
            "{host}"
        );
    }
}

/// Whatever a tunnel may be opened to can get a leaf certificate, and for exactly that name.
pub(crate) fn sni(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(host) = policy::Host::parse(text) else { return };
    if host.ip().is_none() {
        let name = ca::Name::dns(host.as_str()).expect("a host that is served has a certificate name");
        assert_eq!(name.to_string(), host.as_str());
    }
}

/// Bytes that pass, and whether it ended in a refusal, are the same in one piece, byte by byte and in sevens.
fn assert_same_in_pieces<G: Grammar>(data: &[u8], fresh: impl Fn() -> G) {
    let whole = passed(data, fresh(), data.len().max(1));
    assert_eq!(whole, passed(data, fresh(), 1), "byte by byte");
    assert_eq!(whole, passed(data, fresh(), 7), "in sevens");
}

fn passed<G: Grammar>(data: &[u8], mut grammar: G, piece: usize) -> (Vec<u8>, bool) {
    let (mut at, mut seen) = (0, piece.min(data.len()));
    let mut out = Vec::new();
    loop {
        match grammar.step(&data[at..seen]) {
            Step::Break(_) | Step::End(_) => return (out, true),
            Step::Drop(bytes) => at += bytes,
            Step::More if seen == data.len() => return (out, false),
            Step::More => seen = (seen + piece).min(data.len()),
            Step::Pass(bytes) => {
                out.extend_from_slice(&data[at..at + bytes]);
                at += bytes;
            }
        }
    }
}
