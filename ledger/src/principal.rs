//! Agents and operators as their events left them.
//!
//! Never holds a credential: the data of a registering event carries digests and names at most.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::append::AppendError;
use crate::event::Event;

/// Whether a principal may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// May act.
    Active,
    /// Void, until registered anew.
    Revoked,
    /// May not act until resumed.
    Suspended,
}

/// An agent or an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Principal {
    /// `agent_id` of an agent, `data.operator` of an operator.
    pub name: String,
    /// Whether it may act.
    pub status: Status,
    /// Time of the event that gave it this status.
    pub since: Timestamp,
    /// Data of the event that registered it; empty if it was suspended or revoked before.
    pub data: Map<String, Value>,
}

/// The two kinds of principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Agent,
    Operator,
}

/// What an event does to a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Register,
    Resume,
    Revoke,
    Suspend,
}

// === impl Status ===

impl Status {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Revoked => "revoked",
            Status::Suspended => "suspended",
        }
    }

    /// The status after a step, or `None` if it cannot follow. Revoking and suspending are possible from everywhere but
    /// back into life from `Revoked`: withdrawing trust must never fail for a formality.
    fn after(self, step: Step) -> Option<Status> {
        match (self, step) {
            (Status::Active | Status::Revoked, Step::Register) | (Status::Suspended, Step::Resume) => {
                Some(Status::Active)
            }
            (Status::Active | Status::Suspended, Step::Suspend) => Some(Status::Suspended),
            (Status::Active | Status::Revoked | Status::Suspended, Step::Revoke) => Some(Status::Revoked),
            (Status::Suspended, Step::Register)
            | (Status::Active | Status::Revoked, Step::Resume)
            | (Status::Revoked, Step::Suspend) => None,
        }
    }
}

// === impl Principal ===

impl Principal {
    /// The principal after `event`, or why the event cannot follow. `before` is `None` for an unknown one.
    pub(crate) fn after(
        before: Option<Principal>,
        name: &str,
        event: &Event,
        step: Step,
    ) -> Result<Principal, AppendError> {
        let status = match &before {
            None => step.first(),
            Some(principal) => principal.status.after(step),
        };
        let refused = || AppendError::Standing {
            name: name.to_owned(),
            status: before.as_ref().map(|principal| principal.status),
            event: event.kind.clone(),
        };
        let status = status.ok_or_else(refused)?;
        let data = if step == Step::Register {
            event.data.clone()
        } else {
            before.map(|principal| principal.data).unwrap_or_default()
        };
        Ok(Principal { name: name.to_owned(), status, since: event.ts, data })
    }
}

// === impl Step ===

impl Step {
    /// The status an unknown principal gets. Suspending one in advance is possible, resuming one is not.
    fn first(self) -> Option<Status> {
        match self {
            Step::Register => Some(Status::Active),
            Step::Resume => None,
            Step::Revoke => Some(Status::Revoked),
            Step::Suspend => Some(Status::Suspended),
        }
    }
}
