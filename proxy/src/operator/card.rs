//! What a reviewer sees of one intent, made from the bytes that will run and from nothing the agent says about them.
//!
//! Never decides anything; what it shows is what a vote binds (digest and reasons).

use ledger::{EventType, Intent, Past, State};
use policy::Facts;
use serde_json::{Map, Value};

use super::visible::{self, Piece};
use super::vote;
use crate::gate::Gate;
use crate::hold::{self, text};
use crate::id;
use crate::principal::{Kind, Principal, Role};

/// An intent as a card.
pub(super) struct Card {
    pub(super) id: String,
    pub(super) correlation: String,
    /// Changes when anything changes that a vote would be about.
    pub(super) version: String,
    pub(super) state: State,
    pub(super) agent: String,
    pub(super) owner: String,
    pub(super) destination: String,
    pub(super) effect: String,
    pub(super) method: String,
    pub(super) authority: String,
    pub(super) path: Vec<Piece>,
    pub(super) query: Vec<Piece>,
    /// What it does in one line, where its destination has a profile.
    pub(super) summary: Vec<Piece>,
    pub(super) policy: String,
    pub(super) measured: Vec<Measured>,
    pub(super) risk: Option<Risk>,
    pub(super) reasons: Vec<Reason>,
    pub(super) claims: Vec<Claim>,
    pub(super) content: Content,
    /// How often the agent sent the same method and path before, in words.
    pub(super) seen: String,
    pub(super) votes: Vec<Cast>,
    pub(super) approvals: u64,
    pub(super) opened: String,
    pub(super) expires: String,
    pub(super) digest: String,
    /// The hash of the reasons, which goes back with a vote.
    pub(super) reasons_hash: String,
    /// Why an approval is good for this request alone; empty when it can be remembered for others like it.
    pub(super) alone: String,
    /// Why the operator who looks cannot vote; empty when they can.
    pub(super) no_vote: String,
}

/// One measured fact.
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) unmeasurable: bool,
}

/// The risk that was computed.
pub(super) struct Risk {
    pub(super) score: u64,
    pub(super) level: String,
    pub(super) parts: Vec<(String, u64)>,
}

/// A rule that spoke.
pub(super) struct Reason {
    pub(super) rule: String,
    pub(super) verdict: String,
    pub(super) reason: String,
}

/// What the agent says, which nobody has checked.
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) text: Vec<Piece>,
}

/// A vote that was given.
pub(super) struct Cast {
    pub(super) operator: String,
    pub(super) verdict: String,
    pub(super) rationale: String,
}

/// The stored request's headers and body.
pub(super) enum Content {
    /// Masked for this operator.
    Masked,
    /// It cannot be shown, and why.
    Missing(String),
    /// As it will be sent, or its beginning.
    Whole { headers: Vec<Claim>, body: Vec<Piece>, bytes: usize, hidden: usize },
}

// === impl Card ===

impl Card {
    /// The card of an intent for an operator, with at most `limit` bytes of the body.
    pub(super) async fn of(gate: &Gate, operator: &Principal, intent: &Intent, limit: usize) -> Card {
        let data = &intent.opened.data;
        let waits = matches!(intent.state, State::Held | State::Approved | State::Unknown);
        let sealed = if waits { Some(hold::unpark(gate, intent).await) } else { None };
        let (facts, missing) = match sealed {
            Some(Ok((facts, _))) => (Some(facts), String::new()),
            Some(Err(error)) => (None, format!("{error:#}")),
            None => (None, "the request is no longer kept".to_owned()),
        };
        let agent = gate.principals.named(Kind::Agent, &intent.agent_id);
        let binds = [text(data, "digest"), text(data, "reasons"), intent.state.as_str().to_owned()];
        Card {
            version: id::digest(format!("{binds:?}{:?}", intent.votes).as_bytes()),
            id: intent.id.clone(),
            correlation: intent.correlation_id.clone(),
            state: intent.state,
            owner: agent.map(|agent| agent.owner).unwrap_or_default(),
            agent: intent.agent_id.clone(),
            destination: intent.dest_key.clone().unwrap_or_default(),
            effect: text(data, "effect").replace('_', " "),
            method: text(data, "method"),
            authority: text(data, "authority"),
            path: visible::pieces(text(data, "path").as_bytes()),
            query: visible::pieces(query_shown(facts.as_ref(), operator).as_bytes()),
            summary: visible::pieces(summary(gate, facts.as_ref(), operator).as_bytes()),
            policy: text(data, "policy"),
            measured: measured(data),
            risk: risk(data),
            reasons: reasons(data),
            claims: claims(intent),
            content: content(operator, facts.as_ref(), missing, limit),
            seen: seen(gate, intent).await,
            votes: intent.votes.iter().map(Cast::of).collect(),
            approvals: data.get("approvals").and_then(Value::as_u64).unwrap_or(1),
            opened: intent.opened.ts.to_string(),
            expires: text(data, "expires_at"),
            digest: text(data, "digest"),
            reasons_hash: text(data, "reasons"),
            alone: text(data, "alone"),
            no_vote: vote::check_voter(gate, operator, intent).err().map(|fault| fault.1).unwrap_or_default(),
        }
    }

