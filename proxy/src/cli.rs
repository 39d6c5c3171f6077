//! The command line: what can be said, and which function does it. Nothing here decides anything.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::json;

use crate::home::Home;
use crate::{demo, up};

mod ask;
mod begin;
mod check;
mod credentials;
mod evidence;
mod explain;
mod import;
mod ledger;
mod line;
mod look;
mod pages;
mod policy;
mod schema;
mod sidecar;
mod standing;
mod start;
mod watch;
mod witness;

use line::{
    CaCommand, CredentialCommand, Explain, ImportCommand, IntentCommand, KillCommand, LedgerCommand, LedgerTail,
    PolicyCommand, PrincipalCommand, Vote,
};

/// An enforcing proxy for AI agents: no writ, no write.
#[derive(Parser)]
#[command(name = "writ", version, propagate_version = true)]
struct Line {
    /// Folder with configuration and data [default: ~/.writ]
    #[arg(long, global = true, env = "WRIT_HOME")]
    home: Option<PathBuf>,
    /// Folder with the configuration, if not in the home; nothing is written there
    #[arg(long, global = true, env = "WRIT_CONFIG")]
    config: Option<PathBuf>,
    /// Folder to write to what clients have to trust, ca-bundle.pem and others [default: the home]
    #[arg(long, global = true, env = "WRIT_TRUST")]
    trust: Option<PathBuf>,
    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Invocation,
}

#[derive(Subcommand)]
enum Invocation {
    /// Run a program under the gate; its exit code is the program's
    Run(start::Run),
    #[command(hide = true)]
    Confined(start::Confined),
    #[command(flatten)]
    Command(Command),
}

#[derive(Subcommand)]
enum Command {
    /// Serve; the first run creates everything and prints what to paste
    Up,
    /// Watch an allowed, a denied and a held request go through a gate of their own, offline
    Demo,
    /// Print the variables that bring an agent's shell under the gate
    Env(start::Env),
    /// Look whether this machine and its clients are fit for a gate
    Doctor(start::Doctor),
    /// Create the home without serving
    Init,
    /// Load the configuration and say everything that is wrong with it
    Check,
    /// Say what would be decided about a request, or why a recorded decision came out as it did
    Explain(Explain),
    /// Decide the cases in the home's `tests/`
    Policy {
        #[command(subcommand)]
        what: PolicyCommand,
    },
    /// Take over the files of another system
    Import {
        #[command(subcommand)]
        what: ImportCommand,
    },
    /// Print the JSON Schema of a file or of the ledger's events, for editors and checks elsewhere
    Schema {
        /// agent, cases, config, credentials, destinations, event or policy; without one, the names
        name: Option<String>,
    },
    /// List what waits for approval
    Pending,
    /// Approve a held request; it is sent once
    Approve(standing::Approval),
    /// Deny a held request
    Deny(Vote),
    /// Look at what was approved in advance, or withdraw it
    Standing {
        #[command(subcommand)]
        what: standing::Command,
    },
    /// Look at intents
    Intents {
        #[command(subcommand)]
        what: IntentCommand,
    },
    /// Add, list, suspend, resume or revoke agents
    Agents {
        #[command(subcommand)]
        what: PrincipalCommand,
    },
    /// Add, list or revoke operators
    Operators {
        #[command(subcommand)]
        what: PrincipalCommand,
    },
    /// Print a code that opens the operator pages in a browser, once
    Login,
    /// Stop an agent, a destination or everything at once, or let it go on
    Kill {
        #[command(subcommand)]
        what: KillCommand,
    },
    /// Add the gate to the pods of a Kubernetes manifest, offline; prints the result
    Inject(sidecar::Inject),
    /// Load destinations and policies again
    Reload,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command
    Man {
        /// Folder to write them to
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Show a running gate on one screen: doors, agents, what waits, the last decisions, ledger, rules
    Status,
    /// The same, kept up to date
    Top(watch::Top),
    /// Ask a running gate whether it serves, and what is wrong; exit code 1 when it should be sent no requests
    Health {
        /// Only whether a restart would help
        #[arg(long)]
        live: bool,
    },
    /// Read, verify or rebuild the ledger
    Ledger {
        #[command(subcommand)]
        what: LedgerCommand,
    },
    /// Write evidence for an auditor: entries, proofs, policies, summaries
    Export(evidence::Export),
    /// Check evidence, without a gate
    Verify(evidence::Verify),
    /// Cosign the checkpoints of ledgers elsewhere (C2SP tlog-witness)
    Witness(witness::Serve),
    /// The certificate authority that clients have to trust
    Ca {
        #[command(subcommand)]
        what: CaCommand,
    },
    /// List credentials, or see whether one can be read
    Credentials {
        #[command(subcommand)]
        what: CredentialCommand,
    },
}

/// How a command ended, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Done.
    Ok = 0,
    /// Ran, and it did not work.
    Failed = 1,
    /// Ran, and the answer is no.
    Denied = 2,
    /// The configuration is not valid.
    Invalid = 3,
    /// Something does not verify.
    Unverified = 4,
    /// It is consistent in itself, but nothing says whose it is.
    Unauthenticated = 5,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let line = Line::parse();
    let home = Home::locate(line.home.as_deref());
    let home = home.map(|home| home.configured_in(line.config).trusting_in(line.trust));
    let exits = match line.command {
        // Before there is a second thread.
        Invocation::Confined(what) => return start::confined(&what),
        // Not hardened: the program inherits what is changed of this process.
        Invocation::Run(what) => home.and_then(|home| start::run(home, what)),
        Invocation::Command(command) => {
            begin::harden();
            begin::log();
            run(home, line.json, command).map(|exit| ExitCode::from(exit as u8))
        }
    };
    match exits {
        Ok(exit) => exit,
        Err(error) => {
            say_error(&format!("{error:#}"));
            let exit = if error.is::<::policy::Invalid>() { Exit::Invalid } else { Exit::Failed };
            ExitCode::from(exit as u8)
        }
    }
}

