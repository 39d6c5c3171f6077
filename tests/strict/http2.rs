//! B01 to B09: what a client can say over HTTP/2 and no request can mean. The stream or the connection is refused,
//! nothing reaches the origin, and the gate serves the next one.

use std::time::{Duration, Instant};

use super::client::Client;
use super::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Outcome, SETTINGS, block};
use super::framing::mark_in;
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::API;

/// Row, and the fields that stand in for those of a plain request or besides them.
type Row = (&'static str, Vec<(&'static str, String)>);

/// What is wrong on the level of frames, and how it is sent.
type Breach = (&'static str, fn(&mut Frames));

struct Scene {
    gate: Gate,
    origin: Origin,
    client: Client,
}

// === impl Scene ===

impl Scene {
    fn new() -> Scene {
        let origin = Origin::https(&[API]);
        let gate = Plan::new().origin(API, &origin).limit("leaves_per_minute", 1_000_000).start();
        let client = Client::new(gate.agent());
        Scene { gate, origin, client }
    }

    /// A plain request on a fresh connection is still served.
    fn assert_serves(&self, why: &str) {
        let mut frames = Frames::open(self.client.http2(API));
        frames.request(1, &PLAIN);
        assert_eq!(frames.outcome(1), Outcome::Answer(200), "after {why}");
    }

    fn assert_untouched(&self, plain: usize) {
        let targets: Vec<String> = self.origin.hits().into_iter().map(|hit| hit.target).collect();
        assert!(targets.iter().all(|target| mark_in(target).is_empty()), "{targets:?}");
        assert_eq!((targets.len(), self.gate.events_called("decision.allowed").len()), (plain, plain));
    }
}

#[test]
fn b01_to_b09_requests_that_http2_must_not_carry() {
    let scene = Scene::new();
    let rows = rows();
    let mut wrong = Vec::new();
    for (at, (id, fields)) in rows.iter().enumerate() {
        let path = format!("/send/m{at}m");
        let mut frames = Frames::open(scene.client.http2(API));
        let fields = filled(fields, &path);
        frames.request(1, &fields.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>());
        if !is_refused(frames.outcome(1)) {
            wrong.push(format!("{id} {fields:?}"));
        }
    }
    println!("{} field blocks", rows.len());
    assert!(wrong.is_empty(), "served: {wrong:#?}");
    scene.assert_serves("them");
    scene.assert_untouched(1);
}

#[test]
fn b07_bodies_that_are_not_as_long_as_they_say() {
    let scene = Scene::new();
    let lengths = ["4", "6", "0", "+5", "-5", "0x5", "5, 5", "5,5", "", "five", "99999999999999999999", "5 5"];
    for (at, length) in lengths.iter().enumerate() {
        let mut frames = Frames::open(scene.client.http2(API));
        let path = format!("/send/m{at}m");
        frames.request_with(1, &[post(&path).as_slice(), &[("content-length", length)]].concat(), b"hello");
        let outcome = frames.outcome(1);
        assert!(is_refused(outcome), "content-length {length:?}: {outcome:?}");
    }
    let mut frames = Frames::open(scene.client.http2(API));
    frames.send(HEADERS, END_HEADERS, 1, &block(&post("/send/m99m")));
    frames.send(DATA, 0, 1, b"hello");
    frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("authorization", "Bearer x")]));
    let outcome = frames.outcome(1);
    assert!(is_refused(outcome), "a25: trailers: {outcome:?}");
    scene.assert_serves("them");
    scene.assert_untouched(1);
}

#[test]
fn frames_that_break_the_protocol_end_the_connection_and_nothing_else() {
    let scene = Scene::new();
    for (why, breach) in BREACHES {
        let mut frames = Frames::open(scene.client.http2(API));
        breach(&mut frames);
        frames.request(101, &post("/send/m1m"));
        let outcome = frames.outcome(101);
        assert!(matches!(outcome, Outcome::Closed | Outcome::Gone(_)), "{why}: {outcome:?}");
        scene.assert_serves(why);
    }
    scene.assert_untouched(BREACHES.len());
}

#[test]
fn b04_a_mismatch_on_a_used_connection_is_421_and_ends_it() {
    let scene = Scene::new();
    let mut frames = Frames::open(scene.client.http2(API));
    frames.request(1, &PLAIN);
    assert_eq!(frames.outcome(1), Outcome::Answer(200));
    frames.request(3, &[(":method", "GET"), (":scheme", "https"), (":authority", "evil.example"), (":path", "/m3m")]);
    assert_eq!(frames.outcome(3), Outcome::Answer(421));
    frames.request(5, &PLAIN);
    assert!(matches!(frames.outcome(5), Outcome::Closed | Outcome::Gone(_)));
    scene.assert_untouched(1);
}

