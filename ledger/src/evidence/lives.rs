//! The rules of record: which events can follow each other in the life of a request, checked on the lines alone.
//!
//! The gate enforces the same when it writes; here nothing is believed because a gate wrote it.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Code, Refusal};
use crate::event::Event;
use crate::intent::{self, State};
use crate::kind::{EventType, Kind};

/// What the lines so far amount to.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// Every correlation id that occurred, and how its live send stands.
    correlations: HashMap<Short, Send>,
    intents: HashMap<Short, Life>,
    /// Correlation ids of sends without an outcome.
    open: BTreeSet<String>,
    /// Owners of agents, as last registered.
    owners: HashMap<String, String>,
}

/// A digest of an id: a million of them have to fit into little memory.
type Short = [u8; 12];

/// How the live send of a correlation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Send {
    Ended,
    None,
    Open,
    Unsent,
}

/// An intent; what is over needs no more than its state.
#[derive(Debug)]
struct Life {
    state: State,
    pending: Option<Box<Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    digest: Option<String>,
    voters: Vec<String>,
}

// === impl Lives ===

impl Lives {
    /// Takes the next event, or says which rule it breaks. What it changes is taken over in either case.
    pub(super) fn take(&mut self, event: &Event) -> Result<(), Refusal> {
        if let Some(id) = &event.correlation_id {
            self.correlations.entry(short(id)).or_insert(Send::None);
        }
        let Kind::Known(kind) = event.kind else { return Ok(()) };
        if let (EventType::AgentRegistered, Some(agent)) = (kind, &event.agent_id) {
            self.owners.insert(agent.clone(), event.text("owner").unwrap_or_default().to_owned());
        }
        let taken = match &event.intent_id {
            None => self.live(event, kind),
            Some(_) if !intent::moves(kind) => Ok(()),
            Some(id) => self.intent(event, kind, id),
        };
        taken.map_err(|(code, what)| Refusal::at(code, event.seq, format!("`{kind}`: {what}")))
    }

    /// How many different correlation ids occurred.
    pub(super) fn correlations(&self) -> u64 {
        self.correlations.len() as u64
    }

    /// Correlation ids of sends without an outcome, in order.
    pub(super) fn open(&self) -> Vec<String> {
        self.open.iter().cloned().collect()
    }

    fn live(&mut self, event: &Event, kind: EventType) -> Result<(), (Code, String)> {
        let is_outcome = is_outcome(kind);
        if kind != EventType::DecisionAllowed && !is_outcome {
            let needs = intent::moves(kind) && kind != EventType::DecisionDenied;
            return if needs {
                Err((Code::RuleStep, "it belongs to an intent but names none".to_owned()))
            } else {
                Ok(())
            };
        }
        let id = event.correlation_id.as_ref().ok_or((Code::RuleStep, "it names no correlation".to_owned()))?;
        let before = self.correlations.insert(short(id), Send::Open).unwrap_or(Send::None);
        if !is_outcome {
            self.open.insert(id.clone());
            return match before {
                Send::None | Send::Unsent => Ok(()),
                Send::Ended | Send::Open => Err((Code::RuleTwoSends, format!("`{id}` was sent before"))),
            };
        }
        self.open.remove(id);
        let after = if is_unsent(event, kind) { Send::Unsent } else { Send::Ended };
        self.correlations.insert(short(id), after);
        match before {
            Send::Open => Ok(()),
            Send::None | Send::Unsent => Err((Code::RuleNoAllow, format!("nothing before allows `{id}` to be sent"))),
            Send::Ended => Err((Code::RuleDuplicateOutcome, format!("`{id}` has an outcome already"))),
        }
    }

