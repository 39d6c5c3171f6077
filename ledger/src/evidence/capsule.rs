//! A proof capsule: decisions and executions as one JSON file in ProofGuard's shape (`proofguard-1.0`), for tools that read
//! that, with Writ's own entries and proof inside.
//!
//! Everything in it follows from the lines, so checking one makes it again and compares. Nothing is dropped: an execution
//! without a decision, or a second one, stands there as what it is.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::Scope;
use crate::event::{Event, sha256_hex};
use crate::kind::{EventType, Kind};

/// What is told besides the lines.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// The checkpoint, as a note.
    pub(super) checkpoint: String,
    /// The cover of the lines in the checkpoint's tree, one hash a line.
    pub(super) cover: String,
    pub(super) scope: Scope,
}

/// A capsule in the making.
#[derive(Debug, Default)]
struct Maker {
    prev_hash: Option<String>,
    hashes: Vec<String>,
    /// Decisions, each with its executions.
    decisions: Vec<(Value, Vec<Value>)>,
    /// Executions without a decision.
    orphans: Vec<Value>,
    /// The decision that the next outcome belongs to, by intent or correlation.
    passed: HashMap<String, usize>,
    context: Vec<Value>,
    anomalies: Vec<Value>,
    last: String,
}

/// The capsule of lines in order, which have been read before.
pub(super) fn make(events: impl Iterator<Item = Event>, frame: &Frame) -> Value {
    let mut maker = Maker::default();
    events.for_each(|event| maker.take(&event));
    maker.finish(frame)
}

/// What a capsule holds besides what follows from it: its lines, in order, and its frame.
pub(super) fn open(capsule: &Value) -> Option<(Vec<Value>, Frame)> {
    let writ = capsule.get("writ")?;
    let text = |key: &str| writ.get(key)?.as_str().map(str::to_owned);
    let scope = serde_json::from_value(writ.get("scope")?.clone()).ok()?;
    let frame = Frame { checkpoint: text("checkpoint")?, cover: text("cover")?, scope };
    let mut events = writ.get("context")?.as_array()?.clone();
    for pair in capsule.get("pairs")?.as_array()? {
        for side in ["decision", "execution"] {
            events.extend(pair.get(side)?.get("writ").cloned());
        }
    }
    events.sort_by_key(|event| event.get("seq").and_then(Value::as_u64));
    // A decision stands in a pair for each of its executions.
    events.dedup();
    Some((events, frame))
}

/// The capsule as it is written: one spelling, so that a file is a capsule byte for byte or not at all.
pub(super) fn text(capsule: &Value) -> String {
    format!("{capsule:#}\n")
}

// === impl Maker ===

impl Maker {
    fn take(&mut self, event: &Event) {
        self.last = event.ts_text();
        match (judgment(&event.kind), success(&event.kind)) {
            (Some(judgment), _) => self.decide(event, judgment),
            (None, Some(success)) => self.execute(event, success),
            (None, None) => self.context.push(plain(event)),
        }
        if event.kind == Kind::Known(EventType::Violation) {
            let text = |key| event.text(key).unwrap_or_default();
            self.anomalies.push(json!({
                "anomaly_flag": true,
                "decision_id": event.correlation_id,
                "detail": text("detail"),
                "severity": text("severity").to_uppercase(),
                "timestamp": self.last,
                "violation_type": text("kind").to_uppercase(),
            }));
        }
    }

    fn decide(&mut self, event: &Event, judgment: &str) {
        let entry = json!({
            "actor": actor(event),
            "artifact_hash": sha256_hex(format!("{judgment}:").as_bytes()),
            "authority_id": null,
            "decision_id": id(event),
            "input_hash": data_hash(event),
            "judgment_result": judgment,
            "timestamp": self.last,
            "token_id": null,
            "type": "decision",
        });
        if let (PASS, Some(key)) = (judgment, key(event)) {
            self.passed.insert(key, self.decisions.len());
        }
        let entry = self.chained(entry, event);
        self.decisions.push((entry, Vec::new()));
    }

