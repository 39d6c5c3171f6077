//! Intents that an agent declares: a payload for a destination, whose template makes a request of it.
//!
//! That request is read, decided on, recorded and sent like any other. What an agent says beside the payload is a claim:
//! it may make the decision stricter, never milder.

use std::sync::Arc;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use ledger::{Draft, EventType, Intent, Once, State, Taken};
use policy::{Body, Decision, Denial, Execute, Executor, Facts, Grant, Hold, Match, Verdict};
use serde::Deserialize;
use serde_json::Value;

use crate::body::Reply;
use crate::exchange::decide;
use crate::flood::Source;
use crate::gate::Gate;
use crate::hold::{self, Waiting};
use crate::intents::{self, Call};
use crate::permit::check_switches;
use crate::record::{self, Trace};
use crate::refusal::Refusal;
use crate::repeat::{self, IDEMPOTENCY_KEY};
use crate::rulebook::Rulebook;
use crate::{inject, parked, path, token};

/// What an agent declares: in the words of this API, of `/invoke`, or of Zehrava Gate's clients.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declaration {
    #[serde(alias = "dest_key")]
    destination: String,
    #[serde(default)]
    payload: Value,
    /// What the agent calls what it does.
    action: Option<String>,
    /// Who it says it is; must be who it is.
    agent: Option<String>,
    /// Which policy it expects; must be the one in force.
    policy: Option<String>,
    idempotency_key: Option<String>,
    /// How long it may wait at most, such as `15m`.
    #[serde(rename = "expiresIn")]
    expires_in: Option<String>,
    /// Claims that Zehrava Gate decides on. Here the payload itself is measured.
    #[serde(rename = "recordCount")]
    _record_count: Option<Value>,
    #[serde(rename = "estimated_value_usd")]
    _estimated_value_usd: Option<Value>,
    #[serde(rename = "sensitivity_tags")]
    _sensitivity_tags: Option<Value>,
    #[serde(rename = "on_behalf_of")]
    _on_behalf_of: Option<Value>,
    #[serde(rename = "metadata")]
    _metadata: Option<Value>,
}

/// The request that a declaration became, before it is recorded.
struct Made<'a> {
    facts: &'a Facts,
    trace: &'a Trace,
    once: Option<Once>,
    /// The event that announces it.
    announced: Draft,
    /// How long the agent wants it to wait at most.
    limit: Option<SignedDuration>,
}

/// Records what an agent declares, and what becomes of it: sent, left to its runner, held or blocked.
///
/// # Errors
/// [`Refusal::BadDeclaration`] for what is none, [`Refusal::Pending`] when it is held; as for any request besides.
pub async fn declare(gate: &Arc<Gate>, call: &Call<'_>) -> Result<Response<Reply>, Refusal> {
    let declared: Declaration =
        serde_json::from_slice(&call.body).map_err(|error| Refusal::BadDeclaration(error.to_string()))?;
    if declared.agent.as_deref().is_some_and(|claimed| claimed != call.agent) {
        return Err(bad("`agent` is not the agent whose token this is"));
    }
    let limit = declared.expires_in.as_deref().map(duration).transpose()?;
    let trace = Trace { declared: true, ..call.trace.clone() };
    let rulebook = gate.rulebook();
    let template = rulebook.rules.template(&declared.destination);
    let template = template.ok_or_else(|| Refusal::NotDeclarable(declared.destination.clone()))?;
    let facts = facts(&rulebook, template, call.agent, &declared)?;
    let once = repeat::once(gate, rulebook.destination_called(&declared.destination, &facts), &facts)?;
    let announced = announcement(&declared, &trace, call.agent);
    let made = Made { facts: &facts, trace: &trace, once: once.clone(), announced, limit };
    let opened = match once.as_ref().and_then(|once| gate.ledger.taken(&once.key)) {
        Some(first) => Err(Refusal::Repeated(Box::new(first))),
        None => decided(gate, &rulebook, made, &declared).await,
    };
    match (opened, once) {
        (Err(Refusal::Repeated(first)), Some(once)) => repeated(gate, call, &first, &once).await,
        (opened, _) => {
            let intent = gate.ledger.intent(&opened?).ok_or(Refusal::NotFound)?;
            if intent.state == State::Approved && template.by == Executor::Gate {
                gate.tasks.spawn(carried_out(Arc::clone(gate), intent.id.clone()));
            }
            told(gate, call, &intent)
        }
    }
}

