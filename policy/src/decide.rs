//! From facts to a decision: every rule is evaluated, the strictest wins.
//!
//! This is the only file that makes a [`Grant`]. It must never turn an error, an unreadable body or an unmeasured fact
//! into an allow.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::approval;
use crate::case::{Case, Readings};
use crate::content::Content;
use crate::destination::{Destination, Effect};
use crate::dlp::Findings;
use crate::extract::Reading;
use crate::facts::{Facts, Vote};
use crate::json::Unreadable;
use crate::policy::{Judgement, Policy};
use crate::risk::Risk;
use crate::rules::Rules;

/// What happens to a request.
#[derive(Debug)]
pub enum Decision {
    /// It may be sent, under this grant.
    Allow(Grant),
    /// It is refused.
    Deny(Denial),
    /// It waits for reviewers.
    Hold(Hold),
}

/// What one rule says; ordered, the strictest is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Send it.
    Allow,
    /// Ask a reviewer.
    Hold,
    /// Refuse it.
    Deny,
}

/// A rule that spoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Match {
    /// The rule, as `policy/field` or a built-in name such as `destination.unknown`.
    pub rule: String,
    /// What it says.
    pub verdict: Verdict,
    /// Why, for agent and reviewer: thresholds and counts, never content of the body.
    pub reason: String,
    /// What would make the request pass.
    pub remedy: String,
}

/// What a decision rests on; it goes into the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Basis {
    /// The destination's key; none when nothing matches.
    pub destination: Option<String>,
    /// The destination's effect.
    pub effect: Option<Effect>,
    /// The policy that spoke.
    pub policy: Option<String>,
    /// SHA-256 in hex over the bytes of the policy's file.
    pub policy_hash: Option<String>,
    /// The gate's environment, when it changes the policy.
    pub environment: Option<String>,
    /// SHA-256 in hex over the bytes of the destinations file.
    pub destinations_hash: String,
    /// Every rule that spoke, the strictest first.
    pub rules: Vec<Match>,
    /// Measured values by name; `unmeasurable: why` where there is none.
    pub measured: BTreeMap<String, String>,
    /// SHA-256 in hex over the detectors of sensitive data; none when the policy looks for none. What they found is
    /// among the measured values, as `dlp.DETECTOR` with the number of different finds.
    pub dlp: Option<String>,
    /// How risky the request is; none when no destination matches.
    pub risk: Option<Risk>,
    /// The intent digest, see [`Facts::digest`]; with an empty destination key when none matches.
    pub digest: String,
}

/// The right to send one request. Only [`Rules::decide`] makes one; it cannot be copied.
#[derive(Debug)]
pub struct Grant {
    basis: Basis,
    destination: String,
    credential: Option<String>,
    votes: Vec<Vote>,
}

/// A refusal by policy.
#[derive(Debug)]
pub struct Denial {
    /// What it rests on.
    pub basis: Basis,
}

/// A request that waits for reviewers.
#[derive(Debug)]
pub struct Hold {
    /// What it rests on.
    pub basis: Basis,
    /// How many distinct reviewers must approve.
    pub approvals: u32,
    /// How long the request may wait.
    pub expiry: SignedDuration,
    /// SHA-256 in hex over the rules that hold and their reasons; a vote counts for these reasons only.
    pub reasons: String,
    /// How many approvals count so far.
    pub counted: u32,
}

// === impl Decision ===

impl Decision {
    /// What the decision rests on.
    pub fn basis(&self) -> &Basis {
        match self {
            Self::Allow(grant) => &grant.basis,
            Self::Deny(denial) => &denial.basis,
            Self::Hold(hold) => &hold.basis,
        }
    }

    /// The decision without its basis.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Allow(_) => Verdict::Allow,
            Self::Deny(_) => Verdict::Deny,
            Self::Hold(_) => Verdict::Hold,
        }
    }
}

// === impl Grant ===

impl Grant {
    /// What the grant rests on.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// The intent digest of the one request it is for.
    pub fn digest(&self) -> &str {
        &self.basis.digest
    }

    /// The destination's key.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// The credential to put in.
    pub fn credential(&self) -> Option<&str> {
        self.credential.as_deref()
    }

    /// The approvals that carried it; empty when no rule held the request.
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }
}

// === impl Rules ===

impl Rules {
    /// Decides one request. Nothing but the arguments and this snapshot is looked at.
    pub fn decide(&self, facts: &Facts, now: Timestamp) -> Decision {
        match self.destination(&facts.method, &facts.authority, &facts.path) {
            Some(destination) => self.decide_for(destination, facts, now),
            None => Decision::Deny(Denial { basis: self.unknown(facts) }),
        }
    }

