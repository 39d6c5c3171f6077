//! Agents and operators at the operator door: listing, adding, suspending, revoking. On the ledger first, always.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};
use ledger::{Draft, EventType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fault, append, require};
use crate::gate::Gate;
use crate::principal::{Kind, Newcomer, Principal, Role, Standing};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPrincipal {
    name: String,
    #[serde(default)]
    owner: String,
    role: Option<Role>,
    #[serde(default)]
    groups: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Groups {
    groups: BTreeSet<String>,
}

pub(super) async fn list(Shared(gate): Shared<Arc<Gate>>, Path(kind): Path<String>) -> Result<Json<Value>, Fault> {
    let list = gate.principals.list(kind_of(&kind)?);
    let list: Vec<Value> = list
        .iter()
        .map(|each| {
            let (groups, standing) = (&each.groups, each.standing);
            json!({"name": each.name, "owner": each.owner, "role": each.role, "groups": groups, "standing": standing})
        })
        .collect();
    Ok(Json(json!({ kind: list })))
}

pub(super) async fn add(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(kind): Path<String>,
    Json(new): Json<NewPrincipal>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Admin)?;
    let kind = kind_of(&kind)?;
    let conflict = |error: anyhow::Error| Fault(StatusCode::CONFLICT, format!("{error:#}"));
    let role = (kind == Kind::Operator).then(|| new.role.unwrap_or(Role::Reviewer));
    let new = Newcomer { kind, name: new.name, owner: new.owner, role, groups: new.groups };
    gate.principals.check_free(&new).map_err(conflict)?;
    // On the ledger first: nobody holds a token that no record tells of.
    append(&gate, vec![registration(&new).with("by", operator.name.as_str())]).await?;
    let name = new.name.clone();
    let token = gate.principals.add(new).map_err(conflict)?;
    Ok(Json(json!({"name": name, "token": token})))
}

pub(super) async fn set_standing(
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
    append(&gate, vec![principal_draft(event, kind, &name).with("by", operator.name.as_str())]).await?;
    gate.principals.set_standing(kind, &name, standing).map_err(conflict)?;
    gate.tightened.send_replace(());
    if standing == Standing::Active {
        gate.resume_voted();
    }
    Ok(Json(json!({"name": name, "standing": standing})))
}

/// Puts an operator into other groups. Votes count by the groups that their operator is in when they are counted.
pub(super) async fn set_groups(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(name): Path<String>,
    Json(given): Json<Groups>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Admin)?;
    let conflict = |error: anyhow::Error| Fault(StatusCode::CONFLICT, format!("{error:#}"));
    let changed = gate.principals.regrouped(&name, given.groups).map_err(conflict)?;
    append(&gate, vec![registration(&changed).with("by", operator.name.as_str())]).await?;
    gate.principals.set_groups(&name, changed.groups.clone()).map_err(conflict)?;
    gate.resume_voted();
    Ok(Json(json!({"name": name, "groups": changed.groups})))
}

/// The event that registers a principal.
pub fn registration(new: &Newcomer) -> Draft {
    match new.kind {
        Kind::Agent => {
            principal_draft(EventType::AgentRegistered, new.kind, &new.name).with("owner", new.owner.as_str())
        }
        Kind::Operator => {
            let draft = principal_draft(EventType::OperatorAdded, new.kind, &new.name).with("role", json!(new.role));
            if new.groups.is_empty() { draft } else { draft.with("groups", json!(new.groups)) }
        }
    }
}

fn principal_draft(event: EventType, kind: Kind, name: &str) -> Draft {
    match kind {
        Kind::Agent => Draft::new(event).agent(name),
        Kind::Operator => Draft::new(event).with("operator", name),
    }
}

fn kind_of(name: &str) -> Result<Kind, Fault> {
    match name {
        "agents" => Ok(Kind::Agent),
        "operators" => Ok(Kind::Operator),
        _ => Err(Fault(StatusCode::NOT_FOUND, "there is no such page".to_owned())),
    }
}