/// Decides, and opens the intent with what was decided.
async fn decided(gate: &Gate, rulebook: &Rulebook, made: Made<'_>, declared: &Declaration) -> Result<String, Refusal> {
    match stricter(decide(rulebook, made.facts, &[]), declared) {
        Decision::Allow(grant) => allowed(gate, made, &grant).await,
        Decision::Deny(denial) => {
            let denied = record::decision(EventType::DecisionDenied, made.trace, made.facts, &denial.basis);
            hold::open(gate, vec![made.announced, denied]).await
        }
        Decision::Hold(hold) => held(gate, rulebook, made, hold).await,
    }
}

/// It may be carried out, within a time.
async fn allowed(gate: &Gate, made: Made<'_>, grant: &Grant) -> Result<String, Refusal> {
    let waiting = gate.ledger.intents(&[State::Approved, State::Held], usize::MAX);
    hold::check_room(gate, &waiting, &made.facts.agent)?;
    let limit = made.limit.unwrap_or(ALLOWED_FOR).min(ALLOWED_FOR);
    let expires = record::now(gate).checked_add(limit).unwrap_or(Timestamp::MAX);
    let allowed = record::decision(EventType::DecisionAllowed, made.trace, made.facts, grant.basis())
        .with("expires_at", expires.to_string())
        .once(made.once.as_slice());
    hold::open_sealed(gate, (made.facts, made.trace), vec![made.announced, allowed]).await
}

async fn held(gate: &Gate, rulebook: &Rulebook, made: Made<'_>, hold: Hold) -> Result<String, Refusal> {
    let key = hold.basis.destination.as_deref().unwrap_or_default();
    let base = rulebook.destination_called(key, made.facts).map_or(key, |destination| destination.key.as_str());
    check_switches(gate, &made.facts.agent, [key, base]).map_err(|refusal| refusal.about(made.facts, &hold.basis))?;
    let hold = Hold { expiry: made.limit.map_or(hold.expiry, |limit| hold.expiry.min(limit)), ..hold };
    let Made { facts, trace, once, announced, .. } = made;
    hold::park(gate, &Waiting { facts, hold: &hold, trace, once, announced: Some(announced) }, None).await
}

async fn carried_out(gate: Arc<Gate>, intent: String) {
    if let Err(refusal) = parked::resume(&gate, &intent).await {
        let code = refusal.answer().code;
        tracing::warn!(intent, code, cause = refusal.cause(), "a declared intent was not carried out");
    }
}

/// The request that the template makes of the payload.
fn facts(rulebook: &Rulebook, template: &Execute, agent: &str, declared: &Declaration) -> Result<Facts, Refusal> {
    let mut headers = vec![("content-type".to_owned(), template.content_type.clone())];
    if let Some(key) = &declared.idempotency_key {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("`idempotency_key` is not plain text"));
        }
        headers.push((IDEMPOTENCY_KEY.to_owned(), key.clone()));
    }
    let mut facts = Facts {
        agent: agent.to_owned(),
        method: template.method.clone(),
        authority: template.authority.clone(),
        path: path::canonical(&template.path)?,
        query: None,
        headers,
        body: Body::new(body(&declared.payload, &template.content_type)?),
        votes: Vec::new(),
        unanswered: false,
        lost: Vec::new(),
    };
    let destination = rulebook.destination_called(&declared.destination, &facts);
    if let Some(limit) = destination.and_then(|found| found.max_body).filter(|limit| facts.body.len() as u64 > *limit) {
        return Err(Refusal::BodyTooLarge(limit));
    }
    let credential = destination.and_then(|destination| rulebook.credential_of(destination));
    inject::prepare(rulebook.placeholders.as_ref(), credential, &mut facts)?;
    if token::is_in(&facts) { Err(Refusal::TokenInRequest) } else { Ok(facts) }
}

