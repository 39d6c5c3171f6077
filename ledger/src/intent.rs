//! The life of an intent: its states, the one table of legal steps, and the view the writer keeps of it.
//!
//! Pure: no clock, no disk. Never decides whether an intent *should* go on, only whether an event can follow a state.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::append::AppendError;
use crate::event::{Event, stamped};
use crate::kind::EventType;

/// Where an intent stands, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for reviewers.
    Held,
    /// May be sent, once.
    Approved,
    /// Is being sent.
    Executing,
    /// The upstream answered.
    Succeeded,
    /// The send failed and is over.
    Failed,
    /// Nobody knows whether it reached the upstream. A reviewer may still settle it.
    Unknown,
    /// Reviewers said no.
    Rejected,
    /// Nobody used it in time.
    Expired,
    /// The requester withdrew it.
    Cancelled,
    /// Policy denies it.
    Blocked,
}

/// An event that cannot follow the state an intent is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{event}` cannot follow state `{}`; read the intent again and decide anew", name_of(*from))]
pub struct Illegal {
    /// The state the intent is in; `None` if there is no such intent.
    pub from: Option<State>,
    /// The event that was refused.
    pub event: EventType,
}

/// The event that opened an intent, or opened it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// Number of the event.
    pub seq: u64,
    /// Time of the event.
    pub ts: Timestamp,
    /// Data of the event.
    pub data: Map<String, Value>,
}

/// One held or declared request, as its events left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// `int_…`
    pub id: String,
    /// `corr_…` of the request as the agent sent it.
    pub correlation_id: String,
    /// Where it stands.
    pub state: State,
    /// Whose it is.
    pub agent_id: String,
    /// The run the agent claims to be in.
    pub run_id: Option<String>,
    /// What the request does.
    pub action: Option<String>,
    /// Key of the destination.
    pub dest_key: Option<String>,
    /// The decision that opened it; replaced when it is held again.
    pub opened: Opening,
    /// Data of the votes since `opened`, each with the `seq` and `ts` of its event.
    pub votes: Vec<Map<String, Value>>,
    /// Data of the event that entered `state`, with its `seq` and `ts`.
    pub latest: Map<String, Value>,
    /// Number of that event.
    pub latest_seq: u64,
    /// Time of the last event, votes included.
    pub updated: Timestamp,
}

// === impl State ===

impl State {
    /// Every state, in the order of the variants.
    pub const ALL: &[State] = &[
        State::Held,
        State::Approved,
        State::Executing,
        State::Succeeded,
        State::Failed,
        State::Unknown,
        State::Rejected,
        State::Expired,
        State::Cancelled,
        State::Blocked,
    ];

