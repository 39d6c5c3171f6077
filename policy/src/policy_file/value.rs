//! Values of a policy file that may be written in more than one way.
//!
//! Each says how it is read and, as a JSON Schema, how it may be written; the two stand side by side.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::FieldCheckEntry;
use crate::decimal::Decimal;

/// A single value that a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool(bool),
    Number(Decimal),
    Text(String),
}

/// Measured names and the values that need a reviewer; plain text is the value of `scope`.
#[derive(Clone, Debug)]
pub(crate) struct ApprovalFor(pub(crate) Vec<(String, Scalar)>);

/// Limits by measured name; a plain number limits `records`.
#[derive(Clone, Debug)]
pub(crate) struct Limits(pub(crate) BTreeMap<String, Decimal>);

/// What a field of the body must be: a mapping, or the value itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConditionMap {
    value: Option<Scalar>,
    one_of: Option<Vec<Scalar>>,
    pattern: Option<String>,
    min: Option<Decimal>,
    max: Option<Decimal>,
}

/// What a field of the body must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConditionEntry(ConditionMap);

// === impl Scalar ===

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(truth) => truth.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a number, true or false")
            }

            fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<Scalar, E> {
                Ok(Scalar::Bool(truth))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(Decimal::from(number)))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Scalar, E> {
                let text = number.to_string();
                // A float holds 15 decimal digits faithfully; more were perhaps rounded on the way here.
                let digits = text.bytes().filter(u8::is_ascii_digit).count();
                Decimal::parse_plain(&text)
                    .ok()
                    .filter(|_| digits <= 15)
                    .map(Scalar::Number)
                    .ok_or_else(|| E::custom("the number is negative or has too many digits; use `min` and `max`"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "text, a number, true or false", "type": ["boolean", "number", "string"] })
    }
}

// === impl ConditionEntry ===

impl ConditionEntry {
    /// The same as a field check, of a field that may be missing.
    pub(crate) fn into_check(self, path: String) -> FieldCheckEntry {
        let ConditionMap { value, one_of, pattern, min, max } = self.0;
        let one_of = one_of.or_else(|| value.map(|value| vec![value]));
        FieldCheckEntry { path, required: false, min, max, max_length: None, pattern, one_of }
    }
}

impl<'de> Deserialize<'de> for ConditionEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Read {
            fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ConditionEntry, D::Error> {
                let value = Some(Scalar::deserialize(deserializer)?);
                Ok(ConditionEntry(ConditionMap { value, one_of: None, pattern: None, min: None, max: None }))
            }
        }

        impl<'de> Visitor<'de> for Read {
            type Value = ConditionEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a mapping with `value`, `one_of`, `pattern`, `min` or `max`")
            }

            fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<ConditionEntry, E> {
                Self::value(truth.into_deserializer())
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ConditionEntry, E> {
                Self::value(number.into_deserializer())
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<ConditionEntry, E> {
                Self::value(number.into_deserializer())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ConditionEntry, E> {
                Self::value(text.into_deserializer())
            }

            fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<ConditionEntry, A::Error> {
                let map = ConditionMap::deserialize(MapAccessDeserializer::new(mapping))?;
                let once = Some(map).filter(|map| map.value.is_none() || map.one_of.is_none());
                let error = || A::Error::custom("`value` and `one_of` are both given; keep one of the two");
                once.map(ConditionEntry).ok_or_else(error)
            }
        }

        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for ConditionEntry {
    fn schema_name() -> Cow<'static, str> {
        "ConditionEntry".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let (value, mapping) = (schemas.subschema_for::<Scalar>(), schemas.subschema_for::<ConditionMap>());
        json_schema!({ "description": "the value itself, or what it must be", "anyOf": [value, mapping] })
    }
}

// === impl ApprovalFor ===

impl<'de> Deserialize<'de> for ApprovalFor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = ApprovalFor;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of measured names to values, a list of such, or a value of `scope`")
            }

            fn visit_str<E: serde::de::Error>(self, scope: &str) -> Result<ApprovalFor, E> {
                Ok(ApprovalFor(vec![("scope".to_owned(), Scalar::Text(scope.to_owned()))]))
            }

            fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<ApprovalFor, A::Error> {
                let values = BTreeMap::deserialize(MapAccessDeserializer::new(mapping))?;
                Ok(ApprovalFor(values.into_iter().collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ApprovalFor, A::Error> {
                let entries = Vec::<ApprovalFor>::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(ApprovalFor(entries.into_iter().flat_map(|entry| entry.0).collect()))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for ApprovalFor {
    fn schema_name() -> Cow<'static, str> {
        "ApprovalFor".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let mapping = json_schema!({
            "type": "object",
            "additionalProperties": schemas.subschema_for::<Scalar>(),
        });
        let entry = json_schema!({ "anyOf": [{ "type": "string" }, mapping] });
        json_schema!({
            "description": "measured names and the values that need a reviewer, or a value of `scope`",
            "anyOf": [{ "type": "string" }, mapping, { "type": "array", "items": entry }],
        })
    }
}

// === impl Limits ===

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Limits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a mapping of measured names to numbers")
            }

            fn visit_u64<E: serde::de::Error>(self, limit: u64) -> Result<Limits, E> {
                Ok(Limits(BTreeMap::from([("records".to_owned(), Decimal::from(limit))])))
            }

            fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<Limits, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(mapping)).map(Limits)
            }
        }

        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for Limits {
    fn schema_name() -> Cow<'static, str> {
        "Limits".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let mapping = json_schema!({
            "type": "object",
            "additionalProperties": schemas.subschema_for::<Decimal>(),
        });
        json_schema!({
            "description": "a number of records, or measured names and their limits",
            "anyOf": [{ "type": "integer", "minimum": 0 }, mapping],
        })
    }
}
