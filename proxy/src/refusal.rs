//! Every way a request ends without its upstream's answer.
//!
//! Failing closed has this single implementation: a new way to fail is a new variant, and
//! [`Refusal::answer`] does not compile until it has a status, a stable code and words.

use ledger::Taken;
use policy::{Basis, Denial, Facts, Match, Verdict};
use vault::Fault;

/// Why a request goes no further. The comments say who is at fault.
#[derive(Debug)]
pub enum Refusal {
    /// Agent: suspended by an operator.
    AgentSuspended,
    /// Agent: the request can be read in more than one way (RFC 9112 section 11.2).
    Ambiguous(String),
    /// Agent: CONNECT target, SNI, Host and absolute form disagree (RFC 9110 section 7.4).
    AuthorityMismatch(String),
    /// Agent: the body is larger than the limit, in bytes.
    BodyTooLarge(u64),
    /// Gate: too many bodies in memory.
    Busy(String),
    /// Agent: withdrew the intent itself.
    Cancelled(String),
    /// Agent: what it sent to the agent API cannot be read as what it should be.
    BadDeclaration(String),
    /// Policy: what was held is denied by the policy in force now. Intent id and reason.
    Blocked(String, String),
    /// Agent: went away before its request was complete.
    ClientGone,
    /// Policy: denied.
    Denied(Box<(Denial, Facts)>),
    /// Agent: the same side effect, or the same key, was had a short while ago. By whom.
    Duplicate(String, Option<Box<Decided>>),
    /// Agent: an expectation other than `100-continue` (RFC 9110 section 10.1.1).
    Expectation,
    /// Nobody decided in time.
    Expired(String),
    /// Agent: the head is larger than the limit.
    HeadTooLarge(String),
    /// Operator: a kill switch is on. What it is on for.
    Killed(String, Option<Box<Decided>>),
    /// Gate: the ledger does not take this event now, because another came first.
    LedgerRefused(String),
    /// Gate: the ledger cannot record, so nothing may leave.
    LedgerUnavailable(String),
    /// Agent: this method is not for a proxy (TRACE, CONNECT inside a tunnel).
    MethodRefused(String),
    /// Agent: the destination's credential has no place in this request.
    NoPlace(String),
    /// Agent: the destination's requests have a key of their own, and this one has none. Why not.
    NoKey(String),
    /// Gate: too little disk space is left to begin anything new.
    NoSpace(String),
    /// Agent: the destination takes no declared intents, or there is none of this key.
    NotDeclarable(String),
    /// Agent: no such page of the agent API, or an intent of somebody else.
    NotFound,
    /// Agent: no credential; a probe, answered with the challenge.
    NotIdentified(Challenge),
    /// Agent: nothing shows that the request does not come from a page in a browser on this machine. Why.
    NotMarked(String),
    /// Agent: no route of the reverse door is for this host and path.
    NoRoute(String),
    /// Agent: more than a budget or a rate has left. Which, and after how many seconds there is room.
    OverLimit(String, Option<u64>, Option<Box<Decided>>),
    /// Not refused for good: a person has to decide. Intent id, and how many seconds until a retry makes sense.
    Pending(Box<Pending>),
    /// Not refused for good: the key it comes with was had before. By what.
    Repeated(Box<Taken>),
    /// Agent: a placeholder stands where it is not replaced.
    PlaceholderMisplaced,
    /// Agent: another key stands where the placeholder should, or nothing.
    PlaceholderRequired,
    /// Agent: asked for a part of a reply that a credential could come back in.
    RangeRefused,
    /// Reviewer: said no. Intent id and rationale.
    Rejected(String, String),
    /// Upstream: its reply could not be looked through for the credential.
    ReplyWithheld(String),
    /// Agent: did not finish sending within the time allowed.
    SlowRequest(String),
    /// Gate: what was approved in advance was used up or withdrawn before this took its share; it is decided again.
    StandingSpent(String),
    /// Agent: the request target is longer than this many bytes.
    TargetTooLong(u64),
    /// Upstream: the token endpoint gave no token, so nothing was sent.
    TokenRefused(String),
    /// Upstream: the token endpoint could not be reached, so nothing was sent.
    TokenUnreachable(String),
    /// Agent: its own gate token stood in a request that would have left.
    TokenInRequest,
    /// Agent: more than its share.
    TooMany(String),
    /// Agent: asked for another protocol (RFC 9110 section 7.8), which is not handed over to here. Why.
    UpgradeRefused(String),
    /// Agent: a credential that is not valid.
    WrongCredential(Challenge),
    /// Upstream: unreachable, not trusted, or its reply could not be read.
    Upstream(String),
    /// Upstream or network: the request left, its result is not known. Never retried.
    UnknownOutcome(String),
    /// Vault: the credential could not be fetched, for this reason and in these words, so nothing was sent.
    Unfetched(Fault, String),
    /// Gate: the credential is not there to be fetched, so nothing was sent.
    VaultUnavailable(String),
}

