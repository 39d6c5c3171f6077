//! Held requests: what a person decides happens once, exactly as it was shown, and nobody else can decide it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::gate::{Gate, Plan, within};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, SECRET};

#[test]
fn an_approved_request_is_sent_once_exactly_as_it_was_held() {
    let origin = Origin::https(&[API]).reply("/change", Reply::new(201).header("x-receipt", "7").body("created"));
    let gate = Plan::new().origin(API, &origin).start();
    let agent = gate.agent();
    let body: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let answer = agent.request("POST", "https://api.example/change/7?a=%20b", &[("X-Mine", "1")], &body);
    let intent = answer.text_at("/intentId");
    assert_eq!((answer.status, origin.connections()), (202, 0));
    assert_eq!(agent.response(&intent).status, 202, "there is no reply yet");

    assert!(gate.succeeds(&["pending"]).contains(&intent));
    gate.approve(&intent);
    assert_eq!(agent.settled(&intent), "succeeded");
    let hits = origin.hits();
    assert_eq!(hits.len(), 1);
    assert_eq!(
        (hits[0].method.as_str(), hits[0].target.as_str(), hits[0].header("x-mine")),
        ("POST", "/change/7?a=%20b", Some("1"))
    );
    assert!(hits[0].body == body, "the body differs from the one held");
    assert_eq!(hits[0].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));

    // The reply can be fetched again and again; it is the stored one.
    for _ in 0..2 {
        let reply = agent.response(&intent);
        assert_eq!((reply.status, reply.text().as_str(), reply.header("x-receipt")), (201, "created", Some("7")));
        assert_eq!(reply.header("writ-intent-id"), Some(intent.as_str()));
    }
    assert_eq!(gate.succeeds(&["pending"]).trim(), "nothing");
    assert_eq!(
        kinds(&gate, &answer.correlation()),
        ["decision.approval_required", "approval.vote", "approval.granted", "action.executing", "action.executed"]
    );
    let refused = gate.writ(&["approve", &intent, "--rationale", "again"]);
    assert_eq!((refused.code, origin.hits().len()), (1, 1), "{refused:?}");
    gate.assert_verifies();
}

#[test]
fn a_denied_request_is_never_sent_and_its_agent_reads_why() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "x");
    gate.succeeds(&["deny", &intent, "--rationale", "the amount is wrong"]);
    assert_eq!(agent.status(&intent), "rejected");
    let answer = agent.response(&intent);
    assert_eq!((answer.status, answer.code().as_str()), (403, "rejected"));
    assert!(answer.text_at("/detail").contains("the amount is wrong"));
    assert_eq!(answer.text_at("/intentId"), intent);
    assert_ne!(gate.writ(&["approve", &intent, "--rationale", "oh"]).code, 0);
    assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("rejected", 0));
}

#[test]
fn a_cancelled_request_is_never_sent() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "x");
    assert_eq!(agent.cancel(&intent).text_at("/status"), "cancelled");
    let answer = agent.response(&intent);
    assert_eq!((answer.status, answer.code().as_str()), (410, "cancelled"));
    assert_ne!(gate.writ(&["approve", &intent, "--rationale", "oh"]).code, 0);
    assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("cancelled", 0));
}

#[test]
fn a_decided_request_cannot_be_cancelled() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "x");
    gate.approve(&intent);
    assert_eq!(agent.settled(&intent), "succeeded");
    assert_eq!(agent.cancel(&intent).text_at("/status"), "succeeded");
    assert_eq!(origin.hits().len(), 1);
}

