//! The format on disk is pinned: the same drafts at the same times give the committed bytes.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::event::sha256_hex;

/// The entry that a draft becomes.
fn sealed(last: Option<&Link>, ts: Timestamp, draft: Draft) -> Result<Entry, AppendError> {
    seal(last, &Stamp::new(ts), Prepared::new(draft)?)
}

const ORIGIN: &str = "example.com/fixture";
const PUBLIC_KEY: &str = "example.com/fixture+4743769c+AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

/// A ledger of two days: every type once, then what is easily written in two ways, then a type of a later build.
fn fixture() -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (seq, draft) in drafts().into_iter().enumerate() {
        let ts: Timestamp =
            if seq < 30 { "2025-01-31T23:59:59.5Z" } else { "2025-02-01T00:00:00.000001Z" }.parse().unwrap();
        let last = entries.last().map(|entry| Link::of(&entry.event));
        entries.push(sealed(last.as_ref(), ts, draft).unwrap());
    }
    let last = entries.last().map(|entry| Link::of(&entry.event)).unwrap();
    let mut event = sealed(Some(&last), last.ts, Draft::new(EventType::Violation)).unwrap().event;
    event.kind = Kind::Opaque("future.type".to_owned());
    entries.push(rehashed(event));
    entries
}

fn drafts() -> Vec<Draft> {
    let created = Draft::new(EventType::LedgerCreated).with("origin", ORIGIN).with("public_key", PUBLIC_KEY);
    let others = EventType::ALL.iter().filter(|kind| **kind != EventType::LedgerCreated).map(|kind| {
        let draft = Draft::new(*kind).correlation("corr_1").intent("int_1").run("run-1").agent("crawler");
        draft.action("POST /v1/refunds").destination("stripe.refunds").with("operator", "ann")
    });
    let spelling = Draft::new(EventType::ConfigLoaded)
        .with("entry_hash", "\"entry_hash\":\"x\",")
        .with("integers", json!([0, -1, 9_007_199_254_740_992_u64, -9_007_199_254_740_992_i64]))
        .with("nested", json!({"b": [], "a": {}, "": null, "c": [true, false, {"z": 1, "y": 2}]}))
        .with("text", "\u{0}\u{8}\t\n\u{c}\r\u{1f}\u{7f}\"\\/é€😀\u{2028}")
        // RFC 8785 sorts by UTF-16 units: the surrogates of 😀 come before U+FB33.
        .with("\u{fb33}", 1)
        .with("😀", 2);
    [created].into_iter().chain(others).chain([spelling]).collect()
}

fn rehashed(mut event: Event) -> Entry {
    event.entry_hash = String::new();
    event.entry_hash = sha256_hex(event.canonical().unwrap().as_bytes());
    let line = event.canonical().unwrap();
    Entry { event, line }
}

#[test]
fn this_build_writes_the_committed_fixture() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v1/events");
    for day in ["2025-01-31", "2025-02-01"] {
        let written: String = fixture()
            .iter()
            .filter(|entry| entry.line.contains(&format!("\"ts\":\"{day}")))
            .map(|entry| format!("{}\n", entry.line))
            .collect();
        assert_eq!(std::fs::read_to_string(format!("{dir}/{day}.jsonl")).unwrap(), written);
    }
}

#[test]
fn a_walk_accepts_what_was_sealed() {
    let mut walker = Walker::from_start();
    for entry in fixture() {
        assert_eq!(walker.step(&entry.line), Ok(entry.event.clone()));
        assert_eq!(walker.last(), Some(&Link::of(&entry.event)));
    }
}

/// Each case is a last entry with valid hashes that is wrong in one respect.
#[test]
fn a_valid_hash_does_not_excuse_anything() {
    let entries = fixture();
    let (last, before) = entries.split_last().unwrap();
    let flaw = |change: &dyn Fn(&mut Event)| {
        let mut event = last.event.clone();
        change(&mut event);
        let mut walker = Walker::behind(Link::of(&before.last().unwrap().event));
        walker.step(&rehashed(event).line).unwrap_err()
    };
    let hash = |digit: &str| digit.repeat(64);
    assert!(matches!(flaw(&|event| event.seq += 1), Flaw::Seq { .. }));
    assert!(matches!(flaw(&|event| event.prev_hash = hash("0")), Flaw::PrevHash { .. }));
    assert!(matches!(flaw(&|event| event.ts = "2025-01-31T00:00:00Z".parse().unwrap()), Flaw::Clock { .. }));
    assert_eq!(flaw(&|event| event.v = 2), Flaw::Version { found: "2".to_owned() });
    assert_eq!(flaw(&|event| drop(event.data.insert("x".to_owned(), json!(0.5)))), Flaw::NotCanonical);
    assert_eq!(flaw(&|event| drop(event.data.insert("x".to_owned(), json!(1_u64 << 54)))), Flaw::NotCanonical);
}

