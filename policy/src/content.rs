//! What a body is: its declared type, whether the bytes agree, and its one reading.
//!
//! Reading is lazy and done at most once per decision. A body under one `Content-Encoding` is decoded within bounds;
//! what cannot be decoded cannot be read, and rules about content treat it as the worst that it could hold.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::csv::Table;
use crate::encoding;
use crate::facts::Facts;
use crate::form::{self, Field};
use crate::json::{Json, Unreadable};
use crate::multipart::{self, Part};
use crate::spelling::Spelling;

/// The body of a request, as far as it can be read.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    facts: &'a Facts,
    media: Result<Media, Unreadable>,
    bytes: OnceCell<Result<Cow<'a, [u8]>, Unreadable>>,
    json: OnceCell<Result<Json, Unreadable>>,
}

/// A declared media type (RFC 9110 section 8.3.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Media {
    /// `type/subtype` in lower case.
    pub(crate) essence: String,
    pub(crate) family: Family,
    boundary: Option<String>,
}

/// How a body of some media type is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Family {
    Binary,
    Csv,
    Form,
    Json,
    Multipart,
    Text,
    Xml,
}

// === impl Content ===

impl<'a> Content<'a> {
    pub(crate) fn new(facts: &'a Facts) -> Self {
        Self { facts, media: read_media(facts), bytes: OnceCell::new(), json: OnceCell::new() }
    }

    /// The same request with a part of its JSON in place of the whole.
    pub(crate) fn part(&self, json: &Json) -> Self {
        let part = Self::new(self.facts);
        // It is empty, so this always succeeds.
        let _ = part.json.set(Ok(json.clone()));
        part
    }

    pub(crate) fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// The declared media type.
    pub(crate) fn media(&self) -> Result<&Media, Unreadable> {
        self.media.as_ref().map_err(|why| *why)
    }

    /// The bytes, decoded.
    pub(crate) fn bytes(&self) -> Result<&[u8], Unreadable> {
        let decode = || encoding::decode(self.facts.body.bytes(), self.facts.header("content-encoding"));
        self.bytes.get_or_init(decode).as_deref().map_err(|why| *why)
    }

    /// The body as text: UTF-8 without null octets, which would be UTF-16 or worse.
    pub(crate) fn text(&self) -> Result<&str, Unreadable> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable("the body is not UTF-8 text"))?;
        if text.contains('\0') { Err(Unreadable("the body has null octets")) } else { Ok(text) }
    }

    /// The body as JSON, if it is declared as such.
    pub(crate) fn json(&self) -> Result<&Json, Unreadable> {
        self.declared(Family::Json)?;
        self.read_json()
    }

    /// The body as CSV, if it is declared as such, or the one file of a multipart form.
    pub(crate) fn csv(&self) -> Result<Table, Unreadable> {
        if self.media()?.family == Family::Multipart {
            let mut files = self.parts()?.into_iter().filter(|part| part.filename.is_some());
            let (Some(file), None) = (files.next(), files.next()) else {
                return Err(Unreadable("the form has not one file"));
            };
            let text = std::str::from_utf8(file.bytes).map_err(|_| Unreadable("the file is not UTF-8 text"))?;
            return Table::read(text);
        }
        self.declared(Family::Csv)?;
        Table::read(self.text()?)
    }

    /// The fields of a form body, urlencoded or multipart.
    pub(crate) fn fields(&self) -> Result<Vec<Field>, Unreadable> {
        if self.media()?.family != Family::Multipart {
            self.declared(Family::Form)?;
            return form::fields(self.text()?);
        }
        let read = |part: Part<'_>| {
            let value = std::str::from_utf8(part.bytes).ok().filter(|_| part.filename.is_none());
            (part.name, value.map(str::to_owned))
        };
        Ok(self.parts()?.into_iter().map(read).collect())
    }

    /// Refuses a body in which a server that merges it with the query may find this field of the query; names in
    /// `known` are looked at elsewhere.
    pub(crate) fn refuse_in_body(&self, wanted: &Spelling, known: &[&str]) -> Result<(), Unreadable> {
        if self.facts.body.is_empty() {
            return Ok(());
        }
        let refuse = |name: &String| wanted.refuse(name, known);
        match self.media()?.family {
            Family::Form | Family::Multipart => self.fields()?.iter().map(|(name, _)| name).try_for_each(refuse),
            Family::Json => self.json()?.keys().try_for_each(refuse),
            Family::Binary | Family::Csv | Family::Text | Family::Xml => Ok(()),
        }
    }

    /// The parts of a multipart body, if it is declared as such.
    pub(crate) fn parts(&self) -> Result<Vec<Part<'_>>, Unreadable> {
        let boundary = self.media()?.boundary.as_deref().ok_or(Unreadable("the multipart boundary is missing"))?;
        self.declared(Family::Multipart)?;
        multipart::parts(self.bytes()?, boundary)
    }

    /// The body as JSON, whatever it is declared as.
    pub(crate) fn read_json(&self) -> Result<&Json, Unreadable> {
        let bytes = self.bytes()?;
        self.json.get_or_init(|| Json::read(bytes)).as_ref().map_err(|why| *why)
    }

    /// Whether the bytes are what the declared type says they are.
    pub(crate) fn is_as_declared(&self) -> Result<bool, Unreadable> {
        Ok(match self.media()?.family {
            Family::Binary => !self.is_structured(),
            Family::Csv => !self.is_structured() && Table::read(self.text()?).is_ok(),
            Family::Form => {
                let text = self.text()?;
                is_form(text) && form::pairs(text).is_ok()
            }
            Family::Json => self.read_json().is_ok(),
            Family::Multipart => self.parts().is_ok(),
            Family::Text => self.text().is_ok_and(|text| !text.is_empty()) && !self.is_structured(),
            Family::Xml => self.text().is_ok_and(is_xml),
        })
    }

    /// Whether the bytes are JSON or XML, or meant to pass for it.
    fn is_structured(&self) -> bool {
        let Ok(text) = self.text() else { return false };
        let start = text.trim_start();
        start.starts_with('{') || start.starts_with("<?xml") || (start.starts_with('[') && self.read_json().is_ok())
    }

    fn declared(&self, family: Family) -> Result<(), Unreadable> {
        if self.media()?.family == family { Ok(()) } else { Err(Unreadable("the body is declared as another type")) }
    }
}

