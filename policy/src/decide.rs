//! From facts to a decision: every rule is evaluated, the strictest wins.
//!
//! This is the only file that makes a [`Grant`]. It must never turn an error, an unreadable body or an unmeasured fact
//! into an allow.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::approval;
use crate::basis::{Basis, Match, Verdict};
use crate::content::Content;
use crate::destination::Destination;
use crate::facts::{Facts, Vote};
use crate::judged::Judged;
use crate::limit::{Once, Reservation};
use crate::risk::Level;
use crate::rules::Rules;
use crate::standing::{self, Standing};
use crate::texts::Wording;

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

/// What becomes of a held request that nobody decides on in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoResponse {
    /// It is sent when its risk is low, and ends otherwise.
    ApproveIfLowRisk,
    /// It is held once more for the same time, then it ends.
    Defer,
    /// It ends.
    #[default]
    Reject,
}

/// The right to send one request. Only [`Rules::decide`] makes one; it cannot be copied.
#[derive(Debug)]
pub struct Grant {
    basis: Basis,
    destination: String,
    credential: Option<String>,
    votes: Vec<Vote>,
    standing: Option<String>,
    reservations: Vec<Reservation>,
    once: Option<Once>,
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
    /// The groups whose members' approvals count; everyone's when empty.
    pub approvers: Vec<String>,
    /// What becomes of it when nobody decides in time.
    pub no_response: NoResponse,
    /// Why an approval is good for this request alone; none when one can be given for others like it, too.
    pub alone: Option<&'static str>,
}

/// Under which terms a request is held.
struct Terms<'r> {
    approvals: u32,
    /// An approver is in one of the groups of each.
    approvers: Vec<&'r BTreeSet<String>>,
    expiry: SignedDuration,
    no_response: NoResponse,
    alone: Option<&'static str>,
}

// === impl NoResponse ===

impl NoResponse {
    /// Of two policies the one that sends less.
    fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Reject, _) | (_, Self::Reject) => Self::Reject,
            (Self::Defer, _) | (_, Self::Defer) => Self::Defer,
            (Self::ApproveIfLowRisk, Self::ApproveIfLowRisk) => Self::ApproveIfLowRisk,
        }
    }
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

    /// What it takes of budgets and rates: all of it, or it must not be used.
    pub fn reservations(&self) -> &[Reservation] {
        &self.reservations
    }

    /// The side effect that it may have once.
    pub fn once(&self) -> Option<&Once> {
        self.once.as_ref()
    }

    /// The approvals that carried it; empty when no rule held the request.
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }

    /// The standing approval that carried it, one use of which it takes.
    pub fn standing(&self) -> Option<&str> {
        self.standing.as_deref()
    }
}

// === impl Rules ===

impl Rules {
    /// Decides one request. Nothing but the arguments and this snapshot is looked at.
    pub fn decide(&self, facts: &Facts, now: Timestamp) -> Decision {
        self.decide_given(facts, &[], now)
    }

    /// Decides one request, given what reviewers have approved in advance.
    pub fn decide_given(&self, facts: &Facts, standings: &[Standing], now: Timestamp) -> Decision {
        let Some(destination) = self.destination(&facts.method, &facts.authority, &facts.path) else {
            return Decision::Deny(Denial { basis: self.unknown(facts) });
        };
        self.with_judged(facts, destination, now, |judged| {
            let standing = self.covering(standings, facts, &judged, now);
            self.conclude(facts, judged, destination, standing)
        })
    }

