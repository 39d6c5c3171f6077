//! A strict reading of `application/x-www-form-urlencoded` text: form bodies and queries.
//!
//! Every pair is kept, in order; which of two equal names counts is not for the gate to guess.

use crate::json::Unreadable;

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

/// The one value of a name.
pub(crate) fn only(pairs: &[(String, String)], name: &str) -> Result<String, Unreadable> {
    let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.clone()),
        (Some(_), Some(_)) => Err(Unreadable("the value is given more than once")),
        (None, _) => Err(Unreadable("the value is missing")),
    }
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

const MAX_PAIRS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_values() {
        let read = pairs("a=1&b=x+y%26&a=2&c&&d%5B%5D=3").unwrap();
        assert_eq!(read.len(), 5);
        assert_eq!(only(&read, "b").unwrap(), "x y&");
        assert_eq!(only(&read, "d[]").unwrap(), "3");
        assert_eq!(only(&read, "a"), Err(Unreadable("the value is given more than once")));
        assert_eq!(only(&read, "z"), Err(Unreadable("the value is missing")));
    }

    #[test]
    fn refuses_malformed_escapes() {
        for text in ["a=%", "a=%4", "a=%GG", "a=%ff", "a=%c0%ae", "a%00=1", "a=%+1"] {
            assert!(pairs(text).is_err(), "{text}");
        }
    }
}
