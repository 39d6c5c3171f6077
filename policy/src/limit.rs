//! `rate_limits`, `budgets` and `dedupe_seconds`: what a grant takes of what is limited over time.
//!
//! Nothing is counted here: a grant only lists what it needs, and whoever records it applies the list or refuses. More than a
//! whole budget is denied. An amount that cannot be measured cannot be taken, so a person has to take it on.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::case::{Case, Opinion};
use crate::decimal::Decimal;
use crate::destination::is_key;
use crate::facts::{Facts, sha256_hex};
use crate::fault::{Code, Faults};
use crate::json::Unreadable;
use crate::yaml::{Step, below};

/// What one grant takes of a limited amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reservation {
    /// Policy, limit, and whom it is counted for; at most 256 octets.
    pub key: String,
    /// What is taken, an exact decimal.
    pub amount: String,
    /// The most that may be taken within the window.
    pub limit: String,
    /// The length of the window.
    pub window_seconds: u32,
}

/// A side effect that a grant may have once within a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Once {
    /// The destination and the digest of the side effect.
    pub key: String,
    /// How long the key stays taken.
    pub seconds: u32,
}

/// What a grant was refused for on the ledger, because others had taken it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// There is no room for what it needs of the reservation with this key.
    Room(String),
    /// Its side effect was had a short while ago, by the request or intent with this id.
    Side(String),
}

/// How long the window of a budget is; a month has 30 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Span {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

/// Whom a budget is counted for separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    Agent,
    Destination,
    /// The group of the agent's manifest; an agent without one is its own group.
    Group,
}

/// How many requests are allowed within a time.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RateLimitsEntry {
    pub(crate) per_agent_per_minute: Option<u32>,
    pub(crate) per_agent_per_hour: Option<u32>,
    pub(crate) per_agent_per_day: Option<u32>,
    pub(crate) per_destination_per_minute: Option<u32>,
    pub(crate) per_destination_per_hour: Option<u32>,
    pub(crate) per_destination_per_day: Option<u32>,
}

/// How much of something is allowed within a time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetEntry {
    pub(crate) id: String,
    /// `requests`, or a measured name.
    pub(crate) of: Option<String>,
    pub(crate) limit: Decimal,
    #[serde(default)]
    pub(crate) per: Vec<Scope>,
    pub(crate) window: Span,
}

/// Everything that one policy limits over time.
#[derive(Debug, Default)]
pub(crate) struct LimitsOverTime(Vec<Limit>);

#[derive(Debug)]
struct Limit {
    /// `rate_limits/per_agent_per_hour` or `budgets/ID`.
    name: String,
    /// The measured name; none to count requests.
    of: Option<String>,
    limit: Decimal,
    scopes: BTreeSet<Scope>,
    span: Span,
}

// === impl Span ===

impl Span {
    fn seconds(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
            Self::Month => 2_592_000,
        }
    }
}

// === impl LimitsOverTime ===

impl LimitsOverTime {
    pub(crate) fn compile(
        rates: Option<RateLimitsEntry>,
        budgets: Option<Vec<BudgetEntry>>,
        faults: &mut Faults<'_>,
    ) -> Self {
        let mut limits = rates.map(|rates| compile_rates(&rates, faults)).unwrap_or_default();
        if budgets.as_ref().is_some_and(Vec::is_empty) {
            faults.note(&[Step::Key(BUDGETS)], Code::EmptyList, "the list is empty", "list budgets or remove the key");
        }
        let mut ids = BTreeSet::new();
        for (at, entry) in budgets.into_iter().flatten().enumerate() {
            let path = [Step::Key(BUDGETS), Step::Item(at)];
            if !is_key(&entry.id) || !ids.insert(entry.id.clone()) {
                let remedy = "use lower-case letters, digits and `-`, and an id of its own";
                faults.note(&below(&path, &[Step::Key("id")]), Code::BadKey, "the id is malformed or taken", remedy);
            }
            check_limit(&entry.limit, &below(&path, &[Step::Key("limit")]), faults);
            let of = entry.of.filter(|of| of != REQUESTS);
            let (name, scopes) = (format!("{BUDGETS}/{}", entry.id), entry.per.into_iter().collect());
            limits.push(Limit { name, of, limit: entry.limit, scopes, span: entry.window });
        }
        Self(limits)
    }

