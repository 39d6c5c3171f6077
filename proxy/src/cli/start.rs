//! Commands that bring programs under the gate.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use super::{Exit, say};
use crate::config::Config;
use crate::confine::{self, Stage};
use crate::doctor::{self, Verdict};
use crate::environment::{self, Shell, Trusted};
use crate::home::Home;
use crate::run::{self, Isolation, Wish};
use crate::setup::FIRST_AGENT;

/// Which variables, for whom.
#[derive(Args, Debug)]
pub(super) struct Env {
    /// Agent; its token is read from WRIT_AGENT_TOKEN, or from the home for the first agent
    #[arg(long, default_value = FIRST_AGENT)]
    agent: String,
    /// In which language
    #[arg(long, value_enum, default_value = "bash")]
    shell: Shell,
    /// Where the agent reaches the gate, `host:port` [default: the forward door]
    #[arg(long)]
    door: Option<String>,
}

/// What to run.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// Agent
    #[arg(long, default_value = FIRST_AGENT)]
    agent: String,
    /// Whether the program gets a network and a view of files of its own
    #[arg(long, value_enum, default_value = "auto")]
    isolation: Isolation,
    /// For how long its token is good; it ends with the program in any case
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=168))]
    hours: u64,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// What to look at besides.
#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// Where to try a connection that goes around the gate, `host:port`; nothing is sent
    #[arg(long, default_value = "1.1.1.1:443")]
    bypass: String,
}

/// A helper of `run`; not to be called by hand.
#[derive(Args, Debug)]
pub(super) struct Confined {
    #[arg(long)]
    first: bool,
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Prints what an agent's shell has to set.
pub(super) fn env(home: Home, what: &Env) -> Result<Exit> {
    let config = Config::load(home)?;
    let file = config.home.agent_token(&what.agent);
    let token = std::env::var("WRIT_AGENT_TOKEN").or_else(|_| {
        fs::read_to_string(&file).with_context(|| {
            format!("the token of `{}` was shown when it was added; set WRIT_AGENT_TOKEN to it", what.agent)
        })
    })?;
    let door = what.door.clone().unwrap_or_else(|| run::reachable(config.forward).to_string());
    let docker = what.shell == Shell::Docker;
    let trusted = if docker { Trusted::at(Path::new("/etc/writ")) } else { config.home.trusted() };
    if docker {
        let own = config.home.trusted();
        let names = [(own.bundle(), trusted.bundle()), (own.keystore(), trusted.keystore())];
        let mounts = names.map(|(from, to)| format!("--volume {}:{}:ro", from.display(), to.display()));
        say(&format!("# docker run --env-file THIS {}", mounts.join(" ")));
    }
    say(what.shell.write(&environment::variables(&what.agent, token.trim(), &door, &trusted)).trim_end());
    Ok(Exit::Ok)
}

/// Runs a program under the gate; its exit code is the program's.
pub(super) fn run(home: Home, what: Run) -> Result<ExitCode> {
    // The token of this run and of the operator are in here.
    nix::sys::prctl::set_dumpable(false)?;
    let time = Duration::from_secs(what.hours * 3600);
    let wish = Wish { agent: what.agent, isolation: what.isolation, time, command: what.command };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run::run(home, wish)).map(ExitCode::from)
}

/// Says how everything was found; fails when a gate cannot work here.
pub(super) async fn doctor(home: Home, what: &Doctor, as_json: bool) -> Result<Exit> {
    let findings = doctor::examine(home, &what.bypass).await?;
    for finding in &findings {
        if as_json {
            say(&serde_json::to_string(finding)?);
            continue;
        }
        let mark = match finding.verdict {
            Verdict::Good => "ok  ",
            Verdict::Doubt => "look",
            Verdict::Bad => "BAD ",
        };
        say(&format!("{mark}  {}: {}", finding.check, finding.detail));
        if !finding.fix.is_empty() {
            say(&format!("      → {}", finding.fix));
        }
    }
    let bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    Ok(if bad { Exit::Failed } else { Exit::Ok })
}

/// One of the processes that `run` makes namespaces with.
pub(super) fn confined(what: &Confined) -> ExitCode {
    let stage = if what.first { Stage::First } else { Stage::Outer };
    ExitCode::from(confine::enter(stage, &what.command))
}
