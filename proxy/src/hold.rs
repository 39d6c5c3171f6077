//! Held requests: sealed whole until a person has decided.
//!
//! What runs after an approval is the request stored here, byte for byte; a retry of the agent only asks for its state.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use ledger::{Draft, EventType, Intent, Once, State};
use policy::{Authority, Ballot, Body, Facts, Hold, Match, Scheme, Verdict, Vote};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;

use crate::body::Reply;
use crate::gate::Gate;
use crate::id;
use crate::limits::Limits;
use crate::mailbox;
use crate::record::{self, Trace};
use crate::refusal::{Pending, Refusal};
use crate::reviewer;

/// The first line of a sealed request; its body follows.
#[derive(Serialize, Deserialize)]
struct StoredRequest {
    agent: String,
    method: String,
    tls: bool,
    authority: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    correlation: String,
    run: Option<String>,
    parent: Option<String>,
    trigger: Option<String>,
    #[serde(default)]
    declared: bool,
}

/// A request that has to wait for reviewers.
#[derive(Debug)]
pub struct Waiting<'a> {
    /// The request.
    pub facts: &'a Facts,
    /// Why, and for what.
    pub hold: &'a Hold,
    /// What ties its events together.
    pub trace: &'a Trace,
    /// The key it takes, when it is carried out once.
    pub once: Option<Once>,
    /// The event that announces it, when it was declared.
    pub announced: Option<Draft>,
}

/// Which intent a request was held for before, and who wants it held again, why.
#[derive(Clone, Copy, Debug)]
pub struct Retried<'a> {
    /// The intent whose outcome nobody knows.
    pub of: &'a str,
    /// The operator.
    pub by: &'a str,
    /// Their words.
    pub rationale: &'a str,
}

// === impl Waiting ===

impl Waiting<'_> {
    /// The event that says it is held, for which reasons, until when.
    pub fn draft(&self, gate: &Gate) -> Draft {
        let hold = self.hold;
        let expires = record::now(gate).checked_add(hold.expiry).unwrap_or(Timestamp::MAX);
        let draft = record::decision(EventType::DecisionApprovalRequired, self.trace, self.facts, &hold.basis)
            .with("reasons", hold.reasons.as_str())
            .with("approvals", hold.approvals)
            .with("approvers", json!(hold.approvers))
            .with("on_no_response", json!(hold.no_response))
            .with("expires_at", expires.to_string())
            .once(self.once.as_slice());
        match hold.alone {
            Some(why) => draft.with("alone", why),
            None => draft,
        }
    }
}

/// Seals the request and records that it waits. Returns the intent's id; an identical request that waits already is
/// joined instead.
///
/// # Errors
/// [`Refusal::TooMany`] over the limits on waiting intents; [`Refusal::LedgerUnavailable`] when it cannot be stored.
pub async fn park(gate: &Gate, request: &Waiting<'_>, retried: Option<Retried<'_>>) -> Result<String, Refusal> {
    let Waiting { facts, hold, trace, .. } = request;
    let _one_at_a_time = gate.parking.lock().await;
    let waiting = gate.ledger.intents(&[State::Approved, State::Held], usize::MAX);
    let same = waiting.iter().find(|intent| {
        let is_same = || text(&intent.opened.data, "digest") == hold.basis.digest;
        intent.state == State::Held && intent.agent_id == facts.agent && is_same()
    });
    if let Some(same) = same {
        return Ok(same.id.clone());
    }
    check_room(gate, &waiting, &facts.agent)?;
    let mut draft = request.draft(gate);
    if let Some(Retried { of, by, rationale }) = retried {
        draft = draft.with("retry_of", of).with("retried_by", by).with("retry_rationale", rationale);
    }
    open_sealed(gate, (facts, trace), request.announced.iter().cloned().chain([draft]).collect()).await
}

/// Whether one more may wait, beside those that do.
///
/// # Errors
/// [`Refusal::TooMany`].
pub fn check_room(gate: &Gate, waiting: &[Intent], agent: &str) -> Result<(), Refusal> {
    if waiting.len() >= Limits::size(gate.limits.pending) {
        return Err(Refusal::TooMany("too many requests wait for approval at this gate".to_owned()));
    }
    let own = gate.limits.pending_per_agent;
    if waiting.iter().filter(|intent| intent.agent_id == agent).count() >= Limits::size(own) {
        return Err(Refusal::TooMany(format!("{own} requests of this agent wait for approval already")));
    }
    Ok(())
}

/// Opens an intent whose request may be sent later: seals that, then records the drafts under a fresh id.
///
/// # Errors
/// [`Refusal::LedgerUnavailable`] when it cannot be stored, and the ledger's own refusals.
pub async fn open_sealed(gate: &Gate, (facts, trace): (&Facts, &Trace), drafts: Vec<Draft>) -> Result<String, Refusal> {
    let intent = fresh()?;
    seal(gate, request_name(&intent), stored_request(facts, trace).map_err(unavailable)?).await.map_err(unavailable)?;
    ledger::crash::point("hold.sealed");
    record::durable(gate, drafts.into_iter().map(|draft| draft.intent(&intent)).collect(), None).await?;
    ledger::crash::point("hold.recorded");
    Ok(intent)
}

