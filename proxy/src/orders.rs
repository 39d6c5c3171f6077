//! Orders: the gate's signed leave for a runner of the agent's owner to carry out one declared intent, and its report.
//!
//! An order is given once, for what policy allows at that moment, and is recorded before anyone sees it. The gate sends
//! nothing itself here, and believes a report only as far as saying whose it is.

use std::path::Path;

use anyhow::{Context, Result};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signer as _, SigningKey};
use http::Response;
use jiff::Timestamp;
use ledger::{Draft, EventType, Intent, State};
use policy::{Decision, Executor, Facts};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::body::Reply;
use crate::exchange::decide;
use crate::gate::Gate;
use crate::hold::{self, text};
use crate::intents::{self, Call};
use crate::limits::Limits;
use crate::permit::{self, Order};
use crate::principal::write_private;
use crate::record;
use crate::refusal::Refusal;
use crate::rulebook::Rulebook;
use crate::{agent, home, id, parked};

/// Signs orders with a key that serves nothing else.
pub struct Signer {
    key: SigningKey,
    id: String,
}

/// What a runner says became of its order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    status: Ended,
    /// Status code that the destination answered with.
    http_status: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ended {
    Failed,
    Succeeded,
}

// === impl Signer ===

impl Signer {
    /// The key in `file`, made on first use.
    ///
    /// # Errors
    /// When the file is not private, is not a key, or cannot be made.
    pub fn open(file: &Path) -> Result<Signer> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        if file.exists() {
            home::require_private(file)?;
            let bytes = Zeroizing::new(std::fs::read(file)?);
            let wrong = || format!("`{}` is not a key for orders; remove it and another is made", file.display());
            *seed = bytes.as_slice().try_into().ok().with_context(wrong)?;
        } else {
            getrandom::fill(seed.as_mut()).context("no randomness")?;
            write_private(file, seed.as_slice())?;
        }
        let key = SigningKey::from_bytes(&seed);
        let id = id::digest(key.verifying_key().as_bytes());
        Ok(Signer { key, id: id.chars().take(16).collect() })
    }

    /// The public key as a JSON Web Key (RFC 8037).
    pub fn jwk(&self) -> Value {
        let x = BASE64URL_NOPAD.encode(self.key.verifying_key().as_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.id, "x": x})
    }

    /// Claims as a compact JSON Web Signature (RFC 7515, EdDSA of RFC 8037).
    fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let head = json!({"alg": "EdDSA", "kid": self.id, "typ": "writ-order+jwt"});
        let signed = format!("{}.{}", part(&head), part(claims));
        let signature = BASE64URL_NOPAD.encode(&self.key.sign(signed.as_bytes()).to_bytes());
        format!("{signed}.{signature}")
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whether a declared intent is for a runner to carry out.
pub fn is_for_runner(rulebook: &Rulebook, intent: &Intent) -> bool {
    let template = intent.dest_key.as_deref().and_then(|key| rulebook.rules.template(key));
    let declared = intent.opened.data.get("declared") == Some(&Value::Bool(true));
    declared && template.is_some_and(|template| template.by == Executor::Runner)
}

/// Gives the order for an approved intent. It is decided on once more, like everything that is about to be sent.
///
/// # Errors
/// [`Refusal::LedgerRefused`] when it is not approved, was given already, or is not for a runner; where it stands
/// instead, when policy says something else by now.
pub async fn execute(
    gate: &std::sync::Arc<Gate>,
    call: &Call<'_>,
    intent: &Intent,
) -> Result<Response<Reply>, Refusal> {
    let rulebook = gate.rulebook();
    if !is_for_runner(&rulebook, intent) {
        return conflict("the gate carries this out itself; there is no order for it");
    }
    if intent.state != State::Approved {
        return conflict(&format!("it is `{}`; an order is given once, for what is approved", intent.state.status()));
    }
    if parked::is_expired(gate, intent) {
        return Err(Refusal::Expired(intent.id.clone()));
    }
    let unsealed = hold::unpark(gate, intent).await;
    let (facts, trace) = unsealed.map_err(|error| Refusal::LedgerUnavailable(format!("{error:#}")))?;
    agent::still_served(&gate.principals, &facts.agent)?;
    let Decision::Allow(grant) = decide(&rulebook, &facts, &[]) else {
        parked::resume(gate, &intent.id).await?;
        let intent = gate.ledger.intent(&intent.id).ok_or(Refusal::NotFound)?;
        return hold::answer(gate, &intent, &call.base).await;
    };
    let execution = execution_of(intent);
    let issued = record::now(gate);
    let expires = issued.checked_add(Limits::seconds(gate.limits.order_seconds)).unwrap_or(Timestamp::MAX);
    let claims = claims(gate, intent, &facts, (issued, expires));
    let terms = json!({"execution": execution, "expires_at": expires.to_string()});
    let _receipt =
        permit::commission(gate, Order::resumed(&intent.id, (facts, trace), grant, rulebook), &terms).await?;
    ledger::crash::point("order.recorded");
    Ok(intents::document(&json!({
        "executionId": execution,
        "execution_token": gate.orders.sign(&claims),
        "intent_id": intent.id,
        "expires_at": expires.to_string(),
        "mode": "runner_exec",
        "reportUrl": format!("{}/v1/executions/{execution}/report", call.base),
    })))
}

