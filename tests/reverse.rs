//! The reverse door: the same gate for clients that know only a base URL.

use serde_json::json;

use crate::harness::agent::{Connection, Response};
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, SECRET};

#[test]
fn a_base_url_alone_brings_a_request_under_the_same_rules_and_credential() {
    let (origin, gate) = routed("");
    let agent = gate.agent();
    let answer = ask(&gate, "GET", "/crm/a?b=c", &[("writ-agent-token", &agent.token), ("accept", "*/*")], "");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));
    assert_eq!(answer.header("writ-decision"), Some("allow"));
    let hit = origin.hits().remove(0);
    assert_eq!((hit.target.as_str(), hit.header("host"), hit.sni.as_deref()), ("/a?b=c", Some(API), Some(API)));
    assert_eq!(hit.header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    let decision = gate.event("decision.allowed", &answer.correlation());
    assert_eq!((&decision["agent_id"], &decision["dest_key"]), (&json!("default"), &json!("api.read")));
    assert_eq!(decision["data"]["path"], "/a");
    gate.event("action.executed", &answer.correlation());
    let denied = ask(&gate, "DELETE", "/crm/a", &[("writ-agent-token", &agent.token)], "");
    assert_eq!((denied.status, denied.code().as_str()), (403, "denied"));
    assert_eq!(origin.hits().len(), 1);
}

#[test]
fn a_token_is_taken_from_where_clients_keep_their_key_and_never_leaves() {
    let (origin, gate) = routed("");
    let token = gate.agent().token;
    let basic = gate.agent().credential().trim().replace("proxy-authorization: ", "");
    let bearer = format!("Bearer {token}");
    for (name, value) in
        [("Writ-Agent-Token", &token), ("Authorization", &bearer), ("Authorization", &basic), ("X-Api-Key", &token)]
    {
        assert_eq!(ask(&gate, "GET", "/crm/a", &[(name, value)], "").status, 200, "{name}");
    }
    for hit in origin.hits() {
        assert!(!String::from_utf8_lossy(&hit.raw).contains("writ_agt_"), "{hit:?}");
    }
    // A second one, or one in another place, is a token that would have left.
    let twice = ask(&gate, "GET", "/crm/a", &[("writ-agent-token", &token), ("x-note", &token)], "");
    let body = ask(&gate, "POST", "/crm/send/x", &[("writ-agent-token", &token)], &token);
    assert_eq!((twice.code(), body.code()), ("token_in_request".to_owned(), "token_in_request".to_owned()));
    for (name, value, code) in [
        ("x-other", "1", "credential_required"),
        ("authorization", "Bearer sk_mine", "credential_required"),
        ("proxy-authorization", &basic, "credential_required"),
        ("writ-agent-token", "writ_agt_wrong", "credential_invalid"),
        ("authorization", "Bearer writ_agt_wrong", "credential_invalid"),
    ] {
        let answer = ask(&gate, "GET", "/crm/a", &[(name, value)], "");
        assert_eq!((answer.status, answer.code().as_str()), (401, code), "{name}: {value}");
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"writ\""));
    }
    assert_eq!(origin.hits().len(), 4);
}

#[test]
fn a_held_request_is_answered_at_the_door_it_came_through() {
    let (origin, gate) = routed("");
    let token = gate.agent().token;
    let credential = [("writ-agent-token", token.as_str())];
    let held = ask(&gate, "POST", "/crm/change/7", &credential, "x=1");
    let url = held.text_at("/statusUrl");
    let path = format!("/_writ/v1/intents/{}", held.text_at("/intentId"));
    assert_eq!((held.status, &url), (202, &format!("http://{}{path}", gate.reverse())));
    gate.approve(&held.text_at("/intentId"));
    assert_eq!(ask(&gate, "GET", &format!("{path}?wait=20"), &credential, "").text_at("/status"), "succeeded");
    assert_eq!(ask(&gate, "GET", &format!("{path}/response"), &credential, "").text(), "ok\n");
    assert_eq!(origin.hits()[0].body, b"x=1");
    assert_eq!(ask(&gate, "GET", &path, &[], "").status, 401);
    assert_eq!(ask(&gate, "GET", "/_writ/health", &[], "").status, 200);
    assert!(ask(&gate, "GET", "/_writ/ca.pem", &[], "").text().starts_with("-----BEGIN CERTIFICATE-----"));
}

