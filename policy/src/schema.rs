//! JSON Schemas (draft 2020-12) of the files that are read with [`yaml`](crate::yaml).
//!
//! A schema comes from the types that the file is read into, so the two cannot drift apart. It says how a file may be
//! written; what only loading finds, such as a name that there is not, no schema can say.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::document::DestinationsFile;
use crate::manifest::ManifestFile;
use crate::policy_file::PolicyFile;

/// The schema of `destinations.yaml`.
pub fn destinations() -> Value {
    of::<DestinationsFile>("destinations.yaml")
}

/// The schema of `policies/ID.yaml`.
pub fn policy() -> Value {
    of::<PolicyFile>("policies/ID.yaml")
}

/// The schema of `agents/NAME.yaml`.
pub fn manifest() -> Value {
    of::<ManifestFile>("agents/NAME.yaml")
}

/// The schema of a file that is read into a `T`, under its name as title.
pub fn of<T: JsonSchema>(title: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_null));
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema.to_value()
}

/// A key that may be left out is not one that may be empty: a key without a value is refused.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(kinds)) = object.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        // What is said of the key is said of it, not of its type.
        only.into_iter().for_each(|(key, value)| {
            object.entry(key).or_insert(value);
        });
    }
}
