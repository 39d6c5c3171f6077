//! Measuring: the one value that a destination's extractor names in a request.
//!
//! What has no single, unambiguous value is unmeasurable, and the caller must count it as over every limit. Nothing is
//! coerced: text in JSON is no number.

use std::fmt;

use crate::content::Content;
use crate::decimal::Decimal;
use crate::fault::{Code, Flaw};
use crate::field::{FieldPath, Fields, Found, Value};
use crate::form;
use crate::json::{Json, Unreadable};
use crate::spelling::Spelling;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Extractor {
    /// `body:size`: the bytes of the body as it is sent.
    BodySize,
    /// `form:name`: a field of a urlencoded or multipart form.
    Form(String),
    /// `header:name`.
    Header(String),
    /// `json:/pointer/#`: the length of a list.
    JsonLength(Vec<String>),
    /// `json:/list/*/name`: every value, where `*` stands for each element. The pointer leads to the first `*`.
    JsonEach(Vec<String>, FieldPath),
    /// `json:/pointer`: a number, text, true or false.
    JsonValue(Vec<String>),
    /// `query:name`.
    Query(String),
}

/// How one name is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    /// With several, the values of all of them that are there.
    extractors: Vec<Extractor>,
}

/// A measured value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Number(Decimal),
    Text(String),
    /// Any number of values, which are never shown.
    Texts(Vec<String>),
}

// === impl Measure ===

impl Measure {
    pub(crate) fn new(extractors: Vec<Extractor>) -> Self {
        Self { extractors }
    }

    /// The value of the name in this request.
    pub(crate) fn read(&self, name: &str, content: &Content<'_>) -> Result<Reading, Unreadable> {
        if let ([extractor], false) = (self.extractors.as_slice(), name == RECIPIENTS) {
            return extractor.measure(content, &self.extractors).and_then(showable);
        }
        let mut all = Vec::new();
        for extractor in &self.extractors {
            match extractor.measure(content, &self.extractors) {
                Ok(Reading::Texts(texts)) => all.extend(texts),
                Ok(Reading::Text(text)) => all.push(text),
                Ok(Reading::Number(number)) => all.push(number.to_string()),
                Err(MISSING) => {}
                Err(why) => return Err(why),
            }
        }
        if all.is_empty() { Err(MISSING) } else { Ok(Reading::Texts(all)) }
    }
}

// === impl Extractor ===

impl Extractor {
    /// Reads an extractor as `destinations.yaml` writes it.
    pub(crate) fn parse(text: &str) -> Result<Self, Flaw> {
        let (kind, place) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "json" => match place.strip_suffix("/#") {
                Some(list) => parse_pointer(list).map(Self::JsonLength),
                None => match (place.split_once("/*"), FieldPath::parse(place)) {
                    (Some((list, rest)), Ok(path)) if rest.is_empty() || rest.starts_with('/') => {
                        parse_pointer(list).map(|list| Self::JsonEach(list, path))
                    }
                    (Some(_), _) => Err(POINTER),
                    (None, _) => parse_pointer(place).map(Self::JsonValue),
                },
            },
            "body" if place == "size" => Ok(Self::BodySize),
            "form" | "header" | "query" if place.is_empty() => Err(UNKNOWN),
            "form" => Ok(Self::Form(place.to_owned())),
            "header" => Ok(Self::Header(place.to_ascii_lowercase())),
            "query" => Ok(Self::Query(place.to_owned())),
            _ => Err(UNKNOWN),
        }
    }

    /// The value in this request, unless it has another that may be read as it; what `siblings` measure is none.
    fn measure(&self, content: &Content<'_>, siblings: &[Self]) -> Result<Reading, Unreadable> {
        let query = content.facts().query.as_deref();
        let spelling = Spelling::of_path(self.names());
        let in_query = names(siblings.iter().filter(|sibling| matches!(sibling, Self::Query(_))));
        let in_body = names(siblings.iter().filter(|sibling| !matches!(sibling, Self::Header(_) | Self::Query(_))));
        // A server may merge the query with the body.
        match self {
            Self::Form(_) | Self::JsonEach(..) | Self::JsonLength(_) | Self::JsonValue(_) => {
                spelling.refuse_in_query(query, &in_query)?;
            }
            Self::BodySize | Self::Header(_) => {}
            Self::Query(_) => content.refuse_in_body(&spelling, &in_body)?,
        }
        match self {
            Self::BodySize => {
                let size = u64::try_from(content.facts().body.len()).unwrap_or(u64::MAX);
                Ok(Reading::Number(Decimal::from(size)))
            }
            Self::Form(name) => form::only(&content.fields()?, name, &in_body).and_then(from_text),
            Self::Header(name) => {
                let mut values = content.facts().header(name);
                match (values.next(), values.next()) {
                    (Some(value), None) => from_text(value.to_owned()),
                    (Some(_), Some(_)) => Err(Unreadable("the header is given more than once")),
                    (None, _) => Err(MISSING),
                }
            }
            Self::JsonLength(pointer) => match find(content, pointer)? {
                Json::List(items) => {
                    let length = u64::try_from(items.len()).map_err(|_| Unreadable("the list is too long"))?;
                    Ok(Reading::Number(Decimal::from(length)))
                }
                Json::Bool(_) | Json::Map(_) | Json::Null | Json::Number(_) | Json::Text(_) => {
                    Err(Unreadable("the value is not a list"))
                }
            },
            Self::JsonEach(list, path) => match find(content, list)? {
                Json::List(items) if items.is_empty() => Err(MISSING),
                Json::Null => Err(MISSING),
                Json::Bool(_) | Json::List(_) | Json::Map(_) | Json::Number(_) | Json::Text(_) => {
                    read_each(path, content.json()?)
                }
            },
            Self::JsonValue(pointer) => match find(content, pointer)? {
                Json::Number(literal) => Decimal::parse(literal).map(Reading::Number),
                Json::Text(text) => Ok(Reading::Text(text.clone())),
                Json::Bool(truth) => Ok(Reading::Text(truth.to_string())),
                Json::Null => Err(MISSING),
                Json::List(_) | Json::Map(_) => Err(Unreadable("the value is a list or an object")),
            },
            Self::Query(name) => {
                form::only(&form::fields(query.unwrap_or_default())?, name, &in_query).and_then(from_text)
            }
        }
    }

    /// The names that lead to the value.
    fn names(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::BodySize => &[],
            Self::Form(name) | Self::Header(name) | Self::Query(name) => std::slice::from_ref(name),
            Self::JsonEach(pointer, _) | Self::JsonLength(pointer) | Self::JsonValue(pointer) => pointer,
        };
        names.iter().map(String::as_str)
    }
}

