//! How a refusal is written: problem details (RFC 9457), or the hold document.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Map, Value, json};

use crate::answer::{Answer, first_denial};
use crate::record::Trace;
use crate::refusal::{Challenge, Pending, Refusal};

// === impl Refusal ===

impl Refusal {
    /// The whole HTTP answer: RFC 9457 problem details, or the hold document.
    pub fn respond(&self, trace: &Trace) -> Response<Bytes> {
        let answer = self.answer();
        let kind = if self.pending().is_some() { "application/json" } else { "application/problem+json" };
        let document = self.document(&answer);
        let mut response = Response::new(Bytes::from(format!("{document}\n")));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert("writ-decision", HeaderValue::from_static(self.decision()));
        if let Ok(id) = HeaderValue::from_str(&trace.correlation) {
            headers.insert("writ-correlation-id", id);
        }
        if let Refusal::NotIdentified(challenge) | Refusal::WrongCredential(challenge) = self {
            let name = match challenge {
                Challenge::Origin => header::WWW_AUTHENTICATE,
                Challenge::Proxy => header::PROXY_AUTHENTICATE,
            };
            headers.insert(name, HeaderValue::from_static("Basic realm=\"writ\""));
        }
        if matches!(self, Refusal::TooMany(_) | Refusal::Busy(_) | Refusal::LedgerUnavailable(_) | Refusal::NoSpace(_))
        {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if let Refusal::OverLimit(_, Some(seconds), _) = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
        }
        if let Some(held) = self.pending() {
            hold_headers(headers, held);
        }
        if answer.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The problem document, or the hold document.
    pub fn document(&self, answer: &Answer) -> Value {
        self.pending().map_or_else(|| self.problem(answer), |held| hold_document(held, answer))
    }

    /// What a held request is told, if it is held.
    pub fn pending(&self) -> Option<&Pending> {
        if let Refusal::Pending(held) = self { Some(held) } else { None }
    }

    /// Value of `Writ-Decision`.
    pub fn decision(&self) -> &'static str {
        match self.answer().status.as_u16() {
            _ if self.pending().is_some() => "hold",
            403 | 410 | 413 | 414 | 417 | 421 | 429 => "deny",
            _ => "error",
        }
    }

    fn problem(&self, answer: &Answer) -> Value {
        let mut document = Map::new();
        document.insert("type".into(), json!(format!("https://writ.internal/problems/{}", answer.code)));
        document.insert("title".into(), json!(answer.title));
        document.insert("status".into(), json!(answer.status.as_u16()));
        document.insert("detail".into(), json!(answer.detail));
        document.insert("code".into(), json!(answer.code));
        document.insert("retryable".into(), json!(answer.retryable));
        document.insert("remedy".into(), json!(answer.remedy));
        if let Some((_, basis)) = self.decided() {
            document.insert("rule".into(), json!(first_denial(basis).map(|rule| rule.rule.as_str())));
            document.insert("policy".into(), json!(basis.policy));
            document.insert("destination".into(), json!(basis.destination));
        }
        if let Refusal::Blocked(id, _) | Refusal::Rejected(id, _) | Refusal::Expired(id) | Refusal::Cancelled(id) = self
        {
            document.insert("intentId".into(), json!(id));
        }
        document.retain(|_, value| !value.is_null());
        Value::Object(document)
    }
}

fn hold_document(held: &Pending, answer: &Answer) -> Value {
    json!({
        "status": "pending_approval",
        "intentId": held.intent,
        "statusUrl": held.status_url,
        "expiresAt": held.expires_at,
        "retryAfterSeconds": held.retry_after,
        "reason": answer.detail,
        "destination": held.destination,
        "message": answer.remedy,
    })
}

fn hold_headers(headers: &mut http::HeaderMap, held: &Pending) {
    let pairs = [
        ("location", held.status_url.clone()),
        ("retry-after", held.retry_after.to_string()),
        ("writ-intent-id", held.intent.clone()),
        ("x-gate-intent-id", held.intent.clone()),
    ];
    for (name, value) in pairs {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}
