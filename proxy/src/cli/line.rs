//! What can be said after a command: its own words and options, as they are typed.
//!
//! Types only; nothing is read or checked here.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::setup;

#[derive(Args)]
pub(super) struct Explain {
    /// HTTP method, upper case
    #[arg(required_unless_present = "recorded")]
    pub(super) method: Option<String>,
    /// Whole URL
    #[arg(required_unless_present = "recorded")]
    pub(super) url: Option<String>,
    /// Correlation id of a recorded decision, in place of a request
    #[arg(long, conflicts_with_all = ["method", "url", "headers", "data"])]
    pub(super) recorded: Option<String>,
    /// Agent that would ask
    #[arg(long, default_value = setup::FIRST_AGENT)]
    pub(super) agent: String,
    /// A header, `Name: value`; may be given more than once
    #[arg(long = "header", short = 'H')]
    pub(super) headers: Vec<String>,
    /// Body, or `@FILE`
    #[arg(long)]
    pub(super) data: Option<String>,
}

#[derive(Subcommand)]
pub(super) enum PolicyCommand {
    /// Decide every case and say what differs
    Test {
        /// Files of cases, in place of the home's
        files: Vec<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(super) enum ImportCommand {
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
pub(super) struct Vote {
    /// Intent id, `int_…`
    pub(super) id: String,
    /// Why; stands on the ledger and is shown to the agent
    #[arg(long)]
    pub(super) rationale: String,
}

#[derive(Subcommand)]
pub(super) enum IntentCommand {
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
pub(super) enum PrincipalCommand {
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
pub(super) enum KillCommand {
    /// Refuse from now on what is named; everything when nothing is
    On(Switch),
    /// Let go on what was stopped, named as it was
    Off(Switch),
    /// List what is stopped
    List,
}

#[derive(Args)]
pub(super) struct Switch {
    /// Only this agent
    #[arg(long)]
    pub(super) agent: Option<String>,
    /// Only this destination, by its key; a key with calls stands for all of them
    #[arg(long)]
    pub(super) destination: Option<String>,
    /// Why; stands on the ledger
    #[arg(long)]
    pub(super) rationale: String,
}

#[derive(Subcommand)]
pub(super) enum LedgerCommand {
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
pub(super) struct LedgerTail {
    /// Only after this sequence number
    #[arg(long)]
    pub(super) after: Option<u64>,
    /// Only of this type, such as decision.denied
    #[arg(long = "type")]
    pub(super) kind: Option<String>,
    /// Only of this agent
    #[arg(long)]
    pub(super) agent: Option<String>,
    /// Only of this intent
    #[arg(long)]
    pub(super) intent: Option<String>,
    /// Only for this destination
    #[arg(long)]
    pub(super) destination: Option<String>,
    /// Only about this request, `corr_…`
    #[arg(long)]
    pub(super) correlation: Option<String>,
    /// Only of this run
    #[arg(long)]
    pub(super) run: Option<String>,
    /// At most this many
    #[arg(long, short = 'n', default_value_t = 20)]
    pub(super) limit: usize,
}

#[derive(Subcommand)]
pub(super) enum CaCommand {
    /// Print the certificate as PEM
    Export,
}

#[derive(Subcommand)]
pub(super) enum CredentialCommand {
    /// List them: where each secret is and where it may go
    List,
    /// Fetch the secret of one, as this user and with this environment; prints its length and version
    Test {
        /// Name
        name: String,
    },
}
