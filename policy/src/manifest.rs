//! Manifests: what an operator says an agent is, and the most that it may do whatever policies allow.
//!
//! A manifest only ever tightens. An agent without one is bound by policies alone.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::basis::{Match, Verdict};
use crate::destination::{Destination, Effect, is_key};
use crate::document::Source;
use crate::facts::sha256_hex;
use crate::fault::{Code, Fault, Faults};
use crate::glob::Glob;
use crate::profile::ProfileKind;
use crate::yaml::{self, Step};

/// `agents/NAME.yaml`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestFile {
    name: String,
    owner: Option<String>,
    /// The repository that the agent is built from.
    source: Option<String>,
    version: Option<String>,
    /// What it runs on.
    runtime: Option<String>,
    /// Whose budgets it shares.
    group: Option<String>,
    #[serde(default)]
    risk_tier: Tier,
    capabilities: Option<BTreeSet<ProfileKind>>,
    allowed_destinations: Option<Vec<String>>,
    allowed_actions: Option<BTreeSet<Effect>>,
}

/// How much harm an agent may do by what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tier {
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

/// What an operator says about one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Who answers for it.
    pub owner: Option<String>,
    /// SHA-256 in hex over the bytes of its file.
    pub hash: String,
    pub(crate) group: Option<String>,
    pub(crate) tier: Tier,
    capabilities: Option<BTreeSet<ProfileKind>>,
    destinations: Option<Vec<Glob>>,
    actions: Option<BTreeSet<Effect>>,
}

/// Compiles the manifests of all agents, by the names of their files.
pub(crate) fn compile(
    files: &[(String, Source)],
    destinations: &[Destination],
    found: &mut Vec<Fault>,
) -> BTreeMap<String, Manifest> {
    let mut manifests = BTreeMap::new();
    for (name, source) in files {
        let mut faults = Faults::new(source);
        let (file, misshapen) = yaml::survey::<ManifestFile>(source);
        faults.extend(misshapen);
        let manifest = file.map(|file| Manifest::compile((name, source), file, destinations, &mut faults));
        manifests.extend(manifest.map(|manifest| (name.clone(), manifest)));
        found.extend(faults.into_vec());
    }
    manifests
}

// === impl Manifest ===

impl Manifest {
    fn compile(
        (name, source): (&str, &Source),
        file: ManifestFile,
        destinations: &[Destination],
        faults: &mut Faults<'_>,
    ) -> Self {
        if file.name != name {
            faults.note(
                &[Step::Key("name")],
                Code::IdMismatch,
                "the name differs from the file's",
                "rename the file or correct the name",
            );
        }
        let texts =
            [("owner", &file.owner), ("source", &file.source), ("version", &file.version), ("runtime", &file.runtime)];
        let odd = |text: &str| text.trim().is_empty() || text.len() > MAX_TEXT;
        for (key, _) in texts.iter().filter(|(_, text)| text.as_deref().is_some_and(odd)) {
            faults.note(
                &[Step::Key(key)],
                Code::EmptyText,
                "the text is empty or over 200 octets",
                "write a name or an address",
            );
        }
        if file.group.as_deref().is_some_and(|group| !is_key(group)) {
            faults.note(
                &[Step::Key("group")],
                Code::BadKey,
                "this is no name of a group",
                "use lower-case letters, digits and `-`",
            );
        }
        let empty = [
            ("capabilities", file.capabilities.as_ref().is_some_and(BTreeSet::is_empty)),
            ("allowed_destinations", file.allowed_destinations.as_ref().is_some_and(Vec::is_empty)),
            ("allowed_actions", file.allowed_actions.as_ref().is_some_and(BTreeSet::is_empty)),
        ];
        for (key, _) in empty.iter().filter(|(_, empty)| *empty) {
            faults.note(
                &[Step::Key(key)],
                Code::EmptyList,
                "the list is empty",
                "list something, or suspend the agent",
            );
        }
        Self {
            owner: file.owner,
            group: file.group,
            tier: file.risk_tier,
            hash: sha256_hex(source.text.as_bytes()),
            capabilities: file.capabilities,
            destinations: file.allowed_destinations.map(|entries| compile_destinations(&entries, destinations, faults)),
            actions: file.allowed_actions,
        }
    }

    /// What it says against a request to a destination.
    pub(crate) fn judge(&self, destination: &Destination) -> Vec<Match> {
        let (key, effect) = (&destination.key, destination.effect);
        let kind = destination.profile.as_ref().map(|profile| profile.kind);
        let listed = self.destinations.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(key)));
        let acts = self.actions.as_ref().is_none_or(|actions| actions.contains(&effect));
        let able = self.capabilities.as_ref().zip(kind).is_none_or(|(able, kind)| able.contains(&kind));
        let deny = |rule: &str, reason: String| Match {
            rule: format!("manifest/{rule}"),
            verdict: Verdict::Deny,
            reason,
            remedy: "ask the operator to add it to the agent's manifest".to_owned(),
        };
        let against = [
            (!listed).then(|| deny("allowed_destinations", format!("this agent is not for `{key}`"))),
            (!acts).then(|| deny("allowed_actions", format!("this agent is not for {effect} requests"))),
            kind.filter(|_| !able).map(|kind| deny("capabilities", format!("this agent is not for `{kind}`"))),
        ];
        against.into_iter().flatten().collect()
    }
}

fn compile_destinations(entries: &[String], destinations: &[Destination], faults: &mut Faults<'_>) -> Vec<Glob> {
    let mut globs = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let path = [Step::Key("allowed_destinations"), Step::Item(at)];
        match Glob::parse(entry) {
            Ok(glob) => {
                let known =
                    destinations.iter().flat_map(Destination::with_calls).any(|known| known.may_be_meant(&glob));
                if !known {
                    let message = format_args!("there is no destination `{entry}`");
                    faults.note(&path, Code::UnknownDestination, message, "correct the key, or remove it");
                }
                globs.push(glob);
            }
            Err(flaw) => faults.note_flaw(&path, flaw),
        }
    }
    globs
}

const MAX_TEXT: usize = 200;
