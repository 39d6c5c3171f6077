//! Kill switches: who may do nothing and where nothing may be done, until somebody says otherwise.
//!
//! The writer itself refuses to authorise what a switch is on for, so nothing decided before slips through after it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::Event;

/// A switch that is on. It is on for requests that match all it names; one that names nothing is on for everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KillSwitch {
    /// The agent it is on for.
    pub agent: Option<String>,
    /// Key of the destination it is on for.
    pub destination: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Data of the event that turned it on.
    pub data: Map<String, Value>,
}

/// All switches that are on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KillSwitches(Vec<KillSwitch>);

// === impl KillSwitches ===

impl KillSwitches {
    /// The switch that is on for what `agent` does at `destination`, if there is one.
    pub fn hit(&self, agent: Option<&str>, destination: Option<&str>) -> Option<&KillSwitch> {
        let covers = |named: &Option<String>, found: Option<&str>| named.is_none() || named.as_deref() == found;
        self.0.iter().find(|switch| covers(&switch.agent, agent) && covers(&switch.destination, destination))
    }

    /// Every switch, in the order they were turned on.
    pub fn iter(&self) -> impl Iterator<Item = &KillSwitch> {
        self.0.iter()
    }

    /// Whether no switch is on.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many are on.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The switches after `event` turned one on. One that is on already stays on, with the newer reason.
    pub(crate) fn with(&self, event: &Event) -> KillSwitches {
        let mut switches = self.others(event);
        switches.push(KillSwitch {
            agent: event.agent_id.clone(),
            destination: event.dest_key.clone(),
            since: event.ts,
            data: event.data.clone(),
        });
        KillSwitches(switches)
    }

    /// The switches after `event` turned one off; `None` if that one is not on.
    pub(crate) fn without(&self, event: &Event) -> Option<KillSwitches> {
        let others = self.others(event);
        (others.len() < self.0.len()).then_some(KillSwitches(others))
    }

    fn others(&self, event: &Event) -> Vec<KillSwitch> {
        self.0.iter().filter(|switch| !switch.is_of(event)).cloned().collect()
    }
}

// === impl KillSwitch ===

impl KillSwitch {
    /// What it is on for, in words.
    pub fn scope(&self) -> String {
        match (&self.agent, &self.destination) {
            (None, None) => "everything".to_owned(),
            (Some(agent), None) => format!("agent `{agent}`"),
            (None, Some(destination)) => format!("destination `{destination}`"),
            (Some(agent), Some(destination)) => format!("agent `{agent}` at destination `{destination}`"),
        }
    }

    fn is_of(&self, event: &Event) -> bool {
        self.agent == event.agent_id && self.destination == event.dest_key
    }
}