/// The shortest expiry a policy can set is a minute; this test waits it out beside the others.
#[test]
fn i06_what_nobody_decides_expires_and_stays_so() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new()
        .origin(API, &origin)
        .file(
            "policies/changes.yaml",
            "destinations: [api.change, api.wait]\nrequire_approval: always\nexpiry_minutes: 1\n",
        )
        .start();
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "x");
    let seen = within(Duration::from_secs(90), || (agent.status(&intent) != "pending_approval").then_some(()));
    assert!(seen.is_some(), "it still waits");
    assert_eq!(agent.status(&intent), "expired");
    let answer = agent.response(&intent);
    assert_eq!((answer.status, answer.code().as_str()), (410, "expired"));
    assert_ne!(gate.writ(&["approve", &intent, "--rationale", "late"]).code, 0);
    let gate = gate.restart();
    assert_ne!(gate.writ(&["approve", &intent, "--rationale", "later"]).code, 0);
    assert_eq!((gate.agent().status(&intent).as_str(), origin.connections()), ("expired", 0));
}

#[test]
fn a_caller_that_waits_gets_the_reply_of_the_upstream() {
    let origin = Origin::https(&[API]).reply("/", Reply::new(201).body("done"));
    let gate = Plan::new().origin(API, &origin).start();
    let asks: [(&str, &[(&str, &str)]); 3] = [
        ("https://api.example/change/prefer", &[("Prefer", "respond-async, wait=20")]),
        ("https://api.example/change/gate", &[("X-Gate-Wait", "true")]),
        ("https://api.example/wait/destination", &[]),
    ];
    for (number, (url, headers)) in asks.into_iter().enumerate() {
        let mut waiting = gate.agent().begin("POST", url, headers, b"x");
        let path = url.trim_start_matches("https://api.example");
        let held = gate.wait_for("decision.approval_required", |event| event["data"]["path"] == path);
        assert_eq!(origin.hits().len(), number);
        gate.approve(held["intent_id"].as_str().unwrap());
        let answer = waiting.answer().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (201, "done"), "{path}");
        assert_eq!(origin.hits().len(), number + 1);
    }
}

#[test]
fn a_caller_that_waits_is_told_no_or_to_wait_longer() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let mut waiting = agent.begin("POST", "https://api.example/change/no", &[("Prefer", "wait=20")], b"x");
    let held = gate.wait_for("decision.approval_required", |event| event["data"]["path"] == "/change/no");
    gate.succeeds(&["deny", held["intent_id"].as_str().unwrap(), "--rationale", "not today"]);
    let answer = waiting.answer().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (403, "rejected"));
    let answer = agent.request("POST", "https://api.example/change/later", &[("Prefer", "wait=1")], b"x");
    assert_eq!((answer.status, origin.connections()), (202, 0));
}

#[test]
fn i13_intents_of_others_do_not_exist() {
    let (_origin, gate) = api();
    let intent = gate.agent().held("https://api.example/change/7", "x");
    let other = gate.add_agent("other", "ops");
    let page = |path: &str| format!("http://writ.internal/v1/intents/{intent}{path}");
    for answer in [other.get(&page("")), other.get(&page("/response")), other.cancel(&intent)] {
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    }
    let unknown = other.get("http://writ.internal/v1/intents/int_aaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_eq!(unknown.json(), other.get(&page("")).json(), "there is a difference to an intent that does not exist");
    assert_eq!(gate.agent().status(&intent), "pending_approval");
}

#[test]
fn i25_one_operator_is_one_vote() {
    let (origin, gate) = api();
    let intent = gate.agent().held("https://api.example/twice/7", "x");
    gate.approve(&intent);
    assert_ne!(gate.writ(&["approve", &intent, "--rationale", "and again"]).code, 0);
    assert_eq!((gate.agent().status(&intent).as_str(), origin.connections()), ("pending_approval", 0));
    let second = gate.add_operator("second", "reviewer");
    assert_eq!(gate.writ_as(&second, &["approve", &intent, "--rationale", "fine"]).code, 0);
    assert_eq!((gate.agent().settled(&intent).as_str(), origin.hits().len()), ("succeeded", 1));
}

#[test]
fn i05_many_approvals_at_once_send_once() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let second = gate.add_operator("second", "reviewer");
    let intent = agent.held("https://api.example/change/7", "x");
    let start = Barrier::new(16);
    let approve = |number: usize| {
        start.wait();
        let arguments = ["approve", intent.as_str(), "--rationale", "now"];
        if number.is_multiple_of(2) { gate.writ(&arguments) } else { gate.writ_as(&second, &arguments) }
    };
    let approved = thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|number| scope.spawn(move || approve(number).code)).collect();
        all.into_iter().map(|each| each.join().unwrap()).filter(|code| *code == 0).count()
    });
    assert!(approved >= 1, "nobody could approve");
    assert_eq!((agent.settled(&intent).as_str(), origin.hits().len()), ("succeeded", 1));
    assert_eq!(gate.events_called("approval.granted").len(), 1);
    assert_eq!(gate.events_called("action.executing").len(), 1);
}

