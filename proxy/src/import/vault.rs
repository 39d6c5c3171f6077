//! The vault file of a Zehrava Gate: where secrets are, and how they go into a request.
//!
//! There a credential belonged to a destination and went to the address in its own entry. Here it belongs to hosts and
//! goes into the request itself.

use policy::yaml::Step;
use policy::{Code, Faults};
use serde_yaml::{Mapping, Value};

use super::registry::Destination;

/// The entries of `credentials.yaml`, each named like the destination that uses it.
pub(super) fn read(file: &Mapping, destinations: &mut [Destination], faults: &mut Faults<'_>) -> Mapping {
    let provider = text(file, "provider").unwrap_or("env");
    note_providers(file, provider, faults);
    let mut credentials = Mapping::new();
    let entries = file.get("credentials").and_then(Value::as_mapping).into_iter().flatten();
    for (name, entry) in entries.filter_map(|(name, entry)| Some((name.as_str()?, entry.as_mapping()?))) {
        let at = [Step::Key("credentials"), Step::Key(name)];
        let Some(user) = destinations.iter_mut().find(|destination| destination.key == name) else {
            let message = "no host of the registry maps to this destination";
            faults.warn(&at, Code::LeftOut, message, "left out: here a credential is bound to hosts");
            continue;
        };
        note_execution(entry, user, &at, faults);
        if let (Some(secret), Some(inject)) = (secret(entry, provider, &at, faults), inject(entry, &at, faults)) {
            let hosts = user.matches.iter().map(|(host, _)| Value::from(host.as_str())).collect();
            let written = Mapping::from_iter([
                (Value::from("secret"), Value::from(secret)),
                (Value::from("hosts"), Value::Sequence(hosts)),
                (Value::from("inject"), inject),
            ]);
            credentials.insert(Value::from(name), Value::Mapping(written));
            user.credential = Some(name.to_owned());
        }
    }
    credentials
}

fn note_providers(file: &Mapping, provider: &str, faults: &mut Faults<'_>) {
    for key in ["1password", "hashicorp", "aws"] {
        if file.contains_key(key) && key != provider {
            let message = format!("in Gate, the one provider is `{provider}`");
            faults.warn(&[Step::Key(key)], Code::DeadLine, message, "left out");
        } else if file.contains_key(key) {
            let message = "in Gate, this says how the provider is reached";
            let remedy = "left out: here `providers:` in writ.yaml says it";
            faults.warn(&[Step::Key(key)], Code::LeftOut, message, remedy);
        }
    }
    if file.get("1password").and_then(|section| section.get("vault")).is_some() {
        let message = "in Gate, this key is read by nothing";
        faults.warn(&[Step::Key("1password"), Step::Key("vault")], Code::DeadLine, message, "left out");
    }
}

/// There the stored payload goes to a fixed address; here the request itself is sent.
fn note_execution(entry: &Mapping, user: &Destination, at: &[Step<'_>], faults: &mut Faults<'_>) {
    let Some(url) = entry.get("execute").and_then(|execute| execute.get("url")).and_then(Value::as_str) else { return };
    let host = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next()).unwrap_or_default();
    let at: Vec<Step<'_>> = at.iter().copied().chain([Step::Key("execute")]).collect();
    let message = "in Gate, at most 400 characters of the body are sent to this address, whatever was asked for";
    let remedy = if user.matches.iter().any(|(known, _)| known == host) {
        "left out: here the request that was approved is sent, to where it was for"
    } else {
        "left out: no host of the registry is this one; add it to the destination and to the credential's hosts"
    };
    faults.warn(&at, Code::Changed, message, remedy);
}

/// The reference in the words of this program.
fn secret(entry: &Mapping, provider: &str, at: &[Step<'_>], faults: &mut Faults<'_>) -> Option<String> {
    let keys = match provider {
        "1password" => ["ref", "secret_1password"],
        "hashicorp" => ["secret_path", "secret_hashicorp"],
        "aws" => ["secret_name", "secret_aws"],
        _ => ["secret_env", "secret_env"],
    };
    let Some((key, place)) = keys.iter().find_map(|key| Some((*key, text(entry, key)?))) else {
        let message = format!("in Gate, the credential is skipped: there is no `{}`", keys.join("` or `"));
        faults.warn(at, Code::DeadLine, message, "left out: say where the secret is");
        return None;
    };
    let at: Vec<Step<'_>> = at.iter().copied().chain([Step::Key(key)]).collect();
    match provider {
        "1password" => Some(place.to_owned()),
        "hashicorp" => {
            let message = "in Gate, whichever field comes first is the secret";
            faults.warn(&at, Code::FailOpen, message, "written as the field `value`; name the one that is meant");
            Some(format!("vault://secret/{place}#value"))
        }
        "aws" => Some(format!("aws-sm://{place}")),
        _ => Some(format!("env://{place}")),
    }
}

fn inject(entry: &Mapping, at: &[Step<'_>], faults: &mut Faults<'_>) -> Option<Value> {
    let one = |key: &str, value: Value| Some(Value::Mapping(super::one(key, value)));
    let here: Vec<Step<'_>> = at.iter().copied().chain([Step::Key("inject")]).collect();
    match text(entry, "inject").unwrap_or("header") {
        "basic_auth" => one("basic", Value::Mapping(super::one("user", Value::from("{secret}")))),
        "header" => {
            let name = text(entry, "header_name").unwrap_or("Authorization");
            let format = text(entry, "header_format").unwrap_or("Bearer {secret}");
            if name.eq_ignore_ascii_case("authorization") && format == "Bearer {secret}" {
                return one("bearer", Value::from("{secret}"));
            }
            let header = [(Value::from("name"), Value::from(name)), (Value::from("value"), Value::from(format))];
            one("header", Value::Mapping(Mapping::from_iter(header)))
        }
        "query_param" => {
            let message = "in Gate, the secret is logged with the address when the network fails";
            faults.warn(&here, Code::FailOpen, message, "here it is neither logged nor recorded");
            let name = text(entry, "query_param_name").unwrap_or("api_key");
            one("query", Value::Mapping(super::one("name", Value::from(name))))
        }
        "url" => {
            let message = "in Gate, the secret is the address, and is logged when the network fails";
            faults.warn(&here, Code::LeftOut, message, "left out: no credential can choose where a request goes");
            None
        }
        _ => {
            faults.warn(&here, Code::DeadLine, "in Gate, this puts the secret nowhere", "left out");
            None
        }
    }
}

fn text<'a>(mapping: &'a Mapping, key: &str) -> Option<&'a str> {
    mapping.get(key).and_then(Value::as_str)
}
