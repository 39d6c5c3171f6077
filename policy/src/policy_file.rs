//! A policy file as it is written.
//!
//! What is read here is only shape; what it means is checked where it is compiled. No key may be silently ignored.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::decide::NoResponse;
use crate::decide::Verdict;
use crate::decimal::Decimal;
use crate::limit::{BudgetEntry, RateLimitsEntry};
use crate::profile::ProfileKind;

/// `policies/ID.yaml`, or what one environment changes of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PolicyFile {
    pub(crate) id: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) destinations: Option<Vec<String>>,
    pub(crate) allowed_types: Option<Vec<String>>,
    pub(crate) block_if_terms: Option<Vec<String>>,
    pub(crate) block_if_pii: Option<bool>,
    pub(crate) dlp: Option<DlpEntry>,
    pub(crate) field_checks: Option<Vec<FieldCheckEntry>>,
    pub(crate) rules: Option<Vec<RuleEntry>>,
    pub(crate) require_approval: Option<RequireApproval>,
    pub(crate) auto_approve_under: Option<Limits>,
    pub(crate) require_approval_over: Option<Limits>,
    pub(crate) require_approval_for: Option<ApprovalFor>,
    pub(crate) require_approval_if_template_error: Option<bool>,
    pub(crate) allowed_recipients: Option<Vec<String>>,
    pub(crate) require_profile: Option<ProfileKind>,
    pub(crate) risk: Option<RiskEntry>,
    pub(crate) rate_limits: Option<RateLimitsEntry>,
    pub(crate) budgets: Option<Vec<BudgetEntry>>,
    pub(crate) dedupe_seconds: Option<u32>,
    pub(crate) expiry_minutes: Option<u32>,
    pub(crate) require_approvals: Option<u32>,
    pub(crate) approvers: Option<Vec<String>>,
    pub(crate) on_no_response: Option<NoResponse>,
    /// What differs where the gate's configuration names an environment; each key given replaces the policy's own.
    pub(crate) environments: BTreeMap<String, PolicyFile>,
}

/// The two values of `require_approval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequireApproval {
    Always,
    Never,
}

/// Which sensitive data is looked for, and what is done about it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DlpEntry {
    #[serde(default)]
    pub(crate) rules: Vec<String>,
    #[serde(default)]
    pub(crate) custom: Vec<CustomEntry>,
    pub(crate) action: DlpAction,
}

/// A pattern of an operator's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CustomEntry {
    pub(crate) id: String,
    pub(crate) pattern: String,
}

/// What is done when sensitive data is found, or cannot be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DlpAction {
    Block,
    Hold,
    /// Only count.
    Observe,
}

/// An entry of `field_checks`.
#[derive(Clone, Debug, Deserialize)]
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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RiskEntry {
    pub(crate) hold_at: Option<u32>,
    pub(crate) block_at: Option<u32>,
}

/// An entry of `rules`.
#[derive(Clone, Debug, Deserialize)]
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
#[derive(Clone, Debug, Default, Deserialize)]
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

/// What a field of the body must be: a mapping, or the value itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionMap {
    value: Option<Scalar>,
    one_of: Option<Vec<Scalar>>,
    pattern: Option<String>,
    min: Option<Decimal>,
    max: Option<Decimal>,
}

/// What a field of the body must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConditionEntry(ConditionMap);

/// A window of time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeEntry {
    pub(crate) days: Option<Vec<Day>>,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) zone: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
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

/// A single value that a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool(bool),
    Number(Decimal),
    Text(String),
}

/// Measured names and the values that need a reviewer; plain text is the value of `scope`.
#[derive(Clone, Debug)]
pub(crate) struct ApprovalFor(pub(crate) Vec<(String, Scalar)>);

/// Limits by measured name; a plain number limits `records`.
#[derive(Clone, Debug)]
pub(crate) struct Limits(pub(crate) BTreeMap<String, Decimal>);

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
            environments: BTreeMap::new(),
        }
    }
}

// === impl Scalar ===

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(truth) => truth.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a number, true or false")
            }

            fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(truth))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(Decimal::from(number)))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Scalar, E> {
                let text = number.to_string();
                // A float holds 15 decimal digits faithfully; more were perhaps rounded on the way here.
                let digits = text.bytes().filter(u8::is_ascii_digit).count();
                Decimal::parse_plain(&text)
                    .ok()
                    .filter(|_| digits <= 15)
                    .map(Scalar::Number)
                    .ok_or_else(|| E::custom("the number is negative or has too many digits; use `min` and `max`"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

// === impl ConditionEntry ===

impl ConditionEntry {
    /// The same as a field check, of a field that may be missing.
    pub(crate) fn into_check(self, path: String) -> FieldCheckEntry {
        let ConditionMap { value, one_of, pattern, min, max } = self.0;
        let one_of = one_of.or_else(|| value.map(|value| vec![value]));
        FieldCheckEntry { path, required: false, min, max, max_length: None, pattern, one_of }
    }
}

impl<'de> Deserialize<'de> for ConditionEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Read {
            fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ConditionEntry, D::Error> {
                let value = Some(Scalar::deserialize(deserializer)?);
                Ok(ConditionEntry(ConditionMap { value, one_of: None, pattern: None, min: None, max: None }))
            }
        }

        impl<'de> Visitor<'de> for Read {
            type Value = ConditionEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a mapping with `value`, `one_of`, `pattern`, `min` or `max`")
            }

            fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<ConditionEntry, E> {
                Self::value(truth.into_deserializer())
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ConditionEntry, E> {
                Self::value(number.into_deserializer())
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<ConditionEntry, E> {
                Self::value(number.into_deserializer())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ConditionEntry, E> {
                Self::value(text.into_deserializer())
            }

            fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<ConditionEntry, A::Error> {
                let map = ConditionMap::deserialize(MapAccessDeserializer::new(mapping))?;
                let once = Some(map).filter(|map| map.value.is_none() || map.one_of.is_none());
                let error = || A::Error::custom("`value` and `one_of` are both given; keep one of the two");
                once.map(ConditionEntry).ok_or_else(error)
            }
        }

        deserializer.deserialize_any(Read)
    }
}

// === impl ApprovalFor ===

impl<'de> Deserialize<'de> for ApprovalFor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = ApprovalFor;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of measured names to values, a list of such, or a value of `scope`")
            }

            fn visit_str<E: serde::de::Error>(self, scope: &str) -> Result<ApprovalFor, E> {
                Ok(ApprovalFor(vec![("scope".to_owned(), Scalar::Text(scope.to_owned()))]))
            }

            fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<ApprovalFor, A::Error> {
                let values = BTreeMap::deserialize(MapAccessDeserializer::new(mapping))?;
                Ok(ApprovalFor(values.into_iter().collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ApprovalFor, A::Error> {
                let entries = Vec::<ApprovalFor>::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(ApprovalFor(entries.into_iter().flat_map(|entry| entry.0).collect()))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

// === impl Limits ===

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Limits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a mapping of measured names to numbers")
            }

            fn visit_u64<E: serde::de::Error>(self, limit: u64) -> Result<Limits, E> {
                Ok(Limits(BTreeMap::from([("records".to_owned(), Decimal::from(limit))])))
            }

            fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<Limits, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(mapping)).map(Limits)
            }
        }

        deserializer.deserialize_any(Read)
    }
}
