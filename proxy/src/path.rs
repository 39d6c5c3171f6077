//! One spelling of a path: what is matched is what is shown, hashed and sent (RFC 3986 section 6.2.2).
//!
//! Literal dot segments are resolved, `%XX` of unreserved characters is decoded once, hexadecimal digits become upper
//! case. `%2F` stays an opaque octet: it is never a separator. Whatever servers are known to read differently is
//! refused: `//`, `\`, `;`, encoded dots and controls, dot segments between `%2F`, double encoding, bytes that are not
//! UTF-8.

use crate::refusal::Refusal;

/// The canonical spelling of an absolute path.
///
/// # Errors
/// [`Refusal::Ambiguous`] for a path that two servers could read differently.
pub fn canonical(path: &str) -> Result<String, Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::ambiguous("the path does not start with `/`"));
    }
    if let Some(odd) = path.bytes().find(|byte| !byte.is_ascii_graphic() || b"\\;#?\"<>^`{|}".contains(byte)) {
        return Err(Refusal::Ambiguous(format!("the path holds the byte 0x{odd:02x}; write it as %{odd:02X}")));
    }
    let decoded = decode_unreserved(path)?;
    refuse_double_encoding(&decoded)?;
    refuse_hidden_dots(&decoded)?;
    resolve_dots(&decoded)
}

/// Decodes `%XX` of unreserved characters, refuses what must not hide behind an escape.
fn decode_unreserved(path: &str) -> Result<String, Refusal> {
    let mut out = String::with_capacity(path.len());
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(char::from(byte));
            octets.push(byte);
            continue;
        }
        let octet = match (rest.next().and_then(hex), rest.next().and_then(hex)) {
            (Some(high), Some(low)) => high * 16 + low,
            _ => return Err(Refusal::ambiguous("the path holds a `%` that is not followed by two hexadecimal digits")),
        };
        if octet == b'.' || octet == b'\\' || octet < 0x20 || octet == 0x7f {
            return Err(Refusal::Ambiguous(format!(
                "the path holds an encoded dot, backslash or control (%{octet:02X})"
            )));
        }
        octets.push(octet);
        if octet.is_ascii_alphanumeric() || b"-_~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
    match str::from_utf8(&octets) {
        Ok(_) => Ok(out),
        Err(_) => Err(Refusal::ambiguous("the path's escapes are not UTF-8")),
    }
}

/// A server that decodes twice would see a separator, a dot, a backslash or a NUL where we see `%25…`.
fn refuse_double_encoding(path: &str) -> Result<(), Refusal> {
    let hidden = path.split("%25").skip(1).filter_map(|rest| rest.get(..2));
    for code in hidden {
        if ["2e", "2f", "5c", "00", "25"].contains(&code.to_ascii_lowercase().as_str()) {
            return Err(Refusal::ambiguous("the path is encoded twice"));
        }
    }
    Ok(())
}

/// A server that takes `%2F` for a separator would climb where we see one plain segment.
fn refuse_hidden_dots(path: &str) -> Result<(), Refusal> {
    let mut hiding = path.split('/').filter(|segment| segment.contains("%2F"));
    if hiding.any(|segment| segment.split("%2F").any(|part| part == "." || part == "..")) {
        return Err(Refusal::ambiguous("the path holds a dot segment beside an encoded slash"));
    }
    Ok(())
}

/// Removes `.` and `..` segments (RFC 3986 section 5.2.4), never above the root.
fn resolve_dots(path: &str) -> Result<String, Refusal> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    let mut kept: Vec<&str> = Vec::with_capacity(segments.len());
    for (at, segment) in segments.iter().enumerate() {
        match *segment {
            "" if at != last => return Err(Refusal::ambiguous("the path holds an empty segment (`//`)")),
            "." => {}
            ".." if kept.pop().is_none() => return Err(Refusal::ambiguous("the path climbs above its root")),
            ".." => {}
            plain => {
                kept.push(plain);
                continue;
            }
        }
        // `/a/.` and `/a/..` name a directory: the slash stays.
        if at == last {
            kept.push("");
        }
    }
    Ok(format!("/{}", kept.join("/")))
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_equal_paths() {
        let cases = [
            ("/", "/"),
            ("/v1/refunds", "/v1/refunds"),
            ("/v1/refunds/", "/v1/refunds/"),
            ("/v1/./refunds", "/v1/refunds"),
            ("/v1/x/../refunds", "/v1/refunds"),
            ("/v1/%72efunds", "/v1/refunds"),
            ("/v1/refunds/.", "/v1/refunds/"),
            ("/v1/refunds/x/..", "/v1/refunds/"),
            ("/..a/b..", "/..a/b.."),
            ("/@scope%2fname", "/@scope%2Fname"),
            ("/a%20b", "/a%20b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/100%25", "/100%25"),
            ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
        ];
        for (given, expected) in cases {
            assert_eq!(canonical(given).unwrap(), expected, "{given}");
            assert_eq!(canonical(expected).unwrap(), expected, "a canonical path stays as it is: {expected}");
        }
    }

    #[test]
    fn d01_to_d20_ambiguous_paths_are_refused() {
        let cases = [
            "",
            "v1",
            "*",
            "//admin",
            "/a//b",
            "///",
            "/%2e%2e/",
            "/.%2e/",
            "/%2E.",
            "/a/%2e",
            "/../x",
            "/a/../../b",
            "/a\\b",
            "/a%5cb",
            "/a;x=1",
            "/user/..;foo=bar/admin",
            "/%252e%252e",
            "/%252f",
            "/%25%32%66",
            "/%25252e",
            "/%00",
            "/%0a",
            "/%0d",
            "/%09",
            "/%7f",
            "/%c0%ae",
            "/%e0%80%ae",
            "/%ff",
            "/a%2F..%2Fb",
            "/..%2fb",
            "/a/%2F.",
            "/%",
            "/%2",
            "/%zz",
            "/caf\u{e9}",
            "/a b",
            "/a#b",
            "/a?b",
            "/a|b",
            "/a<b",
        ];
        for path in cases {
            assert!(matches!(canonical(path), Err(Refusal::Ambiguous(_))), "{path}");
        }
    }
}
