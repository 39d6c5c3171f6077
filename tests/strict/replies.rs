//! A40, A41, F08, F21 to F23: replies that could be read in two ways become 502 and an outcome on the ledger; nothing of
//! them reaches the agent, and none of them reaches the agent's next request.

use super::payload::latin1;
use crate::harness::gate::Plan;
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::PLAIN;

#[test]
fn a40_replies_with_two_readings_are_502() {
    let replies = malformed();
    let numbered = replies.iter().enumerate();
    let origin = numbered.fold(Origin::plain(), |origin, (at, reply)| {
        origin.reply(&format!("/r{at}/"), Reply::raw(latin1(&reply.replace("{S}", "injected"))))
    });
    let gate = Plan::new().origin(PLAIN, &origin).start();
    let agent = gate.agent();
    for (at, reply) in replies.iter().enumerate() {
        let mut connection = agent.connect();
        let ask =
            |path: &str| format!("GET http://{PLAIN}{path} HTTP/1.1\r\nhost: {PLAIN}\r\n{}\r\n", agent.credential());
        let answer = connection.ask(&ask(&format!("/r{at}/")));
        assert_eq!(answer.status, 502, "{reply:?}: {answer:?}");
        assert!(!format!("{answer:?}{}", answer.text()).contains("injected"), "{reply:?}: {answer:?}");
        gate.event("action.unknown", &answer.correlation());
        assert_eq!(connection.ask(&ask("/plain")).text(), "ok\n", "after {reply:?}");
    }
    println!("{} replies", replies.len());
    assert_eq!(origin.hits().len(), 2 * replies.len());
}

#[test]
fn a41_a_second_reply_to_one_request_reaches_nobody() {
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ninjected";
    let pair = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{second}");
    let origin = Origin::plain().reply("/two", Reply::raw(pair));
    let gate = Plan::new().origin(PLAIN, &origin).start();
    for _ in 0..5 {
        assert_eq!(gate.agent().get("http://plain.example/two").text(), "ok");
        assert_eq!(gate.agent().get("http://plain.example/one").text(), "ok\n");
    }
    assert_eq!(origin.hits().len(), 10);
}

#[test]
fn f21_f22_what_belongs_to_one_hop_stays_there() {
    let raw = "HTTP/1.1 103 Early Hints\r\nLink: injected\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close, x-hop\r\nX-Hop: injected\r\n\
               Proxy-Authenticate: Basic realm=injected\r\nKeep-Alive: injected\r\nUpgrade: injected\r\nAlt-Svc: h3=\"injected\"\r\n\
               Writ-Decision: injected\r\nX-Gate-Intent-Id: injected\r\nContent-Length: 2\r\n\r\nok";
    let origin = Origin::plain().reply("/hop", Reply::raw(raw));
    let gate = Plan::new().origin(PLAIN, &origin).start();
    let answer = gate.agent().get("http://plain.example/hop");
    assert_eq!((answer.status, answer.text().as_str(), answer.interim.as_slice()), (200, "ok", [].as_slice()));
    assert!(!format!("{answer:?}").contains("injected"), "{answer:?}");
}

fn malformed() -> Vec<String> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let heads = HEADS.iter().map(|lines| format!("{ok}{lines}X-Own: {{S}}\r\n\r\n{{S}}"));
    let lines = LINES.iter().map(|line| format!("{line}\r\nContent-Length: 8\r\n\r\n{{S}}"));
    let whole = [
        "{S}".to_owned(),
        "HTTP/1.1 200 OK\nContent-Length: 8\n\n{S}".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n{S}".to_owned(),
        "HTTP/1.1 103 Early Hints\r\nLink: {S}\r\n\r\n".repeat(100),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(5),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 8\r\n\r\n{{S}}", "{S}".repeat(20_000)),
        String::new(),
        "HTTP/1.1 200 OK\r\nContent-Le".to_owned(),
    ];
    heads.chain(lines).chain(whole).collect()
}

/// Header lines; `{S}` may never be seen.
const HEADS: &[&str] = &[
    "Content-Length: 8\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 8\r\nContent-Length: 9\r\n",
    "Content-Length: 8\r\nContent-Length: 8\r\n",
    "Content-Length: 8, 8\r\n",
    "Content-Length: +8\r\n",
    "Content-Length: -8\r\n",
    "Content-Length: 0x8\r\n",
    "Content-Length: 8 8\r\n",
    "Content-Length:\r\n",
    "Content-Length: x\r\n",
    "Content-Length: 99999999999999999999999\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: \u{b}chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    " folded: x\r\n",
    "X: a\r\n folded\r\n",
    "X: a\nY: b\r\n",
    "X: a\rY: b\r\n",
    "X: a\u{0}\r\n",
    "X\u{0}: a\r\n",
    "no colon\r\n",
    ": no name\r\n",
    "X Y: z\r\n",
    "X(: z\r\n",
    "Content-Length : 8\r\n",
];

/// Status lines.
const LINES: &[&str] = &[
    "HTTP/0.9 200 OK",
    "HTTP/2.0 200 OK",
    "HTTP/1.2 200 OK",
    "http/1.1 200 OK",
    "HTTP/1.1 20 OK",
    "HTTP/1.1 2000 OK",
    "HTTP/1.1 099 OK",
    "HTTP/1.1 600 OK",
    "HTTP/1.1 abc OK",
    "HTTP/1.1  200 OK",
    "HTTP/1.1\t200 OK",
    "HTTP/1.1 200 O\u{0}K",
    "HTTP/1.1 +20 OK",
    "{S}",
    "ICY 200 OK",
    "HTTP/1.1",
    "",
    "HTTP/1.1 200 O\rK",
];
