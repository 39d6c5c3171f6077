//! `allowed_recipients`: who a message may go to without a reviewer.
//!
//! A recipient is compared whole: a list in one text is taken apart, and what is no plain address is outside.

use crate::case::{Case, Opinion};
use crate::extract::RECIPIENTS;
use crate::fault::{Code, Faults};
use crate::glob::Glob;
use crate::json::Unreadable;
use crate::yaml::Step;

/// Patterns of addresses, in lower case.
#[derive(Debug)]
pub(crate) struct Recipients(Vec<Glob>);

// === impl Recipients ===

impl Recipients {
    pub(crate) fn compile(entries: &[String], faults: &mut Faults<'_>) -> Self {
        let list = Step::Key(KEY);
        if entries.is_empty() {
            faults.note(&[list], Code::EmptyList, "the list is empty", "list addresses or remove the key");
        }
        let mut globs = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            match Glob::parse(&entry.to_ascii_lowercase()) {
                Ok(_) if entry.bytes().all(|byte| byte == b'*') => {
                    let remedy = "name a domain, such as `*@example.com`, or remove the key";
                    faults.note(
                        &[list, Step::Item(at)],
                        Code::MatchesAll,
                        "the pattern allows every recipient",
                        remedy,
                    );
                }
                Ok(glob) => globs.push(glob),
                Err(flaw) => faults.note_flaw(&[list, Step::Item(at)], flaw),
            }
        }
        Self(globs)
    }

    pub(crate) fn judge(&self, case: &Case<'_>) -> Option<Opinion> {
        let remedy = "send to allowed recipients only, or wait for a reviewer";
        let measured = case.reading(RECIPIENTS).and_then(|reading| match reading.texts() {
            [] => Err(Unreadable("there is none")),
            texts => Ok(texts),
        });
        let texts = match measured {
            Ok(texts) => texts,
            Err(why) => return Some(Opinion::hold(format!("the recipients cannot be measured: {why}"), remedy)),
        };
        let all: Vec<&str> = texts.iter().flat_map(|text| split(text)).collect();
        let outside = all.iter().filter(|text| !self.allows(text)).count();
        let reason = format!("{outside} of {} recipients are not allowed", all.len());
        (outside > 0).then(|| Opinion::hold(reason, remedy))
    }

    fn allows(&self, text: &str) -> bool {
        address(text).is_some_and(|address| self.0.iter().any(|glob| glob.matches(&address)))
    }
}

/// The recipients of a list in one text.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';'])
}

/// The address of `a@b.c` or `Name <a@b.c>`, in lower case.
fn address(text: &str) -> Option<String> {
    let text = text.trim();
    let address = match text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        Some((name, _)) if name.contains(['@', '<', '>']) => return None,
        Some((_, address)) => address,
        None => text,
    };
    let plain =
        |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>' | '(' | ')' | '"' | '\\' | '%' | '!');
    let one_at = address.matches('@').count() <= 1;
    (one_at && !address.is_empty() && address.chars().all(plain)).then(|| address.to_ascii_lowercase())
}

pub(crate) const KEY: &str = "allowed_recipients";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_plain_addresses_only() {
        assert_eq!(address(" Me@Example.COM ").as_deref(), Some("me@example.com"));
        assert_eq!(address("Jane Doe <jane@example.com>").as_deref(), Some("jane@example.com"));
        assert_eq!(address("+4930123").as_deref(), Some("+4930123"));
        let table = [
            "",
            "a b@example.com",
            "evil@x.org <a@example.com>",
            "<a@x.org> <a@example.com>",
            "a@x.org@example.com",
            "a@x.org%40@example.com",
            "x.org!a@example.com",
            "\"a@x.org\"@example.com",
            "a@x.org(@example.com",
            "a@x.org\n@example.com",
            "a@example.com>",
        ];
        for text in table {
            assert_eq!(address(text), None, "{text:?}");
        }
    }
}
