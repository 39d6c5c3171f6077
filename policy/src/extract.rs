//! Measuring: the value at a place in a request.
//!
//! What has no single, unambiguous value is unmeasurable, and the caller must count it as over every limit. Nothing is
//! coerced: text in JSON is no number.

use std::borrow::Cow;
use std::fmt;

use crate::content::{Content, Family};
use crate::decimal::Decimal;
use crate::fault::{Code, Flaw};
use crate::field::FieldPath;
use crate::form::{self, Plus, SEVERAL};
use crate::graphql;
use crate::json::{Json, Unreadable};
use crate::rpc;
use crate::spelling::Spelling;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Extractor {
    /// `body:size`: the bytes of the body as it is sent.
    BodySize,
    /// `csv:column`: every value under a name.
    CsvColumn(String),
    /// `csv:rows`: the number of records under the header.
    CsvRows,
    /// `form:name`: a field of a urlencoded or multipart form.
    Form(String),
    /// `graphql:operation`: `query`, `subscription` or `mutation`; the last of these that any document has.
    GraphqlOperation,
    /// `graphql:root`: the names of all root fields.
    GraphqlRoot,
    /// `header:name`.
    Header(String),
    /// `json:/pointer/#`: the length of a list.
    JsonLength(Vec<String>),
    /// `json:/list/*/name`: every value, where `*` stands for each element. The pointer leads to the first `*`.
    JsonEach(Vec<String>, FieldPath),
    /// `json:/pointer`: a number, text, true or false.
    JsonValue(Vec<String>),
    /// `jsonrpc:method`: the method of every message.
    JsonrpcMethod,
    /// `mcp:tool`: every tool that is called.
    McpTool,
    /// `multipart:name`: a field of a multipart form.
    Multipart(String),
    /// `path:4`: a segment of the path, from 1.
    Path(usize),
    /// `query:name`.
    Query(String),
}

/// A measured value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Number(Decimal),
    Text(String),
    /// Any number of values, which are never shown.
    Texts(Vec<String>),
}

// === impl Extractor ===