// === impl Family ===

impl Family {
    fn of(essence: &str) -> Self {
        match essence {
            "application/json" => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            "application/xml" | "text/xml" => Self::Xml,
            "multipart/form-data" => Self::Multipart,
            "text/csv" => Self::Csv,
            other if other.ends_with("+json") => Self::Json,
            other if other.ends_with("+xml") => Self::Xml,
            other if other.starts_with("text/") => Self::Text,
            _ => Self::Binary,
        }
    }
}

fn read_media(facts: &Facts) -> Result<Media, Unreadable> {
    let mut values = facts.header("content-type");
    match (values.next(), values.next()) {
        (Some(value), None) => parse_media(value),
        (Some(_), Some(_)) => Err(Unreadable("the content type is given twice")),
        (None, _) => Err(Unreadable("the content type is missing")),
    }
}

fn parse_media(value: &str) -> Result<Media, Unreadable> {
    let mut pieces = value.split(';').map(|piece| piece.trim_matches([' ', '\t']));
    let essence = pieces.next().unwrap_or_default().to_ascii_lowercase();
    if !is_media_type(&essence) {
        return Err(Unreadable("the content type is malformed"));
    }
    let (mut charset, mut boundary) = (None, None);
    for piece in pieces {
        let (name, value) = piece.split_once('=').ok_or(Unreadable("a content type parameter is malformed"))?;
        let bare = value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(value);
        let repeated = match name.to_ascii_lowercase().as_str() {
            "boundary" => boundary.replace(bare.to_owned()).is_some(),
            "charset" => charset.replace(bare.to_ascii_lowercase()).is_some(),
            _ => false,
        };
        // RFC 2231 spells one parameter in several ways, of which parsers prefer different ones.
        if repeated || name.contains('*') || bare.is_empty() || bare.contains(['"', '\\']) {
            return Err(Unreadable("a content type parameter is malformed"));
        }
    }
    if charset.is_some_and(|charset| !matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii")) {
        return Err(Unreadable("the character set is none that is read here"));
    }
    let family = Family::of(&essence);
    let overlong = boundary.as_ref().is_some_and(|boundary| boundary.len() > 70 || !boundary.bytes().all(is_boundary));
    if overlong || (family == Family::Multipart && boundary.is_none()) {
        return Err(Unreadable("the multipart boundary is missing or malformed"));
    }
    Ok(Media { essence, family, boundary })
}

/// Whether `text` is `type/subtype` in lower case.
pub(crate) fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        let sound = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'+' | b'_');
        !part.is_empty() && part.len() <= 63 && part.bytes().all(sound)
    };
    text.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// The characters of a boundary without those that parsers read differently in quotes (RFC 2046 section 5.1.1).
fn is_boundary(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'\'' | b'+' | b'_' | b'-' | b'.' | b'=' | b'/' | b':')
}

/// Whether the text is made of characters that forms are sent with, and does not begin like JSON, XML or CSV.
fn is_form(text: &str) -> bool {
    let sound = |byte: u8| {
        byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}' | b'<' | b'>' | b'"' | b'\\' | b'^' | b'`' | b'|')
    };
    !text.is_empty() && !text.starts_with('[') && text.bytes().all(sound)
}

/// Whether the text may be XML without a document type, whose entities could hide anything.
fn is_xml(text: &str) -> bool {
    let trimmed = text.trim();
    trimmed.starts_with('<') && trimmed.ends_with('>') && !text.contains("<!DOCTYPE") && !text.contains("<!ENTITY")
}
