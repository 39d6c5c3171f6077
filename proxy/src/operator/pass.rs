//! Passes: tokens of an agent that end by themselves, for one run of a program. On the ledger first, always.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};
use jiff::{SignedDuration, Timestamp};
use ledger::{Draft, EventType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fault, append, require};
use crate::gate::Gate;
use crate::principal::{Kind, Principal, Role};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ended {
    token: String,
}

pub(super) async fn issue(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(agent): Path<String>,
    Json(wanted): Json<Wanted>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Admin)?;
    if wanted.seconds > MOST_SECONDS {
        return Err(Fault(StatusCode::BAD_REQUEST, format!("a pass is good for {MOST_SECONDS} seconds at most")));
    }
    gate.principals.check_change(Kind::Agent, &agent).map_err(conflict)?;
    let until = Timestamp::now().checked_add(SignedDuration::from_secs(wanted.seconds.into()));
    let until = until.unwrap_or(Timestamp::MAX);
    let login = Draft::new(EventType::OperatorLogin).agent(&agent).with("operator", operator.name.as_str());
    append(&gate, vec![login.with("pass_until", until.to_string())]).await?;
    let token = gate.principals.issue_pass(&agent, until).map_err(conflict)?;
    Ok(Json(json!({"agent": agent, "token": token, "until": until.to_string()})))
}

pub(super) async fn end(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(agent): Path<String>,
    Json(ended): Json<Ended>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Admin)?;
    gate.principals.end_pass(&agent, &ended.token).map_err(conflict)?;
    Ok(Json(json!({"agent": agent, "status": "ended"})))
}

fn conflict(error: anyhow::Error) -> Fault {
    Fault(StatusCode::CONFLICT, format!("{error:#}"))
}

/// A week: longer runs are agents with a token of their own.
const MOST_SECONDS: u32 = 7 * 24 * 3600;
