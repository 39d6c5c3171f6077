//! A strict reading of JSON (RFC 8259) that keeps numbers as they are written.
//!
//! Parsers disagree about equal keys, huge numbers, comments and trailing data; a body on which they may disagree is
//! not read at all. Strings are handed to `serde_json`; only the structure is read here.

use std::collections::HashSet;

use crate::spelling::Spelling;

/// Why something has no one reading. A fixed text, so no content of a request can slip into a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(pub(crate) &'static str);

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Bool(bool),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
    Null,
    /// The literal.
    Number(String),
    Text(String),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: usize,
}

// === impl Json ===

impl Json {
    /// Reads one value and nothing after it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader { bytes, at: 0, nodes: 0 };
        let value = reader.value(0)?;
        reader.skip_space();
        if reader.peek().is_some() { Err(Unreadable("there is data after the JSON value")) } else { Ok(value) }
    }

    /// Follows a JSON pointer (RFC 6901), already split and unescaped.
    pub(crate) fn at(&self, pointer: &[String]) -> Option<&Self> {
        pointer.iter().try_fold(self, |value, token| match value {
            Self::Map(entries) => entries.iter().find(|(key, _)| key == token).map(|(_, value)| value),
            Self::List(items) => {
                let plain = token == "0" || !token.starts_with(['0', '+']);
                items.get(token.parse::<usize>().ok().filter(|_| plain)?)
            }
            Self::Bool(_) | Self::Null | Self::Number(_) | Self::Text(_) => None,
        })
    }

    /// Takes out what stands at such a pointer; an item of a list leaves null behind.
    pub(crate) fn remove(&mut self, pointer: &[String]) {
        let Some((token, rest)) = pointer.split_first() else {
            *self = Self::Null;
            return;
        };
        match self {
            Self::Map(entries) if rest.is_empty() => entries.retain(|(key, _)| key != token),
            Self::Map(entries) => {
                entries.iter_mut().filter(|(key, _)| key == token).for_each(|(_, value)| value.remove(rest));
            }
            Self::List(items) => {
                if let Some(item) = token.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                    item.remove(rest);
                }
            }
            Self::Bool(_) | Self::Null | Self::Number(_) | Self::Text(_) => {}
        }
    }

    /// The items of a list; none for another value.
    pub(crate) fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            Self::Bool(_) | Self::Map(_) | Self::Null | Self::Number(_) | Self::Text(_) => None,
        }
    }

    /// The keys of an object; none for another value.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        let entries = match self {
            Self::Map(entries) => entries.as_slice(),
            Self::Bool(_) | Self::List(_) | Self::Null | Self::Number(_) | Self::Text(_) => &[],
        };
        entries.iter().map(|(key, _)| key)
    }

    /// Whether an object has another key that some servers take for this one.
    pub(crate) fn has_rival(&self, key: &str) -> bool {
        let spelling = Spelling::of(key);
        self.keys().any(|other| other != key && spelling.may_be(&Spelling::of(other)))
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Json, Unreadable> {
        self.nodes = self.nodes.saturating_add(1);
        if depth > MAX_DEPTH {
            return Err(Unreadable("the JSON is nested too deeply"));
        }
        if self.nodes > MAX_NODES {
            return Err(Unreadable("the JSON has too many values"));
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.text().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
            None => Err(Unreadable("the JSON ends early")),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Json, Unreadable> {
        let (mut entries, mut keys) = (Vec::new(), HashSet::new());
        self.at = self.at.saturating_add(1);
        if self.take(b'}') {
            return Ok(Json::Map(entries));
        }
        loop {
            self.skip_space();
            let key = self.text()?;
            if !keys.insert(key.clone()) {
                return Err(Unreadable("the JSON has equal keys in one object"));
            }
            if !self.take(b':') {
                return Err(MALFORMED);
            }
            entries.push((key, self.value(depth.saturating_add(1))?));
            if self.take(b'}') {
                return Ok(Json::Map(entries));
            }
            if !self.take(b',') {
                return Err(MALFORMED);
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, Unreadable> {
        let mut items = Vec::new();
        self.at = self.at.saturating_add(1);
        if self.take(b']') {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value(depth.saturating_add(1))?);
            if self.take(b']') {
                return Ok(Json::List(items));
            }
            if !self.take(b',') {
                return Err(MALFORMED);
            }
        }
    }

    fn text(&mut self) -> Result<String, Unreadable> {
        let rest = self.rest();
        if rest.first() != Some(&b'"') {
            return Err(MALFORMED);
        }
        let mut escaped = false;
        let closing = rest.iter().skip(1).position(|byte| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        });
        // The closing quote and the opening one, which `position` did not count.
        let length = closing.map(|at| at.saturating_add(2)).ok_or(Unreadable("the JSON ends early"))?;
        let literal = rest.get(..length).ok_or(MALFORMED)?;
        self.at = self.at.saturating_add(length);
        serde_json::from_slice(literal).map_err(|_| Unreadable("a JSON string is malformed"))
    }

    fn number(&mut self) -> Result<Json, Unreadable> {
        let rest = self.rest();
        let in_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !in_number(byte)).unwrap_or(rest.len());
        let literal = rest.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(MALFORMED)?;
        // Syntax only: the value of a number too big for a float is of no interest here.
        if serde_json::from_str::<serde::de::IgnoredAny>(literal).is_err() {
            return Err(Unreadable("a JSON number is malformed"));
        }
        self.at = self.at.saturating_add(length);
        Ok(Json::Number(literal.to_owned()))
    }

    fn word(&mut self) -> Result<Json, Unreadable> {
        for (word, value) in [("true", Json::Bool(true)), ("false", Json::Bool(false)), ("null", Json::Null)] {
            if self.rest().starts_with(word.as_bytes()) {
                self.at = self.at.saturating_add(word.len());
                return Ok(value);
            }
        }
        Err(MALFORMED)
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.at = self.at.saturating_add(usize::from(found));
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at = self.at.saturating_add(1);
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
}

const MALFORMED: Unreadable = Unreadable("the JSON is malformed");
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values() {
        let json = Json::read(br#" {"a":[1,-2.50e+3,true],"b":{"c~/":"r\u0065fund \ud83d\ude00"},"":null} "#).unwrap();
        let at = |tokens: &[&str]| json.at(&tokens.iter().map(|token| (*token).to_owned()).collect::<Vec<_>>());
        assert_eq!(at(&["a", "1"]), Some(&Json::Number("-2.50e+3".to_owned())));
        assert_eq!(at(&["b", "c~/"]), Some(&Json::Text("refund \u{1f600}".to_owned())));
        assert_eq!(at(&[""]), Some(&Json::Null));
        for missing in [&["a", "01"][..], &["a", "3"], &["a", "+1"], &["a", "-"], &["b", "x"], &["a", "0", "x"]] {
            assert_eq!(at(missing), None, "{missing:?}");
        }
        assert!(Json::read(b"[1e999, 18446744073709551616]").is_ok(), "size is judged where the number is used");
    }

    #[test]
    fn refuses_what_parsers_disagree_on() {
        let table: [&[u8]; 26] = [
            b"",
            b" ",
            b"{}{}",
            b"{}\n{}",
            b"{\"a\":1,\"a\":2}",
            b"{\"a\":1,\"\\u0061\":2}",
            b"[{\"x\":{\"a\":1,\"a\":2}}]",
            b"{\"a\":1,}",
            b"[1,]",
            b"{'a':1}",
            b"{a:1}",
            b"// c\n{}",
            b"/* c */{}",
            b"NaN",
            b"Infinity",
            b"0x10",
            b"01",
            b"+1",
            b".5",
            b"1.",
            b"-",
            b"\"\\ud800\"",
            b"\"\x01\"",
            b"\"\xff\"",
            b"\"open",
            b"\xef\xbb\xbf{}",
        ];
        for bytes in table {
            assert!(Json::read(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn is_bounded() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Json::read(deep(64).as_bytes()).is_ok());
        for levels in [66, 129, 1_000_000] {
            assert!(Json::read(deep(levels).as_bytes()).is_err());
        }
        assert!(Json::read(format!("[{}1]", "1,".repeat(100_000)).as_bytes()).is_err());
    }
}
