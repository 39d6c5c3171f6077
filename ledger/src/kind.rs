//! The closed list of event types and their names in the journal.
//!
//! A name, once written into a journal, is there for ever: names are only ever added, never changed or reused. Names
//! this build does not know are kept as they are and never interpreted.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// Declares [`EventType`] from one table, so that a variant, its name and its place in `ALL` cannot drift apart.
macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// What an event records. Exhaustive on purpose: a new type must be placed everywhere types are told apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventType { $($(#[$doc])* $variant,)+ }

        impl EventType {
            /// Every type, in the order of the variants.
            pub const ALL: &[EventType] = &[$(EventType::$variant,)+];

            /// The name in the journal, for example `decision.allowed`.
            pub const fn as_str(self) -> &'static str {
                match self { $(EventType::$variant => $name,)+ }
            }
        }
    };
}

event_types! {
    /// The upstream answered an authorised send; data says what.
    ActionExecuted = "action.executed",
    /// An approved intent is about to be sent; durable before its first byte leaves.
    ActionExecuting = "action.executing",
    /// An authorised send failed; `data.sent` is `false` only if no byte left.
    ActionFailed = "action.failed",
    /// An agent declared an intent; announces it, the decision that follows opens it.
    ActionRequested = "action.requested",
    /// An authorised send whose outcome nobody knows, for example after a crash.
    ActionUnknown = "action.unknown",
    /// An agent may authenticate; `agent_id` names it.
    AgentRegistered = "agent.registered",
    /// A suspended agent may act again.
    AgentResumed = "agent.resumed",
    /// An agent's credential is void.
    AgentRevoked = "agent.revoked",
    /// An agent may not act until resumed.
    AgentSuspended = "agent.suspended",
    /// The requester withdrew a held intent.
    ApprovalCancelled = "approval.cancelled",
    /// Reviewers rejected a held intent.
    ApprovalDenied = "approval.denied",
    /// A held or approved intent was not used in time.
    ApprovalExpired = "approval.expired",
    /// Reviewers approved a held intent.
    ApprovalGranted = "approval.granted",
    /// One reviewer's vote on a held intent; `data.operator` names the reviewer.
    ApprovalVote = "approval.vote",
    /// A grant reserved part of a budget.
    BudgetReserved = "budget.reserved",
    /// A reservation was consumed or given back.
    BudgetSettled = "budget.settled",
    /// A configuration took effect; data names the hashes of its texts.
    ConfigLoaded = "config.loaded",
    /// A configuration was refused and the last good one kept.
    ConfigRefused = "config.refused",
    /// A request or declared intent may go out.
    DecisionAllowed = "decision.allowed",
    /// A request waits for reviewers.
    DecisionApprovalRequired = "decision.approval_required",
    /// A request or intent may not go out.
    DecisionDenied = "decision.denied",
    /// The gate found something to repair when it started.
    GateRecovered = "gate.recovered",
    /// The gate began to serve.
    GateStarted = "gate.started",
    /// The gate stopped in order.
    GateStopped = "gate.stopped",
    /// Normal operation resumed.
    KillSwitchOff = "kill_switch.off",
    /// Everything is refused until the switch is off.
    KillSwitchOn = "kill_switch.on",
    /// A signed statement of size and root was made.
    LedgerCheckpoint = "ledger.checkpoint",
    /// Event 0: origin and public key of this ledger.
    LedgerCreated = "ledger.created",
    /// Something that should have been recorded was not.
    LedgerGap = "ledger.gap",
    /// The ledger signs with another key from here on.
    LedgerKeyRotated = "ledger.key_rotated",
    /// An operator may authenticate; `data.operator` names the operator.
    OperatorAdded = "operator.added",
    /// An operator authenticated.
    OperatorLogin = "operator.login",
    /// An operator's credential is void.
    OperatorRevoked = "operator.revoked",
    /// A request ended before it could be decided.
    RequestRefused = "request.refused",
    /// A reviewer allowed a class of requests in advance.
    StandingCreated = "standing.created",
    /// A standing approval was withdrawn.
    StandingRevoked = "standing.revoked",
    /// A standing approval stood in for votes.
    StandingUsed = "standing.used",
    /// Somebody tried what must not happen; data carries kind and severity.
    Violation = "violation",
}

/// The type of an event read back: known to this build, or kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A type of this build.
    Known(EventType),
    /// A name written by a newer build; verified like any other, never interpreted.
    Opaque(String),
}

/// The name of an event type that this build does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an event type; the types are listed in the documentation of the ledger")]
pub struct UnknownType(pub String);

// === impl EventType ===

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = UnknownType;

    fn from_str(name: &str) -> Result<Self, UnknownType> {
        EventType::ALL.iter().copied().find(|kind| kind.as_str() == name).ok_or_else(|| UnknownType(name.to_owned()))
    }
}

// === impl Kind ===

impl Kind {
    /// The name in the journal.
    pub fn as_str(&self) -> &str {
        match self {
            Kind::Known(kind) => kind.as_str(),
            Kind::Opaque(name) => name,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(name.parse().map_or(Kind::Opaque(name), Kind::Known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names on disk. Pinned here so that renaming one breaks a test and not an auditor.
    const NAMES: &str = "action.executed action.executing action.failed action.requested action.unknown agent.registered \
        agent.resumed agent.revoked agent.suspended approval.cancelled approval.denied approval.expired \
        approval.granted approval.vote budget.reserved budget.settled config.loaded config.refused decision.allowed \
        decision.approval_required decision.denied gate.recovered gate.started gate.stopped kill_switch.off \
        kill_switch.on ledger.checkpoint ledger.created ledger.gap ledger.key_rotated operator.added operator.login \
        operator.revoked request.refused standing.created standing.revoked standing.used violation";

    #[test]
    fn the_names_on_disk_are_pinned() {
        let names: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names, NAMES.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn every_name_parses_back() {
        for kind in EventType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
        }
        assert_eq!("decision.maybe".parse::<EventType>(), Err(UnknownType("decision.maybe".to_owned())));
    }
}