/// Opens an intent that will never be sent.
///
/// # Errors
/// As the ledger's.
pub async fn open(gate: &Gate, drafts: Vec<Draft>) -> Result<String, Refusal> {
    let intent = fresh()?;
    record::durable(gate, drafts.into_iter().map(|draft| draft.intent(&intent)).collect(), None).await?;
    Ok(intent)
}

fn fresh() -> Result<String, Refusal> {
    id::fresh("int_").map_err(|error| Refusal::LedgerUnavailable(error.to_string()))
}

/// The stored request of an intent, with the votes given on it.
///
/// # Errors
/// When it cannot be unsealed, or is not the request whose digest the ledger holds.
pub async fn unpark(gate: &Gate, intent: &Intent) -> Result<(Facts, Trace)> {
    let (line, body) = unseal(gate, request_name(&intent.id)).await?.context("the sealed request is gone")?;
    let stored: StoredRequest = serde_json::from_slice(&line).context("the sealed request cannot be read")?;
    let scheme = if stored.tls { Scheme::Https } else { Scheme::Http };
    let facts = Facts {
        agent: stored.agent,
        method: stored.method,
        authority: Authority::parse(scheme, &stored.authority).map_err(|error| anyhow!("{error}"))?,
        path: stored.path,
        query: stored.query,
        headers: stored.headers,
        body: Body::new(body),
        votes: intent
            .votes
            .iter()
            .filter(|data| is_signed(gate, &intent.id, data))
            .filter_map(|data| vote(gate, &intent.agent_id, data))
            .collect(),
        unanswered: false,
        lost: Vec::new(),
    };
    let key = intent.dest_key.as_deref().unwrap_or_default();
    if facts.digest(key) != text(&intent.opened.data, "digest") {
        return Err(anyhow!("the sealed request is not the one that was shown"));
    }
    let StoredRequest { correlation, run, parent, trigger, declared, .. } = stored;
    let trace = Trace { correlation, run, parent, trigger, declared, span: None };
    Ok((facts, trace))
}

/// The event that a reviewer's denial, which counts among the votes of `facts`, becomes.
pub fn denial_of_a_reviewer(intent: &Intent, facts: &Facts) -> Option<Draft> {
    let against = facts.votes.iter().find(|vote| vote.ballot == Ballot::Deny)?;
    let cast = intent.votes.iter().find(|data| text(data, "operator") == against.operator)?;
    let denied = record::about_intent(EventType::ApprovalDenied, intent).with("operator", against.operator.as_str());
    Some(denied.with("rationale", text(cast, "rationale")))
}

/// A vote with the gate's mark on it: who can only write the journal cannot vote with it.
pub fn signed(gate: &Gate, vote: Draft) -> Draft {
    let mark = mark(gate, vote.intent_id.as_deref().unwrap_or_default(), &vote.data);
    vote.with("mark", mark)
}

fn is_signed(gate: &Gate, intent: &str, data: &Map<String, Value>) -> bool {
    let expected = mark(gate, intent, data);
    bool::from(expected.as_bytes().ct_eq(text(data, "mark").as_bytes()))
}

fn mark(gate: &Gate, intent: &str, data: &Map<String, Value>) -> String {
    let fields = ["operator", "verdict", "rationale", "digest", "reasons"].map(|field| text(data, field));
    let whole = json!([intent, fields]).to_string();
    gate.sealed.mark(whole.as_bytes())
}

/// Removes the sealed request of an intent that will never be sent.
pub async fn forget(gate: &Gate, intent: &str) {
    let (sealed, name) = (Arc::clone(&gate.sealed), request_name(intent));
    match tokio::task::spawn_blocking(move || sealed.remove(&name)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(intent, %error, "a sealed request could not be removed"),
        Err(error) => tracing::error!(intent, %error, "a sealed request could not be removed"),
    }
}

/// What an intent's agent is told now: its stored reply, or the refusal that says where it stands.
///
/// # Errors
/// The refusal; [`Refusal::Pending`] while it is not decided or not done.
pub async fn answer(gate: &Gate, intent: &Intent, base: &str) -> Result<Response<Reply>, Refusal> {
    let id = intent.id.clone();
    match intent.state {
        State::Approved | State::Executing | State::Held => {
            Err(Refusal::Pending(Box::new(pending(gate, intent, base))))
        }
        State::Cancelled => Err(Refusal::Cancelled(id)),
        State::Expired => Err(Refusal::Expired(id)),
        State::Rejected => Err(Refusal::Rejected(id, text(&intent.latest, "rationale"))),
        State::Blocked => Err(Refusal::Blocked(id, blocked_reason(&intent.latest))),
        State::Unknown => Err(Refusal::UnknownOutcome(format!(
            "the outcome of intent `{id}` is not known: {}",
            text(&intent.latest, "reason")
        ))),
        State::Failed | State::Succeeded => mailbox::reply(gate, intent).await,
    }
}

