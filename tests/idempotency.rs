//! A request that is sent again under its key is carried out once, and told the same again: at once, together, after a
//! restart, after a crash.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::harness::agent::{Agent, Response};
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::{Origin, Reply};
use crate::harness::world::{API, DESTINATIONS};

#[test]
fn a_repeated_key_is_answered_with_the_first_result() {
    let origin = Origin::https(&[API]).reply("/send", Reply::new(201).header("x-receipt", "7").body("created"));
    let gate = Plan::new().origin(API, &origin).start();
    let agent = gate.agent();
    let first = keyed(&agent, "/send/1", "k-1", "x=1");
    assert_eq!((first.status, first.header("writ-replayed")), (201, None));
    let again = keyed(&agent, "/send/1", "k-1", "x=1");
    assert_eq!((again.status, again.text().as_str(), again.header("x-receipt")), (201, "created", Some("7")));
    assert_eq!(again.header("writ-replayed"), Some("true"));
    let replayed = gate.wait_for("request.refused", |event| event["data"]["code"] == "replayed");
    assert_eq!(replayed["data"]["first"], first.correlation().as_str());
    assert_eq!(replayed["agent_id"], "default");

    // Another body, and another path, are another request under the same key.
    for (path, body) in [("/send/1", "x=2"), ("/send/2", "x=1")] {
        let other = keyed(&agent, path, "k-1", body);
        assert_eq!((other.status, other.code().as_str()), (409, "duplicate_blocked"));
        assert!(other.text_at("/detail").contains(&first.correlation()), "{other:?}");
    }
    gate.wait_for("request.refused", |event| event["data"]["code"] == "duplicate_blocked");
    assert_eq!(origin.hits().len(), 1);

    // Another key, another agent and another destination have nothing to do with it.
    assert_eq!(keyed(&agent, "/send/1", "k-2", "x=1").status, 201);
    assert_eq!(keyed(&gate.add_agent("other", "ops"), "/send/1", "k-1", "x=1").header("writ-replayed"), None);
    assert_eq!(keyed(&agent, "/small/1", "k-1", "x=1").status, 200);
    // What only reads may be repeated, whatever it carries; so may what has no key.
    for _ in 0..2 {
        let read = agent.request("GET", "https://api.example/read", &[("Idempotency-Key", "k-1")], b"");
        assert_eq!((read.status, read.header("writ-replayed")), (200, None));
        assert_eq!(agent.post("https://api.example/send/3", "x=1").status, 201);
    }
    assert_eq!(origin.hits().len(), 8);
    let journal = format!("{:?}", gate.events());
    assert!(!journal.contains("k-1"), "the journal holds a key as the agent sent it");
    gate.assert_verifies();
}

#[test]
fn a_key_in_quotes_is_the_same_key() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    let agent = gate.agent();
    assert_eq!(keyed(&agent, "/send/1", "k", "x=1").status, 200);
    assert_eq!(keyed(&agent, "/send/1", "\"k\"", "x=1").header("writ-replayed"), Some("true"));
    assert_eq!(keyed(&agent, "/send/1", "\"k\"", "x=2").status, 409);
    assert_eq!(keyed(&agent, "/send/1", "\"7\"", "x=1").status, 200);
    assert_eq!(keyed(&agent, "/send/1", "7", "x=1").header("writ-replayed"), Some("true"));
    for broken in ["\"k", "\"", "\"\"", "\"a\"b\"", "\"k\\\"", "\"k\";a=1"] {
        let answer = keyed(&agent, "/send/1", broken, "x=1");
        assert_eq!((answer.status, answer.code().as_str()), (400, "idempotency_key_required"), "{broken}");
    }
    assert_eq!(origin.hits().len(), 2);
}

#[test]
fn sixty_four_at_once_are_one() {
    let origin = Origin::https(&[API]).reply("/send", Reply::ok().delay(Duration::from_millis(300)).body("one"));
    let gate = Plan::new().origin(API, &origin).start();
    let (agent, start) = (gate.agent(), Barrier::new(64));
    let answers: Vec<Response> = thread::scope(|scope| {
        let ask = |_| {
            scope.spawn(|| {
                start.wait();
                keyed(&agent, "/send/1", "k", "x=1")
            })
        };
        let asked: Vec<_> = (0..64).map(ask).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| (answer.status, answer.text().as_str()) == (200, "one")), "{answers:#?}");
    let replayed = answers.iter().filter(|answer| answer.header("writ-replayed").is_some()).count();
    assert_eq!((replayed, origin.hits().len()), (63, 1));
}

