//! `writ schema`: JSON Schemas for editors and checks elsewhere.

use anyhow::{Context, Result};
use serde_json::json;

use super::{Exit, say};
use crate::schema;

/// Prints the schema of this name; the names without one.
pub(super) fn run(name: Option<&str>, as_json: bool) -> Result<Exit> {
    let Some(name) = name else {
        say(&if as_json { json!(schema::NAMES).to_string() } else { schema::NAMES.join("\n") });
        return Ok(Exit::Ok);
    };
    let found = schema::named(name);
    let found =
        found.with_context(|| format!("there is no schema `{name}`; there are {}", schema::NAMES.join(", ")))?;
    say(&serde_json::to_string_pretty(&found)?);
    Ok(Exit::Ok)
}