#[test]
fn i05_an_approval_and_a_denial_at_once_leave_one_decision() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let second = gate.add_operator("second", "reviewer");
    for round in 0..6 {
        let intent = agent.held(&format!("https://api.example/change/{round}"), "x");
        let before = origin.hits().len();
        thread::scope(|scope| {
            scope.spawn(|| gate.writ(&["approve", &intent, "--rationale", "yes"]));
            scope.spawn(|| gate.writ_as(&second, &["deny", &intent, "--rationale", "no"]));
        });
        let state = agent.settled(&intent);
        let sent = origin.hits().len() - before;
        assert!([("succeeded", 1), ("rejected", 0)].contains(&(state.as_str(), sent)), "{state}, {sent} hits");
    }
    gate.assert_verifies();
}

#[test]
fn i15_an_identical_request_joins_the_one_that_waits() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let first = agent.held("https://api.example/change/7", "x");
    assert_eq!(agent.held("https://api.example/change/7", "x"), first);
    let others = [agent.held("https://api.example/change/7", "y"), agent.held("https://api.example/change/8", "x")];
    assert!(!others.contains(&first) && others[0] != others[1]);
    assert_ne!(gate.add_agent("other", "ops").held("https://api.example/change/7", "x"), first);
    gate.approve(&first);
    assert_eq!((agent.settled(&first).as_str(), origin.hits().len()), ("succeeded", 1));
    assert_ne!(agent.held("https://api.example/change/7", "x"), first, "an approval is good for one request");
}

#[test]
fn i03_a_policy_that_denies_by_now_blocks_what_is_approved() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "a wire transfer");
    let denies =
        "destinations: [api.change, api.wait]\nrequire_approval: always\nblock_if_terms: [\"wire transfer\"]\n";
    gate.write("policies/changes.yaml", denies);
    gate.succeeds(&["reload"]);
    gate.writ(&["approve", &intent, "--rationale", "looks right"]);
    assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("blocked", 0));
    assert_eq!(agent.response(&intent).status, 403);
}

#[test]
fn i03_a_vote_counts_only_for_the_reasons_that_were_shown() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "x");
    gate.write(
        "policies/changes.yaml",
        "destinations: [api.change, api.wait]\nrequire_approval_over: 0\nexpiry_minutes: 60\n",
    );
    let measured = crate::harness::world::DESTINATIONS
        .replace("policy: changes\n", "policy: changes\n    measure: { records: 'json:/records/#' }\n");
    gate.write("destinations.yaml", &measured);
    gate.signal(nix::sys::signal::Signal::SIGHUP);
    within(Duration::from_secs(10), || (gate.events_called("config.loaded").len() == 2).then_some(())).unwrap();
    gate.approve(&intent);
    assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("pending_approval", 0));
    let held = gate.events_called("decision.approval_required");
    assert_eq!(held.len(), 2);
    assert_ne!(held[0]["data"]["reasons"], held[1]["data"]["reasons"]);
    // The same operator may vote on what is shown now.
    gate.approve(&intent);
    assert_eq!((agent.settled(&intent).as_str(), origin.hits().len()), ("succeeded", 1));
}