    fn decide_for(&self, destination: &Destination, facts: &Facts, now: Timestamp) -> Decision {
        let content = Content::new(facts);
        let readings: Readings =
            destination.measure.iter().map(|(name, measure)| (name.clone(), measure.read(name, &content))).collect();
        let policy = self.policy(&destination.policy);
        let Judgement { mut rules, findings, risk } = match policy {
            Some(policy) => policy.judge(&Case::new(destination, &content, &readings, now)),
            None => Judgement { rules: vec![missing_policy(&destination.policy)], ..Judgement::default() },
        };
        if rules.is_empty() {
            rules.push(default_rule(destination.effect));
        }
        let digest = facts.digest(&destination.key);
        if approval::is_denied(facts, &digest) {
            rules.push(denied_by_reviewer());
        }
        rules.sort_by_key(|rule| Reverse(rule.verdict));
        let basis = Basis {
            destination: Some(destination.key.clone()),
            effect: Some(destination.effect),
            policy: Some(destination.policy.clone()),
            policy_hash: policy.map(|policy| policy.hash.clone()),
            environment: policy.and_then(|policy| policy.environment.clone()),
            destinations_hash: self.destinations_hash().to_owned(),
            measured: readings
                .iter()
                .map(|(name, reading)| (name.clone(), show(name, reading, policy)))
                .chain(findings.into_iter().flat_map(show_findings))
                .collect(),
            rules,
            risk,
            dlp: policy.and_then(Policy::dlp_hash).map(str::to_owned),
            digest,
        };
        let grant = |basis, votes| {
            let credential = destination.credential.clone();
            Decision::Allow(Grant { basis, destination: destination.key.clone(), credential, votes })
        };
        match (basis.rules.first().map(|rule| rule.verdict), policy) {
            (Some(Verdict::Allow), _) => grant(basis, Vec::new()),
            (Some(Verdict::Hold), Some(policy)) => ask_reviewers(basis, policy, facts, grant),
            (Some(Verdict::Deny) | None, _) | (Some(Verdict::Hold), None) => Decision::Deny(Denial { basis }),
        }
    }

    fn unknown(&self, facts: &Facts) -> Basis {
        let unknown = Match {
            rule: "destination.unknown".to_owned(),
            verdict: Verdict::Deny,
            reason: "no destination matches this host, method and path".to_owned(),
            remedy: "ask the operator to add a destination for it".to_owned(),
        };
        Basis {
            destination: None,
            effect: None,
            policy: None,
            policy_hash: None,
            environment: None,
            destinations_hash: self.destinations_hash().to_owned(),
            rules: vec![unknown],
            measured: BTreeMap::new(),
            dlp: None,
            risk: None,
            digest: facts.digest(""),
        }
    }
}

/// A held request becomes a grant when enough approvals count.
fn ask_reviewers(
    mut basis: Basis,
    policy: &Policy,
    facts: &Facts,
    grant: impl FnOnce(Basis, Vec<Vote>) -> Decision,
) -> Decision {
    let reasons = approval::reasons_hash(&basis.rules);
    let votes = approval::counting(facts, &basis.digest, &reasons);
    let counted = u32::try_from(votes.len()).unwrap_or(u32::MAX);
    if counted < policy.approvals {
        let (approvals, expiry) = (policy.approvals, policy.expiry);
        return Decision::Hold(Hold { basis, approvals, expiry, reasons, counted });
    }
    basis.rules.push(Match {
        rule: "approval.granted".to_owned(),
        verdict: Verdict::Allow,
        reason: format!("{counted} of {} reviewers approved", policy.approvals),
        remedy: "nothing".to_owned(),
    });
    grant(basis, votes)
}

fn show(name: &str, reading: &Result<Reading, Unreadable>, policy: Option<&Policy>) -> String {
    let limited = policy.is_some_and(|policy| policy.limits(name));
    let reading = match reading {
        Ok(reading) if limited => reading.number(name).map(|_| reading),
        Ok(reading) => Ok(reading),
        Err(why) => Err(*why),
    };
    reading.map_or_else(|why| format!("unmeasurable: {why}"), Reading::to_string)
}

fn show_findings(findings: Findings) -> Vec<(String, String)> {
    match findings {
        Ok(found) => found.into_iter().map(|((_, id), count)| (format!("dlp.{id}"), count.to_string())).collect(),
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

fn denied_by_reviewer() -> Match {
    Match {
        rule: "approval.denied".to_owned(),
        verdict: Verdict::Deny,
        reason: "a reviewer denied this request".to_owned(),
        remedy: "send a different request, or ask the reviewer why".to_owned(),
    }
}

fn missing_policy(id: &str) -> Match {
    Match {
        rule: "policy.missing".to_owned(),
        verdict: Verdict::Deny,
        reason: format!("the policy `{id}` is not loaded"),
        remedy: "ask the operator to load it".to_owned(),
    }
}
