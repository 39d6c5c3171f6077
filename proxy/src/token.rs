//! Finds a gate token in what would leave: an agent's credential at the gate is nobody else's business, and an agent that
//! sends it somewhere was most likely told to.
//!
//! Looks through the spellings that text goes through on its way, several of them inside each other: percent signs, escapes
//! of JSON and of scripts, HTML entities, quoted-printable, UTF-16, base64, hexadecimal, capitals. An agent that means to
//! hide its token can always invent one more.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use policy::Facts;

/// Whether a gate token stands anywhere in what would be sent.
pub fn is_in(facts: &Facts) -> bool {
    let names = facts.headers.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    let target = [facts.authority.host().as_str(), facts.path.as_str(), facts.query.as_deref().unwrap_or_default()];
    let mut texts = names.chain(target).map(str::as_bytes).chain([facts.body.bytes().as_ref()]);
    texts.any(holds_token)
}

fn holds_token(text: &[u8]) -> bool {
    if has_mark(text) {
        return true;
    }
    let mut text = plainer(text);
    for _ in 1..NESTED {
        match &text {
            Some(plain) if has_mark(plain) => return true,
            Some(plain) => text = plainer(plain),
            None => return false,
        }
    }
    text.is_some_and(|plain| has_mark(&plain))
}

fn has_mark(text: &[u8]) -> bool {
    SEARCH.as_ref().is_none_or(|search| search.is_match(text))
}

/// The text with every escape replaced by what it stands for, and without NULs; nothing when there is none.
fn plainer(text: &[u8]) -> Option<Vec<u8>> {
    let found = [memchr::memchr3(b'\0', b'%', b'=', text), memchr::memchr2(b'\\', b'&', text)];
    let first = found.into_iter().flatten().min()?;
    let mut plain = text.get(..first)?.to_vec();
    let mut rest = text.get(first..)?;
    while let Some((&byte, after)) = rest.split_first() {
        let (meant, taken) = escape(byte, after);
        plain.extend(meant);
        rest = after.get(taken..).unwrap_or_default();
    }
    (plain != text).then_some(plain)
}

/// What a byte and those after it stand for, and how many of these belong to it. NULs are those of UTF-16.
fn escape(byte: u8, after: &[u8]) -> (Option<u8>, usize) {
    let hex = |from: usize, to: usize| {
        let digits = after.get(from..to).and_then(|digits| str::from_utf8(digits).ok());
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(|meant| (Some(meant), to))
    };
    let found = match (byte, after) {
        (0, _) => Some((None, 0)),
        (b'%', [b'u' | b'U', b'0', b'0', ..]) => hex(3, 5),
        (b'%' | b'=', _) => hex(0, 2),
        (b'\\', [b'u' | b'U', b'0', b'0', ..]) => hex(3, 5),
        (b'\\', [b'x' | b'X', ..]) => hex(1, 3),
        (b'&', [b'#', number @ ..]) => entity(number).map(|(meant, taken)| (Some(meant), taken + 1)),
        _ => None,
    };
    found.unwrap_or((Some(byte), 0))
}

/// A numeric character reference after its `&#`, and how long it is.
fn entity(text: &[u8]) -> Option<(u8, usize)> {
    let end = text.iter().take(10).position(|byte| *byte == b';')?;
    let number = str::from_utf8(text.get(..end)?).ok()?;
    let meant = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    Some((u8::try_from(meant.ok()?).ok()?, end + 1))
}

/// How many escapes inside each other are undone.
const NESTED: usize = 4;

/// All marks at once, in one pass, in any case: a token's letters are those of base 32, which say the same in capitals.
/// Without it nothing would leave.
static SEARCH: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(MARKS).ok());

/// What every token starts with (see [`Kind::prefix`](crate::principal::Kind::prefix)), in hexadecimal, and in base64 at
/// its three alignments without the characters that depend on what stands beside it.
const MARKS: &[&str] = &[
    "writ_agt_",
    "777269745f6167745f",
    "d3JpdF9hZ3Rf",
    "dyaXRfYWd0X",
    "3cml0X2FndF",
    "writ_op_",
    "777269745f6f705f",
    "d3JpdF9vcF",
    "dyaXRfb3Bf",
    "3cml0X29wX",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_any_spelling() {
        let utf16: Vec<u8> = "a=writ_agt_x".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cases: Vec<Vec<u8>> = [
            "writ_agt_abc",
            "x-WRIT_OP_ABC",
            "a=w%72it_agt_abc",
            "Writ_Agt_Abc",
            "a=%77rit%5Fagt%5fabc",
            "%2577rit%255Fagt_abc",
            "{\"t\":\"writ\\u005fagt\\u005Fabc\"}",
            "'\\x77rit_agt_abc'",
            "&#119;rit&#x5F;agt_abc",
            "writ=5Fagt=5Fabc",
            "%u0077rit_agt_abc",
            "%5Cu0077rit_agt_abc",
            "Basic ZGVmYXVsdDp3cml0X2FndF9hYmM=",
            "d3JpdF9vcF9hYmM",
            "777269745F6167745F616263",
            "a\0w\0r\0i\0t\0_\0o\0p\0_",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into();
        for text in cases.into_iter().chain([utf16]) {
            assert!(holds_token(&text), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn other_text_is_left_alone() {
        let long = "%".repeat(100_000) + &"%25".repeat(100_000) + &"&#".repeat(100_000);
        for text in
            ["", "writ", "writ-agt-abc", "writ_agent", "100%", "a=b&c=%", "\\u12", "&#;", "&#xfffff;", "%zz=x", &long]
        {
            assert!(!holds_token(text.as_bytes()), "{text:.40}");
        }
    }
}
