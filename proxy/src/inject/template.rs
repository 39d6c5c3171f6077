//! Templates filled in memory that is wiped, and made at once: a text that grows leaves copies behind that nobody wipes.

use zeroize::Zeroizing;

/// The parts of a template with `values` in the places of their names: `{name}` and what stands for it. What is put in
/// is not looked at again.
pub(super) fn parts<'a>(template: &'a str, values: &[(&str, &'a [u8])]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = template;
    loop {
        let found = values.iter().filter_map(|(name, value)| Some((rest.split_once(name)?, *value)));
        let Some(((before, after), value)) = found.min_by_key(|((before, _), _)| before.len()) else {
            parts.push(rest.as_bytes());
            return parts;
        };
        parts.extend([before.as_bytes(), value]);
        rest = after;
    }
}

/// A template with one text in its places.
pub(super) fn filled(template: &str, name: &str, value: &str) -> Zeroizing<String> {
    let mut parts = Vec::new();
    for (at, part) in template.split(name).enumerate() {
        if at > 0 {
            parts.push(value);
        }
        parts.push(part);
    }
    joined(&parts)
}

/// Parts put together.
pub(super) fn joined(parts: &[&str]) -> Zeroizing<String> {
    let mut whole = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        whole.push_str(part);
    }
    whole
}

/// Text in which every octet is escaped (`%XX`) that is neither unreserved (RFC 3986 section 2.3) nor among `plain`.
pub(super) fn escaped(text: &str, plain: &[u8]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(3 * text.len()));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let digit = |four: u8| char::from_digit(four.into(), 16).map(|digit| digit.to_ascii_uppercase());
            out.extend([Some('%'), digit(byte >> 4), digit(byte & 15)].into_iter().flatten());
        }
    }
    out
}

/// What `%XX` and, where `plus` is a space, `+` stand for; what is no escape stands for itself.
pub(crate) fn unescaped(text: &[u8], plus: bool) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let escape = if *first == b'%' { tail.first_chunk().copied().and_then(octet) } else { None };
        octets.push(escape.unwrap_or(if plus && *first == b'+' { b' ' } else { *first }));
        rest = if escape.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    octets
}

/// The octet that two hexadecimal digits stand for.
fn octet(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_not_filled_again() {
        let values: [(&str, &[u8]); 2] = [("{a}", b"{b}"), ("{b}", b"two")];
        assert_eq!(parts("x{a}y{b}{c}", &values).concat(), b"x{b}ytwo{c}");
        assert_eq!(filled("{s}:{s}", "{s}", "{s}").as_str(), "{s}:{s}");
    }

    #[test]
    fn escapes_are_read_back() {
        assert_eq!(escaped("a+b/c d~", b"/").as_str(), "a%2Bb/c%20d~");
        assert_eq!(unescaped(b"a%2Bb%2fc+d%2", true), b"a+b/c d%2");
        assert_eq!(unescaped(b"a+b%+1", false), b"a+b%+1");
    }
}
