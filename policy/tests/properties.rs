//! What must hold for every request.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use policy::{Authority, Body, Decision, Facts, Rules, Scheme, Source, Verdict};
use proptest::prelude::*;

const DESTINATIONS: &str = r##"
destinations:
  - key: everything
    match: {host: "*.example.com", path: /**}
    effect: read
    policy: busy
    measure: {records: "json:/r/#", amount: "form:a", limit: "query:l", size: "header:x-size"}
"##;

fn rules(policy: &str) -> Rules {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let policies = [("busy".to_owned(), source("busy.yaml", policy))];
    Rules::load(&source("destinations.yaml", DESTINATIONS), &policies, Some(&BTreeSet::new()), None).unwrap()
}

fn busy(terms: &str) -> Rules {
    rules(&format!(
        "allowed_types: [json, form, text, csv, xml, multipart]\nblock_if_terms: [{terms}]\n\
         auto_approve_under: {{records: 2, amount: 3}}\nrequire_approval_over: {{limit: 5, size: 6}}\n"
    ))
}

/// Every kind of rule, with one more of the operator's own.
fn full(rule: &str) -> Rules {
    rules(&format!(
        "block_if_terms: [wire]\nblock_if_pii: true\nrequire_approval_if_template_error: true\n\
         require_approval_for: {{limit: 7}}\nrisk: {{hold_at: 20, block_at: 40}}\n\
         dlp: {{rules: [card, jwt], custom: [{{id: a, pattern: 'a[0-9]'}}], action: hold}}\n\
         field_checks: [{{path: 'r[]', max: 1}}, {{path: a, one_of: [1, x]}}]\n\
         rules:\n  - {{id: small, effect: allow, when: {{body: {{a: {{max: 2}}}}}}}}\n{rule}"
    ))
}

static FULL: LazyLock<Rules> = LazyLock::new(|| full(""));
static AGAIN: LazyLock<Rules> = LazyLock::new(|| full(""));
static LOOSER: LazyLock<Rules> = LazyLock::new(|| full("  - {id: all, effect: allow}\n"));
static TRIED: LazyLock<Rules> = LazyLock::new(|| full("enforce: false\nuntil: 2000-01-01T00:00:00Z\n"));
static STRICTER: LazyLock<Vec<Rules>> = LazyLock::new(|| {
    let conditions = ["query: {l: '*1*'}", "body: {a: {min: 1}}", "body: {'r[]': {value: 1}}", "methods: [POST]"];
    let rule = |effect: &str, when: &str| full(&format!("  - {{id: more, effect: {effect}, when: {{{when}}}}}\n"));
    conditions.iter().flat_map(|when| [rule("hold", when), rule("deny", when)]).collect()
});

const CALLS: &str = r#"
destinations:
  - key: mcp
    match: {host: api.example.com, path: /mcp}
    effect: read
    policy: busy
    calls:
      mcp:
        "a*": {effect: read}
        ab: {effect: payment, measure: {records: "json:/params/arguments/n"}}
        "b*": {effect: write}
"#;

static TOOLS: LazyLock<Rules> = LazyLock::new(|| {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let policy = "rules: [{id: no, effect: deny, when: {destinations: ['mcp.ba*']}}]\nblock_if_terms: [wire]\n";
    let policies = [("busy".to_owned(), source("busy.yaml", policy))];
    Rules::load(&source("destinations.yaml", CALLS), &policies, Some(&BTreeSet::new()), None).unwrap()
});

/// The same rules for an agent with a manifest.
static BOUNDED: LazyLock<Rules> = LazyLock::new(|| {
    let text = "name: a\nallowed_actions: [read]\nrisk_tier: critical\n".to_owned();
    full("").with_manifests(&[("a".to_owned(), Source { name: "a.yaml".to_owned(), text })]).unwrap()
});

/// A request to an MCP server with these messages.
fn call(body: &str) -> Facts {
    Facts {
        agent: "a".to_owned(),
        method: "POST".to_owned(),
        authority: Authority::parse(Scheme::Https, "api.example.com").unwrap(),
        path: "/mcp".to_owned(),
        query: None,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: Body::new(body.to_owned().into()),
        votes: Vec::new(),
        unanswered: false,
        lost: Vec::new(),
    }
}

fn messages() -> impl Strategy<Value = String> {
    let tool = |(name, n): (String, u8)| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{{"n":{n}}}}}}}"#
        )
    };
    prop_oneof![
        ("[abw]{1,3}|wire", any::<u8>()).prop_map(tool),
        Just(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#.to_owned()),
        r#"\{"jsonrpc":"2.0"[",:a-z0-9{}]{0,30}"#,
    ]
}

fn decide(rules: &Rules, facts: &Facts) -> Decision {
    rules.decide(facts, jiff::Timestamp::UNIX_EPOCH)
}

/// Bodies that get past the first byte of a parser, and some that do not.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        r#"[\[\]{}",:0-9.eE+\\u a-z-]{0,60}"#.prop_map(String::into_bytes),
        r#"\{"r":\[(1,){0,3}1\]\}"#.prop_map(String::into_bytes),
        "(a|r|x)=[0-9%+&=a-f]{0,20}".prop_map(String::into_bytes),
        "(--b|\r\n|Content-Disposition: form-data; name=\"a\"|\r\n\r\n|--|1){0,9}".prop_map(String::into_bytes),
        "\\PC{0,80}".prop_map(String::into_bytes),
    ]
}

fn types() -> impl Strategy<Value = String> {
    prop_oneof![
        "application/(json|x-www-form-urlencoded)|multipart/form-data; boundary=b|text/(csv|plain)",
        "\\PC{0,30}"
    ]
}

prop_compose! {
    fn requests()(
        method in "(GET|POST|\\PC{0,5})",
        path in "/[ -~]{0,20}",
        query in proptest::option::of("\\PC{0,30}|l=[0-9]{1,2}"),
        kind in proptest::option::of(types()),
        name in "x-size|content-encoding|\\PC{0,9}",
        value in "\\PC{0,9}|[0-9]{1,2}|gzip|br|zstd|deflate|identity",
        body in bodies(),
    ) -> Facts {
        let mut headers = vec![(name, value)];
        headers.extend(kind.map(|kind| ("content-type".to_owned(), kind)));
        Facts {
            agent: "a".to_owned(),
            method,
            authority: Authority::parse(Scheme::Https, "api.example.com").unwrap(),
            path,
            query,
            headers,
            body: Body::new(body.into()),
            votes: Vec::new(),
        unanswered: false,
        lost: Vec::new(),
        }
    }
}

/// How well a pattern of paths fits: for each segment 0 if it is named, 1 for `*`, 2 for the rest; none if it does not.
fn fit(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let (mut widths, mut given) = (Vec::new(), path.split('/'));
    for segment in pattern.split('/') {
        let width = match (segment, given.next()) {
            ("**", _) => return Some([widths, vec![2]].concat()),
            ("*", Some(text)) if !text.is_empty() => 1,
            (literal, Some(text)) if literal == text => 0,
            _ => return None,
        };
        widths.push(width);
    }
    given.next().is_none().then_some(widths)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_gets_a_decision_with_a_rule(facts in requests()) {
        let decision = decide(&busy("wire"), &facts);
        prop_assert!(!decision.basis().rules.is_empty());
        let strictest = decision.basis().rules.iter().map(|rule| rule.verdict).max();
        prop_assert_eq!(Some(decision.verdict()), strictest);
        prop_assert_eq!(decision.basis().measured.len(), 4);
    }

    #[test]
    fn one_more_term_never_loosens(facts in requests(), term in "[a-z0-9]{1,3}") {
        let (before, after) = (decide(&busy("wire"), &facts), decide(&busy(&format!("wire, 'x{term}', '{term}'")), &facts));
        prop_assert!(after.verdict() >= before.verdict());
    }

    #[test]
    fn one_more_rule_never_loosens(facts in requests()) {
        let before = decide(&FULL, &facts);
        for rules in STRICTER.iter() {
            let after = decide(rules, &facts);
            prop_assert!(after.verdict() >= before.verdict());
            prop_assert_eq!(&before.basis().risk, &after.basis().risk);
        }
    }

    #[test]
    fn one_more_allow_never_beats_a_hold_or_a_deny(facts in requests()) {
        prop_assert_eq!(decide(&LOOSER, &facts).verdict(), decide(&FULL, &facts).verdict());
    }

    #[test]
    fn a_policy_that_is_tried_sends_and_says_what_it_would_have_decided(facts in requests()) {
        let (enforced, tried) = (decide(&FULL, &facts), decide(&TRIED, &facts));
        let said = tried.basis().shadow.unwrap_or(Verdict::Allow);
        prop_assert_eq!((tried.verdict(), said), (Verdict::Allow, enforced.verdict()));
        prop_assert_eq!(&tried.basis().rules, &enforced.basis().rules);
        let late = TRIED.decide(&facts, "2000-01-01T00:00:00Z".parse().unwrap());
        prop_assert_eq!(late.verdict(), enforced.verdict());
    }

    #[test]
    fn the_same_request_gets_the_same_bytes_also_from_rules_loaded_again(facts in requests()) {
        let one = serde_json::to_vec(decide(&FULL, &facts).basis()).unwrap();
        for other in [&*FULL, &*AGAIN] {
            prop_assert_eq!(&one, &serde_json::to_vec(decide(other, &facts).basis()).unwrap());
        }
    }

    #[test]
    fn a_silent_policy_is_never_stricter(facts in requests()) {
        prop_assert_eq!(decide(&rules("description: silent"), &facts).verdict(), Verdict::Allow);
    }

    #[test]
    fn an_unreadable_count_never_allows(facts in requests()) {
        let decision = decide(&busy("wire"), &facts);
        if decision.basis().measured.values().any(|value| value.starts_with("unmeasurable")) {
            prop_assert_ne!(decision.verdict(), Verdict::Allow);
        }
    }

    #[test]
    fn a_batch_is_as_strict_as_its_strictest_call(batch in proptest::collection::vec(messages(), 1..6)) {
        let alone = batch.iter().map(|message| decide(&TOOLS, &call(message)).verdict()).max();
        let together = decide(&TOOLS, &call(&format!("[{}]", batch.join(",")))).verdict();
        prop_assert!(Some(together) >= alone);
    }

    #[test]
    fn a_manifest_never_loosens(facts in requests()) {
        prop_assert!(decide(&BOUNDED, &facts).verdict() >= decide(&FULL, &facts).verdict());
    }

    #[test]
    fn the_most_specific_destination_is_found(
        patterns in proptest::collection::btree_set(r"(/(a|b|\*)){0,3}(/|/\*\*|/a)", 1..12),
        path in "(/[abc]){0,4}(/|/a)",
    ) {
        let patterns: Vec<String> = patterns.into_iter().collect();
        let entry = |(at, path)| format!("  - {{key: d{at}, match: {{host: api.example.com, path: '{path}'}}, effect: read, policy: busy}}\n");
        let list = format!("destinations:\n{}", patterns.iter().enumerate().map(entry).collect::<String>());
        let source = |text: &str| Source { name: "any.yaml".to_owned(), text: text.to_owned() };
        let policies = [("busy".to_owned(), source("description: any\n"))];
        let rules = Rules::load(&source(&list), &policies, Some(&BTreeSet::new()), None).unwrap();
        let fits = patterns.iter().enumerate().filter_map(|(at, pattern)| Some((fit(pattern, &path)?, format!("d{at}"))));
        let found = decide(&rules, &Facts { path: path.clone(), ..call("") }).basis().destination.clone();
        prop_assert_eq!(found, fits.min().map(|(_, key)| key), "{} among {:?}", path, patterns);
    }

    #[test]
    fn an_authority_reads_back_as_itself(text in "[A-Za-z0-9.:@\\[\\]%_-]{0,30}|[a-z]{1,9}(\\.[a-z]{1,9}){0,3}(:[0-9]{1,5})?") {
        for scheme in [Scheme::Http, Scheme::Https] {
            if let Ok(authority) = Authority::parse(scheme, &text) {
                let shown = authority.to_string();
                let rest = shown.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_prefix("://")).unwrap();
                prop_assert_eq!(Authority::parse(scheme, rest), Ok(authority.clone()));
                prop_assert_eq!(rest, authority.host_header());
            }
        }
    }
}
