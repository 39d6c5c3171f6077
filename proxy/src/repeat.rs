//! Requests that are one request sent again: joined while the first is under way, answered with its result afterwards.
//!
//! Which came first is settled by the ledger alone, when it takes the key. Nothing is ever sent from here.

use http::{HeaderValue, Response};
use ledger::{Event, EventType, Kind, Once, Query, Taken};
use policy::{Destination, Facts, Hold};
use serde_json::{Map, Value, json};

use crate::body::Reply;
use crate::gate::Gate;
use crate::hold::{self, text};
use crate::limits::Limits;
use crate::mailbox;
use crate::record::Trace;
use crate::refusal::Refusal;
use crate::rulebook::Rulebook;

/// The key that a request takes on the ledger, so that it is carried out once; `None` when it may be repeated.
///
/// # Errors
/// [`Refusal::NoKey`] when the destination's requests have a key and this one has none.
pub fn once(gate: &Gate, destination: Option<&Destination>, facts: &Facts) -> Result<Option<Once>, Refusal> {
    let Some(destination) = destination else { return Ok(None) };
    let key = destination.idempotency_key(facts).map_err(Refusal::NoKey)?;
    Ok(key.map(|key| {
        // With a key of the gate's own: who reads the ledger cannot find out by trying what the agent's key was.
        let whole = json!(["idempotency", facts.agent, destination.key, key]).to_string();
        let key = format!("{PREFIX}{}/{}", destination.key, gate.sealed.mark(whole.as_bytes()));
        // What is not kept any more cannot be given again.
        let kept = gate.limits.retention_hours.saturating_mul(3600);
        let seconds = u32::try_from(gate.limits.idempotency_seconds.min(kept)).unwrap_or(u32::MAX);
        Once { key, digest: Some(facts.side_effect()), seconds }
    }))
}

/// As [`once`], for a request that is held anew: it keeps its key, if it has one still.
pub fn once_again(gate: &Gate, rulebook: &Rulebook, hold: &Hold, facts: &Facts) -> Option<Once> {
    let key = hold.basis.destination.as_deref()?;
    once(gate, rulebook.destination_called(key, facts), facts).ok().flatten()
}

/// Whether it was an idempotency key that was found taken.
pub fn is_repeated(taken: &Taken) -> bool {
    taken.key.starts_with(PREFIX)
}

/// The answer to a repetition: the first one's, or where that one stands. `wait` is in seconds.
///
/// # Errors
/// [`Refusal::Duplicate`] for another request under the same key, [`Refusal::Pending`] while the first one waits.
pub async fn answer(
    gate: &Gate,
    first: &Taken,
    digest: &str,
    trace: &Trace,
    (wait, base): (u64, &str),
) -> Result<Response<Reply>, Refusal> {
    if first.digest.as_deref() != Some(digest) {
        return Err(Refusal::Duplicate(first.holder().to_owned(), None));
    }
    let result = match (&first.intent_id, &first.correlation_id) {
        (Some(intent), _) => {
            let intent = hold::wait(gate, intent, wait).await.ok_or(Refusal::NotFound)?;
            hold::answer(gate, &intent, base).await
        }
        (None, Some(correlation)) => of_live(gate, correlation).await,
        (None, None) => return Err(Refusal::Duplicate(first.holder().to_owned(), None)),
    };
    let mut response = match result {
        Err(pending @ Refusal::Pending(_)) => return Err(pending),
        // What the first one was told, not something that went wrong with this one.
        Err(refusal) => refusal.respond(trace).map(Reply::from),
        Ok(response) => response,
    };
    response.headers_mut().insert("writ-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// The result of a request that was allowed at once; waits for it when it is under way.
async fn of_live(gate: &Gate, correlation: &str) -> Result<Response<Reply>, Refusal> {
    let mut changes = gate.ledger.subscribe();
    let end = tokio::time::Instant::now() + Limits::seconds(gate.limits.wait_seconds);
    while gate.ledger.is_executing(correlation) {
        if !matches!(tokio::time::timeout_at(end, changes.changed()).await, Ok(Ok(()))) {
            return Err(Refusal::Duplicate(correlation.to_owned(), None));
        }
    }
    let unknown = |why: String| Refusal::UnknownOutcome(format!("`{correlation}`, the first under this key, {why}"));
    let Some((kind, data)) = outcome(gate, correlation).await? else {
        return Err(unknown("has no outcome".to_owned()));
    };
    if kind == EventType::ActionUnknown {
        return Err(unknown(format!("was sent and never answered: {}", text(&data, "reason"))));
    }
    if data.get("sent") == Some(&Value::Bool(false)) {
        return Err(Refusal::Upstream(format!("`{correlation}`, the first under this key, could not be sent")));
    }
    match mailbox::kept(gate, correlation, &data).await? {
        Some(response) => Ok(response),
        None => Err(unknown("was answered, and the answer is not kept any more".to_owned())),
    }
}

async fn outcome(gate: &Gate, correlation: &str) -> Result<Option<(EventType, Map<String, Value>)>, Refusal> {
    let query = Query { correlation: Some(correlation.to_owned()), limit: EVENTS, ..Query::default() };
    let ledger = gate.ledger.clone();
    let unreadable = |error: &dyn std::fmt::Display| Refusal::LedgerUnavailable(error.to_string());
    let lines = tokio::task::spawn_blocking(move || ledger.events(&query)).await;
    let lines = lines.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
    let events = lines.iter().filter_map(|line| serde_json::from_str::<Event>(line).ok());
    let ends = [EventType::ActionExecuted, EventType::ActionFailed, EventType::ActionUnknown];
    Ok(events
        .filter_map(|event| match event.kind {
            Kind::Known(kind) if ends.contains(&kind) => Some((kind, event.data)),
            Kind::Known(_) | Kind::Opaque(_) => None,
        })
        .next_back())
}

/// The header of a key (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What these keys begin with on the ledger.
const PREFIX: &str = "idempotency/";

/// More than one request ever has.
const EVENTS: usize = 100;
