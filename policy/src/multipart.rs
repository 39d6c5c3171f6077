//! A strict reading of `multipart/form-data` (RFC 7578, RFC 2046 section 5.1).
//!
//! Parsers disagree about preambles, bare line feeds, repeated headers and transfer encodings; a body that has any of
//! them is not read at all.

use crate::json::Unreadable;

/// One field or file of a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) name: String,
    pub(crate) filename: Option<String>,
    pub(crate) bytes: &'a [u8],
}

/// Splits a whole body into its parts.
pub(crate) fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, Unreadable> {
    let delimiter = format!("\r\n--{boundary}");
    let opening = delimiter.as_bytes().get(2..).unwrap_or_default();
    let mut rest =
        body.strip_prefix(opening).ok_or(Unreadable("the multipart body does not begin with its boundary"))?;
    let mut parts = Vec::new();
    while !matches!(rest, b"--" | b"--\r\n") {
        rest = rest.strip_prefix(b"\r\n").ok_or(Unreadable("a multipart boundary is malformed"))?;
        let end = find(rest, delimiter.as_bytes()).ok_or(Unreadable("the multipart body ends early"))?;
        let (part, after) = rest.split_at_checked(end).ok_or(MALFORMED)?;
        if has_line(part, opening) {
            return Err(Unreadable("a multipart part has a boundary after a bare line ending"));
        }
        parts.push(read_part(part)?);
        if parts.len() > MAX_PARTS {
            return Err(Unreadable("the multipart body has too many parts"));
        }
        rest = after.get(delimiter.len()..).ok_or(MALFORMED)?;
    }
    if parts.is_empty() { Err(Unreadable("the multipart body has no part")) } else { Ok(parts) }
}

/// Whether a line of the part begins with the boundary for a parser that takes any line ending.
fn has_line(part: &[u8], opening: &[u8]) -> bool {
    part.split(|byte| matches!(byte, b'\r' | b'\n')).any(|line| line.starts_with(opening))
}

fn read_part(part: &[u8]) -> Result<Part<'_>, Unreadable> {
    let end = find(part, b"\r\n\r\n").ok_or(MALFORMED)?;
    let (head, rest) = part.split_at_checked(end).ok_or(MALFORMED)?;
    let head = std::str::from_utf8(head).map_err(|_| MALFORMED)?;
    let mut disposition = None;
    let mut media = None;
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(MALFORMED)?;
        let value = value.trim_matches([' ', '\t']);
        if value.contains(|c: char| c.is_control()) {
            return Err(MALFORMED);
        }
        let repeated = match name.to_ascii_lowercase().as_str() {
            "content-disposition" => disposition.replace(value).is_some(),
            "content-type" => media.replace(value).is_some(),
            // Transfer encodings hide content, and no browser sends other headers.
            _ => return Err(Unreadable("a multipart part has a header that forms do not have")),
        };
        if repeated {
            return Err(Unreadable("a multipart part has a header twice"));
        }
    }
    if media.is_some_and(|media| media.to_ascii_lowercase().starts_with("multipart/")) {
        return Err(Unreadable("a multipart part is multipart itself"));
    }
    let (name, filename) = read_disposition(disposition.ok_or(MALFORMED)?)?;
    Ok(Part { name, filename, bytes: rest.get(4..).ok_or(MALFORMED)? })
}

/// Reads `form-data; name="…"; filename="…"`.
fn read_disposition(value: &str) -> Result<(String, Option<String>), Unreadable> {
    let mut rest = value.strip_prefix("form-data").ok_or(MALFORMED)?;
    let (mut name, mut filename) = (None, None);
    while !rest.is_empty() {
        rest = rest.strip_prefix(';').ok_or(MALFORMED)?.trim_start_matches(' ');
        let (key, after) = rest.split_once("=\"").ok_or(MALFORMED)?;
        let (text, after) = after.split_once('"').ok_or(MALFORMED)?;
        let slot = match key {
            "name" => &mut name,
            "filename" => &mut filename,
            _ => return Err(Unreadable("a multipart part has a parameter that forms do not have")),
        };
        if text.contains('\\') || slot.replace(text.to_owned()).is_some() {
            return Err(MALFORMED);
        }
        rest = after;
    }
    Ok((name.ok_or(MALFORMED)?, filename))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0usize;
    loop {
        let rest = haystack.get(from..)?;
        let at = from.checked_add(rest.iter().position(|byte| *byte == first)?)?;
        if haystack.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        from = at.checked_add(1)?;
    }
}

const MALFORMED: Unreadable = Unreadable("a multipart part is malformed");
const MAX_PARTS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; \
                         name=\"f\"; filename=\"x.csv\"\r\nContent-Type: text/csv\r\n\r\np,q\r\n--b--\r\n";

    #[test]
    fn reads_a_form() {
        let parts = parts(SOUND.as_bytes(), "b").unwrap();
        assert_eq!((parts[0].name.as_str(), parts[0].bytes), ("a", &b"1"[..]));
        assert_eq!((parts[1].filename.as_deref(), parts[1].bytes), (Some("x.csv"), &b"p,q"[..]));
    }

    #[test]
    fn refuses_every_deviation() {
        let table = [
            ("--b\r\n", "preamble\r\n--b\r\n"),
            ("--b--\r\n", "--b--\r\nepilogue"),
            ("--b--\r\n", "--b"),
            ("--b--\r\n", ""),
            ("\r\n", "\n"),
            ("name=\"a\"", "name=\"a\"; name=\"b\""),
            ("name=\"a\"", "filename*=UTF-8''a"),
            ("name=\"a\"", "name=a"),
            ("name=\"a\"", "x=\"a\""),
            ("name=\"a\"", "name=\"a\\\"\""),
            ("form-data; name=\"a\"", "attachment; name=\"a\""),
            ("form-data; name=\"a\"", "form-data; filename=\"a\""),
            ("Content-Type: text/csv", "Content-Disposition: form-data; name=\"g\""),
            ("Content-Type: text/csv", "Content-Type: multipart/mixed; boundary=c"),
            ("Content-Type: text/csv", "Content-Transfer-Encoding: base64"),
            ("Content-Type: text/csv", "Content-Type: text/csv\0"),
            ("Content-Type: text/csv", "Content-Type"),
            ("p,q", "p\n--b\nContent-Disposition: form-data; name=\"a\"\n\n2"),
            ("p,q", "p\r--b--"),
            ("p,q", "\n--bc"),
            ("p,q", "--b"),
        ];
        for (from, to) in table {
            assert!(parts(SOUND.replace(from, to).as_bytes(), "b").is_err(), "{to:?}");
        }
        assert!(parts(SOUND.as_bytes(), "c").is_err());
        assert!(parts(b"--b--", "b").is_err());
        let many = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n".repeat(1_001);
        assert!(parts(format!("{many}--b--").as_bytes(), "b").is_err());
    }
}
