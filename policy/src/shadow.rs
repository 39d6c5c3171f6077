//! Policies that are tried out: decided and recorded, not enforced.
//!
//! Only what the policy itself says is passed over, and only before a date. What anything else denies stays denied, money
//! never moves this way, and a request that would not have been allowed gets no credential.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::destination::{Destination, Effect};
use crate::fault::{Code, Faults};
use crate::policy_file::PolicyFile;
use crate::profile::ProfileKind;
use crate::yaml::Step;

/// When a policy that is not enforced will be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shadow {
    pub(crate) until: Timestamp,
}

// === impl Shadow ===

impl Shadow {
    /// None for a policy that is enforced.
    pub(crate) fn compile(file: &PolicyFile, faults: &mut Faults<'_>) -> Option<Self> {
        let until = match (file.enforce, file.until.as_deref()) {
            (None | Some(true), None) => return None,
            (None | Some(true), Some(_)) => {
                let remedy = "remove the key, or write `enforce: false` beside it";
                faults.note(&[UNTIL], Code::NothingChecked, "`until` ends nothing: the policy is enforced", remedy);
                return None;
            }
            (Some(false), None) => {
                let remedy = "add `until` with a point in time such as `2027-01-31T00:00:00Z`";
                faults.note(&[ENFORCE], Code::MissingKey, "nothing says when the policy is enforced again", remedy);
                return None;
            }
            (Some(false), Some(until)) => until,
        };
        let Ok(until) = until.parse::<Timestamp>() else {
            faults.note(&[UNTIL], Code::BadTime, "this is no point in time", "write it like `2027-01-31T00:00:00Z`");
            return None;
        };
        let message = format!("the policy is not enforced before {until}: what it holds or denies is sent");
        faults.warn(&[ENFORCE], Code::NotEnforced, message, "remove the key when the policy has been tried out");
        Some(Self { until })
    }

    /// Notes destinations for which a policy has to be enforced.
    pub(crate) fn check_use(users: &BTreeMap<&str, &Destination>, faults: &mut Faults<'_>) {
        for user in users.values().filter(|user| moves_money(user)) {
            let message = format!("`{}` moves money, so its policy is always enforced", user.key);
            faults.note(
                &[ENFORCE],
                Code::ShadowPayment,
                message,
                "remove the key, or give payments a policy of their own",
            );
        }
    }
}

fn moves_money(destination: &Destination) -> bool {
    let profile = destination.profile.as_ref().map(|profile| profile.kind);
    destination.effect == Effect::Payment
        || matches!(profile, Some(ProfileKind::PaymentCharge | ProfileKind::PaymentRefund))
}

const ENFORCE: Step<'static> = Step::Key("enforce");
const UNTIL: Step<'static> = Step::Key("until");
