//! A secret as one field of a body: a member of a JSON object, or a field of a form.
//!
//! Everything else in the body stays octet for octet as the agent wrote it. A field that is there already, however its
//! name is spelled, is replaced: what goes out has it once.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::own::is_named;
use super::template::{escaped, joined};
use crate::credential::Slot;

/// The members of a JSON object in their order, values as written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

struct MembersVisitor;

/// Whether a body with these headers has a place for the field of `slot`.
///
/// # Errors
/// What is wrong with it, for the agent.
pub(super) fn check(slot: &Slot, headers: &[(String, String)], body: &[u8]) -> Result<(), String> {
    let kind = headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if headers.iter().any(|(name, value)| name == "content-encoding" && value != "identity") {
        return Err("the body is encoded, and a credential has to be put into it; send it as it is".to_owned());
    }
    match slot {
        Slot::Form { .. } if kind != FORM => {
            Err(format!("the credential stands in a form; send a body of type `{FORM}`"))
        }
        Slot::Form { .. } => text(body).map(|_| ()),
        Slot::Json { .. } if kind != "application/json" && !kind.ends_with("+json") => {
            Err("the credential stands in a JSON body; send one, of type `application/json`".to_owned())
        }
        Slot::Json { field } => with_member(body, field, "").map(|_| ()),
        Slot::Basic { .. }
        | Slot::Cookie { .. }
        | Slot::Header { .. }
        | Slot::Path { .. }
        | Slot::Query { .. }
        | Slot::Url => Ok(()),
    }
}

/// The form with `field` set to the secret, as its last field.
///
/// # Errors
/// When the body is not text.
pub(super) fn with_field(body: &[u8], field: &str, secret: &str) -> Result<Bytes, String> {
    let kept: Vec<&str> = text(body)?.split('&').filter(|pair| !pair.is_empty() && !is_named(pair, field)).collect();
    let kept = kept.join("&");
    let between = if kept.is_empty() { "" } else { "&" };
    Ok(wiped(joined(&[&kept, between, &escaped(field, b""), "=", &escaped(secret, b"")])))
}

/// The JSON document with the member at `path` set to the secret. Objects on the way that are not there are made.
///
/// # Errors
/// When the body is no JSON object, or has on the way something else than one object.
pub(super) fn with_member(body: &[u8], path: &[String], secret: &str) -> Result<Bytes, String> {
    let document = serde_json::from_slice::<&RawValue>(body).map_err(|_| NO_OBJECT.to_owned())?;
    let names: usize = path.iter().map(|name| 6 * name.len() + 8).sum();
    let mut out = Zeroizing::new(String::with_capacity(body.len() + names + 6 * secret.len() + 8));
    write_object(&mut out, Some(document), path, secret)?;
    Ok(wiped(out))
}

/// The document with an empty text for the member at `path`, if that has this value and there is one of its name.
pub(super) fn without_member(body: &[u8], path: &[String], value: &str) -> Option<Bytes> {
    let document = str::from_utf8(body).ok()?;
    (member(document, path)? == value).then(|| with_member(body, path, "").ok())?
}

fn member(object: &str, path: &[String]) -> Option<String> {
    let (name, rest) = path.split_first()?;
    let Members(members) = serde_json::from_str(object).ok()?;
    let mut named = members.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    let ((_, value), None) = (named.next()?, named.next()) else { return None };
    if rest.is_empty() { serde_json::from_str(value.get()).ok() } else { member(value.get(), rest) }
}

fn write_object(out: &mut String, object: Option<&RawValue>, path: &[String], secret: &str) -> Result<(), String> {
    let Some((name, rest)) = path.split_first() else {
        write_text(out, secret);
        return Ok(());
    };
    let members = object.map_or(Ok(Members(Vec::new())), |object| serde_json::from_str(object.get()));
    let Members(members) = members.map_err(|_| NO_OBJECT.to_owned())?;
    out.push('{');
    // Some servers do not tell upper from lower case: no other spelling of the name may stay beside it.
    for (other, value) in members.iter().filter(|(other, _)| !other.eq_ignore_ascii_case(name)) {
        write_text(out, other);
        out.push(':');
        out.push_str(value.get());
        out.push(',');
    }
    let mut inner = members.iter().filter(|(other, _)| !rest.is_empty() && other == name).map(|(_, value)| *value);
    let (first, second) = (inner.next(), inner.next());
    if second.is_some() {
        return Err(format!("the body has `{name}` twice, and a credential has to be put into it"));
    }
    write_text(out, name);
    out.push(':');
    write_object(out, first, rest, secret)?;
    out.push('}');
    Ok(())
}

/// As a JSON string (RFC 8259 section 7), without a copy that nobody wipes.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            plain => out.push(plain),
        }
    }
    out.push('"');
}

fn text(body: &[u8]) -> Result<&str, String> {
    str::from_utf8(body).map_err(|_| "the form is not text".to_owned())
}

/// As octets that are wiped when the last of them is gone.
fn wiped(mut text: Zeroizing<String>) -> Bytes {
    Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *text).into_bytes()))
}

// === impl Members ===

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

const NO_OBJECT: &str = "the credential stands in a JSON object, which the body is not";

const FORM: &str = "application/x-www-form-urlencoded";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_set_and_the_rest_stays_as_it_is() {
        let path = |pointer: &str| pointer.split('/').map(str::to_owned).collect::<Vec<_>>();
        let table = [
            (r#"{"a": 1.0e+2, "t":"own"}"#, "t", r#"{"a":1.0e+2,"t":"s\"1"}"#),
            (r#"{"T":"own","t":1,"\u0074":2}"#, "t", r#"{"t":"s\"1"}"#),
            ("{}", "a/b", r#"{"a":{"b":"s\"1"}}"#),
            (
                r#"{"a":{"x":[ 1, 2 ]},"é":12345678901234567890}"#,
                "a/b",
                r#"{"é":12345678901234567890,"a":{"x":[ 1, 2 ],"b":"s\"1"}}"#,
            ),
        ];
        for (body, pointer, expected) in table {
            let written = with_member(body.as_bytes(), &path(pointer), "s\"1").unwrap();
            assert_eq!(str::from_utf8(&written).unwrap(), expected, "{body}");
        }
        for body in ["", "[]", "\"x\"", "{", r#"{"a":1}"#, r#"{"a":{},"a":{}}"#] {
            assert!(with_member(body.as_bytes(), &path("a/b"), "s").is_err(), "{body}");
        }
    }

    #[test]
    fn a_form_field_is_set_once() {
        let written = with_field(b"a=1&TOKEN=own&t%6Fken=own&b=+", "token", "s/1 &").unwrap();
        assert_eq!(written, "a=1&b=+&token=s%2F1%20%26");
        assert_eq!(with_field(b"", "token", "s").unwrap(), "token=s");
    }
}
