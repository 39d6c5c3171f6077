//! What the gate counts about itself while it works, for Prometheus.
//!
//! Never blocks a request and never holds more than a bounded number of series: names come from the operator's own
//! files and from agents that are registered, and what is beyond the bound is counted as `other`. No label carries
//! anything an agent wrote.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use policy::Decision;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts};

mod scrape;

pub use scrape::text;

/// Counters of the whole process.
#[derive(Debug)]
pub struct Metrics {
    on: bool,
    stages: [Histogram; 5],
    stage_seconds: HistogramVec,
    decisions: Decisions,
    refusals: IntCounterVec,
    violations: IntCounterVec,
    vault_seconds: HistogramVec,
    request_bytes: IntCounter,
    reply_bytes: IntCounter,
    connections: IntGauge,
    tunnels: IntGauge,
}

/// A part of a request's way whose time is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the head of a request to the end of its body.
    Read,
    /// What policy says to it.
    Decide,
    /// Until the permit is durable.
    Record,
    /// Until the credential is there.
    Vault,
    /// From sending to the head of the reply.
    Upstream,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go.
    Allow,
    /// A person has to say.
    Hold,
    /// It may not.
    Deny,
}

/// Something that is there until it is dropped, and counted as long.
#[derive(Debug)]
pub struct Present(Option<IntGauge>);

/// Decisions by agent, destination and verdict.
#[derive(Debug)]
struct Decisions {
    all: IntCounterVec,
    /// The counters of what was seen before, so that counting once more makes no text.
    known: RwLock<HashMap<String, HashMap<String, [IntCounter; 3]>>>,
}

// === impl Metrics ===

impl Metrics {
    /// All counters at zero. When they are off, nothing is counted.
    ///
    /// # Errors
    /// When a name or a label is none of Prometheus's.
    pub fn new(on: bool) -> prometheus::Result<Metrics> {
        let counters = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)
        };
        let stage_seconds = seconds("writ_stage_seconds", "Time of one stage of a request.", &["stage"])?;
        let stage = |stage: Stage| stage_seconds.get_metric_with_label_values(&[stage.name()]);
        let [read, decide, record, vault, upstream] = Stage::ALL.map(stage);
        let violations = counters("writ_violations_total", "What no honest agent does.", &["kind", "severity"])?;
        // A counter that begins with its first event shows no increase to an alert.
        for labels in VIOLATIONS {
            violations.get_metric_with_label_values(labels.as_slice())?;
        }
        Ok(Metrics {
            on,
            stages: [read?, decide?, record?, vault?, upstream?],
            stage_seconds,
            decisions: Decisions::new(counters(
                "writ_decisions_total",
                "Requests decided.",
                &["agent", "destination", "verdict"],
            )?),
            refusals: counters(
                "writ_refusals_total",
                "Requests that ended without a reply of their upstream.",
                &["code"],
            )?,
            violations,
            vault_seconds: seconds("writ_vault_seconds", "Time of one fetch of a secret.", &["provider", "outcome"])?,
            request_bytes: IntCounter::new("writ_request_bytes_total", "Bytes of request bodies read from agents.")?,
            reply_bytes: IntCounter::new("writ_reply_bytes_total", "Bytes of reply bodies read from upstreams.")?,
            connections: IntGauge::new("writ_connections", "Connections of agents that are open.")?,
            tunnels: IntGauge::new("writ_tunnels", "Tunnels that are open.")?,
        })
    }

    /// A stage is over that began then.
    pub fn passed(&self, stage: Stage, begun: Instant) {
        if self.on
            && let Some(histogram) = self.stages.get(stage as usize)
        {
            histogram.observe(begun.elapsed().as_secs_f64());
        }
    }

    /// A request was decided; without a destination none was found.
    pub fn decided(&self, agent: &str, destination: Option<&str>, verdict: Verdict) {
        if self.on {
            self.decisions.count(agent, destination.unwrap_or("none"), verdict);
        }
    }

    /// A request was refused.
    pub fn refused(&self, code: &'static str) {
        self.count(&self.refusals, &[code]);
    }

    /// Something happened that no honest agent does.
    pub fn violated(&self, kind: &'static str, severity: &'static str) {
        self.count(&self.violations, &[kind, severity]);
    }

    /// A secret was asked for; the outcome is `ok` or a code of the refusal.
    pub fn lent(&self, provider: &'static str, outcome: &'static str, begun: Instant) {
        if self.on
            && let Ok(histogram) = self.vault_seconds.get_metric_with_label_values(&[provider, outcome])
        {
            histogram.observe(begun.elapsed().as_secs_f64());
        }
    }

    /// A request body of so many bytes was read.
    pub fn requested(&self, bytes: usize) {
        if self.on {
            self.request_bytes.inc_by(bytes as u64);
        }
    }

    /// So many bytes of a reply were read.
    pub fn replied(&self, bytes: u64) {
        if self.on {
            self.reply_bytes.inc_by(bytes);
        }
    }

    /// A connection was opened; it counts as long as what is given back.
    pub fn connection(&self) -> Present {
        self.present(&self.connections)
    }

    /// As [`Metrics::connection`], for a tunnel.
    pub fn tunnel(&self) -> Present {
        self.present(&self.tunnels)
    }

    /// Connections that are open.
    pub fn connections(&self) -> i64 {
        self.connections.get()
    }

    /// Tunnels that are open.
    pub fn tunnels(&self) -> i64 {
        self.tunnels.get()
    }

    /// Decisions since the start by agent and destination: allowed, held, denied.
    pub fn decisions(&self) -> Vec<(String, String, [u64; 3])> {
        let known = self.decisions.known.read().unwrap_or_else(PoisonError::into_inner);
        let pairs = known.iter().flat_map(|(agent, of_agent)| of_agent.iter().map(move |pair| (agent, pair)));
        let row = |(agent, (destination, counters)): (&String, (&String, &[IntCounter; 3]))| {
            (agent.clone(), destination.clone(), counters.each_ref().map(IntCounter::get))
        };
        pairs.map(row).collect()
    }

    fn count(&self, counters: &IntCounterVec, labels: &[&str]) {
        if self.on
            && let Ok(counter) = counters.get_metric_with_label_values(labels)
        {
            counter.inc();
        }
    }

    fn present(&self, gauge: &IntGauge) -> Present {
        let gauge = self.on.then(|| gauge.clone());
        gauge.iter().for_each(IntGauge::inc);
        Present(gauge)
    }

    /// As they are now.
    fn collect(&self) -> Vec<MetricFamily> {
        let all: [&dyn Collector; 9] = [
            &self.stage_seconds,
            &self.decisions.all,
            &self.refusals,
            &self.violations,
            &self.vault_seconds,
            &self.request_bytes,
            &self.reply_bytes,
            &self.connections,
            &self.tunnels,
        ];
        all.into_iter().flat_map(Collector::collect).collect()
    }
}

