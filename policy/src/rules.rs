//! One immutable snapshot of destinations and policies.
//!
//! Loading finds everything that contradicts itself: afterwards nothing is checked again. A snapshot is never changed,
//! only replaced.

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::Authority;
use crate::destination::{Destination, Index};
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

// === impl Rules ===

impl Rules {
    /// Loads a snapshot from the text of the destinations file, the policies (id from the file's name, text) and the
    /// names of the credentials there are.
    ///
    /// # Errors
    ///
    /// Everything found wrong, at least one error; at most 50 for one file.
    pub fn load(
        destinations: &Source,
        policies: &[(String, Source)],
        credentials: &BTreeSet<String>,
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
                Ok(file) => compiled.push((Policy::compile(id, file, source, &mut faults), faults)),
                Err(error) => errors.push(error),
            }
        }
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
        for (policy, faults) in &mut compiled {
            check_use(policy, &entries, faults);
        }
        let index = Index::build(&entries, &mut faults);
        errors.extend(faults.into_errors());
        let mut policies_by_id = BTreeMap::new();
        for (policy, faults) in compiled {
            errors.extend(faults.into_errors());
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
    compiled: &[(Policy, Faults<'_>)],
    faults: &mut Faults<'_>,
) {
    for (at, destination) in destinations.iter().enumerate() {
        let path = [Step::Key("destinations"), Step::Item(at), Step::Key("policy")];
        let id = &destination.policy;
        if !given.contains(id.as_str()) {
            faults.note(&path, format_args!("there is no policy `{id}`"), "add its file or correct the name");
        }
        let list =
            compiled.iter().find(|(policy, _)| policy.id == *id).and_then(|(policy, _)| policy.destinations.as_ref());
        if list.is_some_and(|list| !list.contains(&destination.key)) {
            let message = format!("the policy `{id}` does not list `{}`", destination.key);
            faults.note(&path, message, "add the key to its `destinations` or choose another policy");
        }
    }
}

fn check_use(policy: &Policy, destinations: &[Destination], faults: &mut Faults<'_>) {
    let users = destinations.iter().filter(|destination| destination.policy == policy.id);
    let users: BTreeMap<&str, &Destination> = users.map(|user| (user.key.as_str(), user)).collect();
    policy::check_use(policy, &users, faults);
}
