//! The load client: opens lanes, keeps each of them busy with one request after the other, and says how that went.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::figures::{self, Percentiles, Samples};
use crate::lane::{Ask, Lane};
use crate::route::Route;
use crate::tls::Http;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to do
    #[arg(value_enum)]
    work: Work,
    /// Address to dial: the upstream, or with --proxy the proxy
    #[arg(long)]
    dial: SocketAddr,
    /// Open a tunnel with CONNECT first
    #[arg(long)]
    proxy: bool,
    /// `agent:token` for the proxy
    #[arg(long, env = "BENCH_CREDENTIAL", hide_env_values = true)]
    credential: Option<String>,
    /// Roots to trust inside
    #[arg(long)]
    roots: PathBuf,
    /// The upstream's name
    #[arg(long, default_value = "upstream.example")]
    host: String,
    /// Path of the small requests (post, open, hold)
    #[arg(long, default_value = "/v1/items")]
    path: String,
    /// Where the long body comes from (down)
    #[arg(long, default_value = "bulk")]
    folder: String,
    /// HTTP inside TLS
    #[arg(long, value_enum, default_value = "1")]
    http: Http,
    /// Connections open at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=8192))]
    connections: u64,
    /// Streams used at once on each HTTP/2 connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    streams: u64,
    /// Seconds measured (post, open), or held at most (hold)
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Seconds before those that are measured (post, open)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=60))]
    warm_up: u64,
    /// Requests (down, up)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=4096))]
    requests: u64,
    /// Bytes of each long body (down, up)
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Work {
    /// Fetch long bodies one after the other
    Down,
    /// Open connections, ask once over each, and hold them
    Hold,
    /// Connections with one request each, one after the other
    Open,
    /// Small requests over connections that stay
    Post,
    /// Send long bodies one after the other
    Up,
}

/// What one worker, or all of them, did.
#[derive(Default)]
struct Tally {
    /// In the time that is measured.
    samples: Samples,
    /// With those before it.
    requests: u64,
    bytes: u64,
    faults: Vec<String>,
}

/// The time in which one worker counts; what ends before it warms up.
struct Window {
    from: Instant,
    until: Instant,
    last: Instant,
    tally: Tally,
}

/// The line printed at the end.
#[derive(Serialize)]
struct Report {
    work: Work,
    /// All that were answered, for figures of the whole run such as processor time.
    requests: u64,
    errors: usize,
    first_error: Option<String>,
    seconds: f64,
    per_second: f64,
    bytes_per_second: f64,
    times: Percentiles,
}

// === impl Options ===

impl Options {
    fn span(&self) -> (Duration, Duration) {
        (Duration::from_secs(self.warm_up), Duration::from_secs(self.seconds))
    }
}

// === impl Window ===

impl Window {
    /// Begins now: first the warm-up, then the time that is measured.
    fn open((warm_up, measured): (Duration, Duration)) -> Window {
        let now = Instant::now();
        Window { from: now + warm_up, until: now + warm_up + measured, last: now, tally: Tally::default() }
    }

    fn is_over(&self) -> bool {
        self.last >= self.until
    }

    /// Counts what ended just now and began when the one before it ended. A fault ends the worker.
    fn count(&mut self, ended: Result<u64>) -> bool {
        let now = Instant::now();
        match ended {
            Ok(bytes) => {
                self.tally.requests += 1;
                if now >= self.from && now < self.until {
                    self.tally.samples.add(now - self.last);
                    self.tally.bytes += bytes;
                }
            }
            Err(error) => {
                self.tally.faults.push(format!("{error:#}"));
                return false;
            }
        }
        self.last = now;
        true
    }
}

// === impl Tally ===

impl Tally {
    fn merge(&mut self, other: Tally) {
        self.samples.merge(other.samples);
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.faults.extend(other.faults);
    }
}

/// Does the work and prints one line.
pub(crate) async fn run(options: Options) -> Result<()> {
    let limit = Duration::from_secs(options.warm_up + options.seconds) + GRACE;
    tokio::time::timeout(limit, work(options)).await.context("the work was not done in time")?
}

