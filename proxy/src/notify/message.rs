//! What is told of an event, and in which words.
//!
//! Names the operator gave, states and links; of the request itself something only where the channel asks for it. Never
//! a body, a parameter or a credential, which the ledger does not hold either.

use jiff::{SignedDuration, Timestamp};
use ledger::EventType;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::hold::text;

/// What a channel may tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Topic {
    /// Approved, denied, expired or cancelled; approved in advance, or that withdrawn.
    Decided,
    /// Sent and failed, or of unknown outcome.
    Failed,
    /// Waits for reviewers.
    Held,
    /// What must not happen was tried.
    Violated,
}

/// One event, as it is told.
#[derive(Debug)]
pub(super) struct Notice {
    /// Its number on the ledger.
    pub(super) seq: u64,
    pub(super) ts: Timestamp,
    kind: String,
    link: String,
    event: Map<String, Value>,
}

// === impl Topic ===

impl Topic {
    /// All of them.
    pub(super) const ALL: [Topic; 4] = [Topic::Decided, Topic::Failed, Topic::Held, Topic::Violated];

    /// Its events.
    pub(super) fn kinds(self) -> &'static [EventType] {
        match self {
            Topic::Decided => &[
                EventType::ApprovalCancelled,
                EventType::ApprovalDenied,
                EventType::ApprovalExpired,
                EventType::ApprovalGranted,
                EventType::StandingCreated,
                EventType::StandingRevoked,
            ],
            Topic::Failed => &[EventType::ActionFailed, EventType::ActionUnknown],
            Topic::Held => &[EventType::DecisionApprovalRequired],
            Topic::Violated => &[EventType::Violation],
        }
    }

    fn of(kind: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.kinds().iter().any(|each| each.as_str() == kind))
    }

    fn as_str(self) -> &'static str {
        match self {
            Topic::Decided => "decided",
            Topic::Failed => "failed",
            Topic::Held => "held",
            Topic::Violated => "violated",
        }
    }
}

// === impl Notice ===

impl Notice {
    /// Reads a line of the journal.
    pub(super) fn read(line: &str, config: &Config) -> Option<Notice> {
        let event: Map<String, Value> = serde_json::from_str(line).ok()?;
        let seq = event.get("seq")?.as_u64()?;
        let (ts, kind) = (text(&event, "ts").parse().ok()?, text(&event, "type"));
        let base = config.notifications.link.clone().unwrap_or_else(|| format!("http://{}", config.operator));
        let link = match (text(&event, "intent_id").as_str(), text(&event, "correlation_id").as_str()) {
            ("", "") => format!("{base}/ui/runs"),
            ("", correlation) => format!("{base}/ui/runs/{correlation}"),
            (intent, _) => format!("{base}/ui/approvals/{intent}"),
        };
        Some(Notice { seq, ts, kind, link, event })
    }

    /// Whether it is not older than this.
    pub(super) fn is_fresh(&self, age: SignedDuration) -> bool {
        self.ts.checked_add(age).is_ok_and(|until| Timestamp::now() < until)
    }

    /// The same at every attempt, so that a receiver can leave out what it has.
    pub(super) fn id(&self, origin: &str) -> String {
        format!("{origin}-{}", self.seq)
    }

    fn topic(&self) -> &'static str {
        Topic::of(&self.kind).map_or("", Topic::as_str)
    }

    fn data(&self, field: &str) -> Option<&Value> {
        self.event.get("data")?.get(field)
    }

    fn said(&self, field: &str) -> String {
        self.data(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// One line for people.
    fn line(&self, payload: bool) -> String {
        let about = [text(&self.event, "agent_id"), text(&self.event, "dest_key")].map(|name| escaped(&name));
        let about: Vec<&str> = about.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
        let what = match self.kind.as_str() {
            "decision.approval_required" => "waits for approval",
            "approval.granted" => "approved",
            "approval.denied" => "rejected",
            "approval.expired" => "expired",
            "approval.cancelled" => "cancelled",
            "standing.created" => "approved in advance",
            "standing.revoked" => "no longer approved in advance",
            "action.failed" => "failed",
            "action.unknown" => "sent, and nobody knows what became of it",
            _ => "violation",
        };
        let mut line = format!("*{what}*: {}", about.join(" → "));
        let detail = [self.said("kind"), self.said("severity"), self.said("operator")].map(|word| escaped(&word));
        detail.iter().filter(|word| !word.is_empty()).for_each(|word| line.push_str(&format!(" · {word}")));
        if payload {
            let request = [self.said("method"), format!("{}{}", self.said("authority"), self.said("path"))];
            let measured = self.data("measured").and_then(Value::as_object).into_iter().flatten();
            let measured = measured.map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or_default()));
            let more =
                [request.join(" ").trim().to_owned()].into_iter().chain(measured).chain([self.said("rationale")]);
            more.filter(|word| !word.is_empty()).for_each(|word| line.push_str(&format!(" · {}", escaped(&word))));
        }
        format!("{line} · <{}|look>", self.link)
    }
}

/// One message to Slack about all of them.
pub(super) fn slack(notices: &[&Notice], payload: bool) -> String {
    let lines: Vec<String> = notices.iter().map(|notice| notice.line(payload)).collect();
    json!({"text": lines.join("\n"), "unfurl_links": false, "unfurl_media": false}).to_string()
}

/// The body of one webhook message.
pub(super) fn webhook(notice: &Notice, payload: bool) -> String {
    let named = ["agent_id", "dest_key", "intent_id", "correlation_id"];
    let mut data: Map<String, Value> =
        named.iter().filter_map(|name| Some(((*name).to_owned(), notice.event.get(*name)?.clone()))).collect();
    data.insert("seq".to_owned(), notice.seq.into());
    data.insert("event".to_owned(), notice.kind.as_str().into());
    data.insert("link".to_owned(), notice.link.as_str().into());
    let fields = ALWAYS.iter().chain(if payload { PAYLOAD } else { &[] });
    let fields = fields.filter_map(|name| Some(((*name).to_owned(), notice.data(name)?.clone())));
    data.extend(fields);
    json!({"type": format!("writ.{}", notice.topic()), "timestamp": notice.ts.to_string(), "data": data}).to_string()
}

/// For Slack, in which `<`, `>` and `&` mean something; and nothing that does not print.
fn escaped(text: &str) -> String {
    let plain: String = text.chars().filter(|each| !each.is_control()).take(MOST_CHARACTERS).collect();
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Of an event's data, words of this gate and names that operators gave.
const ALWAYS: &[&str] =
    &["code", "effect", "expires_at", "kind", "operator", "policy", "severity", "standing", "status"];

/// What says something of the request.
const PAYLOAD: &[&str] =
    &["authority", "body_bytes", "detail", "measured", "method", "path", "rationale", "reason", "risk", "rules"];

/// Of one word of a message.
const MOST_CHARACTERS: usize = 300;
