//! What a decision rests on: what every rule said, and what was measured.
//!
//! It goes onto the ledger as it is, so nothing in it may repeat content of a body.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::destination::Effect;
use crate::profile::ProfileKind;
use crate::risk::Risk;

/// What one rule says; ordered, the strictest is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
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

/// What a decision rests on; it goes into the ledger. Of a request with several calls, the destination, policy and
/// measured values are those of the call that is judged most strictly; the rules are those of all calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Basis {
    /// The destination's key; none when nothing matches.
    pub destination: Option<String>,
    /// The destination's effect.
    pub effect: Option<Effect>,
    /// What kind of action it is.
    pub profile: Option<ProfileKind>,
    /// The policy that spoke.
    pub policy: Option<String>,
    /// SHA-256 in hex over the bytes of the policy's file.
    pub policy_hash: Option<String>,
    /// The gate's environment, when it changes the policy.
    pub environment: Option<String>,
    /// SHA-256 in hex over the bytes of the destinations file.
    pub destinations_hash: String,
    /// SHA-256 in hex over the bytes of the agent's manifest, if it has one.
    pub manifest_hash: Option<String>,
    /// Every rule that spoke, the strictest first.
    pub rules: Vec<Match>,
    /// Measured values by name; `unmeasurable: why` where there is none.
    pub measured: BTreeMap<String, String>,
    /// SHA-256 in hex over the detectors of sensitive data; none when the policy looks for none. What they found is
    /// among the measured values, as `dlp.DETECTOR` with the number of different finds.
    pub dlp: Option<String>,
    /// How risky the request is; none when no destination matches.
    pub risk: Option<Risk>,
    /// What its policy would have decided, where that is not enforced and the request is sent all the same.
    pub shadow: Option<Verdict>,
    /// The intent digest, see [`Facts::digest`](crate::Facts::digest); with an empty destination key when none matches.
    pub digest: String,
}

// === impl Verdict ===

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Hold => "hold",
            Self::Deny => "deny",
        })
    }
}
