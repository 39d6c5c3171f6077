//! What an append gives back: receipts, or the reason why nothing was recorded.
//!
//! A [`Receipt`] proves durability, so nothing outside this crate can make one.

use std::ops::Range;
use std::sync::Arc;

use crate::chain::Entry;
use crate::event::Event;
use crate::intent::State;
use crate::kind::{EventType, Kind};
use crate::once::Taken;
use crate::principal::Status;
use crate::switch::KillSwitch;

/// Proof that an entry is durable. Made by the writer only, after `fdatasync`; not `Clone`, so that one recorded
/// decision stays one.
#[derive(Debug)]
#[must_use = "a receipt is the only proof that the entry is durable"]
pub struct Receipt {
    seq: u64,
    entry_hash: String,
    kind: EventType,
    correlation_id: Option<String>,
    intent_id: Option<String>,
}

/// Entries just made durable, one submission's among them. Becomes receipts on the thread of whoever waited.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) entries: Arc<Vec<Entry>>,
    pub(crate) range: Range<usize>,
}

/// Why an append was refused. Nothing of the submission was recorded, except possibly with [`AppendError::Latched`].
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The correlation already has an execution without an outcome: one permit per correlation.
    #[error("`{correlation}` already has an open execution; record its outcome first")]
    AlreadyExecuting {
        /// The correlation id.
        correlation: String,
    },
    /// The queue is full.
    #[error("the ledger's queue is full; try again in a moment")]
    Busy,
    /// A key that can be taken once in a while is taken.
    #[error("`{}` is taken until {} by `{}`; read what became of that one", .first.key, .first.until, .first.holder())]
    Duplicate {
        /// What took it first.
        first: Box<Taken>,
    },
    /// The event cannot follow the state the intent is in: somebody else was faster.
    #[error("`{event}` cannot follow state `{}` of `{intent}`; read the intent again", .state.map_or("none", State::as_str))]
    Illegal {
        /// The intent.
        intent: String,
        /// Its state; `None` if there is no such intent.
        state: Option<State>,
        /// The refused event.
        event: EventType,
    },
    /// A field that this type of event needs is not there.
    #[error("`{event}` needs `{field}`; set it")]
    Incomplete {
        /// The refused event.
        event: EventType,
        /// The missing field.
        field: &'static str,
    },
    /// A kill switch is on for what was to be authorised.
    #[error("the kill switch for {} is on; turn it off before anything is sent", .switch.scope())]
    Killed {
        /// The switch.
        switch: Box<KillSwitch>,
    },
    /// The ledger is closed because a write failed or its files are not as it left them. Whether the entries of the
    /// failing batch are on disk is unknown; they were not acknowledged.
    #[error("the ledger is closed until a restart: {0}")]
    Latched(String),
    /// An outcome without an open execution of that correlation (and intent).
    #[error("`{correlation}` has no open execution that `{event}` could end; an outcome is recorded once")]
    NoExecution {
        /// The correlation id.
        correlation: String,
        /// The refused event.
        event: EventType,
    },
    /// There is so little space left that nothing new is begun.
    #[error("only {free} bytes are free in `{dir}` and {reserve} are kept for what must still be recorded; free space")]
    NoSpace {
        /// The data directory.
        dir: String,
        /// Bytes that are free.
        free: u64,
        /// Bytes to be kept free.
        reserve: u64,
    },
    /// A standing approval that cannot be used, withdrawn or given under this id.
    #[error(
        "`{event}` cannot follow: `{id}` is used up, expired, withdrawn, unknown or given already; list the standing approvals"
    )]
    NoStanding {
        /// Its id.
        id: String,
        /// The refused event.
        event: EventType,
    },
    /// A kill switch that is not on cannot be turned off.
    #[error("no kill switch is on for exactly that; list them, and name agent and destination as they do")]
    NotSwitchedOn,
    /// A reservation that does not fit into its budget now.
    #[error("`{key}` has no room for this{}", room_after(*retry_after_seconds))]
    OverBudget {
        /// The budget.
        key: String,
        /// After how many seconds there is room, if nothing else is reserved; `None` if it is more than the limit.
        retry_after_seconds: Option<u64>,
    },
    /// The operator already voted since the intent was opened.
    #[error("`{operator}` already voted on `{intent}`; another reviewer has to")]
    Repeated {
        /// The intent.
        intent: String,
        /// The operator.
        operator: String,
    },
    /// The type is written by the ledger itself.
    #[error("`{event}` is recorded by the ledger itself; leave it out")]
    Reserved {
        /// The refused event.
        event: EventType,
    },
    /// The event cannot follow the status of an agent or operator.
    #[error("`{event}` cannot follow status `{}` of `{name}`; read it again", .status.map_or("none", Status::as_str))]
    Standing {
        /// The agent or operator.
        name: String,
        /// Its status; `None` if it is unknown.
        status: Option<Status>,
        /// The refused event.
        event: Kind,
    },
    /// A text could not be stored.
    #[error("cannot store a text in `{path}`: {source}; free space or repair the permissions")]
    Text {
        /// The folder of the texts.
        path: String,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The entry would be longer than a line may be.
    #[error(
        "`{event}` would be {bytes} bytes, the limit is {limit}; store the long part as a text and name its digest"
    )]
    TooLarge {
        /// The refused event.
        event: EventType,
        /// Length of its line.
        bytes: usize,
        /// The longest line allowed.
        limit: usize,
    },
    /// A float, an integer beyond ±2^53, or nesting no verifier would follow.
    #[error("`{key}` cannot be recorded exactly; write it as a string")]
    Unrepresentable {
        /// Path to the value inside `data`.
        key: String,
    },
}

// === impl Recorded ===

impl Recorded {
    /// Receipts for the entries of the submission.
    pub(crate) fn receipts(self) -> Vec<Receipt> {
        let sealed = self.entries.get(self.range).unwrap_or_default();
        sealed.iter().filter_map(|entry| Receipt::of(&entry.event)).collect()
    }
}

// === impl Receipt ===

impl Receipt {
    /// The receipt for a durable event. Only events of this build are ever written.
    fn of(event: &Event) -> Option<Receipt> {
        let Kind::Known(kind) = event.kind else { return None };
        Some(Receipt {
            seq: event.seq,
            entry_hash: event.entry_hash.clone(),
            kind,
            correlation_id: event.correlation_id.clone(),
            intent_id: event.intent_id.clone(),
        })
    }

    /// Position in the ledger.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Hash of the entry, which fixes everything recorded up to it.
    pub fn entry_hash(&self) -> &str {
        &self.entry_hash
    }

    /// What was recorded.
    pub fn kind(&self) -> EventType {
        self.kind
    }

    /// The correlation id recorded.
    pub fn correlation_id(&self) -> Option<&str> {
        self.correlation_id.as_deref()
    }

    /// The intent id recorded.
    pub fn intent_id(&self) -> Option<&str> {
        self.intent_id.as_deref()
    }
}

fn room_after(retry_after_seconds: Option<u64>) -> String {
    match retry_after_seconds {
        None => " and never will: it is more than the limit".to_owned(),
        Some(seconds) => format!("; try again in {seconds} s"),
    }
}
