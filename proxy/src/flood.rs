//! Refusals as events: one by one up to a rate, then counted, so that a flood of them cannot fill the disk.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ledger::{Draft, EventType};
use policy::{Basis, Facts};

use crate::gate::Gate;
use crate::record::{self, Trace};
use crate::refusal::Refusal;

/// Refusals, denials among them: recorded one by one up to a rate, then as one counted event per source and second.
#[derive(Debug, Default)]
pub struct Refusals {
    seconds: Mutex<HashMap<(String, &'static str), Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    second: u64,
    recorded: u64,
    counted: u64,
}

/// Who was refused.
#[derive(Debug)]
pub struct Source<'a> {
    /// Address of the client.
    pub peer: IpAddr,
    /// Its agent, where known.
    pub agent: Option<&'a str>,
}

// === impl Refusals ===

impl Refusals {
    /// Records that `source` was refused, at once or in a count that follows within a second or two.
    ///
    /// # Errors
    /// [`Refusal::LedgerUnavailable`] when it had to be recorded at once and could not be.
    pub async fn record(
        &self,
        gate: &Gate,
        source: &Source<'_>,
        refused: &Refusal,
        trace: &Trace,
    ) -> Result<(), Refusal> {
        let code = refused.answer().code;
        if !self.admit(source.name(), code, gate.limits.refusals_per_second) {
            return Ok(());
        }
        let draft = match refused.decided() {
            Some(decided) => stopped(decided, refused, trace),
            None => unread(source, refused, trace),
        };
        record::durable(gate, vec![draft], None).await.map(|_| ())
    }

    /// Counts that became due, as events.
    pub fn due(&self, everything: bool) -> Vec<Draft> {
        let now = seconds_now();
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut drafts = Vec::new();
        seconds.retain(|(source, code), bucket| {
            if !everything && bucket.second >= now {
                return true;
            }
            if bucket.counted > 0 {
                let draft = Draft::new(EventType::RequestRefused).with("code", *code).with("source", source.as_str());
                drafts.push(draft.with("count", bucket.counted).with("aggregated", true));
            }
            false
        });
        drafts
    }

    fn admit(&self, source: String, code: &'static str, per_second: u64) -> bool {
        let now = seconds_now();
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = seconds.entry((source, code)).or_insert(Bucket { second: now, recorded: 0, counted: 0 });
        if bucket.recorded < per_second || (bucket.second != now && bucket.counted == 0) {
            bucket.recorded = if bucket.second == now { bucket.recorded + 1 } else { 1 };
            bucket.second = now;
            return true;
        }
        bucket.counted += 1;
        false
    }
}

/// A request that was decided on and is not sent: denied, or stopped by what the ledger or an operator says.
pub(crate) fn stopped((facts, basis): (&Facts, &Basis), refused: &Refusal, trace: &Trace) -> Draft {
    let kind =
        if matches!(refused, Refusal::Killed(..)) { EventType::RequestRefused } else { EventType::DecisionDenied };
    let draft = detailed(record::decision(kind, trace, facts, basis), refused);
    if matches!(refused, Refusal::Denied(_)) { draft } else { draft.with("code", refused.answer().code) }
}

/// A request that nothing was decided about.
fn unread(source: &Source<'_>, refused: &Refusal, trace: &Trace) -> Draft {
    let kind = violation(refused).map_or(EventType::RequestRefused, |_| EventType::Violation);
    let mut draft = trace.draft(kind).with("code", refused.answer().code).with("source", source.peer.to_string());
    if let Some((what, severity)) = violation(refused) {
        draft = draft.with("kind", what).with("severity", severity);
    }
    draft = detailed(draft, refused);
    if let Refusal::Repeated(first) = refused {
        draft = draft.with("first", first.holder());
    }
    match source.agent {
        Some(agent) => draft.agent(agent),
        None => draft,
    }
}

fn detailed(mut draft: Draft, refused: &Refusal) -> Draft {
    if let Refusal::Ambiguous(detail)
    | Refusal::AuthorityMismatch(detail)
    | Refusal::Duplicate(detail, _)
    | Refusal::Killed(detail, _)
    | Refusal::NotMarked(detail)
    | Refusal::NoRoute(detail)
    | Refusal::OverLimit(detail, ..) = refused
    {
        draft = draft.with("detail", detail.as_str());
    }
    if let Refusal::OverLimit(_, Some(seconds), _) = refused {
        draft = draft.with("retry_after_seconds", *seconds);
    }
    draft
}

// === impl Source ===

impl Source<'_> {
    fn name(&self) -> String {
        match (self.agent, self.peer) {
            (Some(agent), _) => agent.to_owned(),
            (None, IpAddr::V4(v4)) => v4.to_string(),
            // One client has a whole /64 of addresses.
            (None, IpAddr::V6(v6)) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).to_string(),
        }
    }
}