#[test]
fn a_key_survives_restart_and_kill() {
    let origin = Origin::https(&[API]).reply("/send", Reply::ok().body("first"));
    let gate = Plan::new().origin(API, &origin).start();
    let first = keyed(&gate.agent(), "/send/1", "k", "x=1");
    gate.event("action.executed", &first.correlation());
    let gate = gate.restart();
    assert_eq!(keyed(&gate.agent(), "/send/1", "k", "x=1").header("writ-replayed"), Some("true"));
    let gate = gate.kill().start();
    let again = keyed(&gate.agent(), "/send/1", "k", "x=1");
    assert_eq!((again.text().as_str(), again.header("writ-replayed")), ("first", Some("true")));
    assert_eq!(keyed(&gate.agent(), "/send/1", "k", "x=2").status, 409);
    assert_eq!(origin.hits().len(), 1);
}

/// Where the gate dies, how often the origin was asked in the end, and what the same request is told afterwards.
#[test]
fn what_a_crash_cut_off_is_not_sent_again_under_its_key() {
    let points = [
        ("journal.before-write:3", 1, 200),
        ("permit.recorded", 0, 502),
        ("upstream.connected", 0, 502),
        ("upstream.sent", 1, 502),
        ("reply.stored", 1, 502),
        ("outcome.recorded", 1, 200),
    ];
    for (point, hits, status) in points {
        let origin = Origin::https(&[API]);
        let plan = Plan::new().origin(API, &origin);
        plan.configure();
        assert_eq!(plan.writ(&["init"]).code, 0);
        let mut gate = plan.start_with(&[("WRIT_CRASH_AT", point)]);
        let headers = [("Idempotency-Key", "k")];
        drop(gate.agent().try_request("POST", "https://api.example/send/1", &headers, b"x=1"));
        assert!(gate.ended(), "{point} was never reached");
        let gate = gate.kill().start();
        let again = keyed(&gate.agent(), "/send/1", "k", "x=1");
        assert_eq!((again.status, origin.hits().len()), (status, hits), "{point}: {again:?}");
        assert_eq!(again.header("writ-replayed").is_some(), point != "journal.before-write:3", "{point}");
        if status == 502 {
            assert_eq!(again.code(), "outcome_unknown", "{point}");
        }
        gate.assert_verifies();
    }
}

#[test]
fn what_could_not_be_sent_may_be_asked_for_again() {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    let agent = gate.agent();
    std::fs::remove_file(gate.home().join("api.key")).unwrap();
    let failed = keyed(&agent, "/send/1", "k", "x=1");
    assert_eq!((failed.status, failed.code().as_str()), (503, "credential_unreadable"));
    gate.event("action.failed", &failed.correlation());
    gate.write("api.key", crate::harness::world::SECRET);
    let sent = keyed(&agent, "/send/1", "k", "x=1");
    assert_eq!((sent.status, sent.header("writ-replayed"), origin.hits().len()), (200, None, 1));
}

#[test]
fn a_client_that_lost_its_connection_finds_the_result_under_its_key() {
    let late = Reply::ok().delay(Duration::from_millis(700)).body("late");
    let origin = Origin::https(&[API]).reply("/send", late);
    let gate = Plan::new().origin(API, &origin).start();
    let agent = gate.agent();
    let headers = [("Idempotency-Key", "k")];
    let lost = agent.begin("POST", "https://api.example/send/1", &headers, b"x=1");
    origin.wait_for(1);
    drop(lost);
    let again = keyed(&agent, "/send/1", "k", "x=1");
    assert_eq!((again.status, again.text().as_str(), again.header("writ-replayed")), (200, "late", Some("true")));
    assert_eq!(origin.hits().len(), 1);
}

#[test]
fn a_kept_reply_streams_to_the_one_that_waits_for_it() {
    let pause = Duration::from_secs(2);
    let chunks = vec![(Duration::ZERO, b"now ".to_vec()), (pause, b"later".to_vec())];
    let origin = Origin::https(&[API]).reply("/send", Reply::new(200).chunks(chunks));
    let gate = Plan::new().origin(API, &origin).start();
    let begun = std::time::Instant::now();
    let headers = [("Idempotency-Key", "k")];
    let mut connection = gate.agent().begin("POST", "https://api.example/send/1", &headers, b"x=1");
    connection.through(b"now ").unwrap();
    assert!(begun.elapsed() < pause, "the first part came only with the last");
    drop(connection);
    assert_eq!(keyed(&gate.agent(), "/send/1", "k", "x=1").text(), "now later");
}

