//! Looking for terms, however they are spelled.
//!
//! Term and text are folded alike: case, invisible characters, full-width and mathematical letters, common Latin
//! look-alikes from Cyrillic and Greek, accents, and digits for letters. What is not folded: other languages' words,
//! text inside images or archives, base64. A term must never be echoed from the text, only from the policy.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

/// The terms of one policy, compiled.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Finds terms between word boundaries of the folded view.
    words: Option<Regex>,
    /// Finds terms of several words where all separators are taken out.
    squeezed: Option<Regex>,
    /// From what the patterns find to the term as the policy writes it.
    written: BTreeMap<String, String>,
}

/// Why a list of terms is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TermsError {
    /// The term at this place has neither a letter nor a digit.
    Empty(usize),
    /// The list is too long to compile.
    TooMany,
}

/// How signs that may stand for letters are read; both readings are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signs {
    Letters,
    Separators,
}

// === impl Terms ===

impl Terms {
    pub(crate) fn compile<'t>(terms: &'t [String]) -> Result<Self, TermsError> {
        if let Some(at) = terms.iter().position(|term| fold(term, Signs::Separators).trim().is_empty()) {
            return Err(TermsError::Empty(at));
        }
        let both = |term: &'t String| [Signs::Separators, Signs::Letters].map(|signs| (fold(term, signs), term));
        let words: BTreeMap<String, &String> = terms.iter().flat_map(both).collect();
        let several = words.iter().filter(|(view, _)| view.trim().contains(' '));
        let squeezed: BTreeMap<String, &String> = several.map(|(view, term)| (view.replace(' ', ""), *term)).collect();
        let patterns = (alternatives(&words)?, alternatives(&squeezed)?);
        let written = words.into_iter().chain(squeezed).map(|(found, term)| (found, term.clone())).collect();
        Ok(Self { words: patterns.0, squeezed: patterns.1, written })
    }

    /// A term that the text holds, as the policy writes it.
    pub(crate) fn find(&self, text: &str) -> Option<&str> {
        let plain = self.find_folded(&fold(text, Signs::Separators));
        if plain.is_some() || !text.contains(SIGNS) {
            return plain;
        }
        self.find_folded(&fold(text, Signs::Letters))
    }

    fn find_folded(&self, view: &str) -> Option<&str> {
        let find = |pattern: &Option<Regex>, view: &str| Some(pattern.as_ref()?.find(view)?.as_str().to_owned());
        let found = find(&self.words, view)
            .or_else(|| find(&self.words, &join_letters(view)))
            .or_else(|| find(&self.squeezed, &view.replace(' ', "")))?;
        // What is found is always written somewhere; were it lost, it must still count.
        Some(self.written.get(&found).map_or("a blocked term", String::as_str))
    }
}

/// One pattern for all views; none for no view, because an empty pattern matches everything.
fn alternatives(views: &BTreeMap<String, &String>) -> Result<Option<Regex>, TermsError> {
    if views.is_empty() {
        return Ok(None);
    }
    let pattern = views.keys().map(|view| regex::escape(view)).collect::<Vec<_>>().join("|");
    RegexBuilder::new(&pattern).size_limit(MAX_COMPILED).build().map(Some).map_err(|_| TermsError::TooMany)
}

/// Words of folded letters and digits, with one space before, between and after them.
fn fold(text: &str, signs: Signs) -> String {
    let mut view = String::with_capacity(text.len().saturating_add(2));
    view.push(' ');
    for c in text.chars().filter(|c| !is_invisible(*c)) {
        for c in unstyle(c).to_lowercase().filter(|c| !is_invisible(*c)) {
            match letter(c, signs) {
                Some(letter) => view.push_str(letter.encode_utf8(&mut [0; 4])),
                None if view.ends_with(' ') => {}
                None => view.push(' '),
            }
        }
    }
    if !view.ends_with(' ') {
        view.push(' ');
    }
    view
}

/// The view with runs of single letters made one word: `r e f u n d` becomes `refund`.
fn join_letters(view: &str) -> String {
    let mut joined = String::with_capacity(view.len());
    let mut last_single = false;
    for word in view.split(' ').filter(|word| !word.is_empty()) {
        let single = word.chars().nth(1).is_none();
        if !(single && last_single) {
            joined.push(' ');
        }
        joined.push_str(word);
        last_single = single;
    }
    joined.push(' ');
    joined
}

/// The plain letter of a full-width, mathematical or circled one.
fn unstyle(c: char) -> char {
    let code = u32::from(c);
    let shifted = match code {
        0xFF01..=0xFF5E => code.checked_sub(0xFEE0),
        0x1D400..=0x1D6A3 => alphabet(code.saturating_sub(0x1D400) % 52),
        0x1D7CE..=0x1D7FF => (code.saturating_sub(0x1D7CE) % 10).checked_add(u32::from('0')),
        0x24B6..=0x24E9 => alphabet(code.saturating_sub(0x24B6) % 52 % 26),
        0x1F130..=0x1F149 => alphabet(code.saturating_sub(0x1F130)),
        _ => None,
    };
    shifted.and_then(char::from_u32).unwrap_or(c)
}

/// `A` to `Z`, then `a` to `z`.
fn alphabet(place: u32) -> Option<u32> {
    let first = if place < 26 { 'A' } else { 'a' };
    u32::from(first).checked_add(place % 26)
}