fn run(home: Result<Home>, json: bool, command: Command) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Up => match up::prepare(home?) {
                Ok(ready) => up::run(ready).await.map(|()| Exit::Ok),
                Err(error) => {
                    say_error(&format!("{error:#}"));
                    Ok(Exit::Invalid)
                }
            },
            Command::Demo => demo::run().await.map(|()| Exit::Ok),
            Command::Env(what) => start::env(home?, &what),
            Command::Doctor(what) => start::doctor(home?, &what, json).await,
            Command::Init => look::init(&home?),
            Command::Check => check::run(home?, json),
            Command::Explain(what) => explain::run(home?, &what, json).await,
            Command::Policy { what: PolicyCommand::Test { files } } => policy::test(home?, &files, json),
            Command::Import { what: ImportCommand::Gate { dir, out } } => import::gate(&dir, &out, json),
            Command::Schema { name } => schema::run(name.as_deref(), json),
            Command::Pending => ask::intents(home?, Some("held"), 100, json).await,
            Command::Approve(given) => ask::vote(home?, "approve", &given.vote, given.remember, json).await,
            Command::Deny(vote) => ask::vote(home?, "deny", &vote, None, json).await,
            Command::Standing { what } => standing::run(home?, &what, json).await,
            Command::Intents { what: IntentCommand::List { state, limit } } => {
                ask::intents(home?, state.as_deref(), limit, json).await
            }
            Command::Intents { what: IntentCommand::Show { id } } => ask::intent(home?, &id).await,
            Command::Intents { what: IntentCommand::Settle { id, outcome, rationale } } => {
                ask::resolve(home?, &id, "settle", &json!({"outcome": outcome, "rationale": rationale})).await
            }
            Command::Intents { what: IntentCommand::Retry { id, rationale } } => {
                ask::resolve(home?, &id, "retry", &json!({"rationale": rationale})).await
            }
            Command::Agents { what } => ask::principals(home?, "agents", &what, json).await,
            Command::Operators { what } => ask::principals(home?, "operators", &what, json).await,
            Command::Login => ask::login(home?, json).await,
            Command::Kill { what } => ask::kill(home?, &what, json).await,
            Command::Inject(what) => sidecar::inject(&what),
            Command::Reload => ask::reload(home?).await,
            Command::Completions { shell } => Ok(pages::completions(shell)),
            Command::Man { dir } => pages::manual(dir.as_deref()),
            Command::Status => watch::status(home?, json).await,
            Command::Top(what) => watch::top(home?, &what).await,
            Command::Health { live } => watch::health(home?, live, json).await,
            Command::Ledger { what } => ledger::run(home?, &what, json).await,
            Command::Export(what) => evidence::export(home?, &what).await,
            Command::Verify(what) => evidence::verify(&what, json),
            Command::Witness(what) => witness::serve(&what).await,
            Command::Ca { what: CaCommand::Export } => look::export_ca(&home?),
            Command::Credentials { what } => credentials::run(home?, &what, json).await,
        }
    })
}

/// Writes a line to standard output. A closed pipe (`writ ledger tail | head`) ends the output quietly.
fn say(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stdout(), "{text}"));
}

pub(crate) fn say_error(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "writ: {text}"));
}
