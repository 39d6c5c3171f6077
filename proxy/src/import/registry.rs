//! A Zehrava Gate's registry: which host and path is which destination, under which policy.
//!
//! There the first prefix in the file won, every method was meant, and what was not listed went through a default policy.
//! Here what is not listed is denied.

use std::collections::BTreeMap;

use policy::yaml::Step;
use policy::{Code, Faults, Host};
use serde_yaml::{Mapping, Value};

use super::policies::Policy;

/// One destination as it will be written.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) key: String,
    pub(super) policy: String,
    pub(super) credential: Option<String>,
    /// Where the number of records is, as `measure` says it.
    pub(super) records: Option<String>,
    /// Whether every request was meant to be held.
    pub(super) held: bool,
    /// Hosts and path patterns.
    pub(super) matches: Vec<(String, String)>,
}

/// What one line of the registry maps.
struct Route<'a> {
    host: &'a str,
    /// The prefix, or none for the whole host.
    prefix: Option<&'a str>,
    entry: &'a Mapping,
    at: Vec<Step<'a>>,
}

/// Every destination that some request could pass, in the order of the file.
pub(super) fn read(file: &Mapping, policies: &BTreeMap<&str, Policy<'_>>, faults: &mut Faults<'_>) -> Vec<Destination> {
    let mut destinations = Vec::new();
    for (host, entry) in entries_of(file) {
        let at = [Step::Key(host)];
        if host == DEFAULT {
            note_default(entry, &at, faults);
        } else if truth(entry, "passthrough") {
            let message = "in Gate, this host is reached without policy, approval or record";
            let remedy = "left out: here it is denied until a destination allows it";
            faults.warn(&[at[0], Step::Key("passthrough")], Code::FailOpen, message, remedy);
        } else if Host::parse(host).is_err() {
            let message = "no request can have this host name";
            faults.warn(&at, Code::LeftOut, message, "left out: write the name without scheme, port and path");
        } else {
            for route in routes(host, entry, faults) {
                add(&route, policies, &mut destinations, faults);
            }
        }
    }
    destinations
}

/// The list of `destinations.yaml`.
pub(super) fn entries(destinations: &[Destination]) -> Value {
    let entries = destinations.iter().map(|destination| {
        let matches = destination.matches.iter().map(|(host, path)| {
            Value::Mapping(Mapping::from_iter([
                (Value::from("host"), Value::from(host.as_str())),
                (Value::from("path"), Value::from(path.as_str())),
            ]))
        });
        let mut entry = Mapping::from_iter([
            (Value::from("key"), Value::from(destination.key.as_str())),
            (Value::from("match"), Value::Sequence(matches.collect())),
            (Value::from("effect"), Value::from("external_mutation")),
            (Value::from("policy"), Value::from(destination.policy.as_str())),
        ]);
        if let Some(credential) = &destination.credential {
            entry.insert(Value::from("credential"), Value::from(credential.as_str()));
        }
        if let Some(records) = &destination.records {
            entry.insert(Value::from("measure"), Value::Mapping(super::one("records", Value::from(records.as_str()))));
        }
        Value::Mapping(entry)
    });
    Value::Sequence(entries.collect())
}

fn note_default(entry: &Mapping, at: &[Step<'_>], faults: &mut Faults<'_>) {
    let (code, message) = if truth(entry, "block") {
        (Code::DeadLine, "in Gate, this denies unknown hosts over plain HTTP only, never inside a tunnel")
    } else {
        (Code::FailOpen, "in Gate, an unknown host goes to a default policy, and through a tunnel unseen")
    };
    faults.warn(at, code, message, "left out: here what no destination names is always denied");
}

/// The routes of one host, the more specific ones first.
fn routes<'a>(host: &'a str, entry: &'a Mapping, faults: &mut Faults<'_>) -> Vec<Route<'a>> {
    let mut found: Vec<Route<'a>> = Vec::new();
    for (prefix, below) in entry.get("paths").and_then(Value::as_mapping).into_iter().flat_map(entries_of) {
        let at = vec![Step::Key(host), Step::Key("paths"), Step::Key(prefix)];
        let hidden = found.iter().filter_map(|route| route.prefix).find(|earlier| is_below(prefix, earlier));
        if let Some(earlier) = hidden {
            let message = format!("in Gate, `{earlier}` stands before this path and wins");
            faults.warn(&at, Code::DeadLine, message, "here the most specific path wins");
        }
        found.push(Route { host, prefix: Some(prefix), entry: below, at });
    }
    if truth(entry, "block") {
        let message = "in Gate, this denies the host over plain HTTP only, never inside a tunnel";
        let remedy = "left out: here what no destination names is always denied";
        faults.warn(&[Step::Key(host), Step::Key("block")], Code::FailOpen, message, remedy);
    } else if entry.contains_key("destination") || entry.contains_key("policy") || found.is_empty() {
        found.push(Route { host, prefix: None, entry, at: vec![Step::Key(host)] });
    }
    found
}

