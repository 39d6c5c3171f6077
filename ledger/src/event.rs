//! One entry of the ledger: what a caller drafts, what the journal holds, and the canonical bytes between them.
//!
//! Never writes anything and never decides whether an event may happen; it only says what an event *is*.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use crate::budget::Reservation;
use crate::kind::{EventType, Kind};
use crate::once::Once;

/// An event that a caller wants recorded. The writer adds version, number, time and the hashes.
///
/// Carries facts and digests only: never a secret, its hash, a parameter's value or a body.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What is recorded.
    pub kind: EventType,
    /// `corr_…` of the request this belongs to.
    pub correlation_id: Option<String>,
    /// `int_…` of the intent this belongs to.
    pub intent_id: Option<String>,
    /// The run the agent claims to be in.
    pub run_id: Option<String>,
    /// The authenticated agent.
    pub agent_id: Option<String>,
    /// What the request does, in the words of the caller.
    pub action: Option<String>,
    /// Key of the destination, for example `stripe.refunds`.
    pub dest_key: Option<String>,
    /// Everything else. No floats, no integers beyond ±2^53.
    pub data: Map<String, Value>,
}

/// One entry as the journal holds it. Serializes to the canonical object of its line.
///
/// The fields are in the order of RFC 8785, which sorts names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What the request does, in the words of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The authenticated agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// `corr_…` of the request this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Everything else; always present, possibly empty.
    pub data: Map<String, Value>,
    /// Key of the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_key: Option<String>,
    /// SHA-256 in lower-case hexadecimal over the canonical event without this field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub entry_hash: String,
    /// `int_…` of the intent this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent_id: Option<String>,
    /// `entry_hash` of the entry before; 64 zeros in entry 0.
    pub prev_hash: String,
    /// The run the agent claims to be in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Position in the ledger, from 0, without gaps.
    pub seq: u64,
    /// When it was recorded: RFC 3339, UTC, six digits of a second; never before the entry before.
    #[serde(serialize_with = "microseconds")]
    pub ts: Timestamp,
    /// What is recorded.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Version of the format.
    pub v: u64,
}

/// The members of an event whose names sort before `entry_hash`, in order. `data` is always there.
#[derive(Serialize)]
struct Front<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    action: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: &'a Option<String>,
    data: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest_key: &'a Option<String>,
}

// === impl Draft ===

impl Draft {
    /// A draft with nothing but its type.
    pub fn new(kind: EventType) -> Draft {
        Draft {
            kind,
            correlation_id: None,
            intent_id: None,
            run_id: None,
            agent_id: None,
            action: None,
            dest_key: None,
            data: Map::new(),
        }
    }

    /// Sets the correlation id.
    #[must_use]
    pub fn correlation(mut self, id: impl Into<String>) -> Draft {
        self.correlation_id = Some(id.into());
        self
    }

    /// Sets the intent id.
    #[must_use]
    pub fn intent(mut self, id: impl Into<String>) -> Draft {
        self.intent_id = Some(id.into());
        self
    }

    /// Sets the run id.
    #[must_use]
    pub fn run(mut self, id: impl Into<String>) -> Draft {
        self.run_id = Some(id.into());
        self
    }

    /// Sets the agent.
    #[must_use]
    pub fn agent(mut self, id: impl Into<String>) -> Draft {
        self.agent_id = Some(id.into());
        self
    }

    /// Sets the action.
    #[must_use]
    pub fn action(mut self, action: impl Into<String>) -> Draft {
        self.action = Some(action.into());
        self
    }

    /// Sets the destination key.
    #[must_use]
    pub fn destination(mut self, key: impl Into<String>) -> Draft {
        self.dest_key = Some(key.into());
        self
    }

    /// Adds one member to the data, replacing an earlier one of the same name.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Draft {
        self.data.insert(key.into(), value.into());
        self
    }

    /// Makes the entry one that is only recorded if each reservation fits into its budget, and takes them. They are given
    /// back if the execution this entry opens fails unsent.
    #[must_use]
    pub fn reserving(self, reservations: &[Reservation]) -> Draft {
        self.listing("reserved", reservations)
    }

    /// Makes the entry one that is only recorded if none of the keys is taken, and takes them. They are free again if the
    /// execution this entry opens fails unsent.
    #[must_use]
    pub fn once(self, keys: &[Once]) -> Draft {
        self.listing("once", keys)
    }

    fn listing<T: Serialize>(self, name: &str, things: &[T]) -> Draft {
        // Both kinds are plain records of texts and numbers, which always are JSON.
        if things.is_empty() { self } else { self.with(name, serde_json::to_value(things).unwrap_or_default()) }
    }

    /// The canonical line up to where `entry_hash` goes.
    pub(crate) fn front(&self) -> Result<String, serde_json::Error> {
        let Draft { action, agent_id, correlation_id, data, dest_key, .. } = self;
        let front = Front { action, agent_id, correlation_id, data, dest_key };
        let mut text = match is_plain_object(data, MAX_DEPTH) {
            false => serde_json_canonicalizer::to_string(&front)?,
            true => serde_json::to_string(&front)?,
        };
        // The brace that ends it: the line goes on.
        text.pop();
        text.reserve(BACK_BYTES);
        Ok(text)
    }

    /// Lets go of data that no state depends on. A live request's is large and, once written into the line, would only be
    /// carried from thread to thread.
    pub(crate) fn forget_unread(&mut self) {
        let live = matches!(
            self.kind,
            EventType::ActionExecuted
                | EventType::ActionFailed
                | EventType::ActionUnknown
                | EventType::DecisionAllowed
                | EventType::DecisionDenied
                | EventType::RequestRefused
                | EventType::Violation
        );
        if live && self.intent_id.is_none() {
            self.data.retain(|name, _| matches!(name.as_str(), "once" | "reserved" | "sent"));
        }
    }
}

