//! Every text of a request, in every reading it may have.
//!
//! Rules about content look at nothing else. Whatever a body is declared as, each reading that works is a text; a
//! declared one that does not work makes the whole request unreadable, never shorter.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use crate::content::{Content, Family};
use crate::form::{self, Plus};
use crate::json::{Json, Unreadable};
use crate::views;

/// One text and where it stands.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) text: Cow<'a, str>,
}

/// All texts of a request, read when they are first asked for.
#[derive(Debug)]
pub(crate) struct Wording<'a> {
    content: &'a Content<'a>,
    texts: OnceCell<Result<Vec<Text<'a>>, Unreadable>>,
}

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Body,
    Headers,
    Path,
    Query,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All values of a body one after the other.
    Joined,
    /// The key of a value.
    Name,
    /// Another reading of a name or value.
    Reading,
    /// A value, or a body that has no fields.
    Value,
    /// A whole body or query as it is sent, whose names and values are listed too.
    Wire,
}

// === impl Wording ===

impl<'a> Wording<'a> {
    pub(crate) fn new(content: &'a Content<'a>) -> Self {
        Self { content, texts: OnceCell::new() }
    }

    pub(crate) fn texts(&self) -> Result<&[Text<'a>], Unreadable> {
        self.texts.get_or_init(|| read(self.content)).as_deref().map_err(|why| *why)
    }
}

// === impl Place ===

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Body => "body",
            Self::Headers => "headers",
            Self::Path => "path",
            Self::Query => "query",
        })
    }
}

fn read<'a>(content: &'a Content<'_>) -> Result<Vec<Text<'a>>, Unreadable> {
    let facts = content.facts();
    let path = form::decode(&facts.path, Plus::Itself)?;
    let mut texts = vec![Text { place: Place::Path, kind: Kind::Value, text: Cow::Owned(path) }];
    if let Some(query) = &facts.query {
        texts.push(Text { place: Place::Query, kind: Kind::Wire, text: Cow::Borrowed(query) });
        add_pairs(form::pairs(query)?, Place::Query, &mut texts);
    }
    let headers = facts.headers.iter().map(|(_, value)| Cow::Borrowed(value.as_str()));
    texts.extend(headers.map(|text| Text { place: Place::Headers, kind: Kind::Value, text }));
    read_body(content, &mut texts)?;
    let readings = read_again(&texts)?;
    texts.extend(readings);
    texts.extend(join(&texts));
    Ok(texts)
}

fn read_again<'a>(texts: &[Text<'_>]) -> Result<Vec<Text<'a>>, Unreadable> {
    let own = texts.iter().filter(|text| text.kind != Kind::Wire);
    let length: usize = own.clone().map(|text| text.text.len()).sum();
    let mut left = length.saturating_mul(MAX_GROWTH).max(ALWAYS);
    let mut all = Vec::new();
    for text in own {
        let readings = views::derive(&text.text, &mut left).ok_or(Unreadable("it is encoded in too many ways"))?;
        let place = text.place;
        all.extend(readings.into_iter().map(|text| Text { place, kind: Kind::Reading, text: Cow::Owned(text) }));
    }
    Ok(all)
}

/// What is torn apart between fields is whole again in their values one after the other.
fn join<'a>(texts: &[Text<'_>]) -> Option<Text<'a>> {
    let values = texts.iter().filter(|text| text.place == Place::Body && text.kind == Kind::Value);
    let values: Vec<&str> = values.map(|text| text.text.as_ref()).collect();
    let joined = (values.len() > 1).then(|| values.join(" "))?;
    Some(Text { place: Place::Body, kind: Kind::Joined, text: Cow::Owned(joined) })
}

fn read_body<'a>(content: &'a Content<'_>, texts: &mut Vec<Text<'a>>) -> Result<(), Unreadable> {
    let raw = content.text()?;
    if raw.is_empty() {
        return Ok(());
    }
    let family = match content.media() {
        Ok(media) => Some(media.family),
        Err(_) if content.facts().header("content-type").next().is_none() => None,
        Err(why) => return Err(why),
    };
    let has_fields = matches!(family, Some(Family::Form | Family::Json | Family::Multipart));
    let kind = if has_fields { Kind::Wire } else { Kind::Value };
    texts.push(Text { place: Place::Body, kind, text: Cow::Borrowed(raw) });
    match content.read_json() {
        Ok(json) => add_json(json, texts),
        Err(why) if family == Some(Family::Json) => return Err(why),
        Err(_) => {}
    }
    if family == Some(Family::Multipart) {
        add_parts(content, texts)?;
    }
    if family != Some(Family::Json) {
        match form::pairs(raw) {
            Ok(pairs) => add_pairs(pairs, Place::Body, texts),
            Err(why) if family == Some(Family::Form) => return Err(why),
            Err(_) => {}
        }
    }
    Ok(())
}

fn add_pairs(pairs: Vec<(String, String)>, place: Place, texts: &mut Vec<Text<'_>>) {
    for (name, value) in pairs {
        texts.push(Text { place, kind: Kind::Name, text: Cow::Owned(name) });
        texts.push(Text { place, kind: Kind::Value, text: Cow::Owned(value) });
    }
}

fn add_parts<'a>(content: &'a Content<'_>, texts: &mut Vec<Text<'a>>) -> Result<(), Unreadable> {
    for part in content.parts()? {
        let value = std::str::from_utf8(part.bytes).map_err(|_| Unreadable("a form field is not UTF-8 text"))?;
        let names = [part.name, part.filename.unwrap_or_default()];
        let names = names.map(|name| Text { place: Place::Body, kind: Kind::Name, text: Cow::Owned(name) });
        texts.extend(names);
        texts.push(Text { place: Place::Body, kind: Kind::Value, text: Cow::Borrowed(value) });
    }
    Ok(())
}

fn add_json<'a>(json: &'a Json, texts: &mut Vec<Text<'a>>) {
    match json {
        Json::Text(text) => {
            texts.push(Text { place: Place::Body, kind: Kind::Value, text: Cow::Borrowed(text) });
        }
        Json::List(items) => items.iter().for_each(|item| add_json(item, texts)),
        Json::Map(entries) => entries.iter().for_each(|(key, value)| {
            texts.push(Text { place: Place::Body, kind: Kind::Name, text: Cow::Borrowed(key) });
            add_json(value, texts);
        }),
        Json::Bool(_) | Json::Null | Json::Number(_) => {}
    }
}

/// How many octets of other readings each octet of a name or value may have.
const MAX_GROWTH: usize = 5;
/// So many octets of other readings are kept whatever the request's own length is.
const ALWAYS: usize = 4 * 1024 * 1024;
