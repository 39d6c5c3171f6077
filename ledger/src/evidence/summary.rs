//! What the lines of a bundle amount to, for a person: derived, so that a verifier derives it again.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;

use super::manifest::{Entries, Manifest};
use super::{Scope, page};
use crate::event::Event;
use crate::kind::{EventType, Kind};

/// The content of `summary.json`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) entries: Entries,
    pub(super) origin: String,
    pub(super) requests: Vec<Request>,
    pub(super) requests_total: u64,
    pub(super) root: String,
    pub(super) scope: Scope,
    pub(super) size: u64,
    pub(super) types: BTreeMap<String, u64>,
}

/// What became of one request.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Request {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<String>,
    pub(super) correlation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    pub(super) ts: String,
    pub(super) votes: Vec<String>,
}

/// A summary in the making.
#[derive(Debug, Default)]
pub(super) struct Tally {
    types: BTreeMap<String, u64>,
    /// Place in `requests` by correlation id.
    places: HashMap<String, usize>,
    requests: Vec<Request>,
}

// === impl Tally ===

impl Tally {
    /// Counts the next event in.
    pub(super) fn take(&mut self, event: &Event) {
        if let Some(count) = self.types.get_mut(event.kind.as_str()) {
            *count += 1;
        } else {
            self.types.insert(event.kind.to_string(), 1);
        }
        let Some(correlation) = &event.correlation_id else { return };
        if !self.places.contains_key(correlation) && self.requests.len() < MAX_REQUESTS {
            self.places.insert(correlation.clone(), self.requests.len());
            let request = Request { correlation: correlation.clone(), ts: event.ts_text(), ..Request::default() };
            self.requests.push(request);
        }
        if let Some(request) = self.places.get(correlation).and_then(|place| self.requests.get_mut(*place)) {
            request.take(event);
        }
    }

    /// The summary of everything that was counted in.
    pub(super) fn finish(&self, manifest: &Manifest, requests_total: u64) -> Summary {
        Summary {
            entries: manifest.entries,
            origin: manifest.origin.clone(),
            requests: self.requests.clone(),
            requests_total,
            root: manifest.root.clone(),
            scope: manifest.scope.clone(),
            size: manifest.size,
            types: self.types.clone(),
        }
    }
}

// === impl Request ===

impl Request {
    fn take(&mut self, event: &Event) {
        let first = |place: &mut Option<String>, found: &Option<String>| {
            if place.is_none() {
                place.clone_from(found);
            }
        };
        first(&mut self.action, &event.action);
        first(&mut self.agent, &event.agent_id);
        first(&mut self.destination, &event.dest_key);
        first(&mut self.intent, &event.intent_id);
        first(&mut self.target, &target(event));
        if event.kind.as_str().starts_with("decision.") {
            self.decision = Some(event.kind.to_string());
        }
        if ends(&event.kind) {
            self.outcome = Some(event.kind.to_string());
            self.status = event.data.get("status").and_then(Value::as_i64);
        }
        if event.kind == Kind::Known(EventType::ApprovalVote) {
            let text = |key| event.text(key).unwrap_or_default();
            self.votes.push(format!("{} {}", text("operator"), text("verdict")));
        }
    }
}

// === impl Summary ===

impl Summary {
    /// `summary.json` and `summary.html`.
    pub(super) fn files(&self) -> Result<(Vec<u8>, String), serde_json::Error> {
        Ok((serde_json_canonicalizer::to_vec(self)?, page::page(&serde_json::to_value(self)?)))
    }
}

fn target(event: &Event) -> Option<String> {
    Some(format!("{} {}{}", event.text("method")?, event.text("authority")?, event.text("path")?))
}

/// Whether a request can be over with this.
fn ends(kind: &Kind) -> bool {
    const ENDS: [EventType; 6] = [
        EventType::ActionExecuted,
        EventType::ActionFailed,
        EventType::ActionUnknown,
        EventType::ApprovalCancelled,
        EventType::ApprovalDenied,
        EventType::ApprovalExpired,
    ];
    ENDS.iter().any(|end| *kind == Kind::Known(*end))
}

/// Requests that are listed one by one.
const MAX_REQUESTS: usize = 1000;
