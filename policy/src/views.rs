//! Other readings of a text: unescaped, without markup, decoded from base64 and hex.
//!
//! A reading is only ever added, so none of them can hide what the text itself shows. Words that happen to look like
//! base64 decode to octets that are no text, and are dropped.

use unicode_normalization::UnicodeNormalization;

use crate::unescape::{number, unescape};

/// Makes one other reading of a text, if there is one.
type View = fn(&str) -> Option<String>;

/// The different readings of a text, two steps deep, in the order in which they are found. None when they have more
/// octets than are left, from which they are taken.
pub(crate) fn derive(text: &str, left: &mut usize) -> Option<Vec<String>> {
    let mut readings = Vec::new();
    step(text, &mut readings, left)?;
    for at in 0..readings.len() {
        let first = readings.get(at).cloned()?;
        step(&first, &mut readings, left)?;
    }
    Some(readings)
}

/// Characters that are not seen, or only decorate the one before: default ignorables and combining marks.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(u32::from(c),
        0xAD | 0x0300..=0x036F | 0x061C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x1AB0..=0x1AFF
        | 0x1DC0..=0x1DFF | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0x20D0..=0x20FF | 0x3164
        | 0xFE00..=0xFE0F | 0xFE20..=0xFE2F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFF8 | 0x1BCA0..=0x1BCA3
        | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}

/// Adds the readings one step away. Each is made only after the ones before it are paid for.
fn step(text: &str, readings: &mut Vec<String>, left: &mut usize) -> Option<()> {
    // Most texts have nothing that these readings begin with, and one look says so.
    let signs = text.bytes().fold(0, |signs, byte| signs | sign(byte));
    let views: [(u8, View); 6] = [
        (ESCAPE, unescape),
        (MARKUP, without_markup),
        (SPACE, |text| decode(compact(text).as_bytes())),
        (GAP, hex_rows),
        (ANY, tokens),
        (SEPARATOR, parts),
    ];
    let views = views.iter().filter(|(needed, _)| signs & needed != 0);
    let plain = plain(text, *left);
    for reading in std::iter::once(plain).chain(views.map(|(_, view)| view(text))).flatten() {
        if reading != text && !readings.contains(&reading) {
            *left = left.checked_sub(reading.len())?;
            readings.push(reading);
        }
    }
    Some(())
}

/// Which readings an octet may be part of.
fn sign(byte: u8) -> u8 {
    match byte {
        b'%' | b'=' | b'\\' | b'&' => ANY | GAP | ESCAPE,
        b'<' => ANY | GAP | MARKUP,
        b' ' | b'\n' => ANY | GAP | SPACE,
        b'/' | b'-' | b'_' | b'+' => ANY | GAP | SEPARATOR,
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => ANY,
        _ => ANY | GAP,
    }
}

/// What all words stand for that are hex or base64, a line each.
fn tokens(text: &str) -> Option<String> {
    decode_all(words(text))
}

/// What the parts of such words stand for: `/`, `-` and `_` are digits of base64 and separators of paths and names.
fn parts(text: &str) -> Option<String> {
    let words = words(text).filter(|word| word.iter().any(is_separator));
    decode_all(words.flat_map(|word| word.split(is_separator)))
}

/// The longest pieces that base64 may be made of.
fn words(text: &str) -> impl Iterator<Item = &[u8]> {
    text.as_bytes().split(|byte| !is_base64(*byte))
}

fn decode_all<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut lines = String::new();
    for line in words.filter_map(decode) {
        lines.extend([line.as_str(), "\n"]);
    }
    (!lines.is_empty()).then_some(lines)
}

/// The text with compatibility forms folded and nothing invisible; none when it is plain already. One character may
/// stand for eighteen, so what is longer than `limit` ends there.
fn plain(text: &str, limit: usize) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let mut plain = String::new();
    for c in text.nfkc().filter(|c| !is_invisible(*c)) {
        if plain.len() > limit {
            break;
        }
        plain.push(c);
    }
    Some(plain)
}

/// The text without what stands between `<` and `>`.
fn without_markup(text: &str) -> Option<String> {
    let mut pieces = text.split('<');
    let mut left = pieces.next()?.to_owned();
    let mut changed = false;
    for piece in pieces {
        match piece.split_once('>') {
            // A space, because what stood in two elements is not one word; terms may be torn by one anyway.
            Some((_, after)) => left.extend([" ", after]),
            None => left.extend(["<", piece]),
        }
        changed = true;
    }
    changed.then_some(left)
}

/// The text without white space: a line of base64 is often broken.
fn compact(text: &str) -> String {
    let broken = text.contains(['\n', ' '])
        && text.chars().all(|c| c == '=' || c.is_whitespace() || u8::try_from(c).is_ok_and(is_base64));
    if broken { text.split_whitespace().collect() } else { String::new() }
}

/// What rows of octets in hex stand for, a line each: `72 65 66`, `72:65:66`, `0x72, 0x65, 0x66`.
fn hex_rows(text: &str) -> Option<String> {
    let mut rows = String::new();
    let mut row = Vec::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).chain([""]) {
        match number(word.strip_prefix("0x").unwrap_or(word), 2) {
            Some((octet, "")) => row.extend(u8::try_from(octet)),
            Some(_) | None => {
                let whole = std::mem::take(&mut row);
                // Two digits before the row may be a number of their own, which makes no valid text.
                if whole.len() >= SHORTEST_ROW {
                    rows.extend([String::from_utf8_lossy(&whole).as_ref(), "\n"]);
                }
            }
        }
    }
    (!rows.is_empty()).then_some(rows)
}

