//! Everything at once about one held request: approve, deny, cancel, approve again, and its time running out. One
//! decision, and at most one send.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::agent::Agent;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::API;

/// A held request, and what a vote on it has to say.
struct Round {
    intent: String,
    vote: String,
    expires: Timestamp,
}

/// `WRIT_TESTS_ROUNDS` says how many rounds; a quarter of them are raced as their time runs out, a minute later.
#[test]
fn i05_whatever_64_do_at_once_is_decided_once_and_sent_at_most_once() {
    let rounds: usize = std::env::var("WRIT_TESTS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    let origin = Origin::https(&[API]);
    let policy = "destinations: [api.change, api.wait]\nrequire_approval: always\nexpiry_minutes: 1\n";
    let plan = Plan::new().origin(API, &origin).file("policies/changes.yaml", policy);
    let gate = plan.limit("pending", 10_000).limit("pending_per_agent", 10_000).start();
    let agent = gate.agent();
    let tokens: Vec<String> = (0..4).map(|number| gate.add_operator(&format!("op{number}"), "reviewer")).collect();
    let door = Agent::new(gate.operator, &gate.home().join("ca-bundle.pem"), "none", "none");
    let hold = |number: usize| Round::hold(&gate, &agent, &format!("https://api.example/change/{number}"));

    let (mut late, mut seen) = (Vec::new(), 0);
    for number in 0..rounds {
        if number.is_multiple_of(4) {
            late.push(hold(number));
        } else {
            let round = hold(number);
            race(&gate, &door, &agent, &round, &tokens);
            seen += usize::from(agent.settled(&round.intent) == "succeeded");
        }
        // None of those that wait may run out of time before its turn.
        if late.first().is_some_and(|first: &Round| first.left() < Duration::from_secs(8)) {
            seen += race_late(&gate, &door, &agent, &mut late, &tokens);
        }
    }
    seen += race_late(&gate, &door, &agent, &mut late, &tokens);

    let mut decided: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in gate.events().iter().filter(|event| event["intent_id"].is_string()) {
        let kind = event["type"].as_str().unwrap();
        if DECIDES.contains(&kind) || kind == "action.executing" {
            decided.entry(event["intent_id"].as_str().unwrap().to_owned()).or_default().push(kind.to_owned());
        }
    }
    assert_eq!(decided.len(), rounds);
    let mut sent = 0;
    for (intent, kinds) in &decided {
        let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
        // What was approved can be taken back until it is carried out; then it is carried out no more.
        let ends = ["approval.denied", "approval.expired", "approval.cancelled", "action.executing"].map(count);
        assert!(ends.iter().sum::<usize>() == 1 && count("approval.granted") <= 1, "{intent}: {kinds:?}");
        sent += count("action.executing");
    }
    let mut hits: Vec<String> = origin.hits().into_iter().map(|hit| hit.target).collect();
    let all = hits.len();
    hits.sort();
    hits.dedup();
    assert_eq!((all, hits.len(), seen), (sent, sent, sent), "one hit for each execution, and no other");
    gate.assert_verifies();
}

/// Races each of these around the moment at which its time runs out; how many succeeded.
fn race_late(gate: &Gate, door: &Agent, agent: &Agent, late: &mut Vec<Round>, tokens: &[String]) -> usize {
    let mut succeeded = 0;
    for (number, round) in late.drain(..).enumerate() {
        // The gate looks once a second: some are raced before, some while and some after it does.
        let around = Duration::from_millis(u64::try_from(number % 8).unwrap() * 150);
        thread::sleep((round.left() + around).saturating_sub(Duration::from_millis(150)));
        race(gate, door, agent, &round, tokens);
        succeeded += usize::from(agent.settled(&round.intent) == "succeeded");
    }
    succeeded
}

fn race(gate: &Gate, door: &Agent, agent: &Agent, round: &Round, tokens: &[String]) {
    let start = Barrier::new(ACTORS);
    let act = |number: usize| {
        let token = &tokens[number % tokens.len()];
        start.wait();
        match number % 4 {
            0 | 1 => vote(gate, door, round, "approve", token),
            2 => vote(gate, door, round, "deny", token),
            _ => drop(agent.cancel(&round.intent)),
        }
    };
    thread::scope(|scope| (0..ACTORS).for_each(|number| drop(scope.spawn(move || act(number)))));
}

fn vote(gate: &Gate, door: &Agent, round: &Round, verdict: &str, token: &str) {
    let head = format!(
        "POST /v1/intents/{}/{verdict} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{}",
        round.intent,
        gate.operator,
        round.vote.len(),
        round.vote
    );
    let status = door.connect().ask(&head).status;
    assert!([200, 409, 503].contains(&status), "{verdict}: {status}");
}

// === impl Round ===

impl Round {
    fn hold(gate: &Gate, agent: &Agent, url: &str) -> Round {
        let intent = agent.held(url, "x");
        let shown: Value = serde_json::from_str(&gate.succeeds(&["intents", "show", &intent])).unwrap();
        let said = &shown["request"];
        let vote = json!({"rationale": "at once", "digest": said["digest"], "reasons": said["reasons"]}).to_string();
        Round { intent, vote, expires: said["expires_at"].as_str().unwrap().parse().unwrap() }
    }

    fn left(&self) -> Duration {
        Duration::try_from(self.expires.duration_since(Timestamp::now())).unwrap_or_default()
    }
}

const ACTORS: usize = 64;

const DECIDES: [&str; 4] = ["approval.granted", "approval.denied", "approval.expired", "approval.cancelled"];