fn add(
    route: &Route<'_>,
    policies: &BTreeMap<&str, Policy<'_>>,
    destinations: &mut Vec<Destination>,
    faults: &mut Faults<'_>,
) {
    note_keys(route, faults);
    let named = text(route.entry, "policy");
    if named.is_none() {
        let message = format!("in Gate, without a policy this falls to `{FALLBACK}`");
        faults.warn(&route.at, Code::FailOpen, message, "the same here; name the policy that is meant");
    }
    let policy = named.unwrap_or(FALLBACK);
    let written = text(route.entry, "destination").map_or_else(|| format!("{}.https", route.host), str::to_owned);
    let Some(known) = policies.get(policy) else {
        let message = format!("in Gate, every request is blocked: there is no policy `{policy}`");
        faults.warn(&route.at, Code::LeftOut, message, "left out: here what no destination names is denied");
        return;
    };
    if known.lists().is_some_and(|list| !list.contains(&written.as_str())) {
        let message = format!("in Gate, every request is blocked: the policy `{policy}` does not list `{written}`");
        faults.warn(&route.at, Code::LeftOut, message, "left out: here what no destination names is denied");
        return;
    }
    let path = route.prefix.map_or_else(|| "/**".to_owned(), |prefix| format!("{}/**", prefix.trim_end_matches('/')));
    let records = text(route.entry, "extract_records").map(records);
    let held = text(route.entry, "require_approval") == Some("always");
    let same = |destination: &&mut Destination| {
        destination.key == written && destination.policy == policy && destination.held == held
    };
    if let Some(destination) = destinations.iter_mut().find(same) {
        destination.matches.push((route.host.to_owned(), path));
        destination.records = destination.records.take().or(records);
        return;
    }
    let key = free_key(&written, destinations);
    if key != written {
        let message = format!("`{written}` is no key here, or already one with another policy");
        faults.warn(&route.at, Code::Changed, message, &format!("written as `{key}`"));
    }
    let matches = vec![(route.host.to_owned(), path)];
    destinations.push(Destination { key, policy: policy.to_owned(), credential: None, records, held, matches });
}

/// Names the lines of an entry that do nothing there.
fn note_keys(route: &Route<'_>, faults: &mut Faults<'_>) {
    for (key, value) in route.entry {
        let Some(key) = key.as_str() else { continue };
        let (code, message, remedy) = match key {
            "destination" | "policy" | "extract_records" | "paths" | "block" | "passthrough" => continue,
            "require_approval" if value.as_str() == Some("always") => (
                Code::DeadLine,
                "in Gate, this is handed on and read by nothing",
                "kept as it was meant: a rule of the policy holds every request of this destination",
            ),
            "require_approval" => {
                (Code::DeadLine, "in Gate, this is handed on and read by nothing", "left out: the policy decides")
            }
            _ => (Code::DeadLine, "in Gate, this key is read by nothing", "left out"),
        };
        let at: Vec<Step<'_>> = route.at.iter().copied().chain([Step::Key(key)]).collect();
        faults.warn(&at, code, message, remedy);
    }
}

/// `records.length` is the length of a list; any other path is the number itself.
fn records(path: &str) -> String {
    match path.strip_suffix("length").map(|list| list.trim_end_matches('.')) {
        Some("") => "json:/#".to_owned(),
        Some(list) => format!("json:/{}/#", list.replace('.', "/")),
        None => format!("json:/{}", path.replace('.', "/")),
    }
}

/// A key that is allowed and not taken.
fn free_key(written: &str, destinations: &[Destination]) -> String {
    let plain: String = written
        .to_ascii_lowercase()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || ".-_".contains(letter) { letter } else { '-' })
        .take(90)
        .collect();
    let taken = |key: &String| destinations.iter().any(|destination| destination.key == *key);
    let numbered = (2..).map(|number: usize| format!("{plain}.{number}"));
    std::iter::once(plain.clone()).chain(numbered).find(|key| !taken(key)).unwrap_or_default()
}

/// Whether a path with the one prefix has the other, too.
fn is_below(prefix: &str, earlier: &str) -> bool {
    prefix.strip_prefix(earlier).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The entries of a mapping that are mappings themselves.
fn entries_of(mapping: &Mapping) -> impl Iterator<Item = (&str, &Mapping)> {
    mapping.iter().filter_map(|(key, value)| Some((key.as_str()?, value.as_mapping()?)))
}

fn text<'a>(entry: &'a Mapping, key: &str) -> Option<&'a str> {
    entry.get(key).and_then(Value::as_str)
}

fn truth(entry: &Mapping, key: &str) -> bool {
    entry.get(key).and_then(Value::as_bool) == Some(true)
}

const DEFAULT: &str = "__default__";

/// The policy of what names none.
const FALLBACK: &str = "crm-low-risk";
