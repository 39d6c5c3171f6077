//! Standing approvals: a reviewer saw one request and approved others like it in advance.
//!
//! The request that was seen is the measure: what was measured in it is the most that may be measured in another, and
//! what nothing measures must be the same. Carries a held request, never a denied one; what it cannot compare it does
//! not cover.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::approval_for;
use crate::basis::Verdict;
use crate::destination::Destination;
use crate::extract::{COUNT, Extractor, RECIPIENTS, Reading};
use crate::facts::Facts;
use crate::judged::Judged;
use crate::recipients;
use crate::rest;
use crate::rules::Rules;
use crate::thresholds::{OVER, UNDER};

/// A request that was approved together with others like it, by whom, and what that rested on.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its name on the ledger.
    pub id: String,
    /// The operator who gave it.
    pub operator: String,
    /// The groups that the operator is in now.
    pub groups: Vec<String>,
    /// The request that was seen.
    pub approved: Facts,
    /// SHA-256 in hex over the bytes of the policy's file.
    pub policy_hash: String,
    /// The gate's environment, when it changes the policy.
    pub environment: Option<String>,
    /// SHA-256 in hex over the bytes of the destinations file.
    pub destinations_hash: String,
    /// The rules that held the request.
    pub held_by: BTreeSet<String>,
}

// === impl Rules ===

impl Rules {
    /// The first of these that covers a request, whose calls were judged.
    pub(crate) fn covering<'s>(
        &self,
        standings: &'s [Standing],
        facts: &Facts,
        judged: &[Judged<'_>],
        now: Timestamp,
    ) -> Option<&'s Standing> {
        let [asked] = judged else { return None };
        if standings.is_empty() || alone(judged).is_some() {
            return None;
        }
        let destination = self.destination(&facts.method, &facts.authority, &facts.path)?;
        standings.iter().find(|standing| {
            self.still_holds(standing, asked)
                && has_same_target(&standing.approved, facts)
                && self.with_judged(&standing.approved, destination, now, |seen| match seen.as_slice() {
                    [seen] => {
                        is_within(seen, asked)
                            && rest::is_same(&standing.approved, facts, &compared(destination, asked))
                    }
                    _ => false,
                })
        })
    }

    /// Whether the reviewer saw these rules, every reason to hold, and may still approve.
    fn still_holds(&self, standing: &Standing, asked: &Judged<'_>) -> bool {
        let Some(policy) = asked.policy else { return false };
        let mut held_by = asked.rules.iter().filter(|rule| rule.verdict == Verdict::Hold);
        policy.hash == standing.policy_hash
            && policy.environment == standing.environment
            && self.destinations_hash() == standing.destinations_hash
            && held_by.all(|rule| standing.held_by.contains(&rule.rule))
            && policy.approvers.as_ref().is_none_or(|groups| standing.groups.iter().any(|own| groups.contains(own)))
    }
}