impl Extractor {
    /// Reads a place as `destinations.yaml` writes it.
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
            "csv" | "form" | "header" | "multipart" | "query" if place.is_empty() => Err(UNKNOWN),
            "csv" if place == "rows" => Ok(Self::CsvRows),
            "csv" => Ok(Self::CsvColumn(place.to_owned())),
            "form" => Ok(Self::Form(place.to_owned())),
            "graphql" if place == "operation" => Ok(Self::GraphqlOperation),
            "graphql" if place == "root" => Ok(Self::GraphqlRoot),
            "header" => Ok(Self::Header(place.to_ascii_lowercase())),
            "jsonrpc" if place == "method" => Ok(Self::JsonrpcMethod),
            "mcp" if place == "tool" => Ok(Self::McpTool),
            "multipart" => Ok(Self::Multipart(place.to_owned())),
            "path" => place.parse().ok().filter(|at| (1..=MAX_SEGMENT).contains(at)).map(Self::Path).ok_or(UNKNOWN),
            "query" => Ok(Self::Query(place.to_owned())),
            _ => Err(UNKNOWN),
        }
    }

    /// The value in this request, unless it has another that may be read as it; what `siblings` measure is none.
    pub(crate) fn measure(&self, content: &Content<'_>, siblings: &[Self]) -> Result<Reading, Unreadable> {
        let in_body: Vec<&str> = names(siblings.iter().filter(|sibling| !sibling.is_outside_the_body()));
        match self {
            Self::BodySize => count(content.facts().body.len()),
            Self::CsvColumn(name) => content.csv()?.column(name).map(Reading::Texts),
            Self::CsvRows => content.csv()?.rows().and_then(count),
            Self::Form(_) | Self::JsonEach(..) | Self::JsonLength(_) | Self::JsonValue(_) | Self::Multipart(_) => {
                let in_query = names(siblings.iter().filter(|sibling| matches!(sibling, Self::Query(_))));
                // A server may merge the query with the body.
                let query = content.facts().query.as_deref();
                Spelling::of_path(self.names()).refuse_in_query(query, &in_query)?;
                self.measure_field(content, &in_body)
            }
            Self::GraphqlOperation => {
                let strictest = graphql::roots(content)?.iter().map(|root| root.operation).max();
                strictest.map(|operation| Reading::Text(operation.to_string())).ok_or(MISSING)
            }
            Self::GraphqlRoot => texts(graphql::roots(content)?.into_iter().map(|root| root.field).collect()),
            Self::Header(name) => {
                let mut values = content.facts().header(name);
                match (values.next(), values.next()) {
                    (Some(value), None) => from_text(value.to_owned()),
                    (Some(_), Some(_)) => Err(Unreadable("the header is given more than once")),
                    (None, _) => Err(MISSING),
                }
            }
            Self::JsonrpcMethod => {
                let messages = rpc::messages(content)?;
                texts(messages.iter().filter_map(|message| message.method()).map(str::to_owned).collect())
            }
            Self::McpTool => {
                let tools: Result<Vec<_>, _> = rpc::messages(content)?.iter().map(|message| message.tool()).collect();
                texts(tools?.into_iter().flatten().map(str::to_owned).collect())
            }
            Self::Path(at) => {
                let segment = content.facts().path.split('/').nth(*at).filter(|segment| !segment.is_empty());
                form::decode(segment.ok_or(MISSING)?, Plus::Itself).and_then(from_text)
            }
            Self::Query(name) => {
                let in_query = names(siblings.iter().filter(|sibling| matches!(sibling, Self::Query(_))));
                content.refuse_in_body(&Spelling::of(name), &in_body)?;
                let query = content.facts().query.as_deref();
                form::only(&form::fields(query.unwrap_or_default())?, name, &in_query).and_then(from_text)
            }
        }
    }

    /// As `measure`, where a field of a form may be there more than once.
    pub(crate) fn measure_all(&self, content: &Content<'_>, siblings: &[Self]) -> Result<Reading, Unreadable> {
        let (Self::Form(name) | Self::Multipart(name)) = self else { return self.measure(content, siblings) };
        match self.measure(content, siblings) {
            Err(SEVERAL) => {
                let known = names(siblings.iter().filter(|sibling| !sibling.is_outside_the_body()));
                form::all(&content.fields()?, name, &known).map(Reading::Texts)
            }
            read => read,
        }
    }

    /// The value of a field of the body.
    fn measure_field(&self, content: &Content<'_>, known: &[&str]) -> Result<Reading, Unreadable> {
        match self {
            Self::Form(name) => form::only(&content.fields()?, name, known).and_then(from_text),
            Self::JsonLength(pointer) => match find(content, pointer)? {
                Json::List(items) => count(items.len()),
                Json::Bool(_) | Json::Map(_) | Json::Null | Json::Number(_) | Json::Text(_) => {
                    Err(Unreadable("the value is not a list"))
                }
            },
            Self::JsonEach(_, path) => read_each(path, content.json()?),
            Self::JsonValue(pointer) => match find(content, pointer)? {
                Json::Number(literal) => Decimal::parse(literal).map(Reading::Number),
                Json::Text(text) => Ok(Reading::Text(text.clone())),
                Json::Bool(truth) => Ok(Reading::Text(truth.to_string())),
                Json::Null => Err(MISSING),
                Json::List(_) | Json::Map(_) => Err(Unreadable("the value is a list or an object")),
            },
            Self::Multipart(name) if content.media()?.family == Family::Multipart => {
                form::only(&content.fields()?, name, known).and_then(from_text)
            }
            Self::Multipart(_) => Err(Unreadable("the body is declared as another type")),
            Self::BodySize
            | Self::CsvColumn(_)
            | Self::CsvRows
            | Self::GraphqlOperation
            | Self::GraphqlRoot
            | Self::Header(_)
            | Self::JsonrpcMethod
            | Self::McpTool
            | Self::Path(_)
            | Self::Query(_) => Err(MISSING),
        }
    }

    fn is_outside_the_body(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Path(_) | Self::Query(_))
    }

    /// The names that lead to the value.
    fn names(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::CsvColumn(name)
            | Self::Form(name)
            | Self::Header(name)
            | Self::Multipart(name)
            | Self::Query(name) => std::slice::from_ref(name),
            Self::JsonEach(pointer, _) | Self::JsonLength(pointer) | Self::JsonValue(pointer) => pointer,
            Self::BodySize
            | Self::CsvRows
            | Self::GraphqlOperation
            | Self::GraphqlRoot
            | Self::JsonrpcMethod
            | Self::McpTool
            | Self::Path(_) => &[],
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

    /// Every value as text.
    pub(crate) fn all(&self) -> Cow<'_, [String]> {
        match self {
            Self::Number(number) => Cow::Owned(vec![number.to_string()]),
            Self::Text(_) | Self::Texts(_) => Cow::Borrowed(self.texts()),
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
    const OTHER: Unreadable = Unreadable("one of the values is missing or of another kind");
    let texts = path.each(json).ok_or(OTHER)?.into_iter().map(|value| match value {
        Json::Number(text) | Json::Text(text) => Ok(text.clone()),
        Json::Bool(_) | Json::List(_) | Json::Map(_) | Json::Null => Err(OTHER),
    });
    let texts = texts.collect::<Result<Vec<_>, _>>()?;
    if texts.is_empty() { Err(MISSING) } else { Ok(Reading::Texts(texts)) }
}

/// One text as itself, several as several.
fn texts(mut texts: Vec<String>) -> Result<Reading, Unreadable> {
    match texts.pop() {
        Some(text) if texts.is_empty() => Ok(Reading::Text(text)),
        Some(text) => {
            texts.push(text);
            Ok(Reading::Texts(texts))
        }
        None => Err(MISSING),
    }
}

fn count(length: usize) -> Result<Reading, Unreadable> {
    u64::try_from(length).map(Decimal::from).map(Reading::Number).map_err(|_| Unreadable("the list is too long"))
}

/// Forms, queries and headers have text only, so digits are a number there.
fn from_text(text: String) -> Result<Reading, Unreadable> {
    match Decimal::parse_plain(&text) {
        Ok(number) => Ok(Reading::Number(number)),
        Err(_) => Ok(Reading::Text(text)),
    }
}

/// Measured text goes into reasons and records: a currency or a name, not a document.
pub(crate) fn showable(reading: Reading) -> Result<Reading, Unreadable> {
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

pub(crate) const MISSING: Unreadable = Unreadable("the value is missing");

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
    remedy: "write `json:/pointer`, `json:/pointer/#`, `json:/list/*/name`, `form:name`, `multipart:name`, `query:name`, \
             `header:name`, `path:1`, `body:size`, `csv:rows`, `csv:column`, `jsonrpc:method`, `mcp:tool`, \
             `graphql:operation` or `graphql:root`",
};
const MAX_SEGMENT: usize = 32;
