//! One scrape: the counters as they are, and what is only looked up when somebody asks.

use jiff::Timestamp;
use ledger::{Figures, State};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use crate::gate::Gate;
use crate::health::{self, Ailment};

/// Everything in the text format of Prometheus (version 0.0.4). Takes a while with many series: not for the threads
/// that serve requests.
///
/// # Errors
/// When a family cannot be written.
pub fn text(gate: &Gate) -> prometheus::Result<Vec<u8>> {
    let mut families = gate.metrics.collect();
    families.retain(|family| !family.get_metric().is_empty());
    families.extend(of_ledger(&gate.ledger.figures()));
    families.extend(of_intents(gate));
    families.extend(of_leaves(gate));
    families.push(counter(
        "writ_spans_lost_total",
        "Spans that found no room on their way to a collector.",
        gate.spans.lost(),
    ));
    families.extend(of_health(&health::ailments(gate)));
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

fn of_ledger(figures: &Figures) -> Vec<MetricFamily> {
    let (free, reserve) = (figures.room.free, figures.room.reserve);
    vec![
        histogram("writ_ledger_commit_seconds", "Time of a commit with its fdatasync.", &figures.commit_seconds),
        histogram("writ_ledger_commit_entries", "Entries in a commit.", &figures.commit_entries),
        gauge("writ_ledger_behind_entries", "Durable entries that the index does not hold yet.", figures.behind),
        gauge("writ_ledger_free_bytes", "Bytes free on the ledger's disk.", free),
        gauge("writ_ledger_reserve_bytes", "Bytes of it that are kept free.", reserve),
    ]
}

fn of_intents(gate: &Gate) -> Vec<MetricFamily> {
    let open = gate.ledger.intents(&[State::Held, State::Unknown], usize::MAX);
    let (waiting, unknown): (Vec<_>, Vec<_>) = open.iter().partition(|intent| intent.state == State::Held);
    let oldest = waiting.iter().map(|intent| intent.opened.ts).min();
    let age = oldest.map_or(0, |since| (Timestamp::now().as_second() - since.as_second()).max(0));
    vec![
        gauge("writ_intents_waiting", "Requests that wait for a reviewer.", waiting.len() as u64),
        gauge("writ_intents_oldest_seconds", "How long the oldest of them has waited.", age.unsigned_abs()),
        gauge("writ_intents_unknown", "Requests whose outcome nobody knows, not settled yet.", unknown.len() as u64),
    ]
}

fn of_leaves(gate: &Gate) -> Vec<MetricFamily> {
    let leaves = gate.issuer.leaves();
    vec![
        counter("writ_leaves_asked_total", "How often a leaf certificate was needed.", leaves.asked),
        counter("writ_leaves_made_total", "Leaf certificates that had to be made.", leaves.made),
        gauge("writ_leaves_kept", "Leaf certificates in the cache.", leaves.kept),
    ]
}

/// One series for each thing that can be wrong, so that an alert finds it also while nothing is.
fn of_health(found: &[Ailment]) -> Vec<MetricFamily> {
    let ready = u64::from(!found.iter().any(Ailment::stops));
    let series = Ailment::CODES.iter().map(|code| {
        let is_so = found.iter().any(|each| each.code() == *code);
        labelled("reason", code, u64::from(is_so))
    });
    let version = labelled("version", env!("CARGO_PKG_VERSION"), 1);
    vec![
        gauge("writ_ready", "Whether the gate may be sent requests.", ready),
        family("writ_ailment", "What is wrong with the gate.", MetricType::GAUGE, series.collect()),
        family("writ_build", "Which version runs.", MetricType::GAUGE, vec![version]),
    ]
}

fn gauge(name: &str, help: &str, value: u64) -> MetricFamily {
    let mut now = Gauge::default();
    now.set_value(value as f64);
    family(name, help, MetricType::GAUGE, vec![Metric::from_gauge(now)])
}

fn counter(name: &str, help: &str, value: u64) -> MetricFamily {
    let mut now = Counter::default();
    now.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_counter(now);
    family(name, help, MetricType::COUNTER, vec![metric])
}

fn labelled(label: &str, text: &str, value: u64) -> Metric {
    let mut pair = LabelPair::default();
    pair.set_name(label.to_owned());
    pair.set_value(text.to_owned());
    let mut now = Gauge::default();
    now.set_value(value as f64);
    let mut metric = Metric::from_gauge(now);
    metric.set_label(vec![pair]);
    metric
}

fn histogram(name: &str, help: &str, counted: &ledger::Histogram) -> MetricFamily {
    let bucket = |(bound, count): &(f64, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(*count);
        bucket
    };
    let mut now = Histogram::default();
    // The encoder writes the infinite bound itself.
    now.set_bucket(counted.buckets.iter().filter(|(bound, _)| bound.is_finite()).map(bucket).collect());
    now.set_sample_sum(counted.sum);
    now.set_sample_count(counted.buckets.last().map_or(0, |(_, count)| *count));
    let mut metric = Metric::default();
    metric.set_histogram(now);
    family(name, help, MetricType::HISTOGRAM, vec![metric])
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
