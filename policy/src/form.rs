//! A strict reading of `application/x-www-form-urlencoded` text: form bodies and queries.
//!
//! Every pair is kept, in order; which of two equal names counts is not for the gate to guess.

use crate::json::Unreadable;
use crate::spelling::Spelling;

/// A name, and its value unless it is a file or no text.
pub(crate) type Field = (String, Option<String>);

/// The decoded names and values.
pub(crate) fn pairs(text: &str) -> Result<Vec<(String, String)>, Unreadable> {
    let mut pairs = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decode(name, Plus::Space)?, decode(value, Plus::Space)?));
        if pairs.len() > MAX_PAIRS {
            return Err(Unreadable("there are too many form fields"));
        }
    }
    Ok(pairs)
}

/// The decoded fields of a text that every parser splits into the same pairs.
pub(crate) fn fields(text: &str) -> Result<Vec<Field>, Unreadable> {
    if text.contains(';') {
        return Err(Unreadable("a semicolon may separate form fields"));
    }
    Ok(pairs(text)?.into_iter().map(|(name, value)| (name, Some(value))).collect())
}

/// The one value of a name. Names in `known` are looked at on their own; any other that may be read as this one
/// leaves no one value.
pub(crate) fn only(fields: &[Field], name: &str, known: &[&str]) -> Result<String, Unreadable> {
    let mut values = all(fields, name, known)?;
    match (values.pop(), values.is_empty()) {
        (Some(value), true) => Ok(value),
        (Some(_), false) => Err(SEVERAL),
        (None, _) => Err(Unreadable("the value is missing")),
    }
}

/// Every value of a name, for what may have several. Other names are refused as above.
pub(crate) fn all(fields: &[Field], name: &str, known: &[&str]) -> Result<Vec<String>, Unreadable> {
    let spelling = Spelling::of(name);
    let mut others = fields.iter().filter(|(key, _)| key != name);
    others.try_for_each(|(key, _)| spelling.refuse(key, known))?;
    let values = fields.iter().filter(|(key, _)| key == name);
    values.map(|(_, value)| value.clone().ok_or(Unreadable("the value is a file or no text"))).collect()
}

/// What a plus sign means: a space in forms and queries, itself in paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plus {
    Itself,
    Space,
}

/// Decodes percent escapes once.
pub(crate) fn decode(text: &str, plus: Plus) -> Result<String, Unreadable> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => escape(bytes.next(), bytes.next()).ok_or(Unreadable("a percent escape is malformed"))?,
            b'+' if plus == Plus::Space => b' ',
            byte => byte,
        });
    }
    match String::from_utf8(decoded) {
        Ok(text) if text.contains('\0') => Err(Unreadable("a percent escape is a null octet")),
        Ok(text) => Ok(text),
        Err(_) => Err(Unreadable("the percent escapes are not UTF-8")),
    }
}

fn escape(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let octet = digit(high?)?.checked_mul(16)?.checked_add(digit(low?)?)?;
    u8::try_from(octet).ok()
}

/// Why a value that must be one is none.
pub(crate) const SEVERAL: Unreadable = Unreadable("the value is given more than once");
const MAX_PAIRS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_values() {
        let read = pairs("a=1&b=x+y%26&a=2&c&&d%5B%5D=3").unwrap();
        assert_eq!(read.len(), 5);
    }

    #[test]
    fn reads_one_value() {
        let read = fields("a=1&b=x+y%26&a=2&c&&d%5B%5D=3&e=4&E=5").unwrap();
        assert_eq!(only(&read, "b", &[]).unwrap(), "x y&");
        assert_eq!(only(&read, "d[]", &[]).unwrap(), "3");
        assert_eq!(only(&read, "a", &[]), Err(Unreadable("the value is given more than once")));
        assert_eq!(only(&read, "z", &[]), Err(Unreadable("the value is missing")));
        assert!(only(&read, "d", &[]).is_err() && only(&read, "e", &[]).is_err());
        assert_eq!(only(&read, "e", &["e", "E"]).unwrap(), "4");
        assert!(fields("a=1;a=2").is_err());
    }

    #[test]
    fn refuses_malformed_escapes() {
        for text in ["a=%", "a=%4", "a=%GG", "a=%ff", "a=%c0%ae", "a%00=1", "a=%+1"] {
            assert!(pairs(text).is_err(), "{text}");
        }
    }
}