/// Which refusals are violations, of which kind and severity.
pub(crate) fn violation(refused: &Refusal) -> Option<(&'static str, &'static str)> {
    match refused {
        Refusal::Ambiguous(_) => Some(("ambiguous_request", "MEDIUM")),
        Refusal::AuthorityMismatch(_) => Some(("authority_mismatch", "MEDIUM")),
        Refusal::NotMarked(_) => Some(("from_a_page", "MEDIUM")),
        Refusal::PlaceholderMisplaced => Some(("placeholder_misplaced", "HIGH")),
        Refusal::TokenInRequest => Some(("token_in_request", "HIGH")),
        Refusal::WrongCredential(_) => Some(("wrong_credential", "HIGH")),
        Refusal::AgentSuspended
        | Refusal::BadDeclaration(_)
        | Refusal::Blocked(..)
        | Refusal::BodyTooLarge(_)
        | Refusal::Busy(_)
        | Refusal::Cancelled(_)
        | Refusal::ClientGone
        | Refusal::Denied(_)
        | Refusal::Duplicate(..)
        | Refusal::Expectation
        | Refusal::Expired(_)
        | Refusal::HeadTooLarge(_)
        | Refusal::Killed(..)
        | Refusal::LedgerRefused(_)
        | Refusal::LedgerUnavailable(_)
        | Refusal::MethodRefused(_)
        | Refusal::NoKey(_)
        | Refusal::NoPlace(_)
        | Refusal::NoSpace(_)
        | Refusal::NotDeclarable(_)
        | Refusal::NotFound
        | Refusal::NotIdentified(_)
        | Refusal::NoRoute(_)
        | Refusal::OverLimit(..)
        | Refusal::Pending(_)
        | Refusal::PlaceholderRequired
        | Refusal::RangeRefused
        | Refusal::Rejected(..)
        | Refusal::Repeated(_)
        | Refusal::ReplyWithheld(_)
        | Refusal::SlowRequest(_)
        | Refusal::StandingSpent(_)
        | Refusal::TargetTooLong(_)
        | Refusal::TooMany(_)
        | Refusal::UpgradeRefused(_)
        | Refusal::Upstream(_)
        | Refusal::TokenRefused(_)
        | Refusal::TokenUnreachable(_)
        | Refusal::Unfetched(..)
        | Refusal::UnknownOutcome(_)
        | Refusal::VaultUnavailable(_) => None,
    }
}

/// Whether it stands there already as the state of an intent or the outcome of an execution, cannot stand there, or is
/// nothing to hold against anyone.
pub fn is_on_the_ledger(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Blocked(..)
        | Refusal::Cancelled(_)
        | Refusal::Expired(_)
        | Refusal::LedgerRefused(_)
        | Refusal::LedgerUnavailable(_)
        | Refusal::NoSpace(_)
        | Refusal::NotFound
        | Refusal::NotIdentified(_)
        | Refusal::Pending(_)
        | Refusal::Rejected(..)
        | Refusal::ReplyWithheld(_)
        | Refusal::StandingSpent(_)
        | Refusal::Upstream(_)
        | Refusal::TokenRefused(_)
        | Refusal::TokenUnreachable(_)
        | Refusal::Unfetched(..)
        | Refusal::UnknownOutcome(_)
        | Refusal::VaultUnavailable(_) => true,
        Refusal::AgentSuspended
        | Refusal::Ambiguous(_)
        | Refusal::AuthorityMismatch(_)
        | Refusal::BadDeclaration(_)
        | Refusal::BodyTooLarge(_)
        | Refusal::Busy(_)
        | Refusal::ClientGone
        | Refusal::Denied(_)
        | Refusal::Duplicate(..)
        | Refusal::Expectation
        | Refusal::HeadTooLarge(_)
        | Refusal::Killed(..)
        | Refusal::MethodRefused(_)
        | Refusal::NoKey(_)
        | Refusal::NoPlace(_)
        | Refusal::NoRoute(_)
        | Refusal::NotDeclarable(_)
        | Refusal::NotMarked(_)
        | Refusal::OverLimit(..)
        | Refusal::Repeated(_)
        | Refusal::PlaceholderMisplaced
        | Refusal::PlaceholderRequired
        | Refusal::RangeRefused
        | Refusal::SlowRequest(_)
        | Refusal::TargetTooLong(_)
        | Refusal::TokenInRequest
        | Refusal::TooMany(_)
        | Refusal::UpgradeRefused(_)
        | Refusal::WrongCredential(_) => false,
    }
}

fn seconds_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
