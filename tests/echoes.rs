//! An upstream that sends the credential back: in every form and coding, in head, body and trailers. The agent never
//! sees it, and the ledger says that it came.

use std::io::Write;
use std::time::{Duration, Instant};

use data_encoding::{BASE64, HEXLOWER};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::json;
use writ::scrub::Needles;

use crate::harness::agent::Response;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{self, API};

#[test]
fn f11_to_f14_every_form_in_every_coding_is_masked() {
    let mut origin = Origin::https(&[API]);
    for (form, echo) in echoes() {
        for (coding, encode) in CODINGS {
            let body = encode(format!("{{\"seen\": \"{echo}\", \"n\": 1}}\n").as_bytes());
            let reply = Reply::new(200).header("content-encoding", coding).header("digest", "x").body(body);
            origin = origin.reply(&format!("/{coding}/{form}"), reply);
        }
    }
    let gate = gate(&origin, "{ bearer: '{secret}' }");
    let mut tunnel = gate.agent().tunnel(API);
    for (form, echo) in echoes() {
        for (coding, _) in CODINGS {
            let path = format!("/{coding}/{form}");
            let answer =
                tunnel.ask(&format!("GET {path} HTTP/1.1\r\nhost: {API}\r\naccept-encoding: gzip, br\r\n\r\n"));
            let text = answer.text();
            assert_eq!((answer.status, text.len()), (200, echo.len() + 21), "{path}: {text}");
            assert!(text.starts_with("{\"seen\": \"") && text.ends_with("\", \"n\": 1}\n"), "{path}: {text}");
            let masked = text.matches('*').count();
            assert!(masked + 10 >= echo.len(), "{path}: {text}");
            let is_encoded = coding != "identity";
            assert_eq!(answer.header("content-encoding").is_some(), !is_encoded, "{path}");
            let length = answer.header("content-length");
            assert!(length.is_none_or(|length| length == text.len().to_string()), "{path}: {length:?}");
            assert_eq!(answer.header("digest").is_some(), !is_encoded, "{path}");
            let outcome = gate.event("action.executed", &answer.correlation());
            assert_eq!(outcome["data"]["masked_bytes"], masked, "{path}");
        }
    }
    for hit in origin.hits() {
        assert_eq!(hit.header("accept-encoding"), Some("identity"));
    }
    let told = gate.events_called("violation");
    assert_eq!(told.len(), echoes().len() * CODINGS.len());
    assert_eq!((&told[0]["data"]["kind"], &told[0]["data"]["severity"]), (&json!("secret_echoed"), &json!("CRITICAL")));
    assert_secret_is_nowhere(&gate);
    gate.assert_verifies();
}

#[test]
fn f13_an_echo_in_pieces_is_masked() {
    let pieces = |sizes: &[usize]| {
        let mut rest = SECRET;
        let mut chunks = vec![(Duration::ZERO, b"<".to_vec())];
        for size in sizes {
            let (piece, after) = rest.split_at(*size);
            chunks.push((Duration::from_millis(20), piece.as_bytes().to_vec()));
            rest = after;
        }
        chunks.push((Duration::from_millis(20), format!("{rest}>").into_bytes()));
        Reply::new(200).chunks(chunks)
    };
    let origin = Origin::https(&[API])
        .reply("/two", pieces(&[9]))
        .reply("/many", pieces(&[4, 4, 4, 4, 4, 4]))
        .reply("/single", pieces(&[1; 29]));
    let gate = gate(&origin, "{ bearer: '{secret}' }");
    for path in ["two", "many", "single"] {
        let answer = gate.agent().get(&format!("https://api.example/{path}"));
        assert_eq!(answer.text(), format!("<{}>", "*".repeat(SECRET.len())), "{path}");
    }
}

#[test]
fn f12_f13_every_form_in_every_coding_is_masked_in_pieces_too() {
    let mut text = String::new();
    for (form, echo) in echoes().into_iter().cycle() {
        let line = format!("{{\"{form}\": \"{echo}\"}}\n");
        if text.len() + line.len() > 64 * 1024 {
            break;
        }
        text += &line;
    }
    let mut origin = Origin::https(&[API]);
    for (coding, encode) in CODINGS {
        let encoded = encode(text.as_bytes());
        // Single bytes where they are not too many.
        let pieces =
            encoded.chunks(encoded.len().div_ceil(2500)).map(|piece| (Duration::ZERO, piece.to_vec())).collect();
        let reply = Reply::new(200).header("content-encoding", coding).chunks(pieces);
        origin = origin.reply(&format!("/{coding}"), reply);
    }
    let gate = gate(&origin, "{ bearer: '{secret}' }");
    let known = Needles::new(&[SECRET.as_bytes()]);
    assert!(known.are_in(text.as_bytes()));
    let shown = CODINGS.map(|(coding, _)| {
        let answer = gate.agent().get(&format!("https://api.example/{coding}"));
        let shown = answer.text();
        assert_eq!((answer.status, shown.len(), shown.lines().count()), (200, text.len(), text.lines().count()));
        assert!(!known.are_in(shown.as_bytes()), "{coding}: {shown}");
        for (form, echo) in echoes() {
            assert!(!shown.contains(&echo) && shown.contains(&format!("{{\"{form}\": \"")), "{form} in {coding}");
        }
        shown
    });
    // What is not encoded goes on as it comes, and a pause may let up to three characters go unmasked.
    assert!(shown[1..].iter().all(|each| *each == shown[1]), "the coding makes a difference");
}