// === impl Event ===

impl Event {
    /// A text of the data, if there is one of that name.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key).and_then(Value::as_str)
    }

    /// Its time as its line has it.
    pub(crate) fn ts_text(&self) -> String {
        format_ts(self.ts)
    }

    /// The canonical JSON (RFC 8785) of this event: its line in the journal, without the newline.
    pub(crate) fn canonical(&self) -> Result<String, serde_json::Error> {
        // The general canonicalizer takes several times as long: it buffers and sorts every object, also those in order.
        match is_plain(self) {
            false => serde_json_canonicalizer::to_string(self),
            true => serde_json::to_string(self),
        }
    }
}

/// Says what in `data` the format cannot hold exactly, if anything, as the path to it.
///
/// RFC 8785 writes numbers as IEEE 754 doubles: a float or a larger integer would not come back as it went in, and an
/// auditor's other implementation might print it differently.
pub(crate) fn unrepresentable(data: &Map<String, Value>) -> Option<String> {
    data.iter().find_map(|(key, value)| unrepresentable_value(key, value, MAX_DEPTH))
}

/// Whether `serde_json` writes the event as RFC 8785 wants it. Strings it escapes in the same way; integers it writes as
/// the doubles they are up to 2^53; what may differ is the order of names, by UTF-16 units, which is byte order for ASCII.
fn is_plain(event: &Event) -> bool {
    event.seq <= MAX_INTEGER && event.v <= MAX_INTEGER && is_plain_object(&event.data, MAX_DEPTH)
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// `data` with the number and time of its event, as the views keep it. The format's own names win.
pub(crate) fn stamped(event: &Event) -> Map<String, Value> {
    let mut data = event.data.clone();
    data.insert("seq".to_owned(), Value::from(event.seq));
    data.insert("ts".to_owned(), Value::from(format_ts(event.ts)));
    data
}

fn unrepresentable_value(key: &str, value: &Value, depth: usize) -> Option<String> {
    let Some(depth) = depth.checked_sub(1) else { return Some(key.to_owned()) };
    match value {
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            unrepresentable_value(&format!("[{index}]"), item, depth).map(|path| format!("{key}{path}"))
        }),
        Value::Bool(_) | Value::Null | Value::String(_) => None,
        Value::Number(number) => (!is_exact(number)).then(|| key.to_owned()),
        Value::Object(members) => members
            .iter()
            .find_map(|(name, item)| unrepresentable_value(name, item, depth).map(|path| format!("{key}.{path}"))),
    }
}

fn is_plain_value(value: &Value, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    match value {
        Value::Array(items) => items.iter().all(|item| is_plain_value(item, depth)),
        Value::Bool(_) | Value::Null | Value::String(_) => true,
        Value::Number(number) => is_exact(number),
        Value::Object(members) => is_plain_object(members, depth),
    }
}

fn is_plain_object(members: &Map<String, Value>, depth: usize) -> bool {
    members.keys().is_sorted() && members.iter().all(|(name, value)| name.is_ascii() && is_plain_value(value, depth))
}

fn is_exact(number: &Number) -> bool {
    number.as_i64().is_some_and(|n| n.unsigned_abs() <= MAX_INTEGER)
}

fn microseconds<S: Serializer>(ts: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_ts(*ts))
}

pub(crate) fn format_ts(ts: Timestamp) -> String {
    format!("{ts:.6}")
}

/// Version of the format that this build writes and the only one it verifies.
pub(crate) const VERSION: u64 = 1;

/// Largest magnitude of an integer that a double holds together with all smaller ones.
const MAX_INTEGER: u64 = 1 << 53;

/// What a line usually needs from `entry_hash` on.
const BACK_BYTES: usize = 400;

/// Nesting allowed inside `data`; well under the 128 levels at which JSON parsers, ours included, give up.
const MAX_DEPTH: usize = 32;
