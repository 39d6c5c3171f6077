//! Looking for terms, however they are spelled.
//!
//! Texts are folded: case, invisible characters, compatibility forms, accents, and look-alikes from other scripts. The
//! patterns of the terms allow for the rest: digits and signs for letters, letters repeated, words torn apart or written
//! together. What is not found: other languages' words, text inside images or archives, ciphers. A term must never be
//! echoed from the text, only from the policy.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::LazyLock;

use regex::{RegexSet, RegexSetBuilder};
use unicode_normalization::UnicodeNormalization;

use crate::views::is_invisible;

/// The terms of one policy, compiled.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Finds each term between word boundaries of the folded text.
    words: RegexSet,
    /// Finds long terms of several words where all separators are taken out; with their places among the terms.
    squeezed: RegexSet,
    several: Vec<usize>,
    written: Vec<String>,
    /// Letters of the shortest term.
    shortest: usize,
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
    pub(crate) fn compile(terms: &[String]) -> Result<Self, TermsError> {
        let folded: Vec<String> = terms.iter().map(|term| fold(term, Signs::Separators)).collect();
        if let Some(at) = folded.iter().position(|view| view.trim().is_empty()) {
            return Err(TermsError::Empty(at));
        }
        let words = folded.iter().map(|view| format!(" {} ", pattern(view, " ?")));
        let is_several = |view: &str| view.trim().contains(' ') && view.replace(' ', "").len() >= SAFE_INSIDE;
        let several = folded.iter().enumerate().filter(|(_, view)| is_several(view));
        let (several, squeezed): (Vec<usize>, Vec<String>) = several.map(|(at, view)| (at, pattern(view, ""))).unzip();
        let shortest = folded.iter().map(|view| view.chars().filter(|c| *c != ' ').count()).min().unwrap_or_default();
        Ok(Self {
            shortest,
            words: set(words)?,
            squeezed: set(squeezed.into_iter())?,
            several,
            written: terms.to_vec(),
        })
    }

    /// A term that the text holds, as the policy writes it.
    pub(crate) fn find(&self, text: &str) -> Option<&str> {
        let is_ascii = text.is_ascii();
        if is_ascii && text.len() < self.shortest {
            return None;
        }
        let plain = self.find_folded(&fold(text, Signs::Separators));
        let has_signs = text.bytes().fold(false, |found, byte| found | is_sign(byte));
        if plain.is_some() || !(has_signs || (!is_ascii && text.contains(['€', '£']))) {
            return plain;
        }
        self.find_folded(&fold(text, Signs::Letters))
    }

    fn find_folded(&self, view: &str) -> Option<&str> {
        if let Some(found) = first(&self.words, view) {
            return self.written.get(found).map(String::as_str);
        }
        if self.several.is_empty() {
            return None;
        }
        let found = first(&self.squeezed, &view.replace(' ', "")).and_then(|place| self.several.get(place))?;
        self.written.get(*found).map(String::as_str)
    }
}

/// The first pattern that matches; which one is asked only when there is one, because most texts have none.
fn first(patterns: &RegexSet, view: &str) -> Option<usize> {
    patterns.is_match(view).then(|| patterns.matches(view).into_iter().next()).flatten()
}

fn set(patterns: impl Iterator<Item = String>) -> Result<RegexSet, TermsError> {
    let limit = |builder: &mut RegexSetBuilder| builder.size_limit(MAX_COMPILED).dfa_size_limit(MAX_CACHE).build();
    limit(&mut RegexSetBuilder::new(patterns)).map_err(|_| TermsError::TooMany)
}

/// A pattern for the letters of a folded term, with `between` any two of them.
fn pattern(view: &str, between: &str) -> String {
    let letters: Vec<char> = view.chars().filter(|c| *c != ' ').collect();
    // `loose` is not `lose`, but nobody writes `looose`; in a long word one letter more makes no other word.
    let repeated = |one: &str| match letters.len() {
        0..LONG => format!("{one}(?:{one}{one}+)?"),
        _ => format!("{one}+"),
    };
    let mut pattern = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let alike = SPELLINGS.iter().find(|(spelled, _)| spelled == letter);
        let mut buffer = [0; 4];
        let one =
            alike.map_or_else(|| regex::escape(letter.encode_utf8(&mut buffer)), |(_, alike)| (*alike).to_owned());
        // Writing to a string cannot fail.
        let _ = write!(pattern, "{}{}", if at > 0 { between } else { "" }, repeated(&one));
    }
    pattern
}

/// Words of folded letters and digits, with one space before, between and after them.
fn fold(text: &str, signs: Signs) -> String {
    if text.is_ascii() {
        return fold_plain(text, signs);
    }
    let mut view = String::with_capacity(text.len().saturating_add(2));
    view.push(' ');
    let visible = text.nfkd().map(unstyle).filter(|c| !is_invisible(*c));
    let letters = visible.flat_map(|c| PLAIN.get(&c).copied().unwrap_or(c).to_lowercase());
    letters.for_each(|c| push(&mut view, PLAIN.get(&c).copied().unwrap_or(c), signs));
    if !view.ends_with(' ') {
        view.push(' ');
    }
    view
}

/// The same for ASCII. Most texts are plain, and this is most of the time that a search takes.
fn fold_plain(text: &str, signs: Signs) -> String {
    let mut view = Vec::with_capacity(text.len().saturating_add(2));
    view.push(b' ');
    let mut in_word = false;
    for byte in text.bytes().chain([b' ']) {
        let kept = byte.is_ascii_alphanumeric() || (signs == Signs::Letters && is_sign(byte));
        if kept {
            view.push(byte.to_ascii_lowercase());
        } else if in_word {
            view.push(b' ');
        }
        in_word = kept;
    }
    // Letters, digits, signs and spaces of ASCII are UTF-8.
    String::from_utf8(view).unwrap_or_default()
}

