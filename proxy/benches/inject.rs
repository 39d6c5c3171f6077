//! What a credential adds to a request: getting it and being ready to find it in the reply, looking through a short
//! reply, and through a long one: `cargo bench -p writ --bench inject`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, header};
use writ::scrub::{Needles, Scrubber};

fn fetch(bench: &mut Criterion) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("key");
    fs::write(&file, SECRET).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let vault = vault::Vault::new(vault::Limits::default());
    for (name, seconds) in [("a kept secret", 300), ("a secret read anew", 0)] {
        let reference = format!("file://{}", file.display()).parse().unwrap();
        let place = vault::Providers::default().place(reference, None).unwrap().kept_for(Duration::from_secs(seconds));
        let fetched = async || {
            let fetched = vault.fetch(&place).await.unwrap();
            fetched.secret.kept_beside(|secret| Needles::new(&[secret]))
        };
        bench.bench_function(name, |bencher| bencher.iter(|| runtime.block_on(fetched())));
    }
}

fn scrub(bench: &mut Criterion) {
    let needles = Arc::new(Needles::new(&[SECRET.as_bytes()]));
    let mut headers = HeaderMap::new();
    for (name, value) in [(header::CONTENT_TYPE, "application/json"), (header::SERVER, "nginx"), (header::VARY, "*")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    bench.bench_function("scrub a short reply", |bencher| {
        bencher.iter(|| {
            let mut scrubber = Scrubber::new(Arc::clone(&needles));
            scrubber.scrub_headers(black_box(&mut headers));
            (scrubber.push(Bytes::from_static(EVENT)), scrubber.release())
        });
    });
    let record: Bytes = EVENT.iter().copied().cycle().take(RECORD).collect::<Vec<u8>>().into();
    let mut group = bench.benchmark_group("long reply");
    group.throughput(Throughput::Bytes(RECORD as u64));
    let mut scrubber = Scrubber::new(needles);
    group.bench_function("scrub", |bencher| bencher.iter(|| scrubber.push(black_box(record.clone()))));
    group.finish();
}

const SECRET: &str = "sk_live_4eC39HqLyjWDarjtT1zdp7dc";

/// Bytes of one TLS record, as parts of a long reply come.
const RECORD: usize = 16 * 1024;

const EVENT: &[u8] = br#"{"id":"item_0123456789abcdef","object":"item","created":1767225600,"status":"accepted","livemode":false,"url":"/v1/items/item_0123456789abcdef","note":"two hundred bytes, as many API answers have"}"#;

criterion_group!(benches, fetch, scrub);
criterion_main!(benches);
