//! How risky a request is, from 0 to 100, and what that leads to.
//!
//! The score is a sum of weights from the tables below and of nothing else: no history, no chance, no floating point.
//! What cannot be measured weighs as much as the greatest value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::case::{Case, Opinion};
use crate::decimal::Decimal;
use crate::destination::Effect;
use crate::detector;
use crate::dlp::Findings;
use crate::extract::{COUNT, RECIPIENTS, Reading};
use crate::fault::{Code, Faults};
use crate::json::Unreadable;
use crate::manifest::Tier;
use crate::policy_file::RiskEntry;
use crate::recipients;
use crate::yaml::Step;

/// The risk of one request.
///
/// | part | weight |
/// |---|---|
/// | `agent`: the tier of its manifest | low 0, medium 5, high 15, critical 25; 0 without a manifest |
/// | `destination`: its own `risk` | as written |
/// | `effect` | read 0, write 10, notification 20, external mutation 25, payment 35 |
/// | `count`: the greater of the measured `records` and `recipients` | 10 from 10 on, 20 from 100, 30 from 1,000; 30 when unmeasurable |
/// | `amount`: the greatest other number that is measured | 5 from 100 on, 10 from 1,000, 20 from 10,000, 30 from 100,000; 30 when `amount` is unmeasurable |
/// | `secrets`: finds of built-in rules for secrets | 40; also when the request cannot be searched |
/// | `data`: finds of rules for personal data and of custom rules | 20 |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// The sum of the parts, at most 100.
    pub score: u32,
    /// What the score is called.
    pub level: Level,
    /// The weight of each part that weighs anything, by name.
    pub parts: BTreeMap<Cow<'static, str>, u32>,
}

/// What a score is called: low below 30, medium below 60, high below 85, then critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Below 30.
    Low,
    /// 30 to 59.
    Medium,
    /// 60 to 84.
    High,
    /// 85 and above.
    Critical,
}

/// `risk`: from which scores on a request is held or denied.
#[derive(Debug)]
pub(crate) struct RiskLimits {
    hold_at: Option<u32>,
    block_at: Option<u32>,
}

// === impl Risk ===

impl Risk {
    /// The risk of a request, whose sensitive data was looked for or not.
    pub(crate) fn of(case: &Case<'_>, findings: Option<&Findings>) -> Self {
        let weights = [
            ("agent", case.tier.map_or(0, tier)),
            ("amount", amount(case)),
            ("count", count(case)),
            ("data", found(findings, |id| !detector::is_secret(id), 0, DATA)),
            ("destination", case.destination.risk),
            ("effect", effect(case.destination.effect)),
            ("secrets", found(findings, detector::is_secret, SECRETS, SECRETS)),
        ];
        let weights = weights.into_iter().filter(|(_, weight)| *weight > 0);
        let parts: BTreeMap<_, u32> = weights.map(|(name, weight)| (Cow::Borrowed(name), weight)).collect();
        let score = parts.values().sum::<u32>().min(MAX);
        let level = match score {
            0..30 => Level::Low,
            30..60 => Level::Medium,
            60..85 => Level::High,
            85.. => Level::Critical,
        };
        Self { score, level, parts }
    }
}

// === impl Level ===

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

// === impl RiskLimits ===

impl RiskLimits {
    pub(crate) fn compile(entry: &RiskEntry, faults: &mut Faults<'_>) -> Self {
        let mut note =
            |key, code, message: &str, remedy: &str| faults.note(&[RISK, Step::Key(key)], code, message, remedy);
        for (key, score) in [("hold_at", entry.hold_at), ("block_at", entry.block_at)] {
            if score.is_some_and(|score| !(1..=MAX).contains(&score)) {
                note(key, Code::OutOfRange, "the score is not 1 to 100", "choose a score in that range");
            }
        }
        if entry.hold_at.zip(entry.block_at).is_some_and(|(hold, block)| hold >= block) {
            let message = "`hold_at` is not less than `block_at`";
            note("hold_at", Code::ThresholdsReversed, message, "make it less, or remove it");
        }
        if entry.hold_at.is_none() && entry.block_at.is_none() {
            let remedy = "give `hold_at` or `block_at`, or remove the key";
            faults.note(&[RISK], Code::NothingChecked, "no score is given", remedy);
        }
        Self { hold_at: entry.hold_at, block_at: entry.block_at }
    }