    /// The measured names that are needed, with the key that needs them.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().filter_map(|limit| Some((BUDGETS, limit.of.as_deref()?)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a grant for this case takes, and what is said where it cannot take it.
    pub(crate) fn reserve(&self, policy: &str, case: &Case<'_>) -> (Vec<Reservation>, Option<Opinion>) {
        let (mut taken, mut over, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        let lost = &case.content.facts().lost;
        let mut full = Vec::new();
        for limit in &self.0 {
            match limit.amount(case) {
                Ok(amount) if amount > limit.limit => {
                    over.push(format!("{amount} is over the limit of {} of `{}`", limit.limit, limit.name));
                }
                Ok(amount) => {
                    let wanted = limit.reservation(policy, case, &amount);
                    let is_full = lost.contains(&Lost::Room(wanted.key.clone()));
                    full.extend(is_full.then(|| format!("`{}` has no room for {} now", limit.name, wanted.amount)));
                    taken.push(wanted);
                }
                Err(why) => unknown.push(format!("what `{}` counts cannot be measured: {why}", limit.name)),
            }
        }
        let opinion = match (over.as_slice(), full.as_slice(), unknown.as_slice()) {
            ([], [], []) => None,
            ([], [], unknown) => Some(Opinion::hold(unknown.join(", "), "send the value once, or wait for a reviewer")),
            ([], full, _) => Some(Opinion::deny(full.join(", "), "wait until there is room, or ask for less")),
            (over, _, _) => Some(Opinion::deny(over.join(", "), "ask for less at once")),
        };
        (taken, opinion)
    }
}

// === impl Limit ===

impl Limit {
    fn amount(&self, case: &Case<'_>) -> Result<Decimal, Unreadable> {
        match self.of.as_deref() {
            Some(name) => case.reading(name)?.number(name).cloned(),
            None => Ok(Decimal::from(1)),
        }
    }

    fn reservation(&self, policy: &str, case: &Case<'_>, amount: &Decimal) -> Reservation {
        Reservation {
            key: self.key(policy, case),
            amount: amount.to_string(),
            limit: self.limit.to_string(),
            window_seconds: self.span.seconds(),
        }
    }

    fn key(&self, policy: &str, case: &Case<'_>) -> String {
        let agent = case.content.facts().agent.as_str();
        let mut key = format!("{policy}/{}", self.name);
        for scope in &self.scopes {
            let part = match scope {
                Scope::Agent => agent,
                // Calls are counted together: their names are for the agent to choose.
                Scope::Destination => case.destination.base.as_ref().unwrap_or(&case.destination.key),
                Scope::Group => case.group.unwrap_or(agent),
            };
            key.extend(["/", part]);
        }
        if key.len() > MAX_KEY { format!("{policy}/{}", sha256_hex(key.as_bytes())) } else { key }
    }
}

/// What `dedupe_seconds` says of a request whose side effect was had.
pub(crate) fn judge_repeated(facts: &Facts) -> Option<Opinion> {
    facts.lost.iter().find_map(|lost| match lost {
        Lost::Room(_) => None,
        Lost::Side(holder) => {
            let reason = format!("the same was done a short while ago, by `{holder}`");
            Some(Opinion::deny(reason, "do not repeat it; if it is meant to happen twice, wait"))
        }
    })
}

/// Notes a limit that allows nothing, or that cannot be counted to.
fn check_limit(limit: &Decimal, at: &[Step<'_>], faults: &mut Faults<'_>) {
    let written = limit.to_string();
    let (whole, fraction) = written.split_once('.').unwrap_or((&written, ""));
    if *limit == Decimal::from(0) {
        faults.note(at, Code::OutOfRange, NOTHING, "write a rule that denies");
    } else if whole.len() > MAX_WHOLE || fraction.len() > MAX_FRACTION {
        let message = "the limit has more than 20 digits before its point, or more than 18 behind";
        faults.note(at, Code::OutOfRange, message, "write one that can be counted to");
    }
}

fn compile_rates(entry: &RateLimitsEntry, faults: &mut Faults<'_>) -> Vec<Limit> {
    let rates = [
        ("per_agent_per_minute", Scope::Agent, Span::Minute, entry.per_agent_per_minute),
        ("per_agent_per_hour", Scope::Agent, Span::Hour, entry.per_agent_per_hour),
        ("per_agent_per_day", Scope::Agent, Span::Day, entry.per_agent_per_day),
        ("per_destination_per_minute", Scope::Destination, Span::Minute, entry.per_destination_per_minute),
        ("per_destination_per_hour", Scope::Destination, Span::Hour, entry.per_destination_per_hour),
        ("per_destination_per_day", Scope::Destination, Span::Day, entry.per_destination_per_day),
    ];
    let mut limits = Vec::new();
    for (key, scope, span, limit) in rates {
        let Some(limit) = limit else { continue };
        if limit == 0 {
            faults.note(&[Step::Key(RATES), Step::Key(key)], Code::OutOfRange, NOTHING, "write a rule that denies");
        }
        let (name, limit) = (format!("{RATES}/{key}"), Decimal::from(u64::from(limit)));
        limits.push(Limit { name, of: None, limit, scopes: BTreeSet::from([scope]), span });
    }
    if limits.is_empty() {
        faults.note(
            &[Step::Key(RATES)],
            Code::NothingChecked,
            "no rate is given",
            "write it like `{per_agent_per_hour: 100}`",
        );
    }
    limits
}

pub(crate) const BUDGETS: &str = "budgets";
const RATES: &str = "rate_limits";
const REQUESTS: &str = "requests";
const NOTHING: &str = "the limit is 0, which allows nothing";
const MAX_KEY: usize = 256;
const MAX_WHOLE: usize = 20;
const MAX_FRACTION: usize = 18;
