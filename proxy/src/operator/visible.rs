//! Text of an agent as a person may look at it: what does not print, or changes how the rest reads, is spelled out.
//!
//! Escaping for HTML is the template's business, never this file's.

/// A stretch of text, or one character or byte spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// As it is, or as `U+202E` or `\x9c`.
    pub(super) text: String,
    /// Whether it is spelled out.
    pub(super) marked: bool,
}

/// The pieces of a text that may not be UTF-8.
pub(super) fn pieces(bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for chunk in bytes.utf8_chunks() {
        let mut plain = String::new();
        for character in chunk.valid().chars() {
            if misleads(character) {
                push(&mut pieces, &mut plain);
                pieces.push(Piece { text: format!("U+{:04X}", u32::from(character)), marked: true });
            } else {
                plain.push(character);
            }
        }
        push(&mut pieces, &mut plain);
        let broken = chunk.invalid().iter().map(|byte| Piece { text: format!("\\x{byte:02x}"), marked: true });
        pieces.extend(broken);
    }
    pieces
}

fn push(pieces: &mut Vec<Piece>, plain: &mut String) {
    if !plain.is_empty() {
        pieces.push(Piece { text: std::mem::take(plain), marked: false });
    }
}

/// Whether a character prints nothing, prints as a space that is none, or moves others (Unicode's Bidi_Control,
/// Default_Ignorable_Code_Point and White_Space apart from space, tab and newline; private use, whose look is anybody's).
fn misleads(character: char) -> bool {
    let code = u32::from(character);
    (character.is_control() && !matches!(character, '\n' | '\t'))
        || (character.is_whitespace() && !matches!(character, '\n' | '\t' | ' '))
        || MISLEADING.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

const MISLEADING: &[(u32, u32)] = &[
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xE000, 0xF8FF),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFC),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0x10FFFF),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        pieces(bytes)
            .iter()
            .map(|piece| if piece.marked { format!("[{}]", piece.text) } else { piece.text.clone() })
            .collect()
    }

    #[test]
    fn plain_text_of_any_script_stays() {
        for text in ["{\"a\": 1}\n\tb", "Grüße, 東京, שלום", "😀"] {
            assert_eq!(shown(text.as_bytes()), text);
        }
    }

    #[test]
    fn what_misleads_is_spelled_out() {
        let cases: &[(&[u8], &str)] = &[
            ("pay \u{202e}001".as_bytes(), "pay [U+202E]001"),
            ("a\u{200b}b".as_bytes(), "a[U+200B]b"),
            ("a\u{a0}b".as_bytes(), "a[U+00A0]b"),
            ("x\u{e0041}".as_bytes(), "x[U+E0041]"),
            (b"a\0b\x1b[2J\r\n", "a[U+0000]b[U+001B][2J[U+000D]\n"),
            (b"a\xff\xc3(", "a[\\xff][\\xc3]("),
            ("line\u{2028}end".as_bytes(), "line[U+2028]end"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(shown(bytes), *expected);
        }
    }
}
