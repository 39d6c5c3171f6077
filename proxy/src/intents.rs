//! The agent API: what an agent declares, where its intents stand, their replies, and what anyone may know about the gate.
//!
//! An agent reads and cancels its own intents. Approving is not here, and no answer holds anything that could approve.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use ledger::{EventType, Intent, State};
use serde_json::{Value, json};

use crate::body::Reply;
use crate::canonical::Asked;
use crate::gate::Gate;
use crate::hold::{self, text};
use crate::id;
use crate::record::{self, Trace};
use crate::refusal::Refusal;
use crate::{declared, orders};

/// A request of an agent to the gate itself.
#[derive(Debug)]
pub struct Call<'a> {
    /// What it asks for.
    pub asked: &'a Asked,
    /// Its whole body.
    pub body: Bytes,
    /// Who asks.
    pub agent: &'a str,
    /// From where.
    pub peer: IpAddr,
    /// What ties its events together.
    pub trace: &'a Trace,
    /// Under which URL the agent reaches this API.
    pub base: String,
}

/// The pages there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Authority,
    Cancel,
    Declare,
    Discover,
    Document,
    Execute,
    Health,
    Report,
    Response,
    Status,
}

/// Whether a request to the gate itself needs no credential.
pub fn is_public(asked: &Asked) -> bool {
    page_of(asked).is_some_and(|(page, _)| PUBLIC.contains(&page))
}

/// Answers what anyone may ask.
///
/// # Errors
/// [`Refusal::NotFound`] for anything else.
pub fn public(gate: &Gate, asked: &Asked, base: &str) -> Result<Response<Reply>, Refusal> {
    match page_of(asked).map(|(page, _)| page) {
        Some(Page::Authority) => {
            Ok(page("application/x-pem-file", Bytes::copy_from_slice(gate.issuer.root().pem().as_bytes())))
        }
        Some(Page::Discover) => Ok(document(&discovery(gate, base))),
        Some(Page::Document) => Ok(page("application/json", Bytes::from_static(OPENAPI.as_bytes()))),
        Some(Page::Health) => match gate.ledger.latched() {
            None => Ok(document(&json!({"status": "ok"}))),
            Some(why) => Err(Refusal::LedgerUnavailable(why)),
        },
        Some(Page::Cancel | Page::Declare | Page::Execute | Page::Report | Page::Response | Page::Status) | None => {
            Err(Refusal::NotFound)
        }
    }
}

/// Answers an agent about what is its own.
///
/// # Errors
/// [`Refusal::NotFound`] for another agent's intent as for one that does not exist.
pub async fn answer(gate: &Arc<Gate>, call: &Call<'_>) -> Result<Response<Reply>, Refusal> {
    let (page, id) = page_of(call.asked).ok_or(Refusal::NotFound)?;
    match page {
        Page::Authority | Page::Discover | Page::Document | Page::Health => public(gate, call.asked, &call.base),
        Page::Cancel => cancel(gate, &own(gate, id, call.agent)?, &call.base).await,
        Page::Declare => declared::declare(gate, call).await,
        Page::Execute => orders::execute(gate, call, &own(gate, id, call.agent)?).await,
        Page::Report => orders::report(gate, call, id).await,
        Page::Response => hold::answer(gate, &own(gate, id, call.agent)?, &call.base).await,
        Page::Status => {
            let seconds = call.asked.query.as_deref().and_then(wait_of).unwrap_or(0).min(gate.limits.wait_seconds);
            own(gate, id, call.agent)?;
            let intent = hold::wait(gate, id, seconds).await.ok_or(Refusal::NotFound)?;
            Ok(document(&status(gate, &intent, &call.base)))
        }
    }
}

/// The page a request is for, and the id in its path.
fn page_of(asked: &Asked) -> Option<(Page, &str)> {
    ROUTES.iter().find_map(|(method, path, page)| {
        let id = if *method == asked.method { id_in(path, &asked.path) } else { None };
        id.map(|id| (*page, id))
    })
}

/// What stands in a path in the place of `{id}`; nothing where a pattern has none. `None` for another path.
fn id_in<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = pattern.split_once("{id}") else { return (pattern == path).then_some("") };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

/// The intent, if it is this agent's.
///
/// # Errors
/// [`Refusal::NotFound`].
pub fn own(gate: &Gate, id: &str, agent: &str) -> Result<Intent, Refusal> {
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

/// Where an intent stands, for its agent.
pub fn status(gate: &Gate, intent: &Intent, base: &str) -> Value {
    let url = hold::pending(gate, intent, base).status_url;
    let optional = |data, key| Some(text(data, key)).filter(|text| !text.is_empty());
    let risk = |key: &str| intent.opened.data.get("risk").and_then(|risk| risk.get(key)).cloned();
    let mut shown = json!({
        "intentId": intent.id,
        "status": intent.state.status(),
        "correlationId": intent.correlation_id,
        "destination": intent.dest_key,
        "policy": optional(&intent.opened.data, "policy"),
        "riskScore": risk("score"),
        "riskLevel": risk("level"),
        "method": text(&intent.opened.data, "method"),
        "url": format!("{}{}", text(&intent.opened.data, "authority"), text(&intent.opened.data, "path")),
        "expiresAt": optional(&intent.opened.data, "expires_at"),
        "updatedAt": intent.updated.to_string(),
        "statusUrl": url,
        "responseUrl": format!("{url}/response"),
        "upstreamStatus": intent.latest.get("status"),
        "reason": optional(&intent.latest, "rationale").or_else(|| optional(&intent.latest, "reason")),
        "blockReason": (intent.state == State::Blocked).then(|| hold::blocked_reason(&intent.latest)),
    });
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    shown
}

/// What a client needs to know of this gate before it asks for anything.
fn discovery(gate: &Gate, base: &str) -> Value {
    let base = gate.config.public_url.as_deref().unwrap_or(base).trim_end_matches('/');
    let routes: Vec<String> = ROUTES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    json!({
        "service": "writ",
        "version": env!("CARGO_PKG_VERSION"),
        "endpoint": base,
        "openapi": format!("{base}/v1/openapi.json"),
        "routes": routes,
        "holdStatus": gate.config.hold_status,
        "orderKeys": {"keys": [gate.orders.jwk()]},
    })
}

/// A value as an answer.
pub fn document(value: &Value) -> Response<Reply> {
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

/// Every route; nothing else is answered.
const ROUTES: &[(&str, &str, Page)] = &[
    ("GET", "/.well-known/gate", Page::Discover),
    ("GET", "/ca.pem", Page::Authority),
    ("GET", "/health", Page::Health),
    ("GET", "/v1/intents/{id}", Page::Status),
    ("GET", "/v1/intents/{id}/response", Page::Response),
    ("GET", "/v1/openapi.json", Page::Document),
    ("POST", "/invoke", Page::Declare),
    ("POST", "/v1/executions/{id}/report", Page::Report),
    ("POST", "/v1/intents", Page::Declare),
    ("POST", "/v1/intents/{id}/cancel", Page::Cancel),
    ("POST", "/v1/intents/{id}/execute", Page::Execute),
];

/// What needs no credential.
const PUBLIC: &[Page] = &[Page::Authority, Page::Discover, Page::Document, Page::Health];

/// This API for programs (OpenAPI 3.1).
const OPENAPI: &str = include_str!("../openapi/agent.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_lists_every_route_and_no_other() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let mut listed = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
            listed.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
        }
        let routes = ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()));
        assert_eq!(listed, routes.collect());
    }
}
