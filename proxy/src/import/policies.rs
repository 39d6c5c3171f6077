//! The policies of a Zehrava Gate.
//!
//! A field is kept where it means here what its file says. One that was read by nothing there is only kept where it
//! makes the policy stricter.

use std::collections::BTreeMap;

use policy::yaml::Step;
use policy::{Code, Fault, Faults, Source};
use serde_yaml::{Mapping, Value};

use super::registry::Destination;

/// One policy file of the gate.
pub(super) struct Policy<'a> {
    pub(super) source: &'a Source,
    pub(super) file: Mapping,
}

// === impl Policy ===

impl Policy<'_> {
    /// The destinations it may be used for; any when absent.
    pub(super) fn lists(&self) -> Option<Vec<&str>> {
        let list = self.file.get("destinations")?.as_sequence()?;
        Some(list.iter().filter_map(Value::as_str).collect())
    }
}

/// The policies that some destination uses, by id, and what was found in all of them.
pub(super) fn convert(
    known: &BTreeMap<&str, Policy<'_>>,
    destinations: &mut [Destination],
) -> (BTreeMap<String, Mapping>, Vec<Fault>) {
    let (mut converted, mut findings) = (BTreeMap::new(), Vec::new());
    for (id, policy) in known {
        let mut faults = Faults::new(policy.source);
        let users: Vec<&mut Destination> =
            destinations.iter_mut().filter(|destination| destination.policy == *id).collect();
        if users.is_empty() {
            let remedy = "left out: no host of the registry is decided by it";
            faults.warn(&[], Code::LeftOut, "in Gate, only an agent can name this policy", remedy);
        } else {
            converted.extend(split(id, &policy.file, users, &mut faults));
        }
        findings.extend(faults.into_vec());
    }
    (converted, findings)
}

/// One policy; or two, where it limits records and not all of its destinations count them.
fn split(id: &str, file: &Mapping, users: Vec<&mut Destination>, faults: &mut Faults<'_>) -> Vec<(String, Mapping)> {
    let policy = convert_one(id, file, faults);
    let is_limited = LIMITS.iter().any(|key| policy.contains_key(key));
    let (counted, mut rest): (Vec<_>, Vec<_>) =
        users.into_iter().partition(|user| !is_limited || user.records.is_some());
    let mut policies = Vec::new();
    if !rest.is_empty() {
        let message = "in Gate, a request whose records are not counted always waits";
        let remedy = "the same here, in a policy of its own; give its destinations a `measure` to use the limits";
        faults.warn(&limit_at(file), Code::Changed, message, remedy);
        let other = format!("{id}-uncounted");
        rest.iter_mut().for_each(|user| user.policy.clone_from(&other));
        let mut stricter = policy.clone();
        LIMITS.iter().for_each(|key| drop(stricter.shift_remove(key)));
        stricter.insert(Value::from("id"), Value::from(other.as_str()));
        policies.push((other, used_by(stricter, &rest)));
    }
    if !counted.is_empty() {
        policies.push((id.to_owned(), used_by(policy, &counted)));
    }
    policies
}

/// Where the first limit on records stands.
fn limit_at(file: &Mapping) -> Vec<Step<'static>> {
    LIMITS.iter().find(|key| file.contains_key(**key)).map(|key| vec![Step::Key(key)]).unwrap_or_default()
}

/// The policy with the destinations that use it, and a rule for those that were meant to be held.
fn used_by(mut file: Mapping, users: &[&mut Destination]) -> Mapping {
    let keys = |wanted: fn(&Destination) -> bool| {
        let keys = users.iter().filter(|user| wanted(user)).map(|user| Value::from(user.key.as_str()));
        keys.collect::<Vec<Value>>()
    };
    file.insert(Value::from("destinations"), Value::Sequence(keys(|_| true)));
    let held = keys(|user| user.held);
    if !held.is_empty() {
        let rule = Mapping::from_iter([
            (Value::from("id"), Value::from("registry")),
            (Value::from("effect"), Value::from("hold")),
            (Value::from("when"), Value::Mapping(super::one("destinations", Value::Sequence(held)))),
            (Value::from("reason"), Value::from("the registry asks for approval of every request")),
        ]);
        file.insert(Value::from("rules"), Value::Sequence(vec![Value::Mapping(rule)]));
    }
    file
}

fn convert_one(id: &str, file: &Mapping, faults: &mut Faults<'_>) -> Mapping {
    let mut kept = super::one("id", Value::from(id));
    for (key, value) in keys(file) {
        let at = [Step::Key(key)];
        match key {
            "id" if value.as_str() != Some(id) => {
                let message = "in Gate, this is not compared with the file's name, which is what counts";
                faults.warn(&at, Code::DeadLine, message, "the file's name is kept");
            }
            "environments" => {
                let message = "in Gate, the agent names the environment itself";
                let remedy = "here `environment:` in writ.yaml names it";
                faults.warn(&at, Code::FailOpen, message, remedy);
                drop(kept.insert(Value::from(key), environments(value, faults)));
            }
            "id" | "destinations" => {}
            _ => {
                if let Some(value) = field(key, value, &at, faults) {
                    kept.insert(Value::from(key), value);
                }
            }
        }
    }
    settle_limits(&mut kept, faults);
    kept
}

fn environments(value: &Value, faults: &mut Faults<'_>) -> Value {
    let all = value.as_mapping().into_iter().flat_map(keys).map(|(name, changes)| {
        let changes = changes.as_mapping().into_iter().flat_map(keys).filter_map(|(key, value)| {
            let at = [Step::Key("environments"), Step::Key(name), Step::Key(key)];
            Some((Value::from(key), field(key, value, &at, faults)?))
        });
        (Value::from(name), Value::Mapping(changes.collect()))
    });
    Value::Mapping(all.collect())
}