#[test]
fn f11_an_echo_in_the_head_or_the_trailers_is_masked() {
    let trailers = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-echo\r\nx-echo: a{SECRET}\r\nlocation: https://x.example/?k={SECRET}\r\n\r\n2\r\nok\r\n0\r\nx-echo: b{SECRET}\r\n\r\n"
    );
    let origin = Origin::https(&[API]).reply("/trailers", Reply::raw(trailers));
    let gate = gate(&origin, "{ bearer: '{secret}' }");
    let mut tunnel = gate.agent().begin("GET", "https://api.example/trailers", &[("te", "trailers")], b"");
    let answer = tunnel.head().unwrap();
    let masked = "*".repeat(SECRET.len());
    assert_eq!(answer.header("x-echo"), Some(format!("a{masked}").as_str()));
    assert_eq!(answer.header("location"), Some(format!("https://x.example/?k={masked}").as_str()));
    let rest = tunnel.through(b"\r\n\r\n").unwrap();
    assert!(!String::from_utf8(rest).unwrap().contains(SECRET));
    let outcome = gate.event("action.executed", &answer.correlation());
    assert!(outcome["data"]["masked_bytes"].as_u64().unwrap() >= 2 * SECRET.len() as u64, "{outcome}");
}

#[test]
fn f17_parts_of_a_reply_are_not_given_out_where_the_secret_could_be_in_them() {
    let origin = Origin::https(&[API]);
    let gate = gate(&origin, "{ bearer: '{secret}' }");
    let part = |gate: &Gate| gate.agent().request("GET", "https://api.example/x", &[("Range", "bytes=0-9")], b"");
    let answer = part(&gate);
    assert_eq!((answer.status, answer.code().as_str(), origin.connections()), (403, "range_refused", 0));
    assert_eq!(gate.events_of(&answer.correlation())[0]["type"], "request.refused");
    // A session token travels beside the signature that its key makes.
    let gate = self::gate(&origin, &SIGV4.replacen(" }", ", session_token: 'file:///nowhere' }", 1));
    assert_eq!((part(&gate).code().as_str(), origin.connections()), ("range_refused", 0));
    // Where the operator allows it, and where no secret travels.
    for inject in ["{ bearer: '{secret}' }\n    ranges: true", HMAC, SIGV4] {
        let gate = self::gate(&origin, inject);
        assert_eq!(part(&gate).status, 200, "{inject}");
        assert_eq!(origin.hits().last().unwrap().header("range"), Some("bytes=0-9"));
    }
}

#[test]
fn f17_a_part_that_an_upstream_gives_out_by_itself_is_withheld() {
    let (begins, _) = SECRET.split_at(11);
    let part = |status, name, value: &str| Reply::new(status).header(name, value).body(begins);
    let origin = Origin::https(&[API])
        .reply("/206", Reply::new(206).body(begins))
        .reply("/200", part(200, "content-range", "bytes 0-10/29"))
        .reply("/hop", part(200, "content-range", "bytes 0-10/29").header("connection", "content-range"))
        .reply("/several", part(200, "content-type", "Multipart/ByteRanges; boundary=x"));
    let gate = gate(&origin, "{ bearer: '{secret}' }");
    for name in ["Range", "Request-Range", "X-Ms-Range"] {
        let answer = gate.agent().request("GET", "https://api.example/206", &[(name, "bytes=0-10")], b"");
        assert_eq!((answer.status, answer.code().as_str(), origin.connections()), (403, "range_refused", 0), "{name}");
    }
    for path in ["206", "200", "hop", "several"] {
        let answer = gate.agent().get(&format!("https://api.example/{path}"));
        assert_eq!((answer.status, answer.code().as_str()), (502, "reply_withheld"), "{path}");
    }
    let gate = self::gate(&origin, "{ bearer: '{secret}' }\n    ranges: true");
    let answer = gate.agent().request("GET", "https://api.example/206", &[("x-ms-range", "bytes=0-10")], b"");
    assert_eq!((answer.status, answer.text()), (206, begins.to_owned()));
}

