//! The destinations file as it is written.
//!
//! What is read here is only shape; what it means is checked where it is compiled. No key may be silently ignored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::authority::Scheme;
use crate::destination::{Effect, Upgrade};
use crate::execute::ExecuteEntry;
use crate::idempotency::IdempotencyEntry;
use crate::profile::ProfileKind;

/// The text of a configuration file and the name errors give it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path shown in errors.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// `destinations.yaml`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DestinationsFile {
    pub(crate) destinations: Vec<DestinationEntry>,
}

#[derive(Debug, Deserialize, JsonSchema)]
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
    #[schemars(with = "Vec<String>")]
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) roots: Option<String>,
    pub(crate) max_body: Option<Octets>,
    pub(crate) wait_seconds: Option<u64>,
    pub(crate) upgrade: Option<Upgrade>,
    #[serde(default)]
    pub(crate) measure: BTreeMap<String, MeasureEntry>,
    pub(crate) profile: Option<ProfileEntry>,
    pub(crate) risk: Option<u32>,
    pub(crate) calls: Option<CallsEntry>,
    pub(crate) execute: Option<ExecuteEntry>,
    pub(crate) idempotency: Option<IdempotencyEntry>,
}

/// A profile, and where its fields stand.
#[derive(Debug, Deserialize)]
pub(crate) struct ProfileEntry(pub(crate) BTreeMap<ProfileKind, BTreeMap<String, MeasureEntry>>);

/// What calls in a request mean, by the protocol they are written in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallsEntry {
    pub(crate) graphql: Option<BTreeMap<String, CallEntry>>,
    pub(crate) jsonrpc: Option<BTreeMap<String, CallEntry>>,
    pub(crate) mcp: Option<BTreeMap<String, CallEntry>>,
}

/// What is its own of a call; everything else is as its destination has it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallEntry {
    pub(crate) effect: Effect,
    pub(crate) policy: Option<String>,
    pub(crate) measure: Option<BTreeMap<String, MeasureEntry>>,
    pub(crate) profile: Option<ProfileEntry>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MatchEntry {
    pub(crate) host: String,
    pub(crate) methods: Option<Vec<String>>,
    pub(crate) path: String,
}

/// Where a value is measured: one place, a list of them, or a place with the unit of the amount there.
#[derive(Debug)]
pub(crate) enum MeasureEntry {
    Amount(AmountEntry),
    Places(Vec<String>),
}

/// An amount, and how it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AmountEntry {
    pub(crate) from: String,
    /// Where its currency stands.
    pub(crate) currency: Option<String>,
    pub(crate) minor_units: MinorUnits,
}

/// How many digits are behind the point: always, or for each currency.
#[derive(Debug)]
pub(crate) enum MinorUnits {
    ByCurrency(BTreeMap<String, u8>),
    Fixed(u8),
}

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

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let one = schemas.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

// === impl ProfileEntry ===

impl JsonSchema for ProfileEntry {
    fn schema_name() -> Cow<'static, str> {
        "ProfileEntry".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let place = schemas.subschema_for::<MeasureEntry>();
        let fields = |kind: ProfileKind| {
            let fields: Map<String, Value> = kind.field_names().map(|name| (name.to_owned(), json!(place))).collect();
            json!({ "type": "object", "properties": fields, "additionalProperties": false })
        };
        let kinds: Map<String, Value> = ProfileKind::ALL.iter().map(|kind| (kind.to_string(), fields(*kind))).collect();
        json_schema!({
            "description": "one profile, and where its fields stand",
            "type": "object",
            "properties": kinds,
            "additionalProperties": false,
        })
    }
}

// === impl MeasureEntry ===

impl<'de> Deserialize<'de> for MeasureEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = MeasureEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a place such as `json:/total`, a list of places, or a mapping with `from` and `minor_units`",
                )
            }

            fn visit_str<E: serde::de::Error>(self, place: &str) -> Result<MeasureEntry, E> {
                Ok(MeasureEntry::Places(vec![place.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<MeasureEntry, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(MeasureEntry::Places)
            }

            fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<MeasureEntry, A::Error> {
                AmountEntry::deserialize(MapAccessDeserializer::new(mapping)).map(MeasureEntry::Amount)
            }
        }

        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for MeasureEntry {
    fn schema_name() -> Cow<'static, str> {
        "MeasureEntry".into()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let amount = schemas.subschema_for::<AmountEntry>();
        json_schema!({
            "description": "a place such as `json:/total`, a list of places, or a place with the unit of the amount there",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }, amount],
        })
    }
}

// === impl MinorUnits ===

impl<'de> Deserialize<'de> for MinorUnits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = MinorUnits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of digits, or a mapping of currencies to such")
            }

            fn visit_u64<E: serde::de::Error>(self, digits: u64) -> Result<MinorUnits, E> {
                Ok(MinorUnits::Fixed(u8::try_from(digits).unwrap_or(u8::MAX)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mapping: A) -> Result<MinorUnits, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(mapping)).map(MinorUnits::ByCurrency)
            }
        }

        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for MinorUnits {
    fn schema_name() -> Cow<'static, str> {
        "MinorUnits".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let digits = json_schema!({ "type": "integer", "minimum": 0 });
        json_schema!({
            "description": "how many digits are behind the point: always, or for each currency",
            "anyOf": [digits, { "type": "object", "additionalProperties": digits }],
        })
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

impl JsonSchema for Octets {
    fn schema_name() -> Cow<'static, str> {
        "Octets".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a number of octets, or a size such as `64 MiB`",
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^[0-9]+ (KiB|MiB|GiB)$",
        })
    }
}

fn read_size(text: &str) -> Option<Octets> {
    let (number, unit) = text.split_once(' ')?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor).map(Octets)
}

const UNITS: [(&str, u64); 3] = [("KiB", 1024), ("MiB", 1024 * 1024), ("GiB", 1024 * 1024 * 1024)];
