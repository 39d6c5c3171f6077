//! The reply on its way back: as the upstream sends it, and when it does not come to its end.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::gate::Plan;
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, PLAIN};

#[test]
fn a_reply_is_passed_on_as_it_comes() {
    let pause = Duration::from_secs(3);
    let chunks = vec![(Duration::ZERO, b"first\n".to_vec()), (pause, b"second\n".to_vec())];
    let origin = Origin::https(&[API]).reply("/stream", Reply::new(200).chunks(chunks));
    let gate = Plan::new().origin(API, &origin).start();
    let started = Instant::now();
    let mut tunnel = gate.agent().begin("GET", "https://api.example/stream", &[], b"");
    assert_eq!(tunnel.head().unwrap().status, 200);
    tunnel.through(b"first\n").unwrap();
    assert!(started.elapsed() < pause, "the first chunk came only with the second");
    tunnel.through(b"second\n").unwrap();
    tunnel.through(b"0\r\n\r\n").unwrap();
}

#[test]
fn replies_without_a_body_stay_without_one() {
    let origin = Origin::https(&[API])
        .reply("/204", Reply::new(204))
        .reply("/304", Reply::new(304).header("etag", "\"7\""))
        .reply("/large", Reply::new(200).body("x".repeat(5000)));
    let gate = Plan::new().origin(API, &origin).start();
    let mut tunnel = gate.agent().tunnel(API);
    // One connection for all: a byte too many would be taken for the next answer.
    for (method, path, status) in
        [("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/large", 200), ("GET", "/ok", 200)]
    {
        let answer = tunnel.ask(&format!("{method} {path} HTTP/1.1\r\nhost: api.example\r\n\r\n"));
        assert_eq!((answer.status, answer.complete), (status, true), "{method} {path}: {answer:?}");
    }
    assert_eq!(origin.hits().len(), 4);
}

#[test]
fn a_reply_that_breaks_off_arrives_broken() {
    let cut = |head: &str, body: &str| Reply::raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"));
    let origin = Origin::https(&[API])
        .reply("/length", cut("content-length: 100", "short"))
        .reply("/chunked", cut("transfer-encoding: chunked", "5\r\nshort\r\n"));
    let gate = Plan::new().origin(API, &origin).start();
    for path in ["length", "chunked"] {
        // When it breaks off at once, not even the head may have gone on.
        let answer = gate.agent().try_request("GET", &format!("https://api.example/{path}"), &[], b"");
        assert!(!answer.is_ok_and(|answer| answer.complete), "{path} looks complete");
        let allowed = gate.wait_for("decision.allowed", |event| event["data"]["path"] == format!("/{path}"));
        let outcome = gate.event("action.executed", allowed["correlation_id"].as_str().unwrap());
        assert_eq!(outcome["data"]["ended"], "truncated", "{path}: {outcome}");
    }
}

#[test]
fn headers_of_one_hop_and_of_the_gate_are_taken_out_on_the_way_back() {
    let reply = Reply::ok()
        .header("connection", "x-listed")
        .header("x-listed", "1")
        .header("keep-alive", "timeout=5")
        .header("alt-svc", "h3=\":443\"")
        .header("proxy-authenticate", "Basic")
        .header("writ-decision", "deny")
        .header("writ-intent-id", "int_forged")
        .header("x-gate-intent-id", "int_forged")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2");
    let origin = Origin::plain().reply("/", reply);
    let gate = Plan::new().origin(PLAIN, &origin).start();
    let answer = gate.agent().get("http://plain.example/a");
    let decisions: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "writ-decision").collect();
    assert_eq!((answer.status, decisions.len(), decisions[0].1.as_str()), (200, 1, "allow"));
    for gone in
        ["connection", "x-listed", "keep-alive", "alt-svc", "proxy-authenticate", "writ-intent-id", "x-gate-intent-id"]
    {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
}

#[test]
fn a_client_that_goes_away_before_the_reply_leaves_an_unknown_outcome() {
    let origin = Origin::https(&[API]).reply("/slow", Reply::ok().delay(Duration::from_secs(60)));
    let gate = Plan::new().origin(API, &origin).start();
    let tunnel = gate.agent().begin("GET", "https://api.example/slow", &[], b"");
    let allowed = gate.wait_for("decision.allowed", |event| event["data"]["path"] == "/slow");
    origin.wait_for(1);
    drop(tunnel);
    let outcome = gate.event("action.unknown", allowed["correlation_id"].as_str().unwrap());
    assert_eq!((&outcome["data"]["reason"], &outcome["data"]["sent"]), (&json!("client_gone"), &json!(true)));
}

#[test]
fn an_unreachable_upstream_is_said_to_be_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gate = Plan::new().dial("api.example:443", free).start();
    let answer = gate.agent().get("https://api.example/a");
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"));
    let outcome = gate.event("action.failed", &answer.correlation());
    assert_eq!((&outcome["data"]["sent"], &outcome["data"]["reason"]), (&json!(false), &json!("upstream_failed")));
}

#[test]
fn redirects_are_passed_on_and_not_followed() {
    let elsewhere = Origin::plain();
    let location = format!("http://127.0.0.1:{}/x", elsewhere.port());
    let origin = Origin::https(&[API]).reply("/", Reply::new(302).header("location", &location));
    let gate = Plan::new().origin(API, &origin).start();
    let answer = gate.agent().get("https://api.example/a");
    assert_eq!((answer.status, answer.header("location")), (302, Some(location.as_str())));
    assert_eq!((origin.hits().len(), elsewhere.connections()), (1, 0));
}

#[test]
fn a40_a_reply_that_two_programs_could_read_in_two_ways_is_not_passed_on() {
    let heads = [
        ("length-and-chunked", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("two-lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!"),
        ("gzip-chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("bare-line-feeds", "HTTP/1.1 200 OK\ncontent-length: 2\n\nok"),
        ("folded", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok"),
        ("no-head", "ok\n"),
        ("no-number", "HTTP/1.1 OK\r\ncontent-length: 2\r\n\r\nok"),
        ("nothing", ""),
    ];
    let origin = heads
        .iter()
        .fold(Origin::https(&[API]), |origin, (name, raw)| origin.reply(&format!("/{name}"), Reply::raw(*raw)));
    let gate = Plan::new().origin(API, &origin).start();
    for (name, _) in heads {
        let answer = gate.agent().get(&format!("https://api.example/{name}"));
        assert_eq!((answer.status, answer.code().as_str()), (502, "outcome_unknown"), "{name}");
        assert_eq!(gate.event("action.unknown", &answer.correlation())["data"]["sent"], true, "{name}");
    }
    assert_eq!(origin.hits().len(), heads.len(), "each was asked once");
}

#[test]
fn a41_a_second_reply_to_one_request_reaches_nobody() {
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let early = "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let origin = Origin::https(&[API]).reply("/twice", Reply::raw(twice)).reply("/early", Reply::raw(early));
    let gate = Plan::new().origin(API, &origin).start();
    let mut tunnel = gate.agent().tunnel(API);
    for (path, status) in [("/twice", 200), ("/a", 200), ("/early", 204), ("/b", 200)] {
        let answer = tunnel.ask(&format!("GET {path} HTTP/1.1\r\nhost: api.example\r\n\r\n"));
        assert_eq!(answer.status, status, "{path}");
        assert!(!answer.text().contains("evil"), "{path}: {answer:?}");
    }
    assert_eq!(origin.hits().len(), 4);
}
