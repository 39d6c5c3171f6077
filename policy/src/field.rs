//! Fields of a body: the way to one, and every value that stands there.
//!
//! One path reads JSON and forms alike. Where a body has something else than the path expects, a list in place of an
//! object, `amount[]` or `Amount` in place of `amount`, the field is odd rather than missing: a server may still read it.

use crate::content::{Content, Family};
use crate::fault::{Code, Flaw};
use crate::form::Field;
use crate::json::{Json, Unreadable};
use crate::spelling::Spelling;

/// The way to a field: `amount`, `to.0.email`, `to[].email`, `items.*.sku`, or `/a.b/c` for keys with dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldPath {
    written: String,
    tokens: Vec<Token>,
    spelling: Spelling,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `*` or `[]`: every element of a list, every value of an object.
    Each,
    /// A key of an object, or a place in a list.
    Key(String),
}

/// The fields of one body.
#[derive(Debug)]
pub(crate) enum Fields<'a> {
    Form(Vec<Field>),
    Json(&'a Json),
    /// There is no body.
    None,
}

/// What stands at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// Something is on the way that the path does not fit, or may be read as the field in its place.
    Odd,
    /// Nothing, or null.
    Missing,
    Value(Value<'a>),
}

/// A value of a field. Forms have text only; JSON tells text from numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Form(&'a str),
    Json(&'a Json),
}

// === impl FieldPath ===

impl FieldPath {
    /// Reads a path as policies write it.
    pub(crate) fn parse(text: &str) -> Result<Self, Flaw> {
        let tokens = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(read_pointer_token).collect::<Option<Vec<_>>>(),
            None => read_dotted(text),
        };
        let tokens = tokens.filter(|tokens| tokens.len() <= MAX_STEPS).ok_or(FLAW)?;
        let names = tokens.iter().map(|token| match token {
            Token::Each => "",
            Token::Key(key) => key,
        });
        Ok(Self { written: text.to_owned(), spelling: Spelling::of_path(names), tokens })
    }

    /// The path as it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.written
    }

    /// The path as other parsers may spell it.
    pub(crate) fn spelling(&self) -> &Spelling {
        &self.spelling
    }

    /// Everything that stands at the path, at least one.
    pub(crate) fn find<'a>(&self, fields: &'a Fields<'_>) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        match fields {
            Fields::Form(pairs) => {
                found.extend(pairs.iter().filter_map(|(name, value)| self.find_in_pair(name, value.as_deref())));
            }
            Fields::Json(json) => walk(json, &self.tokens, &mut found),
            Fields::None => {}
        }
        if found.is_empty() {
            found.push(Found::Missing);
        }
        found
    }

    /// Every value at the path, where a list on the way that is not there has none. None where the JSON has something
    /// else than the path expects.
    pub(crate) fn each<'a>(&self, json: &'a Json) -> Option<Vec<&'a Json>> {
        let mut found = Vec::new();
        walk_each(json, &self.tokens, &mut found)?;
        Some(found)
    }

    fn find_in_pair<'a>(&self, name: &str, value: Option<&'a str>) -> Option<Found<'a>> {
        let given = name_tokens(name);
        let begins = given.iter().zip(&self.tokens).all(|(given, token)| match token {
            Token::Each => true,
            Token::Key(key) => key == given,
        });
        if name != self.written && !begins && !self.spelling.may_be(&Spelling::of(name)) {
            return None;
        }
        let whole = name == self.written || (given.len() == self.tokens.len() && begins);
        Some(value.filter(|_| whole).map_or(Found::Odd, |value| Found::Value(Value::Form(value))))
    }
}

impl<'a> Fields<'a> {
    /// The fields of a body that is declared as JSON or as a form, or is not there.
    pub(crate) fn of(content: &'a Content<'_>) -> Result<Self, Unreadable> {
        if content.facts().body.is_empty() {
            return Ok(Self::None);
        }
        match content.media()?.family {
            Family::Json => content.json().map(Self::Json),
            Family::Form | Family::Multipart => content.fields().map(Self::Form),
            Family::Binary | Family::Csv | Family::Text | Family::Xml => {
                Err(Unreadable("the body is neither JSON nor a form"))
            }
        }
    }
}

