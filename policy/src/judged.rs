//! What the rules say about one call of a request.

use jiff::Timestamp;

use crate::basis::{Basis, Match, Verdict};
use crate::calls::Call;
use crate::case::{Case, Readings};
use crate::content::Content;
use crate::destination::Effect;
use crate::dlp::Findings;
use crate::extract::Reading;
use crate::json::Unreadable;
use crate::limit::Reservation;
use crate::policy::{Judgement, Policy};
use crate::profile::ProfileKind;
use crate::risk::Risk;
use crate::rules::Rules;
use crate::texts::Wording;

/// One call, judged. At least one rule spoke.
#[derive(Debug)]
pub(crate) struct Judged<'r> {
    /// Its destination's key.
    pub(crate) key: String,
    pub(crate) policy: Option<&'r Policy>,
    pub(crate) rules: Vec<Match>,
    /// Whether its policy is not enforced now.
    pub(crate) tried: bool,
    /// The strictest of the rules that are enforced whatever its policy says; none when there are no others.
    pub(crate) enforced: Option<Verdict>,
    pub(crate) risk: Option<Risk>,
    /// What a grant takes for it.
    pub(crate) reservations: Vec<Reservation>,
    pub(crate) readings: Readings,
    /// The sensitive data found, where it was looked for.
    pub(crate) findings: Option<Findings>,
    /// Whether it cannot be read what it calls.
    pub(crate) is_unreadable: bool,
    effect: Option<Effect>,
    profile: Option<ProfileKind>,
}

// === impl Rules ===

impl Rules {
    /// Judges one call by its own content and the wording of the whole request.
    pub(crate) fn judge<'a>(
        &'a self,
        call: &'a Call<'_>,
        content: &'a Content<'a>,
        whole: &'a Wording<'a>,
        now: Timestamp,
    ) -> Judged<'a> {
        let manifest = self.manifest(&content.facts().agent);
        let key = call.key.clone();
        let Some(destination) = call.destination.as_deref() else {
            let rules = vec![unknown_call(&key)];
            return Judged {
                key,
                policy: None,
                rules,
                tried: false,
                enforced: Some(Verdict::Deny),
                risk: None,
                reservations: Vec::new(),
                readings: Readings::new(),
                findings: None,
                is_unreadable: false,
                effect: None,
                profile: None,
            };
        };
        let case = Case::new(destination, content, whole, (manifest, now));
        let policy = self.policy(&destination.policy);
        let Judgement { mut rules, findings, risk, reservations } = match policy {
            Some(policy) => policy.judge(&case),
            None => Judgement { rules: vec![missing_policy(&destination.policy)], ..Judgement::default() },
        };
        if rules.is_empty() {
            rules.push(default_rule(destination.effect));
        }
        let tried = policy.is_some_and(|policy| policy.tried_until(now).is_some());
        let own = if tried { rules.len() } else { 0 };
        rules.extend(manifest.into_iter().flat_map(|manifest| manifest.judge(destination)));
        rules.extend(call.fault.map(|(verdict, why)| unreadable_calls(verdict, why)));
        let enforced = rules.iter().skip(own).map(|rule| rule.verdict).max();
        let (profile, effect) = (destination.profile.as_ref().map(|profile| profile.kind), Some(destination.effect));
        let (readings, is_unreadable) = (case.readings, call.fault.is_some());
        Judged {
            key,
            policy,
            rules,
            tried,
            enforced,
            risk,
            reservations,
            readings,
            findings,
            is_unreadable,
            effect,
            profile,
        }
    }
}

// === impl Judged ===

impl Judged<'_> {
    /// The strictest of its rules.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.rules.iter().map(|rule| rule.verdict).max()
    }

    /// The measured value of a name, unless it is none for the rules of its policy.
    pub(crate) fn measured<'a>(
        &self,
        name: &str,
        reading: &'a Result<Reading, Unreadable>,
    ) -> Result<&'a Reading, Unreadable> {
        let reading = reading.as_ref().map_err(|why| *why)?;
        let limited = self.policy.is_some_and(|policy| policy.limits(name));
        if limited { reading.number(name).map(|_| reading) } else { Ok(reading) }
    }

    /// What a decision rests on when this call is the strictest.
    pub(crate) fn into_basis(self, destinations_hash: &str, digest: String) -> Basis {
        let show = |(name, reading): (&String, &Result<Reading, Unreadable>)| {
            let measured = self.measured(name, reading).map(Reading::to_string);
            let shown = measured.unwrap_or_else(|why| format!("unmeasurable: {why}"));
            (name.clone(), shown)
        };
        let measured = self.readings.iter().map(show).chain(self.findings.iter().flat_map(show_findings)).collect();
        Basis {
            destination: Some(self.key),
            effect: self.effect,
            profile: self.profile,
            policy: self.policy.map(|policy| policy.id.clone()),
            policy_hash: self.policy.map(|policy| policy.hash.clone()),
            environment: self.policy.and_then(|policy| policy.environment.clone()),
            destinations_hash: destinations_hash.to_owned(),
            manifest_hash: None,
            rules: self.rules,
            measured,
            dlp: self.policy.and_then(Policy::dlp_hash).map(str::to_owned),
            risk: self.risk,
            shadow: None,
            digest,
        }
    }
}

fn show_findings(findings: &Findings) -> Vec<(String, String)> {
    match findings {
        Ok(found) => found.iter().map(|((_, id), count)| (format!("dlp.{id}"), count.to_string())).collect(),
        Err(why) => vec![("dlp".to_owned(), format!("unmeasurable: {why}"))],
    }
}

/// What holds when no rule speaks.
fn default_rule(effect: Effect) -> Match {
    let (verdict, reason, remedy) = match effect {
        Effect::Read => (Verdict::Allow, "no rule speaks, and reading is allowed", "nothing"),
        Effect::ExternalMutation | Effect::Notification | Effect::Payment | Effect::Write => {
            (Verdict::Hold, "no rule speaks, and the request changes something", "wait for a reviewer")
        }
    };
    Match { rule: "default.effect".to_owned(), verdict, reason: reason.to_owned(), remedy: remedy.to_owned() }
}

fn missing_policy(id: &str) -> Match {
    Match {
        rule: "policy.missing".to_owned(),
        verdict: Verdict::Deny,
        reason: format!("the policy `{id}` is not loaded"),
        remedy: "ask the operator to load it".to_owned(),
    }
}

fn unknown_call(key: &str) -> Match {
    Match {
        rule: "calls.unknown".to_owned(),
        verdict: Verdict::Deny,
        reason: format!("no entry of `calls` means `{key}`"),
        remedy: "ask the operator to add an entry for it".to_owned(),
    }
}

fn unreadable_calls(verdict: Verdict, why: Unreadable) -> Match {
    Match {
        rule: "calls.unreadable".to_owned(),
        verdict,
        reason: format!("what the request calls cannot be read: {why}"),
        remedy: "send one plain call".to_owned(),
    }
}
