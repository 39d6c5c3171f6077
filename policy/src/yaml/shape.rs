//! Every fault in the shape of a document: unknown keys, missing keys, values of another type.
//!
//! serde stops at the first fault. Here it is noted, the node it is about is left out, and the rest is read again. What
//! comes out is only ever looked at for more faults: it must never be put in force. No message repeats a value.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_yaml::Value;

use super::Step;
use crate::fault::Code;

/// A document whose keys are all text.
#[derive(Debug)]
enum Node {
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    Scalar(Value),
}

/// One fault, and where it is.
#[derive(Debug)]
pub(super) struct Wrong<'a> {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) remedy: String,
    /// The way to the node it is about; complete once the error has left the innermost reader.
    pub(super) path: Option<Vec<Step<'a>>>,
    /// The key that the node at `path` lacks, or that is likely meant there.
    key: Option<&'static str>,
}

/// Reads one node without what is left out.
struct Reader<'a, 'b> {
    node: &'a Node,
    path: Vec<Step<'a>>,
    left_out: &'b BTreeSet<Vec<Step<'a>>>,
}

/// Reads the items of a list, or the entries of a mapping, one after the other.
struct Items<'a, 'b, I> {
    items: I,
    value: Option<Reader<'a, 'b>>,
}

/// Calls `note` with every fault in the shape of a document that should be a `T`. Returns what is left when nothing but
/// unknown keys had to be left out.
pub(super) fn survey<T: DeserializeOwned>(document: Value, mut note: impl FnMut(Wrong<'_>)) -> Option<T> {
    let root = Node::from(document);
    let (mut left_out, mut meant) = (BTreeSet::new(), BTreeSet::new());
    let mut sound = true;
    for _ in 0..MAX_FAULTS {
        let reader = Reader { node: &root, path: Vec::new(), left_out: &left_out };
        let wrong = match T::deserialize(reader) {
            Ok(read) => return sound.then_some(read),
            Err(wrong) => wrong,
        };
        let path = wrong.path.clone().unwrap_or_default();
        let above = match path.split_last() {
            Some((_, above)) if wrong.code == Code::UnknownKey => above,
            Some(_) | None => &path,
        };
        let place = wrong.key.map(|key| super::below(above, &[Step::Key(key)]));
        sound &= wrong.code == Code::UnknownKey;
        // A key that is missing only because it was left out, or misspelled, was noted then.
        let follows = wrong.code == Code::MissingKey
            && place.as_ref().is_some_and(|place| left_out.contains(place) || meant.contains(place));
        meant.extend(place);
        if !follows {
            note(wrong);
        }
        if path.is_empty() || !left_out.insert(path) {
            return None;
        }
    }
    None
}

// === impl Node ===

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        match value {
            Value::Sequence(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Mapping(entries) => {
                Self::Map(entries.into_iter().map(|(key, value)| (text(&key), Self::from(value))).collect())
            }
            scalar @ (Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) | Value::Tagged(_)) => {
                Self::Scalar(scalar)
            }
        }
    }
}

// === impl Reader ===

impl<'a> Reader<'a, '_> {
    fn below(&self, step: Step<'a>, node: &'a Node) -> Option<Self> {
        let path = super::below(&self.path, &[step]);
        (!self.left_out.contains(&path)).then_some(Self { node, path, left_out: self.left_out })
    }

    /// Says of an error that has no place yet that it is about this node.
    fn place<T>(path: Vec<Step<'a>>, read: Result<T, Wrong<'a>>) -> Result<T, Wrong<'a>> {
        read.map_err(|wrong| Wrong { path: wrong.path.or(Some(path)), ..wrong })
    }
}

impl<'a> Deserializer<'a> for Reader<'a, '_> {
    type Error = Wrong<'a>;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong<'a>> {
        let path = self.path.clone();
        let read = match self.node {
            Node::List(list) => {
                let items = list.iter().enumerate().filter_map(|(at, node)| self.below(Step::Item(at), node));
                visitor.visit_seq(Items { items, value: None })
            }
            Node::Map(entries) => {
                let items = entries.iter().filter_map(|(key, node)| Some((key, self.below(Step::Key(key), node)?)));
                visitor.visit_map(Items { items, value: None })
            }
            Node::Scalar(Value::Bool(truth)) => visitor.visit_bool(*truth),
            Node::Scalar(Value::Number(number)) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Node::Scalar(Value::String(text)) => visitor.visit_str(text),
            Node::Scalar(Value::Mapping(_) | Value::Null | Value::Sequence(_) | Value::Tagged(_)) => {
                visitor.visit_unit()
            }
        };
        Self::place(path, read)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong<'a>> {
        visitor.visit_some(self)
    }

