//! One submission on trial: every event of it can follow what was recorded before, or none of it is recorded.
//!
//! The compare-and-swap behind every decision: of two racing submissions the second is checked against what the first
//! changed. What the journal holds already has happened: replaying it follows the same steps but asks no limit again.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::append::AppendError;
use crate::budget::{Reservation, Reserved, Window};
use crate::event::Event;
use crate::intent::{self, Intent};
use crate::kind::{EventType, Kind};
use crate::once::{Once, Taken};
use crate::principal::{Principal, Role, Step};
use crate::standing::Standing;
use crate::state::{Book, Changes, Execution};
use crate::store::Store;
use crate::switch::KillSwitches;

/// One submission being checked: the book, what the batch changed so far, and what this submission changes.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    book: &'a Book,
    batch: &'a Changes,
    store: &'a Store,
    changes: Changes,
    limits: Limits,
}

/// Whether limits are asked: they are for what wants to happen, not for what has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limits {
    Asked,
    Passed,
}

// === impl Trial ===

impl<'a> Trial<'a> {
    /// A trial of one submission behind those already in the batch.
    pub(crate) fn new(book: &'a Book, batch: &'a Changes, store: &'a Store) -> Trial<'a> {
        Trial { book, batch, store, changes: Changes::default(), limits: Limits::Asked }
    }

    /// A trial of what the journal holds.
    pub(crate) fn replay(book: &'a Book, batch: &'a Changes, store: &'a Store) -> Trial<'a> {
        Trial { limits: Limits::Passed, ..Trial::new(book, batch, store) }
    }

    /// What the submission changes.
    pub(crate) fn changes(self) -> Changes {
        self.changes
    }

    /// Takes one event, or says why it cannot happen now.
    pub(crate) fn admit(&mut self, event: &Event) -> Result<(), AppendError> {
        let Kind::Known(kind) = event.kind else { return Ok(()) };
        self.move_intent(event, kind)?;
        let taken = self.take(event, kind)?;
        let reserved = self.reserve(event, kind)?;
        match kind {
            EventType::ActionExecuted | EventType::ActionFailed | EventType::ActionUnknown => self.close(event, kind),
            EventType::ActionExecuting => self.open(event, kind, reserved, taken),
            EventType::DecisionAllowed if event.intent_id.is_none() => self.open(event, kind, reserved, taken),
            EventType::AgentRegistered => self.principal(event, kind, Role::Agent, Step::Register),
            EventType::AgentResumed => self.principal(event, kind, Role::Agent, Step::Resume),
            EventType::AgentRevoked => self.principal(event, kind, Role::Agent, Step::Revoke),
            EventType::AgentSuspended => self.principal(event, kind, Role::Agent, Step::Suspend),
            EventType::OperatorAdded => self.principal(event, kind, Role::Operator, Step::Register),
            EventType::KillSwitchOff | EventType::KillSwitchOn => {
                let switched = self.switch(event, kind);
                self.unless_passed(switched)
            }
            EventType::OperatorRevoked => self.principal(event, kind, Role::Operator, Step::Revoke),
            EventType::StandingCreated | EventType::StandingRevoked | EventType::StandingUsed => {
                let changed = self.standing(event, kind);
                self.unless_passed(changed)
            }
            EventType::ActionRequested
            | EventType::ApprovalCancelled
            | EventType::ApprovalDenied
            | EventType::ApprovalExpired
            | EventType::ApprovalGranted
            | EventType::ApprovalVote
            | EventType::BudgetReserved
            | EventType::BudgetSettled
            | EventType::ConfigLoaded
            | EventType::ConfigRefused
            | EventType::DecisionAllowed
            | EventType::DecisionApprovalRequired
            | EventType::DecisionDenied
            | EventType::GateRecovered
            | EventType::GateStarted
            | EventType::GateStopped
            | EventType::LedgerCheckpoint
            | EventType::LedgerCreated
            | EventType::LedgerGap
            | EventType::LedgerKeyRotated
            | EventType::OperatorLogin
            | EventType::RequestRefused
            | EventType::Violation => Ok(()),
        }
    }

    fn move_intent(&mut self, event: &Event, kind: EventType) -> Result<(), AppendError> {
        let Some(id) = &event.intent_id else { return without_intent(kind) };
        if kind == EventType::ActionRequested {
            return self.announce(id);
        }
        if !intent::moves(kind) {
            return Ok(());
        }
        let before = self.intent(id)?;
        let opened = before.as_ref().map(|intent| intent.opened.seq);
        if let (Some(before), EventType::ApprovalCancelled | EventType::ApprovalExpired) = (&before, kind) {
            self.free(before);
        }
        let after = Intent::after(before, event, kind)?;
        self.changes.reopened.extend(opened.filter(|seq| *seq != after.opened.seq));
        self.changes.intents.insert(id.clone(), after);
        Ok(())
    }

    /// An announcement enters no state, but it must not reuse the id of an intent that exists.
    fn announce(&self, id: &str) -> Result<(), AppendError> {
        match self.intent(id)? {
            None => Ok(()),
            Some(intent) => Err(AppendError::Illegal {
                intent: id.to_owned(),
                state: Some(intent.state),
                event: EventType::ActionRequested,
            }),
        }
    }

    fn open(
        &mut self,
        event: &Event,
        kind: EventType,
        reserved: Vec<Reserved>,
        taken: Vec<String>,
    ) -> Result<(), AppendError> {
        self.check_switches(event)?;
        let correlation = correlation_of(event, kind)?;
        if self.execution(correlation).is_some() {
            return Err(AppendError::AlreadyExecuting { correlation: correlation.to_owned() });
        }
        let execution = Execution {
            correlation_id: correlation.to_owned(),
            intent_id: event.intent_id.clone(),
            run_id: event.run_id.clone(),
            agent_id: event.agent_id.clone(),
            action: event.action.clone(),
            dest_key: event.dest_key.clone(),
            reserved,
            taken,
            ordered_until: ordered_until(event),
        };
        self.changes.executions.insert(correlation.to_owned(), Some(execution));
        Ok(())
    }

    fn close(&mut self, event: &Event, kind: EventType) -> Result<(), AppendError> {
        let correlation = correlation_of(event, kind)?;
        let fits = self.execution(correlation).is_some_and(|execution| execution.intent_id == event.intent_id);
        // The state machine let this pass: a reviewer settles an unknown send, whose execution was closed as unknown.
        let settles = event.intent_id.is_some() && event.text("resolved_by").is_some();
        if !fits {
            let refused = || AppendError::NoExecution { correlation: correlation.to_owned(), event: kind };
            return settles.then_some(()).ok_or_else(refused);
        }
        if kind == EventType::ActionFailed && event.data.get("sent") == Some(&Value::Bool(false)) {
            self.give_back(correlation);
        }
        self.changes.executions.insert(correlation.to_owned(), None);
        Ok(())
    }

    /// It ends without anyone's word on it: the same may be asked for again.
    fn free(&mut self, intent: &Intent) {
        let listed = intent.opened.data.get("once").and_then(|list| Vec::<Once>::deserialize(list).ok());
        for Once { key, .. } in listed.into_iter().flatten() {
            if self.holder(&key).is_some_and(|holder| holder.intent_id.as_deref() == Some(&intent.id)) {
                self.changes.taken.insert(key, None);
            }
        }
    }

    /// Takes the keys that an event wants to be the only one for, and says which.
    fn take(&mut self, event: &Event, kind: EventType) -> Result<Vec<String>, AppendError> {
        let mut keys = Vec::new();
        for once in self.listed::<Once>(event, kind, "once")? {
            let first = self.holder(&once.key).filter(|holder| holder.holds(event.ts) && !holder.goes_on_in(event));
            if let (Some(first), Limits::Asked) = (first, self.limits) {
                return Err(AppendError::Duplicate { first: Box::new(first.clone()) });
            }
            keys.push(once.key.clone());
            self.changes.taken.insert(once.key.clone(), Some(Taken::by(event, once)));
        }
        Ok(keys)
    }

    /// Reserves what an event needs, and says where.
    fn reserve(&mut self, event: &Event, kind: EventType) -> Result<Vec<Reserved>, AppendError> {
        let mut all = Vec::new();
        for reservation in self.listed::<Reservation>(event, kind, "reserved")? {
            let slot = reservation.slot();
            let mut window = self.window(&slot).cloned().unwrap_or_else(|| Window::new(reservation.window_seconds));
            if let (Err(retry_after_seconds), Limits::Asked) = (window.fits(event.ts, &reservation), self.limits) {
                return Err(AppendError::OverBudget { key: reservation.key, retry_after_seconds });
            }
            all.push(window.reserve(event.ts, &reservation));
            self.changes.windows.insert(slot, Some(window));
        }
        Ok(all)
    }

    /// Nothing was sent: what the execution reserved and took is there for others again.
    fn give_back(&mut self, correlation: &str) {
        let Some(Execution { reserved, taken, .. }) = self.execution(correlation).cloned() else { return };
        for reserved in reserved {
            if let Some(mut window) = self.window(&reserved.slot).cloned() {
                window.give_back(&reserved);
                self.changes.windows.insert(reserved.slot, Some(window));
            }
        }
        for key in taken {
            // Its time may be over and the key somebody else's by now.
            if self.holder(&key).is_some_and(|holder| holder.correlation_id.as_deref() == Some(correlation)) {
                self.changes.taken.insert(key, None);
            }
        }
    }

    /// What an event lists under a name in its data. In the journal something else may stand there, from a time when the
    /// name meant nothing.
    fn listed<T: DeserializeOwned>(
        &self,
        event: &Event,
        kind: EventType,
        name: &'static str,
    ) -> Result<Vec<T>, AppendError> {
        let Some(list) = event.data.get(name) else { return Ok(Vec::new()) };
        match (Vec::deserialize(list), self.limits) {
            (Ok(list), _) => Ok(list),
            (Err(_), Limits::Asked) => Err(AppendError::Incomplete { event: kind, field: name }),
            (Err(_), Limits::Passed) => Ok(Vec::new()),
        }
    }

    fn check_switches(&self, event: &Event) -> Result<(), AppendError> {
        let hit = self.switches().hit(event.agent_id.as_deref(), event.dest_key.as_deref());
        match (hit, self.limits) {
            (Some(switch), Limits::Asked) => Err(AppendError::Killed { switch: Box::new(switch.clone()) }),
            (Some(_), Limits::Passed) | (None, _) => Ok(()),
        }
    }

    /// A refusal, unless it comes too late: then what was to be changed is left as it is.
    fn unless_passed(&self, result: Result<(), AppendError>) -> Result<(), AppendError> {
        match self.limits {
            Limits::Asked => result,
            Limits::Passed => Ok(()),
        }
    }

    fn switch(&mut self, event: &Event, kind: EventType) -> Result<(), AppendError> {
        let switches = self.switches();
        let on = kind == EventType::KillSwitchOn;
        let changed = if on { Some(switches.with(event)) } else { switches.without(event) };
        self.changes.switches = Some(Arc::new(changed.ok_or(AppendError::NotSwitchedOn)?));
        Ok(())
    }

    fn standing(&mut self, event: &Event, kind: EventType) -> Result<(), AppendError> {
        let id = event.text("standing").ok_or(AppendError::Incomplete { event: kind, field: "data.standing" })?;
        let before = self.standing_approval(id).filter(|standing| standing.is_usable(event.ts)).cloned();
        let after = if kind == EventType::StandingCreated {
            let given = Standing::given(id, event).map_err(|field| AppendError::Incomplete { event: kind, field })?;
            // An id that is in use stays what reviewers know it as.
            before.is_none().then_some(Some(given))
        } else if kind == EventType::StandingUsed {
            before.map(Standing::after_use)
        } else {
            before.map(|_| None)
        };
        let after = after.ok_or_else(|| AppendError::NoStanding { id: id.to_owned(), event: kind })?;
        self.changes.standings.insert(id.to_owned(), after);
        Ok(())
    }

    fn principal(&mut self, event: &Event, kind: EventType, role: Role, step: Step) -> Result<(), AppendError> {
        let (name, field) = match role {
            Role::Agent => (event.agent_id.as_deref(), "agent_id"),
            Role::Operator => (event.text("operator"), "data.operator"),
        };
        let name = name.ok_or(AppendError::Incomplete { event: kind, field })?;
        let (changes, batch, book) = match role {
            Role::Agent => (&mut self.changes.agents, &self.batch.agents, &self.book.agents),
            Role::Operator => (&mut self.changes.operators, &self.batch.operators, &self.book.operators),
        };
        let before = changes.get(name).or_else(|| batch.get(name)).or_else(|| book.get(name)).cloned();
        changes.insert(name.to_owned(), Principal::after(before, name, event, step)?);
        Ok(())
    }

    fn intent(&self, id: &str) -> Result<Option<Intent>, AppendError> {
        let staged = self.changes.intents.get(id).or_else(|| self.batch.intents.get(id));
        match staged.or_else(|| self.book.intent(id)) {
            Some(intent) => Ok(Some(intent.clone())),
            None => self.store.intent(id).map_err(|error| AppendError::Latched(error.to_string())),
        }
    }

    fn window(&self, slot: &str) -> Option<&Window> {
        let staged = self.changes.windows.get(slot).or_else(|| self.batch.windows.get(slot));
        staged.map_or_else(|| self.book.windows.get(slot), Option::as_ref)
    }

    fn holder(&self, key: &str) -> Option<&Taken> {
        let staged = self.changes.taken.get(key).or_else(|| self.batch.taken.get(key));
        staged.map_or_else(|| self.book.taken.get(key), Option::as_ref)
    }

    fn standing_approval(&self, id: &str) -> Option<&Standing> {
        let staged = self.changes.standings.get(id).or_else(|| self.batch.standings.get(id));
        staged.map_or_else(|| self.book.standings.get(id), Option::as_ref)
    }

    fn switches(&self) -> &KillSwitches {
        self.changes.switches.as_ref().or(self.batch.switches.as_ref()).unwrap_or(&self.book.switches)
    }

    fn execution(&self, correlation: &str) -> Option<&Execution> {
        let staged = self.changes.executions.get(correlation).or_else(|| self.batch.executions.get(correlation));
        staged.map_or_else(|| self.book.executions.get(correlation), Option::as_ref)
    }
}

/// Types that only make sense for an intent are refused without one; outcomes and decisions of live requests are not.
fn without_intent(kind: EventType) -> Result<(), AppendError> {
    let live = matches!(
        kind,
        EventType::ActionExecuted
            | EventType::ActionFailed
            | EventType::ActionUnknown
            | EventType::DecisionAllowed
            | EventType::DecisionDenied
    );
    let needed = kind == EventType::ActionRequested || intent::moves(kind);
    if needed && !live { Err(AppendError::Incomplete { event: kind, field: "intent_id" }) } else { Ok(()) }
}

/// Until when an order is good, if the event gives one.
fn ordered_until(event: &Event) -> Option<Timestamp> {
    event.data.get("order")?.get("expires_at")?.as_str()?.parse().ok()
}

fn correlation_of(event: &Event, kind: EventType) -> Result<&str, AppendError> {
    event.correlation_id.as_deref().ok_or(AppendError::Incomplete { event: kind, field: "correlation_id" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::chain::{Prepared, Stamp, seal};
    use crate::event::Draft;

    /// Refused when new; but what the journal of an older build holds must not keep a ledger from opening.
    #[test]
    fn limits_are_not_asked_of_what_has_happened() {
        let home = tempfile::tempdir().unwrap();
        let (store, book) = (Store::open(home.path()).unwrap(), Book::default());
        let live = Draft::new(EventType::DecisionAllowed).correlation("corr_1");
        for draft in [
            live.clone().with("once", "something else"),
            live.with("reserved", "something else"),
            Draft::new(EventType::KillSwitchOff),
            Draft::new(EventType::StandingCreated),
            Draft::new(EventType::StandingRevoked).with("standing", "std_1"),
            Draft::new(EventType::StandingUsed).with("standing", "std_1"),
        ] {
            let (prepared, stamp) = (Prepared::new(draft).unwrap(), Stamp::new(Timestamp::UNIX_EPOCH));
            assert!(Batch::behind(None).add(&book, &store, &stamp, vec![prepared.clone()]).is_err());
            let mut entry = seal(None, &stamp, prepared).unwrap();
            entry.event = serde_json::from_str(&entry.line).unwrap();
            Batch::behind(None).replay(&book, &store, entry).unwrap();
        }
    }
}
