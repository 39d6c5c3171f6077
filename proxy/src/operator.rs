//! The operator door: a listener, credentials and routes of its own. Whoever approves does it here and nowhere else.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ledger::{Draft, Intent, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use self::chart::Counts;
use self::guard::Guard;
pub use self::principals::registration;
use self::session::Sessions;
use crate::gate::Gate;
use crate::id;
use crate::principal::{Principal, Role};
use crate::record;
use crate::refusal::Refusal;

mod card;
mod chart;
mod evidence;
mod frame;
mod guard;
mod live;
mod login;
mod page;
mod pass;
mod principals;
mod probe;
mod runs;
mod session;
mod settle;
mod standings;
mod status;
mod switches;
mod visible;
mod vote;

/// An answer other than success: status, and words for the operator.
struct Fault(StatusCode, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntentQuery {
    state: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    after: Option<u64>,
    #[serde(rename = "type")]
    kind: Option<String>,
    agent: Option<String>,
    correlation: Option<String>,
    intent: Option<String>,
    run: Option<String>,
    destination: Option<String>,
    limit: Option<usize>,
}

/// Serves the operator door until the gate stops.
pub async fn serve(gate: Arc<Gate>, listener: TcpListener) {
    let Ok(address) = listener.local_addr() else { return };
    let names = vec![address.to_string(), format!("localhost:{}", address.port())];
    let stop = gate.stop.clone();
    let guard =
        Arc::new(Guard { gate: Arc::clone(&gate), names, sessions: Sessions::default(), counts: Counts::default() });
    let doors = routes(gate, guard);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        // Beyond the places there are, a connection is closed at once: idle ones must not keep an operator out for long.
        if let (Ok((stream, _)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned()) {
            tokio::spawn(connection(stream, doors.clone(), stop.clone(), place));
        }
    }
}

fn routes(gate: Arc<Gate>, guard: Arc<Guard>) -> Router {
    let api = Router::new()
        .route("/v1/intents", get(intents))
        .route("/v1/intents/{id}", get(intent))
        .route("/v1/intents/{id}/request", get(vote::held_request))
        .route("/v1/intents/{id}/settle", post(settle::settle))
        .route("/v1/intents/{id}/retry", post(settle::retry))
        .route("/v1/intents/{id}/{verdict}", post(vote::vote))
        .route("/v1/events", get(events))
        .route("/v1/events/{seq}/proof", get(evidence::proof))
        .route("/v1/export", get(evidence::export))
        .route("/v1/capsule", get(evidence::capsule))
        .route("/v1/checkpoint", get(evidence::checkpoint))
        .route("/v1/ledger-key/rotate", post(evidence::rotate_key))
        .route("/v1/head", get(head))
        .route("/v1/texts/{hash}", get(text))
        .route("/v1/login", post(login::invite))
        .route("/v1/session/end", post(login::end))
        .route("/v1/status", get(status::status))
        .route("/v1/stream", get(live::stream))
        .route("/v1/reload", post(reload))
        .route("/v1/verify", post(verify))
        .route("/v1/switches", get(switches::list))
        .route("/v1/switches/{way}", post(switches::turn))
        .route("/v1/standings", get(standings::list))
        .route("/v1/standings/{id}/revoke", post(standings::revoke))
        .route("/v1/operators/{name}/groups", post(principals::set_groups))
        .route("/v1/agents/{name}/pass", post(pass::issue))
        .route("/v1/agents/{name}/pass/end", post(pass::end))
        .route("/v1/{kind}", get(principals::list).post(principals::add))
        .route("/v1/{kind}/{name}/{standing}", post(principals::set_standing));
    let guarded = api
        .merge(page::routes())
        .layer(middleware::from_fn_with_state(Arc::clone(&guard), guard::identify))
        .layer(Extension(Arc::clone(&guard)));
    let open = Router::new().route("/v1/session", post(login::open)).with_state(Arc::clone(&guard));
    let scraped = Router::new()
        .route("/metrics", get(probe::scrape))
        .layer(middleware::from_fn_with_state(Arc::clone(&guard), guard::identify));
    let probes = Router::new().route("/health", get(probe::health)).route("/ready", get(probe::ready)).merge(scraped);
    Router::new()
        .route("/v1/openapi.json", get(document))
        .merge(page::public())
        .merge(guarded)
        .with_state(Arc::clone(&gate))
        .merge(open)
        .layer(middleware::from_fn_with_state(guard, guard::enter))
        .merge(probes.with_state(gate))
}

async fn connection(stream: TcpStream, doors: Router, stop: CancellationToken, place: OwnedSemaphorePermit) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let service = TowerToHyperService::new(doors);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the operator door ended early");
    }
    drop(place);
}

async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn intents(Shared(gate): Shared<Arc<Gate>>, Query(query): Query<IntentQuery>) -> Result<Json<Value>, Fault> {
    let states: Vec<State> = match query.state.as_deref() {
        None => STATES.to_vec(),
        Some(name) => STATES.iter().copied().filter(|state| state.as_str() == name || state.status() == name).collect(),
    };
    if states.is_empty() {
        return Err(Fault(StatusCode::BAD_REQUEST, "there is no such state".to_owned()));
    }
    let found = gate.ledger.intents(&states, query.limit.unwrap_or(100).min(1000));
    Ok(Json(json!({"intents": found.iter().map(shown).collect::<Vec<_>>()})))
}

