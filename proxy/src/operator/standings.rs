//! Standing approvals at the operator door: what can still be used, as data and as a page, and withdrawing one. Any
//! reviewer may withdraw.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State as Shared};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use ledger::{Draft, EventType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::card::{self, Measured};
use super::frame::{Frame, shown};
use super::vote::check_rationale;
use super::{Fault, append, require};
use crate::gate::Gate;
use crate::hold::text;
use crate::principal::{Principal, Role};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Withdrawal {
    rationale: String,
}

#[derive(Template)]
#[template(path = "standings.html")]
struct StandingsPage {
    frame: Frame,
    standings: Vec<Given>,
    reviewer: bool,
}

/// One of them.
struct Given {
    id: String,
    agent: String,
    destination: String,
    method: String,
    target: String,
    measured: Vec<Measured>,
    policy: String,
    intent: String,
    operator: String,
    used: u64,
    uses: u64,
    expires: String,
}

/// The page of those that can still be used, the one that ends first on top.
pub(super) async fn page(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<impl IntoResponse, Fault> {
    let mut all = gate.ledger.standings();
    all.sort_by_key(|standing| standing.expires_at);
    let standings = all.iter().map(|standing| {
        let said = |field| text(&standing.data, field);
        Given {
            id: standing.id.clone(),
            agent: said("agent"),
            destination: said("destination"),
            method: said("method"),
            target: format!("{}{}", said("authority"), said("path")),
            measured: card::measured(&standing.data),
            policy: said("policy"),
            intent: said("intent"),
            operator: said("operator"),
            used: standing.used,
            uses: standing.uses,
            expires: standing.expires_at.to_string(),
        }
    });
    shown(&StandingsPage {
        frame: Frame::of(&gate, &operator, "standings"),
        standings: standings.collect(),
        reviewer: operator.role >= Some(Role::Reviewer),
    })
}

/// Those that can still be used, with what was seen of the request each was given for.
pub(super) async fn list(Shared(gate): Shared<Arc<Gate>>) -> Json<Value> {
    let all = gate.ledger.standings();
    let listed: Vec<Value> = all
        .iter()
        .map(|standing| {
            json!({
                "id": standing.id,
                "created": standing.created.to_string(),
                "expires_at": standing.expires_at.to_string(),
                "uses": standing.uses,
                "used": standing.used,
                "given": standing.data,
            })
        })
        .collect();
    Json(json!({"standings": listed}))
}

/// Withdraws one.
pub(super) async fn revoke(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(id): Path<String>,
    Json(given): Json<Withdrawal>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Reviewer)?;
    check_rationale(&given.rationale)?;
    let revoked = Draft::new(EventType::StandingRevoked)
        .with("standing", id.as_str())
        .with("operator", operator.name.as_str())
        .with("rationale", given.rationale.trim());
    append(&gate, vec![revoked]).await?;
    Ok(Json(json!({"id": id, "revoked": true})))
}
