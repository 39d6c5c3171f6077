//! Outcomes nobody knows: what was sent and never answered waits for a person to look at the other side.
//!
//! A reviewer says what became of it, or has the same request held anew with votes of its own. Nothing is sent from here.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};
use ledger::{EventType, Intent, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::vote::{check_rationale, check_voter};
use super::{Fault, append, known, shown};
use crate::gate::Gate;
use crate::principal::Principal;
use crate::{parked, record};

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ending {
    Failed,
    Succeeded,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settlement {
    outcome: Ending,
    rationale: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    rationale: String,
}

/// Records what a reviewer found out.
pub(super) async fn settle(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(id): Path<String>,
    Json(given): Json<Settlement>,
) -> Result<Json<Value>, Fault> {
    let intent = unknown(&gate, &operator, &id, &given.rationale)?;
    let kind = match given.outcome {
        Ending::Failed => EventType::ActionFailed,
        Ending::Succeeded => EventType::ActionExecuted,
    };
    let settled = record::about_intent(kind, &intent)
        .with("resolved_by", operator.name.as_str())
        .with("rationale", given.rationale.trim());
    append(&gate, vec![settled]).await?;
    Ok(Json(shown(&known(&gate, &id)?)))
}

/// Holds the same request again, as an intent of its own.
pub(super) async fn retry(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(id): Path<String>,
    Json(given): Json<Retry>,
) -> Result<Json<Value>, Fault> {
    let intent = unknown(&gate, &operator, &id, &given.rationale)?;
    let opened = parked::hold_again(&gate, &intent, &operator.name, given.rationale.trim()).await;
    let opened = opened.map_err(|refusal| {
        let why = if refusal.cause().is_empty() { refusal.answer().detail } else { refusal.cause().to_owned() };
        Fault(StatusCode::CONFLICT, why)
    })?;
    Ok(Json(json!({"id": opened, "retry_of": id})))
}

/// The intent, if its outcome is not known and this operator may judge it.
fn unknown(gate: &Gate, operator: &Principal, id: &str, rationale: &str) -> Result<Intent, Fault> {
    let intent = known(gate, id)?;
    check_voter(gate, operator, &intent)?;
    check_rationale(rationale)?;
    if intent.state != State::Unknown {
        let state = intent.state.as_str();
        return Err(Fault(StatusCode::CONFLICT, format!("the outcome of this intent is not open: it is {state}")));
    }
    Ok(intent)
}
