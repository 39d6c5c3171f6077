//! What goes on the ledger, and in which words. Never a secret, a parameter's value or a body.
//!
//! Every record is an awaited call that can refuse the request; none is written in passing.

use http::HeaderMap;
use jiff::Timestamp;
use ledger::{AppendError, Draft, EventType, Ledger, Receipt};
use policy::{Basis, Facts, Fault, Invalid, Match, Severity};
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::id;
use crate::limits::Limits;
use crate::refusal::Refusal;
use crate::repeat;
use crate::span::Context;

/// What ties the events of one request together, and what its agent claims about it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// `corr_…`, one per request as the agent sent it.
    pub correlation: String,
    /// Claimed run id (`Writ-Run-Id`).
    pub run: Option<String>,
    /// Claimed parent run id (`Writ-Parent-Run-Id`).
    pub parent: Option<String>,
    /// Claimed cause (`Writ-Trigger`).
    pub trigger: Option<String>,
    /// Whether its agent declared it rather than sent it.
    pub declared: bool,
    /// Where it stands in a trace, when there is a collector.
    pub span: Option<Context>,
}

/// Which execution an outcome belongs to.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Correlation and claims.
    pub trace: Trace,
    /// The intent, when the request had been held.
    pub intent: Option<String>,
    agent: String,
    action: String,
    destination: String,
}

/// How an execution ended.
#[derive(Debug)]
pub enum Outcome {
    /// The upstream answered with success.
    Executed(Value),
    /// It did not succeed. `sent` is false when no byte left.
    Failed {
        /// Whether anything was sent.
        sent: bool,
        /// What is known about it.
        data: Value,
    },
    /// Something was sent, and what became of it is not known.
    Unknown(Value),
}

// === impl Trace ===

impl Trace {
    /// A fresh correlation id with the claims in `headers`. Claims that are not plain short text are left out.
    ///
    /// # Errors
    /// [`Refusal::LedgerUnavailable`] when there is no randomness: nothing could be recorded under a name of its own.
    pub fn begin(headers: &HeaderMap) -> Result<Trace, Refusal> {
        let claim = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).and_then(plain_claim);
        Ok(Trace {
            correlation: correlation()?,
            run: claim("writ-run-id"),
            parent: claim("writ-parent-run-id"),
            trigger: claim("writ-trigger"),
            declared: false,
            span: None,
        })
    }

    /// An event of this request.
    pub(crate) fn draft(&self, kind: EventType) -> Draft {
        let mut draft = Draft::new(kind).correlation(&self.correlation);
        if let Some(run) = &self.run {
            draft = draft.run(run);
        }
        if self.declared {
            draft = draft.with("declared", true);
        }
        match (&self.parent, &self.trigger) {
            (None, None) => draft,
            (parent, trigger) => {
                draft.with("claims", without_nulls(json!({"parent_run_id": parent, "trigger": trigger})))
            }
        }
    }
}

// === impl Ticket ===

impl Ticket {
    /// Whose request it is.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// Under which name its reply is kept.
    pub fn mailbox(&self) -> &str {
        self.intent.as_deref().unwrap_or(&self.trace.correlation)
    }

    /// Key of its destination, or of the call.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// The ticket of a request that is about to be executed for `destination`.
    pub fn new(trace: Trace, intent: Option<String>, facts: &Facts, destination: &str) -> Ticket {
        Ticket { trace, intent, agent: facts.agent.clone(), action: action(facts), destination: destination.to_owned() }
    }

    fn draft(&self, kind: EventType) -> Draft {
        let draft = self.trace.draft(kind).agent(&self.agent).action(&self.action).destination(&self.destination);
        match &self.intent {
            Some(intent) => draft.intent(intent),
            None => draft,
        }
    }

    /// The event that authorises the execution: `decision.allowed`, or `action.executing` for a held request.
    pub fn authorised(&self, facts: &Facts, basis: &Basis) -> Draft {
        let kind = if self.intent.is_some() { EventType::ActionExecuting } else { EventType::DecisionAllowed };
        described(self.draft(kind), facts, basis)
    }

    /// The event that takes one use of a standing approval.
    pub fn used(&self, standing: &str) -> Draft {
        self.draft(EventType::StandingUsed).with("standing", standing)
    }

    /// The event that says what must never happen, did.
    pub fn violation(&self, kind: &str, severity: &str) -> Draft {
        self.draft(EventType::Violation).with("kind", kind).with("severity", severity)
    }

    /// The event of its outcome.
    pub fn outcome(&self, outcome: Outcome) -> Draft {
        let (kind, sent, data) = match outcome {
            Outcome::Executed(data) => (EventType::ActionExecuted, true, data),
            Outcome::Failed { sent, data } => (EventType::ActionFailed, sent, data),
            Outcome::Unknown(data) => (EventType::ActionUnknown, true, data),
        };
        let mut draft = self.draft(kind).with("sent", sent);
        if let Value::Object(fields) = without_nulls(data) {
            for (key, value) in fields {
                draft = draft.with(key, value);
            }
        }
        draft
    }
}