    fn execute(&mut self, event: &Event, success: bool) {
        let decision = key(event).and_then(|key| self.passed.get(&key)).copied();
        let decision_id = decision.and_then(|at| self.decisions.get(at)?.0.get("decision_id")?.as_str());
        if decision.is_none() {
            self.anomalies.push(json!({
                "anomaly_flag": true,
                "decision_id": "",
                "detail": format!("entry {}", event.seq),
                "severity": "CRITICAL",
                "timestamp": self.last,
                "violation_type": "EXECUTION_WITHOUT_DECISION",
            }));
        }
        let error = (!success).then(|| event.text("reason").unwrap_or(event.kind.as_str()));
        let entry = json!({
            "actor": actor(event),
            "decision_id": decision_id.unwrap_or_default(),
            "error_message": error,
            "execution_id": id(event),
            "result_hash": data_hash(event),
            "success": success,
            "timestamp": self.last,
            "type": "execution",
        });
        let entry = self.chained(entry, event);
        match decision.and_then(|at| self.decisions.get_mut(at)) {
            Some((_, executions)) => executions.push(entry),
            None => self.orphans.push(entry),
        }
    }

    /// The entry in ProofGuard's chain, with the event it was made from inside its hash.
    fn chained(&mut self, mut entry: Value, event: &Event) -> Value {
        if let Value::Object(members) = &mut entry {
            let genesis = || "genesis".to_owned();
            members.insert("prev_hash".to_owned(), self.prev_hash.clone().unwrap_or_else(genesis).into());
            members.insert("writ".to_owned(), plain(event));
            let hash = sha256_hex(Value::Object(members.clone()).to_string().as_bytes());
            members.insert("entry_hash".to_owned(), hash.as_str().into());
            self.hashes.push(hash.clone());
            self.prev_hash = Some(hash);
        }
        entry
    }

    fn finish(self, frame: &Frame) -> Value {
        let Maker { hashes, decisions, orphans, context, anomalies, last, .. } = self;
        let total_decisions = decisions.len();
        let pair = |decision: &Value, execution: Value| json!({"decision": decision, "execution": execution});
        let mut pairs = Vec::new();
        for (decision, executions) in decisions {
            let executions = if executions.is_empty() { vec![Value::Null] } else { executions };
            pairs.extend(executions.into_iter().map(|execution| pair(&decision, execution)));
        }
        pairs.extend(orphans.into_iter().map(|execution| pair(&Value::Null, execution)));
        json!({
            "anomalies": anomalies,
            "exported_at": last,
            "ledger_root_hash": sha256_hex(hashes.join("|").as_bytes()),
            "pairs": pairs,
            "schema_version": SCHEMA,
            "total_decisions": total_decisions,
            "total_entries": hashes.len(),
            "total_executions": hashes.len() - total_decisions,
            "writ": {
                "checkpoint": frame.checkpoint, "context": context, "cover": frame.cover, "scope": frame.scope,
            },
        })
    }
}

/// ProofGuard's word for a decision; `None` for what is none.
fn judgment(kind: &Kind) -> Option<&'static str> {
    const JUDGMENTS: [(EventType, &str); 7] = [
        (EventType::ActionExecuting, PASS),
        (EventType::ApprovalCancelled, "STOP"),
        (EventType::ApprovalDenied, "STOP"),
        (EventType::ApprovalExpired, "STOP"),
        (EventType::DecisionAllowed, PASS),
        (EventType::DecisionApprovalRequired, "HOLD"),
        (EventType::DecisionDenied, "STOP"),
    ];
    JUDGMENTS.iter().find(|(known, _)| *kind == Kind::Known(*known)).map(|(_, judgment)| *judgment)
}

/// Whether an execution succeeded; `None` for what is none.
fn success(kind: &Kind) -> Option<bool> {
    const SUCCESSES: [(EventType, bool); 3] =
        [(EventType::ActionExecuted, true), (EventType::ActionFailed, false), (EventType::ActionUnknown, false)];
    SUCCESSES.iter().find(|(known, _)| *kind == Kind::Known(*known)).map(|(_, success)| *success)
}

/// What decision and execution have in common.
fn key(event: &Event) -> Option<String> {
    event.intent_id.clone().or_else(|| event.correlation_id.clone())
}

fn actor(event: &Event) -> &str {
    event.agent_id.as_deref().unwrap_or("unknown")
}

fn id(event: &Event) -> String {
    format!("writ-{}", event.seq)
}

/// SHA-256 over the event's data, as ProofGuard spells JSON: names in order, no white space, UTF-8.
fn data_hash(event: &Event) -> String {
    sha256_hex(Value::Object(event.data.clone()).to_string().as_bytes())
}

/// The event as JSON.
fn plain(event: &Event) -> Value {
    // An event that was read is written again as it was.
    serde_json::to_value(event).unwrap_or_else(|_| Value::Object(Map::new()))
}

/// The judgment under which something may be executed.
const PASS: &str = "PASS";

/// Version of the shape.
pub(super) const SCHEMA: &str = "proofguard-1.0";
