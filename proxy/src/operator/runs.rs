//! What agents did: recent requests with decision and outcome, and everything recorded about one of them.
//!
//! Read from the ledger, each time; nothing here has a memory of its own but the counts of hours that are over.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse};
use jiff::Timestamp;
use ledger::{EventType, Ledger, Past, State};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::card::{self, Measured, Reason, Risk};
use super::chart::Chart;
use super::frame::{Frame, shown};
use super::guard::Guard;
use super::{Fault, internal};
use crate::gate::Gate;
use crate::hold::text;
use crate::principal::Principal;

/// What to show, as the page's own form and links say it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default)]
    agent: String,
    #[serde(default)]
    destination: String,
    #[serde(default)]
    decision: String,
    /// Only requests not older than this; RFC 3339, or a date and time in UTC as a browser's field gives it.
    #[serde(default)]
    since: String,
    /// Only requests not newer.
    #[serde(default)]
    until: String,
    /// Only those recorded before this entry: the next page.
    before: Option<u64>,
}

/// One request in the list.
struct Run {
    correlation: String,
    time: String,
    agent: String,
    destination: String,
    method: String,
    target: String,
    decision: &'static str,
    outcome: String,
    status: String,
}

/// One entry about a request.
struct Entry {
    seq: u64,
    ts: String,
    kind: String,
    hash: String,
    prev: String,
    data: String,
}

#[derive(Template)]
#[template(path = "runs.html")]
struct RunsPage {
    frame: Frame,
    filter: Filter,
    agents: Vec<String>,
    destinations: Vec<String>,
    runs: Vec<Run>,
    older: Option<String>,
    /// Where the evidence of this filter is; the decision is no part of it.
    evidence: String,
    chart: Chart,
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage {
    frame: Frame,
    run: Run,
    measured: Vec<Measured>,
    risk: Option<Risk>,
    reasons: Vec<Reason>,
    policy: String,
    policy_hash: String,
    digest: String,
    intent: String,
    credential: String,
    entries: Vec<Entry>,
}

/// The list.
pub(super) async fn list(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(guard): Extension<Arc<Guard>>,
    Extension(operator): Extension<Principal>,
    Query(filter): Query<Filter>,
) -> Result<impl IntoResponse, Fault> {
    let past = filter.past()?;
    let (ledger, now) = (gate.ledger.clone(), Timestamp::now());
    let read = tokio::task::spawn_blocking(move || -> Result<_, ledger::ReadError> {
        let page = ledger.past(&past)?;
        let runs: Vec<Run> = page.lines.iter().map(|line| Run::read(&ledger, line)).collect::<Result<_, _>>()?;
        Ok((runs, page.older, guard.counts.chart(&ledger, now)?))
    });
    let (runs, older, chart) = read.await.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
    let rulebook = gate.rulebook();
    shown(&RunsPage {
        frame: Frame::of(&gate, &operator, "runs"),
        agents: gate.principals.list(crate::principal::Kind::Agent).into_iter().map(|agent| agent.name).collect(),
        destinations: rulebook.rules.destinations().map(|destination| destination.key.clone()).collect(),
        older: older.map(|before| filter.page(before)),
        evidence: filter.evidence(),
        filter,
        runs,
        chart,
    })
}

/// One request with all its entries.
pub(super) async fn one(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(correlation): Path<String>,
) -> Result<Html<String>, Fault> {
    let query = ledger::Query { correlation: Some(correlation.clone()), limit: ENTRIES, ..Default::default() };
    let ledger = gate.ledger.clone();
    let read = tokio::task::spawn_blocking(move || ledger.events(&query)).await;
    let lines = read.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
    let events: Vec<Map<String, Value>> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let Some(decided) = events.iter().find(|event| DECISIONS.iter().any(|kind| kind.as_str() == text(event, "type")))
    else {
        return Err(Fault(StatusCode::NOT_FOUND, format!("nothing is recorded about `{correlation}`")));
    };
    let data = data(decided);
    let last = events.iter().rev().find(|event| text(event, "type").starts_with("action.")).map(self::data);
    shown(&RunPage {
        frame: Frame::of(&gate, &operator, "runs"),
        run: Run::of(decided, &events),
        measured: card::measured(&data),
        risk: card::risk(&data),
        reasons: card::reasons(&data),
        policy: text(&data, "policy"),
        policy_hash: text(&data, "policy_hash"),
        digest: text(&data, "digest"),
        intent: events.iter().map(|event| text(event, "intent_id")).find(|id| !id.is_empty()).unwrap_or_default(),
        credential: last.as_ref().and_then(|data| data.get("credential")).map(Value::to_string).unwrap_or_default(),
        entries: events.iter().map(Entry::of).collect(),
    })
}

// === impl Filter ===

impl Filter {
    fn past(&self) -> Result<Past, Fault> {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let kinds = match self.decision.as_str() {
            "" => DECISIONS.to_vec(),
            "allow" => vec![EventType::DecisionAllowed],
            "deny" => vec![EventType::DecisionDenied],
            "hold" => vec![EventType::DecisionApprovalRequired],
            "refused" => vec![EventType::RequestRefused],
            _ => return Err(Fault(StatusCode::BAD_REQUEST, "there is no such decision".to_owned())),
        };
        Ok(Past {
            kinds,
            agent: given(&self.agent),
            destination: given(&self.destination),
            before: self.before,
            since: time(&self.since)?,
            until: time(&self.until)?,
            limit: RUNS,
        })
    }

    /// The address of the page that begins before an entry.
    fn page(&self, before: u64) -> String {
        let fields = [
            ("agent", self.agent.as_str()),
            ("destination", &self.destination),
            ("decision", &self.decision),
            ("since", &self.since),
            ("until", &self.until),
        ];
        format!("/ui/runs?{}before={before}", pairs(&fields))
    }