#[test]
fn a_broken_reload_changes_nothing() {
    let (origin, gate) = api();
    gate.write("policies/reads.yaml", "destinations: [api.read, plain.read]\nrequire_aproval: always\n");
    let refused = gate.writ(&["reload"]);
    assert!(refused.code != 0 && refused.err.contains("reads.yaml:2"), "{refused:?}");
    assert_eq!(gate.agent().get("https://api.example/a").status, 200);
    assert_eq!((gate.events_called("config.refused").len(), origin.hits().len()), (1, 1));
}

#[test]
fn a_secret_that_is_missing_leaves_the_approval_in_force() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "x");
    std::fs::remove_file(gate.home().join("api.key")).unwrap();
    gate.approve(&intent);
    let failed = gate.event("action.failed", &intent);
    assert_eq!((&failed["data"]["sent"], &failed["data"]["reason"]), (&json!(false), &json!("credential_unreadable")));
    assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("approved", 0));
    gate.write("api.key", SECRET);
    gate.approve(&intent);
    assert_eq!((agent.settled(&intent).as_str(), origin.hits().len()), ("succeeded", 1));
    assert_eq!(gate.events_called("approval.vote").len(), 1, "the second approval is the first one, carried out");
}

#[test]
fn i12_who_answers_for_an_agent_cannot_vote_for_it_and_viewers_only_look() {
    let (origin, gate) = api();
    let agent = gate.add_agent("bot", "alice");
    let (alice, viewer) = (gate.add_operator("alice", "admin"), gate.add_operator("watcher", "viewer"));
    let intent = agent.held("https://api.example/change/7", "x");
    for token in [&alice, &viewer] {
        assert!(gate.writ_as(token, &["pending"]).out.contains(&intent), "everyone may look");
        for verdict in ["approve", "deny"] {
            assert_ne!(gate.writ_as(token, &[verdict, &intent, "--rationale", "me"]).code, 0);
        }
    }
    assert_ne!(gate.writ_as(&viewer, &["agents", "suspend", "bot"]).code, 0);
    assert_ne!(gate.writ_as(&viewer, &["reload"]).code, 0);
    assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("pending_approval", 0));
    assert!(gate.events_called("approval.vote").is_empty());
    gate.succeeds(&["operators", "revoke", "alice"]);
    assert_ne!(gate.writ_as(&alice, &["pending"]).code, 0, "revoked");
}

#[test]
fn i10_agents_reach_nothing_of_the_operators() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "x");
    let refused = gate.writ_as(&agent.token, &["approve", &intent, "--rationale", "me"]);
    assert!(refused.code != 0 && refused.err.contains("operator token"), "{refused:?}");
    assert_ne!(gate.writ_as("", &["pending"]).code, 0);

    let operator = std::fs::read_to_string(gate.home().join("operator.token")).unwrap();
    let vote = json!({"rationale": "me", "digest": held_field(&gate, &intent, "digest"), "reasons": held_field(&gate, &intent, "reasons")});
    let vote = vote.to_string();
    // At the forward door there is no such page, whoever asks.
    for token in [agent.token.as_str(), operator.trim()] {
        for host in ["writ.internal".to_owned(), gate.forward.to_string()] {
            let head = format!(
                "POST /v1/intents/{intent}/approve HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{vote}",
                vote.len()
            );
            let status = agent.connect().ask(&head).status;
            assert!([404, 407].contains(&status), "{status} at {host}");
        }
    }
    // Nor does the proxy lead to the operator door.
    for url in [
        format!("http://{}/v1/intents/{intent}", gate.operator),
        format!("http://localhost:{}/v1/head", gate.operator.port()),
    ] {
        assert_eq!(agent.get(&url).status, 403, "{url}");
    }
    assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("pending_approval", 0));
}

