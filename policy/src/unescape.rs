//! Escapes of texts: percent, quoted-printable, backslashes and character references.
//!
//! Decodes one level at a time; what is no escape is left as it is.

/// The text with percent escapes, quoted-printable, backslash escapes and character references decoded; none when it
/// has none.
pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut decoded = Vec::new();
    let mut rest = text;
    let mut changed = false;
    while let Some(at) = rest.find(['%', '=', '\\', '&']) {
        let (before, from) = rest.split_at_checked(at)?;
        decoded.extend_from_slice(before.as_bytes());
        match escape(from) {
            Some((octets, after)) => {
                decoded.extend(octets);
                rest = after;
                changed = true;
            }
            None => {
                let (sign, after) = from.split_at_checked(1)?;
                decoded.extend_from_slice(sign.as_bytes());
                rest = after;
            }
        }
    }
    decoded.extend_from_slice(rest.as_bytes());
    changed.then(|| String::from_utf8_lossy(&decoded).into_owned())
}

/// What the escape at the beginning stands for, and what follows it.
fn escape(text: &str) -> Option<(Vec<u8>, &str)> {
    let (sign, rest) = text.split_at_checked(1)?;
    match sign {
        "%" => octet(rest),
        "=" => match rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')) {
            Some(rest) => Some((Vec::new(), rest)),
            None => octet(rest),
        },
        "\\" => {
            let (kind, rest) = rest.split_at_checked(1)?;
            match kind {
                "x" => octet(rest),
                "u" => unicode(rest),
                "n" | "r" | "t" => Some((b" ".to_vec(), rest)),
                "\\" | "/" | "\"" => Some((kind.as_bytes().to_vec(), rest)),
                _ => None,
            }
        }
        _ => reference(rest),
    }
}

fn octet(text: &str) -> Option<(Vec<u8>, &str)> {
    let (octet, rest) = number(text, 2)?;
    Some((vec![u8::try_from(octet).ok()?], rest))
}

/// `XXXX`, a surrogate pair of two such escapes, or `{X…}`.
fn unicode(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some((digits, rest)) = text.strip_prefix('{').and_then(|text| split_near(text, b'}')) {
        return Some((utf8(u32::from_str_radix(digits, 16).ok()?)?, rest));
    }
    let (high, rest) = number(text, 4)?;
    if !(0xD800..0xDC00).contains(&high) {
        return Some((utf8(high)?, rest));
    }
    let (low, rest) = number(rest.strip_prefix("\\u")?, 4)?;
    let pair = char::decode_utf16([u16::try_from(high).ok()?, u16::try_from(low).ok()?]).next()?.ok()?;
    Some((utf8(u32::from(pair))?, rest))
}

/// A character reference of HTML, after its `&`.
fn reference(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(number) = text.strip_prefix('#') {
        let (digits, radix) = match number.strip_prefix(['x', 'X']) {
            Some(digits) => (digits, 16),
            None => (number, 10),
        };
        let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        let (digits, rest) = digits.split_at_checked(end)?;
        return Some((utf8(u32::from_str_radix(digits, radix).ok()?)?, rest.strip_prefix(';').unwrap_or(rest)));
    }
    let (name, rest) = split_near(text, b';')?;
    let (_, text) = NAMED.iter().find(|(known, _)| *known == name)?;
    Some((text.as_bytes().to_vec(), rest))
}

/// The text before and after a sign that stands near its beginning: looking further would take time in the square of
/// the length of a text that has many beginnings and no end.
fn split_near(text: &str, sign: u8) -> Option<(&str, &str)> {
    let at = text.bytes().take(LONGEST_ESCAPE).position(|byte| byte == sign)?;
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.get(1..)?))
}

/// The value of so many hexadecimal digits, and what follows them.
pub(crate) fn number(text: &str, digits: usize) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(digits)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((u32::from_str_radix(digits, 16).ok().filter(|_| plain)?, rest))
}

fn utf8(code: u32) -> Option<Vec<u8>> {
    Some(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes().to_vec())
}

/// Character references that stand between or inside words.
const NAMED: [(&str, &str); 13] = [
    ("amp", "&"),
    ("apos", "'"),
    ("gt", ">"),
    ("lt", "<"),
    ("nbsp", " "),
    ("NewLine", "\n"),
    ("percnt", "%"),
    ("quot", "\""),
    ("shy", ""),
    ("Tab", "\t"),
    ("zwj", ""),
    ("zwnj", ""),
    ("ZeroWidthSpace", ""),
];

/// `&ZeroWidthSpace;` is the longest that is known.
const LONGEST_ESCAPE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_ends_near_its_beginning() {
        assert_eq!(split_near("ZeroWidthSpace;x;", b';'), Some(("ZeroWidthSpace", "x;")));
        assert_eq!(split_near(&format!("{};", "a".repeat(LONGEST_ESCAPE)), b';'), None);
    }
}