    /// Whether it waits for votes.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Held | State::Approved)
    }

    /// Whether it was sent and nobody knows what became of it.
    pub(super) fn is_unknown(&self) -> bool {
        self.state == State::Unknown
    }

    /// How many have approved.
    pub(super) fn approved(&self) -> usize {
        self.votes.iter().filter(|cast| cast.verdict == "approve").count()
    }
}

// === impl Cast ===

impl Cast {
    fn of(vote: &Map<String, Value>) -> Cast {
        Cast { operator: text(vote, "operator"), verdict: text(vote, "verdict"), rationale: text(vote, "rationale") }
    }
}

/// What the ledger knows of the same request: so often among the agent's last ones there, and when last.
async fn seen(gate: &Gate, intent: &Intent) -> String {
    let past = Past {
        kinds: vec![EventType::DecisionAllowed, EventType::ActionExecuting],
        agent: Some(intent.agent_id.clone()),
        destination: intent.dest_key.clone(),
        limit: LOOKED_BACK,
        ..Past::default()
    };
    let ledger = gate.ledger.clone();
    let Ok(Ok(page)) = tokio::task::spawn_blocking(move || ledger.past(&past)).await else {
        return "the ledger cannot be read".to_owned();
    };
    let line = |data: &Map<String, Value>| ["method", "authority", "path"].map(|field| text(data, field));
    let wanted = line(&intent.opened.data);
    let events = page.lines.iter().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
    let same =
        events.filter(|event| event.get("data").and_then(Value::as_object).is_some_and(|data| line(data) == wanted));
    let times: Vec<String> = same.map(|event| text(&event, "ts")).collect();
    match (times.as_slice(), page.lines.len()) {
        ([], 0) => "the first request of this agent there".to_owned(),
        ([], all) => format!("not among the last {all} requests of this agent there"),
        ([last, ..], all) => {
            let often = if times.len() == 1 { "once".to_owned() } else { format!("{} times", times.len()) };
            let last = last.split('.').next().unwrap_or_default().replace('T', " ");
            format!("seen {often} among the last {all} of this agent there, last on {last} UTC")
        }
    }
}

/// The measured facts of a decision, by name.
pub(super) fn measured(data: &Map<String, Value>) -> Vec<Measured> {
    let all = data.get("measured").and_then(Value::as_object);
    let each = all.into_iter().flatten().map(|(name, value)| {
        let value = value.as_str().unwrap_or_default();
        let why = value.strip_prefix("unmeasurable");
        let value = why.map_or(value, |why| why.trim_start_matches(':').trim()).to_owned();
        Measured { name: name.clone(), value, unmeasurable: why.is_some() }
    });
    each.collect()
}

/// The risk of a decision.
pub(super) fn risk(data: &Map<String, Value>) -> Option<Risk> {
    let risk = data.get("risk")?.as_object()?;
    let parts = risk.get("parts").and_then(Value::as_object);
    let parts = parts.into_iter().flatten().map(|(name, weight)| (name.clone(), weight.as_u64().unwrap_or(0)));
    Some(Risk { score: risk.get("score")?.as_u64()?, level: text(risk, "level"), parts: parts.collect() })
}

/// The rules of a decision.
pub(super) fn reasons(data: &Map<String, Value>) -> Vec<Reason> {
    let rules = data.get("rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let rules = rules.iter().filter_map(Value::as_object);
    rules
        .map(|rule| Reason { rule: text(rule, "rule"), verdict: text(rule, "verdict"), reason: text(rule, "reason") })
        .collect()
}

fn claims(intent: &Intent) -> Vec<Claim> {
    let given = intent.opened.data.get("claims").and_then(Value::as_object);
    let given = given.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
    let run = intent.run_id.as_deref().map(|run| ("run_id", run));
    let all = run.into_iter().chain(given);
    all.map(|(name, text)| Claim { name: name.replace('_', " "), text: visible::pieces(text.as_bytes()) }).collect()
}

/// A query may hold what a body holds, so it is masked like one.
fn query_shown(facts: Option<&Facts>, operator: &Principal) -> String {
    match facts.and_then(|facts| facts.query.as_deref()) {
        Some(query) if operator.role >= Some(Role::Reviewer) => format!("?{query}"),
        Some(_) => "?… (masked)".to_owned(),
        None => String::new(),
    }
}

/// It repeats parts of the body, so it is masked like one.
fn summary(gate: &Gate, facts: Option<&Facts>, operator: &Principal) -> String {
    let facts = facts.filter(|_| operator.role >= Some(Role::Reviewer));
    facts.and_then(|facts| gate.rulebook().rules.summary(facts)).unwrap_or_default()
}

fn content(operator: &Principal, facts: Option<&Facts>, missing: String, limit: usize) -> Content {
    let Some(facts) = facts else { return Content::Missing(missing) };
    if operator.role < Some(Role::Reviewer) {
        return Content::Masked;
    }
    let body = facts.body.bytes();
    let shown = body.get(..body.len().min(limit)).unwrap_or_default();
    let header =
        |(name, value): &(String, String)| Claim { name: name.clone(), text: visible::pieces(value.as_bytes()) };
    Content::Whole {
        headers: facts.headers.iter().map(header).collect(),
        body: visible::pieces(shown),
        bytes: body.len(),
        hidden: body.len() - shown.len(),
    }
}

/// Earlier requests that are looked at.
const LOOKED_BACK: usize = 50;
