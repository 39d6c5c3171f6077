//! The pieces the gate is measured with: a load client, an upstream, a proxy that decides and records nothing, and the
//! disk alone. `tests/bench/run` starts them side by side and prints one table.
//!
//! Each piece is bounded in time and number and speaks on loopback only. Nothing here is part of the program.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod figures;
mod floor;
mod fsync;
mod journal;
mod lane;
mod load;
mod route;
mod tls;
mod upstream;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    piece: Option<Piece>,
    /// Cargo adds this to whatever it runs as a benchmark
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Piece {
    /// An intercepting proxy without policy and ledger: what the stack itself costs
    Floor(floor::Options),
    /// What one durable write costs on this disk
    Fsync(fsync::Options),
    /// Asks, as fast as the answers come, and prints one line of JSON
    Load(load::Options),
    /// Answers everything
    Upstream(upstream::Options),
}

fn main() -> ExitCode {
    match run(Line::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            figures::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(line: Line) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    match line.piece {
        Some(Piece::Floor(options)) => runtime.block_on(floor::run(options)),
        Some(Piece::Fsync(options)) => fsync::run(&options),
        Some(Piece::Load(options)) => runtime.block_on(load::run(options)),
        Some(Piece::Upstream(options)) => runtime.block_on(upstream::run(options)),
        None => figures::say(&"the gate's benchmarks are run by tests/bench/run"),
    }
}
