//! Replies that wait for their agents: sealed whole, each under the name of its intent or of its request.
//!
//! Never shows a part of a reply as if it were all of it.

use anyhow::Result;
use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use ledger::Intent;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::body::Reply;
use crate::gate::Gate;
use crate::hold::{joined, seal, text, unseal};
use crate::refusal::Refusal;

/// The first line of a sealed reply; its body follows.
#[derive(Serialize, Deserialize)]
struct StoredReply {
    status: u16,
    headers: Vec<(String, String)>,
    #[serde(default)]
    trailers: Vec<(String, String)>,
}

/// Keeps a reply under the name of its intent, or of its request.
///
/// # Errors
/// When it cannot be sealed.
pub async fn keep(gate: &Gate, name: &str, head: &Parts, body: Bytes, trailers: &HeaderMap) -> Result<()> {
    let stored =
        StoredReply { status: head.status.as_u16(), headers: fields(&head.headers), trailers: fields(trailers) };
    let line = serde_json::to_vec(&stored)?;
    seal(gate, reply_name(name), joined(line, &body)).await
}

/// The reply to an intent that was carried out.
///
/// # Errors
/// When there is none, or it was not kept whole.
pub async fn reply(gate: &Gate, intent: &Intent) -> Result<Response<Reply>, Refusal> {
    let settled = text(&intent.latest, "resolved_by");
    if !settled.is_empty() {
        let (state, why) = (intent.state.as_str(), text(&intent.latest, "rationale"));
        return Err(broken(&intent.id, format!("was never seen; {settled} found that it {state}: {why}")));
    }
    kept(gate, &intent.id, &intent.latest).await?.ok_or_else(|| {
        let why = text(&intent.latest, "reason");
        Refusal::Upstream(format!("intent `{}` ended without a reply: {why}", intent.id))
    })
}

/// The reply that was kept under a name, with the data of the outcome; `None` if there is none.
///
/// # Errors
/// [`Refusal::UnknownOutcome`] when it is not whole, or cannot be read.
pub async fn kept(gate: &Gate, name: &str, outcome: &Map<String, Value>) -> Result<Option<Response<Reply>>, Refusal> {
    // What was cut off must not look like a whole reply.
    let ended = text(outcome, "ended");
    if !ended.is_empty() {
        return Err(broken(name, format!("was not kept whole: {ended}")));
    }
    let sealed = unseal(gate, reply_name(name)).await;
    let Some((line, body)) = sealed.map_err(|error| broken(name, format!("cannot be read: {error:#}")))? else {
        return Ok(None);
    };
    let stored: StoredReply = serde_json::from_slice(&line).map_err(|error| broken(name, error.to_string()))?;
    let mut response = Response::new(Reply::from(body));
    *response.status_mut() = StatusCode::from_u16(stored.status).map_err(|error| broken(name, error.to_string()))?;
    let headers = stored.headers.into_iter().filter(|(name, _)| name != "content-length");
    // Most clients of the mailbox see no trailers; as headers of its own they cannot be taken for the reply's.
    let trailers = stored.trailers.into_iter().map(|(name, value)| (format!("writ-trailer-{name}"), value));
    for (name, value) in headers.chain(trailers) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
            response.headers_mut().append(name, value);
        }
    }
    Ok(Some(response))
}

fn broken(name: &str, why: String) -> Refusal {
    Refusal::UnknownOutcome(format!("the reply to `{name}` {why}"))
}

fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// File of a sealed reply.
fn reply_name(name: &str) -> String {
    format!("{name}.reply")
}