    pub(crate) fn judge(&self, risk: &Risk) -> Option<Opinion> {
        let reached = |limit: Option<u32>| limit.filter(|limit| risk.score >= *limit);
        let parts: Vec<String> = risk.parts.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
        let reason = |limit| format!("the risk is {} of 100, from {limit} on: {}", risk.score, parts.join(", "));
        match (reached(self.block_at), reached(self.hold_at)) {
            (Some(limit), _) => Some(Opinion::deny(reason(limit), "ask for less at once")),
            (None, Some(limit)) => Some(Opinion::hold(reason(limit), "ask for less at once, or wait for a reviewer")),
            (None, None) => None,
        }
    }
}

fn effect(effect: Effect) -> u32 {
    match effect {
        Effect::Read => 0,
        Effect::Write => 10,
        Effect::Notification => 20,
        Effect::ExternalMutation => 25,
        Effect::Payment => 35,
    }
}

fn tier(tier: Tier) -> u32 {
    match tier {
        Tier::Low => 0,
        Tier::Medium => 5,
        Tier::High => 15,
        Tier::Critical => 25,
    }
}

fn count(case: &Case<'_>) -> u32 {
    let records = case.readings.get(COUNT).map(|reading| magnitude(COUNT, reading, &COUNTS));
    let recipients = case.readings.get(RECIPIENTS).map(|reading| match reading {
        Ok(reading) => {
            let count = reading.texts().iter().map(|text| recipients::split(text).count()).sum::<usize>();
            weigh(&Decimal::from(u64::try_from(count).unwrap_or(u64::MAX)), &COUNTS)
        }
        Err(_) => greatest(&COUNTS),
    });
    records.max(recipients).unwrap_or(0)
}

fn amount(case: &Case<'_>) -> u32 {
    let others = case.readings.iter().filter(|(name, _)| !matches!(name.as_str(), COUNT | RECIPIENTS));
    let weights = others.map(|(name, reading)| match reading {
        Ok(Reading::Number(number)) => weigh(number, &AMOUNTS),
        Ok(Reading::Text(_) | Reading::Texts(_)) | Err(_) if name == AMOUNT => greatest(&AMOUNTS),
        Ok(Reading::Text(_) | Reading::Texts(_)) | Err(_) => 0,
    });
    weights.max().unwrap_or(0)
}

fn magnitude(name: &str, reading: &Result<Reading, Unreadable>, table: &[(u64, u32)]) -> u32 {
    let number = reading.as_ref().map_err(|why| *why).and_then(|reading| reading.number(name));
    number.map_or(greatest(table), |number| weigh(number, table))
}

/// The weight of the last row that the number reaches.
fn weigh(number: &Decimal, table: &[(u64, u32)]) -> u32 {
    let reached = table.iter().filter(|(from, _)| *number >= Decimal::from(*from));
    reached.map(|(_, weight)| *weight).max().unwrap_or(0)
}

fn greatest(table: &[(u64, u32)]) -> u32 {
    table.iter().map(|(_, weight)| *weight).max().unwrap_or(0)
}

fn found(findings: Option<&Findings>, wanted: impl Fn(&str) -> bool, unsearched: u32, weight: u32) -> u32 {
    match findings {
        None => 0,
        Some(Err(_)) => unsearched,
        Some(Ok(findings)) if findings.keys().any(|(_, id)| wanted(id)) => weight,
        Some(Ok(_)) => 0,
    }
}

const COUNTS: [(u64, u32); 3] = [(10, 10), (100, 20), (1_000, 30)];
const AMOUNTS: [(u64, u32); 4] = [(100, 5), (1_000, 10), (10_000, 20), (100_000, 30)];
const SECRETS: u32 = 40;
const DATA: u32 = 20;
const MAX: u32 = 100;
const AMOUNT: &str = "amount";
const RISK: Step<'static> = Step::Key("risk");
