//! Rules that operators write themselves: an effect, and when it applies.
//!
//! A rule that cannot be evaluated applies if it holds or denies, and does not if it allows. An allow never beats a hold
//! or a deny; it only stands in where nothing else speaks.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::basis::Verdict;
use crate::case::{Case, Opinion};
use crate::condition::{Quantity, Truth, When};
use crate::destination::{Destination, is_key};
use crate::fault::{Code, Faults};
use crate::overlap;
use crate::policy_file::RuleEntry;
use crate::yaml::{Step, below};

/// One entry of `rules`.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: String,
    effect: Verdict,
    when: When,
    reason: String,
    remedy: String,
    /// From when on an allow says nothing.
    expires: Option<Timestamp>,
}

/// Compiles the list of a policy.
pub(crate) fn compile(entries: Option<Vec<RuleEntry>>, faults: &mut Faults<'_>) -> Vec<Rule> {
    if entries.as_ref().is_some_and(Vec::is_empty) {
        faults.note(&[LIST], Code::EmptyList, "the list is empty", "write a rule or remove the key");
    }
    overlap::check(entries.as_deref().unwrap_or_default(), faults);
    let mut ids = BTreeSet::new();
    let mut rules = Vec::new();
    for (place, entry) in entries.into_iter().flatten().enumerate() {
        let at = [LIST, Step::Item(place)];
        if !ids.insert(entry.id.clone()) {
            let message = format!("there is already a rule `{}`", entry.id);
            faults.note(&below(&at, &[Step::Key("id")]), Code::DuplicateRule, message, "give it another id");
        }
        rules.push(Rule::compile(entry, &at, faults));
    }
    rules
}

/// Notes rules that can never match at the destinations of their policy.
pub(crate) fn check_use(rules: &[Rule], users: &BTreeMap<&str, &Destination>, faults: &mut Faults<'_>) {
    for (place, rule) in rules.iter().enumerate() {
        rule.when.check_use(users, &[LIST, Step::Item(place), Step::Key("when")], faults);
    }
}

// === impl Rule ===

impl Rule {
    fn compile(entry: RuleEntry, at: &[Step<'_>], faults: &mut Faults<'_>) -> Self {
        let mut note =
            |key, code, message: &str, remedy: &str| faults.note(&below(at, &[Step::Key(key)]), code, message, remedy);
        if !is_key(&entry.id) {
            note("id", Code::BadKey, "this is no id of a rule", "use lower-case letters, digits, `.`, `-` and `_`");
        }
        let (verdict, remedy) = match entry.effect {
            Verdict::Allow => ("allows", "nothing"),
            Verdict::Deny => ("denies", "send a request that the rule does not mean"),
            Verdict::Hold => ("holds", "wait for a reviewer"),
        };
        let expires = entry.expires.map(|text| text.parse::<Timestamp>());
        match &expires {
            Some(_) if entry.effect != Verdict::Allow => {
                note("expires", Code::StrictExpires, "only an allow expires; a hold or a deny stays", "remove the key");
            }
            Some(Err(_)) => {
                note("expires", Code::BadTime, "this is no point in time", "write it like `2027-01-31T00:00:00Z`");
            }
            Some(Ok(_)) | None => {}
        }
        for (key, text) in [("reason", &entry.reason), ("remedy", &entry.remedy)] {
            if text.as_ref().is_some_and(|text| text.trim().is_empty() || text.len() > MAX_TEXT) {
                let remedy = "write a sentence or remove the key";
                note(key, Code::EmptyText, "the text is empty or over 500 octets", remedy);
            }
        }
        let at = below(at, &[Step::Key("when")]);
        Self {
            effect: entry.effect,
            when: When::compile(entry.when.unwrap_or_default(), &at, faults),
            reason: entry.reason.unwrap_or_else(|| format!("the rule `{}` {verdict} it", entry.id)),
            remedy: entry.remedy.unwrap_or_else(|| remedy.to_owned()),
            expires: expires.and_then(Result::ok),
            id: entry.id,
        }
    }

    pub(crate) fn judge(&self, case: &Case<'_>) -> Option<Opinion> {
        if self.expires.is_some_and(|expires| expires <= case.now) {
            return None;
        }
        let quantity = if self.effect == Verdict::Allow { Quantity::Every } else { Quantity::Some };
        let reason = match self.when.holds(case, quantity) {
            Truth::No => return None,
            Truth::Unknown(_) if self.effect == Verdict::Allow => return None,
            Truth::Unknown(why) => format!("{} (it cannot be ruled out: {why})", self.reason),
            Truth::Yes => self.reason.clone(),
        };
        Some(Opinion { verdict: self.effect, reason, remedy: self.remedy.clone() })
    }
}

const LIST: Step<'static> = Step::Key("rules");
const MAX_TEXT: usize = 500;