async fn intent(Shared(gate): Shared<Arc<Gate>>, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    Ok(Json(shown(&known(&gate, &id)?)))
}

async fn events(Shared(gate): Shared<Arc<Gate>>, Query(query): Query<EventQuery>) -> Result<Response, Fault> {
    let query = ledger::Query {
        after: query.after,
        kind: query.kind,
        agent: query.agent,
        correlation: query.correlation,
        intent: query.intent,
        run: query.run,
        destination: query.destination,
        limit: query.limit.unwrap_or(100).min(10_000),
    };
    let ledger = gate.ledger.clone();
    let read = tokio::task::spawn_blocking(move || ledger.events(&query)).await;
    let lines = read.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

async fn head(Shared(gate): Shared<Arc<Gate>>) -> Json<Value> {
    let head = gate.ledger.head();
    Json(json!({"seq": head.seq, "entry_hash": head.entry_hash, "ts": head.ts.to_string(), "origin": head.origin}))
}

/// A text of a policy or of destinations, by the hash that decisions name.
async fn text(Shared(gate): Shared<Arc<Gate>>, Path(hash): Path<String>) -> Result<Response, Fault> {
    let unknown = || Fault(StatusCode::NOT_FOUND, "no text with this hash is stored".to_owned());
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let ledger = gate.ledger.clone();
    let read = tokio::task::spawn_blocking(move || ledger.text(&hash)).await.map_err(|error| internal(&error))?;
    match read.map_err(|error| internal(&error))? {
        Some(text) => Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()),
        None => Err(unknown()),
    }
}

/// Verifies the whole journal now.
async fn verify(Shared(gate): Shared<Arc<Gate>>) -> Result<Json<Value>, Fault> {
    let ledger = gate.ledger.clone();
    let verified = tokio::task::spawn_blocking(move || ledger.verify()).await.map_err(|error| internal(&error))?;
    Ok(Json(match verified {
        Ok(verified) => json!({"verified": true, "entries": verified.entries, "head": verified.head_hash}),
        Err(error) => json!({"verified": false, "reason": error.to_string()}),
    }))
}

async fn reload(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Admin)?;
    gate.reload().await.map_err(|error| Fault(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}")))?;
    Ok(Json(json!({"status": "loaded"})))
}

async fn append(gate: &Gate, drafts: Vec<Draft>) -> Result<(), Fault> {
    match record::durable(gate, drafts, None).await {
        Ok(_) => Ok(()),
        Err(Refusal::LedgerRefused(why) | Refusal::StandingSpent(why)) => Err(Fault(StatusCode::CONFLICT, why)),
        Err(refusal) => Err(Fault(StatusCode::SERVICE_UNAVAILABLE, refusal.cause().to_owned())),
    }
}

fn known(gate: &Gate, id: &str) -> Result<Intent, Fault> {
    let found = if id::is_intent(id) { gate.ledger.intent(id) } else { None };
    found.ok_or_else(|| {
        Fault(StatusCode::NOT_FOUND, format!("there is no intent `{id}`; `writ pending` lists those that wait"))
    })
}

fn require(operator: &Principal, role: Role) -> Result<(), Fault> {
    if operator.role.is_some_and(|own| own >= role) {
        return Ok(());
    }
    Err(Fault(StatusCode::FORBIDDEN, format!("`{}` may not do this; it needs the role {role:?}", operator.name)))
}

fn shown(intent: &Intent) -> Value {
    json!({
        "id": intent.id,
        "state": intent.state.as_str(),
        "status": intent.state.status(),
        "correlation_id": intent.correlation_id,
        "agent": intent.agent_id,
        "destination": intent.dest_key,
        "request": intent.opened.data,
        "votes": intent.votes,
        "latest": intent.latest,
        "updated": intent.updated.to_string(),
    })
}

fn internal(error: &dyn std::fmt::Display) -> Fault {
    Fault(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

// === impl Fault ===

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

const STATES: &[State] = &[
    State::Approved,
    State::Blocked,
    State::Cancelled,
    State::Executing,
    State::Expired,
    State::Failed,
    State::Held,
    State::Rejected,
    State::Succeeded,
    State::Unknown,
];

/// This API for programs (OpenAPI 3.1).
const OPENAPI: &str = include_str!("../openapi/operator.json");

/// Connections to the operator door at once.
const CONNECTIONS: usize = 128;

/// Time for a request head there, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The router cannot be asked for its routes; the lines that make it can be read.
    #[test]
    fn the_document_lists_every_route_and_no_other() {
        let mut made = BTreeSet::new();
        for route in include_str!("operator.rs").split(".route(\"").skip(1) {
            let Some((path, methods)) = route.lines().next().and_then(|line| line.split_once("\", ")) else { continue };
            let calls = |method: &&str| methods.contains(&format!("{method}("));
            made.extend(
                ["get", "post"].iter().filter(|one| calls(one)).map(|one| (path.to_owned(), (*one).to_owned())),
            );
        }
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let mut listed = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
            listed.extend(methods.map(|method| (path.clone(), method.clone())));
        }
        assert_eq!(made, listed);
        assert!(made.len() > 20, "the lines of the router are not found any more");
    }
}