    /// The name of the state inside the product.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Held => "held",
            State::Approved => "approved",
            State::Executing => "executing",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Unknown => "unknown",
            State::Rejected => "rejected",
            State::Expired => "expired",
            State::Cancelled => "cancelled",
            State::Blocked => "blocked",
        }
    }

    /// The status the API shows to agents.
    pub const fn status(self) -> &'static str {
        match self {
            State::Held => "pending_approval",
            State::Approved
            | State::Executing
            | State::Succeeded
            | State::Failed
            | State::Unknown
            | State::Rejected
            | State::Expired
            | State::Cancelled
            | State::Blocked => self.as_str(),
        }
    }

    /// Whether no event leads out of this state. `Unknown` is not terminal: a reviewer may still settle it.
    pub const fn is_terminal(self) -> bool {
        match self {
            State::Held | State::Approved | State::Executing | State::Unknown => false,
            State::Succeeded | State::Failed | State::Rejected | State::Expired | State::Cancelled | State::Blocked => {
                true
            }
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Intent ===

impl Intent {
    /// The intent after `event`, or why the event cannot follow. `before` is `None` for an unknown intent.
    pub(crate) fn after(before: Option<Intent>, event: &Event, kind: EventType) -> Result<Intent, AppendError> {
        let from = before.as_ref().map(|intent| intent.state);
        let sent = event.data.get("sent").and_then(Value::as_bool);
        let id = event.intent_id.clone().ok_or(AppendError::Incomplete { event: kind, field: "intent_id" })?;
        let illegal = |_| AppendError::Illegal { intent: id.clone(), state: from, event: kind };
        let state = next(from, kind, sent).map_err(illegal)?;
        // What the gate saw of an unknown send is over; only a named reviewer can say more.
        if from == Some(State::Unknown) && event.text("resolved_by").is_none() {
            return Err(AppendError::Illegal { intent: id, state: from, event: kind });
        }
        let Some(mut intent) = before.filter(|_| kind != EventType::DecisionApprovalRequired) else {
            return Intent::opened(id, state, event, kind);
        };
        if kind == EventType::ApprovalVote {
            intent.vote(event)?;
        } else {
            intent.state = state;
            intent.latest = stamped(event);
            intent.latest_seq = event.seq;
        }
        intent.updated = event.ts;
        Ok(intent)
    }

    fn opened(id: String, state: State, event: &Event, kind: EventType) -> Result<Intent, AppendError> {
        let missing = |field| AppendError::Incomplete { event: kind, field };
        Ok(Intent {
            id,
            correlation_id: event.correlation_id.clone().ok_or(missing("correlation_id"))?,
            state,
            agent_id: event.agent_id.clone().ok_or(missing("agent_id"))?,
            run_id: event.run_id.clone(),
            action: event.action.clone(),
            dest_key: event.dest_key.clone(),
            opened: Opening { seq: event.seq, ts: event.ts, data: event.data.clone() },
            votes: Vec::new(),
            latest: stamped(event),
            latest_seq: event.seq,
            updated: event.ts,
        })
    }

    fn vote(&mut self, event: &Event) -> Result<(), AppendError> {
        let field = "data.operator";
        let operator =
            event.text("operator").ok_or(AppendError::Incomplete { event: EventType::ApprovalVote, field })?;
        if self.votes.iter().any(|vote| vote.get("operator").and_then(Value::as_str) == Some(operator)) {
            return Err(AppendError::Repeated { intent: self.id.clone(), operator: operator.to_owned() });
        }
        self.votes.push(stamped(event));
        Ok(())
    }
}

/// The state after `event`, or that it cannot follow. `from` is `None` for an unknown intent; `sent` is `data.sent` of
/// `action.failed`.
///
/// `action.requested` only announces an intent and enters no state. The one way back is a failure with `sent: false`:
/// no byte left, so the approval still stands.
pub fn next(from: Option<State>, event: EventType, sent: Option<bool>) -> Result<State, Illegal> {
    let illegal = Illegal { from, event };
    let (sources, target) = step(event).ok_or(illegal)?;
    if !sources.contains(&from) {
        return Err(illegal);
    }
    let unsent = event == EventType::ActionFailed && from == Some(State::Executing) && sent == Some(false);
    Ok(if unsent { State::Approved } else { target })
}

/// Whether the states of intents depend on this type. All others may carry an intent id as a mere reference.
pub(crate) fn moves(event: EventType) -> bool {
    step(event).is_some()
}

/// The states an event can follow and the one it enters; `None` for events that move no intent.
fn step(event: EventType) -> Option<(&'static [Option<State>], State)> {
    const NEW: Option<State> = None;
    const HELD: Option<State> = Some(State::Held);
    const APPROVED: Option<State> = Some(State::Approved);
    const EXECUTING: Option<State> = Some(State::Executing);
    const UNKNOWN: Option<State> = Some(State::Unknown);
    match event {
        EventType::ActionExecuted => Some((&[EXECUTING, UNKNOWN], State::Succeeded)),
        EventType::ActionExecuting => Some((&[APPROVED], State::Executing)),
        EventType::ActionFailed => Some((&[EXECUTING, UNKNOWN], State::Failed)),
        EventType::ActionUnknown => Some((&[EXECUTING], State::Unknown)),
        EventType::ApprovalCancelled => Some((&[HELD], State::Cancelled)),
        // Also what was approved and could not be sent: a reviewer may think again.
        EventType::ApprovalDenied => Some((&[HELD, APPROVED], State::Rejected)),
        EventType::ApprovalExpired => Some((&[HELD, APPROVED], State::Expired)),
        EventType::ApprovalGranted => Some((&[HELD], State::Approved)),
        EventType::ApprovalVote => Some((&[HELD], State::Held)),
        EventType::DecisionAllowed => Some((&[NEW], State::Approved)),
        EventType::DecisionApprovalRequired => Some((&[NEW, HELD, APPROVED], State::Held)),
        EventType::DecisionDenied => Some((&[NEW, HELD, APPROVED], State::Blocked)),
        EventType::ActionRequested
        | EventType::AgentRegistered
        | EventType::AgentResumed
        | EventType::AgentRevoked
        | EventType::AgentSuspended
        | EventType::BudgetReserved
        | EventType::BudgetSettled
        | EventType::ConfigLoaded
        | EventType::ConfigRefused
        | EventType::GateRecovered
        | EventType::GateStarted
        | EventType::GateStopped
        | EventType::KillSwitchOff
        | EventType::KillSwitchOn
        | EventType::LedgerCheckpoint
        | EventType::LedgerCreated
        | EventType::LedgerGap
        | EventType::LedgerKeyRotated
        | EventType::OperatorAdded
        | EventType::OperatorLogin
        | EventType::OperatorRevoked
        | EventType::RequestRefused
        | EventType::StandingCreated
        | EventType::StandingRevoked
        | EventType::StandingUsed
        | EventType::Violation => None,
    }
}

fn name_of(state: Option<State>) -> &'static str {
    state.map_or("none", State::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every legal step: from, event, `sent` where it matters, to. What is not here is illegal.
    const LEGAL: &str = "
        none      decision.allowed           -      approved
        none      decision.approval_required -      held
        none      decision.denied            -      blocked
        held      decision.approval_required -      held
        held      decision.denied            -      blocked
        held      approval.vote              -      held
        held      approval.granted           -      approved
        held      approval.denied            -      rejected
        held      approval.expired           -      expired
        held      approval.cancelled         -      cancelled
        approved  decision.approval_required -      held
        approved  decision.denied            -      blocked
        approved  approval.denied            -      rejected
        approved  approval.expired           -      expired
        approved  action.executing           -      executing
        executing action.executed            -      succeeded
        executing action.failed              none   failed
        executing action.failed              true   failed
        executing action.failed              false  approved
        executing action.unknown             -      unknown
        unknown   action.executed            -      succeeded
        unknown   action.failed              -      failed
    ";

    fn expected(from: Option<State>, event: EventType, sent: Option<bool>) -> Option<&'static str> {
        let sent = sent.map_or("none", |sent| if sent { "true" } else { "false" });
        let mut rows = LEGAL.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let fits = |row: &Vec<&str>| row.len() == 4 && row[0] == name_of(from) && row[1] == event.as_str();
        rows.find(|row| fits(row) && (row[2] == "-" || row[2] == sent)).map(|row| row[3])
    }

    #[test]
    fn exactly_the_listed_steps_are_legal() {
        let states = || [None].into_iter().chain(State::ALL.iter().copied().map(Some));
        for (event, from) in EventType::ALL.iter().flat_map(|event| states().map(move |from| (*event, from))) {
            for sent in [None, Some(true), Some(false)] {
                let found = next(from, event, sent).ok().map(State::as_str);
                assert_eq!(found, expected(from, event, sent), "{from:?} {event} {sent:?}");
            }
        }
    }

    #[test]
    fn terminal_states_are_those_nothing_leaves() {
        for state in State::ALL {
            let leaves = EventType::ALL.iter().any(|event| next(Some(*state), *event, None).is_ok());
            assert_eq!(state.is_terminal(), !leaves, "{state}");
        }
    }

    #[test]
    fn the_api_shows_a_held_intent_as_pending() {
        let shown: Vec<&str> = State::ALL.iter().map(|state| state.status()).collect();
        let expected =
            "pending_approval approved executing succeeded failed unknown rejected expired cancelled blocked";
        assert_eq!(shown.join(" "), expected);
    }
}