#[test]
fn a_held_request_is_joined_and_then_repeated() {
    let origin = Origin::https(&[API]).reply("/change", Reply::new(201).body("created"));
    let gate = Plan::new().origin(API, &origin).start();
    let agent = gate.agent();
    let first = keyed(&agent, "/change/7", "k", "x").text_at("/intentId");
    // Headers do not make it another request.
    let headers = [("Idempotency-Key", "k"), ("X-Attempt", "2")];
    let joined = agent.request("POST", "https://api.example/change/7", &headers, b"x");
    assert_eq!((joined.status, joined.text_at("/intentId")), (202, first.clone()));
    assert_eq!(keyed(&agent, "/change/7", "k", "y").status, 409);
    let gate = gate.kill().start();
    let agent = gate.agent();
    gate.approve(&first);
    assert_eq!(agent.settled(&first), "succeeded");
    let again = keyed(&agent, "/change/7", "k", "x");
    assert_eq!((again.status, again.text().as_str(), again.header("writ-replayed")), (201, "created", Some("true")));
    assert_eq!(again.header("writ-intent-id"), Some(first.as_str()));
    assert_eq!((origin.hits().len(), gate.events_called("decision.approval_required").len()), (1, 1));

    let rejected = keyed(&agent, "/change/7", "no", "x").text_at("/intentId");
    gate.succeeds(&["deny", &rejected, "--rationale", "not this"]);
    let again = keyed(&agent, "/change/7", "no", "x");
    assert_eq!((again.status, again.code().as_str(), again.header("writ-replayed")), (403, "rejected", Some("true")));
    assert_eq!(again.text_at("/intentId"), rejected);

    // What ended without anyone's word may be asked for again, also after a start.
    let cancelled = keyed(&agent, "/change/7", "later", "x").text_at("/intentId");
    agent.cancel(&cancelled);
    let anew = keyed(&agent, "/change/7", "later", "x");
    assert_eq!(anew.status, 202);
    assert_ne!(anew.text_at("/intentId"), cancelled);
    let gate = gate.restart();
    assert_eq!(keyed(&gate.agent(), "/change/7", "later", "x").text_at("/intentId"), anew.text_at("/intentId"));
}

#[test]
fn a_measured_value_is_a_key() {
    let (origin, gate) = with("idempotency: { key: 'json:/order' }");
    let agent = gate.agent();
    let order = |body: &str| {
        agent.request("POST", "https://api.example/send/1", &[("Content-Type", "application/json")], body.as_bytes())
    };
    assert_eq!(order(r#"{"order": 7, "n": 1}"#).status, 200);
    assert_eq!(order(r#"{"order": 7, "n": 1}"#).header("writ-replayed"), Some("true"));
    assert_eq!(order(r#"{"order": 7, "n": 2}"#).code(), "duplicate_blocked");
    assert_eq!(order(r#"{"order": 8, "n": 2}"#).status, 200);
    for unclear in [r#"{"n": 1}"#, r#"{"order": [7, 8]}"#, r#"{"order": ""}"#, "no JSON"] {
        let refused = order(unclear);
        assert_eq!((refused.status, refused.code().as_str()), (400, "idempotency_key_required"), "{unclear}");
    }
    assert_eq!(origin.hits().len(), 2);
}

#[test]
fn an_upstream_that_honours_keys_gets_one() {
    let (origin, gate) = with("idempotency: { honoured: true }");
    let agent = gate.agent();
    let key = |hit: usize| origin.hits()[hit].header("idempotency-key").map(str::to_owned);
    let live = agent.post("https://api.example/send/1", "x");
    assert_eq!(key(0), Some(live.correlation()));
    // Its own stays as it is.
    assert_eq!(keyed(&agent, "/send/1", "mine", "x").status, 200);
    assert_eq!(key(1).as_deref(), Some("mine"));
    let held = agent.held("https://api.example/change/1", "x");
    gate.approve(&held);
    assert_eq!(agent.settled(&held), "succeeded");
    assert_eq!(key(2), Some(held));
    // Nothing is added where nobody said that it is honoured.
    agent.post("https://api.example/small/1", "x");
    agent.get("https://api.example/read");
    assert_eq!((key(3), key(4)), (None, None));
}

/// A gate whose `/send` and `/change` say more about keys.
fn with(line: &str) -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let said = ["api.send", "api.change"].iter().fold(DESTINATIONS.to_owned(), |text, key| {
        text.replace(&format!("  - key: {key}\n"), &format!("  - key: {key}\n    {line}\n"))
    });
    let gate = Plan::new().origin(API, &origin).file("destinations.yaml", &said).start();
    (origin, gate)
}

fn keyed(agent: &Agent, path: &str, key: &str, body: &str) -> Response {
    agent.request("POST", &format!("https://api.example{path}"), &[("Idempotency-Key", key)], body.as_bytes())
}