/// Who asks for a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// The reverse door, as the server it stands for (RFC 9110 section 11.6.1).
    Origin,
    /// The forward door, as a proxy (RFC 9110 section 11.7.1).
    Proxy,
}

/// A request, and what had been decided about it when it was stopped.
#[derive(Debug)]
pub struct Decided {
    /// The request.
    pub facts: Facts,
    /// What the decision rests on.
    pub basis: Basis,
}

/// What a held request is told.
#[derive(Debug)]
pub struct Pending {
    /// The intent that now waits.
    pub intent: String,
    /// Where the agent asks for its state.
    pub status_url: String,
    /// When it expires, RFC 3339.
    pub expires_at: String,
    /// Seconds until asking again makes sense.
    pub retry_after: u64,
    /// The rules that hold it.
    pub rules: Vec<Match>,
    /// The destination it is for.
    pub destination: Option<String>,
    /// Status code for held requests (`answers.hold_status`).
    pub status: u16,
}

// === impl Refusal ===

impl Refusal {
    /// A request that can be read in more than one way.
    pub fn ambiguous(why: impl Into<String>) -> Refusal {
        Refusal::Ambiguous(why.into())
    }

    /// The same, asked for as a server and not as a proxy.
    pub fn at_origin(self) -> Refusal {
        if let Refusal::NotIdentified(_) = self {
            return Refusal::NotIdentified(Challenge::Origin);
        }
        if let Refusal::WrongCredential(_) = self { Refusal::WrongCredential(Challenge::Origin) } else { self }
    }

    /// The same, with what had been decided about the request that it stops.
    pub(crate) fn about(self, facts: &Facts, basis: &Basis) -> Refusal {
        if self.decided().is_some() {
            return self;
        }
        let decided = |basis: Basis| Some(Box::new(Decided { facts: facts.clone(), basis }));
        if let Refusal::Duplicate(holder, _) = self {
            return Refusal::Duplicate(holder, decided(basis.clone()));
        }
        if let Refusal::OverLimit(limit, after, _) = self {
            return Refusal::OverLimit(limit, after, decided(basis.clone()));
        }
        let Refusal::Killed(scope, _) = self else { return self };
        let reason = format!("an operator has stopped {scope}");
        let remedy = "wait until an operator lets it go on".to_owned();
        let stop = Match { rule: "kill_switch".to_owned(), verdict: Verdict::Deny, reason, remedy };
        let rules = std::iter::once(stop).chain(basis.rules.iter().cloned()).collect();
        Refusal::Killed(scope, decided(Basis { rules, ..basis.clone() }))
    }

    /// The request that it stops and what had been decided about it, where it stops one that was read.
    pub(crate) fn decided(&self) -> Option<(&Facts, &Basis)> {
        if let Refusal::Denied(denied) = self {
            return Some((&denied.1, &denied.0.basis));
        }
        if let Refusal::Duplicate(_, decided) | Refusal::Killed(_, decided) | Refusal::OverLimit(_, _, decided) = self {
            return decided.as_deref().map(|decided| (&decided.facts, &decided.basis));
        }
        None
    }

    /// What only an operator should read; empty where the answer already says it all.
    pub fn cause(&self) -> &str {
        match self {
            Refusal::LedgerRefused(why)
            | Refusal::LedgerUnavailable(why)
            | Refusal::StandingSpent(why)
            | Refusal::TokenRefused(why)
            | Refusal::TokenUnreachable(why)
            | Refusal::NoSpace(why)
            | Refusal::Unfetched(_, why)
            | Refusal::VaultUnavailable(why) => why,
            Refusal::AgentSuspended
            | Refusal::Ambiguous(_)
            | Refusal::AuthorityMismatch(_)
            | Refusal::BadDeclaration(_)
            | Refusal::Blocked(..)
            | Refusal::BodyTooLarge(_)
            | Refusal::Busy(_)
            | Refusal::Cancelled(_)
            | Refusal::ClientGone
            | Refusal::Denied(_)
            | Refusal::Duplicate(..)
            | Refusal::Expectation
            | Refusal::Expired(_)
            | Refusal::HeadTooLarge(_)
            | Refusal::Killed(..)
            | Refusal::MethodRefused(_)
            | Refusal::NoKey(_)
            | Refusal::NoPlace(_)
            | Refusal::NotDeclarable(_)
            | Refusal::NotFound
            | Refusal::NotIdentified(_)
            | Refusal::NotMarked(_)
            | Refusal::NoRoute(_)
            | Refusal::OverLimit(..)
            | Refusal::Pending(_)
            | Refusal::PlaceholderMisplaced
            | Refusal::PlaceholderRequired
            | Refusal::RangeRefused
            | Refusal::Rejected(..)
            | Refusal::Repeated(_)
            | Refusal::ReplyWithheld(_)
            | Refusal::SlowRequest(_)
            | Refusal::TargetTooLong(_)
            | Refusal::TokenInRequest
            | Refusal::TooMany(_)
            | Refusal::UpgradeRefused(_)
            | Refusal::WrongCredential(_)
            | Refusal::Upstream(_)
            | Refusal::UnknownOutcome(_) => "",
        }
    }
}