#[test]
fn b17_a_client_that_gives_a_reply_no_room_is_let_go() {
    let origin = Origin::https(&[API]).reply("/large", Reply::ok().body(vec![b'x'; 32 << 20]));
    let gate = Plan::new().origin(API, &origin).limit("write_seconds", 1).limit("idle_seconds", 1).start();
    let client = Client::new(gate.agent());
    // No room for any stream, or none for the connection beyond its first 64 KiB; a reply, or a refusal.
    for settings in [[0, 4, 0, 0, 0, 0], [0, 4, 0x7f, 0xff, 0xff, 0xff]] {
        for method in ["GET", "DELETE"] {
            let mut frames = Frames::open_with(client.http2(API), &settings);
            let start = Instant::now();
            frames.request(1, &[(":method", method), (":scheme", "https"), (":authority", API), (":path", "/large")]);
            frames.until_end();
            assert!(start.elapsed() < Duration::from_secs(15), "{method} {settings:?}: {:?}", start.elapsed());
        }
    }
    let ends = || -> Vec<String> {
        gate.events_called("action.executed").iter().map(|event| event["data"]["ended"].to_string()).collect()
    };
    within(PATIENCE, || (ends().len() == 2).then_some(())).expect("both are recorded");
    assert_eq!(ends(), ["\"client_stalled\"", "\"client_stalled\""]);
}

#[test]
fn what_http2_writes_in_its_own_way_passes() {
    let scene = Scene::new();
    let extras: [&[(&str, &str)]; 4] = [
        &[("te", "trailers")],
        &[("host", API)],
        &[("host", "API.example:443")],
        &[("proxy-authorization", "Basic x"), ("x-forwarded-host", "evil"), ("writ-run-id", "r1")],
    ];
    for extra in extras {
        let mut frames = Frames::open(scene.client.http2(API));
        frames.request_with(1, &[post("/send/x").as_slice(), extra].concat(), b"hello");
        assert_eq!(frames.outcome(1), Outcome::Answer(200), "{extra:?}");
    }
    let hits = scene.origin.hits();
    assert!(hits.iter().all(|hit| hit.body == b"hello" && hit.header("host") == Some(API)));
    assert!(
        hits.iter().all(|hit| hit.header("proxy-authorization").is_none() && hit.header("x-forwarded-host").is_none())
    );
}