/// The payload as it is sent: text as it stands, everything else as JSON, or as a form where the destination takes one.
fn body(payload: &Value, content_type: &str) -> Result<Bytes, Refusal> {
    match payload {
        Value::Null => Ok(Bytes::new()),
        Value::String(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Value::Object(fields) if content_type.starts_with("application/x-www-form-urlencoded") => {
            let form = serde_urlencoded::to_string(fields);
            form.map(Bytes::from).map_err(|_| bad("a form takes texts, numbers and booleans only"))
        }
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Ok(Bytes::from(payload.to_string())),
    }
}

/// The event that says what was asked for, in the agent's own words where they are plain.
fn announcement(declared: &Declaration, trace: &Trace, agent: &str) -> Draft {
    let action = declared.action.as_deref().and_then(record::plain_claim);
    let draft = trace.draft(EventType::ActionRequested).agent(agent).destination(&declared.destination);
    draft.action(action.unwrap_or_else(|| "declare".to_owned()))
}

/// An agent that expects another policy does not know what it asks for.
fn stricter(decision: Decision, declared: &Declaration) -> Decision {
    let mut basis = decision.basis().clone();
    if declared.policy.is_none() || declared.policy == basis.policy {
        return decision;
    }
    let in_force = basis.policy.as_deref().unwrap_or("none");
    let claim = Match {
        rule: "claims.policy".to_owned(),
        verdict: Verdict::Deny,
        reason: format!("the destination is under the policy `{in_force}`, not under the one that was named"),
        remedy: "leave `policy` out, or name that one".to_owned(),
    };
    basis.rules.insert(0, claim);
    Decision::Deny(Denial { basis })
}

/// Records that it was declared before, and tells where the first one stands.
async fn repeated(gate: &Gate, call: &Call<'_>, first: &Taken, once: &Once) -> Result<Response<Reply>, Refusal> {
    let intent = first.intent_id.as_deref().filter(|_| first.digest == once.digest);
    let Some(intent) = intent.and_then(|id| gate.ledger.intent(id)) else {
        return Err(Refusal::Duplicate(first.holder().to_owned(), None));
    };
    let source = Source { peer: call.peer, agent: Some(call.agent) };
    gate.refusals.record(gate, &source, &Refusal::Repeated(Box::new(first.clone())), call.trace).await?;
    let mut response = intents::document(&intents::status(gate, &intent, &call.base));
    response.headers_mut().insert("writ-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// What the agent is told of an intent that was just opened.
fn told(gate: &Gate, call: &Call<'_>, intent: &Intent) -> Result<Response<Reply>, Refusal> {
    let pending = hold::pending(gate, intent, &call.base);
    if intent.state == State::Held {
        return Err(Refusal::Pending(Box::new(pending)));
    }
    let mut response = intents::document(&intents::status(gate, intent, &call.base));
    *response.status_mut() = StatusCode::CREATED;
    let decision = if intent.state == State::Blocked { "deny" } else { "allow" };
    let headers = response.headers_mut();
    headers.insert("writ-decision", HeaderValue::from_static(decision));
    for (name, value) in [(LOCATION.as_str(), &pending.status_url), ("writ-intent-id", &intent.id)] {
        if let (Ok(name), Ok(value)) = (http::HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// `90`, `90s`, `15m`, `1h` or `7d`.
fn duration(text: &str) -> Result<SignedDuration, Refusal> {
    let wrong = || bad("`expiresIn` is no time such as `90s`, `15m`, `1h` or `7d`");
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit: i64 = match text.strip_prefix(digits) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        Some("d") => 86_400,
        Some(_) | None => return Err(wrong()),
    };
    let number: i64 = digits.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit).filter(|seconds| (1..=MAX_SECONDS).contains(seconds)).ok_or_else(wrong)?;
    Ok(SignedDuration::from_secs(seconds))
}

fn bad(why: &str) -> Refusal {
    Refusal::BadDeclaration(why.to_owned())
}

/// How long something that is allowed may wait to be carried out.
const ALLOWED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Seconds an agent may name; a year.
const MAX_SECONDS: i64 = 366 * 86_400;