/// The same entry spelled in another way: an auditor with another parser must not read something else.
#[test]
fn only_the_canonical_spelling_is_accepted() {
    let line = fixture().swap_remove(0).line;
    let genesis = GENESIS.to_owned();
    for (from, to) in [
        ("{\"data\"", "{ \"data\""),
        ("\"seq\":0", "\"seq\":0.0"),
        ("\"seq\":0", "\"seq\":-0"),
        ("\"v\":1}", "\"v\":1} "),
        ("\"v\":1}", "\"v\":1,\"v\":1}"),
        ("\"v\":1}", "\"v\":1,\"x\":1}"),
        ("\"origin\"", "\"origin\":\"other\",\"origin\""),
        ("ledger.created", "ledger.\\u0063reated"),
        ("{\"data\"", "{\"action\":null,\"data\""),
        ("59.500000Z", "59.5Z"),
        ("59.500000Z", "59.500000+00:00"),
        (genesis.as_str(), "0"),
    ] {
        let changed = line.replacen(from, to, 1);
        assert_ne!(changed, line, "{from}");
        assert!(Walker::from_start().step(&changed).is_err(), "{changed}");
    }
}

#[test]
fn an_entry_of_another_version_is_named_as_such() {
    let version = |line: &str| Walker::from_start().step(line).unwrap_err();
    assert_eq!(version(r#"{"v":2,"new":true}"#), Flaw::Version { found: "2".to_owned() });
    assert_eq!(version(r#"{"v":"1"}"#), Flaw::Version { found: "\"1\"".to_owned() });
    assert!(matches!(version(r#"{"v":1}"#), Flaw::Malformed { .. }));
    assert!(matches!(version(""), Flaw::Malformed { .. }));
}

#[test]
fn a_ledger_begins_with_its_creation() {
    let started = sealed(None, Timestamp::UNIX_EPOCH, Draft::new(EventType::GateStarted)).unwrap();
    assert_eq!(Walker::from_start().step(&started.line), Err(Flaw::Genesis { found: "gate.started".to_owned() }));
}

#[test]
fn what_the_format_cannot_hold_is_refused_by_name() {
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    for (key, value) in [
        ("data.x", json!(0.5)),
        ("data.x", json!(1.0)),
        ("data.x", json!(9_007_199_254_740_993_u64)),
        ("data.x", json!(-9_007_199_254_740_993_i64)),
        ("data.x", json!(u64::MAX)),
        ("data.x.y[1]", json!({"y": [1, 0.5]})),
    ] {
        let refused = sealed(None, Timestamp::UNIX_EPOCH, Draft::new(EventType::Violation).with("x", value.clone()));
        assert!(matches!(refused, Err(AppendError::Unrepresentable { key: found }) if found == key), "{value}");
    }
    let refused = sealed(None, Timestamp::UNIX_EPOCH, Draft::new(EventType::Violation).with("x", deep));
    assert!(matches!(refused, Err(AppendError::Unrepresentable { .. })));
    let long = Draft::new(EventType::Violation).with("x", "x".repeat(MAX_LINE));
    assert!(matches!(sealed(None, Timestamp::UNIX_EPOCH, long), Err(AppendError::TooLarge { .. })));
}

/// Text in which everything turns up that JSON has to escape or that sorts in an unusual way.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_]{0,6}", "[\u{0}-\u{7f}]{0,8}", any::<String>(), "(\"entry_hash\":\"x\",|,\"prev_hash\":\"){1,2}"]
}

fn values() -> impl Strategy<Value = Value> {
    let exact = -(1_i64 << 53)..=1_i64 << 53;
    let leaves = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        exact.prop_map(Value::from),
        texts().prop_map(Value::from)
    ];
    leaves.prop_recursive(4, 32, 6, |inner| {
        let objects = prop::collection::btree_map(texts(), inner.clone(), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            objects.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn sealed_lines_are_what_the_canonicalizer_writes(
        data in prop::collection::btree_map(texts(), values(), 0..6),
        ids in prop::collection::vec(prop::option::of(texts()), 6),
    ) {
        let mut ids = ids.into_iter();
        let mut id = || ids.next().flatten();
        let draft = Draft {
            action: id(),
            agent_id: id(),
            correlation_id: id(),
            dest_key: id(),
            intent_id: id(),
            run_id: id(),
            data: data.into_iter().collect::<Map<_, _>>(),
            ..Draft::new(EventType::LedgerCreated)
        };
        let entry = sealed(None, Timestamp::UNIX_EPOCH, draft).unwrap();
        prop_assert_eq!(&serde_json_canonicalizer::to_string(&entry.event).unwrap(), &entry.line);
        let unhashed = Event { entry_hash: String::new(), ..entry.event.clone() };
        let hashed = serde_json_canonicalizer::to_string(&unhashed).unwrap();
        prop_assert_eq!(&entry.event.entry_hash, &sha256_hex(hashed.as_bytes()));
        prop_assert_eq!(Walker::from_start().step(&entry.line), Ok(entry.event));
    }
}