#[test]
fn a_coding_that_an_upstream_hides_behind_connection_is_decoded_all_the_same() {
    let body = gzip(format!("<{SECRET}>").as_bytes());
    let hidden = Reply::new(200).header("connection", "content-encoding").header("content-encoding", "gzip").body(body);
    let origin = Origin::https(&[API]).reply("/", hidden);
    let gate = gate(&origin, "{ bearer: '{secret}' }");
    let answer = gate.agent().get("https://api.example/a");
    assert_eq!(answer.text(), format!("<{}>", "*".repeat(SECRET.len())));
    assert_eq!(gate.event("action.executed", &answer.correlation())["data"]["masked_bytes"], SECRET.len());
}

#[test]
fn a_charset_in_which_the_secret_is_not_recognised_is_withheld() {
    let mut origin = Origin::https(&[API]);
    let refused = ["utf-16le", "UTF-16", "\"utf-32\"", "utf-7", "ucs-2", "ibm037", "utf-8; charset=utf-16"];
    let passed = ["utf-8", "\"UTF-8\"", "us-ascii", "ISO-8859-15", "windows-1252", "Shift_JIS", "gb18030", "big5"];
    for (count, charset) in refused.iter().chain(&passed).enumerate() {
        let reply = Reply::new(200).header("content-type", &format!("text/plain; Charset={charset}")).body("ok");
        origin = origin.reply(&format!("/{count}/"), reply);
    }
    let gate = gate(&origin, "{ bearer: '{secret}' }");
    for (count, charset) in refused.iter().chain(&passed).enumerate() {
        let url = format!("https://api.example/{count}/");
        let answer = gate.agent().request("GET", &url, &[("accept-charset", "utf-16le")], b"");
        let expected = if count < refused.len() { 502 } else { 200 };
        assert_eq!(answer.status, expected, "{charset}: {}", answer.text());
    }
    assert!(origin.hits().iter().all(|hit| hit.header("accept-charset").is_none()));
}

#[test]
fn a_stream_of_events_is_not_delayed() {
    let pause = Duration::from_secs(2);
    let events = ["data: one\n\n", "data: sk_live_ 4e", "C39!\n\n"].map(|event| (pause, event.as_bytes().to_vec()));
    let origin = Origin::https(&[API]).reply("/events", Reply::new(200).chunks(events.to_vec()));
    let gate = gate(&origin, "{ bearer: '{secret}' }");
    let mut tunnel = gate.agent().begin("GET", "https://api.example/events", &[], b"");
    let started = Instant::now();
    for (count, event) in [(1, "data: one\n\n"), (2, "4e"), (3, "C39!\n\n")] {
        tunnel.through(event.as_bytes()).unwrap();
        assert!(started.elapsed() < pause * count + pause / 2, "{event} came after {:?}", started.elapsed());
    }
}

#[test]
fn the_reply_in_a_mailbox_is_masked() {
    let reply = Reply::new(200).header("x-echo", SECRET).body(format!("a {SECRET} b"));
    let origin = Origin::https(&[API]).reply("/change", reply);
    let gate = gate(&origin, "{ query: { name: key } }");
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "x");
    gate.approve(&intent);
    assert_eq!(agent.settled(&intent), "succeeded");
    let answer = agent.response(&intent);
    let masked = "*".repeat(SECRET.len());
    assert_eq!((answer.header("x-echo"), answer.text()), (Some(masked.as_str()), format!("a {masked} b")));
    assert_eq!(gate.events_called("violation").len(), 1);
    assert_secret_is_nowhere(&gate);
}

#[test]
fn a_reply_that_cannot_be_looked_through_is_withheld() {
    let text = format!("{SECRET} ").repeat(4);
    let encoded = |coding: &str, body: Vec<u8>| Reply::new(200).header("content-encoding", coding).body(body);
    let origin = Origin::https(&[API])
        .reply("/unknown", encoded("x-own", text.clone().into()))
        .reply("/twice", encoded("gzip, gzip", gzip(&gzip(text.as_bytes()))))
        .reply("/not", encoded("gzip", text.clone().into()))
        .reply("/bomb", encoded("gzip", gzip(&vec![b' '; 4 << 20])))
        .reply("/long", encoded("gzip", vec![b'x'; 70_000]));
    let gate = gate_with(&origin, "{ bearer: '{secret}' }", 65_536);
    for path in ["unknown", "twice", "not", "bomb", "long"] {
        let answer = gate.agent().get(&format!("https://api.example/{path}"));
        assert_eq!((answer.status, answer.code().as_str()), (502, "reply_withheld"), "{path}");
        let outcome = gate.event("action.executed", &answer.correlation());
        assert_eq!((&outcome["data"]["sent"], &outcome["data"]["ended"]), (&json!(true), &json!("withheld")), "{path}");
    }
    assert_eq!(origin.hits().len(), 5);
    let intent = gate.agent().held("https://api.example/change/7", "x");
    gate.approve(&intent);
    assert_eq!(gate.agent().settled(&intent), "succeeded");
    // Without a credential nothing is looked for, and nothing is taken apart.
    let plain = Origin::plain().reply("/", encoded("x-own", text.clone().into()));
    let gate = Plan::new().origin(world::PLAIN, &plain).start();
    let answer = gate.agent().get("http://plain.example/a");
    assert_eq!((answer.header("content-encoding"), answer.text()), (Some("x-own"), text));
}

