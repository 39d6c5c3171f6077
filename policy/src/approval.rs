//! Which votes count.
//!
//! An approval counts for exactly the request and the reasons the reviewer saw. It can carry a held request, never a
//! denied one.

use std::collections::BTreeSet;

use serde_json::json;

use crate::basis::{Match, Verdict};
use crate::facts::{Ballot, Facts, Vote, sha256_hex};

/// The hash of the reasons for which a request is held, in the order of the rules' names.
pub(crate) fn reasons_hash(rules: &[Match]) -> String {
    let shown: BTreeSet<(&str, &str)> = rules
        .iter()
        .filter(|rule| rule.verdict == Verdict::Hold)
        .map(|rule| (rule.rule.as_str(), rule.reason.as_str()))
        .collect();
    sha256_hex(json!(shown).to_string().as_bytes())
}

/// Whether a reviewer denied this very request. The reasons do not matter: a no stays a no.
pub(crate) fn is_denied(facts: &Facts, digest: &str) -> bool {
    facts.votes.iter().any(|vote| vote.ballot == Ballot::Deny && vote.digest == digest)
}

/// The approvals that count, one per operator; with `approvers` only those of operators in one of each set of groups.
pub(crate) fn counting(facts: &Facts, digest: &str, reasons: &str, approvers: &[&BTreeSet<String>]) -> Vec<Vote> {
    let mut operators = BTreeSet::new();
    facts
        .votes
        .iter()
        .filter(|vote| vote.ballot == Ballot::Approve && vote.digest == digest && vote.reasons == reasons)
        .filter(|vote| approvers.iter().all(|groups| vote.groups.iter().any(|group| groups.contains(group))))
        .filter(|vote| operators.insert(vote.operator.as_str()))
        .cloned()
        .collect()
}