fn walk<'a>(json: &'a Json, tokens: &[Token], found: &mut Vec<Found<'a>>) {
    let Some((token, rest)) = tokens.split_first() else {
        found.push(if *json == Json::Null { Found::Missing } else { Found::Value(Value::Json(json)) });
        return;
    };
    match (json, token) {
        (Json::List(items), Token::Each) => items.iter().for_each(|item| walk(item, rest, found)),
        (Json::Map(entries), Token::Each) => entries.iter().for_each(|(_, value)| walk(value, rest, found)),
        (Json::Map(_), Token::Key(key)) if json.has_rival(key) => found.push(Found::Odd),
        (Json::List(_) | Json::Map(_), Token::Key(key)) => match json.at(std::slice::from_ref(key)) {
            Some(next) => walk(next, rest, found),
            // A list is asked for a name: a server that takes either would find the field inside its items.
            None if matches!(json, Json::List(_)) && key.parse::<usize>().is_err() => found.push(Found::Odd),
            None => found.push(Found::Missing),
        },
        (Json::Null, _) => found.push(Found::Missing),
        (Json::Bool(_) | Json::Number(_) | Json::Text(_), _) => found.push(Found::Odd),
    }
}

fn walk_each<'a>(json: &'a Json, tokens: &[Token], found: &mut Vec<&'a Json>) -> Option<()> {
    let Some((token, rest)) = tokens.split_first() else {
        found.push(json);
        return Some(());
    };
    let leads_to_a_list = tokens.contains(&Token::Each);
    match (json, token) {
        (Json::List(items), Token::Each) => items.iter().try_for_each(|item| walk_each(item, rest, found)),
        (Json::Map(entries), Token::Each) => entries.iter().try_for_each(|(_, value)| walk_each(value, rest, found)),
        (Json::Map(_), Token::Key(key)) if json.has_rival(key) => None,
        (Json::List(_) | Json::Map(_), Token::Key(key)) => match json.at(std::slice::from_ref(key)) {
            Some(next) => walk_each(next, rest, found),
            None => (leads_to_a_list && matches!(json, Json::Map(_))).then_some(()),
        },
        (Json::Null, _) => leads_to_a_list.then_some(()),
        (Json::Bool(_) | Json::Number(_) | Json::Text(_), _) => None,
    }
}

/// `a[b][]` is `a`, `b` and nothing; a name of another shape is one token.
fn name_tokens(name: &str) -> Vec<&str> {
    let Some((first, rest)) = name.split_once('[') else { return vec![name] };
    let Some(inner) = rest.strip_suffix(']') else { return vec![name] };
    std::iter::once(first).chain(inner.split("][")).collect()
}

fn read_dotted(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    for step in text.split('.') {
        let key = step.trim_end_matches("[]");
        if key.is_empty() && (step.is_empty() || !tokens.is_empty()) || key.contains(['[', ']']) {
            return None;
        }
        match key {
            "" => {}
            "*" => tokens.push(Token::Each),
            key => tokens.push(Token::Key(key.to_owned())),
        }
        let lists = step.len().saturating_sub(key.len()) / 2;
        tokens.extend(std::iter::repeat_n(Token::Each, lists));
    }
    Some(tokens)
}

fn read_pointer_token(token: &str) -> Option<Token> {
    let sound = token.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    match token {
        "*" => Some(Token::Each),
        token => sound.then(|| Token::Key(token.replace("~1", "/").replace("~0", "~"))),
    }
}