#[test]
fn f18_what_would_hand_out_another_credential_passes_only_where_it_is_listed() {
    let reply = Reply::new(401)
        .header("www-authenticate", "Basic realm=\"git\"")
        .header("set-cookie", "session=1")
        .header("authentication-info", "nextnonce=1");
    let origin = Origin::https(&[API]).reply("/", reply);
    let names = |answer: &Response| {
        let handing_out = ["authentication-info", "set-cookie", "www-authenticate"];
        handing_out.into_iter().filter(|name| answer.header(name).is_some()).collect::<Vec<_>>()
    };
    let gate = gate(&origin, "{ bearer: '{secret}' }");
    assert_eq!(names(&gate.agent().get("https://api.example/a")), ["www-authenticate"]);
    let gate = self::gate(&origin, "{ bearer: '{secret}' }\n    reply_headers: [Set-Cookie]");
    assert_eq!(names(&gate.agent().get("https://api.example/a")), ["set-cookie"]);
}

fn gate(origin: &Origin, inject: &str) -> Gate {
    gate_with(origin, inject, 8 << 20)
}

fn gate_with(origin: &Origin, inject: &str, encoded_reply_bytes: u64) -> Gate {
    let plan = Plan::new().origin(API, origin).limit("encoded_reply_bytes", encoded_reply_bytes);
    let credentials = world::credentials(&plan.home(), inject);
    plan.file("credentials.yaml", &credentials).file("api.key", SECRET).start()
}

/// Not in what was recorded, logged or sealed.
fn assert_secret_is_nowhere(gate: &Gate) {
    let found =
        std::process::Command::new("grep").args(["-rlF", SECRET]).arg(gate.home().join("data")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "the secret is on disk");
    assert!(!gate.log().contains(SECRET), "the secret is in the log");
}

fn echoes() -> Vec<(&'static str, String)> {
    let each = |write: fn(u8) -> String| SECRET.bytes().map(write).collect::<String>();
    vec![
        ("plain", SECRET.to_owned()),
        ("upper", SECRET.to_uppercase()),
        ("base64-0", BASE64.encode(SECRET.as_bytes())),
        ("base64-1", BASE64.encode(format!("a{SECRET}").as_bytes())),
        ("base64-2", BASE64.encode(format!("ab{SECRET}").as_bytes())),
        ("hex", HEXLOWER.encode(SECRET.as_bytes())),
        ("percent", each(|byte| format!("%{byte:02X}"))),
        ("json", each(|byte| format!("\\u{byte:04x}"))),
        ("utf-16le", each(|byte| format!("{}\0", char::from(byte)))),
        ("utf-16be", each(|byte| format!("\0{}", char::from(byte)))),
        ("html", each(|byte| format!("&#{byte};"))),
        ("html-hex", each(|byte| format!("&#x{byte:X};"))),
    ]
}

fn identity(text: &[u8]) -> Vec<u8> {
    text.to_vec()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut stream = GzEncoder::new(Vec::new(), Compression::best());
    stream.write_all(text).unwrap();
    stream.finish().unwrap()
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut stream = ZlibEncoder::new(Vec::new(), Compression::best());
    stream.write_all(text).unwrap();
    stream.finish().unwrap()
}

/// One stored block and the empty last one (RFC 7932 section 9).
fn brotli(text: &[u8]) -> Vec<u8> {
    let head = (u32::try_from(text.len()).unwrap() - 1) << 4 | 1 << 20;
    [&head.to_le_bytes()[..3], text, &[3]].concat()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    compress_to_vec(text, CompressionLevel::Fastest)
}

type Encode = fn(&[u8]) -> Vec<u8>;
const CODINGS: [(&str, Encode); 5] =
    [("identity", identity), ("gzip", gzip), ("deflate", deflate), ("br", brotli), ("zstd", zstd)];

/// The secret is a key that stays here, and so it is in the next.
const HMAC: &str = "{ hmac: { over: '{body}', headers: { x-sign: '{signature}' } } }";

const SIGV4: &str = "{ sigv4: { region: eu-central-1, service: s3, access_key_id: AKIDEXAMPLE } }";

const SECRET: &str = "sk_live_4eC39HqLyjWDarjtT1zdp7dc";
