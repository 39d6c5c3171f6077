//! Every text of a request, in every reading it may have.
//!
//! Rules about content look at nothing else. Whatever a body is declared as, each reading that works is a text; a
//! declared one that does not work makes the whole request unreadable, never shorter.

use std::borrow::Cow;
use std::fmt;

use crate::content::{Content, Family};
use crate::form::{self, Plus};
use crate::json::{Json, Unreadable};

/// One text and where it stands.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    pub(crate) place: Place,
    /// Whether this is a whole body or query as it is sent, of which the parsed texts are listed too.
    pub(crate) wire: bool,
    pub(crate) text: Cow<'a, str>,
}

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Body,
    Headers,
    Path,
    Query,
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

/// All texts of a request.
pub(crate) fn read<'a>(content: &'a Content<'_>) -> Result<Vec<Text<'a>>, Unreadable> {
    let facts = content.facts();
    let decoded = |place, text: String| Text { place, wire: false, text: Cow::Owned(text) };
    let mut texts = vec![decoded(Place::Path, form::decode(&facts.path, Plus::Itself)?)];
    if let Some(query) = &facts.query {
        texts.push(Text { place: Place::Query, wire: true, text: Cow::Borrowed(query) });
        let pairs = form::pairs(query)?.into_iter();
        texts.extend(pairs.flat_map(|(name, value)| [name, value]).map(|text| decoded(Place::Query, text)));
    }
    let headers = facts.headers.iter();
    texts.extend(headers.map(|(_, value)| Text { place: Place::Headers, wire: false, text: Cow::Borrowed(value) }));
    read_body(content, &mut texts)?;
    Ok(texts)
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
    let structured = matches!(family, Some(Family::Form | Family::Json | Family::Multipart));
    texts.push(Text { place: Place::Body, wire: structured, text: Cow::Borrowed(raw) });
    let mut add = |text: Cow<'a, str>| texts.push(Text { place: Place::Body, wire: false, text });
    match content.read_json() {
        Ok(json) => add_json(json, &mut add),
        Err(why) if family == Some(Family::Json) => return Err(why),
        Err(_) => {}
    }
    if family == Some(Family::Multipart) {
        for part in content.parts()? {
            add(Cow::Owned(part.name));
            add(Cow::Owned(part.filename.unwrap_or_default()));
            add(Cow::Borrowed(std::str::from_utf8(part.bytes).unwrap_or_default()));
        }
    }
    if family != Some(Family::Json) {
        match form::pairs(raw) {
            Ok(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).for_each(|text| add(text.into())),
            Err(why) if family == Some(Family::Form) => return Err(why),
            Err(_) => {}
        }
    }
    Ok(())
}

fn add_json<'a>(json: &'a Json, add: &mut dyn FnMut(Cow<'a, str>)) {
    match json {
        Json::Text(text) => add(Cow::Borrowed(text)),
        Json::List(items) => items.iter().for_each(|item| add_json(item, add)),
        Json::Map(entries) => entries.iter().for_each(|(key, value)| {
            add(Cow::Borrowed(key));
            add_json(value, add);
        }),
        Json::Bool(_) | Json::Null | Json::Number(_) => {}
    }
}
