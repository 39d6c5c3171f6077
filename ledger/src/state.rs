//! What the writer checks every draft against: what is open, reserved, taken, allowed in advance or switched off.
//!
//! Changes are staged beside the published state and merged only once they are durable, so no reader ever sees a state
//! that a failed write takes back. Never touches the journal.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::budget::{Reserved, Window};
use crate::intent::Intent;
use crate::once::Taken;
use crate::passing::Passing;
use crate::principal::Principal;
use crate::standing::Standing;
use crate::switch::KillSwitches;

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
    /// What is reserved, by window.
    pub(crate) windows: Passing<Window>,
    /// Keys that are taken.
    pub(crate) taken: Passing<Taken>,
    /// Standing approvals by id.
    pub(crate) standings: Passing<Standing>,
    /// Kill switches that are on.
    pub(crate) switches: Arc<KillSwitches>,
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
    /// What its entry reserved, to be given back if nothing is sent.
    pub(crate) reserved: Vec<Reserved>,
    /// Keys that its entry took, to be free again if nothing is sent.
    pub(crate) taken: Vec<String>,
    /// Until when somebody else carries it out under an order: it is under way although the gate was gone.
    #[serde(default)]
    pub(crate) ordered_until: Option<Timestamp>,
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
    /// Windows as they are afterwards; `None` once nothing in them counts.
    pub(crate) windows: HashMap<String, Option<Window>>,
    /// Keys taken, or free again (`None`).
    pub(crate) taken: HashMap<String, Option<Taken>>,
    /// Standing approvals as they are afterwards; `None` if they cannot be used any more.
    pub(crate) standings: HashMap<String, Option<Standing>>,
    /// The kill switches that are on afterwards, if that changed.
    pub(crate) switches: Option<Arc<KillSwitches>>,
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
        self.windows.merge(&changes.windows);
        self.taken.merge(&changes.taken);
        self.standings.merge(&changes.standings);
        if let Some(switches) = &changes.switches {
            self.switches = Arc::clone(switches);
        }
    }

    /// Lets go of what time has ended, now and then, and says what that changes.
    pub(crate) fn sweep(&mut self, now: Timestamp) -> Changes {
        Changes {
            windows: self.windows.sweep(|window| window.over() <= now.as_second()),
            taken: self.taken.sweep(|taken| !taken.holds(now)),
            standings: self.standings.sweep(|standing| !standing.is_usable(now)),
            ..Changes::default()
        }
    }

    /// Forgets intents that are over, once the store has them. They cannot change any more.
    pub(crate) fn forget_settled(&mut self, stored: &Changes) {
        for (id, _) in stored.intents.iter().filter(|(_, intent)| intent.state.is_terminal()) {
            self.settled.remove(id);
        }
    }

    /// How many records of each kind there are.
    pub(crate) fn live(&self) -> [usize; 8] {
        [
            self.open.len(),
            self.executions.len(),
            self.agents.len(),
            self.operators.len(),
            self.windows.len(),
            self.taken.len(),
            self.standings.len(),
            self.switches.len(),
        ]
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
        self.windows.extend(later.windows);
        self.taken.extend(later.taken);
        self.standings.extend(later.standings);
        self.switches = later.switches.or(self.switches.take());
    }
}
