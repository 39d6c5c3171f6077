//! The disk alone: one 500-byte entry written and synced after the other.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::figures::{self, Samples};
use crate::journal::ENTRY;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// File to write; it is made anew and removed afterwards
    #[arg(long)]
    file: PathBuf,
    /// How long
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut file = File::create_new(&options.file).with_context(|| format!("cannot create {:?}", options.file))?;
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let mut samples = Samples::default();
    while Instant::now() < until {
        let started = Instant::now();
        file.write_all(&ENTRY)?;
        file.sync_data()?;
        samples.add(started.elapsed());
    }
    fs::remove_file(&options.file)?;
    let appends = samples.count();
    figures::say(&json!({"work": "fsync", "appends": appends, "times": samples.percentiles()}))
}
