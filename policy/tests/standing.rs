//! What a standing approval covers: requests like the one that was seen, and nothing that is more.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use policy::{Authority, Body, Decision, Facts, Hold, Rules, Scheme, Source, Standing, Verdict};

const DESTINATIONS: &str = "destinations:
  - {key: s.pay, match: {host: s.example, methods: [POST], path: /pay/**}, effect: payment, policy: pays,
     measure: {amount: 'json:/amount', currency: 'json:/currency', account: 'json:/account'}}
  - {key: s.mail, match: {host: s.example, path: /mail}, effect: notification, policy: mails,
     measure: {recipients: ['json:/to/*', 'json:/cc/*']}}
  - {key: s.bare, match: {host: s.example, path: /bare}, effect: payment, policy: plain, measure: {amount: 'json:/amount'}}
  - {key: s.bulk, match: {host: s.example, path: /bulk}, effect: write, policy: plain, measure: {records: 'json:/list/#'}}
  - {key: s.form, match: {host: s.example, path: /form}, effect: payment, policy: over, measure: {amount: 'form:amount'}}
  - {key: s.plain, match: {host: s.example, path: /plain}, effect: write, policy: plain}
  - {key: s.rules, match: {host: s.example, path: /rules}, effect: payment, policy: ruled, measure: {amount: 'json:/amount'}}
  - {key: s.always, match: {host: s.example, path: /always}, effect: payment, policy: always, measure: {amount: 'json:/amount'}}
  - {key: s.pair, match: {host: s.example, path: /pair}, effect: payment, policy: pair, measure: {amount: 'json:/amount'}}
  - {key: s.group, match: {host: s.example, path: /group}, effect: payment, policy: group, measure: {amount: 'json:/amount'}}
";

const POLICIES: &[(&str, &str)] = &[
    ("pays", "auto_approve_under: {amount: 50}\nblock_if_terms: [wire]\n"),
    ("mails", "allowed_recipients: ['*@own.example']\n"),
    ("plain", "description: says nothing\n"),
    ("over", "require_approval_over: {amount: 5}\n"),
    ("ruled", "rules:\n  - {id: note, effect: hold, when: {body: {note: {pattern: '.'}}}}\n"),
    ("always", "require_approval: always\n"),
    ("pair", "require_approvals: 2\n"),
    ("group", "approvers: [finance]\n"),
];

/// The request that was seen, one that comes later, and what is decided about it.
type Case = (&'static str, &'static str, fn(&mut Facts), &'static str, Verdict);

#[test]
fn covered_is_what_is_no_more_than_what_was_seen() {
    use Verdict::{Allow, Deny, Hold};
    let seen = r#"{"amount": 80, "currency": "eur", "account": 7}"#;
    let mail = r#"{"to": ["a@x.example", "b@x.example"], "cc": ["c@own.example"]}"#;
    let same = |_: &mut Facts| {};
    let cases: &[Case] = &[
        ("/pay/1", seen, same, seen, Allow),
        ("/pay/1", seen, same, r#"{"amount": 79.99, "currency": "eur", "account": 7}"#, Allow),
        ("/pay/1", seen, same, r#"{"amount": 79.99, "currency": "eur", "account": 7, "memo": "other"}"#, Hold),
        ("/pay/1", seen, same, r#"{"currency": "eur", "amount": 79.99, "account": 7}"#, Allow),
        ("/pay/1", seen, |facts| header(facts, "idempotency-key", "2"), seen, Allow),
        ("/pay/1", seen, same, r#"{"amount": 80.01, "currency": "eur", "account": 7}"#, Hold),
        ("/pay/1", seen, same, r#"{"amount": 79, "currency": "usd", "account": 7}"#, Hold),
        ("/pay/1", seen, same, r#"{"amount": 79, "currency": "eur", "account": 6}"#, Hold),
        ("/pay/1", seen, same, r#"{"amount": "79", "currency": "eur", "account": 7}"#, Hold),
        ("/pay/1", seen, same, r#"{"currency": "eur", "account": 7}"#, Hold),
        ("/pay/1", seen, same, r#"{"amount": 79, "amount": 1, "currency": "eur", "account": 7}"#, Deny),
        ("/pay/1", seen, same, r#"{"amount": 79, "currency": "eur", "account": 7, "memo": "wire"}"#, Deny),
        ("/pay/1", seen, |facts| facts.path = "/pay/2".to_owned(), seen, Hold),
        ("/pay/1", seen, |facts| facts.query = Some("a=1".to_owned()), seen, Hold),
        ("/pay/1", seen, |facts| facts.agent = "other".to_owned(), seen, Hold),
        ("/pay/1", seen, |facts| header(facts, "stripe-account", "acct_2"), seen, Hold),
        ("/pay/1", seen, |facts| facts.headers.clear(), seen, Hold),
        ("/mail", mail, same, mail, Allow),
        ("/mail", mail, same, r#"{"to": ["B@x.example"]}"#, Allow),
        ("/mail", mail, same, r#"{"to": ["b@x.example, a@x.example"]}"#, Allow),
        ("/mail", mail, same, r#"{"to": ["b@x.example", "d@x.example"]}"#, Hold),
        ("/mail", mail, same, r#"{"to": ["a@x.example", "a@x.example", "a@x.example", "a@x.example"]}"#, Hold),
        ("/mail", mail, same, r#"{"bcc": ["a@x.example"]}"#, Hold),
        ("/mail", mail, same, r#"{"to": ["b@x.example"], "subject": "other"}"#, Hold),
        ("/mail", mail, same, r#"{"to": {"b@y.example": "b@x.example"}}"#, Hold),
        ("/bare", r#"{"amount": 100, "to": "alice"}"#, same, r#"{"amount": 99, "to": "alice"}"#, Allow),
        ("/bare", r#"{"amount": 100, "to": "alice"}"#, same, r#"{"amount": 100, "to": "mallory"}"#, Hold),
        ("/bare", r#"{"amount": 100, "to": "alice"}"#, same, r#"{"amount": 100, "to": "alice", "extra": "x"}"#, Hold),
        ("/bare", r#"{"amount": 100, "to": "alice"}"#, same, r#"{"amount": 100}"#, Hold),
        ("/bulk", r#"{"list": [1, 2]}"#, same, r#"{"list": [3]}"#, Hold),
        ("/plain", "{\"a\": 1}", same, "{\"a\": 1}", Allow),
        ("/plain", "{\"a\": 1}", same, "{\"a\": 2}", Hold),
        ("/rules", r#"{"amount": 1, "note": "x"}"#, same, r#"{"amount": 1, "note": "x"}"#, Allow),
        ("/rules", r#"{"amount": 1, "note": "x"}"#, same, r#"{"amount": 1, "note": "y"}"#, Hold),
        ("/always", r#"{"amount": 1}"#, same, r#"{"amount": 1}"#, Hold),
        ("/pair", r#"{"amount": 1}"#, same, r#"{"amount": 1}"#, Hold),
        ("/group", r#"{"amount": 1}"#, same, r#"{"amount": 1}"#, Hold),
    ];
    let rules = rules(POLICIES);
    for (path, seen, change, body, expected) in cases {
        let standing = standing(&rules, facts(path, seen));
        let mut asked = facts(path, body);
        change(&mut asked);
        let decision = rules.decide_given(&asked, &[standing], now());
        assert_eq!(decision.verdict(), *expected, "{path} {seen} then {body}: {:#?}", decision.basis());
        if let Decision::Allow(grant) = decision {
            assert_eq!((grant.standing(), grant.votes().len()), (Some("std_1"), 0));
        }
    }
}

#[test]
fn a_form_is_covered_when_only_its_amount_is_less() {
    let rules = rules(POLICIES);
    let form = |body: &str| {
        let mut facts = facts("/form", body);
        facts.headers = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
        facts
    };
    let given = standing(&rules, form("amount=9&to=alice"));
    for (body, expected) in [
        ("amount=8&to=alice", Verdict::Allow),
        ("amount=8&to=mallory", Verdict::Hold),
        ("amount=8&to=alice&extra=x", Verdict::Hold),
        ("amount=8&to=alice&to=mallory", Verdict::Hold),
    ] {
        let decision = rules.decide_given(&form(body), std::slice::from_ref(&given), now());
        assert_eq!(decision.verdict(), expected, "{body}: {:#?}", decision.basis());
    }
}

#[test]
fn one_in_the_group_can_give_it() {
    let rules = rules(POLICIES);
    let asked = facts("/group", r#"{"amount": 1}"#);
    let given = Standing { groups: vec!["finance".to_owned()], ..standing(&rules, asked.clone()) };
    assert_eq!(rules.decide_given(&asked, &[given], now()).verdict(), Verdict::Allow);
}

#[test]
fn nothing_is_covered_that_was_held_for_another_reason_or_under_other_rules() {
    let rules = rules(POLICIES);
    let asked = facts("/pay/1", r#"{"amount": 80, "currency": "eur", "account": 7}"#);
    let given = standing(&rules, asked.clone());
    let others = [
        Standing { held_by: BTreeSet::new(), ..given.clone() },
        Standing { policy_hash: "0".repeat(64), ..given.clone() },
        Standing { destinations_hash: "0".repeat(64), ..given.clone() },
        Standing { environment: Some("prod".to_owned()), ..given.clone() },
    ];
    for other in others {
        assert_eq!(rules.decide_given(&asked, &[other], now()).verdict(), Verdict::Hold);
    }
    assert_eq!(rules.decide_given(&asked, &[given], now()).verdict(), Verdict::Allow);
}

#[test]
fn a_hold_says_why_an_approval_is_good_for_it_alone() {
    let rules = rules(POLICIES);
    let alone = |path, body| hold(&rules, &facts(path, body)).alone;
    assert_eq!(alone("/pay/1", r#"{"amount": 80, "currency": "eur", "account": 7}"#), None);
    assert_eq!(alone("/pay/1", r#"{"amount": 80}"#), Some("not all of it can be inspected"));
    assert_eq!(alone("/always", r#"{"amount": 1}"#), Some("its policy asks for an approval every time"));
    assert_eq!(alone("/pair", r#"{"amount": 1}"#), Some("its policy asks for several approvals"));
}

fn rules(policies: &[(&str, &str)]) -> Rules {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let policies: BTreeMap<_, _> = policies.iter().map(|(id, text)| ((*id).to_owned(), source(id, text))).collect();
    let policies: Vec<_> = policies.into_iter().collect();
    Rules::load(&source("destinations.yaml", DESTINATIONS), &policies, Some(&BTreeSet::new()), None)
        .unwrap_or_else(|invalid| panic!("{invalid}"))
}

/// What a reviewer gives who is shown this request.
fn standing(rules: &Rules, approved: Facts) -> Standing {
    let basis = hold(rules, &approved).basis;
    let held_by = basis.rules.iter().filter(|rule| rule.verdict == Verdict::Hold).map(|rule| rule.rule.clone());
    Standing {
        id: "std_1".to_owned(),
        operator: "ann".to_owned(),
        groups: Vec::new(),
        policy_hash: basis.policy_hash.clone().unwrap(),
        environment: basis.environment.clone(),
        destinations_hash: basis.destinations_hash.clone(),
        held_by: held_by.collect(),
        approved,
    }
}

fn hold(rules: &Rules, facts: &Facts) -> Hold {
    match rules.decide(facts, now()) {
        Decision::Hold(hold) => hold,
        other @ (Decision::Allow(_) | Decision::Deny(_)) => panic!("not held: {:#?}", other.basis()),
    }
}

fn facts(path: &str, body: &str) -> Facts {
    Facts {
        agent: "shop".to_owned(),
        method: "POST".to_owned(),
        authority: Authority::parse(Scheme::Https, "s.example").unwrap(),
        path: path.to_owned(),
        query: None,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Body::new(body.to_owned().into()),
        votes: Vec::new(),
        unanswered: false,
        lost: Vec::new(),
    }
}

fn header(facts: &mut Facts, name: &str, value: &str) {
    facts.headers.push((name.to_owned(), value.to_owned()));
}

fn now() -> jiff::Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}
