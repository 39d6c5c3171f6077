//! The constructs of YAML that are refused: equal keys, merge keys, keys without a value, tags, several documents, numbers
//! that are none, alias bombs.
//!
//! A walk fails at the first, because only an error has a position; the next walk passes over it and fails at the second.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::{MAX_FAULTS, explain, place};
use crate::document::Source;
use crate::fault::{Code, Fault};

/// Walks a whole document and fails at the first construct that is refused, after so many that are passed over.
#[derive(Clone, Copy)]
struct Walk<'a> {
    nodes: &'a Cell<usize>,
    pass: &'a Cell<usize>,
    /// What the walk failed at; the parser itself when none.
    refused: &'a Cell<Option<Code>>,
}

/// Reads a key, which its mapping must not have already.
struct Key<'a, 'b> {
    walk: Walk<'a>,
    seen: &'b mut BTreeSet<String>,
}

/// Every construct that is refused.
pub(super) fn refused(source: &Source) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    for pass in 0..MAX_FAULTS {
        match walk(source, pass) {
            // What cannot be passed over ends the search.
            Some(fault) if faults.last() != Some(&fault) => faults.push(fault),
            Some(_) | None => break,
        }
    }
    if faults.is_empty() {
        faults.extend(second_document(source));
    }
    faults
}

fn walk(source: &Source, pass: usize) -> Option<Fault> {
    // The parser applies the tags of YAML itself without a word; as local ones they come out as what they are.
    let text = source.text.replace("!!", "!x");
    let first = serde_yaml::Deserializer::from_str(&text).next()?;
    let (nodes, pass, refused) = (Cell::new(0), Cell::new(pass), Cell::new(None));
    let error = Walk { nodes: &nodes, pass: &pass, refused: &refused }.deserialize(first).err()?;
    Some(explain(source, &error, refused.get().unwrap_or_else(|| limit(&error))))
}

/// The parser has limits of its own on nesting and on what aliases expand to.
fn limit(error: &serde_yaml::Error) -> Code {
    match error.to_string() {
        text if text.starts_with("recursion limit") => Code::TooDeep,
        text if text.starts_with("repetition limit") => Code::TooManyNodes,
        _ => Code::Syntax,
    }
}

fn second_document(source: &Source) -> Option<Fault> {
    let second = serde_yaml::Deserializer::from_str(&source.text).nth(1)?;
    let at = second.deserialize_any(place::Here).err().and_then(|error| place::of(&error));
    let (message, remedy) = ("a second document begins here", "keep one document in the file");
    Some(Fault::new(source, at, Code::SecondDocument, message, remedy))
}

// === impl Walk ===

impl Walk<'_> {
    /// Fails, or passes over it.
    fn refuse<E: serde::de::Error>(self, code: Code, message: impl fmt::Display) -> Result<(), E> {
        match self.pass.get().checked_sub(1) {
            Some(left) => {
                self.pass.set(left);
                Ok(())
            }
            None => self.fail(code, message),
        }
    }

    fn fail<E: serde::de::Error>(self, code: Code, message: impl fmt::Display) -> Result<(), E> {
        self.refused.set(Some(code));
        Err(E::custom(message))
    }

    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        self.nodes.set(self.nodes.get().saturating_add(1));
        if self.nodes.get() > MAX_NODES {
            let message = "the document has too many nodes once its aliases are expanded; write fewer aliases";
            return self.fail(Code::TooManyNodes, message);
        }
        Ok(())
    }
}

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
            return self.count();
        }
        self.refuse(Code::NotFinite, "a number is infinite or not a number; write a finite one, or quote the text")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.count()
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.fail(Code::EmptyFile, "the file is empty; write the configuration or remove the file")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if self.nodes.get() == 0 {
            return self.visit_none();
        }
        // An emptied key would read as a rule that is not there.
        self.refuse(Code::NoValue, "a key or item has no value; give it one or remove it")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.count()?;
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<(), A::Error> {
        self.count()?;
        let mut seen = BTreeSet::new();
        while mapping.next_key_seed(Key { walk: self, seen: &mut seen })?.is_some() {
            mapping.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        self.refuse(Code::Tag, "a value has a tag; write it without")?;
        let (IgnoredAny, value) = tagged.variant()?;
        value.newtype_variant_seed(self)
    }
}

// === impl Key ===

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
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
            return self.walk.refuse(Code::MergeKey, "a mapping has a merge key `<<`; write the keys out");
        }
        if self.seen.insert(key.to_owned()) {
            return Ok(());
        }
        let message = format_args!("the key `{key}` is already in this mapping; keep one of the two");
        self.walk.refuse(Code::DuplicateKey, message)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.walk.fail(Code::WrongType, "a key is a list; write a key of text")
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.walk.fail(Code::WrongType, "a key is a mapping; write a key of text")
    }
}

/// Far above a thousand destinations, far below what an alias bomb reaches.
const MAX_NODES: usize = 200_000;