/// What a plain request has, replaced or completed by the row; a value of `-` leaves a field out.
fn filled(row: &[(&'static str, String)], path: &str) -> Vec<(&'static str, String)> {
    let plain = [(":method", "POST"), (":scheme", "https"), (":authority", API), (":path", path)];
    let stays = |name: &str| !row.iter().any(|(own, _)| *own == name);
    let plain = plain.into_iter().filter(|(name, _)| stays(name)).map(|(name, value)| (name, value.to_owned()));
    let (pseudo, other): (Vec<_>, Vec<_>) =
        row.iter().filter(|(_, value)| value != "-").cloned().partition(|(name, _)| name.starts_with(':'));
    let own = |(name, value): (&'static str, String)| (name, value.replace("{P}", path));
    plain.chain(pseudo.into_iter().map(own)).chain(other.into_iter().map(own)).collect()
}

fn rows() -> Vec<Row> {
    let one = |id, name, value: &str| (id, vec![(name, value.to_owned())]);
    let mut rows: Vec<Row> = NAMES.iter().map(|name| one("B02", *name, "x")).collect();
    for (id, name, values) in VALUES {
        rows.extend(values.iter().map(|value| one(*id, *name, value)));
    }
    let twice = |id, name, first: &str, second: &str| (id, vec![(name, first.to_owned()), (name, second.to_owned())]);
    rows.extend([
        twice("B04", "host", API, API),
        twice("B02", ":path", "{P}", "{P}"),
        twice("B02", ":authority", API, "evil.example"),
        twice("B02", ":method", "GET", "POST"),
        one("L04", "x", &"y".repeat(17_000)),
        ("L04", vec![("x", "y".to_owned()); 101]),
        ("L04", vec![("cookie", "a=b".to_owned()); 2000]),
    ]);
    rows.extend(connects());
    rows
}

/// B09: CONNECT has no place in a tunnel, in whatever form.
fn connects() -> Vec<Row> {
    let to = |authority: &str| {
        let fields = [(":method", "CONNECT"), (":scheme", "-"), (":path", "-"), (":authority", authority)];
        ("B09", fields.map(|(name, value)| (name, value.to_owned())).into())
    };
    let extended = |protocol: &str| {
        let fields = [(":method", "CONNECT"), (":protocol", protocol)];
        ("B09", fields.map(|(name, value)| (name, value.to_owned())).into())
    };
    vec![
        to("evil.example:443"),
        to("api.example:443"),
        to(API),
        to("127.0.0.1:22"),
        extended("websocket"),
        extended("connect-udp"),
        extended(""),
    ]
}

fn post(path: &str) -> [(&str, &str); 4] {
    [(":method", "POST"), (":scheme", "https"), (":authority", API), (":path", path)]
}

fn is_refused(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Answer(status) => (400..500).contains(&status),
        Outcome::Closed | Outcome::Gone(_) | Outcome::Reset(_) => true,
    }
}

const PLAIN: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", API), (":path", "/plain")];

const BREACHES: [Breach; 14] = [
    ("DATA on stream 0", |frames| frames.send(DATA, 0, 0, b"x")),
    ("DATA on an idle stream", |frames| frames.send(DATA, 0, 7, b"x")),
    ("HEADERS on stream 0", |frames| frames.send(HEADERS, END_HEADERS | END_STREAM, 0, &block(&PLAIN))),
    ("HEADERS on an even stream", |frames| frames.send(HEADERS, END_HEADERS | END_STREAM, 2, &block(&PLAIN))),
    ("a padding longer than its frame", |frames| frames.send(HEADERS, END_HEADERS | END_STREAM | 8, 1, &[255, 0])),
    ("PUSH_PROMISE", |frames| frames.send(5, END_HEADERS, 1, &[0, 0, 0, 2])),
    ("CONTINUATION alone", |frames| frames.send(9, END_HEADERS, 1, &block(&PLAIN))),
    ("a frame between HEADERS and CONTINUATION", |frames| {
        frames.send(HEADERS, END_STREAM, 1, &block(&PLAIN));
        frames.send(6, 0, 0, &[0; 8]);
    }),
    ("SETTINGS of five bytes", |frames| frames.send(SETTINGS, 0, 0, &[0; 5])),
    ("SETTINGS with a window over 2^31-1", |frames| frames.send(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
    ("a frame over the agreed size", |frames| frames.send(DATA, 0, 1, &[0; 20_000])),
    ("WINDOW_UPDATE of 0 for the connection", |frames| frames.send(8, 0, 0, &[0; 4])),
    ("a connection window over 2^31-1", |frames| {
        for _ in 0..2 {
            frames.send(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]);
        }
    }),
    ("a field block that is none", |frames| frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 40])),
];

/// B02: names that no field has.
const NAMES: &[&str] = &[
    "Foo",
    "FOO",
    "fo o",
    "fo:o",
    "",
    "foo\r\n",
    "foo:",
    ":foo",
    ":",
    "f\u{0}",
    "tr\u{e9}",
    "a_b",
    "_",
    // Servers that make variables of headers read these as credentials.
    "x_api_key",
    "x-auth_token",
    "proxy_authorization",
    "(x)",
    "host:",
    "foo ",
    " foo",
    "\"",
    "x\n",
    "Host",
    "Content-Length",
    "transfer-encoding\r\n",
];

/// Row, field, and values that it may not have; `-` for none, `{P}` for the path of a plain request.
const VALUES: &[(&str, &str, &[&str])] = &[
    (
        "B01",
        "foo",
        &[
            "x\r\nTransfer-Encoding: chunked",
            "x\n",
            "x\r",
            "\n",
            "a\u{0}b",
            "a\rb",
            "x\r\n\r\nGET /m9m HTTP/1.1\r\n",
            "\u{7f}",
            "\u{1}",
            "\u{e9}",
            "\u{ff}",
        ],
    ),
    (
        "B03",
        ":path",
        &[
            "",
            "*",
            "foo",
            "evil.example",
            "https://evil.example{P}",
            "http://api.example{P}",
            "{P} HTTP/1.1",
            "{P}\r\nx: y",
            "/{P}",
            "{P}/%2e%2e",
            "{P}\\y",
            "?x",
            "{P}\u{e9}",
            "-",
            "{P}\u{0}",
            "{P}\t",
            " {P}",
            "{P};x",
            "{P}/%2F../",
            "../{P}",
            "{P}%00",
            "{P}/\u{7f}",
        ],
    ),
    (
        "B04",
        "host",
        &[
            "evil.example",
            "api.example:8443",
            "api.example.",
            "",
            "a,b",
            "good@api.example",
            "api.example@evil.example",
            "[::1]",
            "127.0.0.1",
            "evilapi.example",
            "api.example.evil.example",
            "\u{e9}.example",
        ],
    ),
    (
        "B04",
        ":authority",
        &[
            "evil.example",
            "api.example:8443",
            "api.example.",
            "u@api.example",
            "api.example@evil.example",
            "127.0.0.1",
            "localhost",
            "",
            "api.example/x",
            "api.example\r\n",
            "api.example:",
            "api.example:0",
            "api.example:443:443",
            "*",
            "api.example,evil.example",
            "writ.internal",
            "-",
        ],
    ),
    (
        "B08",
        ":scheme",
        &["http", "ftp", "", "ws", "wss", "file", "javascript", "https:", "https://x", "h\r\n", "-", "gopher", "unix"],
    ),
    (
        "A42",
        ":method",
        &["get", "Post", "TRACE", "TRACK", "FOO", "GET /x HTTP/1.1", "G\r\nET", "", "-", "GET ", "POST\u{0}", "PRI"],
    ),
    ("A34", "expect", &["200-ok", "100-continue, x"]),
    ("A38", "connection", &["authorization"]),
    ("B02", ":status", &["200"]),
    ("B07", "connection", &["close", "host"]),
    ("B07", "transfer-encoding", &["chunked"]),
    ("B07", "upgrade", &["h2c"]),
    ("B07", "keep-alive", &["timeout=5"]),
    ("B07", "proxy-connection", &["close"]),
    ("B07", "te", &["gzip", "trailers, chunked"]),
];
