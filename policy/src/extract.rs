//! Measuring: the one value that a destination's extractor names in a request.
//!
//! What has no single, unambiguous value is unmeasurable, and the caller must count it as over every limit. Nothing is
//! coerced: text in JSON is no number.

use std::fmt;

use crate::content::Content;
use crate::decimal::Decimal;
use crate::form;
use crate::json::{Json, Unreadable};
use crate::pattern::Flaw;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Extractor {
    /// `form:name`: a field of a urlencoded or multipart form.
    Form(String),
    /// `header:name`.
    Header(String),
    /// `json:/pointer/#`: the length of a list.
    JsonLength(Vec<String>),
    /// `json:/pointer`: a number or text.
    JsonValue(Vec<String>),
    /// `query:name`.
    Query(String),
}

/// A measured value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Number(Decimal),
    Text(String),
}

// === impl Extractor ===

impl Extractor {
    /// Reads an extractor as `destinations.yaml` writes it.
    pub(crate) fn parse(text: &str) -> Result<Self, Flaw> {
        let (kind, place) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "json" => match place.strip_suffix("/#") {
                Some(list) => parse_pointer(list).map(Self::JsonLength),
                None => parse_pointer(place).map(Self::JsonValue),
            },
            "form" | "header" | "query" if place.is_empty() => Err(UNKNOWN),
            "form" => Ok(Self::Form(place.to_owned())),
            "header" => Ok(Self::Header(place.to_ascii_lowercase())),
            "query" => Ok(Self::Query(place.to_owned())),
            _ => Err(UNKNOWN),
        }
    }

    /// The value in this request.
    pub(crate) fn measure(&self, content: &Content<'_>) -> Result<Reading, Unreadable> {
        match self {
            Self::Form(name) => form::only(&content.fields()?, name).and_then(from_text),
            Self::Header(name) => {
                let mut values = content.facts().header(name);
                match (values.next(), values.next()) {
                    (Some(value), None) => from_text(value.to_owned()),
                    (Some(_), Some(_)) => Err(Unreadable("the header is given more than once")),
                    (None, _) => Err(Unreadable("the header is missing")),
                }
            }
            Self::JsonLength(pointer) => match find(content, pointer)? {
                Json::List(items) => {
                    let length = u64::try_from(items.len()).map_err(|_| Unreadable("the list is too long"))?;
                    Ok(Reading::Number(Decimal::from(length)))
                }
                Json::Bool | Json::Map(_) | Json::Null | Json::Number(_) | Json::Text(_) => {
                    Err(Unreadable("the value is not a list"))
                }
            },
            Self::JsonValue(pointer) => match find(content, pointer)? {
                Json::Number(literal) => Decimal::parse(literal).map(Reading::Number),
                Json::Text(text) => showable(text.clone()).map(Reading::Text),
                Json::Bool | Json::List(_) | Json::Map(_) | Json::Null => {
                    Err(Unreadable("the value is neither a number nor text"))
                }
            },
            Self::Query(name) => form::only(&form::pairs(content.facts().query.as_deref().unwrap_or_default())?, name)
                .and_then(from_text),
        }
    }
}

// === impl Reading ===

impl Reading {
    /// The number, which must be a whole one where things are counted.
    pub(crate) fn number(&self, name: &str) -> Result<&Decimal, Unreadable> {
        match self {
            Self::Number(number) if name == COUNT && !number.is_whole() => Err(Unreadable("a count has no fraction")),
            Self::Number(number) => Ok(number),
            Self::Text(_) => Err(Unreadable("the value is text, not a number")),
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

fn find<'a>(content: &'a Content<'_>, pointer: &[String]) -> Result<&'a Json, Unreadable> {
    content.json()?.at(pointer).ok_or(Unreadable("the value is missing"))
}

/// Forms, queries and headers have text only, so digits are a number there.
fn from_text(text: String) -> Result<Reading, Unreadable> {
    match Decimal::parse_plain(&text) {
        Ok(number) => Ok(Reading::Number(number)),
        Err(_) => showable(text).map(Reading::Text),
    }
}

/// Measured text goes into reasons and records: a currency or a name, not a document.
fn showable(text: String) -> Result<String, Unreadable> {
    let plain = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if plain { Ok(text) } else { Err(Unreadable("the text is over 64 characters or not plain ASCII")) }
}

fn parse_pointer(text: &str) -> Result<Vec<String>, Flaw> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let tokens = text.strip_prefix('/').ok_or(POINTER)?.split('/');
    tokens
        .map(|token| {
            let sound = token.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
            if sound { Ok(token.replace("~1", "/").replace("~0", "~")) } else { Err(POINTER) }
        })
        .collect()
}

/// The measured name that counts things.
pub(crate) const COUNT: &str = "records";

const POINTER: Flaw = Flaw {
    message: "this is no JSON pointer (RFC 6901)",
    remedy: "write it like `json:/order/total`, or `json:/records/#` for the length of a list",
};
const UNKNOWN: Flaw = Flaw {
    message: "this is no way to measure a value",
    remedy: "write `json:/pointer`, `json:/pointer/#`, `form:name`, `query:name` or `header:name`",
};