#[test]
fn c22_what_no_route_is_for_is_refused_and_there_is_no_default() {
    let (origin, gate) = routed("");
    let token = gate.agent().token;
    let door = gate.reverse().to_string();
    for (host, target) in [
        (door.as_str(), "/other/a"),
        (&door, "/"),
        (&door, "/crm/../a"),
        (&door, "/crmx/a"),
        ("evil.example", "/crm/a"),
        ("evil.example:4002", "/_writ/health"),
        (API, "/a"),
        (&door, "http://evil.example/crm/a"),
    ] {
        let mut connection = Connection::open(gate.reverse());
        let answer =
            connection.ask(&format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nwrit-agent-token: {token}\r\n\r\n"));
        assert_eq!((answer.status, connection.is_closed()), (421, true), "{host} {target}: {answer:?}");
    }
    let connect =
        format!("CONNECT {API}:443 HTTP/1.1\r\nhost: {API}:443\r\nproxy-authorization: Bearer {token}\r\n\r\n");
    assert_eq!(Connection::open(gate.reverse()).ask(&connect).code(), "method_refused");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn what_a_reply_says_of_its_places_leads_back_to_the_door() {
    let reply = Reply::new(302)
        .header("location", "https://api.example/login?a=b")
        .header("set-cookie", "a=1; Domain=api.example; Path=/; Secure");
    let (_origin, gate) = routed_to(Origin::https(&[API]).reply("/moved", reply), "");
    let answer = ask(&gate, "GET", "/crm/moved", &[("writ-agent-token", &gate.agent().token)], "");
    assert_eq!((answer.status, answer.header("location")), (302, Some("/crm/login?a=b")));
    // The credential's own destination keeps cookies to itself.
    assert_eq!(answer.header("set-cookie"), None);
}

#[test]
fn a_bound_door_serves_its_one_agent_but_no_page_in_a_browser() {
    let (origin, gate) = routed("  agent: default\n");
    let token = gate.add_agent("other", "").token;
    assert_eq!(ask(&gate, "GET", "/crm/a", &[], "").status, 200);
    assert_eq!(ask(&gate, "POST", "/crm/send/x", &[("writ-agent", "default")], "hello").status, 200);
    let own = ask(&gate, "GET", "/crm/a", &[("writ-agent-token", &token)], "");
    assert_eq!(gate.event("decision.allowed", &own.correlation())["agent_id"], "other");
    for (method, path, headers) in [
        ("POST", "/crm/send/x", &[] as &[(&str, &str)]),
        ("POST", "/crm/send/x", &[("writ-agent", "other")]),
        ("POST", "/crm/send/x", &[("writ-agent", "default"), ("origin", "https://evil.example")]),
        ("GET", "/crm/a", &[("origin", "null")]),
        ("GET", "/crm/a", &[("sec-fetch-site", "cross-site")]),
        ("GET", "/crm/a", &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")]),
    ] {
        let answer = ask(&gate, method, path, headers, "");
        assert_eq!((answer.status, answer.code().as_str()), (403, "custom_header_required"), "{method} {headers:?}");
    }
    assert_eq!(origin.hits().len(), 3);
    gate.succeeds(&["agents", "suspend", "default"]);
    assert_eq!(ask(&gate, "GET", "/crm/a", &[], "").code(), "agent_suspended");
}

#[test]
fn with_tls_the_door_shows_a_certificate_for_its_own_names_only() {
    let (origin, gate) = routed("  tls: true\n  names: [gate.example]\n");
    let agent = gate.agent().at(gate.reverse());
    let token = format!("writ-agent-token: {}\r\n", agent.token);
    for (name, host) in [("gate.example", "gate.example"), ("crm.example", "crm.example"), ("127.0.0.1", "127.0.0.1")] {
        let mut connection = agent.tls_as(agent.connect(), name).unwrap();
        let path = if host == "crm.example" { "/a" } else { "/crm/a" };
        let answer = connection.ask(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{token}\r\n"));
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
    assert!(agent.tls_as(agent.connect(), "evil.example").is_err(), "a certificate for a stranger's name");
    assert_eq!(origin.hits().len(), 3);
}

#[test]
fn a_reverse_door_without_routes_or_beside_another_is_not_opened() {
    for (text, words) in [
        ("doors: { reverse: '127.0.0.1:0' }\n", "there is no `reverse:` with routes"),
        (
            "doors: { reverse: '127.0.0.1:4001' }\nreverse: { routes: [{ prefix: /a, upstream: 'https://a.example' }] }\n",
            "`doors.forward` and `doors.reverse` are the same address",
        ),
        ("reverse: { routes: [{ prefix: /a, upstrem: 'https://a.example' }] }\n", "upstrem"),
    ] {
        let checked = Plan::new().file("writ.yaml", text).writ(&["check"]);
        assert_eq!((checked.code, checked.out.contains(words)), (3, true), "{text}: {checked:?}");
    }
}

/// A gate whose reverse door has `/crm` and the host `crm.example` for the API, and more settings.
fn routed(settings: &str) -> (Origin, Gate) {
    routed_to(Origin::https(&[API]), settings)
}

fn routed_to(origin: Origin, settings: &str) -> (Origin, Gate) {
    let routes = "    - { prefix: /crm, upstream: 'https://api.example' }\n    - { host: crm.example, upstream: 'https://api.example' }\n";
    let section = format!("reverse:\n{settings}  routes:\n{routes}");
    let gate = Plan::new().origin(API, &origin).section(&section).start();
    (origin, gate)
}

/// A request at the reverse door, by its address.
fn ask(gate: &Gate, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let door = gate.reverse();
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let mut connection = Connection::open(door);
    connection.send(format!("{method} {target} HTTP/1.1\r\nhost: {door}\r\n{lines}{length}\r\n{body}").as_bytes());
    connection.answer_to(method).unwrap()
}
