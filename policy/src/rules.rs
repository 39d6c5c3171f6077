//! One immutable snapshot of destinations and policies.
//!
//! Loading finds everything that contradicts itself: afterwards nothing is checked again. A snapshot is never changed,
//! only replaced.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::authority::Authority;
use crate::destination::{Destination, is_key};
use crate::document::{DestinationsFile, Source};
use crate::execute::check_templates;
use crate::facts::sha256_hex;
use crate::fault::{Code, Fault, Faults, Invalid, Severity};
use crate::index::Index;
use crate::manifest::{self, Manifest};
use crate::policy::{self, Policy};
use crate::policy_file::PolicyFile;
use crate::yaml::{self, Step, below};

/// One immutable snapshot of destinations and policies.
#[derive(Debug)]
pub struct Rules {
    destinations: Vec<Destination>,
    index: Index,
    policies: BTreeMap<String, Policy>,
    manifests: BTreeMap<String, Manifest>,
    destinations_hash: String,
    texts: Vec<(String, Source)>,
    warnings: Vec<Fault>,
}

/// A policy's file, compiled as far as it can be read, and what is wrong with it.
struct Compiled<'a> {
    id: &'a str,
    variants: Option<Variants>,
    faults: Faults<'a>,
}

/// One policy, as it is and as each environment changes it.
struct Variants {
    base: Policy,
    changed: BTreeMap<String, Policy>,
}

// === impl Rules ===

impl Rules {
    /// Loads a snapshot from the text of the destinations file, the policies (id from the file's name, text), the
    /// names of the credentials there are (none when they are not known), and the environment that the gate is in. The policies of all environments
    /// are checked, whichever it is.
    ///
    /// # Errors
    ///
    /// Everything found wrong, at least one error; at most 50 for one file.
    pub fn load(
        destinations: &Source,
        policies: &[(String, Source)],
        credentials: Option<&BTreeSet<String>>,
        environment: Option<&str>,
    ) -> Result<Self, Invalid> {
        let mut faults = Faults::new(destinations);
        let (file, misshapen) = yaml::survey::<DestinationsFile>(destinations);
        faults.extend(misshapen);
        let mut compiled = compile_policies(policies);
        check_environment(environment, &mut compiled);
        // Without destinations nothing can be said about what uses what.
        let entries = file.map(|file| {
            let entries = compile_destinations(file, credentials, &mut faults);
            check_use(&entries, &mut compiled, &mut faults);
            entries
        });
        let entries = entries.unwrap_or_default();
        let index = Index::build(&entries, &mut faults);
        check_templates(&entries, &index, &mut faults);
        let mut found = faults.into_vec();
        let mut policies_by_id = BTreeMap::new();
        for Compiled { id, variants, faults } in compiled {
            found.extend(faults.into_vec());
            policies_by_id.extend(variants.map(|variants| (id.to_owned(), variants.choose(environment))));
        }
        if found.iter().any(|fault| fault.severity == Severity::Error) {
            return Err(Invalid(found));
        }
        let sources = std::iter::once(destinations).chain(policies.iter().map(|(_, source)| source));
        Ok(Self {
            destinations: entries,
            index,
            policies: policies_by_id,
            manifests: BTreeMap::new(),
            destinations_hash: sha256_hex(destinations.text.as_bytes()),
            texts: sources.map(|source| (sha256_hex(source.text.as_bytes()), source.clone())).collect(),
            warnings: found,
        })
    }

    /// The same snapshot with the manifests of agents (name from the file's name, text).
    ///
    /// # Errors
    ///
    /// Everything found wrong, at least one error; at most 50 for one file.
    pub fn with_manifests(mut self, agents: &[(String, Source)]) -> Result<Self, Invalid> {
        let mut found = Vec::new();
        self.manifests = manifest::compile(agents, &self.destinations, &mut found);
        self.texts.extend(agents.iter().map(|(_, source)| (sha256_hex(source.text.as_bytes()), source.clone())));
        if found.is_empty() { Ok(self) } else { Err(Invalid(found)) }
    }

    /// What the operator says about an agent.
    pub fn manifest(&self, agent: &str) -> Option<&Manifest> {
        self.manifests.get(agent)
    }

    /// The most specific destination of a request line; known before the body is read.
    pub fn destination(&self, method: &str, authority: &Authority, path: &str) -> Option<&Destination> {
        self.index.find(&self.destinations, method, authority, path)
    }

    /// All destinations, in the order of the file.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.destinations.iter()
    }

    /// SHA-256 in hex, text and name of every file loaded, destinations first.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.texts.iter().map(|(hash, source)| (hash.as_str(), source.text.as_str(), source.name.as_str()))
    }

    /// The policies that are not enforced at `now`, and until when.
    pub fn not_enforced(&self, now: Timestamp) -> impl Iterator<Item = (&str, Timestamp)> {
        self.policies.values().filter_map(move |policy| Some((policy.id.as_str(), policy.tried_until(now)?)))
    }

    /// What someone should look at, although the files could be loaded.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// SHA-256 in hex over the bytes of the destinations file.
    pub fn destinations_hash(&self) -> &str {
        &self.destinations_hash
    }

    pub(crate) fn policy(&self, id: &str) -> Option<&Policy> {
        self.policies.get(id)
    }
}

// === impl Variants ===