/// Every route there is, as the sources declare them: a new one is asked without anybody thinking of it.
#[test]
fn i10_the_token_of_an_agent_opens_no_route_of_the_operator_door() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "x");
    let door = Agent::new(gate.operator, &gate.home().join("ca-bundle.pem"), "none", "none");
    let basic = BASE64.encode(format!("default:{}", agent.token).as_bytes());
    let carriers = [
        format!("authorization: Bearer {}\r\n", agent.token),
        format!("authorization: Basic {basic}\r\n"),
        format!("cookie: writ_session={}\r\norigin: http://{}\r\nwrit-page: 1\r\n", agent.token, gate.operator),
        format!("proxy-authorization: Bearer {}\r\n", agent.token),
    ];
    let before = gate.events().len();
    let routes = operator_routes();
    assert!(routes.len() > 30, "{routes:?}");
    let names = [
        ("{id}", intent.as_str()),
        ("{kind}", "agents"),
        ("{name}", "default"),
        ("{verdict}", "approve"),
        ("{standing}", "revoke"),
        ("{way}", "off"),
    ];
    let mut opened = BTreeSet::new();
    for route in &routes {
        let path =
            names.iter().fold(route.clone(), |path, (name, value)| path.replace(name, value)).replace(['{', '}'], "");
        for (method, carrier) in ["GET", "HEAD", "POST", "PUT", "DELETE"]
            .iter()
            .flat_map(|method| carriers.iter().map(move |carrier| (method, carrier)))
        {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nhost: {}\r\n{carrier}content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
                gate.operator
            );
            let mut connection = door.connect();
            connection.send(head.as_bytes());
            let answer = connection.answer_to(method).unwrap();
            let to_login = answer.status == 303 && answer.header("location") == Some("/ui/login");
            if answer.status != 401 && !to_login {
                opened.insert(route.clone());
            }
        }
    }
    let public = [
        "/",
        "/health",
        "/ready",
        "/ui/icon.svg",
        "/ui/login",
        "/ui/style.css",
        "/ui/writ.js",
        "/v1/openapi.json",
        "/v1/session",
    ];
    assert_eq!(opened.iter().map(String::as_str).collect::<Vec<_>>(), public, "only what nobody has to log in for");
    assert_eq!((gate.events().len(), origin.connections()), (before, 0), "nothing was changed");
}

/// The paths of the operator door.
fn operator_routes() -> BTreeSet<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folder = std::fs::read_dir(sources.join("operator")).unwrap().map(|entry| entry.unwrap().path());
    let texts = folder.chain([sources.join("operator.rs")]).map(|file| std::fs::read_to_string(file).unwrap());
    let paths = |text: String| {
        text.split(".route(").skip(1).filter_map(|rest| rest.split('"').nth(1).map(str::to_owned)).collect::<Vec<_>>()
    };
    texts.flat_map(paths).filter(|path| path.starts_with('/')).collect()
}

#[test]
fn the_operator_door_answers_to_its_own_name_only() {
    let (_origin, gate) = api();
    let token = std::fs::read_to_string(gate.home().join("operator.token")).unwrap();
    let door = Agent::new(gate.operator, &gate.home().join("ca-bundle.pem"), "none", "none");
    let ask = |host: &str, token: &str| {
        door.connect()
            .ask(&format!("GET /v1/head HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n"))
            .status
    };
    let own = gate.operator.to_string();
    assert_eq!((ask(&own, token.trim()), ask(&own, "writ_op_wrong"), ask(&own, "")), (200, 401, 401));
    assert_eq!(ask("evil.example", token.trim()), 421);
}

#[test]
fn i01_an_intent_id_in_a_request_is_no_authority() {
    let (origin, gate) = api();
    let agent = gate.agent();
    let intent = agent.held("https://api.example/change/7", "x");
    gate.approve(&intent);
    assert_eq!(agent.settled(&intent), "succeeded");
    let headers = [("Writ-Intent-Id", intent.as_str()), ("X-Gate-Intent-Id", intent.as_str())];
    assert_eq!(agent.request("POST", "https://api.example/change/7", &headers, b"other").status, 202);
    assert_eq!(origin.hits().len(), 1);
}

fn api() -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    (origin, gate)
}

fn kinds(gate: &Gate, correlation: &str) -> Vec<String> {
    gate.events_of(correlation).iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

fn held_field(gate: &Gate, intent: &str, key: &str) -> Value {
    gate.event("decision.approval_required", intent)["data"][key].clone()
}
