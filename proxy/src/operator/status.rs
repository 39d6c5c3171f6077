//! Everything about the gate that fits on one screen, as a document.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use jiff::Timestamp;
use ledger::{EventType, Figures, Past, State};
use serde_json::{Value, json};

use super::{Fault, internal};
use crate::gate::Gate;
use crate::health;
use crate::principal::{Kind, Standing};

/// How the gate is doing and what it did last.
pub(super) async fn status(Shared(gate): Shared<Arc<Gate>>) -> Result<Json<Value>, Fault> {
    let looked = tokio::task::spawn_blocking(move || look(&gate)).await;
    looked.map_err(|error| internal(&error))?.map(Json).map_err(|error| internal(&error))
}

fn look(gate: &Gate) -> Result<Value, ledger::ReadError> {
    let decided: Vec<Value> = gate.metrics.decisions().into_iter().map(decisions).collect();
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "since": gate.opened.to_string(),
        "now": Timestamp::now().to_string(),
        "health": health::document(&health::ailments(gate)),
        "doors": gate.doors().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "agents": standings(gate, Kind::Agent),
        "operators": standings(gate, Kind::Operator),
        "intents": intents(gate),
        "open": {"connections": gate.metrics.connections(), "tunnels": gate.metrics.tunnels()},
        "decided": decided,
        "last": last(gate)?,
        "ledger": ledger(gate),
        "rules": rules(gate),
    }))
}

fn decisions((agent, destination, [allow, hold, deny]): (String, String, [u64; 3])) -> Value {
    json!({"agent": agent, "destination": destination, "allow": allow, "hold": hold, "deny": deny})
}

fn standings(gate: &Gate, kind: Kind) -> Value {
    let all = gate.principals.list(kind);
    let count = |standing| all.iter().filter(|each| each.standing == standing).count();
    let (active, suspended) = (count(Standing::Active), count(Standing::Suspended));
    json!({"active": active, "suspended": suspended, "revoked": count(Standing::Revoked)})
}

fn intents(gate: &Gate) -> Value {
    let open = gate.ledger.intents(&[State::Held, State::Unknown], usize::MAX);
    let waiting = open.iter().filter(|intent| intent.state == State::Held);
    let oldest = waiting.clone().map(|intent| intent.opened.ts).min();
    let waits = waiting.count();
    json!({"waiting": waits, "oldest": oldest.map(|since| since.to_string()), "unknown": open.len() - waits})
}

/// The newest decisions, newest first.
fn last(gate: &Gate) -> Result<Vec<Value>, ledger::ReadError> {
    let kinds = vec![EventType::DecisionAllowed, EventType::DecisionApprovalRequired, EventType::DecisionDenied];
    let page = gate.ledger.past(&Past { kinds, limit: SHOWN, ..Past::default() })?;
    let parsed = page.lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let shown = parsed.map(|event| {
        let text = |key: &str| event.get(key).cloned().unwrap_or_default();
        json!({"ts": text("ts"), "type": text("type"), "agent": text("agent_id"), "action": text("action"), "destination": text("dest_key")})
    });
    Ok(shown.collect())
}

fn ledger(gate: &Gate) -> Value {
    let (head, figures) = (gate.ledger.head(), gate.ledger.figures());
    let Figures { commit_seconds, behind, room, .. } = figures;
    let commits = commit_seconds.buckets.last().map_or(0, |(_, all)| *all);
    let most = commits - commits / 100;
    let bound = commit_seconds.buckets.iter().find(|(_, count)| *count >= most && commits > 0);
    let mean = if commits == 0 { 0.0 } else { commit_seconds.sum * 1e3 / commits as f64 };
    json!({
        "entries": head.seq + 1,
        "entry_hash": head.entry_hash,
        "commits": commits,
        "commit_millis": mean,
        "commit_millis_99": bound.filter(|(bound, _)| bound.is_finite()).map(|(bound, _)| bound * 1e3),
        "behind": behind,
        "free_bytes": room.free,
        "reserve_bytes": room.reserve,
    })
}

/// The files in force by their hashes.
fn rules(gate: &Gate) -> BTreeMap<String, String> {
    let rulebook = gate.rulebook();
    let file = |name: &str| Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    rulebook.rules.texts().map(|(hash, _, name)| (file(name), hash.to_owned())).collect()
}

/// Decisions on the screen.
const SHOWN: usize = 8;
