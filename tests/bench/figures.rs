//! Times that were measured, what they amount to, and how a piece says so: one line of JSON on its standard output.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

/// How long each of many things took, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<u32>);

/// Percentiles in milliseconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
}

// === impl Samples ===

impl Samples {
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub(crate) fn merge(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn percentiles(mut self) -> Percentiles {
        self.0.sort_unstable();
        let at = |permille: usize| {
            let place = self.0.len().saturating_sub(1) * permille / 1000;
            self.0.get(place).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
        };
        Percentiles { p50_ms: at(500), p99_ms: at(990), p999_ms: at(999) }
    }
}

/// Prints one line and lets it out at once: the script that started this piece waits for it.
pub(crate) fn say(line: &impl Serialize) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

/// Says why a piece stops.
pub(crate) fn complain(text: &str) {
    // Without a standard error there is nobody left to tell.
    drop(writeln!(io::stderr(), "bench: {text}"));
}
