//! One immutable snapshot of destinations and policies.
//!
//! Loading finds everything that contradicts itself: afterwards nothing is checked again. A snapshot is never changed,
//! only replaced.

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::Authority;
use crate::destination::{Destination, Index, is_key};
use crate::document::{DestinationsFile, Faults, LoadError, Source};
use crate::facts::sha256_hex;
use crate::policy::{self, Policy};
use crate::policy_file::PolicyFile;
use crate::yaml::{self, Step};

/// One immutable snapshot of destinations and policies.
#[derive(Debug)]
pub struct Rules {
    destinations: Vec<Destination>,
    index: Index,
    policies: BTreeMap<String, Policy>,
    destinations_hash: String,
    texts: Vec<(String, Source)>,
}

/// One policy, as it is and as each environment changes it.
struct Variants {
    base: Policy,
    changed: BTreeMap<String, Policy>,
}

// === impl Rules ===

impl Rules {
    /// Loads a snapshot from the text of the destinations file, the policies (id from the file's name, text), the
    /// names of the credentials there are, and the environment that the gate is in. The policies of all environments
    /// are checked, whichever it is.
    ///
    /// # Errors
    ///
    /// Everything found wrong, at least one error; at most 50 for one file.
    pub fn load(
        destinations: &Source,
        policies: &[(String, Source)],
        credentials: &BTreeSet<String>,
        environment: Option<&str>,
    ) -> Result<Self, Vec<LoadError>> {
        let mut errors = Vec::new();
        let mut compiled = Vec::new();
        let mut given = BTreeSet::new();
        for (id, source) in policies {
            let mut faults = Faults::new(source);
            if !given.insert(id.as_str()) {
                faults.note(&[], format_args!("there is already a policy `{id}`"), "keep one of the two files");
            }
            match yaml::read::<PolicyFile>(source) {
                Ok(file) => compiled.push((Variants::compile(id, &file, source, &mut faults), faults)),
                Err(error) => errors.push(error),
            }
        }
        check_environment(environment, &mut compiled);
        let mut faults = Faults::new(destinations);
        let entries = match yaml::read::<DestinationsFile>(destinations) {
            Ok(file) => compile_destinations(file, credentials, &mut faults),
            Err(error) => {
                errors.insert(0, error);
                errors.extend(compiled.into_iter().flat_map(|(_, faults)| faults.into_errors()));
                return Err(errors);
            }
        };
        check_policies(&entries, &given, &compiled, &mut faults);
        for (variants, faults) in &mut compiled {
            variants.check_use(&entries, faults);
        }
        let index = Index::build(&entries, &mut faults);
        errors.extend(faults.into_errors());
        let mut policies_by_id = BTreeMap::new();
        for (variants, faults) in compiled {
            errors.extend(faults.into_errors());
            let policy = variants.choose(environment);
            policies_by_id.insert(policy.id.clone(), policy);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let sources = std::iter::once(destinations).chain(policies.iter().map(|(_, source)| source));
        Ok(Self {
            destinations: entries,
            index,
            policies: policies_by_id,
            destinations_hash: sha256_hex(destinations.text.as_bytes()),
            texts: sources.map(|source| (sha256_hex(source.text.as_bytes()), source.clone())).collect(),
        })
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
                faults.note(&at, "this is no name of an environment", "use lower-case letters, digits, `-` and `_`");
            }
            let fixed = [
                ("id", changes.id.is_some()),
                ("description", changes.description.is_some()),
                ("destinations", changes.destinations.is_some()),
                ("environments", !changes.environments.is_empty()),
            ];
            for (key, _) in fixed.iter().filter(|(_, given)| *given) {
                let message = format!("an environment cannot change `{key}`");
                faults.note_below(&at, &[Step::Key(key)], message, "remove the key there");
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
        let users = destinations.iter().filter(|destination| destination.policy == self.base.id);
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
    credentials: &BTreeSet<String>,
    faults: &mut Faults<'_>,
) -> Vec<Destination> {
    let mut keys = BTreeSet::new();
    let mut destinations = Vec::new();
    for (at, entry) in file.destinations.into_iter().enumerate() {
        if !keys.insert(entry.key.clone()) {
            let path = [Step::Key("destinations"), Step::Item(at), Step::Key("key")];
            faults.note(&path, format_args!("the key `{}` is already taken", entry.key), "give it another");
        }
        destinations.push(Destination::compile(entry, at, credentials, faults));
    }
    destinations
}

/// Notes destinations whose policy is not there or does not list them.
fn check_policies(
    destinations: &[Destination],
    given: &BTreeSet<&str>,
    compiled: &[(Variants, Faults<'_>)],
    faults: &mut Faults<'_>,
) {
    for (at, destination) in destinations.iter().enumerate() {
        let path = [Step::Key("destinations"), Step::Item(at), Step::Key("policy")];
        let id = &destination.policy;
        if !given.contains(id.as_str()) {
            faults.note(&path, format_args!("there is no policy `{id}`"), "add its file or correct the name");
        }
        let list = compiled
            .iter()
            .map(|(variants, _)| &variants.base)
            .find(|policy| policy.id == *id)
            .and_then(|policy| policy.destinations.as_ref());
        if list.is_some_and(|list| !list.contains(&destination.key)) {
            let message = format!("the policy `{id}` does not list `{}`", destination.key);
            faults.note(&path, message, "add the key to its `destinations` or choose another policy");
        }
    }
}

/// Notes an environment that no policy knows, when there are some that know others: it is likely misspelled.
fn check_environment(environment: Option<&str>, compiled: &mut [(Variants, Faults<'_>)]) {
    let Some(name) = environment else { return };
    if compiled.iter().any(|(variants, _)| variants.changed.contains_key(name)) {
        return;
    }
    if let Some((_, faults)) = compiled.iter_mut().find(|(variants, _)| !variants.changed.is_empty()) {
        let message = format!("the gate is in the environment `{name}`, which no policy has");
        faults.note(&[Step::Key("environments")], message, "correct the gate's setting, or add the environment");
    }
}
