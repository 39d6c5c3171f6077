//! Access tokens: fetched from the endpoint the credential names, once however many want one, and never seen by anyone.

use serde_json::json;

use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{self, API, SECRET};

#[test]
fn many_requests_at_once_share_one_call_to_the_token_endpoint() {
    let (api, login, gate) = gate("client_id: 'team 7', scope: 'a b', audience: x", &token(3600));
    let agent = gate.agent();
    let all: Vec<_> = (0..64)
        .map(|count| {
            let agent = agent.clone();
            std::thread::spawn(move || agent.get(&format!("https://api.example/{count}")).status)
        })
        .collect();
    assert!(all.into_iter().all(|each| each.join().unwrap() == 200));
    assert_eq!(api.hits().len(), 64);
    for hit in api.hits() {
        assert_eq!(hit.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    }
    let calls = login.hits();
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert_eq!((calls[0].method.as_str(), calls[0].target.as_str()), ("POST", "/oauth/token?v=2"));
    let body = "grant_type=client_credentials&scope=a%20b&audience=x";
    assert_eq!(String::from_utf8_lossy(&calls[0].body), body);
    let pair = data_encoding::BASE64.encode(format!("team%207:{SECRET}").as_bytes());
    assert_eq!(calls[0].header("authorization"), Some(format!("Basic {pair}").as_str()));
    assert_eq!(calls[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_unseen(&gate);
    let allowed = gate.events_called("action.executed");
    assert_eq!(allowed[0]["data"]["credential"]["name"], "api");
}

#[test]
fn a_client_may_authenticate_in_the_body() {
    let (_api, login, gate) = gate("client_id: c7, client_auth: body", &token(3600));
    assert_eq!(gate.agent().get("https://api.example/a").status, 200);
    let body = format!("grant_type=client_credentials&client_id=c7&client_secret={SECRET}");
    assert_eq!(String::from_utf8_lossy(&login.hits()[0].body), body);
    assert_eq!(login.hits()[0].header("authorization"), None);
}

#[test]
fn a_refresh_token_that_is_replaced_is_used_from_then_on() {
    let reply = format!(r#"{{"access_token":"{TOKEN}","expires_in":1,"refresh_token":"newer-CANARY"}}"#);
    let (api, login, gate) = gate("client_id: c7, grant: refresh_token", &reply);
    for path in ["a", "b"] {
        assert_eq!(gate.agent().get(&format!("https://api.example/{path}")).status, 200);
    }
    let bodies: Vec<String> = login.hits().iter().map(|hit| String::from_utf8_lossy(&hit.body).into_owned()).collect();
    let body = |token: &str| format!("grant_type=refresh_token&refresh_token={token}&client_id=c7");
    assert_eq!(bodies, [body(SECRET), body("newer-CANARY")], "a token that lasts a second is not kept");
    assert_eq!(api.hits().len(), 2);
    assert_unseen(&gate);
    assert!(!format!("{:?}{}", gate.events(), gate.log()).contains("newer-CANARY"));
}

#[test]
fn a_token_that_an_upstream_does_not_take_is_fetched_anew_for_the_next_request() {
    let (api, login, gate) = gate("client_id: c7", &token(3600));
    let api = api.reply("/no", Reply::new(401));
    for (path, calls) in [("a", 1), ("b", 1), ("no", 1), ("c", 2), ("d", 2)] {
        gate.agent().get(&format!("https://api.example/{path}"));
        assert_eq!(login.hits().len(), calls, "{path}");
    }
    assert_eq!(api.hits().len(), 5, "nothing is sent twice");
}

#[test]
fn a_token_that_comes_back_is_masked() {
    let (api, _login, gate) = gate("client_id: c7", &token(3600));
    let _api = api.reply("/echo", Reply::new(200).body(format!("<{TOKEN}>")));
    let answer = gate.agent().get("https://api.example/echo");
    assert_eq!(answer.text(), format!("<{}>", "*".repeat(TOKEN.len())));
    assert_eq!(gate.event("violation", &answer.correlation())["data"]["kind"], "secret_echoed");
}

#[test]
fn nothing_is_sent_when_there_is_no_token() {
    let elsewhere = Origin::https(&["login.example"]);
    let redirect = Reply::new(307).header("location", &format!("https://127.0.0.1:{}/", elsewhere.port()));
    let refused = r#"{"error":"invalid_client","error_description":"CANARY"}"#;
    let table = [
        (Reply::new(401).body(refused), 502, "token_refused", "answered 401 `invalid_client`"),
        (redirect, 502, "token_refused", "answered 307"),
        (Reply::new(200).body("<html>CANARY</html>"), 502, "token_refused", "in JSON"),
        (
            Reply::new(200).body(format!("{{\"x\":\"{}\"}}", "CANARY".repeat(20_000))),
            503,
            "token_unreachable",
            "too long",
        ),
        (Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"), 503, "token_unreachable", "broke off"),
    ];
    for (reply, status, code, detail) in table {
        let (api, login, gate) = gate_with("client_id: c7", reply);
        let answer = gate.agent().get("https://api.example/a");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
        let outcome = gate.event("action.failed", &answer.correlation());
        assert_eq!((&outcome["data"]["sent"], &outcome["data"]["reason"]), (&json!(false), &json!(code)));
        assert!(outcome["data"]["detail"].as_str().unwrap().contains(detail), "{outcome}");
        assert_eq!((api.connections(), login.hits().len(), elsewhere.connections()), (0, 1, 0), "{detail}");
        assert!(!format!("{answer:?}{:?}{}", gate.events(), gate.log()).contains("CANARY"), "{detail}");
        // The next request asks again: a failure is not kept.
        gate.agent().get("https://api.example/a");
        assert_eq!(login.hits().len(), 2, "{detail}");
    }
}

#[test]
fn the_token_endpoint_is_checked_like_any_upstream() {
    let stranger = Origin::https(&["other.example"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (port, hits) in [(stranger.port(), 0), (free, 0)] {
        let api = Origin::https(&[API]);
        let plan = Plan::new().origin(API, &api).dial("login.example:443", port);
        let gate = start(plan, "client_id: c7");
        let answer = gate.agent().get("https://api.example/a");
        assert_eq!((answer.status, answer.code().as_str()), (503, "token_unreachable"));
        assert_eq!((api.connections(), stranger.hits().len()), (0, hits));
    }
    // A private address that nobody opened.
    let plan = Plan::new();
    let credentials = credentials(&plan, "client_id: c7").replace("login.example", "127.0.0.1");
    let gate = plan.file("credentials.yaml", &credentials).start();
    let answer = gate.agent().get("https://api.example/a");
    assert_eq!(answer.code(), "token_unreachable");
    let outcome = gate.event("action.failed", &answer.correlation());
    assert!(outcome["data"]["detail"].as_str().unwrap().contains("not public"), "{outcome}");
}

fn gate(oauth2: &str, token: &str) -> (Origin, Origin, Gate) {
    gate_with(oauth2, Reply::new(200).header("content-type", "application/json").body(token))
}

fn gate_with(oauth2: &str, reply: Reply) -> (Origin, Origin, Gate) {
    let (api, login) = (Origin::https(&[API]), Origin::https(&["login.example"]).reply("/oauth/token", reply));
    let plan = Plan::new().origin(API, &api).origin("login.example", &login);
    let gate = start(plan, oauth2);
    (api, login, gate)
}

fn start(plan: Plan, oauth2: &str) -> Gate {
    let credentials = credentials(&plan, oauth2);
    plan.file("credentials.yaml", &credentials).start()
}

fn credentials(plan: &Plan, oauth2: &str) -> String {
    let inject = format!("{{ oauth2: {{ token_url: 'https://login.example/oauth/token?v=2', {oauth2} }} }}");
    world::credentials(&plan.home(), &inject)
}

fn token(seconds: u64) -> String {
    format!(r#"{{"access_token":"{TOKEN}","token_type":"Bearer","expires_in":{seconds}}}"#)
}

fn assert_unseen(gate: &Gate) {
    let seen = format!("{:?}{}", gate.events(), gate.log());
    assert!(!seen.contains(TOKEN) && !seen.contains(SECRET), "{seen}");
}

const TOKEN: &str = "ya29.access-token-canary-0451";