impl Variants {
    fn compile(id: &str, file: &PolicyFile, source: &Source, faults: &mut Faults<'_>) -> Self {
        let base = Policy::compile(id, file.clone(), source, faults);
        let mut changed = BTreeMap::new();
        for (name, changes) in &file.environments {
            let at = [Step::Key("environments"), Step::Key(name)];
            if !is_key(name) {
                let remedy = "use lower-case letters, digits, `-` and `_`";
                faults.note(&at, Code::BadKey, "this is no name of an environment", remedy);
            }
            let fixed = [
                ("id", changes.id.is_some()),
                ("description", changes.description.is_some()),
                ("destinations", changes.destinations.is_some()),
                ("environments", !changes.environments.is_empty()),
            ];
            for (key, _) in fixed.iter().filter(|(_, given)| *given) {
                let message = format!("an environment cannot change `{key}`");
                faults.note(&below(&at, &[Step::Key(key)]), Code::FixedKey, message, "remove the key there");
            }
        }
        for (name, changes) in &file.environments {
            faults.enter(name);
            let mut policy = Policy::compile(id, file.changed_by(changes), source, faults);
            policy.environment = Some(name.clone());
            changed.insert(name.clone(), policy);
        }
        faults.leave();
        Self { base, changed }
    }

    fn check_use(&self, destinations: &[Destination], faults: &mut Faults<'_>) {
        let all = destinations.iter().flat_map(Destination::with_calls);
        let users = all.filter(|destination| destination.policy == self.base.id);
        let users: BTreeMap<&str, &Destination> = users.map(|user| (user.key.as_str(), user)).collect();
        policy::check_use(&self.base, &users, faults);
        for (name, policy) in &self.changed {
            faults.enter(name);
            policy::check_use(policy, &users, faults);
        }
        faults.leave();
    }

    fn choose(mut self, environment: Option<&str>) -> Policy {
        environment.and_then(|name| self.changed.remove(name)).unwrap_or(self.base)
    }
}

fn compile_destinations(
    file: DestinationsFile,
    credentials: Option<&BTreeSet<String>>,
    faults: &mut Faults<'_>,
) -> Vec<Destination> {
    let mut keys = BTreeSet::new();
    let mut destinations = Vec::new();
    for (at, entry) in file.destinations.into_iter().enumerate() {
        if !keys.insert(entry.key.clone()) {
            let path = [Step::Key("destinations"), Step::Item(at), Step::Key("key")];
            let message = format_args!("the key `{}` is already taken", entry.key);
            faults.note(&path, Code::DuplicateDestination, message, "give it another");
        }
        destinations.push(Destination::compile(entry, at, credentials, faults));
    }
    destinations
}

fn compile_policies(policies: &[(String, Source)]) -> Vec<Compiled<'_>> {
    let mut given = BTreeSet::new();
    let mut compiled = Vec::new();
    for (id, source) in policies {
        let mut faults = Faults::new(source);
        if !given.insert(id) {
            let message = format_args!("there is already a policy `{id}`");
            faults.note(&[], Code::DuplicatePolicy, message, "keep one of the two files");
        }
        let (file, misshapen) = yaml::survey::<PolicyFile>(source);
        faults.extend(misshapen);
        let variants = file.map(|file| Variants::compile(id, &file, source, &mut faults));
        compiled.push(Compiled { id, variants, faults });
    }
    compiled
}

/// Notes what does not fit between destinations, their calls and policies, each at its own place.
fn check_use(destinations: &[Destination], compiled: &mut [Compiled<'_>], faults: &mut Faults<'_>) {
    for (at, destination) in destinations.iter().enumerate() {
        for call in destination.with_calls() {
            // Of a call only its destination's place is known here; the message names it.
            let place = if call.key == destination.key { "policy" } else { "calls" };
            let path = [Step::Key("destinations"), Step::Item(at), Step::Key(place)];
            let id = &call.policy;
            let Some(policy) = compiled.iter().find(|policy| policy.id == id) else {
                let message = format_args!("there is no policy `{id}`");
                faults.note(&path, Code::UnknownPolicy, message, "add its file or correct the name");
                continue;
            };
            let list = policy.variants.as_ref().and_then(|variants| variants.base.destinations.as_ref());
            if list.is_some_and(|list| !list.contains(&call.key) && !list.contains(&destination.key)) {
                let message = format!("the policy `{id}` does not list `{}`", call.key);
                let remedy = "add the key to its `destinations` or choose another policy";
                faults.note(&path, Code::UnlistedDestination, message, remedy);
            }
        }
    }
    for Compiled { variants, faults, .. } in compiled {
        if let Some(variants) = variants {
            variants.check_use(destinations, faults);
        }
    }
}

/// Notes an environment that no policy knows, when there are some that know others: it is likely misspelled.
fn check_environment(environment: Option<&str>, compiled: &mut [Compiled<'_>]) {
    let Some(name) = environment else { return };
    let of = |policy: &Compiled<'_>, knows: fn(&Variants, &str) -> bool| {
        policy.variants.as_ref().is_some_and(|variants| knows(variants, name))
    };
    if compiled.iter().any(|policy| of(policy, |variants, name| variants.changed.contains_key(name))) {
        return;
    }
    let other = compiled.iter_mut().find(|policy| of(policy, |variants, _| !variants.changed.is_empty()));
    if let Some(Compiled { faults, .. }) = other {
        let message = format!("the gate is in the environment `{name}`, which no policy has");
        let remedy = "correct the gate's setting, or add the environment";
        faults.note(&[Step::Key("environments")], Code::UnknownEnvironment, message, remedy);
    }
}