/// Why an approval is good for this request alone; none when it can be given for others like it, too.
pub(crate) fn alone(judged: &[Judged<'_>]) -> Option<&'static str> {
    let [call] = judged else { return Some("it makes several calls at once") };
    let policy = call.policy?;
    let always = format!("{}/require_approval", policy.id);
    let unread = call.readings.iter().any(|(name, reading)| call.measured(name, reading).is_err());
    if policy.approvals > 1 {
        Some("its policy asks for several approvals")
    } else if call.rules.iter().any(|rule| rule.verdict == Verdict::Hold && rule.rule == always) {
        Some("its policy asks for an approval every time")
    } else if unread || call.findings.as_ref().is_some_and(Result::is_err) || call.is_unreadable {
        Some("not all of it can be inspected")
    } else {
        None
    }
}

/// Whether it is the same agent, method, address and headers; but for headers that clients change with every request.
fn has_same_target(seen: &Facts, asked: &Facts) -> bool {
    let headers = |facts: &Facts| -> Vec<(String, String)> {
        let mut kept: Vec<_> =
            facts.headers.iter().filter(|(name, _)| !VARYING.contains(&name.as_str())).cloned().collect();
        kept.sort();
        kept
    };
    seen.agent == asked.agent
        && seen.method == asked.method
        && seen.authority == asked.authority
        && seen.path == asked.path
        && seen.query == asked.query
        && headers(seen) == headers(asked)
}

/// Where the values stand that may be less than what was seen; none unless such values alone decide that it is held.
fn compared<'d>(destination: &'d Destination, asked: &Judged<'_>) -> Vec<&'d Extractor> {
    // A call inside a body has measures of its own, and stands beside what belongs to no call.
    if asked.key != destination.key || !is_weighed(asked) {
        return Vec::new();
    }
    let may_be_less = |name: &str| name == RECIPIENTS || is_amount(asked, name);
    destination.measures().filter(|(name, _)| may_be_less(name)).flat_map(|(_, measure)| measure.places()).collect()
}

/// Whether measured values alone decide that it is held.
fn is_weighed(asked: &Judged<'_>) -> bool {
    let Some(policy) = asked.policy else { return false };
    let by_value = |rule: &str| {
        let field = rule.strip_prefix(policy.id.as_str()).and_then(|rest| rest.strip_prefix('/'));
        rule == "default.effect" || field.is_some_and(|field| BY_VALUE.contains(&field))
    };
    asked.rules.iter().filter(|rule| rule.verdict == Verdict::Hold).all(|rule| by_value(&rule.rule))
}

/// Whether nothing that was measured, found or computed is more than what was seen.
fn is_within(seen: &Judged<'_>, asked: &Judged<'_>) -> bool {
    let score = |judged: &Judged<'_>| judged.risk.as_ref().map(|risk| risk.score);
    let found = |judged: &Judged<'_>, what| match &judged.findings {
        Some(Ok(findings)) => findings.get(what).copied().unwrap_or(0),
        Some(Err(_)) | None => 0,
    };
    let mut findings = asked.findings.iter().flatten().flatten();
    seen.key == asked.key
        && seen.readings.len() == asked.readings.len()
        && score(asked) <= score(seen)
        && findings.all(|(what, count)| *count <= found(seen, what))
        && asked.readings.iter().all(|(name, reading)| match (seen.readings.get(name), reading) {
            (Some(Ok(seen)), Ok(reading)) => is_covered(asked, name, seen, reading),
            _ => false,
        })
}

/// What is counted or limited may be less, recipients may be fewer; everything else is the same.
fn is_covered(call: &Judged<'_>, name: &str, seen: &Reading, asked: &Reading) -> bool {
    match (seen, asked) {
        (Reading::Number(seen), Reading::Number(asked)) if is_amount(call, name) => asked <= seen,
        (seen, asked) if name == RECIPIENTS => {
            let (known, wanted) = (each(seen), each(asked));
            wanted.len() <= known.len() && wanted.iter().all(|one| known.contains(one))
        }
        (seen, asked) => seen == asked,
    }
}

/// Whether less of it is less harm: of a number that is an account, say, none is less than another.
fn is_amount(call: &Judged<'_>, name: &str) -> bool {
    matches!(name, AMOUNT | COUNT) || call.policy.is_some_and(|policy| policy.limits(name))
}

/// Every recipient, however they are written.
fn each(recipients: &Reading) -> Vec<String> {
    let all = recipients.all();
    all.iter().flat_map(|text| recipients::split(text)).map(|one| one.trim().to_lowercase()).collect()
}

/// Fields that hold for the sake of a measured value.
const BY_VALUE: &[&str] = &[UNDER, OVER, approval_for::KEY, recipients::KEY, "risk"];

/// Headers that say when and by which attempt a request is sent, not what it does.
const VARYING: &[&str] = &[
    "baggage",
    "date",
    "idempotency-key",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "x-correlation-id",
    "x-request-id",
    "x-stainless-retry-count",
    "x-stripe-client-telemetry",
];

const AMOUNT: &str = "amount";
