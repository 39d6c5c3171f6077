//! What one entry costs before it is written: the line of a draft, its hash and its place in the chain; and what
//! reading it back costs.
//!
//! `cargo bench -p ledger --bench encoding`
#![expect(clippy::unwrap_used, reason = "a measuring program: it fails by panic")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use ledger::chain::{Prepared, Stamp, Walker, seal};
use ledger::{Draft, EventType};
use serde_json::json;

/// The decision of a live request, with as much in it as the gate records.
fn decision() -> Draft {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    Draft::new(EventType::DecisionAllowed)
        .correlation("corr_k5bcwq3h7zt2m4p6x8y2a4c6e8")
        .agent("crawler")
        .action("http.post")
        .destination("crm.import")
        .with("authority", "acme.my.salesforce.com:443")
        .with("body_bytes", 1024)
        .with("body_sha256", hash)
        .with("destinations_hash", hash)
        .with("digest", hash)
        .with("effect", "external_mutation")
        .with("measured", json!({"records": "12"}))
        .with("method", "POST")
        .with("path", "/services/data/v61.0/composite/sobjects")
        .with("policy", "crm-low-risk")
        .with("policy_hash", hash)
        .with("risk", json!({"factors": ["external_mutation"], "level": "low", "score": 20}))
        .with("rules", json!([{"reason": "12 records", "rule": "auto_approve_under", "verdict": "allow"}]))
}

fn encoding(criterion: &mut Criterion) {
    let stamp = Stamp::new(Timestamp::UNIX_EPOCH);
    let created = Draft::new(EventType::LedgerCreated).with("origin", "example.com/bench");
    let created = seal(None, &stamp, Prepared::new(created).unwrap()).unwrap();
    let mut walker = Walker::from_start();
    walker.step(&created.line).unwrap();
    let last = walker.last().unwrap();
    let prepared = Prepared::new(decision()).unwrap();
    let line = seal(Some(last), &stamp, prepared.clone()).unwrap().line;

    criterion.bench_function("draft", |bencher| bencher.iter(|| black_box(decision())));
    criterion.bench_function("prepare", |bencher| {
        bencher.iter_batched(decision, |draft| Prepared::new(draft).unwrap(), BatchSize::SmallInput)
    });
    let next = |prepared| seal(Some(last), &stamp, prepared).unwrap();
    criterion.bench_function("seal", |bencher| bencher.iter_batched(|| prepared.clone(), next, BatchSize::SmallInput));
    criterion.bench_function("verify", |bencher| bencher.iter(|| walker.clone().step(black_box(&line)).unwrap()));
}

criterion_group!(benches, encoding);
criterion_main!(benches);