/// Waits until an intent is decided and done, at most `seconds`.
pub async fn wait(gate: &Gate, id: &str, seconds: u64) -> Option<Intent> {
    let mut changes = gate.ledger.subscribe();
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    loop {
        let intent = gate.ledger.intent(id)?;
        let settled = match intent.state {
            State::Approved | State::Executing | State::Held => false,
            State::Blocked
            | State::Cancelled
            | State::Expired
            | State::Failed
            | State::Rejected
            | State::Succeeded
            | State::Unknown => true,
        };
        let changed = gate.stop.run_until_cancelled(tokio::time::timeout_at(end, changes.changed()));
        if settled || !matches!(changed.await, Some(Ok(Ok(())))) {
            return Some(intent);
        }
    }
}

/// What a held request is told, from the state of its intent.
pub fn pending(gate: &Gate, intent: &Intent, base: &str) -> Pending {
    let rules = intent.opened.data.get("rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let public = gate.config.public_url.as_deref().unwrap_or(base).trim_end_matches('/');
    Pending {
        status_url: format!("{public}/v1/intents/{}", intent.id),
        intent: intent.id.clone(),
        expires_at: text(&intent.opened.data, "expires_at"),
        retry_after: RETRY_AFTER_SECONDS,
        rules: rules.iter().filter_map(held_rule).collect(),
        destination: intent.dest_key.clone(),
        status: gate.config.hold_status,
    }
}

/// A field of an event's data as text; empty when it is not there.
pub fn text(data: &Map<String, Value>, key: &str) -> String {
    data.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Why a policy that came later denied it.
pub fn blocked_reason(latest: &Map<String, Value>) -> String {
    let rules = latest.get("rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let denied = rules.iter().find(|rule| rule.get("verdict").and_then(Value::as_str) == Some("deny"));
    denied.and_then(|rule| rule.get("reason")?.as_str()).unwrap_or("no reason is recorded").to_owned()
}

fn stored_request(facts: &Facts, trace: &Trace) -> Result<Vec<u8>> {
    let stored = StoredRequest {
        agent: facts.agent.clone(),
        method: facts.method.clone(),
        tls: facts.authority.scheme() == Scheme::Https,
        authority: facts.authority.host_header(),
        path: facts.path.clone(),
        query: facts.query.clone(),
        headers: facts.headers.clone(),
        correlation: trace.correlation.clone(),
        run: trace.run.clone(),
        parent: trace.parent.clone(),
        trigger: trace.trigger.clone(),
        declared: trace.declared,
    };
    Ok(joined(serde_json::to_vec(&stored)?, facts.body.bytes()))
}

/// A line, and what follows it.
pub(crate) fn joined(mut line: Vec<u8>, body: &[u8]) -> Vec<u8> {
    line.push(b'\n');
    line.extend_from_slice(body);
    line
}

/// Seals bytes under a name.
pub(crate) async fn seal(gate: &Gate, name: String, bytes: Vec<u8>) -> Result<()> {
    let sealed = Arc::clone(&gate.sealed);
    Ok(tokio::task::spawn_blocking(move || sealed.put(&name, &bytes)).await??)
}

/// The first line and the rest of what is sealed under a name.
pub(crate) async fn unseal(gate: &Gate, name: String) -> Result<Option<(Bytes, Bytes)>> {
    let sealed = Arc::clone(&gate.sealed);
    let Some(whole) = tokio::task::spawn_blocking(move || sealed.get(&name)).await?? else { return Ok(None) };
    let whole = Bytes::from_owner(whole);
    let end = whole.iter().position(|byte| *byte == b'\n').context("there is no head")?;
    Ok(Some((whole.slice(..end), whole.slice(end + 1..))))
}

/// The vote of an operator who may vote now: one who was revoked since has none left.
fn vote(gate: &Gate, agent: &str, data: &Map<String, Value>) -> Option<Vote> {
    let operator = reviewer::named(gate, &text(data, "operator"), agent)?;
    let ballot = match data.get("verdict").and_then(Value::as_str)? {
        "approve" => Ballot::Approve,
        "deny" => Ballot::Deny,
        _ => return None,
    };
    Some(Vote {
        operator: operator.name,
        ballot,
        digest: text(data, "digest"),
        reasons: text(data, "reasons"),
        groups: operator.groups.into_iter().collect(),
    })
}

fn held_rule(value: &Value) -> Option<Match> {
    let field = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let held = field("verdict")? == "hold";
    held.then_some(Match {
        rule: field("rule")?,
        verdict: Verdict::Hold,
        reason: field("reason")?,
        remedy: String::new(),
    })
}

fn unavailable(error: anyhow::Error) -> Refusal {
    Refusal::LedgerUnavailable(format!("{error:#}"))
}

/// File of a sealed request.
pub fn request_name(intent: &str) -> String {
    format!("{intent}.request")
}

/// Seconds an agent should leave between two looks at an intent.
const RETRY_AFTER_SECONDS: u64 = 5;