    /// Judges every call of a request for its destination.
    pub(crate) fn with_judged<T>(
        &self,
        facts: &Facts,
        destination: &Destination,
        now: Timestamp,
        conclude: impl FnOnce(Vec<Judged<'_>>) -> T,
    ) -> T {
        let content = Content::new(facts);
        let calls = destination.read_calls(&content);
        let parts: Vec<Option<Content<'_>>> =
            calls.iter().map(|call| call.part.map(|part| content.part(part))).collect();
        let whole = Wording::new(&content);
        let judged = calls.iter().zip(&parts);
        let judged = judged.map(|(call, part)| self.judge(call, part.as_ref().unwrap_or(&content), &whole, now));
        conclude(judged.collect())
    }

    /// One line about each call that has a profile, for a reviewer who may see the request; none of it is recorded.
    pub fn summary(&self, facts: &Facts) -> Option<String> {
        let destination = self.destination(&facts.method, &facts.authority, &facts.path)?;
        let content = Content::new(facts);
        let lines: Vec<String> =
            destination.read_calls(&content).iter().filter_map(|call| call.summary(&content)).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    /// One decision about all calls: the strictest wins.
    fn conclude(
        &self,
        facts: &Facts,
        mut judged: Vec<Judged<'_>>,
        destination: &Destination,
        standing: Option<&Standing>,
    ) -> Decision {
        let holding = Terms::of(&judged);
        judged.sort_by_key(|call| Reverse((call.verdict(), call.risk.as_ref().map(|risk| risk.score))));
        let shadow = shadow(facts, &judged);
        let several = judged.len() > 1;
        let mut rules = Vec::new();
        for call in &mut judged {
            let (key, said) = (&call.key, std::mem::take(&mut call.rules));
            let named = |rule: Match| Match { reason: format!("`{key}`: {}", rule.reason), ..rule };
            rules.extend(said.into_iter().map(|rule| if several { named(rule) } else { rule }));
        }
        // What would not have been allowed takes nothing of the limits of a policy that is not enforced.
        let limiting = |call: &&mut Judged<'_>| shadow.is_none() || !call.tried;
        let reservations =
            judged.iter_mut().filter(limiting).flat_map(|call| std::mem::take(&mut call.reservations)).collect();
        let dedupe = judged.iter_mut().filter(limiting).filter_map(|call| call.policy?.dedupe).max();
        let Some(strictest) = judged.into_iter().next() else {
            return Decision::Deny(Denial { basis: self.unknown(facts) });
        };
        let digest = facts.digest(&strictest.key);
        if approval::is_denied(facts, &digest) {
            rules.push(denied_by_reviewer());
        }
        rules.sort_by_key(|rule| Reverse(rule.verdict));
        let key = strictest.key.clone();
        let manifest_hash = self.manifest(&facts.agent).map(|manifest| manifest.hash.clone());
        let basis = Basis { rules, manifest_hash, shadow, ..strictest.into_basis(self.destinations_hash(), digest) };
        let grant = |basis, votes, standing: Option<&Standing>| {
            let once = dedupe
                .map(|seconds| Once { key: format!("dedupe/{}/{}", destination.key, facts.side_effect()), seconds });
            let credential = destination.credential.clone().filter(|_| shadow.is_none());
            let standing = standing.map(|standing| standing.id.clone());
            Decision::Allow(Grant { basis, destination: key, credential, votes, standing, reservations, once })
        };
        match (basis.rules.first().map(|rule| rule.verdict), holding) {
            (Some(_), _) if shadow.is_some() => grant(basis, Vec::new(), None),
            (Some(Verdict::Allow), _) => grant(basis, Vec::new(), None),
            (Some(Verdict::Hold), Some(terms)) => ask_reviewers(basis, &terms, (facts, standing), grant),
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
            profile: None,
            policy: None,
            policy_hash: None,
            environment: None,
            destinations_hash: self.destinations_hash().to_owned(),
            manifest_hash: self.manifest(&facts.agent).map(|manifest| manifest.hash.clone()),
            rules: vec![unknown],
            measured: BTreeMap::new(),
            dlp: None,
            risk: None,
            shadow: None,
            digest: facts.digest(""),
        }
    }
}

// === impl Terms ===

impl<'r> Terms<'r> {
    /// The strictest of the policies of all calls, also of those that are not held themselves.
    fn of(judged: &[Judged<'r>]) -> Option<Self> {
        let policies = || judged.iter().filter_map(|call| call.policy);
        Some(Self {
            approvals: policies().map(|policy| policy.approvals).max()?,
            approvers: policies().filter_map(|policy| policy.approvers.as_ref()).collect(),
            no_response: policies().map(|policy| policy.no_response).reduce(NoResponse::stricter)?,
            expiry: policies().map(|policy| policy.expiry).min()?,
            alone: standing::alone(judged),
        })
    }
}

/// What is passed over: everything that keeps the calls from being allowed, when only policies that are not enforced
/// say it. What a person was asked about stays theirs to decide.
fn shadow(facts: &Facts, judged: &[Judged<'_>]) -> Option<Verdict> {
    let asked = !facts.votes.is_empty() || facts.unanswered;
    let strictest = judged.iter().filter_map(Judged::verdict).max().filter(|verdict| *verdict > Verdict::Allow)?;
    let enforced = judged.iter().filter_map(|call| call.enforced).max().unwrap_or(Verdict::Allow);
    (!asked && enforced == Verdict::Allow).then_some(strictest)
}

/// A held request becomes a grant when enough approvals count.
fn ask_reviewers(
    mut basis: Basis,
    terms: &Terms<'_>,
    (facts, standing): (&Facts, Option<&Standing>),
    grant: impl FnOnce(Basis, Vec<Vote>, Option<&Standing>) -> Decision,
) -> Decision {
    let Terms { approvals, expiry, no_response, alone, .. } = *terms;
    let reasons = approval::reasons_hash(&basis.rules);
    let votes = approval::counting(facts, &basis.digest, &reasons, &terms.approvers);
    let counted = u32::try_from(votes.len()).unwrap_or(u32::MAX);
    let allow = |rule: &str, reason: String| {
        let (rule, remedy) = (rule.to_owned(), "nothing".to_owned());
        Match { rule, verdict: Verdict::Allow, reason, remedy }
    };
    let is_low = basis.risk.as_ref().is_some_and(|risk| risk.level == Level::Low);
    if counted >= approvals {
        basis.rules.push(allow("approval.granted", format!("{counted} of {approvals} reviewers approved")));
    } else if facts.unanswered && no_response == NoResponse::ApproveIfLowRisk && is_low {
        basis.rules.push(allow("approval.unanswered", "nobody answered in time, and the risk is low".to_owned()));
    } else if let Some(standing) = standing {
        let reason = format!("`{}` approved requests like this one in advance", standing.operator);
        basis.rules.push(allow("approval.standing", reason));
        return grant(basis, votes, Some(standing));
    } else {
        let approvers: BTreeSet<&String> = terms.approvers.iter().copied().flatten().collect();
        let approvers = approvers.into_iter().cloned().collect();
        return Decision::Hold(Hold { basis, approvals, expiry, reasons, counted, approvers, no_response, alone });
    }
    grant(basis, votes, None)
}

fn denied_by_reviewer() -> Match {
    Match {
        rule: "approval.denied".to_owned(),
        verdict: Verdict::Deny,
        reason: "a reviewer denied this request".to_owned(),
        remedy: "send a different request, or ask the reviewer why".to_owned(),
    }
}
