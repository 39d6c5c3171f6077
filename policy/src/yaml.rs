//! The strict reading of YAML files.
//!
//! YAML has many spellings that read as one thing and mean another. This file refuses them before any type sees the
//! document: equal keys, merge keys, keys without a value, tags, several documents, not-a-number, byte order marks,
//! alias bombs. Its errors name keys and positions and must never repeat a value, which may be a secret.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::document::{LoadError, Source};

/// One step from a node of the document to a node inside it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// The item of a list, from 0.
    Item(usize),
    /// The value of a key.
    Key(&'a str),
}

/// Walks a whole document and fails at the first construct that is refused.
#[derive(Clone, Copy)]
struct Walk<'a> {
    nodes: &'a Cell<usize>,
}

/// Reads a key, and fails where it stands when its mapping already has it.
struct Key<'a> {
    seen: &'a mut BTreeSet<String>,
}

/// Goes down a path and fails exactly at its end: only errors of the parser carry positions.
struct Find<'a> {
    path: &'a [Step<'a>],
}

/// Accepts nothing, so it fails at any node.
struct Here;

/// Reads one YAML document into `T`; unknown keys are up to `T` (`deny_unknown_fields`).
///
/// # Errors
///
/// The first thing wrong with the document, with its line and column. What an error raised by `T` says after a `; ` is
/// taken for the remedy.
pub fn read<T: DeserializeOwned>(source: &Source) -> Result<T, LoadError> {
    let start = |message: &str, remedy: &str| LoadError::new(source, Some((1, 1)), message, remedy);
    if source.text.len() > MAX_BYTES {
        return Err(start("the file is longer than 1 MiB", "split it or remove what is not configuration"));
    }
    if source.text.starts_with('\u{feff}') {
        return Err(start("the file begins with a byte order mark", "save it as UTF-8 without one"));
    }
    if opens_deeply(&source.text) {
        return Err(start("brackets are nested too deeply", "close the brackets that are open"));
    }
    let mut documents = serde_yaml::Deserializer::from_str(&source.text);
    if let Some(first) = documents.next() {
        Walk { nodes: &Cell::new(0) }.deserialize(first).map_err(|error| explain(source, &error))?;
    }
    if let Some(second) = documents.next() {
        let at = second.deserialize_any(Here).err().and_then(|error| position(&error));
        return Err(LoadError::new(source, at, "a second document begins here", "keep one document in the file"));
    }
    serde_yaml::from_str(&source.text).map_err(|error| explain(source, &error))
}

/// Line and column of the node at the end of `path`, or of the nearest node above it that is there.
pub(crate) fn locate(source: &Source, path: &[Step<'_>]) -> Option<(usize, usize)> {
    let error = Find { path }.deserialize(serde_yaml::Deserializer::from_str(&source.text)).err()?;
    position(&error)
}

// === impl Walk ===

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, a list, text, a number or a boolean")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.count()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.count()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.count()
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        if number.is_finite() {
            self.count()
        } else {
            Err(E::custom("a number is infinite or not a number; write a finite one, or quote the text"))
        }
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.count()
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        Err(E::custom("the file is empty; write the configuration or remove the file"))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        // An emptied key would read as a rule that is not there.
        Err(E::custom("a key or item has no value; give it one or remove it"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.count()?;
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<(), A::Error> {
        self.count()?;
        let mut seen = BTreeSet::new();
        while mapping.next_key_seed(Key { seen: &mut seen })?.is_some() {
            mapping.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom("a value has a tag; write it without"))
    }
}

impl Walk<'_> {
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        self.nodes.set(self.nodes.get().saturating_add(1));
        if self.nodes.get() > MAX_NODES {
            return Err(E::custom(
                "the document has too many nodes once its aliases are expanded; write fewer aliases",
            ));
        }
        Ok(())
    }
}

// === impl Key ===

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of text")
    }

    fn visit_bool<E: serde::de::Error>(self, key: bool) -> Result<(), E> {
        self.visit_str(if key { "true" } else { "false" })
    }

    fn visit_i64<E: serde::de::Error>(self, key: i64) -> Result<(), E> {
        self.visit_str(&key.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, key: u64) -> Result<(), E> {
        self.visit_str(&key.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        if key == "<<" {
            return Err(E::custom("a mapping has a merge key `<<`; write the keys out"));
        }
        if self.seen.insert(key.to_owned()) {
            return Ok(());
        }
        Err(E::custom(format_args!("the key `{key}` is already in this mapping; keep one of the two")))
    }
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
        let (Some(Step::Item(index)), rest) = self.next() else { return Err(A::Error::custom("no list")) };
        for _ in 0..index {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Find { path: rest })?;
        Err(A::Error::custom("no such item"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<(), A::Error> {
        let (Some(Step::Key(wanted)), rest) = self.next() else { return Err(A::Error::custom("no mapping")) };
        while let Some(key) = mapping.next_key::<String>()? {
            if key == wanted {
                return mapping.next_value_seed(Find { path: rest });
            }
            mapping.next_value::<IgnoredAny>()?;
        }
        Err(A::Error::custom("no such key"))
    }
}

impl<'a> Find<'a> {
    fn next(&self) -> (Option<Step<'a>>, &'a [Step<'a>]) {
        self.path.split_first().map_or((None, self.path), |(step, rest)| (Some(*step), rest))
    }
}

// === impl Here ===

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

/// Whether more brackets are open at once than any configuration needs; the parser's time grows with their square.
fn opens_deeply(text: &str) -> bool {
    let mut open = 0usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => open = open.saturating_add(1),
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > MAX_OPEN
    })
}

fn explain(source: &Source, error: &serde_yaml::Error) -> LoadError {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let text = without_value(text).replace("unknown field", "unknown key").replace("missing field", "missing key");
    // The parser names a second place, which only where nothing is repeated can be told from a value.
    let text = text.split_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let (message, remedy) = text.split_once("; ").unwrap_or((text, "correct it; the documentation shows the shape"));
    LoadError::new(source, position(error), message, remedy)
}

fn position(error: &serde_yaml::Error) -> Option<(usize, usize)> {
    error.location().map(|at| (at.line(), at.column()))
}

/// Takes the value out of the messages in which serde repeats one: ``invalid type: string "s3cret", expected u16``.
fn without_value(text: &str) -> String {
    for opening in ["invalid type: ", "invalid value: ", "unknown variant "] {
        let parts = text.split_once(opening).zip(text.rsplit_once(", expected "));
        let Some(((before, found), (_, expected))) = parts else { continue };
        let kind = found.split(['"', '`', ',']).next().unwrap_or_default().trim_end();
        let said = format!("{}{kind}", opening);
        return format!("{before}{}, expected {expected}", said.trim_end());
    }
    text.to_owned()
}

const MAX_BYTES: usize = 1024 * 1024;

/// Far above a thousand destinations, far below what an alias bomb reaches.
const MAX_NODES: usize = 200_000;

/// Brackets inside quotes are counted too, hence far above the parser's own limit of 128 levels.
const MAX_OPEN: usize = 1_000;

#[cfg(test)]
mod tests;
