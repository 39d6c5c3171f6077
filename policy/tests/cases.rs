//! Decision cases as data: each file in `cases/` is a set of rules and the requests to decide under them.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use policy::{Authority, Ballot, Body, Decision, Explanation, Facts, Lost, Rules, Scheme, Source, Verdict, Vote, yaml};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    destinations: String,
    policies: BTreeMap<String, String>,
    /// Manifests by the agent's name.
    #[serde(default)]
    agents: BTreeMap<String, String>,
    #[serde(default)]
    credentials: BTreeSet<String>,
    requests: Vec<Request>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    name: String,
    #[serde(default = "crm_agent")]
    agent: String,
    /// The environment that the gate is in.
    environment: Option<String>,
    #[serde(default = "new_year")]
    now: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default = "https")]
    scheme: Scheme,
    host: String,
    path: String,
    query: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    /// How often the body is repeated.
    #[serde(default = "once")]
    times: usize,
    /// Octets in hex after the body.
    #[serde(default)]
    body_hex: String,
    /// Who votes on the reasons shown without votes; `operator`, `operator denies`, `operator on other reasons`, or
    /// `operator of group`.
    #[serde(default)]
    votes: Vec<String>,
    /// Whether the time to answer is over.
    #[serde(default)]
    unanswered: bool,
    /// What the ledger had no room for: the key of a reservation, or who had the side effect before, as `by ID`.
    #[serde(default)]
    lost: Vec<String>,
    expect: Expected,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    decision: Verdict,
    /// The rule that speaks first, which is the strictest.
    rule: String,
    destination: Option<String>,
    /// Part of that rule's reason.
    reason: Option<String>,
    #[serde(default)]
    measured: BTreeMap<String, String>,
    risk: Option<u32>,
    /// What the policy would have decided, where it is not enforced.
    shadow: Option<Verdict>,
    /// The credential of a grant; empty when there is none.
    credential: Option<String>,
    profile: Option<String>,
    summary: Option<String>,
    /// Each as `KEY: AMOUNT of LIMIT in SECONDS`.
    reservations: Option<Vec<String>>,
    /// How long the same side effect is not had again.
    once_for: Option<u32>,
}

#[test]
fn every_case_decides_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let (mut count, mut known) = (0, BTreeMap::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let cases: Cases = yaml::read(&Source { name: name.clone(), text }).unwrap_or_else(|error| panic!("{error}"));
        let environments: BTreeSet<Option<&str>> =
            cases.requests.iter().map(|request| request.environment.as_deref()).collect();
        let rules: BTreeMap<_, _> =
            environments.into_iter().map(|environment| (environment, load(&name, &cases, environment))).collect();
        for request in &cases.requests {
            let rules = rules.get(&request.environment.as_deref()).unwrap();
            let title = format!("{name}: {}", request.name);
            let explanation = check(&title, rules, request);
            let policy = explanation.facts.iter().find(|fact| fact.name == "policy").map(|fact| fact.value.clone());
            let all = names_of(&explanation, policy.as_deref().unwrap_or_default());
            // Whatever speaks, every decision by a policy is explained by the same rules.
            let place = (name.clone(), request.environment.clone(), policy);
            assert_eq!(*known.entry(place).or_insert_with(|| all.clone()), all, "{title}");
            count += 1;
        }
    }
    assert!(count >= 60, "only {count} cases were found");
}

fn load(name: &str, cases: &Cases, environment: Option<&str>) -> Rules {
    let source = |name: String, text: &String| Source { name, text: text.clone() };
    let policies = cases.policies.iter().map(|(id, text)| (id.clone(), source(format!("{name}/{id}.yaml"), text)));
    let destinations = source(format!("{name}/destinations.yaml"), &cases.destinations);
    let agents = cases.agents.iter().map(|(id, text)| (id.clone(), source(format!("{name}/{id}.yaml"), text)));
    let rules = Rules::load(&destinations, &policies.collect::<Vec<_>>(), Some(&cases.credentials), environment);
    rules
        .and_then(|rules| rules.with_manifests(&agents.collect::<Vec<_>>()))
        .unwrap_or_else(|invalid| panic!("{invalid}"))
}

/// The rules of the policy that an explanation lists.
fn names_of(explanation: &Explanation, policy: &str) -> BTreeSet<String> {
    let names = explanation.rules.iter().map(|considered| considered.rule.clone());
    names.filter(|name| name.strip_prefix(policy).is_some_and(|rest| rest.starts_with('/'))).collect()
}

