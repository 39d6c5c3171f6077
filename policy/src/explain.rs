//! Why a decision came out as it did: every rule with what it said, every fact with where it came from.
//!
//! Works on what a decision rests on, so that a decision of now and a recorded one are explained by the same function. It
//! decides nothing.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::basis::{Basis, Match, Verdict};
use crate::policy::Policy;
use crate::rules::Rules;

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Every fact that the gate measured or looked up.
    pub facts: Vec<Fact>,
    /// Every rule: those that spoke, the strictest first, then those that had nothing to say.
    pub rules: Vec<Considered>,
}

/// One fact.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    /// Its name.
    pub name: String,
    /// Its value, or why there is none.
    pub value: String,
    /// Where it came from.
    pub from: String,
}

/// One rule and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Considered {
    /// The rule, as `policy/field`.
    pub rule: String,
    /// What it said; none when it had nothing to say.
    pub verdict: Option<Verdict>,
    /// Why.
    pub reason: Option<String>,
    /// What would make the request pass.
    pub remedy: Option<String>,
}

// === impl Rules ===

impl Rules {
    /// Explains a decision that these rules made, from what it rests on.
    pub fn explain(&self, basis: &Basis) -> Explanation {
        Explanation { facts: self.facts(basis), rules: self.considered(basis) }
    }

    fn facts(&self, basis: &Basis) -> Vec<Fact> {
        let fact = |name: &str, value: Option<&String>, from: &str| {
            value.map(|value| Fact { name: name.to_owned(), value: value.clone(), from: from.to_owned() })
        };
        let profile = basis.profile.map(|profile| profile.to_string());
        let effect = basis.effect.map(|effect| effect.to_string());
        let shadow = basis.shadow.map(|verdict| verdict.to_string());
        let looked_up = [
            fact("destination", basis.destination.as_ref(), "the most specific match of host, method and path"),
            fact("effect", effect.as_ref(), "the destination"),
            fact("profile", profile.as_ref(), "the destination"),
            fact("policy", basis.policy.as_ref(), "the destination"),
            fact("not enforced", shadow.as_ref(), "the policy's `enforce: false`; it would have decided this"),
            fact("environment", basis.environment.as_ref(), "the gate's configuration"),
        ];
        let key = basis.destination.as_deref().unwrap_or_default();
        let destination = self.destinations().find(|known| known.is_called(key));
        let measured = basis.measured.iter().map(|(name, value)| Fact {
            name: name.clone(),
            value: value.clone(),
            from: destination.and_then(|known| known.measured_at(name)).unwrap_or_else(|| LOOKED_FOR.to_owned()),
        });
        let risk = basis.risk.iter().map(|risk| {
            let parts: Vec<String> = risk.parts.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
            let value = format!("{} of 100, {}", risk.score, risk.level);
            Fact { name: "risk".to_owned(), value, from: parts.join(", ") }
        });
        looked_up.into_iter().flatten().chain(measured).chain(risk).collect()
    }

    fn considered(&self, basis: &Basis) -> Vec<Considered> {
        let spoken = basis.rules.iter().map(|Match { rule, verdict, reason, remedy }| Considered {
            rule: rule.clone(),
            verdict: Some(*verdict),
            reason: Some(reason.clone()),
            remedy: (!remedy.is_empty()).then(|| remedy.clone()),
        });
        let named = basis.rules.iter().filter_map(|spoken| spoken.rule.split_once('/')).map(|(id, _)| id);
        let ids: BTreeSet<&str> = named.chain(basis.policy.as_deref()).collect();
        let names = ids.into_iter().filter_map(|id| self.policy(id)).flat_map(Policy::rule_names);
        let silent = names.filter(|name| !basis.rules.iter().any(|spoken| spoken.rule == *name));
        let silent = silent.map(|rule| Considered { rule, verdict: None, reason: None, remedy: None });
        spoken.chain(silent).collect()
    }
}

/// Where what was found, rather than measured, comes from.
const LOOKED_FOR: &str = "every text of the request";
