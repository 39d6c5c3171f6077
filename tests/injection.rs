//! How a secret goes into a request: for each way, the octets that the upstream saw, and that nobody else saw them.

use crate::harness::agent::Response;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Hit, Origin};
use crate::harness::world::{self, API, SECRET};

/// A request of the agent that brings a credential of its own, and what of it arrives.
struct Shape {
    inject: &'static str,
    target: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    /// What must stand in the head that arrives: the request line, a header.
    head: &'static [&'static str],
    /// What must arrive as the body.
    sent: &'static str,
}

#[test]
fn each_shape_arrives_octet_for_octet_and_the_agents_own_does_not() {
    for shape in SHAPES {
        let (origin, gate) = injecting(shape.inject, SECRET);
        let answer = gate.agent().request("POST", &url(shape.target), shape.headers, shape.body.as_bytes());
        assert_eq!(answer.status, 200, "{}: {answer:?}", shape.inject);
        let hit = only(&origin);
        let raw = String::from_utf8(hit.raw.clone()).unwrap();
        for part in shape.head {
            assert!(raw.contains(&format!("{part}\r\n")), "{}: {part} in\n{raw}", shape.inject);
        }
        assert_eq!(String::from_utf8_lossy(&hit.body), shape.sent, "{}", shape.inject);
        assert_eq!(hit.header("content-length"), Some(shape.sent.len().to_string().as_str()), "{}", shape.inject);
        assert!(!raw.contains("own"), "{}: the agent's own arrived\n{raw}", shape.inject);
        assert_unseen(&gate, &answer, SECRET);
        let allowed = gate.event("decision.allowed", &answer.correlation());
        let digest = policy::Body::new(shape.body.into()).sha256().to_owned();
        assert_eq!(allowed["data"]["body_sha256"], digest, "{}: the digest of the agent's body", shape.inject);
    }
}