/// The letter that a lower-case character stands for; none for a separator.
fn letter(c: char, signs: Signs) -> Option<char> {
    if c.is_ascii_alphabetic() {
        return Some(c);
    }
    let sign = |letter| (signs == Signs::Letters).then_some(letter);
    match c {
        '0' => Some('o'),
        '1' => Some('i'),
        '3' => Some('e'),
        '4' => Some('a'),
        '5' => Some('s'),
        '$' => sign('s'),
        '@' => sign('a'),
        '€' => sign('e'),
        c if c.is_ascii() => c.is_ascii_digit().then_some(c),
        c => match PLAIN.get(&c) {
            Some(letter) => Some(*letter),
            None => c.is_alphanumeric().then_some(c),
        },
    }
}

/// Characters that are not seen, or only decorate the one before: default ignorables and combining marks.
fn is_invisible(c: char) -> bool {
    matches!(u32::from(c),
        0xAD | 0x0300..=0x036F | 0x061C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x1AB0..=0x1AFF
        | 0x1DC0..=0x1DFF | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0x20D0..=0x20FF | 0x3164
        | 0xFE00..=0xFE0F | 0xFE20..=0xFE2F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFF8 | 0x1BCA0..=0x1BCA3
        | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}

/// Signs that stand for letters or separate words.
const SIGNS: [char; 3] = ['$', '@', '€'];

/// From a look-alike to the letter it reads as.
static PLAIN: LazyLock<HashMap<char, char>> = LazyLock::new(|| {
    LOOK_ALIKES.iter().flat_map(|(letter, alikes)| alikes.chars().map(|alike| (alike, *letter))).collect()
});

/// Lower-case letters with an accent, from Cyrillic and from Greek, that read as a Latin one.
const LOOK_ALIKES: [(char, &str); 25] = [
    ('a', "àáâãäåāăąǎаαɑᴀ"),
    ('b', "ьвβʙ"),
    ('c', "çćĉċčсϲᴄ"),
    ('d', "ďđԁᴅ"),
    ('e', "èéêëēĕėęěеєεёᴇ"),
    ('f', "ƒϝғ"),
    ('g', "ĝğġģɡԍɢ"),
    ('h', "ĥħһнʜ"),
    ('i', "ìíîïĩīĭįıіїιɩɪ"),
    ('j', "ĵјϳᴊ"),
    ('k', "ķкκᴋ"),
    ('l', "ĺļľŀłӏʟ"),
    ('m', "мᴍ"),
    ('n', "ñńņňŉпηɴ"),
    ('o', "òóôõöøōŏőоοσөᴏ"),
    ('p', "рρᴘ"),
    ('q', "ԛ"),
    ('r', "ŕŗřгʀ"),
    ('s', "śŝşšșѕꜱ"),
    ('t', "ţťŧțтτᴛ"),
    ('u', "ùúûüũūŭůűųυцᴜ"),
    ('v', "νѵᴠ"),
    ('w', "ŵԝωшᴡ"),
    ('x', "хχ"),
    ('y', "ýÿŷуүγʏ"),
];

const MAX_COMPILED: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(terms: &[&str]) -> Terms {
        Terms::compile(&terms.iter().map(|term| (*term).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn finds_a_term_in_disguise() {
        let terms = terms(&["refund guaranteed", "wire"]);
        let guises = [
            "Refund   GUARANTEED!",
            "a refund\nguaranteed today",
            "r\u{200b}efund\u{ad} guar\u{feff}anteed",
            "re\u{e0041}fund \u{202e}guaranteed",
            "re\u{301}fund guaranteed",
            "ｒｅｆｕｎｄ　ｇｕａｒａｎｔｅｅｄ",
            "гefund guаrаntееd",
            "rεfund guαranτeed",
            "𝐫𝐞𝐟𝐮𝐧𝐝 𝗴𝘂𝗮𝗿𝗮𝗻𝘁𝗲𝗲𝗱",
            "ⓡⓔⓕⓤⓝⓓ Ⓖuaranteed",
            "r3fund gu4r4nt33d",
            "refund gu@ranteed",
            "r€fund guaranteed",
            "réfund guaränteed",
            "r.e.f.u.n.d g-u-a-r-a-n-t-e-e-d",
            "refund_guaranteed",
            "refundguaranteed",
            "w i r e",
            "w1re",
            "<b>wire</b>",
            "wire@example.com",
        ];
        for text in guises {
            assert!(terms.find(text).is_some(), "{text}");
        }
        assert_eq!(terms.find("W.I.R.E"), Some("wire"));
    }

    #[test]
    fn leaves_other_words_alone() {
        let terms = terms(&["sue", "wire fraud"]);
        for text in ["", "an issue", "is sue-able", "wire", "fraud by wire", "wired frauds", "pursued"] {
            let found = terms.find(text);
            assert_eq!(found, (text == "is sue-able").then_some("sue"), "{text}");
        }
    }

    #[test]
    fn other_scripts_are_terms_too() {
        let terms = terms(&["возврат средств", "返金", "401k"]);
        for text in ["ВОЗВРАТ  средств", "返金", "your 401k plan"] {
            assert!(terms.find(text).is_some(), "{text}");
        }
    }

    #[test]
    fn a_term_of_separators_is_refused() {
        for term in ["", "---", "\u{200b}", "$"] {
            let list = ["fine".to_owned(), term.to_owned()];
            assert_eq!(Terms::compile(&list).unwrap_err(), TermsError::Empty(1), "{term:?}");
        }
    }
}