fn push(view: &mut String, c: char, signs: Signs) {
    let is_letter = if c.is_ascii() { c.is_ascii_alphanumeric() } else { c.is_alphanumeric() && !is_invisible(c) };
    if is_letter || (signs == Signs::Letters && SIGNS.contains(&c)) {
        view.push(c);
    } else if !view.ends_with(' ') && !is_invisible(c) {
        view.push(' ');
    }
}

fn is_sign(byte: u8) -> bool {
    matches!(byte, b'$' | b'@' | b'!' | b'|' | b'+' | b'(')
}

/// The letter of a sign that compatibility forms leave alone: letters in circles, squares and flags.
fn unstyle(c: char) -> char {
    let code = u32::from(c);
    let place = match code {
        0x1F150..=0x1F169 => code.checked_sub(0x1F150),
        0x1F170..=0x1F189 => code.checked_sub(0x1F170),
        0x1F1E6..=0x1F1FF => code.checked_sub(0x1F1E6),
        _ => None,
    };
    place.and_then(|place| char::from_u32(place.checked_add(u32::from('a'))?)).unwrap_or(c)
}

/// Signs that stand for letters or separate words.
const SIGNS: [char; 8] = ['$', '@', '€', '!', '|', '+', '(', '£'];

/// How a folded letter or digit may be written, as a pattern.
const SPELLINGS: [(char, &str); 22] = [
    ('a', "[a4@]"),
    ('b', "[b8]"),
    ('c', "[c(]"),
    ('e', "[e3€]"),
    ('g', "[g69]"),
    ('i', "[i1!|]"),
    ('l', "[l1!|£]"),
    ('o', "[o0]"),
    ('r', r"(?:r|\|2|12)"),
    ('s', "[s5$]"),
    ('t', "[t7+]"),
    ('z', "[z2]"),
    ('0', "[0o]"),
    ('1', "[1il]"),
    ('2', "[2z]"),
    ('3', "[3e]"),
    ('4', "[4a]"),
    ('5', "[5s]"),
    ('6', "[6g]"),
    ('7', "[7t]"),
    ('8', "[8b]"),
    ('9', "[9g]"),
];

/// From a look-alike to the letter it reads as.
static PLAIN: LazyLock<HashMap<char, char>> = LazyLock::new(|| {
    LOOK_ALIKES.iter().flat_map(|(letter, alikes)| alikes.chars().map(|alike| (alike, *letter))).collect()
});

/// Letters of Cyrillic, Greek, Armenian and Cherokee, small capitals and barred letters, that read as a Latin one.
const LOOK_ALIKES: [(char, &str); 26] = [
    ('a', "аαɑᴀᎪ"),
    ('b', "ьвβʙᏏᏴ"),
    ('c', "сϲᴄᏟ"),
    ('d', "đԁᴅᎠᏧ"),
    ('e', "еєεᴇᎬ"),
    ('f', "ƒϝғꜰ"),
    ('g', "ɡԍɢցᏀ"),
    ('h', "ħһнʜհᎻ"),
    ('i', "ıіιɩɪᎥᏆ"),
    ('j', "јϳᴊᎫ"),
    ('k', "кκᴋᏦ"),
    ('l', "łӏʟᏞ"),
    ('m', "мᴍᎷ"),
    ('n', "пηɴո"),
    ('o', "øоοσөᴏօᎾ"),
    ('p', "рρᴘᏢ"),
    ('q', "ԛզ"),
    ('r', "гʀᎡᏒ"),
    ('s', "ѕꜱᏚᏕ"),
    ('t', "ŧтτᴛᎢ"),
    ('u', "υцᴜս"),
    ('v', "νѵᴠᏙ"),
    ('w', "ԝωшᴡᎳᏔ"),
    ('x', "хχ"),
    ('y', "уγʏᎽ"),
    ('z', "ᴢᏃ"),
];

/// From how many letters on a term may stand inside a word without hitting others by chance.
const SAFE_INSIDE: usize = 8;
/// From how many letters on a doubled letter makes no other word.
const LONG: usize = 6;
const MAX_COMPILED: usize = 64 * 1024 * 1024;
/// What a search may keep in memory, for each thread.
const MAX_CACHE: usize = 8 * 1024 * 1024;

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
            "w!re",
            "wire!",
            "re fund guaran-teed",
            "|2efund guaranteed",
            "reffund guaranteed",
            "wiiire",
            "🅡efund 🅶uaranteed",
            "🇷efund guaranteed",
            "ᎡᎬfund guaranteed",
            "ﬁx the wire",
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
        for text in ["", "an issue", "is sue-able", "wire", "fraud by wire", "wired frauds", "pursued", "suee", "is su"]
        {
            let found = terms.find(text);
            assert_eq!(found, (text == "is sue-able").then_some("sue"), "{text}");
        }
    }

    #[test]
    fn does_not_take_one_word_for_another() {
        let terms = terms(&["lose", "mail", "refund", "bill"]);
        for text in ["loose", "mall", "there fund", "where fundamentals", "bil", "1 fall", "m1l1", "defund"] {
            assert_eq!(terms.find(text), None, "{text}");
        }
        for text in ["l0se", "ma1l", "mai1", "re fund", "b1ll", "bi11", "refunnd"] {
            assert!(terms.find(text).is_some(), "{text}");
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
