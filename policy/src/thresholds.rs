//! `auto_approve_under` and `require_approval_over`: what is measured against limits.
//!
//! A value that was not measured, or is no number, keeps no limit.

use std::collections::BTreeMap;

use crate::case::{Case, Opinion};
use crate::decimal::Decimal;
use crate::fault::{Code, Faults};
use crate::policy_file::Limits;
use crate::yaml::Step;

/// The limits of one policy, by measured name.
#[derive(Debug)]
pub(crate) struct Thresholds {
    under: BTreeMap<String, Decimal>,
    over: BTreeMap<String, Decimal>,
}

// === impl Thresholds ===

impl Thresholds {
    pub(crate) fn compile(under: Option<Limits>, over: Option<Limits>, faults: &mut Faults<'_>) -> Self {
        for (key, limits) in [(UNDER, &under), (OVER, &over)] {
            if limits.as_ref().is_some_and(|limits| limits.0.is_empty()) {
                let remedy = "give a number or remove the key";
                faults.note(&[Step::Key(key)], Code::NothingChecked, "no limit is given", remedy);
            }
        }
        let limits = |limits: Option<Limits>| limits.map(|limits| limits.0).unwrap_or_default();
        let (under, over) = (limits(under), limits(over));
        for (name, limit) in &under {
            if over.get(name).is_some_and(|over| limit > over) {
                let message = format!("`auto_approve_under` is greater than `require_approval_over` for `{name}`");
                faults.note(&[Step::Key(UNDER)], Code::ThresholdsReversed, message, "make it at most as great");
            }
        }
        Self { under, over }
    }

    /// The names that are needed as numbers, with the key that needs them.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let under = self.under.keys().map(|name| (UNDER, name.as_str()));
        under.chain(self.over.keys().map(|name| (OVER, name.as_str())))
    }

    pub(crate) fn judge_under(&self, case: &Case<'_>) -> Option<Opinion> {
        if self.under.is_empty() {
            return None;
        }
        let over = exceeded(&self.under, case);
        if over.is_empty() {
            let within: Vec<String> =
                self.under.iter().map(|(name, limit)| format!("`{name}` is at most {limit}")).collect();
            return Some(Opinion::allow(within.join(", ")));
        }
        Some(Opinion::hold(over.join(", "), REMEDY))
    }

    pub(crate) fn judge_over(&self, case: &Case<'_>) -> Option<Opinion> {
        let over = exceeded(&self.over, case);
        (!over.is_empty()).then(|| Opinion::hold(over.join(", "), REMEDY))
    }
}

/// The limits that are not kept, in words.
fn exceeded(limits: &BTreeMap<String, Decimal>, case: &Case<'_>) -> Vec<String> {
    let not_kept =
        limits.iter().filter_map(|(name, limit)| match case.reading(name).and_then(|reading| reading.number(name)) {
            Ok(number) if number <= limit => None,
            Ok(number) => Some(format!("`{name}` is {number}, over the limit of {limit}")),
            Err(why) => Some(format!("`{name}` cannot be measured and counts as over {limit}: {why}")),
        });
    not_kept.collect()
}

pub(crate) const UNDER: &str = "auto_approve_under";
pub(crate) const OVER: &str = "require_approval_over";
const REMEDY: &str = "stay within the limit, or wait for a reviewer";