// === impl Stage ===

impl Stage {
    const ALL: [Stage; 5] = [Stage::Read, Stage::Decide, Stage::Record, Stage::Vault, Stage::Upstream];

    /// Its name as a label.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Decide => "decide",
            Stage::Record => "record",
            Stage::Vault => "vault",
            Stage::Upstream => "upstream",
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Which one it is.
    pub fn of(decision: &Decision) -> Verdict {
        match decision {
            Decision::Allow(_) => Verdict::Allow,
            Decision::Hold(_) => Verdict::Hold,
            Decision::Deny(_) => Verdict::Deny,
        }
    }
}

// === impl Present ===

impl Drop for Present {
    fn drop(&mut self) {
        self.0.iter().for_each(IntGauge::dec);
    }
}

// === impl Decisions ===

impl Decisions {
    fn new(all: IntCounterVec) -> Decisions {
        Decisions { all, known: RwLock::default() }
    }

    fn count(&self, agent: &str, destination: &str, verdict: Verdict) {
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(counters) = known.get(agent).and_then(|of_agent| of_agent.get(destination)) {
                return tick(counters, verdict);
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let is_full = known.values().map(HashMap::len).sum::<usize>() >= PAIRS;
        let (agent, destination) = if is_full { (OTHER, OTHER) } else { (agent, destination) };
        let counters = known.entry(agent.to_owned()).or_default();
        match counters.get(destination) {
            Some(counters) => tick(counters, verdict),
            None => {
                if let Some(made) = self.make(agent, destination) {
                    tick(&made, verdict);
                    counters.insert(destination.to_owned(), made);
                }
            }
        }
    }

    fn make(&self, agent: &str, destination: &str) -> Option<[IntCounter; 3]> {
        let counter = |verdict| self.all.get_metric_with_label_values(&[agent, destination, verdict]).ok();
        Some([counter("allow")?, counter("hold")?, counter("deny")?])
    }
}

fn tick(counters: &[IntCounter; 3], verdict: Verdict) {
    let [allow, hold, deny] = counters;
    match verdict {
        Verdict::Allow => allow.inc(),
        Verdict::Hold => hold.inc(),
        Verdict::Deny => deny.inc(),
    }
}

/// Every kind of violation with its severity.
const VIOLATIONS: &[&[&str; 2]] = &[
    &["ambiguous_request", "MEDIUM"],
    &["authority_mismatch", "MEDIUM"],
    &["secret_echoed", "CRITICAL"],
    &["token_in_request", "HIGH"],
    &["wrong_credential", "HIGH"],
];

/// Pairs of an agent and a destination that have a series of their own, three for each.
const PAIRS: usize = 1000;

/// Stands for every agent and destination beyond that.
const OTHER: &str = "other";

/// Bounds for what takes between a tenth of a millisecond and some minutes.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l11_series_are_bounded_and_nothing_is_left_uncounted() {
        let metrics = Metrics::new(true).unwrap();
        for number in 0..3 * PAIRS {
            metrics.decided(&format!("a{number}"), Some(&format!("d{}", number % 7)), Verdict::Deny);
        }
        metrics.decided("a1", Some("d1"), Verdict::Allow);
        let families = metrics.decisions.all.collect();
        let series = families.iter().map(|family| family.get_metric().len()).sum::<usize>();
        assert_eq!(series, 3 * (PAIRS + 1));
        let counted: f64 =
            families.iter().flat_map(|family| family.get_metric()).map(|metric| metric.get_counter().get_value()).sum();
        assert!((counted - 3.0 * PAIRS as f64 - 1.0).abs() < 0.5, "{counted}");
    }

    #[test]
    fn nothing_is_counted_when_it_is_off() {
        let metrics = Metrics::new(false).unwrap();
        metrics.decided("a", None, Verdict::Allow);
        metrics.passed(Stage::Read, Instant::now());
        let _open = metrics.connection();
        assert_eq!(metrics.connections.get(), 0);
        assert_eq!(metrics.stages[0].get_sample_count(), 0);
        assert!(metrics.decisions.all.collect().iter().all(|family| family.get_metric().is_empty()));
    }
}
