//! Rules of one policy that stand in each other's way.
//!
//! Every rule is evaluated and the strictest wins, so a rule that only speaks where a stricter one speaks too decides
//! nothing. Only what is certain is noted: conditions that merely overlap, or lie within those of a milder rule, are how
//! exceptions are written.

use std::cmp::Ordering;

use crate::fault::{Code, Faults};
use crate::glob::Glob;
use crate::pattern::PathPattern;
use crate::policy_file::{RuleEntry, WhenEntry};
use crate::yaml::Step;

/// Notes rules that say the same, contradict each other, or never decide anything.
pub(crate) fn check(rules: &[RuleEntry], faults: &mut Faults<'_>) {
    for (at, rule) in rules.iter().enumerate() {
        // One fault is enough to look at a rule again.
        let found = rules.iter().enumerate().filter(|(other, _)| *other != at).find_map(|(other, rival)| {
            let (code, why) = compare(rule, rival, other < at)?;
            Some((code, format!("the rule `{}` {why} `{}`", rule.id, rival.id)))
        });
        if let Some((code, message)) = found {
            let remedy = "change the conditions of one, or remove it";
            faults.note(&[Step::Key("rules"), Step::Item(at)], code, message, remedy);
        }
    }
}

/// What is wrong with `rule` because `rival` is there; of two alike the second is at fault.
fn compare(rule: &RuleEntry, rival: &RuleEntry, rival_is_first: bool) -> Option<(Code, &'static str)> {
    let all = WhenEntry::default();
    let (when, wider) = (rule.when.as_ref().unwrap_or(&all), rival.when.as_ref().unwrap_or(&all));
    let covered = covers(wider, when);
    let alike = covered && covers(when, wider);
    match rule.effect.cmp(&rival.effect) {
        Ordering::Equal if alike && rival_is_first && rule.expires == rival.expires => {
            Some((Code::RepeatedRule, "says the same as"))
        }
        Ordering::Less | Ordering::Greater if alike && rival_is_first => {
            Some((Code::ContradictingRules, "contradicts, under the same conditions,"))
        }
        Ordering::Less if covered && !alike => {
            Some((Code::UnreachableRule, "never decides: wherever it applies, so does the stricter"))
        }
        Ordering::Equal | Ordering::Less | Ordering::Greater => None,
    }
}

/// Whether whatever meets `narrow` meets `wide`, as far as that is certain.
fn covers(wide: &WhenEntry, narrow: &WhenEntry) -> bool {
    covers_list(wide.agents.as_deref(), narrow.agents.as_deref(), covers_glob)
        && covers_list(wide.methods.as_deref(), narrow.methods.as_deref(), |wide, narrow| wide == narrow)
        && covers_list(wide.destinations.as_deref(), narrow.destinations.as_deref(), covers_glob)
        && covers_list(wide.paths.as_deref(), narrow.paths.as_deref(), covers_path)
        && wide.query.iter().all(|(name, wide)| narrow.query.get(name).is_some_and(|narrow| covers_glob(wide, narrow)))
        && wide
            .headers
            .iter()
            .all(|(name, wide)| narrow.headers.get(name).is_some_and(|narrow| covers_glob(wide, narrow)))
        && wide.body.iter().all(|(path, wide)| narrow.body.get(path) == Some(wide))
        && wide.measured.iter().all(|(name, wide)| narrow.measured.get(name) == Some(wide))
        && wide.time.as_ref().is_none_or(|wide| narrow.time.as_ref() == Some(wide))
}

fn covers_list(wide: Option<&[String]>, narrow: Option<&[String]>, covers: impl Fn(&str, &str) -> bool) -> bool {
    let Some(wide) = wide else { return true };
    narrow.is_some_and(|narrow| narrow.iter().all(|narrow| wide.iter().any(|wide| covers(wide, narrow))))
}

/// A `*` of the narrower pattern has to fall under one of the wider, which then takes whatever it stands for.
fn covers_glob(wide: &str, narrow: &str) -> bool {
    Glob::parse(wide).is_ok_and(|wide| wide.matches(narrow))
}

fn covers_path(wide: &str, narrow: &str) -> bool {
    PathPattern::parse(wide).is_ok_and(|wide| PathPattern::parse(narrow).is_ok_and(|narrow| wide.covers(&narrow)))
}
