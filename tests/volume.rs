//! The operator pages with very many intents behind them. Asked for by name: it writes gigabytes.

use std::time::{Duration, Instant};

use ledger::{Draft, EventType, Ledger, Options};
use serde_json::json;

use crate::harness::agent::Agent;
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::API;

/// `WRIT_TESTS_INTENTS` says how many there are; `tests/run --long` asks for a million, in a release build.
#[test]
#[ignore = "it writes gigabytes and wants a release build; `tests/run --long` runs it"]
fn every_page_and_filter_answers_within_50_ms() {
    let intents: usize =
        std::env::var("WRIT_TESTS_INTENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin).start().stop();
    let data = plan.home().join("data");
    let ledger = Ledger::open(Options { dir: data, queue: 64, reserve_bytes: 0 }).unwrap();
    let (begun, first) = (Instant::now(), ledger.head().ts);
    for start in (0..intents).step_by(IN_ONE) {
        let drafts = (start..(start + IN_ONE).min(intents)).flat_map(life).collect();
        drop(ledger.append_blocking(drafts).unwrap());
    }
    let (middle, last) = (ledger.head().seq / 2, ledger.head().seq);
    ledger.close().unwrap();
    println!("{intents} intents in {} entries, written in {:?}", last + 1, begun.elapsed());

    let gate = plan.start();
    let agent = gate.agent();
    (0..20).for_each(|number| drop(agent.held(&format!("https://api.example/change/{number}"), "{\"a\":1}")));
    let known = named("corr_", intents / 2);
    let pages = [
        "/ui/approvals".to_owned(),
        "/ui/runs".to_owned(),
        format!("/ui/runs?before={middle}"),
        "/ui/runs?agent=agent-7".to_owned(),
        "/ui/runs?destination=pay.3".to_owned(),
        format!("/ui/runs?agent=agent-7&destination=pay.1&before={middle}"),
        "/ui/runs?decision=hold".to_owned(),
        "/ui/runs?decision=deny".to_owned(),
        format!("/ui/runs?since={first}&until={}", jiff::Timestamp::now()),
        format!("/ui/runs/{known}"),
        format!("/ui/approvals/{}", named("int_", 7)),
        "/ui/standings".to_owned(),
        "/ui/switches".to_owned(),
        "/ui/agents".to_owned(),
        "/ui/ledger".to_owned(),
        "/v1/intents?limit=100".to_owned(),
        format!("/v1/events?correlation={known}"),
    ];
    let times: Vec<(String, Duration)> = pages.iter().map(|page| (page.clone(), p95(&gate, page))).collect();
    times.iter().for_each(|(page, time)| println!("{:>9.1} ms  {page}", time.as_secs_f64() * 1000.0));
    let slow: Vec<_> = times.iter().filter(|(_, time)| *time >= Duration::from_millis(50)).collect();
    assert!(slow.is_empty(), "{slow:?}");
}

/// The time within which 95 of 100 answers are there.
fn p95(gate: &Gate, page: &str) -> Duration {
    let token = std::fs::read_to_string(gate.home().join("operator.token")).unwrap();
    let door = Agent::new(gate.operator, &gate.home().join("ca-bundle.pem"), "none", "none");
    let head =
        format!("GET {page} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n", gate.operator, token.trim());
    let ask = || {
        let begun = Instant::now();
        let answer = door.connect().ask(&head);
        assert_eq!(answer.status, 200, "{page}: {}", answer.text());
        begun.elapsed()
    };
    let mut times: Vec<Duration> = (0..100).map(|_| ask()).collect();
    times.sort();
    times[94]
}

/// The events of one intent: nine of ten are approved and carried out.
fn life(number: usize) -> Vec<Draft> {
    let (agent, destination) = (format!("agent-{}", number % 20), format!("pay.{}", number % 7));
    let of = |kind| {
        Draft::new(kind)
            .intent(named("int_", number))
            .correlation(named("corr_", number))
            .agent(&agent)
            .destination(&destination)
    };
    let described = |kind| {
        of(kind)
            .action("http.post")
            .with("method", "POST")
            .with("authority", "https://api.example")
            .with("path", format!("/pay/{}", number % 1000))
            .with("digest", format!("{number:064x}"))
            .with("body_sha256", format!("{number:064x}"))
            .with("measured", json!({"amount": (number % 5000).to_string()}))
            .with(
                "rules",
                json!([{"rule": "pays/auto_approve_under", "verdict": "hold", "reason": "`amount` is over the limit"}]),
            )
            .with("policy", "pays")
    };
    let held = described(EventType::DecisionApprovalRequired).with("reasons", format!("{number:064x}"));
    let held = held.with("expires_at", "2999-01-01T00:00:00Z").with("approvals", 1);
    let vote = of(EventType::ApprovalVote).with("operator", "ann").with("verdict", "approve").with("rationale", "fine");
    let done = of(EventType::ActionExecuted).with("sent", true).with("status", 200);
    match number % 10 {
        0 => vec![held, of(EventType::ApprovalDenied).with("operator", "ann").with("rationale", "no")],
        _ => vec![held, vote, of(EventType::ApprovalGranted), described(EventType::ActionExecuting), done],
    }
}

/// An id, in the letters that ids have.
fn named(prefix: &str, number: usize) -> String {
    let letters = format!("{number:026}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect::<String>();
    format!("{prefix}{letters}")
}

/// Intents in one append.
const IN_ONE: usize = 200;
