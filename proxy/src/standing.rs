//! Standing approvals: given with a vote for one request, offered to the decider for others like it.
//!
//! Never decides what one covers; policy does, from the request that was approved. What is used is taken on the ledger
//! together with the permit.

use jiff::{SignedDuration, Timestamp};
use ledger::{Draft, EventType, Intent, Standing};
use policy::Facts;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;

use crate::gate::Gate;
use crate::hold::{self, text};
use crate::{id, record, reviewer};

/// How long and how often an approval stands for others like it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remember {
    /// For so many seconds.
    pub seconds: Option<u64>,
    /// So many times.
    pub uses: Option<u64>,
}

// === impl Remember ===

impl Remember {
    /// Seconds and uses, both bounded.
    fn bounds(self) -> Result<(u64, u64), String> {
        let (seconds, uses) = match (self.seconds, self.uses) {
            (None, None) => return Err("say for how many seconds or how often it is remembered".to_owned()),
            (seconds, uses) => (seconds.unwrap_or(MAX_SECONDS), uses.unwrap_or(MAX_USES)),
        };
        if !(1..=MAX_SECONDS).contains(&seconds) || !(1..=MAX_USES).contains(&uses) {
            return Err(format!("it is remembered for 1 to {MAX_SECONDS} seconds and 1 to {MAX_USES} times"));
        }
        Ok((seconds, uses))
    }
}

/// The event that makes the approval of an intent stand for others like it.
///
/// # Errors
/// Why it cannot, in words for the operator.
pub fn given(gate: &Gate, intent: &Intent, operator: &str, remember: &Remember) -> Result<Draft, String> {
    let said = &intent.opened.data;
    let alone = text(said, "alone");
    if !alone.is_empty() {
        return Err(format!("this approval is good for this request alone: {alone}"));
    }
    let (seconds, uses) = remember.bounds()?;
    let lasts = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    let expires = Timestamp::now().checked_add(lasts).unwrap_or(Timestamp::MAX);
    let id = id::fresh("std_").map_err(|error| error.to_string())?;
    let mut draft = record::about_intent(EventType::StandingCreated, intent)
        .with("standing", id)
        .with("operator", operator)
        .with("agent", intent.agent_id.as_str())
        .with("destination", intent.dest_key.as_deref().unwrap_or_default())
        .with("uses", uses)
        .with("expires_at", expires.to_string())
        .with("held_by", held_by(said));
    for field in SEEN {
        if let Some(value) = said.get(*field) {
            draft = draft.with(*field, value.clone());
        }
    }
    let mark = mark(gate, &intent.id, &draft.data);
    Ok(draft.with("intent", intent.id.as_str()).with("mark", mark))
}

/// What was approved in advance for requests like this one, the oldest first.
pub async fn offered(gate: &Gate, facts: &Facts) -> Vec<policy::Standing> {
    let line = [&facts.agent, &facts.method, &facts.authority.to_string(), &facts.path].map(|part| part.to_owned());
    let is_for =
        |standing: &Standing| ["agent", "method", "authority", "path"].map(|field| text(&standing.data, field)) == line;
    let mut standings: Vec<Standing> = gate.ledger.standings().into_iter().filter(is_for).collect();
    standings.sort_by_key(|standing| standing.created);
    let mut offered = Vec::new();
    for standing in standings {
        match offer(gate, &standing).await {
            Ok(offer) => offered.push(offer),
            Err(error) => tracing::warn!(standing = standing.id, error = format!("{error:#}"), "it covers nothing"),
        }
    }
    offered
}

/// One as the decider sees it, if it was given here by somebody who may still give it.
async fn offer(gate: &Gate, standing: &Standing) -> anyhow::Result<policy::Standing> {
    let (data, said) = (&standing.data, |field| text(&standing.data, field));
    let intent = gate.ledger.intent(&said("intent")).ok_or_else(|| anyhow::anyhow!("its intent is not known"))?;
    let marked = mark(gate, &intent.id, data);
    anyhow::ensure!(bool::from(marked.as_bytes().ct_eq(said("mark").as_bytes())), "it was not given at this gate");
    let operator = reviewer::named(gate, &said("operator"), &intent.agent_id);
    let operator = operator.ok_or_else(|| anyhow::anyhow!("who gave it may not approve any more"))?;
    let (approved, _) = hold::unpark(gate, &intent).await?;
    let held_by = data.get("held_by").and_then(Value::as_array).into_iter().flatten();
    Ok(policy::Standing {
        id: standing.id.clone(),
        operator: operator.name,
        groups: operator.groups.into_iter().collect(),
        approved,
        policy_hash: said("policy_hash"),
        environment: Some(said("environment")).filter(|name| !name.is_empty()),
        destinations_hash: said("destinations_hash"),
        held_by: held_by.filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

/// The gate's mark on one: who can only write the journal cannot give any.
fn mark(gate: &Gate, intent: &str, data: &Map<String, Value>) -> String {
    let fields = MARKED.iter().chain(SEEN).map(|field| data.get(*field)).collect::<Vec<_>>();
    gate.sealed.mark(json!(["standing", intent, fields]).to_string().as_bytes())
}

/// The rules that held a request.
fn held_by(said: &Map<String, Value>) -> Vec<String> {
    let rules = said.get("rules").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    rules.filter(|rule| text(rule, "verdict") == "hold").map(|rule| text(rule, "rule")).collect()
}

/// What of the held request goes with it: an auditor sees what was allowed.
const SEEN: &[&str] = &[
    "authority",
    "destinations_hash",
    "digest",
    "environment",
    "measured",
    "method",
    "path",
    "policy",
    "policy_hash",
    "query_names",
    "risk",
];

/// What is marked besides.
const MARKED: &[&str] = &["agent", "destination", "expires_at", "held_by", "operator", "standing", "uses"];

/// A day: what was seen yesterday is looked at again.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// See [`MAX_SECONDS`].
const MAX_USES: u64 = 100;