/// The text that a word of hex or base64 stands for.
fn decode(word: &[u8]) -> Option<String> {
    let padding = word.iter().rev().take_while(|byte| **byte == b'=').count();
    let word = word.get(..word.len().saturating_sub(padding))?;
    if word.len() < SHORTEST {
        return None;
    }
    readable(hex(word)).or_else(|| readable(base64(word)))
}

fn readable(octets: Option<Vec<u8>>) -> Option<String> {
    let text = String::from_utf8(octets?).ok()?;
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    (!text.contains(odd)).then_some(text)
}

fn hex(word: &[u8]) -> Option<Vec<u8>> {
    if word.len() < SHORTEST_HEX || !word.len().is_multiple_of(2) || !word.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits: Option<Vec<u8>> = word.iter().map(|byte| u8::try_from(char::from(*byte).to_digit(16)?).ok()).collect();
    Some(digits?.chunks_exact(2).map(|pair| pair.iter().fold(0u8, |octet, digit| (octet << 4) | digit)).collect())
}

/// Both alphabets of RFC 4648, with or without padding, whatever the unused bits are.
fn base64(word: &[u8]) -> Option<Vec<u8>> {
    if word.len() % 4 == 1 {
        return None;
    }
    let mut octets = Vec::with_capacity(word.len().saturating_mul(3) / 4);
    let (mut bits, mut held) = (0u32, 0u32);
    for &byte in word {
        let digit = match byte {
            b'A'..=b'Z' => byte.saturating_sub(b'A'),
            b'a'..=b'z' => byte.saturating_sub(b'a').saturating_add(26),
            b'0'..=b'9' => byte.saturating_sub(b'0').saturating_add(52),
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = ((bits << 6) | u32::from(digit)) & 0xFFFF;
        held = held.saturating_add(6);
        if held >= 8 {
            held = held.saturating_sub(8);
            let octet = u8::try_from((bits >> held) & 0xFF).ok()?;
            // A word that only looks like base64 is nearly always found out here.
            let is_text = octet >= b' ' || matches!(octet, b'\n' | b'\r' | b'\t');
            if !is_text || (octets.is_empty() && matches!(octet, 0x80..=0xC1 | 0xF5..)) {
                return None;
            }
            octets.push(octet);
        }
    }
    Some(octets)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || is_separator(&byte)
}

fn is_separator(byte: &u8) -> bool {
    matches!(byte, b'+' | b'/' | b'-' | b'_')
}

const ANY: u8 = 1;
const ESCAPE: u8 = 2;
const GAP: u8 = 4;
const MARKUP: u8 = 8;
const SEPARATOR: u8 = 16;
const SPACE: u8 = 32;
/// Four octets of base64, and four of hex: shorter ones are words.
const SHORTEST: usize = 6;
const SHORTEST_HEX: usize = 8;
const SHORTEST_ROW: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        all_within(text, 10_000).unwrap()
    }

    fn all_within(text: &str, mut left: usize) -> Option<Vec<String>> {
        derive(text, &mut left)
    }

    #[test]
    fn finds_what_is_encoded() {
        let table = [
            "%72efund",
            "%2572efund",
            "r&#101;fund",
            "&#x72;&#101;fund",
            "&amp;#114;efund",
            "re&shy;fund",
            r"\u0072efund",
            r"\x72efund",
            r"\u{72}efund",
            r"\\u0072efund",
            "=72efund",
            "re=\r\nfund",
            "<b>refund</b>",
            "&lt;b>refund",
            "cmVmdW5k",
            "see cmVmdW5k!",
            "https://x.org/cmVmdW5k",
            "id_cmVmdW5k",
            "data:text/plain;base64,cmVmdW5k",
            "IHJlZnVuZA==",
            "Y21WbWRXNWs=",
            "cmVm\ndW5k",
            "726566756e64",
            "72 65 66 75 6E 64",
            "0x72,0x65,0x66,0x75,0x6e,0x64",
            "see ad 72:65:66:75:6e:64",
            "ｒｅｆｕｎｄ",
            "re\u{200b}fund",
        ];
        for text in table {
            assert!(all(text).iter().any(|reading| reading.contains("refund")), "{text}: {:?}", all(text));
        }
        assert!(all(r"\ud83d\ude00 ok").contains(&"\u{1f600} ok".to_owned()));
    }

    #[test]
    fn finds_nothing_in_plain_text() {
        for text in ["", "hello", "the quick brown fox jumps over the lazy dog", "a=b&c=d", "100% of it", "a < b"] {
            assert!(all(text).is_empty(), "{text}: {:?}", all(text));
        }
    }

    #[test]
    fn readings_are_bounded_and_differ() {
        let text = "\u{e9}<b>%41=3D&#65;cmVmdW5k ".repeat(1_000);
        let readings = all_within(&text, 8 * text.len()).unwrap();
        for (at, reading) in readings.iter().enumerate() {
            assert!(*reading != text && !readings.iter().skip(at + 1).any(|other| other == reading), "{at}");
        }
        let length: usize = readings.iter().map(String::len).sum();
        assert!(all_within(&text, length - 1).is_none());
        assert!(all_within(&"\u{fdfa}".repeat(1_000), 8_000).is_none());
    }
}
