//! The destinations file as it is written, and the errors of loading any file.
//!
//! What is read here is only shape; what it means is checked where it is compiled. No key may be silently ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use ipnet::IpNet;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::authority::Scheme;
use crate::destination::Effect;
use crate::yaml::{self, Step};

/// The text of a configuration file and the name errors give it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path shown in errors.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// One thing wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct LoadError {
    /// The file's path.
    pub file: String,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The column, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything found wrong with one file.
#[derive(Debug)]
pub(crate) struct Faults<'a> {
    source: &'a Source,
    found: Vec<LoadError>,
    /// The environment whose policy is looked at, which has some keys of its own.
    environment: Option<String>,
}

/// `destinations.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DestinationsFile {
    pub(crate) destinations: Vec<DestinationEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DestinationEntry {
    pub(crate) key: String,
    #[serde(rename = "match")]
    pub(crate) matches: OneOrMany<MatchEntry>,
    pub(crate) effect: Effect,
    pub(crate) policy: String,
    pub(crate) credential: Option<String>,
    pub(crate) schemes: Option<Vec<Scheme>>,
    pub(crate) ports: Option<Vec<u16>>,
    #[serde(default)]
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) roots: Option<String>,
    pub(crate) max_body: Option<Octets>,
    pub(crate) wait_seconds: Option<u64>,
    #[serde(default)]
    pub(crate) measure: BTreeMap<String, MeasureEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MatchEntry {
    pub(crate) host: String,
    pub(crate) methods: Option<Vec<String>>,
    pub(crate) path: String,
}

/// Where a value is measured: one place, or a list of them.
#[derive(Debug)]
pub(crate) struct MeasureEntry(pub(crate) Vec<String>);

/// One mapping, or a list of mappings.
#[derive(Debug)]
pub(crate) struct OneOrMany<T> {
    pub(crate) items: Vec<T>,
    /// Whether the file has a list, which puts one more step on the way to an item.
    pub(crate) listed: bool,
}

/// A number of octets, plain or with a unit: `65536`, `64 KiB`, `64 MiB`, `1 GiB`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Octets(pub(crate) u64);

// === impl LoadError ===

impl LoadError {
    pub(crate) fn new(source: &Source, at: Option<(usize, usize)>, message: &str, remedy: &str) -> Self {
        let (line, column) = at.unzip();
        Self { file: source.name.clone(), line, column, message: message.to_owned(), remedy: remedy.to_owned() }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}; {}", self.message, self.remedy)
    }
}

// === impl Faults ===

impl<'a> Faults<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self { source, found: Vec::new(), environment: None }
    }

    /// From now on notes faults of the policy as an environment changes it.
    pub(crate) fn enter(&mut self, environment: &str) {
        self.environment = Some(environment.to_owned());
    }

    /// From now on notes faults of the policy as it is.
    pub(crate) fn leave(&mut self) {
        self.environment = None;
    }

    /// Notes a fault at the node that `path` leads to.
    pub(crate) fn note(&mut self, path: &[Step<'_>], message: impl fmt::Display, remedy: &str) {
        // Finding the line reads the file once more; nobody corrects more than this at a time.
        if self.found.len() >= MAX_FAULTS {
            return;
        }
        let error = LoadError::new(self.source, yaml::locate(self.source, path), &message.to_string(), remedy);
        match self.environment.as_deref() {
            None => self.found.push(error),
            Some(environment) => {
                if let Some(at) = self.locate_change(environment, path) {
                    self.found.push(LoadError::new(self.source, Some(at), &error.message, remedy));
                } else if !self.found.contains(&error) {
                    let message = format!("in the environment `{environment}`, {}", error.message);
                    self.found.push(LoadError { message, ..error });
                }
            }
        }
    }

    /// Where an environment has the node, if it has that key.
    fn locate_change(&self, environment: &str, path: &[Step<'_>]) -> Option<(usize, usize)> {
        let changes = [Step::Key("environments"), Step::Key(environment)];
        let locate = |path: &[Step<'_>]| {
            let path: Vec<Step<'_>> = changes.iter().chain(path).copied().collect();
            yaml::locate(self.source, &path)
        };
        // A key that is not there is located where the mapping stands that should have it.
        (locate(path.get(..1)?) != locate(&[])).then(|| locate(path)).flatten()
    }

    /// Notes a fault at the end of `path`, which begins at the node that `base` leads to.
    pub(crate) fn note_below(
        &mut self,
        base: &[Step<'_>],
        path: &[Step<'_>],
        message: impl fmt::Display,
        remedy: &str,
    ) {
        let path: Vec<Step<'_>> = base.iter().chain(path).copied().collect();
        self.note(&path, message, remedy);
    }

    pub(crate) fn into_errors(self) -> Vec<LoadError> {
        self.found
    }
}

// === impl OneOrMany ===

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping or a list of mappings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(mapping))
                    .map(|one| OneOrMany { items: vec![one], listed: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(|items| OneOrMany { items, listed: true })
            }
        }

        deserializer.deserialize_any(Read(PhantomData))
    }
}

// === impl MeasureEntry ===

impl<'de> Deserialize<'de> for MeasureEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = MeasureEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place such as `json:/total`, or a list of places")
            }

            fn visit_str<E: serde::de::Error>(self, place: &str) -> Result<MeasureEntry, E> {
                Ok(MeasureEntry(vec![place.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<MeasureEntry, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(MeasureEntry)
            }
        }

        deserializer.deserialize_any(Read)
    }
}

// === impl Octets ===

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Octets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of octets such as 65536 or \"64 MiB\"")
            }

            fn visit_u64<E: serde::de::Error>(self, octets: u64) -> Result<Octets, E> {
                Ok(Octets(octets))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Octets, E> {
                read_size(text)
                    .ok_or_else(|| E::custom("this is no size; write it like `64 MiB`, with KiB, MiB or GiB"))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

fn read_size(text: &str) -> Option<Octets> {
    let (number, unit) = text.split_once(' ')?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor).map(Octets)
}

const MAX_FAULTS: usize = 50;

const UNITS: [(&str, u64); 3] = [("KiB", 1024), ("MiB", 1024 * 1024), ("GiB", 1024 * 1024 * 1024)];