    /// Any plain scalar is text where text is wanted.
    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong<'a>> {
        match self.node {
            Node::Scalar(value) => Self::place(self.path, visitor.visit_string(text(value))),
            Node::List(_) | Node::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong<'a>> {
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong<'a>> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong<'a>> {
        match self.node {
            Node::Scalar(Value::String(text)) => {
                let variant: StrDeserializer<'_, Wrong<'a>> = text.as_str().into_deserializer();
                Self::place(self.path, visitor.visit_enum(variant))
            }
            Node::List(_) | Node::Map(_) | Node::Scalar(_) => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}

// === impl Items ===

impl<'a, 'b, I: Iterator<Item = Reader<'a, 'b>>> SeqAccess<'a> for Items<'a, 'b, I> {
    type Error = Wrong<'a>;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong<'a>> {
        self.items.next().map(|item| seed.deserialize(item)).transpose()
    }
}

impl<'a, 'b, I: Iterator<Item = (&'a String, Reader<'a, 'b>)>> MapAccess<'a> for Items<'a, 'b, I> {
    type Error = Wrong<'a>;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong<'a>> {
        let Some((key, value)) = self.items.next() else { return Ok(None) };
        let path = value.path.clone();
        self.value = Some(value);
        let key: StrDeserializer<'_, Wrong<'a>> = key.as_str().into_deserializer();
        Reader::place(path, seed.deserialize(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Wrong<'a>> {
        let value = self.value.take().ok_or_else(|| serde::de::Error::custom("a value was read before its key"))?;
        seed.deserialize(value)
    }
}

// === impl Wrong ===

impl Wrong<'_> {
    fn new(code: Code, message: String, remedy: &str) -> Self {
        Self { code, message, remedy: remedy.to_owned(), path: None, key: None }
    }
}

impl fmt::Display for Wrong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong<'_> {}

impl serde::de::Error for Wrong<'_> {
    /// What a type of ours says; after a `; ` it says the remedy.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        let (message, remedy) = message.split_once("; ").unwrap_or((&message, "correct it"));
        Self::new(Code::BadValue, message.to_owned(), remedy)
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn serde::de::Expected) -> Self {
        Self::new(Code::WrongType, format!("wrong type: {}", kind(&found)), &expected(wanted))
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn serde::de::Expected) -> Self {
        Self::new(Code::OutOfRange, format!("the {} is out of range", kind(&found)), &expected(wanted))
    }

    fn invalid_length(_: usize, wanted: &dyn serde::de::Expected) -> Self {
        Self::new(Code::BadValue, "too many or too few items".to_owned(), &expected(wanted))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(Code::BadValue, "the value is none of those there are".to_owned(), &choice(known))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let near = known.iter().max_by(|one, other| likeness(key, one).total_cmp(&likeness(key, other)));
        let near = near.filter(|name| likeness(key, name) > LIKE);
        let remedy = near.map_or_else(|| choice(known), |name| format!("did you mean `{name}`?"));
        let wrong = Self::new(Code::UnknownKey, format!("unknown key `{key}`"), &remedy);
        Self { key: near.copied(), ..wrong }
    }

    fn missing_field(key: &'static str) -> Self {
        let wrong = Self::new(Code::MissingKey, format!("missing key `{key}`"), &format!("add `{key}`"));
        Self { key: Some(key), ..wrong }
    }
}

/// A scalar or key as text.
fn text(scalar: &Value) -> String {
    match scalar {
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Mapping(_) | Value::Null | Value::Sequence(_) | Value::Tagged(_) => String::new(),
    }
}

/// What was found, without its value: serde shows one in quotes or backticks.
fn kind(found: &Unexpected<'_>) -> String {
    found.to_string().split(['"', '`']).next().unwrap_or_default().trim_end().to_owned()
}

/// What is wanted, in the words of these files instead of those of the program.
fn expected(wanted: &dyn serde::de::Expected) -> String {
    let wanted = wanted.to_string();
    let words = match wanted.as_str() {
        "a boolean" => "true or false",
        "a map" => "a mapping",
        "a sequence" => "a list",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, neither negative nor too great",
        program if program.starts_with("struct ") => "a mapping",
        other => other,
    };
    format!("write {words}")
}

fn choice(known: &[&str]) -> String {
    if known.is_empty() { "remove it".to_owned() } else { format!("choose from {}", known.join(", ")) }
}

fn likeness(one: &str, other: &str) -> f64 {
    strsim::jaro_winkler(one, other)
}

/// Above this, two keys are likely meant to be the same.
const LIKE: f64 = 0.8;

const MAX_FAULTS: usize = 50;
