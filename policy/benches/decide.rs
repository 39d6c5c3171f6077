//! How long one decision takes: `cargo bench -p policy`.

#![expect(clippy::panic, reason = "a benchmark that cannot be set up ends")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use policy::{Authority, Body, Decision, Facts, Rules, Scheme, Source};

/// Ten rules, one of them about content, for a JSON body of 1 KiB; then the same among 1,000 destinations, whose
/// policies have 1,000 rules together, each of a host of its own or all of one.
fn decide(bench: &mut Criterion) {
    let many = DESTINATIONS / RULES;
    for (name, destinations, policies, hosts) in [
        ("10 rules", 1, 1, 1),
        ("1000 destinations and 1000 rules", DESTINATIONS, many, DESTINATIONS),
        ("1000 destinations of one host and 1000 rules", DESTINATIONS, many, 1),
    ] {
        let rules = rules(destinations, policies, hosts);
        let facts = facts(destinations / 2, hosts);
        assert!(matches!(rules.decide(&facts, Timestamp::UNIX_EPOCH), Decision::Allow(_)), "{name}: not allowed");
        bench.bench_function(name, |bencher| {
            bencher.iter(|| rules.decide(black_box(&facts), Timestamp::UNIX_EPOCH));
        });
    }
}

fn rules(destinations: usize, policies: usize, hosts: usize) -> Rules {
    let mut list = "destinations:\n".to_owned();
    for number in 0..destinations {
        let (policy, host) = (number % policies, number % hosts);
        // Writing to a string cannot fail.
        let _ = writeln!(
            list,
            "  - {{key: d{number}, match: {{host: h{host}.example.com, methods: [POST], path: /v1/items{number}}}, \
             effect: write, policy: p{policy}, measure: {{amount: 'json:/amount'}}}}"
        );
    }
    let policies: Vec<_> = (0..policies).map(|number| (format!("p{number}"), source(POLICY.to_owned()))).collect();
    Rules::load(&source(list), &policies, Some(&BTreeSet::new()), None).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn facts(number: usize, hosts: usize) -> Facts {
    let host = number % hosts;
    let authority = Authority::parse(Scheme::Https, &format!("h{host}.example.com"));
    let headers = [("accept", "*/*"), ("content-type", "application/json"), ("user-agent", "bench/1.0")];
    let words = "the order of last week is complete and can be sent to its new address ".repeat(14);
    let body = format!("{{\"amount\":5,\"currency\":\"eur\",\"note\":\"{words}\"}}");
    Facts {
        agent: "crm".to_owned(),
        method: "POST".to_owned(),
        authority: authority.unwrap_or_else(|error| panic!("{error}")),
        path: format!("/v1/items{number}"),
        query: None,
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: Body::new(body.into()),
        votes: Vec::new(),
        unanswered: false,
        lost: Vec::new(),
    }
}

fn source(text: String) -> Source {
    Source { name: "bench.yaml".to_owned(), text }
}

const DESTINATIONS: usize = 1000;
const RULES: usize = 10;

const POLICY: &str = r#"
allowed_types: [json]
block_if_terms: [refund guaranteed, wire transfer, password, private key, act now, gift card, bitcoin]
auto_approve_under: {amount: 100}
require_approval_over: {amount: 1000}
rules:
  - {id: abroad, effect: deny, when: {body: {currency: {pattern: "^(kpw|irr)$"}}}}
  - {id: large, effect: hold, when: {body: {amount: {min: 500}}}}
  - {id: others, effect: hold, when: {agents: ["test-*"]}}
  - {id: forced, effect: deny, when: {query: {force: "1"}}}
  - {id: debug, effect: deny, when: {headers: {x-debug: "*"}}}
  - {id: small, effect: allow, when: {body: {amount: {max: 100}}}}
"#;

criterion_group!(benches, decide);
criterion_main!(benches);
