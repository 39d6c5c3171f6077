//! The command line: what can be said, and which function does it. Nothing here decides anything.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::home::Home;
use crate::{demo, setup, up};

mod ask;
mod begin;
mod check;
mod credentials;
mod evidence;
mod explain;
mod import;
mod ledger;
mod look;
mod pages;
mod policy;
mod schema;
mod sidecar;
mod standing;
mod start;
mod watch;
mod witness;

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

#[derive(Args)]
struct Explain {
    /// HTTP method, upper case
    #[arg(required_unless_present = "recorded")]
    method: Option<String>,
    /// Whole URL
    #[arg(required_unless_present = "recorded")]
    url: Option<String>,
    /// Correlation id of a recorded decision, in place of a request
    #[arg(long, conflicts_with_all = ["method", "url", "headers", "data"])]
    recorded: Option<String>,
    /// Agent that would ask
    #[arg(long, default_value = setup::FIRST_AGENT)]
    agent: String,
    /// A header, `Name: value`; may be given more than once
    #[arg(long = "header", short = 'H')]
    headers: Vec<String>,
    /// Body, or `@FILE`
    #[arg(long)]
    data: Option<String>,
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Decide every case and say what differs
    Test {
        /// Files of cases, in place of the home's
        files: Vec<PathBuf>,
    },
}

#[derive(Subcommand)]
enum ImportCommand {
    /// Destinations, policies and vault file of a Zehrava Gate; every line that does nothing there is named
    Gate {
        /// Its folder
        dir: PathBuf,
        /// Where the new files go; nothing there is written over
        #[arg(long, default_value = "imported")]
        out: PathBuf,
    },
}

#[derive(Args)]
struct Vote {
    /// Intent id, `int_…`
    id: String,
    /// Why; stands on the ledger and is shown to the agent
    #[arg(long)]
    rationale: String,
}

#[derive(Subcommand)]
enum IntentCommand {
    /// List intents, newest first
    List {
        /// Only those in this state
        #[arg(long)]
        state: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one with its votes
    Show {
        /// Intent id
        id: String,
    },
    /// Say what became of a request whose outcome is unknown
    Settle {
        /// Intent id
        id: String,
        /// succeeded or failed
        #[arg(long, value_parser = ["succeeded", "failed"])]
        outcome: String,
        /// How you know; stands on the ledger
        #[arg(long)]
        rationale: String,
    },
    /// Hold a request whose outcome is unknown once more, for votes of its own
    Retry {
        /// Intent id
        id: String,
        /// Why
        #[arg(long)]
        rationale: String,
    },
}

#[derive(Subcommand)]
enum PrincipalCommand {
    /// Add one; its token is printed once
    Add {
        /// Name
        name: String,
        /// Who answers for an agent
        #[arg(long, default_value = "")]
        owner: String,
        /// scraper, viewer, reviewer or admin (operators)
        #[arg(long)]
        role: Option<String>,
        /// A group that policies may ask approvals of (operators); may be given more than once
        #[arg(long = "group")]
        groups: Vec<String>,
    },
    /// List them
    List,
    /// Put an operator into these groups and no others
    Groups {
        /// Name
        name: String,
        /// A group; may be given more than once, or not at all
        #[arg(long = "group")]
        groups: Vec<String>,
    },
    /// Refuse an agent for the time being
    Suspend {
        /// Name
        name: String,
    },
    /// Serve a suspended agent again
    Resume {
        /// Name
        name: String,
    },
    /// Refuse for good
    Revoke {
        /// Name
        name: String,
    },
}

#[derive(Subcommand)]
enum KillCommand {
    /// Refuse from now on what is named; everything when nothing is
    On(Switch),
    /// Let go on what was stopped, named as it was
    Off(Switch),
    /// List what is stopped
    List,
}

#[derive(Args)]
struct Switch {
    /// Only this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only this destination, by its key; a key with calls stands for all of them
    #[arg(long)]
    destination: Option<String>,
    /// Why; stands on the ledger
    #[arg(long)]
    rationale: String,
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Print the newest events, or those after a number, in order
    Tail(LedgerTail),
    /// Print the newest entry's number and hash
    Head,
    /// Print the public key that evidence is signed with; give it to auditors
    Key,
    /// Sign with a new key from now on; the rotation is recorded, signed by the old key and the new one
    RotateKey,
    /// Print the newest checkpoint with its cosignatures; a copy kept elsewhere shows later what was lost or rewritten
    Checkpoint,
    /// Print the proof that an entry is in the ledger
    Proof {
        /// Number of the entry
        seq: u64,
    },
    /// Verify the whole chain and the newest checkpoint; works beside a running gate
    Verify {
        /// A checkpoint kept elsewhere; may be given more than once
        #[arg(long = "checkpoint")]
        checkpoints: Vec<PathBuf>,
    },
    /// Pack the journal's files of closed days; works beside a running gate, and everything reads them as before
    Archive,
    /// Verify, then build the database anew from the journal; the gate must be stopped
    Rebuild,
}

/// Which events.
#[derive(Args, Debug)]
struct LedgerTail {
    /// Only after this sequence number
    #[arg(long)]
    after: Option<u64>,
    /// Only of this type, such as decision.denied
    #[arg(long = "type")]
    kind: Option<String>,
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only of this intent
    #[arg(long)]
    intent: Option<String>,
    /// Only for this destination
    #[arg(long)]
    destination: Option<String>,
    /// Only about this request, `corr_…`
    #[arg(long)]
    correlation: Option<String>,
    /// Only of this run
    #[arg(long)]
    run: Option<String>,
    /// At most this many
    #[arg(long, short = 'n', default_value_t = 20)]
    limit: usize,
}

#[derive(Subcommand)]
enum CaCommand {
    /// Print the certificate as PEM
    Export,
}

#[derive(Subcommand)]
enum CredentialCommand {
    /// List them: where each secret is and where it may go
    List,
    /// Fetch the secret of one, as this user and with this environment; prints its length and version
    Test {
        /// Name
        name: String,
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