    /// The address of the evidence about what it matches.
    fn evidence(&self) -> String {
        let zoned = |text: &str| time(text).ok().flatten().map(|time| time.to_string()).unwrap_or_default();
        let (since, until) = (zoned(&self.since), zoned(&self.until));
        let fields =
            [("agent", self.agent.as_str()), ("destination", &self.destination), ("since", &since), ("until", &until)];
        format!("/v1/export?{}", pairs(&fields))
    }
}

/// Those that have a value, for a query.
fn pairs(fields: &[(&str, &str)]) -> String {
    let given = fields.iter().filter(|(_, value)| !value.is_empty());
    given.map(|(name, value)| format!("{name}={}&", percent_encoded(value))).collect()
}

/// A value in a query: everything but letters, digits and `-._~` percent-encoded (RFC 3986, section 2.3).
fn percent_encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A time as people and browsers write it; without a zone it is UTC.
fn time(text: &str) -> Result<Option<Timestamp>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let zoned = text.parse::<Timestamp>().ok();
    let plain = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let found = zoned.or_else(|| plain().map(|time| time.timestamp()));
    found
        .map(Some)
        .ok_or_else(|| Fault(StatusCode::BAD_REQUEST, format!("`{text}` is no time such as 2026-01-31T08:00")))
}

// === impl Run ===

impl Run {
    /// The row of a decision, with what became of it.
    fn read(ledger: &Ledger, line: &str) -> Result<Run, ledger::ReadError> {
        let decided: Map<String, Value> = serde_json::from_str(line).unwrap_or_default();
        let kind = text(&decided, "type");
        if let Some(intent) = ledger.intent(&text(&decided, "intent_id")) {
            let status = intent.latest.get("status").map(Value::to_string).unwrap_or_default();
            return Ok(Run { outcome: stands(intent.state).to_owned(), status, ..Run::of(&decided, &[]) });
        }
        if kind != "decision.allowed" {
            return Ok(Run::of(&decided, &[]));
        }
        let later = |limit: usize| -> Result<Vec<Map<String, Value>>, ledger::ReadError> {
            let (correlation, after) =
                (Some(text(&decided, "correlation_id")), decided.get("seq").and_then(Value::as_u64));
            let lines = ledger.events(&ledger::Query { correlation, after, limit, ..Default::default() })?;
            Ok(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
        };
        // What follows it is nearly always its outcome; looking for more looks through all that came since.
        let next = later(1)?;
        let outcome = next.first().is_some_and(|event| text(event, "type").starts_with("action."));
        Ok(Run::of(&decided, &if outcome { next } else { later(ENTRIES)? }))
    }

    fn of(decided: &Map<String, Value>, events: &[Map<String, Value>]) -> Run {
        let data = data(decided);
        let kind = text(decided, "type");
        let ended = events.iter().rev().find(|event| {
            let kind = text(event, "type");
            kind.starts_with("action.") || (kind.starts_with("approval.") && kind != "approval.vote")
        });
        let status = ended.map(self::data).and_then(|data| data.get("status").map(Value::to_string));
        Run {
            correlation: text(decided, "correlation_id"),
            time: text(decided, "ts"),
            agent: text(decided, "agent_id"),
            destination: text(decided, "dest_key"),
            method: text(&data, "method"),
            target: format!("{}{}", text(&data, "authority"), text(&data, "path")),
            decision: match kind.as_str() {
                "decision.allowed" => "allow",
                "decision.denied" => "deny",
                "decision.approval_required" => "hold",
                _ => "refused",
            },
            outcome: outcome(&kind, ended.map(|event| text(event, "type")).as_deref(), &data),
            status: status.unwrap_or_default(),
        }
    }
}

/// Where an intent stands, in the words of [`outcome`].
fn stands(state: State) -> &'static str {
    match state {
        State::Held => "pending",
        State::Succeeded => "executed",
        State::Approved
        | State::Blocked
        | State::Cancelled
        | State::Executing
        | State::Expired
        | State::Failed
        | State::Rejected
        | State::Unknown => state.as_str(),
    }
}

/// What became of a request, in a word.
fn outcome(decided: &str, ended: Option<&str>, data: &Map<String, Value>) -> String {
    let ended = ended.map(|kind| kind.rsplit('.').next().unwrap_or(kind));
    match (decided, ended) {
        (_, Some("denied")) => "rejected".to_owned(),
        (_, Some("granted")) => "approved".to_owned(),
        (_, Some(word)) => word.to_owned(),
        ("decision.approval_required", None) => "pending".to_owned(),
        ("decision.allowed", None) => "under way".to_owned(),
        ("request.refused", None) => text(data, "code"),
        ("decision.denied", None) if data.contains_key("code") => text(data, "code"),
        (_, None) => "blocked".to_owned(),
    }
}

// === impl Entry ===

impl Entry {
    fn of(event: &Map<String, Value>) -> Entry {
        Entry {
            seq: event.get("seq").and_then(Value::as_u64).unwrap_or_default(),
            ts: text(event, "ts"),
            kind: text(event, "type"),
            hash: text(event, "entry_hash"),
            prev: text(event, "prev_hash"),
            data: serde_json::to_string_pretty(&data(event)).unwrap_or_default(),
        }
    }
}

fn data(event: &Map<String, Value>) -> Map<String, Value> {
    event.get("data").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// The events with which a request begins.
pub(super) const DECISIONS: &[EventType] = &[
    EventType::DecisionAllowed,
    EventType::DecisionApprovalRequired,
    EventType::DecisionDenied,
    EventType::RequestRefused,
];

/// Requests on one page.
const RUNS: usize = 50;

/// Entries about one request; no honest one has as many.
const ENTRIES: usize = 1000;
