//! Kill switches at the operator door: turned on by any reviewer, turned off by an admin. On the ledger, which itself
//! refuses to authorise what a switch is on for.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use ledger::{Draft, EventType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::frame::{self, Frame, shown};
use super::vote::check_rationale;
use super::{Fault, append, require};
use crate::gate::Gate;
use crate::hold::text;
use crate::principal::{Kind, Principal, Role};

/// What a switch is for; everything when nothing is named.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    agent: Option<String>,
    destination: Option<String>,
    rationale: String,
}

#[derive(Template)]
#[template(path = "switches.html")]
struct SwitchesPage {
    frame: Frame,
    switches: Vec<Stopped>,
    agents: Vec<String>,
    destinations: Vec<String>,
    reviewer: bool,
    admin: bool,
}

/// One that is on.
struct Stopped {
    scope: String,
    agent: String,
    destination: String,
    operator: String,
    rationale: String,
    since: String,
}

/// The page of the switches that are on, with what can be stopped.
pub(super) async fn page(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
) -> Result<impl IntoResponse, Fault> {
    let switches = gate.ledger.kill_switches();
    let switches = switches.iter().map(|switch| Stopped {
        scope: frame::scope(switch),
        agent: switch.agent.clone().unwrap_or_default(),
        destination: switch.destination.clone().unwrap_or_default(),
        operator: text(&switch.data, "operator"),
        rationale: text(&switch.data, "rationale"),
        since: switch.since.to_string(),
    });
    shown(&SwitchesPage {
        frame: Frame::of(&gate, &operator, "switches"),
        switches: switches.collect(),
        agents: gate.principals.list(Kind::Agent).into_iter().map(|agent| agent.name).collect(),
        destinations: gate.rulebook().rules.destinations().map(|each| each.key.clone()).collect(),
        reviewer: operator.role >= Some(Role::Reviewer),
        admin: operator.role >= Some(Role::Admin),
    })
}

/// The switches that are on.
pub(super) async fn list(Shared(gate): Shared<Arc<Gate>>) -> Json<Value> {
    let switches = gate.ledger.kill_switches();
    let on: Vec<Value> = switches
        .iter()
        .map(|switch| {
            json!({
                "agent": switch.agent,
                "destination": switch.destination,
                "since": switch.since.to_string(),
                "by": switch.data.get("operator"),
                "rationale": switch.data.get("rationale"),
            })
        })
        .collect();
    Json(json!({"switches": on}))
}

/// In a hurry names are misspelled, and a switch for nobody would look as if it had stopped somebody.
fn check_named(gate: &Gate, switch: &Switch) -> Result<(), Fault> {
    let missing = |what: &str, name: &str| Fault(StatusCode::NOT_FOUND, format!("there is no {what} `{name}`"));
    if let Some(agent) = switch.agent.as_deref().filter(|name| gate.principals.named(Kind::Agent, name).is_none()) {
        return Err(missing("agent", agent));
    }
    let rulebook = gate.rulebook();
    let is_known = |key: &&str| rulebook.rules.destinations().any(|destination| destination.is_called(key));
    match switch.destination.as_deref().filter(|key| !is_known(key)) {
        Some(key) => Err(missing("destination", key)),
        None => Ok(()),
    }
}

/// Turns one on or off. Stopping needs less than letting go again.
pub(super) async fn turn(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(way): Path<String>,
    Json(switch): Json<Switch>,
) -> Result<Json<Value>, Fault> {
    let (event, role) = match way.as_str() {
        "on" => (EventType::KillSwitchOn, Role::Reviewer),
        "off" => (EventType::KillSwitchOff, Role::Admin),
        _ => return Err(Fault(StatusCode::NOT_FOUND, "a switch is turned `on` or `off`".to_owned())),
    };
    require(&operator, role)?;
    check_rationale(&switch.rationale)?;
    if event == EventType::KillSwitchOn {
        check_named(&gate, &switch)?;
    }
    let mut draft =
        Draft::new(event).with("operator", operator.name.as_str()).with("rationale", switch.rationale.trim());
    if let Some(agent) = &switch.agent {
        draft = draft.agent(agent);
    }
    if let Some(destination) = &switch.destination {
        draft = draft.destination(destination);
    }
    append(&gate, vec![draft]).await?;
    gate.tightened.send_replace(());
    if event == EventType::KillSwitchOff {
        gate.resume_voted();
    }
    Ok(Json(json!({"agent": switch.agent, "destination": switch.destination, "turned": way})))
}