#[test]
fn an_approved_request_gets_its_credential_when_it_is_sent() {
    let (origin, gate) = injecting("{ json: { field: /auth/token } }", SECRET);
    let body = r#"{"to":"x"}"#;
    let agent = gate.agent();
    let answer =
        agent.request("POST", "https://api.example/change/7", &[("content-type", "application/json")], body.as_bytes());
    assert_eq!((answer.status, origin.hits().len()), (202, 0));
    let intent = answer.text_at("/intentId");
    gate.approve(&intent);
    assert_eq!(agent.settled(&intent), "succeeded");
    assert_eq!(String::from_utf8_lossy(&only(&origin).body), format!(r#"{{"to":"x","auth":{{"token":"{SECRET}"}}}}"#));
}

#[test]
fn a_signature_covers_what_arrives() {
    let inject = "{ hmac: { over: '{timestamp}.{method}.{host}.{path}.{query}.{body}', headers: { X-Sign: 'v1={signature}', X-Time: '{timestamp}', x-key: k7 } } }";
    let (origin, gate) = injecting(inject, SECRET);
    let own = [("x-sign", "own"), ("x-time", "1"), ("x-key", "own")];
    let answer = gate.agent().request("POST", "https://api.example/send/a?b=c", &own, b"\0body\xff");
    assert_eq!(answer.status, 200, "{answer:?}");
    let hit = only(&origin);
    let time = hit.header("x-time").unwrap();
    let signed = [format!("{time}.POST.api.example./send/a.b=c.").as_bytes(), hit.body.as_slice()].concat();
    assert_eq!(hit.header("x-sign"), Some(format!("v1={}", openssl_hmac(&signed)).as_str()));
    assert_eq!(hit.header("x-key"), Some("k7"));
    let age = jiff::Timestamp::now().as_second() - time.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{age} s");
    assert_unseen(&gate, &answer, SECRET);
}

#[test]
fn a_secret_that_is_a_url_is_sent_to_its_own_host_only() {
    let hook = "https://api.example/services/T0CANARY/B0?k=v";
    let (origin, gate) = injecting("{ url: true }", hook);
    let answer = gate.agent().post("https://api.example/send/any?mine=1", "text");
    assert_eq!((answer.status, only(&origin).target.as_str()), (200, "/services/T0CANARY/B0?k=v"));
    assert_unseen(&gate, &answer, "T0CANARY");
    gate.write("api.key", "https://evil.example/services/T0CANARY/B0");
    let answer = gate.agent().post("https://api.example/send/any", "text");
    assert_eq!((answer.status, answer.code().as_str(), origin.hits().len()), (503, "credential_unavailable", 1));
    assert_eq!(gate.event("action.failed", &answer.correlation())["data"]["sent"], false);
    assert_unseen(&gate, &answer, "T0CANARY");
}

#[test]
fn a_request_without_a_place_for_the_credential_is_refused_before_it_is_decided() {
    let table = [
        ("{ json: { field: token } }", "/send/x", "text/plain", "{}"),
        ("{ json: { field: token } }", "/send/x", "application/json", "[1]"),
        ("{ json: { field: a/token } }", "/send/x", "application/json", r#"{"a":{},"a":{}}"#),
        ("{ form: { field: token } }", "/send/x", "application/json", "{}"),
        ("{ path: '/send/bot{secret}' }", "/send/x", "text/plain", ""),
    ];
    for (inject, path, kind, body) in table {
        let (origin, gate) = injecting(inject, SECRET);
        let answer = gate.agent().request("POST", &url(path), &[("content-type", kind)], body.as_bytes());
        assert_eq!((answer.status, answer.code().as_str()), (400, "no_place_for_credential"), "{inject} {body}");
        assert_eq!(origin.connections(), 0, "{inject}");
        assert_eq!(gate.events_of(&answer.correlation())[0]["type"], "request.refused");
    }
}

/// A gate that puts `secret` in as `inject` says, and the upstream behind it.
fn injecting(inject: &str, secret: &str) -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin);
    let credentials = world::credentials(&plan.home(), inject);
    let gate = plan.file("credentials.yaml", &credentials).file("api.key", secret).start();
    (origin, gate)
}

fn url(target: &str) -> String {
    format!("https://api.example{target}")
}

fn only(origin: &Origin) -> Hit {
    let hits = origin.hits();
    assert_eq!(hits.len(), 1, "{hits:#?}");
    hits[0].clone()
}

/// Neither the agent nor the ledger nor the log has it.
fn assert_unseen(gate: &Gate, answer: &Response, secret: &str) {
    assert!(!format!("{answer:?}").contains(secret), "the agent sees it: {answer:?}");
    gate.wait_for("decision.allowed", |event| event["correlation_id"] == answer.correlation());
    assert!(!format!("{:?}", gate.events()).contains(secret), "it is on the ledger");
    assert!(!gate.log().contains(secret), "it is in the log");
}

/// The HMAC-SHA-256 with the secret as its key, as another program computes it.
fn openssl_hmac(message: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), message).unwrap();
    let mut openssl = std::process::Command::new("openssl");
    let output = openssl.args(["dgst", "-sha256", "-hmac", SECRET, "-r"]).arg(file.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    Shape { inject: "{ bearer: '{secret}' }", target: "/send/x", headers: &[("Authorization", "own"), ("AUTHORIZATION", "own2"), ("x-api-key", "own"), ("X.Api.Key", "own"), ("x-auth!token", "own")], body: "b", head: &["POST /send/x HTTP/1.1", "authorization: Bearer sk_canary_8141"], sent: "b" },
    Shape { inject: "{ header: { name: X-Key, value: 'k={secret};v=1' } }", target: "/send/x?access_token=own", headers: &[("X-KEY", "own"), ("x-key", "own"), ("X~Key", "own")], body: "b", head: &["POST /send/x HTTP/1.1", "x-key: k=sk_canary_8141;v=1"], sent: "b" },
    Shape { inject: "{ basic: { user: 'team-{secret}', password: x } }", target: "/send/x", headers: &[("authorization", "Basic b3duOm93bg==")], body: "b", head: &["authorization: Basic dGVhbS1za19jYW5hcnlfODE0MTp4"], sent: "b" },
    Shape { inject: "{ basic: { user: team, password: '{secret}' } }", target: "/send/x", headers: &[], body: "b", head: &["authorization: Basic dGVhbTpza19jYW5hcnlfODE0MQ=="], sent: "b" },
    Shape { inject: "{ cookie: { name: sid } }", target: "/send/x", headers: &[("cookie", "sid=own; a=own"), ("Cookie", "SID=own")], body: "b", head: &["cookie: sid=sk_canary_8141"], sent: "b" },
    Shape { inject: "{ query: { name: key } }", target: "/send/x?a=1&key=own&KEY=own&k%65y=own&%6Bey=own", headers: &[], body: "b", head: &["POST /send/x?a=1&key=sk_canary_8141 HTTP/1.1"], sent: "b" },
    Shape { inject: "{ path: '/send/bot{secret}' }", target: "/send/bot1:own/message?a=1", headers: &[], body: "b", head: &["POST /send/botsk_canary_8141/message?a=1 HTTP/1.1"], sent: "b" },
    Shape { inject: "{ form: { field: token } }", target: "/send/x", headers: &[("content-type", "application/x-www-form-urlencoded")], body: "a=%20&token=own&TOKEN=own&t%6fken=own", head: &["content-type: application/x-www-form-urlencoded"], sent: "a=%20&token=sk_canary_8141" },
    Shape { inject: "{ json: { field: auth/token } }", target: "/send/x", headers: &[("content-type", "application/json; charset=utf-8")], body: r#"{"n": 1.50, "auth": {"Token": "own", "x": [1,  2]}, "Auth": "own"}"#, head: &["POST /send/x HTTP/1.1"], sent: r#"{"n":1.50,"auth":{"x":[1,  2],"token":"sk_canary_8141"}}"# },
];
