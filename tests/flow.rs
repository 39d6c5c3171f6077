//! A request's way through the gate and back: allowed, denied, held, and everything that must not change on the way.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Hit, Origin, Reply};
use crate::harness::world::{API, CREDENTIALS, PLAIN, SECRET};

#[test]
fn an_allowed_request_passes_over_tls_with_the_credential_of_the_gate() {
    let (origin, gate) = api();
    let answer = gate.agent().request("GET", "https://api.example/a?b=c", &[("authorization", "Bearer mine")], b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));
    assert_eq!(answer.header("writ-decision"), Some("allow"));
    let hit = only(&origin);
    assert_eq!((hit.method.as_str(), hit.target.as_str(), hit.sni.as_deref()), ("GET", "/a?b=c", Some(API)));
    assert_eq!(hit.header("host"), Some(API));
    let credentials: Vec<_> =
        hit.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).collect();
    assert_eq!(credentials.len(), 1);
    assert_eq!(credentials[0].1, format!("Bearer {SECRET}"));
}

#[test]
fn a_credential_in_the_query_replaces_the_agents_own() {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin);
    let key = plan.home().join("api.key");
    let credentials =
        CREDENTIALS.replace("FILE", key.to_str().unwrap()).replace("bearer: '{secret}'", "query: { name: key }");
    let gate = plan.file("credentials.yaml", &credentials).start();
    assert_eq!(gate.agent().get("https://api.example/a?key=mine&b=c&K%45Y=mine").status, 200);
    assert_eq!(gate.agent().get("https://api.example/a").status, 200);
    let targets: Vec<String> = origin.hits().into_iter().map(|hit| hit.target).collect();
    assert_eq!(targets, [format!("/a?b=c&key={SECRET}"), format!("/a?key={SECRET}")]);
    assert!(gate.events().iter().all(|event| !event.to_string().contains(SECRET)), "the secret is on the ledger");
}

#[test]
fn an_allowed_request_passes_in_absolute_form() {
    let (origin, gate) = plain();
    assert_eq!(gate.agent().post("http://plain.example/send/x?y=1", "hello").status, 200);
    let hit = only(&origin);
    assert_eq!((hit.target.as_str(), hit.header("host")), ("/send/x?y=1", Some(PLAIN)));
    assert_eq!(hit.body, b"hello");
}

#[test]
fn the_path_that_is_sent_is_the_one_that_was_decided() {
    let (origin, gate) = api();
    let paths =
        [("/a/../b/./c", "/b/c"), ("/%61%2Fb", "/a%2Fb"), ("/a%2fb", "/a%2Fb"), ("/a?b=%41/../c", "/a?b=%41/../c")];
    for (asked, sent) in paths {
        let answer = gate.agent().get(&format!("https://api.example{asked}"));
        assert_eq!(answer.status, 200, "{asked}: {answer:?}");
        assert_eq!(origin.hits().last().unwrap().target, sent);
        let decided = gate.event("decision.allowed", &answer.correlation())["data"]["path"].clone();
        assert_eq!(decided, sent.split('?').next().unwrap());
    }
}

#[test]
fn a_destination_may_trust_roots_of_its_own_and_nothing_else_is_trusted() {
    let origin = Origin::https(&[API]);
    let stranger = Origin::https(&["other.example"]);
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), origin.roots_pem()).unwrap();
    let entry = |key: &str, host: &str| {
        format!(
            "  - key: {key}\n    match: {{ host: {host}, methods: [GET], path: /** }}\n    effect: read\n    policy: reads\n    roots: '{}'\n",
            roots.path().display()
        )
    };
    let gate = ["changes", "pairs", "sends"]
        .iter()
        .fold(Plan::new(), |plan, policy| plan.without(&format!("policies/{policy}.yaml")))
        .file("policies/reads.yaml", "destinations: [own, other]\n")
        .file("destinations.yaml", &format!("destinations:\n{}{}", entry("own", API), entry("other", "other.example")))
        .dial("api.example:443", origin.port())
        .dial("other.example:443", stranger.port())
        .start();
    assert_eq!(gate.agent().get("https://api.example/").status, 200);
    let answer = gate.agent().get("https://other.example/");
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"));
    assert_eq!((origin.hits().len(), stranger.hits().len()), (1, 0));
    assert_eq!(gate.event("action.failed", &answer.correlation())["data"]["sent"], false);
}

