//! The operator door: a listener, credentials and routes of its own. Whoever approves does it here and nowhere else.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ledger::{Draft, EventType, Intent, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::id;
use crate::principal::{Kind, Principal, Role, Standing};
use crate::record;
use crate::refusal::Refusal;

mod vote;

/// An answer other than success: status, and words for the operator.
struct Fault(StatusCode, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPrincipal {
    name: String,
    #[serde(default)]
    owner: String,
    role: Option<Role>,
}

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
    let names = Arc::new(vec![address.to_string(), format!("localhost:{}", address.port())]);
    let stop = gate.stop.clone();
    let guarded = Router::new()
        .route("/v1/intents", get(intents))
        .route("/v1/intents/{id}", get(intent))
        .route("/v1/intents/{id}/request", get(vote::held_request))
        .route("/v1/intents/{id}/{verdict}", post(vote::vote))
        .route("/v1/events", get(events))
        .route("/v1/head", get(head))
        .route("/v1/reload", post(reload))
        .route("/v1/{kind}", get(principals).post(add_principal))
        .route("/v1/{kind}/{name}/{standing}", post(set_standing))
        .layer(middleware::from_fn_with_state(Arc::clone(&gate), identify));
    let doors = Router::new()
        .route("/health", get(health))
        .merge(guarded)
        .layer(middleware::from_fn_with_state(names, require_own_host))
        .with_state(gate);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        // Beyond the places there are, a connection is closed at once: idle ones must not keep an operator out for long.
        if let (Ok((stream, _)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned()) {
            tokio::spawn(connection(stream, doors.clone(), stop.clone(), place));
        }
    }
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

/// A page on another origin whose name was pointed at this address sends that name as Host (DNS rebinding).
async fn require_own_host(Shared(names): Shared<Arc<Vec<String>>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if names.iter().any(|name| name == host) {
        return next.run(request).await;
    }
    Fault(StatusCode::MISDIRECTED_REQUEST, format!("`{host}` is not this door")).into_response()
}

async fn identify(Shared(gate): Shared<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = value.strip_prefix("Bearer ").unwrap_or_default();
    match gate.principals.holder(Kind::Operator, token) {
        Some(operator) if operator.standing == Standing::Active => {
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        Some(_) | None => {
            Fault(StatusCode::UNAUTHORIZED, "an operator token is needed: `Authorization: Bearer writ_op_…`".to_owned())
                .into_response()
        }
    }
}

async fn health(Shared(gate): Shared<Arc<Gate>>) -> Result<Json<Value>, Fault> {
    match gate.ledger.latched() {
        None => Ok(Json(json!({"status": "ok"}))),
        Some(why) => Err(Fault(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
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

async fn reload(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Admin)?;
    gate.reload().await.map_err(|error| Fault(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}")))?;
    Ok(Json(json!({"status": "loaded"})))
}

async fn principals(Shared(gate): Shared<Arc<Gate>>, Path(kind): Path<String>) -> Result<Json<Value>, Fault> {
    let list = gate.principals.list(kind_of(&kind)?);
    let list: Vec<Value> = list
        .iter()
        .map(|each| json!({"name": each.name, "owner": each.owner, "role": each.role, "standing": each.standing}))
        .collect();
    Ok(Json(json!({ kind: list })))
}

async fn add_principal(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(kind): Path<String>,
    Json(new): Json<NewPrincipal>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Admin)?;
    let kind = kind_of(&kind)?;
    let conflict = |error: anyhow::Error| Fault(StatusCode::CONFLICT, format!("{error:#}"));
    let role = (kind == Kind::Operator).then(|| new.role.unwrap_or(Role::Reviewer));
    gate.principals.check_free(kind, &new.name).map_err(conflict)?;
    // On the ledger first: nobody holds a token that no record tells of.
    append(&gate, registration(kind, &new.name, &new.owner, role).with("by", operator.name.as_str())).await?;
    let token = gate.principals.add(kind, &new.name, &new.owner, role).map_err(conflict)?;
    Ok(Json(json!({"name": new.name, "token": token})))
}

async fn set_standing(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path((kind, name, standing)): Path<(String, String, String)>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Admin)?;
    let kind = kind_of(&kind)?;
    let (event, standing) = match (kind, standing.as_str()) {
        (Kind::Agent, "suspend") => (EventType::AgentSuspended, Standing::Suspended),
        (Kind::Agent, "resume") => (EventType::AgentResumed, Standing::Active),
        (Kind::Agent, "revoke") => (EventType::AgentRevoked, Standing::Revoked),
        (Kind::Operator, "revoke") => (EventType::OperatorRevoked, Standing::Revoked),
        (Kind::Agent | Kind::Operator, _) => {
            return Err(Fault(StatusCode::NOT_FOUND, "there is no such change".to_owned()));
        }
    };
    let conflict = |error: anyhow::Error| Fault(StatusCode::CONFLICT, format!("{error:#}"));
    gate.principals.check_change(kind, &name).map_err(conflict)?;
    append(&gate, principal_draft(event, kind, &name).with("by", operator.name.as_str())).await?;
    gate.principals.set_standing(kind, &name, standing).map_err(conflict)?;
    if standing == Standing::Active {
        gate.resume_voted();
    }
    Ok(Json(json!({"name": name, "standing": standing})))
}

/// The event that registers a principal.
pub fn registration(kind: Kind, name: &str, owner: &str, role: Option<Role>) -> Draft {
    let event = match kind {
        Kind::Agent => EventType::AgentRegistered,
        Kind::Operator => EventType::OperatorAdded,
    };
    let draft = principal_draft(event, kind, name);
    match role {
        Some(role) => draft.with("role", json!(role)),
        None => draft.with("owner", owner),
    }
}

fn principal_draft(event: EventType, kind: Kind, name: &str) -> Draft {
    match kind {
        Kind::Agent => Draft::new(event).agent(name),
        Kind::Operator => Draft::new(event).with("operator", name),
    }
}

async fn append(gate: &Gate, draft: Draft) -> Result<(), Fault> {
    match record::durable(gate, vec![draft], None).await {
        Ok(_) => Ok(()),
        Err(Refusal::LedgerRefused(why)) => Err(Fault(StatusCode::CONFLICT, why)),
        Err(refusal) => Err(Fault(StatusCode::SERVICE_UNAVAILABLE, refusal.cause().to_owned())),
    }
}

fn known(gate: &Gate, id: &str) -> Result<Intent, Fault> {
    let found = if id::is_intent(id) { gate.ledger.intent(id) } else { None };
    found.ok_or_else(|| {
        Fault(StatusCode::NOT_FOUND, format!("there is no intent `{id}`; `writ pending` lists those that wait"))
    })
}

fn kind_of(name: &str) -> Result<Kind, Fault> {
    match name {
        "agents" => Ok(Kind::Agent),
        "operators" => Ok(Kind::Operator),
        _ => Err(Fault(StatusCode::NOT_FOUND, "there is no such page".to_owned())),
    }
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

/// Connections to the operator door at once.
const CONNECTIONS: usize = 128;

/// Time for a request head there, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