/// What becomes of one field; none when it is left out.
fn field(key: &str, value: &Value, at: &[Step<'_>], faults: &mut Faults<'_>) -> Option<Value> {
    let meant = MEANINGS.iter().find(|(name, ..)| *name == key);
    match (key, meant) {
        ("require_approval", _) if value.as_str() == Some("always") => {}
        // Here it would let through what there still waited.
        ("require_approval", _) => {
            let message = "in Gate, only `always` does anything; a request that nothing allows waits all the same";
            faults.warn(at, Code::DeadLine, message, "left out, which means the same");
            return None;
        }
        ("auto_approve_under" | "require_approval_over", _) if value.as_u64() == Some(0) => {
            faults.warn(at, Code::DeadLine, "in Gate, 0 counts as no limit", "left out, which means the same");
            return None;
        }
        ("on_no_response", _) if value.as_str() == Some("auto_approve_if_low_risk") => {
            let message = "in Gate, the risk is guessed from the destination's name";
            faults.warn(at, Code::FailOpen, message, "kept; here the risk is measured");
            return Some(Value::from("approve_if_low_risk"));
        }
        ("description" | "on_no_response", _) => {}
        ("block_if_pii", _) => {
            faults.warn(at, Code::DeadLine, READ_BY_NOTHING, "kept where it is true, which works here");
            return Some(value.clone()).filter(|value| value.as_bool() == Some(true));
        }
        (_, Some((_, code, there, here, kept))) => {
            faults.warn(at, *code, *there, here);
            return kept.then(|| value.clone());
        }
        (_, None) => {
            faults.warn(at, Code::DeadLine, READ_BY_NOTHING, "left out");
            return None;
        }
    }
    Some(value.clone())
}

/// Of two limits that contradict each other the stricter counts there.
fn settle_limits(file: &mut Mapping, faults: &mut Faults<'_>) {
    let limit = |key: &str| file.get(key).and_then(Value::as_f64);
    let (Some(under), Some(over)) = (limit("auto_approve_under"), limit("require_approval_over")) else { return };
    if under > over {
        let message = "in Gate, this never lets through more than `require_approval_over` does";
        faults.warn(&[Step::Key("auto_approve_under")], Code::DeadLine, message, "lowered to that limit");
        if let Some(over) = file.get("require_approval_over").cloned() {
            file.insert(Value::from("auto_approve_under"), over);
        }
    }
}

fn keys(mapping: &Mapping) -> impl Iterator<Item = (&str, &Value)> {
    mapping.iter().filter_map(|(key, value)| Some((key.as_str()?, value)))
}

/// Fields that did nothing there, or less than they say: the key, what it did, what it does here, whether it is kept.
const MEANINGS: [(&str, Code, &str, &str, bool); 14] = [
    (
        "allowed_recipients",
        Code::DeadLine,
        READ_BY_NOTHING,
        "left out: measure `recipients` at the destinations, then list addresses here",
        false,
    ),
    (
        "allowed_types",
        Code::FailOpen,
        "in Gate, this is skipped for every payload that is no file",
        "here the declared type is compared, and the bytes with it",
        true,
    ),
    ("approval_channel", Code::LeftOut, "in Gate, this calls or writes to a reviewer", "left out", false),
    ("assurance", Code::LeftOut, "in Gate, this asks reviewers for more factors", "left out", false),
    (
        "auto_approve_under",
        Code::FailOpen,
        "in Gate, a count below zero passes, and no count is known without `extract_records`",
        "here the count is measured; what has none is held",
        true,
    ),
    (
        "block_if_terms",
        Code::FailOpen,
        "in Gate, only the first 400 characters are searched, and nothing that ends in `.json`",
        "here the whole body is searched, decoded",
        true,
    ),
    ("delivery", Code::DeadLine, READ_BY_NOTHING, "left out: here an approved request is always sent once", false),
    ("expiry_minutes", Code::DeadLine, "in Gate, the agent chooses how long it waits", "kept; here it counts", true),
    (
        "field_checks",
        Code::FailOpen,
        "in Gate, these are skipped unless the body is JSON, and a number in quotes passes every limit",
        "here what cannot be checked is denied",
        true,
    ),
    (
        "rate_limits",
        Code::Changed,
        "in Gate, all agents behind the proxy count as one, over all policies",
        "kept; here each agent is counted for itself, by this policy",
        true,
    ),
    (
        "require_approval_for",
        Code::DeadLine,
        "in Gate, this has no effect: the request waits already, or was allowed before",
        "left out: measure `scope` at the destinations, then write it again",
        false,
    ),
    (
        "require_approval_over",
        Code::FailOpen,
        "in Gate, no count is known without `extract_records`",
        "here the count is measured; what has none is held",
        true,
    ),
    (
        "require_approvals",
        Code::Changed,
        "in Gate, one person may be several reviewers",
        "kept; here each is one",
        true,
    ),
    (
        "require_profile",
        Code::LeftOut,
        "in Gate, the agent fills the profile in itself",
        "left out: give the destinations a `profile`, which is measured, then write it again",
        false,
    ),
];

const READ_BY_NOTHING: &str = "in Gate, this key is read by nothing";

/// The fields that need a count of records.
const LIMITS: [&str; 2] = ["auto_approve_under", "require_approval_over"];
