//! Cases for policies, as data: a request and what is to be decided about it.
//!
//! A case is decided by the rules in force in the home, by the code that decides live requests. Nothing is sent.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use policy::{Decision, Fault, Verdict, yaml};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{Config, source};
use crate::rulebook::Rulebook;
use crate::setup::FIRST_AGENT;
use crate::trial::Trial;

/// A file of cases.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CasesFile {
    cases: Vec<Case>,
}

/// One request and what is expected.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What the case shows, in words.
    name: String,
    /// Method and whole URL: `POST https://api.stripe.com/v1/refunds`.
    request: String,
    /// The agent that asks.
    #[serde(default = "first_agent")]
    agent: String,
    /// When it is asked, RFC 3339; now, if absent.
    #[schemars(with = "Option<String>")]
    at: Option<Timestamp>,
    /// Headers by name.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The body, as text.
    #[serde(default)]
    body: String,
    /// What is to be decided.
    expect: Verdict,
    /// What its policy is to say, where that is not enforced.
    shadow: Option<Verdict>,
    /// The strictest rule that is to speak.
    rule: Option<String>,
    /// The destination it is to be for.
    destination: Option<String>,
    /// What is to be measured, by name.
    #[serde(default)]
    measured: BTreeMap<String, String>,
}

/// How one case came out.
#[derive(Debug)]
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// What differs from what is expected, in words; nothing for a case that holds.
    pub differs: Vec<String>,
}

/// What is wrong with the form of a file of cases.
pub fn faults(path: &Path) -> Vec<Fault> {
    match source(path) {
        Ok(source) => yaml::survey::<CasesFile>(&source).1,
        Err(invalid) => invalid.0,
    }
}

/// Decides every case of a file.
///
/// # Errors
/// When the file is not valid, or a case is no request.
pub fn run(path: &Path, config: &Config, rulebook: &Rulebook) -> Result<Vec<Outcome>> {
    let file: CasesFile = yaml::read(&source(path)?)?;
    let outcomes = file.cases.into_iter().map(|case| {
        let decision = decide(&case, config, rulebook);
        let decision = decision.with_context(|| format!("{}: the case `{}`", path.display(), case.name))?;
        Ok(Outcome { differs: compare(&case, &decision), name: case.name })
    });
    outcomes.collect()
}

fn decide(case: &Case, config: &Config, rulebook: &Rulebook) -> Result<Decision> {
    let (method, url) =
        case.request.split_once(' ').with_context(|| format!("`{}` is no method and URL", case.request))?;
    let trial = Trial {
        agent: case.agent.clone(),
        method: method.to_owned(),
        url: url.trim().to_owned(),
        headers: case.headers.clone().into_iter().collect(),
        body: case.body.clone().into(),
    };
    let facts = trial.facts(rulebook, &config.limits)?;
    Ok(rulebook.rules.decide(&facts, case.at.unwrap_or_else(Timestamp::now)))
}

fn compare(case: &Case, decision: &Decision) -> Vec<String> {
    let basis = decision.basis();
    let (rule, reason) =
        basis.rules.first().map(|first| (first.rule.as_str(), first.reason.as_str())).unwrap_or_default();
    let mut differs = Vec::new();
    if decision.verdict() != case.expect {
        let (expected, found) = (case.expect, decision.verdict());
        differs.push(format!("expected {expected}, decided {found} by `{rule}`: {reason}"));
    }
    if case.shadow != basis.shadow {
        let name =
            |verdict: Option<Verdict>| verdict.map_or_else(|| "nothing".to_owned(), |verdict| verdict.to_string());
        let (expected, found) = (name(case.shadow), name(basis.shadow));
        differs.push(format!("expected a policy that is not enforced to say {expected}, it says {found}"));
    }
    if let Some(expected) = case.rule.as_deref().filter(|expected| *expected != rule) {
        differs.push(format!("expected the rule `{expected}`, `{rule}` spoke first: {reason}"));
    }
    if case.destination.is_some() && case.destination != basis.destination {
        let name = |key: &Option<String>| key.clone().unwrap_or_else(|| "none".to_owned());
        differs.push(format!(
            "expected the destination `{}`, found `{}`",
            name(&case.destination),
            name(&basis.destination)
        ));
    }
    for (name, expected) in &case.measured {
        let found = basis.measured.get(name).map_or("nothing", String::as_str);
        if found != expected {
            differs.push(format!("expected `{name}` to be {expected}, measured {found}"));
        }
    }
    differs
}

fn first_agent() -> String {
    FIRST_AGENT.to_owned()
}
