//! A policy file as it is written.
//!
//! What is read here is only shape; what it means is checked where it is compiled. No key may be silently ignored.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::basis::Verdict;
use crate::decide::NoResponse;
use crate::decimal::Decimal;
use crate::limit::{BudgetEntry, RateLimitsEntry};
use crate::profile::ProfileKind;

mod value;

pub(crate) use value::{ApprovalFor, ConditionEntry, Limits, Scalar};

/// A policy, `policies/ID.yaml`, or what one environment changes of it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PolicyFile {
    /// The name of the file without its ending; may be left out.
    pub(crate) id: Option<String>,
    /// For people.
    pub(crate) description: Option<String>,
    /// The keys of the destinations that may name this policy; any when absent.
    pub(crate) destinations: Option<Vec<String>>,
    /// Types of body: `json`, `csv`, a media type, and so on. Everything else is denied.
    pub(crate) allowed_types: Option<Vec<String>>,
    /// Words and phrases that deny a request, in whatever spelling.
    pub(crate) block_if_terms: Option<Vec<String>>,
    /// Whether personal data denies a request.
    pub(crate) block_if_pii: Option<bool>,
    /// Sensitive data that is looked for.
    pub(crate) dlp: Option<DlpEntry>,
    /// What fields of the body must be.
    pub(crate) field_checks: Option<Vec<FieldCheckEntry>>,
    /// Rules with conditions of their own.
    pub(crate) rules: Option<Vec<RuleEntry>>,
    /// Whether every request needs approval, or none.
    pub(crate) require_approval: Option<RequireApproval>,
    /// Up to these amounts a request is allowed, above it is held. A plain number limits `records`.
    pub(crate) auto_approve_under: Option<Limits>,
    /// Above these amounts a request is held. A plain number limits `records`.
    pub(crate) require_approval_over: Option<Limits>,
    /// Measured values that need a reviewer. Plain text is the value of `scope`.
    pub(crate) require_approval_for: Option<ApprovalFor>,
    /// Whether a template that was not filled in holds a request.
    pub(crate) require_approval_if_template_error: Option<bool>,
    /// Addresses, `*@domain` or domains; a request to anyone else is denied.
    pub(crate) allowed_recipients: Option<Vec<String>>,
    /// The profile that every destination of this policy must have, and every request must fit.
    pub(crate) require_profile: Option<ProfileKind>,
    /// From which risk on a request is held or denied.
    pub(crate) risk: Option<RiskEntry>,
    /// How many requests are allowed within a time.
    pub(crate) rate_limits: Option<RateLimitsEntry>,
    /// How much of something is allowed within a time.
    pub(crate) budgets: Option<Vec<BudgetEntry>>,
    /// For how long the same side effect is not had again.
    pub(crate) dedupe_seconds: Option<u32>,
    /// How long a held request waits; 60 when absent.
    pub(crate) expiry_minutes: Option<u32>,
    /// How many reviewers must approve; 1 when absent.
    pub(crate) require_approvals: Option<u32>,
    /// Groups of operators of whom the reviewers must be.
    pub(crate) approvers: Option<Vec<String>>,
    /// What becomes of a held request when nobody decides in time.
    pub(crate) on_no_response: Option<NoResponse>,
    /// `false`: what this policy holds or denies is recorded and sent all the same, without a credential.
    pub(crate) enforce: Option<bool>,
    /// When a policy that is not enforced will be, RFC 3339.
    pub(crate) until: Option<String>,
    /// What differs where the gate's configuration names an environment; each key given replaces the policy's own.
    pub(crate) environments: BTreeMap<String, PolicyFile>,
}

/// The two values of `require_approval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequireApproval {
    Always,
    Never,
}

/// Which sensitive data is looked for, and what is done about it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DlpEntry {
    #[serde(default)]
    pub(crate) rules: Vec<String>,
    #[serde(default)]
    pub(crate) custom: Vec<CustomEntry>,
    pub(crate) action: DlpAction,
}

/// A pattern of an operator's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CustomEntry {
    pub(crate) id: String,
    pub(crate) pattern: String,
}

/// What is done when sensitive data is found, or cannot be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DlpAction {
    Block,
    Hold,
    /// Only count.
    Observe,
}

/// An entry of `field_checks`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldCheckEntry {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) required: bool,
    pub(crate) min: Option<Decimal>,
    pub(crate) max: Option<Decimal>,
    pub(crate) max_length: Option<usize>,
    pub(crate) pattern: Option<String>,
    pub(crate) one_of: Option<Vec<Scalar>>,
}

/// From which risk on a request is held or denied.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RiskEntry {
    pub(crate) hold_at: Option<u32>,
    pub(crate) block_at: Option<u32>,
}

/// An entry of `rules`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleEntry {
    pub(crate) id: String,
    pub(crate) effect: Verdict,
    pub(crate) when: Option<WhenEntry>,
    pub(crate) reason: Option<String>,
    pub(crate) remedy: Option<String>,
    pub(crate) expires: Option<String>,
}

/// When a rule applies.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WhenEntry {
    pub(crate) agents: Option<Vec<String>>,
    pub(crate) methods: Option<Vec<String>>,
    pub(crate) destinations: Option<Vec<String>>,
    pub(crate) paths: Option<Vec<String>>,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: BTreeMap<String, ConditionEntry>,
    pub(crate) measured: BTreeMap<String, ConditionEntry>,
    pub(crate) time: Option<TimeEntry>,
}

/// A window of time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeEntry {
    pub(crate) days: Option<Vec<Day>>,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) zone: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

// === impl PolicyFile ===

impl PolicyFile {
    /// The policy with the keys that `changes` gives in place of its own.
    pub(crate) fn changed_by(&self, changes: &Self) -> Self {
        let (base, changes) = (self.clone(), changes.clone());
        Self {
            id: base.id,
            description: base.description,
            destinations: base.destinations,
            allowed_types: changes.allowed_types.or(base.allowed_types),
            block_if_terms: changes.block_if_terms.or(base.block_if_terms),
            block_if_pii: changes.block_if_pii.or(base.block_if_pii),
            dlp: changes.dlp.or(base.dlp),
            field_checks: changes.field_checks.or(base.field_checks),
            rules: changes.rules.or(base.rules),
            require_approval: changes.require_approval.or(base.require_approval),
            auto_approve_under: changes.auto_approve_under.or(base.auto_approve_under),
            require_approval_over: changes.require_approval_over.or(base.require_approval_over),
            require_approval_for: changes.require_approval_for.or(base.require_approval_for),
            require_approval_if_template_error: changes
                .require_approval_if_template_error
                .or(base.require_approval_if_template_error),
            allowed_recipients: changes.allowed_recipients.or(base.allowed_recipients),
            require_profile: changes.require_profile.or(base.require_profile),
            risk: changes.risk.or(base.risk),
            rate_limits: changes.rate_limits.or(base.rate_limits),
            budgets: changes.budgets.or(base.budgets),
            dedupe_seconds: changes.dedupe_seconds.or(base.dedupe_seconds),
            expiry_minutes: changes.expiry_minutes.or(base.expiry_minutes),
            require_approvals: changes.require_approvals.or(base.require_approvals),
            approvers: changes.approvers.or(base.approvers),
            on_no_response: changes.on_no_response.or(base.on_no_response),
            enforce: changes.enforce.or(base.enforce),
            // An environment that enforces the policy has no use for its end.
            until: changes.until.or(base.until.filter(|_| changes.enforce != Some(true))),
            environments: BTreeMap::new(),
        }
    }
}