// === impl Reading ===

impl Reading {
    /// The number, which must be a whole one where things are counted.
    pub(crate) fn number(&self, name: &str) -> Result<&Decimal, Unreadable> {
        match self {
            Self::Number(number) if name == COUNT && !number.is_whole() => Err(Unreadable("a count has no fraction")),
            Self::Number(number) => Ok(number),
            Self::Text(_) | Self::Texts(_) => Err(Unreadable("the value is text, not a number")),
        }
    }

    /// All values, where there may be several.
    pub(crate) fn texts(&self) -> &[String] {
        match self {
            Self::Number(_) => &[],
            Self::Text(text) => std::slice::from_ref(text),
            Self::Texts(texts) => texts,
        }
    }

    /// Whether this, or one of several, is the value written as `text`.
    pub(crate) fn is(&self, text: &str) -> bool {
        match self {
            Self::Number(number) => Decimal::parse(text).as_ref() == Ok(number),
            Self::Text(_) | Self::Texts(_) => self.texts().iter().any(|one| one.trim().eq_ignore_ascii_case(text)),
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::Texts(texts) => write!(f, "{} values", texts.len()),
        }
    }
}

/// The first name of each extractor.
fn names<'a>(extractors: impl Iterator<Item = &'a Extractor>) -> Vec<&'a str> {
    extractors.filter_map(|extractor| extractor.names().next()).collect()
}

fn find<'a>(content: &'a Content<'_>, pointer: &[String]) -> Result<&'a Json, Unreadable> {
    pointer.iter().try_fold(content.json()?, |value, token| {
        if value.has_rival(token) {
            return Err(Unreadable("another key may be read as the one that counts"));
        }
        value.at(std::slice::from_ref(token)).ok_or(MISSING)
    })
}

fn read_each(path: &FieldPath, json: &Json) -> Result<Reading, Unreadable> {
    let fields = Fields::Json(json);
    let texts = path.find(&fields).into_iter().map(|found| match found {
        Found::Value(Value::Json(Json::Text(text) | Json::Number(text))) => Ok(text.clone()),
        Found::Value(_) | Found::Missing | Found::Odd => {
            Err(Unreadable("one of the values is missing or of another kind"))
        }
    });
    texts.collect::<Result<_, _>>().map(Reading::Texts)
}

/// Forms, queries and headers have text only, so digits are a number there.
fn from_text(text: String) -> Result<Reading, Unreadable> {
    match Decimal::parse_plain(&text) {
        Ok(number) => Ok(Reading::Number(number)),
        Err(_) => Ok(Reading::Text(text)),
    }
}

/// Measured text goes into reasons and records: a currency or a name, not a document.
fn showable(reading: Reading) -> Result<Reading, Unreadable> {
    match &reading {
        Reading::Text(text) if text.len() > 64 || !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => {
            Err(Unreadable("the text is over 64 characters or not plain ASCII"))
        }
        Reading::Number(_) | Reading::Text(_) | Reading::Texts(_) => Ok(reading),
    }
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

/// The measured name of those a message goes to; its values are never shown.
pub(crate) const RECIPIENTS: &str = "recipients";

const MISSING: Unreadable = Unreadable("the value is missing");

/// The measured name that counts things.
pub(crate) const COUNT: &str = "records";

const POINTER: Flaw = Flaw {
    code: Code::BadExtractor,
    message: "this is no JSON pointer (RFC 6901)",
    remedy: "write it like `json:/order/total`, `json:/records/#` for a length, or `json:/to/*/email` for each value",
};
const UNKNOWN: Flaw = Flaw {
    code: Code::BadExtractor,
    message: "this is no way to measure a value",
    remedy: "write `json:/pointer`, `json:/pointer/#`, `json:/list/*/name`, `form:name`, `query:name`, `header:name` or `body:size`",
};
