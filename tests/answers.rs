//! What the contract promises an agent, row by row: the answer to each case, the event and the status of each state.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::agent::{Agent, Response};
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, DESTINATIONS, POLICIES, SECRET};

/// One request an hour, and a host that nobody answers for.
const FEW: &str = "  - key: few
    match: { host: api.example, methods: [POST], path: /few }
    effect: write
    policy: few
  - key: gone
    match: { host: gone.example, methods: [GET], path: /** }
    effect: read
    policy: gone
";

/// Each state of an intent: the event that enters it, its status in the API, and the answer in the place of its reply.
const STATES: &[(&str, &str, &str, u16, &str)] = &[
    ("held", "decision.approval_required", "pending_approval", 202, ""),
    ("approved", "approval.granted", "approved", 202, ""),
    ("executing", "action.executing", "executing", 202, ""),
    ("succeeded", "action.executed", "succeeded", 200, ""),
    ("failed", "action.failed", "failed", 500, ""),
    ("unknown", "action.unknown", "unknown", 502, "outcome_unknown"),
    ("rejected", "approval.denied", "rejected", 403, "rejected"),
    ("expired", "approval.expired", "expired", 410, "expired"),
    ("cancelled", "approval.cancelled", "cancelled", 410, "cancelled"),
    ("blocked", "decision.denied", "blocked", 403, "blocked"),
];

/// Each case of a request: how it is answered, with which code, and what `Writ-Decision` says.
const CASES: &[(&str, u16, &str, &str)] = &[
    ("allowed", 200, "", "allow"),
    ("held", 202, "", "hold"),
    ("held, caller waits", 202, "", "hold"),
    ("denied by policy", 403, "denied", "deny"),
    ("unknown destination", 403, "denied", "deny"),
    ("repeated key, same body", 200, "", "allow"),
    ("repeated key, other body", 409, "duplicate_blocked", "error"),
    ("no credential", 407, "credential_required", "error"),
    ("wrong credential", 407, "credential_invalid", "error"),
    ("body too large", 413, "body_too_large", "deny"),
    ("too many wait", 429, "too_many", "deny"),
    ("rate", 429, "over_limit", "deny"),
    ("ambiguous", 400, "ambiguous_request", "error"),
    ("authority mismatch", 421, "authority_mismatch", "deny"),
    ("upstream malformed", 502, "outcome_unknown", "error"),
    ("upstream unreachable", 502, "upstream_failed", "error"),
    ("vault unavailable", 503, "credential_unreadable", "error"),
    ("suspended agent", 403, "agent_suspended", "deny"),
];

#[test]
fn every_state_has_its_event_its_status_and_its_answer() {
    let origin = Origin::https(&[API])
        .reply("/change/executing", Reply::ok().delay(Duration::from_secs(12)))
        .reply("/change/failed", Reply::new(500))
        .reply("/change/unknown", Reply::raw(""));
    let declared = "  - key: declared
    match: { host: api.example, methods: [POST], path: /declared }
    effect: write
    policy: asked
    execute: { method: POST, path: /declared, content_type: text/plain }
";
    let gate = Plan::new()
        .origin(API, &origin)
        .file("destinations.yaml", &format!("{DESTINATIONS}{declared}"))
        .file("policies/asked.yaml", "require_approval: always\nblock_if_terms: [blocked]\n")
        .start();
    let agent = gate.agent();
    for (state, event, status, answer, code) in STATES {
        let intent = intent_in(&gate, &agent, state);
        assert!(
            within(PATIENCE, || (agent.status(&intent) == *status).then_some(())).is_some(),
            "{state}: {}",
            agent.status(&intent)
        );
        gate.event(event, &intent);
        let response = agent.response(&intent);
        assert_eq!((response.status, code_of(&response).as_str()), (*answer, *code), "{state}: {response:?}");
    }
    gate.assert_verifies();
}

#[test]
fn every_case_has_its_answer() {
    let origin = Origin::https(&[API]).reply("/send/malformed", Reply::raw("HTTP/1.1 200 OK\nbare: lf\n\n"));
    let destinations = format!("{DESTINATIONS}{FEW}");
    let sends = format!("{}block_if_terms: [\"wire transfer\"]\n", POLICIES[3].1);
    let gate = Plan::new()
        .origin(API, &origin)
        .dial("gone.example:443", 9)
        .file("destinations.yaml", &destinations)
        .file("policies/gone.yaml", "destinations: [gone]\n")
        .file("policies/few.yaml", "require_approval: never\nrate_limits: { per_agent_per_hour: 1 }\n")
        .file("policies/sends.yaml", &sends)
        .limit("pending_per_agent", 2)
        .start();
    let agent = gate.agent();
    for (case, status, code, decision) in CASES {
        let answer = asked(&gate, &agent, case);
        let told = (answer.status, code_of(&answer), answer.header("writ-decision").unwrap_or_default());
        assert_eq!(told, (*status, (*code).to_owned(), *decision), "{case}: {answer:?}");
        assert!(answer.header("writ-correlation-id").is_some(), "{case}");
        if *status == 429 {
            assert!(answer.header("retry-after").is_some(), "{case}");
        }
        if *status == 407 {
            assert!(answer.header("proxy-authenticate").is_some_and(|way| way.starts_with("Basic")), "{case}");
        }
        if !code.is_empty() {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{case}");
            for field in ["type", "title", "detail", "remedy"] {
                assert!(!answer.text_at(&format!("/{field}")).is_empty(), "{case}: {field}");
            }
            assert_eq!(answer.json()["status"], *status, "{case}");
        }
    }
}

#[test]
fn without_room_to_record_nothing_is_sent() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).limit("reserve_bytes", 1 << 62).start();
    let answer = gate.agent().post("https://api.example/send/1", "x");
    assert_eq!((answer.status, answer.code().as_str(), origin.connections()), (507, "storage_low", 0));
}

/// An intent in a state, or on its way there.
fn intent_in(gate: &Gate, agent: &Agent, state: &str) -> String {
    if ["blocked", "expired"].contains(&state) {
        let declared = json!({"destination": "declared", "payload": state, "expiresIn": "1s"});
        return agent.post("http://writ.internal/v1/intents", &declared.to_string()).text_at("/intentId");
    }
    let intent = agent.held(&format!("https://api.example/change/{state}"), "x");
    match state {
        "held" => {}
        "approved" => {
            fs::remove_file(gate.home().join("api.key")).unwrap();
            gate.approve(&intent);
            gate.event("action.failed", &intent);
            gate.write("api.key", SECRET);
        }
        "rejected" => drop(gate.succeeds(&["deny", &intent, "--rationale", "no"])),
        "cancelled" => drop(agent.cancel(&intent)),
        _ => gate.approve(&intent),
    }
    intent
}

/// The answer to a case.
fn asked(gate: &Gate, agent: &Agent, case: &str) -> Response {
    let send = |body: &str| agent.post("https://api.example/send/1", body);
    let keyed = |body: &[u8]| agent.request("POST", "https://api.example/send/1", &[("Idempotency-Key", "k")], body);
    let raw = |line: &str| {
        let head = format!("GET https://api.example/a HTTP/1.1\r\nhost: api.example\r\n{line}\r\n");
        agent.connect().ask(&head)
    };
    match case {
        "allowed" => send("x"),
        "held" => agent.post("https://api.example/change/1", "x"),
        "held, caller waits" => agent.request("POST", "https://api.example/change/1", &[("Prefer", "wait=1")], b"x"),
        "denied by policy" => send("a wire transfer"),
        "unknown destination" => agent.request("DELETE", "https://api.example/send/1", &[], b""),
        "repeated key, same body" => {
            let first = keyed(b"x");
            gate.event("action.executed", &first.correlation());
            let again = keyed(b"x");
            assert_eq!((first.header("writ-replayed"), again.header("writ-replayed")), (None, Some("true")));
            again
        }
        "repeated key, other body" => keyed(b"y"),
        "no credential" => {
            // The connection stays: git and Java ask first without one.
            let mut connection = agent.connect();
            let probe = "CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\n";
            let answer = connection.ask(&format!("{probe}\r\n"));
            assert_eq!(connection.ask(&format!("{probe}{}\r\n", agent.credential())).status, 200);
            answer
        }
        "wrong credential" => raw(&agent.with_token("writ_agt_wrong").credential()),
        "body too large" => agent.post("https://api.example/small/1", "seventeen octets."),
        // Two wait since the cases before.
        "too many wait" => agent.post("https://api.example/change/3", "x"),
        "rate" => {
            assert_eq!(agent.post("https://api.example/few", "1").status, 200);
            agent.post("https://api.example/few", "2")
        }
        "ambiguous" => raw(&format!("{}host: other.example\r\n", agent.credential())),
        "authority mismatch" => {
            let mut tunnel = agent.tunnel(API);
            tunnel.ask("GET /a HTTP/1.1\r\nhost: other.example\r\n\r\n")
        }
        "upstream malformed" => agent.post("https://api.example/send/malformed", "x"),
        "upstream unreachable" => agent.get("https://gone.example/a"),
        "vault unavailable" => {
            fs::remove_file(gate.home().join("api.key")).unwrap();
            let answer = send("x");
            gate.write("api.key", SECRET);
            answer
        }
        "suspended agent" => {
            gate.succeeds(&["agents", "suspend", "default"]);
            raw(&agent.credential())
        }
        _ => panic!("nobody knows how to ask for `{case}`"),
    }
}

/// The code of a refusal; nothing for what is none.
fn code_of(answer: &Response) -> String {
    let problem = answer.header("content-type") == Some("application/problem+json");
    if problem { answer.code() } else { String::new() }
}