    fn intent(&mut self, event: &Event, kind: EventType, id: &str) -> Result<(), (Code, String)> {
        let correlation =
            event.correlation_id.as_ref().ok_or((Code::RuleStep, "it names no correlation".to_owned()))?;
        let life = self.intents.remove(&short(id));
        let from = life.as_ref().map(|life| life.state);
        let mut pending = life.and_then(|life| life.pending).unwrap_or_default();
        let settles = from != Some(State::Unknown) || event.text("resolved_by").is_some();
        let sent = event.data.get("sent").and_then(Value::as_bool);
        let next = intent::next(from, kind, sent).ok().filter(|_| settles);
        if matches!(kind, EventType::DecisionAllowed | EventType::DecisionApprovalRequired) {
            *pending = Pending { digest: event.text("digest").map(str::to_owned), voters: Vec::new() };
        }
        let checked = match next {
            None => Err(misstep(from, kind)),
            Some(_) => check_digest(&pending, event, kind).and_then(|()| self.check_vote(&mut pending, event, kind)),
        };
        let state = next.or(from).unwrap_or(State::Blocked);
        if state == State::Executing {
            self.open.insert(correlation.clone());
        } else {
            self.open.remove(correlation);
        }
        let pending = (!state.is_terminal()).then_some(pending);
        self.intents.insert(short(id), Life { state, pending });
        checked
    }

    fn check_vote(&self, pending: &mut Pending, event: &Event, kind: EventType) -> Result<(), (Code, String)> {
        if kind != EventType::ApprovalVote {
            return Ok(());
        }
        let refused = |what: String| Err((Code::RuleVote, what));
        let (Some(operator), Some(agent)) = (event.text("operator").map(folded), &event.agent_id) else {
            return refused("it does not say whose vote it is, and on whose request".to_owned());
        };
        let Some(owner) = self.owners.get(agent) else {
            return refused(format!("nothing before says who owns `{agent}`"));
        };
        if operator == folded(agent) || operator == folded(owner) {
            return refused(format!(
                "`{operator}` votes on an own request: the agent is `{agent}`, its owner `{owner}`"
            ));
        }
        if pending.voters.contains(&operator) {
            return refused(format!("`{operator}` voted before"));
        }
        pending.voters.push(operator);
        Ok(())
    }
}

/// Which rule is broken by an event that cannot follow.
fn misstep(from: Option<State>, kind: EventType) -> (Code, String) {
    let sent = matches!(from, Some(State::Failed | State::Succeeded | State::Unknown));
    let state = from.map_or("none", State::as_str);
    if kind == EventType::ActionExecuting && (sent || from == Some(State::Executing)) {
        (Code::RuleTwoSends, format!("the intent is `{state}`, it was sent before"))
    } else if is_outcome(kind) && sent {
        (Code::RuleDuplicateOutcome, format!("the intent is `{state}`, it has an outcome already"))
    } else if kind == EventType::ActionExecuting || is_outcome(kind) {
        (Code::RuleNoAllow, format!("the intent is `{state}`, nothing before allows it to be sent"))
    } else {
        (Code::RuleStep, format!("it cannot follow state `{state}`"))
    }
}

/// A vote and a send are for the request that was shown, and for nothing else.
fn check_digest(pending: &Pending, event: &Event, kind: EventType) -> Result<(), (Code, String)> {
    let bound = matches!(kind, EventType::ActionExecuting | EventType::ApprovalVote);
    if !bound || event.text("digest") == pending.digest.as_deref() {
        return Ok(());
    }
    let (found, shown) = (event.text("digest").unwrap_or("none"), pending.digest.as_deref().unwrap_or("none"));
    Err((Code::RuleDigest, format!("it is for request `{found}`, the one held is `{shown}`")))
}

fn is_outcome(kind: EventType) -> bool {
    matches!(kind, EventType::ActionExecuted | EventType::ActionFailed | EventType::ActionUnknown)
}

/// Whether no byte left, so that the same request may be sent once more.
fn is_unsent(event: &Event, kind: EventType) -> bool {
    kind == EventType::ActionFailed && event.data.get("sent").and_then(Value::as_bool) == Some(false)
}

fn folded(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

fn short(id: &str) -> Short {
    let mut short = [0; 12];
    short.iter_mut().zip(Sha256::digest(id)).for_each(|(to, from)| *to = from);
    short
}