/// Records what a runner says became of its order; once.
///
/// # Errors
/// [`Refusal::NotFound`] for the order of somebody else, [`Refusal::LedgerRefused`] when it has ended already.
pub async fn report(gate: &Gate, call: &Call<'_>, execution: &str) -> Result<Response<Reply>, Refusal> {
    let told: Report =
        serde_json::from_slice(&call.body).map_err(|error| Refusal::BadDeclaration(error.to_string()))?;
    let intent = execution.strip_prefix(EXECUTION).map(|id| format!("int_{id}"));
    let intent = intents::own(gate, intent.as_deref().unwrap_or_default(), call.agent)?;
    if ordered(&intent).is_none() {
        return conflict("there is no order under way for it; a report is taken once");
    }
    let kind = match told.status {
        Ended::Failed => EventType::ActionFailed,
        Ended::Succeeded => EventType::ActionExecuted,
    };
    let mut ended = outcome(kind, &intent).with("sent", true).with("reported_by", call.agent);
    if let Some(status) = told.http_status {
        ended = ended.with("status", status);
    }
    record::durable(gate, vec![ended], None).await?;
    let intent = gate.ledger.intent(&intent.id).ok_or(Refusal::NotFound)?;
    Ok(intents::document(&intents::status(gate, &intent, &call.base)))
}

/// What nobody reported on in time is unknown: its runner may have carried it out.
pub async fn end_unreported(gate: &Gate) {
    let now = record::now(gate);
    for intent in gate.ledger.intents(&[State::Executing], usize::MAX) {
        if ordered(&intent).is_some_and(|expires| expires <= now) {
            let unknown = outcome(EventType::ActionUnknown, &intent).with("reason", "not_reported");
            record::append_or_log(&gate.ledger, unknown).await;
        }
    }
}

/// What the order says: who may do what, until when. The digest is the one that reviewers voted on.
fn claims(gate: &Gate, intent: &Intent, facts: &Facts, (issued, expires): (Timestamp, Timestamp)) -> Value {
    json!({
        "iss": gate.ledger.head().origin,
        "sub": intent.agent_id,
        "aud": "writ-runner",
        "jti": execution_of(intent),
        "iat": issued.as_second(),
        "exp": expires.as_second(),
        "intent_id": intent.id,
        "digest": text(&intent.opened.data, "digest"),
        "destination": intent.dest_key,
        "method": facts.method,
        "url": format!("{}{}", facts.authority, facts.path),
        "body_sha256": facts.body.sha256(),
    })
}

/// Until when the order of an intent that is being carried out is good; `None` if the gate itself carries it out.
fn ordered(intent: &Intent) -> Option<Timestamp> {
    let order = intent.latest.get("order").filter(|_| intent.state == State::Executing)?;
    Some(order.get("expires_at").and_then(Value::as_str)?.parse().unwrap_or(Timestamp::MIN))
}

fn outcome(kind: EventType, intent: &Intent) -> Draft {
    let mut draft = record::about_intent(kind, intent);
    draft.run_id.clone_from(&intent.run_id);
    draft.action.clone_from(&intent.action);
    draft
}

/// An intent is carried out by one order at most, so both have one number.
fn execution_of(intent: &Intent) -> String {
    format!("{EXECUTION}{}", intent.id.strip_prefix("int_").unwrap_or_default())
}

fn conflict<T>(why: &str) -> Result<T, Refusal> {
    Err(Refusal::LedgerRefused(why.to_owned()))
}

/// What the ids of orders begin with.
const EXECUTION: &str = "exe_";