#[test]
fn an_unknown_destination_is_denied_with_the_rule_and_the_remedy() {
    let (origin, gate) = api();
    let answer = gate.agent().request("DELETE", "https://api.example/a", &[], b"");
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("writ-decision"), Some("deny"));
    let problem = answer.json();
    assert_eq!((&problem["code"], &problem["rule"]), (&json!("denied"), &json!("destination.unknown")));
    assert_eq!((&problem["status"], &problem["retryable"]), (&json!(403), &json!(false)));
    for field in ["type", "title", "detail", "remedy"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
    }
    let events = gate.events_of(&answer.correlation());
    assert_eq!(kinds(&events), ["decision.denied"]);
    assert_eq!((events[0]["agent_id"].as_str(), events[0]["data"]["path"].as_str()), (Some("default"), Some("/a")));
    assert_eq!((origin.hits().len(), origin.connections()), (0, 0));
}

#[test]
fn a_held_request_is_told_where_to_wait() {
    let (origin, gate) = api();
    let answer = gate.agent().post("https://api.example/change/7", "x=1");
    assert_eq!(answer.status, 202);
    let document = answer.json();
    let intent = answer.text_at("/intentId");
    assert!(intent.starts_with("int_") && intent.len() == 30, "{intent}");
    let url = format!("http://{}/v1/intents/{intent}", gate.forward);
    assert_eq!((&document["status"], &document["statusUrl"]), (&json!("pending_approval"), &json!(url)));
    assert_eq!(document["destination"], "api.change");
    assert!(document["expiresAt"].as_str().is_some_and(|time| time.ends_with('Z')), "{document}");
    for field in ["reason", "message"] {
        assert!(document[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {document}");
    }
    let seconds = document["retryAfterSeconds"].to_string();
    let headers = [
        ("content-type", "application/json"),
        ("location", url.as_str()),
        ("retry-after", seconds.as_str()),
        ("writ-decision", "hold"),
        ("writ-intent-id", intent.as_str()),
        ("x-gate-intent-id", intent.as_str()),
    ];
    for (name, value) in headers {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(kinds(&gate.events_of(&answer.correlation())), ["decision.approval_required"]);
    assert_eq!(gate.agent().status(&intent), "pending_approval");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn the_status_of_held_requests_can_be_changed() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new()
        .origin(API, &origin)
        .section("answers: { hold_status: 409, public_url: 'https://gate.example/' }\n")
        .start();
    let answer = gate.agent().post("https://api.example/change/7", "");
    assert_eq!(answer.status, 409);
    assert_eq!(
        answer.text_at("/statusUrl"),
        format!("https://gate.example/v1/intents/{}", answer.text_at("/intentId"))
    );
}

#[test]
fn a_connect_without_a_credential_is_challenged_and_may_try_again_on_the_same_connection() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let mut connection = agent.connect();
    let connect = "CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\n";
    let challenge = connection.ask(&format!("{connect}\r\n"));
    assert_eq!((challenge.status, challenge.code().as_str()), (407, "credential_required"));
    assert_eq!(challenge.header("proxy-authenticate"), Some("Basic realm=\"writ\""));
    assert_eq!(challenge.header("connection"), None);
    assert_eq!(connection.ask(&format!("{connect}{}\r\n", agent.credential())).status, 200);
    let mut tunnel = agent.tls_as(connection, API).unwrap();
    assert_eq!(tunnel.ask("GET /a HTTP/1.1\r\nhost: api.example\r\n\r\n").status, 200);
    assert_eq!(only(&origin).target, "/a");
    assert!(gate.events_called("violation").is_empty(), "a probe is nothing to hold against anyone");
}

#[test]
fn a_wrong_credential_is_challenged_and_recorded() {
    let (origin, gate) = plain();
    let agent = gate.agent();
    let wrong = agent.with_token("writ_agt_wrong");
    assert_eq!(agent.connect().ask("GET http://plain.example/a HTTP/1.1\r\nhost: plain.example\r\n\r\n").status, 407);
    let answer = wrong.get("http://plain.example/a");
    assert_eq!((answer.status, answer.code().as_str()), (407, "credential_invalid"));
    let connect = format!("CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\n{}\r\n", wrong.credential());
    assert_eq!(agent.connect().ask(&connect).code(), "credential_invalid");
    assert_eq!(gate.events_of(&answer.correlation())[0]["data"]["kind"], "wrong_credential");
    assert_eq!(gate.events_called("violation").len(), 2);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_suspended_agent_is_refused_in_the_tunnel_it_has_open() {
    let (origin, gate) = api();
    let mut tunnel = gate.agent().tunnel(API);
    let ask = "GET /a HTTP/1.1\r\nhost: api.example\r\n\r\n";
    assert_eq!(tunnel.ask(ask).status, 200);
    gate.succeeds(&["agents", "suspend", "default"]);
    let answer = tunnel.ask(ask);
    assert_eq!((answer.status, answer.code().as_str()), (403, "agent_suspended"));
    assert_eq!(origin.hits().len(), 1);
    gate.succeeds(&["agents", "resume", "default"]);
    assert_eq!(tunnel.ask(ask).status, 200);
    gate.succeeds(&["agents", "revoke", "default"]);
    assert_eq!(tunnel.ask(ask).status, 407);
    assert_eq!(origin.hits().len(), 2);
}

#[test]
fn headers_of_one_hop_and_of_the_gate_are_taken_out_on_the_way_there() {
    let (origin, gate) = api();
    let sent = [
        ("Accept", "text/plain"),
        ("X-Mine", "a"),
        ("X-Mine", "b"),
        ("Connection", "keep-alive, TE"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Upgrade", "TLS/1.0"),
        ("Writ-Decision", "allow"),
        ("Writ-Run-Id", "run-1"),
        ("X-Gate-Wait", "no"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "host=evil.example"),
        ("X-Original-URL", "/admin"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Cookie", "session=mine"),
        ("X-Api-Key", "mine"),
    ];
    assert_eq!(gate.agent().request("GET", "https://api.example/a", &sent, b"").status, 200);
    let mut names: Vec<String> = only(&origin).headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    assert_eq!(names, ["accept", "accept-encoding", "authorization", "host", "x-mine", "x-mine"]);
}

#[test]
fn a_binary_body_passes_byte_for_byte_both_ways() {
    let origin = Origin::https(&[API]).reply("/send", Reply::echo());
    let gate = Plan::new().origin(API, &origin).start();
    let body: Vec<u8> =
        (0..300_000_u32).map(|number| u8::try_from(number.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    let answer = gate.agent().request("POST", "https://api.example/send/x", &[], &body);
    assert!(answer.complete && answer.body == body, "the reply differs");
    assert!(only(&origin).body == body, "the request differs");
}

#[test]
fn a_chunked_body_arrives_whole_with_a_length() {
    let (origin, gate) = api();
    let mut tunnel = gate.agent().tunnel(API);
    tunnel.send(b"POST /send/x HTTP/1.1\r\nhost: api.example\r\ntransfer-encoding: chunked\r\n\r\n");
    tunnel.send(b"5\r\nhello\r\n1");
    tunnel.send(b"0\r\n0123456789abcdef\r\n0\r\n\r\n");
    assert_eq!(tunnel.answer().unwrap().status, 200);
    let hit = only(&origin);
    assert_eq!(hit.body, b"hello0123456789abcdef");
    assert_eq!((hit.header("content-length"), hit.header("transfer-encoding")), (Some("21"), None));
}

#[test]
fn a34_the_gate_answers_expectations_itself() {
    let (origin, gate) = api();
    let mut tunnel = gate.agent().tunnel(API);
    tunnel.send(b"POST /send/x HTTP/1.1\r\nhost: api.example\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(tunnel.through(b"\r\n\r\n").unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(origin.connections(), 0, "nothing leaves before the body is there");
    tunnel.send(b"hello");
    assert_eq!(tunnel.answer().unwrap().status, 200);
    let hit = only(&origin);
    assert_eq!((hit.body.as_slice(), hit.header("expect")), (b"hello".as_slice(), None));
    let mut tunnel = gate.agent().tunnel(API);
    let answer = tunnel.ask("GET /a HTTP/1.1\r\nhost: api.example\r\nexpect: a-pony\r\n\r\n");
    assert_eq!((answer.status, origin.hits().len()), (417, 1));
}

#[test]
fn an_allowed_request_is_exactly_one_decision_and_one_outcome() {
    let (_origin, gate) = api();
    let claims = [("Writ-Run-Id", "run-7"), ("Writ-Parent-Run-Id", "run-1"), ("Writ-Trigger", "cron:nightly")];
    let answer = gate.agent().request("POST", "https://api.example/send/x?page=2&key=v", &claims, b"hello");
    gate.event("action.executed", &answer.correlation());
    let events = gate.events_of(&answer.correlation());
    assert_eq!(kinds(&events), ["decision.allowed", "action.executed"]);
    for event in &events {
        assert_eq!(
            (&event["agent_id"], &event["action"], &event["dest_key"]),
            (&json!("default"), &json!("http.post"), &json!("api.send"))
        );
        assert_eq!(event["run_id"], "run-7");
        assert_eq!(event["data"]["claims"], json!({"parent_run_id": "run-1", "trigger": "cron:nightly"}));
    }
    let decision = &events[0]["data"];
    assert_eq!((&decision["method"], &decision["authority"]), (&json!("POST"), &json!("https://api.example")));
    assert_eq!((&decision["path"], &decision["query_names"]), (&json!("/send/x"), &json!(["key", "page"])));
    assert_eq!((&decision["body_bytes"], &decision["policy"]), (&json!(5), &json!("sends")));
    let outcome = &events[1]["data"];
    assert_eq!((&outcome["status"], &outcome["reply_bytes"], &outcome["sent"]), (&json!(200), &json!(3), &json!(true)));
    assert_eq!(outcome["credential"]["name"], "api");
    assert!(!gate.events().iter().any(|event| event.to_string().contains(SECRET)), "the secret is in the ledger");
    gate.assert_verifies();
    let tail = gate.succeeds(&["--json", "ledger", "tail", "--type", "action.executed"]);
    assert_eq!(serde_json::from_str::<Value>(tail.trim()).unwrap(), events[1]);
}

#[test]
fn a_gate_token_never_leaves() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let token = agent.token.clone();
    let bearer = format!("Bearer {token}");
    let answers = [
        agent.request("GET", "https://api.example/a", &[("x-note", &bearer)], b""),
        agent.get(&format!("https://api.example/a?t={token}")),
        agent.get(&format!("https://api.example/a?t={}", token.to_uppercase())),
        agent.get(&format!("https://api.example/a?t={}", token.replace("writ_", "w%72it_"))),
        agent.get(&format!("https://api.example/a?t={}", token.replace("writ_", "%2577rit%255F"))),
        agent.get(&format!("https://api.example/{token}")),
        agent.post("https://api.example/send/x", &format!("{{\"t\":\"{token}\"}}")),
        agent.post("https://api.example/change/x", &token),
    ];
    for answer in answers {
        assert_eq!((answer.status, answer.code().as_str()), (403, "token_in_request"));
        assert_eq!(gate.events_of(&answer.correlation())[0]["data"]["kind"], "token_in_request");
    }
    assert_eq!(origin.connections(), 0);
    assert!(!gate.events().iter().any(|event| event.to_string().contains(&token)), "the token is in the ledger");
    // Where the gate's credential takes its place, the agent's own is removed before anything is decided.
    assert_eq!(agent.request("GET", "https://api.example/a", &[("authorization", &bearer)], b"").status, 200);
    assert_eq!(only(&origin).header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
}

#[test]
fn pipelined_requests_are_answered_in_order_until_one_is_refused() {
    let origin = Origin::https(&[API]).reply("/slow", Reply::new(200).body("slow").delay(Duration::from_millis(300)));
    let gate = Plan::new().origin(API, &origin).start();
    let mut tunnel = gate.agent().tunnel(API);
    let ask = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nhost: api.example\r\n\r\n");
    let asked = [ask("GET", "/slow"), ask("GET", "/a"), ask("DELETE", "/b"), ask("GET", "/c")];
    tunnel.send(asked.concat().as_bytes());
    let answers: Vec<(u16, String)> =
        (0..3).map(|_| tunnel.answer().unwrap()).map(|each| (each.status, each.text())).collect();
    assert_eq!((answers[0].1.as_str(), answers[1].1.as_str(), answers[2].0), ("slow", "ok\n", 403));
    assert!(tunnel.is_closed());
    let targets: Vec<String> = origin.hits().into_iter().map(|hit| hit.target).collect();
    assert_eq!(targets, ["/slow", "/a"]);
}

#[test]
fn what_anyone_may_know_needs_no_credential_and_nothing_else_is_there() {
    let (_origin, gate) = api();
    let agent = gate.agent();
    let ask = |path: &str| agent.connect().ask(&format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", gate.forward));
    assert_eq!(ask("/health").json()["status"], "ok");
    assert_eq!(ask("/ca.pem").text().trim(), gate.succeeds(&["ca", "export"]).trim());
    assert_eq!(ask("/v1/intents/int_aaaaaaaaaaaaaaaaaaaaaaaaaa").status, 407);
    for path in ["/", "/v1/events", "/v1/intents", "/v1/head", "/metrics"] {
        assert_eq!(agent.get(&format!("http://writ.internal{path}")).status, 404, "{path}");
    }
}

fn api() -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    (origin, gate)
}

fn plain() -> (Origin, Gate) {
    let origin = Origin::plain();
    let gate = Plan::new().origin(PLAIN, &origin).start();
    (origin, gate)
}

/// The hit of an origin that had exactly one.
fn only(origin: &Origin) -> Hit {
    let hits = origin.hits();
    assert_eq!(hits.len(), 1, "{hits:#?}");
    hits[0].clone()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}
