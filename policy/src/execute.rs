//! What a declared intent becomes: the one request that a destination's template makes of a payload.
//!
//! Makes a request only; whether it may be sent is decided like any other's.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::authority::{Authority, Scheme};
use crate::destination::Destination;
use crate::fault::{Code, Faults};
use crate::index::Index;
use crate::rules::Rules;
use crate::yaml::{Step, below};

/// `execute` of a destination as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecuteEntry {
    method: String,
    path: String,
    content_type: Option<String>,
    #[serde(default)]
    by: Executor,
}

/// Who carries out a declared intent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Executor {
    /// This gate, with the destination's credential.
    #[default]
    Gate,
    /// A program of the agent's owner, under an order that the gate signs.
    Runner,
}

/// The template of a destination.
#[derive(Clone, Debug)]
pub struct Execute {
    /// Upper-case method.
    pub method: String,
    /// Where the request goes.
    pub authority: Authority,
    /// The path.
    pub path: String,
    /// `Content-Type` of the payload.
    pub content_type: String,
    /// Who sends it.
    pub by: Executor,
}

// === impl Execute ===

impl Execute {
    /// Compiles the entry that stands at `at`. `hosts` and `endpoints` are the destination's own.
    pub(crate) fn compile(
        entry: ExecuteEntry,
        (hosts, endpoint): (BTreeSet<String>, Option<(Scheme, u16)>),
        at: &[Step<'_>],
        faults: &mut Faults<'_>,
    ) -> Option<Self> {
        let host = hosts.first().filter(|_| hosts.len() == 1).zip(endpoint);
        let authority = host
            .and_then(|(host, (scheme, port))| Authority::parse(scheme, &format!("{}:{port}", bracketed(host))).ok());
        if authority.is_none() {
            let message = "a template needs a destination with exactly one host, without `*`";
            faults.note(at, Code::BadHost, message, "make a destination of its own for declared intents");
        }
        let content_type = entry.content_type.unwrap_or_else(|| "application/json".to_owned());
        if content_type.is_empty() || !content_type.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let remedy = "write it like `application/json`, or remove the key";
            faults.note(&below(at, &[Step::Key("content_type")]), Code::BadType, "this is no media type", remedy);
        }
        Some(Self { method: entry.method, authority: authority?, path: entry.path, content_type, by: entry.by })
    }
}

// === impl Rules ===

impl Rules {
    /// The template of the destination of this key, if it takes declared intents.
    pub fn template(&self, key: &str) -> Option<&Execute> {
        self.destinations().find(|destination| destination.key == key)?.execute.as_ref()
    }
}

/// Notes templates whose requests would be for another destination than their own.
pub(crate) fn check_templates(destinations: &[Destination], index: &Index, faults: &mut Faults<'_>) {
    for (at, destination) in destinations.iter().enumerate() {
        let Some(execute) = &destination.execute else { continue };
        let found = index.find(destinations, &execute.method, &execute.authority, &execute.path);
        if found.is_none_or(|found| found.key != destination.key) {
            let path = [Step::Key("destinations"), Step::Item(at), Step::Key("execute")];
            let message = format!("what `{}` makes of a payload would not come to it", destination.key);
            faults.note(&path, Code::MatchesNothing, message, "use a method and path that its own `match` takes");
        }
    }
}

/// An IPv6 address as an authority has it.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}
