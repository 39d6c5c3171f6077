//! What the writer checks every draft against: open intents, open executions, agents and operators.
//!
//! Changes are staged beside the published state and merged only once they are durable, so no reader ever sees a state
//! that a failed write takes back. Never touches the journal.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::append::AppendError;
use crate::event::Event;
use crate::intent::{self, Intent};
use crate::kind::{EventType, Kind};
use crate::principal::{Principal, Role, Step};
use crate::store::Store;

/// The published state. Holds what is open; what is settled is looked up in the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    /// Intents that can still move, by id.
    pub(crate) open: HashMap<String, Intent>,
    /// Intents that are over but not yet in the store.
    pub(crate) settled: HashMap<String, Intent>,
    /// Authorised sends without an outcome, by correlation id.
    pub(crate) executions: HashMap<String, Execution>,
    /// Agents by name.
    pub(crate) agents: BTreeMap<String, Principal>,
    /// Operators by name.
    pub(crate) operators: BTreeMap<String, Principal>,
}

/// An authorised send whose outcome is not yet recorded, with what its outcome must repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Execution {
    pub(crate) correlation_id: String,
    pub(crate) intent_id: Option<String>,
    pub(crate) run_id: Option<String>,
    pub(crate) agent_id: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) dest_key: Option<String>,
}

/// What a batch changes in the book.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Intents as they are afterwards.
    pub(crate) intents: HashMap<String, Intent>,
    /// Openings that were replaced by a later one.
    pub(crate) reopened: Vec<u64>,
    /// Executions opened (`Some`) or closed (`None`).
    pub(crate) executions: HashMap<String, Option<Execution>>,
    /// Agents as they are afterwards.
    pub(crate) agents: BTreeMap<String, Principal>,
    /// Operators as they are afterwards.
    pub(crate) operators: BTreeMap<String, Principal>,
}

/// One submission being checked: the book, what the batch changed so far, and what this submission changes.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    book: &'a Book,
    batch: &'a Changes,
    store: &'a Store,
    changes: Changes,
}

// === impl Book ===

impl Book {
    /// Takes over what has become durable.
    pub(crate) fn merge(&mut self, changes: &Changes) {
        for (id, intent) in &changes.intents {
            if intent.state.is_terminal() {
                self.open.remove(id);
                self.settled.insert(id.clone(), intent.clone());
            } else {
                self.open.insert(id.clone(), intent.clone());
            }
        }
        for (correlation, execution) in &changes.executions {
            match execution {
                None => drop(self.executions.remove(correlation)),
                Some(execution) => drop(self.executions.insert(correlation.clone(), execution.clone())),
            }
        }
        self.agents.extend(changes.agents.clone());
        self.operators.extend(changes.operators.clone());
    }

    /// Forgets intents that are over, once the store has them. They cannot change any more.
    pub(crate) fn forget_settled(&mut self, stored: &Changes) {
        for (id, _) in stored.intents.iter().filter(|(_, intent)| intent.state.is_terminal()) {
            self.settled.remove(id);
        }
    }

    /// How many open intents, executions, agents and operators there are.
    pub(crate) fn live(&self) -> [usize; 4] {
        [self.open.len(), self.executions.len(), self.agents.len(), self.operators.len()]
    }

    /// An intent held in memory.
    pub(crate) fn intent(&self, id: &str) -> Option<&Intent> {
        self.open.get(id).or_else(|| self.settled.get(id))
    }
}

// === impl Changes ===

impl Changes {
    /// Adds what a later submission changes.
    pub(crate) fn absorb(&mut self, later: Changes) {
        self.intents.extend(later.intents);
        self.reopened.extend(later.reopened);
        self.executions.extend(later.executions);
        self.agents.extend(later.agents);
        self.operators.extend(later.operators);
    }
}

// === impl Trial ===

impl<'a> Trial<'a> {
    /// A trial of one submission behind those already in the batch.
    pub(crate) fn new(book: &'a Book, batch: &'a Changes, store: &'a Store) -> Trial<'a> {
        Trial { book, batch, store, changes: Changes::default() }
    }

    /// What the submission changes.
    pub(crate) fn changes(self) -> Changes {
        self.changes
    }

    /// Takes one event, or says why it cannot happen now. This is the compare-and-swap behind every decision: of two
    /// racing submissions the second is checked against what the first changed.
    pub(crate) fn admit(&mut self, event: &Event) -> Result<(), AppendError> {
        let Kind::Known(kind) = event.kind else { return Ok(()) };
        self.move_intent(event, kind)?;
        match kind {
            EventType::ActionExecuted | EventType::ActionFailed | EventType::ActionUnknown => self.close(event, kind),
            EventType::ActionExecuting => self.open(event, kind),
            EventType::DecisionAllowed if event.intent_id.is_none() => self.open(event, kind),
            EventType::AgentRegistered => self.principal(event, kind, Role::Agent, Step::Register),
            EventType::AgentResumed => self.principal(event, kind, Role::Agent, Step::Resume),
            EventType::AgentRevoked => self.principal(event, kind, Role::Agent, Step::Revoke),
            EventType::AgentSuspended => self.principal(event, kind, Role::Agent, Step::Suspend),
            EventType::OperatorAdded => self.principal(event, kind, Role::Operator, Step::Register),
            EventType::OperatorRevoked => self.principal(event, kind, Role::Operator, Step::Revoke),
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
            | EventType::KillSwitchOff
            | EventType::KillSwitchOn
            | EventType::LedgerCheckpoint
            | EventType::LedgerCreated
            | EventType::LedgerGap
            | EventType::LedgerKeyRotated
            | EventType::OperatorLogin
            | EventType::RequestRefused
            | EventType::StandingCreated
            | EventType::StandingRevoked
            | EventType::StandingUsed
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

    fn open(&mut self, event: &Event, kind: EventType) -> Result<(), AppendError> {
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
        };
        self.changes.executions.insert(correlation.to_owned(), Some(execution));
        Ok(())
    }

    fn close(&mut self, event: &Event, kind: EventType) -> Result<(), AppendError> {
        let correlation = correlation_of(event, kind)?;
        let fits = self.execution(correlation).is_some_and(|execution| execution.intent_id == event.intent_id);
        // The state machine let this pass: a reviewer settles an unknown send, whose execution was closed as unknown.
        let settles = event.intent_id.is_some() && event.text("resolved_by").is_some();
        match (fits, settles) {
            (true, _) => drop(self.changes.executions.insert(correlation.to_owned(), None)),
            (false, true) => {}
            (false, false) => {
                return Err(AppendError::NoExecution { correlation: correlation.to_owned(), event: kind });
            }
        }
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

fn correlation_of(event: &Event, kind: EventType) -> Result<&str, AppendError> {
    event.correlation_id.as_deref().ok_or(AppendError::Incomplete { event: kind, field: "correlation_id" })
}
