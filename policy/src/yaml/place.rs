//! Where a node of a document stands.
//!
//! Only errors of the parser carry positions, so a node is found by failing exactly at it. Nothing is ever read here.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Step;
use crate::document::Source;

/// Goes down a path and fails exactly at its end.
struct Find<'a> {
    path: &'a [Step<'a>],
    /// Whether the last key is meant rather than its value.
    key: bool,
}

/// Reads a key, and fails at the one that is looked for.
struct Key<'a> {
    fails_at: Option<&'a str>,
}

/// Accepts nothing, so it fails at any node.
pub(super) struct Here;

/// Line and column of the node at the end of `path`, or of the nearest node above it that is there.
pub(crate) fn locate(source: &Source, path: &[Step<'_>]) -> Option<(usize, usize)> {
    find(source, Find { path, key: false })
}

/// Line and column of the key at the end of `path`.
pub(super) fn locate_key(source: &Source, path: &[Step<'_>]) -> Option<(usize, usize)> {
    find(source, Find { path, key: true })
}

/// Line and column that an error of the parser carries.
pub(super) fn of(error: &serde_yaml::Error) -> Option<(usize, usize)> {
    error.location().map(|at| (at.line(), at.column()))
}

fn find(source: &Source, wanted: Find<'_>) -> Option<(usize, usize)> {
    of(&wanted.deserialize(serde_yaml::Deserializer::from_str(&source.text)).err()?)
}

// === impl Find ===

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() { deserializer.deserialize_any(Here) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Step::Item(index), path)) = self.path.split_first() else { return Err(A::Error::custom("no list")) };
        for _ in 0..*index {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Find { path, ..self })?;
        Err(A::Error::custom("no such item"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), path)) = self.path.split_first() else {
            return Err(A::Error::custom("no mapping"));
        };
        let fails = self.key && path.is_empty();
        while let Some(key) = mapping.next_key_seed(Key { fails_at: fails.then_some(*wanted) })? {
            if key == *wanted {
                return mapping.next_value_seed(Find { path, ..self });
            }
            mapping.next_value::<IgnoredAny>()?;
        }
        Err(A::Error::custom("no such key"))
    }
}

// === impl Key ===

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of text")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        if self.fails_at == Some(key) { Err(E::custom("here")) } else { Ok(key.to_owned()) }
    }
}

// === impl Here ===

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}