async fn work(options: Options) -> Result<()> {
    let route = Route::direct(options.dial, &options.host, &options.roots, options.http)?;
    let route = Arc::new(if options.proxy { route.through_proxy(options.credential.as_deref()) } else { route });
    let seconds = Duration::from_secs(options.seconds);
    let started = Instant::now();
    let (tally, took) = match options.work {
        Work::Down => {
            let ask = Ask::down(&options.host, &options.folder, options.bytes)?;
            (bulk(&route, &ask, options.requests).await?, None)
        }
        Work::Hold => return hold(&route, &options).await,
        Work::Open => (open(&route, &Ask::post(&options.host, &options.path)?, &options).await?, Some(seconds)),
        Work::Post => (post(&route, &Ask::post(&options.host, &options.path)?, &options).await?, Some(seconds)),
        Work::Up => (bulk(&route, &Ask::up(&options.host, options.bytes)?, options.requests).await?, None),
    };
    figures::say(&report(options.work, tally, took.unwrap_or_else(|| started.elapsed())))
}

/// Keeps every lane busy.
async fn post(route: &Route, ask: &Ask, options: &Options) -> Result<Tally> {
    let mut lanes = Vec::new();
    for _ in 0..options.connections {
        let lane = route.open().await?;
        lanes.extend((1..options.streams).filter_map(|_| lane.another()));
        lanes.push(lane);
    }
    let start = Arc::new(Barrier::new(lanes.len()));
    let mut workers = JoinSet::new();
    for mut lane in lanes {
        let (ask, start, span) = (ask.clone(), Arc::clone(&start), options.span());
        workers.spawn(async move {
            start.wait().await;
            let mut window = Window::open(span);
            while !window.is_over() && window.count(lane.ask(&ask).await) {}
            window.tally
        });
    }
    Ok(gather(workers).await)
}

/// Opens connections one after the other, `options.connections` at a time.
async fn open(route: &Arc<Route>, ask: &Ask, options: &Options) -> Result<Tally> {
    let mut workers = JoinSet::new();
    for _ in 0..options.connections {
        let (route, ask, span) = (Arc::clone(route), ask.clone(), options.span());
        workers.spawn(async move {
            let mut window = Window::open(span);
            while !window.is_over() && window.count(once(&route, &ask).await) {}
            window.tally
        });
    }
    Ok(gather(workers).await)
}

async fn once(route: &Route, ask: &Ask) -> Result<u64> {
    route.open().await?.ask(ask).await
}

async fn bulk(route: &Route, ask: &Ask, requests: u64) -> Result<Tally> {
    let mut lane = route.open().await?;
    let mut tally = Tally::default();
    for _ in 0..requests {
        let started = Instant::now();
        tally.bytes += lane.ask(ask).await?;
        tally.samples.add(started.elapsed());
        tally.requests += 1;
    }
    Ok(tally)
}

/// Says when all are open, and keeps them so until whoever looks at the other side ends this process.
async fn hold(route: &Route, options: &Options) -> Result<()> {
    let ask = Ask::post(&options.host, &options.path)?;
    let mut lanes: Vec<Lane> = Vec::new();
    for _ in 0..options.connections {
        let mut lane = route.open().await?;
        lane.ask(&ask).await?;
        lanes.push(lane);
    }
    figures::say(&json!({"work": Work::Hold, "held": lanes.len()}))?;
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    Ok(())
}

async fn gather(mut workers: JoinSet<Tally>) -> Tally {
    let mut all = Tally::default();
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(one) => all.merge(one),
            Err(error) => all.faults.push(error.to_string()),
        }
    }
    all
}

fn report(work: Work, tally: Tally, took: Duration) -> Report {
    let seconds = took.as_secs_f64();
    Report {
        work,
        requests: tally.requests,
        errors: tally.faults.len(),
        first_error: tally.faults.first().cloned(),
        seconds,
        per_second: tally.samples.count() as f64 / seconds,
        bytes_per_second: tally.bytes as f64 / seconds,
        times: tally.samples.percentiles(),
    }
}

/// Time for connections to open and bodies to pass, beyond the seconds measured.
const GRACE: Duration = Duration::from_secs(120);