fn check(name: &str, rules: &Rules, request: &Request) -> Explanation {
    let decision = decide(rules, request);
    let basis = decision.basis();
    let first = basis.rules.first().unwrap_or_else(|| panic!("{name}: no rule spoke"));
    let expected = &request.expect;
    assert_eq!((decision.verdict(), &first.rule), (expected.decision, &expected.rule), "{name}: {basis:#?}");
    if let Some(destination) = &expected.destination {
        assert_eq!(basis.destination.as_ref(), Some(destination), "{name}");
    }
    if let Some(reason) = &expected.reason {
        assert!(first.reason.contains(reason), "{name}: {}", first.reason);
    }
    if expected.risk.is_some() {
        assert_eq!(basis.risk.as_ref().map(|risk| risk.score), expected.risk, "{name}: {:?}", basis.risk);
    }
    if let (Decision::Allow(grant), Some(expected)) = (&decision, &expected.reservations) {
        let show = |each: &policy::Reservation| {
            format!("{}: {} of {} in {}", each.key, each.amount, each.limit, each.window_seconds)
        };
        assert_eq!(&grant.reservations().iter().map(show).collect::<Vec<_>>(), expected, "{name}");
    }
    if let (Decision::Allow(grant), Some(expected)) = (&decision, expected.once_for) {
        assert_eq!(grant.once().map(|once| once.seconds), Some(expected), "{name}");
    }
    assert_eq!(basis.shadow, expected.shadow, "{name}: {basis:#?}");
    if let (Decision::Allow(grant), Some(expected)) = (&decision, &expected.credential) {
        assert_eq!(grant.credential().unwrap_or_default(), expected, "{name}");
    }
    if expected.profile.is_some() {
        assert_eq!(basis.profile.map(|profile| profile.to_string()), expected.profile, "{name}");
    }
    if expected.summary.is_some() {
        assert_eq!(rules.summary(&facts(request)), expected.summary, "{name}");
    }
    for (key, value) in &expected.measured {
        assert_eq!(basis.measured.get(key), Some(value), "{name}");
    }
    rules.explain(basis)
}

fn facts(request: &Request) -> Facts {
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let mut bytes = request.body.repeat(request.times).into_bytes();
    bytes.extend(request.body_hex.as_bytes().chunks(2).map(octet));
    Facts {
        agent: request.agent.clone(),
        method: request.method.clone(),
        authority: Authority::parse(request.scheme, &request.host).unwrap(),
        path: request.path.clone(),
        query: request.query.clone(),
        headers: request.headers.clone(),
        body: Body::new(bytes.into()),
        votes: Vec::new(),
        unanswered: request.unanswered,
        lost: request.lost.iter().map(|text| lost(text)).collect(),
    }
}

fn lost(text: &str) -> Lost {
    match text.strip_prefix("by ") {
        Some(holder) => Lost::Side(holder.to_owned()),
        None => Lost::Room(text.to_owned()),
    }
}

fn decide(rules: &Rules, request: &Request) -> Decision {
    let mut facts = facts(request);
    let now = request.now.parse().unwrap();
    if !request.votes.is_empty() {
        let shown = rules.decide(&facts, now);
        facts.votes = request.votes.iter().map(|text| vote(text, &shown)).collect();
    }
    rules.decide(&facts, now)
}

fn vote(text: &str, shown: &Decision) -> Vote {
    let reasons = match shown {
        Decision::Hold(hold) if !text.ends_with("on other reasons") => hold.reasons.clone(),
        Decision::Allow(_) | Decision::Deny(_) | Decision::Hold(_) => "other".to_owned(),
    };
    Vote {
        operator: text.split(' ').next().unwrap().to_owned(),
        ballot: if text.contains("denies") { Ballot::Deny } else { Ballot::Approve },
        digest: if text.ends_with("on another request") { String::new() } else { shown.basis().digest.clone() },
        reasons,
        groups: text.split_once(" of ").map(|(_, group)| group.to_owned()).into_iter().collect(),
    }
}

fn crm_agent() -> String {
    "crm-agent".to_owned()
}

fn new_year() -> String {
    "2026-01-01T00:00:00Z".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

fn https() -> Scheme {
    Scheme::Https
}

fn once() -> usize {
    1
}