/// Why an odd field says nothing.
pub(crate) const ODD: Unreadable = Unreadable("the request has another structure, or may be read in two ways");
const MAX_STEPS: usize = 32;
const FLAW: Flaw = Flaw {
    code: Code::BadField,
    message: "this is no path of a field",
    remedy: "write it like `order.total`, `to[].email`, `items.0.sku`, or `/a.b/c` for a key with a dot",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, fields: &Fields<'_>) -> Vec<String> {
        let path = FieldPath::parse(path).unwrap();
        let show = |found: &Found<'_>| match found {
            Found::Odd => "odd".to_owned(),
            Found::Missing => "missing".to_owned(),
            Found::Value(Value::Form(text)) => (*text).to_owned(),
            Found::Value(Value::Json(Json::Number(text) | Json::Text(text))) => text.clone(),
            Found::Value(Value::Json(json)) => format!("{json:?}"),
        };
        path.find(fields).iter().map(show).collect()
    }

    #[test]
    fn finds_every_value_in_json() {
        let json = Json::read(
            br#"{"x":{"b":1,"c.d":2},"a":{},"A":0,"Ab":3,"to":[{"e":"x"},{"e":"y"},{}],"n":null,"l":[],"s":"t"}"#,
        )
        .unwrap();
        let table: [(&str, &[&str]); 16] = [
            ("a.b", &["odd"]),
            ("ab", &["odd"]),
            ("x.b", &["1"]),
            ("/x/c.d", &["2"]),
            ("to[].e", &["x", "y", "missing"]),
            ("to.*.e", &["x", "y", "missing"]),
            ("to.1.e", &["y"]),
            ("to.9.e", &["missing"]),
            ("to.e", &["odd"]),
            ("x.*", &["1", "2"]),
            ("s.x", &["odd"]),
            ("s[]", &["odd"]),
            ("n", &["missing"]),
            ("n.x", &["missing"]),
            ("l[]", &["missing"]),
            ("zz", &["missing"]),
        ];
        for (path, expected) in table {
            assert_eq!(found(path, &Fields::Json(&json)), expected, "{path}");
        }
    }

    #[test]
    fn a_list_that_is_not_there_has_no_values() {
        let json =
            Json::read(br#"{"p":[{"to":[{"e":"x"}],"cc":null},{"to":[{"e":"y"},{}]},{"bcc":[]}],"t":"s"}"#).unwrap();
        let table = [
            ("/p/*/cc/*/e", Some(0)),
            ("/p/*/bcc/*/e", Some(0)),
            ("/q/*/e", Some(0)),
            ("/p/0/to/*/e", Some(1)),
            ("/p/*/to/*/e", None),
            ("/p/to/*/e", None),
            ("/t/*", None),
        ];
        for (path, values) in table {
            let path = FieldPath::parse(path).unwrap();
            assert_eq!(path.each(&json).map(|found| found.len()), values, "{}", path.as_str());
        }
    }

    #[test]
    fn finds_every_value_in_a_form() {
        let pair = |(name, value): (&str, Option<&str>)| (name.to_owned(), value.map(str::to_owned));
        let pairs = [
            ("a", Some("1")),
            ("a", Some("2")),
            ("m[x]", Some("3")),
            ("t[0][e]", Some("4")),
            ("t[][e]", Some("5")),
            ("d.e", Some("6")),
            ("f", None),
            ("q[]", Some("7")),
            ("Up", Some("8")),
        ];
        let form = Fields::Form(pairs.map(pair).into());
        let table: [(&str, &[&str]); 10] = [
            ("a", &["1", "2"]),
            ("up", &["odd"]),
            ("m.x", &["3"]),
            ("m", &["odd"]),
            ("a.x", &["odd", "odd"]),
            ("t[].e", &["4", "5"]),
            ("d.e", &["6"]),
            ("f", &["odd"]),
            ("q", &["odd"]),
            ("z", &["missing"]),
        ];
        for (path, expected) in table {
            assert_eq!(found(path, &form), expected, "{path}");
        }
        assert_eq!(found("a", &Fields::None), ["missing"]);
    }

    #[test]
    fn refuses_other_paths() {
        for path in ["", ".", "a.", ".a", "a..b", "a[0]", "a[", "/a~2", "a.[]", &"a.".repeat(40)] {
            assert!(FieldPath::parse(path).is_err(), "{path}");
        }
        for path in ["[]", "[].a", "a[][]", "/", "*"] {
            assert!(FieldPath::parse(path).is_ok(), "{path}");
        }
    }
}
