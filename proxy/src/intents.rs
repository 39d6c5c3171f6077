//! The agent API: where an agent's intents stand, their replies, and what anyone may know about the gate.
//!
//! An agent reads and cancels its own intents. Approving is not here, and no answer holds anything that could approve.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use ledger::{EventType, Intent, State};
use serde_json::{Value, json};

use crate::body::Reply;
use crate::canonical::Asked;
use crate::gate::Gate;
use crate::hold::{self, text};
use crate::id;
use crate::record;
use crate::refusal::Refusal;

/// Whether a request to the gate itself needs no credential.
pub fn is_public(asked: &Asked) -> bool {
    asked.method == "GET" && ["/health", "/ca.pem"].contains(&asked.path.as_str())
}

/// Answers what anyone may ask.
///
/// # Errors
/// [`Refusal::NotFound`] for anything else.
pub fn public(gate: &Gate, asked: &Asked) -> Result<Response<Reply>, Refusal> {
    match asked.path.as_str() {
        "/ca.pem" => Ok(page("application/x-pem-file", Bytes::copy_from_slice(gate.issuer.root().pem().as_bytes()))),
        "/health" => match gate.ledger.latched() {
            None => Ok(document(&json!({"status": "ok"}))),
            Some(why) => Err(Refusal::LedgerUnavailable(why)),
        },
        _ => Err(Refusal::NotFound),
    }
}

/// Answers an agent about its own intents.
///
/// # Errors
/// [`Refusal::NotFound`] for another agent's intent as for one that does not exist.
pub async fn answer(gate: &Gate, asked: &Asked, agent: &str, base: &str) -> Result<Response<Reply>, Refusal> {
    let parts: Vec<&str> = asked.path.split('/').skip(1).collect();
    match (asked.method.as_str(), parts.as_slice()) {
        ("GET", ["v1", "intents", id]) => {
            let seconds = asked.query.as_deref().and_then(wait_of).unwrap_or(0).min(gate.limits.wait_seconds);
            own(gate, id, agent)?;
            let intent = hold::wait(gate, id, seconds).await.ok_or(Refusal::NotFound)?;
            Ok(document(&status(gate, &intent, base)))
        }
        ("GET", ["v1", "intents", id, "response"]) => hold::answer(gate, &own(gate, id, agent)?, base).await,
        ("POST", ["v1", "intents", id, "cancel"]) => cancel(gate, &own(gate, id, agent)?, base).await,
        _ => Err(Refusal::NotFound),
    }
}

/// The intent, if it is this agent's.
fn own(gate: &Gate, id: &str, agent: &str) -> Result<Intent, Refusal> {
    let intent = if id::is_intent(id) { gate.ledger.intent(id) } else { None };
    intent.filter(|intent| intent.agent_id == agent).ok_or(Refusal::NotFound)
}

/// Withdraws an intent nobody has decided on. The ledger refuses it when a decision was quicker.
async fn cancel(gate: &Gate, intent: &Intent, base: &str) -> Result<Response<Reply>, Refusal> {
    if intent.state == State::Held {
        let cancelled = record::about_intent(EventType::ApprovalCancelled, intent);
        // A vote that came first wins; the status below says so.
        match record::durable(gate, vec![cancelled], None).await {
            Ok(_) => hold::forget(gate, &intent.id).await,
            Err(Refusal::LedgerRefused(why)) => tracing::info!(intent = intent.id, why, "not cancelled"),
            Err(refusal) => return Err(refusal),
        }
    }
    let now = gate.ledger.intent(&intent.id).ok_or(Refusal::NotFound)?;
    Ok(document(&status(gate, &now, base)))
}

fn status(gate: &Gate, intent: &Intent, base: &str) -> Value {
    let url = hold::pending(gate, intent, base).status_url;
    let optional = |data, key| Some(text(data, key)).filter(|text| !text.is_empty());
    let mut shown = json!({
        "intentId": intent.id,
        "status": intent.state.status(),
        "correlationId": intent.correlation_id,
        "destination": intent.dest_key,
        "method": text(&intent.opened.data, "method"),
        "url": format!("{}{}", text(&intent.opened.data, "authority"), text(&intent.opened.data, "path")),
        "expiresAt": text(&intent.opened.data, "expires_at"),
        "updatedAt": intent.updated.to_string(),
        "statusUrl": url,
        "responseUrl": format!("{url}/response"),
        "upstreamStatus": intent.latest.get("status"),
        "reason": optional(&intent.latest, "rationale").or_else(|| optional(&intent.latest, "reason")),
    });
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    shown
}

fn document(value: &Value) -> Response<Reply> {
    page("application/json", Bytes::from(format!("{value}\n")))
}

fn page(kind: &'static str, bytes: Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::from(bytes));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn wait_of(query: &str) -> Option<u64> {
    query.split('&').find_map(|pair| pair.strip_prefix("wait="))?.parse().ok()
}
