//! `require_approval_for`: measured values that a reviewer wants to see.

use crate::case::{Case, Opinion};
use crate::fault::{Code, Faults};
use crate::policy_file::{ApprovalFor, Scalar};
use crate::yaml::Step;

/// Names of measured values, each with the value that needs a reviewer.
#[derive(Debug, Default)]
pub(crate) struct Watched(Vec<(String, Scalar)>);

// === impl Watched ===

impl Watched {
    pub(crate) fn compile(entries: Option<ApprovalFor>, faults: &mut Faults<'_>) -> Self {
        if entries.as_ref().is_some_and(|entries| entries.0.is_empty()) {
            let remedy = "write it like `{scope: org_wide}`, or remove the key";
            faults.note(&[Step::Key(KEY)], Code::EmptyList, "no value is given", remedy);
        }
        Self(entries.map(|entries| entries.0).unwrap_or_default())
    }

    /// The measured names that are needed.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn judge(&self, case: &Case<'_>) -> Option<Opinion> {
        let seen = self.0.iter().filter_map(|(name, wanted)| match case.reading(name) {
            Ok(reading) => reading.is(&wanted.to_string()).then(|| format!("`{name}` is `{wanted}`")),
            Err(why) => Some(format!("`{name}` cannot be measured and counts as `{wanted}`: {why}")),
        });
        let seen: Vec<String> = seen.collect();
        (!seen.is_empty()).then(|| Opinion::hold(seen.join(", "), "wait for a reviewer"))
    }
}

pub(crate) const KEY: &str = "require_approval_for";