/// The time that counts: the clock's, and never before the ledger's last entry.
pub fn now(gate: &Gate) -> Timestamp {
    Timestamp::now().max(gate.ledger.head().ts)
}

/// A fresh correlation id.
///
/// # Errors
/// [`Refusal::LedgerUnavailable`] when there is no randomness.
pub fn correlation() -> Result<String, Refusal> {
    id::fresh("corr_").map_err(|error| Refusal::LedgerUnavailable(error.to_string()))
}

/// A decision about `facts` as an event: denied, or held for `intent`.
pub fn decision(kind: EventType, trace: &Trace, facts: &Facts, basis: &Basis) -> Draft {
    let draft = trace.draft(kind).agent(&facts.agent).action(action(facts));
    let draft = match &basis.destination {
        Some(key) => draft.destination(key),
        None => draft,
    };
    described(draft, facts, basis)
}

/// An event about an intent that carries no facts of its own: a vote, an expiry.
pub fn about_intent(kind: EventType, intent: &ledger::Intent) -> Draft {
    let draft = Draft::new(kind).intent(&intent.id).correlation(&intent.correlation_id).agent(&intent.agent_id);
    match &intent.dest_key {
        Some(key) => draft.destination(key),
        None => draft,
    }
}

/// Appends and waits until the events are durable, at most the time the ledger is given.
///
/// # Errors
/// [`Refusal::LedgerUnavailable`], or what the ledger refuses them for. When the time is up the events may still become
/// durable later; what was authorised by them, for the execution of this ticket, is then closed as not sent.
pub async fn durable(gate: &Gate, drafts: Vec<Draft>, ticket: Option<&Ticket>) -> Result<Vec<Receipt>, Refusal> {
    let ledger = gate.ledger.clone();
    let mut append = Box::pin(async move { ledger.append(drafts).await });
    match tokio::time::timeout(Limits::millis(gate.limits.ledger_millis), &mut append).await {
        Ok(Ok(receipts)) => Ok(receipts),
        Ok(Err(error)) => Err(refusal(&error)),
        Err(_) => {
            let ledger = gate.ledger.clone();
            let late = || Outcome::Failed { sent: false, data: json!({"reason": "recorded_too_late"}) };
            let closing = ticket.map(|ticket| ticket.outcome(late()));
            tokio::spawn(async move {
                if let (Ok(_), Some(closing)) = (append.await, closing) {
                    append_or_log(&ledger, closing).await;
                }
            });
            Err(Refusal::LedgerUnavailable("the ledger did not answer in time".to_owned()))
        }
    }
}

/// Appends what no request waits for any more; a failure latches the ledger, so nothing after it can leave either. Only
/// the state of an intent is waited for by somebody.
pub async fn append_or_log(ledger: &Ledger, draft: Draft) {
    let kind = draft.kind;
    let appended = match draft.intent_id {
        None => ledger.append_soon(vec![draft]).await,
        Some(_) => ledger.append(vec![draft]).await,
    };
    if let Err(error) = appended {
        tracing::error!(kind = kind.as_str(), %error, "an event could not be recorded");
    }
}

/// Says why a configuration was not put in force: each error with its place, and nothing of the file itself.
pub fn refused_configuration(invalid: &Invalid) -> Draft {
    let shown = |fault: &Fault| {
        let Fault { code, file, line, column, message, .. } = fault;
        json!({"code": code, "file": file, "line": line, "column": column, "message": message})
    };
    let errors = || invalid.0.iter().filter(|fault| fault.severity == Severity::Error);
    let shown: Vec<Value> = errors().take(SHOWN_FAULTS).map(|fault| without_nulls(shown(fault))).collect();
    let first = errors().next().map(Fault::to_string).unwrap_or_default();
    Draft::new(EventType::ConfigRefused)
        .with("reason", first)
        .with("fault_count", errors().count() as u64)
        .with("faults", shown)
}

