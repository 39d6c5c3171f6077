//! How long it takes to check a request's head and to read it in its one way: `cargo bench -p writ --bench read`.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use policy::{Authority, Scheme};
use writ::canonical::{self, Entry, Way};
use writ::head;
use writ::limits::Limits;

fn check(bench: &mut Criterion) {
    let limits = Limits::default();
    let head = HEADERS
        .iter()
        .fold("POST /v1/items HTTP/1.1\r\n".to_owned(), |head, (name, value)| format!("{head}{name}: {value}\r\n"))
        + "\r\n";
    bench.bench_function("check a head", |bencher| {
        bencher.iter(|| head::parse(black_box(head.as_bytes()), &limits).unwrap_or_else(|_| panic!("refused")));
    });
}

fn read(bench: &mut Criterion) {
    let limits = Limits::default();
    let tunnel = Authority::parse(Scheme::Https, "api.example.com:443").unwrap();
    let way = Way { door: "127.0.0.1:4001".parse().unwrap(), entry: Entry::Tunnel(tunnel) };
    let mut request = http::Request::post("/v1/items");
    for (name, value) in HEADERS {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    bench.bench_function("canonical read", |bencher| {
        bencher.iter(|| canonical::read(black_box(&parts), &way, &limits).unwrap_or_else(|_| panic!("refused")));
    });
}

const HEADERS: &[(&str, &str)] = &[
    ("host", "api.example.com"),
    ("user-agent", "python-httpx/0.28.1"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate, br"),
    ("connection", "keep-alive"),
    ("content-type", "application/json"),
    ("content-length", "1024"),
    ("x-request-id", "0190f3f2-7d3c-7b5a-9a9e-1d2c3b4a5f60"),
];

criterion_group!(benches, check, read);
criterion_main!(benches);
