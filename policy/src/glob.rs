//! Patterns of short texts: names, header values, addresses.

use crate::fault::{Code, Flaw};

/// Text in which `*` stands for any characters, also none. Everything else is compared as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    first: String,
    /// What follows each `*`.
    rest: Vec<String>,
}

// === impl Glob ===

impl Glob {
    pub(crate) fn parse(text: &str) -> Result<Self, Flaw> {
        if text.is_empty() || text.len() > MAX_LENGTH {
            return Err(Flaw {
                code: Code::BadGlob,
                message: "the pattern is empty or too long",
                remedy: "write text, `*` for any part of it",
            });
        }
        let mut pieces = text.split('*').map(str::to_owned);
        Ok(Self { first: pieces.next().unwrap_or_default(), rest: pieces.collect() })
    }

    /// Whether the whole text is meant. The time is linear in the text for each `*`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let Some(mut left) = text.strip_prefix(&self.first) else { return false };
        let Some((last, middle)) = self.rest.split_last() else { return left.is_empty() };
        for piece in middle {
            match left.split_once(piece.as_str()) {
                Some((_, after)) => left = after,
                None => return false,
            }
        }
        left.ends_with(last.as_str())
    }

    /// Whether some text that begins so may be meant.
    pub(crate) fn may_begin(&self, start: &str) -> bool {
        self.first.starts_with(start) || (!self.rest.is_empty() && start.starts_with(&self.first))
    }
}

const MAX_LENGTH: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_whole_texts() {
        let table = [
            ("a", "a", true),
            ("a", "ab", false),
            ("a", "", false),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*@x.com", "me@x.com", true),
            ("*@x.com", "me@x.com.evil", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("a**b", "ab", true),
            ("*", "", true),
        ];
        for (pattern, text, matches) in table {
            assert_eq!(Glob::parse(pattern).unwrap().matches(text), matches, "{pattern} {text}");
        }
        assert!(Glob::parse("").is_err());
        for (pattern, start, may) in [("a.b", "a.", true), ("*b", "a.", true), ("ab*", "a", true), ("b*", "a.", false)]
        {
            assert_eq!(Glob::parse(pattern).unwrap().may_begin(start), may, "{pattern} {start}");
        }
    }
}