fn refusal(error: &AppendError) -> Refusal {
    match error {
        AppendError::Duplicate { first } if repeat::is_repeated(first) => Refusal::Repeated(first.clone()),
        AppendError::Duplicate { first } => Refusal::Duplicate(first.holder().to_owned(), None),
        AppendError::Killed { switch } => Refusal::Killed(switch.scope(), None),
        AppendError::NoSpace { .. } => Refusal::NoSpace(error.to_string()),
        AppendError::NoStanding { .. } => Refusal::StandingSpent(error.to_string()),
        AppendError::OverBudget { key, retry_after_seconds } => {
            Refusal::OverLimit(key.clone(), *retry_after_seconds, None)
        }
        AppendError::AlreadyExecuting { .. }
        | AppendError::Illegal { .. }
        | AppendError::NoExecution { .. }
        | AppendError::NotSwitchedOn
        | AppendError::Repeated { .. }
        | AppendError::Standing { .. } => Refusal::LedgerRefused(error.to_string()),
        AppendError::Busy
        | AppendError::Incomplete { .. }
        | AppendError::Latched(_)
        | AppendError::Reserved { .. }
        | AppendError::Text { .. }
        | AppendError::TooLarge { .. }
        | AppendError::Unrepresentable { .. } => Refusal::LedgerUnavailable(error.to_string()),
    }
}

/// What was decided about, and on which ground.
fn described(draft: Draft, facts: &Facts, basis: &Basis) -> Draft {
    let rules: Vec<Value> = basis
        .rules
        .iter()
        .map(|each| json!({"rule": each.rule, "verdict": each.verdict, "reason": each.reason}))
        .collect();
    let mut draft = draft
        .with("method", facts.method.as_str())
        .with("authority", facts.authority.to_string())
        .with("path", facts.path.as_str())
        .with("body_sha256", facts.body.sha256())
        .with("body_bytes", facts.body.len() as u64)
        .with("digest", basis.digest.as_str())
        .with("destinations_hash", basis.destinations_hash.as_str())
        .with("rules", rules);
    if !basis.measured.is_empty() {
        draft = draft.with("measured", json!(basis.measured));
    }
    if let Some(hash) = &basis.manifest_hash {
        draft = draft.with("manifest_hash", hash.as_str());
    }
    if let Some(profile) = &basis.profile {
        draft = draft.with("profile", json!(profile));
    }
    if let Some(environment) = &basis.environment {
        draft = draft.with("environment", environment.as_str());
    }
    if let Some(verdict) = &basis.shadow {
        draft = draft.with("shadow", json!(verdict));
    }
    if let Some(detectors) = &basis.dlp {
        draft = draft.with("dlp_hash", detectors.as_str());
    }
    if let Some(risk) = &basis.risk {
        draft = draft.with("risk", json!(risk));
    }
    let names = query_names(facts.query.as_deref());
    if !names.is_empty() {
        draft = draft.with("query_names", names);
    }
    if let Some(effect) = &basis.effect {
        draft = draft.with("effect", json!(effect));
    }
    if let (Some(policy), Some(hash)) = (&basis.policy, &basis.policy_hash) {
        draft = draft.with("policy", policy.as_str()).with("policy_hash", hash.as_str());
    }
    draft
}

/// What a recorded decision rests on: the inverse of `described`, which leaves out remedies and the finds' weights.
///
/// None when the event is no decision.
pub fn basis(event: &Value) -> Option<Basis> {
    let data = event.get("data")?;
    let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
    let rules = data.get("rules")?.as_array()?.iter().map(|rule| {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let verdict = serde_json::from_value(rule.get("verdict")?.clone()).ok()?;
        Some(Match { rule: text("rule"), verdict, reason: text("reason"), remedy: String::new() })
    });
    let read = |key: &str| data.get(key).cloned().unwrap_or_default();
    Some(Basis {
        destination: event.get("dest_key").and_then(Value::as_str).map(str::to_owned),
        effect: serde_json::from_value(read("effect")).ok(),
        policy: text("policy"),
        policy_hash: text("policy_hash"),
        environment: text("environment"),
        profile: serde_json::from_value(read("profile")).ok(),
        manifest_hash: text("manifest_hash"),
        destinations_hash: text("destinations_hash")?,
        rules: rules.collect::<Option<_>>()?,
        measured: serde_json::from_value(read("measured")).unwrap_or_default(),
        dlp: text("dlp_hash"),
        risk: serde_json::from_value(read("risk")).ok(),
        shadow: serde_json::from_value(read("shadow")).ok(),
        digest: text("digest")?,
    })
}

/// `http.post` and so on.
fn action(facts: &Facts) -> String {
    format!("http.{}", facts.method.to_ascii_lowercase())
}

fn query_names(query: Option<&str>) -> Vec<String> {
    // What stands without `=` is a value as likely as a name, and values are not recorded.
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let mut names: Vec<String> = pairs.map(|(name, _)| name.chars().take(64).collect()).collect();
    names.sort();
    names.dedup();
    names.truncate(64);
    names
}

/// A claim, if it is plain short text.
pub fn plain_claim(text: &str) -> Option<String> {
    let plain = !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then(|| text.to_owned())
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        Value::Array(_) | Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => value,
    }
}

/// How many faults of a refused configuration are recorded one by one.
const SHOWN_FAULTS: usize = 20;
