//! The texts of a request in every way an upstream may read them: as they are, unescaped, decompressed.
//!
//! For finding what must not leave. Nothing here decides, and nothing is changed.

use std::borrow::Cow;

use memchr::memmem;
use policy::Facts;

use crate::inject::unescaped;

/// Whether some reading of a header, the target or the body has what is looked for.
pub(crate) fn any(facts: &Facts, has: impl Fn(&[u8]) -> bool) -> bool {
    let headers = facts.headers.iter().map(|(_, value)| value.as_str());
    let mut texts = headers.chain([facts.path.as_str()]).chain(facts.query.as_deref());
    texts.any(|text| any_of(text.as_bytes(), &has)) || any_of(facts.body.bytes(), &has) || any_of(&plain(facts), &has)
}

fn any_of(text: &[u8], has: impl Fn(&[u8]) -> bool) -> bool {
    if has(text) {
        return true;
    }
    let percent = memchr::memchr(b'%', text).is_some() && has(&unescaped(text, false));
    percent || (memmem::find(text, b"\\u00").is_some() && has(&without_json_escapes(text)))
}

/// The body under its coding, where it has one that can be read.
fn plain(facts: &Facts) -> Cow<'_, [u8]> {
    let codings =
        || facts.headers.iter().filter(|(name, _)| name == "content-encoding").map(|(_, value)| value.as_str());
    if codings().next().is_none() {
        return Cow::Borrowed(&[]);
    }
    policy::decoded(facts.body.bytes(), codings()).unwrap_or_default()
}

/// With `\u00XX` as the octet it stands for (RFC 8259 section 7).
fn without_json_escapes(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memmem::find(rest, b"\\u00") {
        let (before, escape) = rest.split_at(at);
        octets.extend_from_slice(before);
        let digits = escape.get(4..6).and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(octet) => {
                octets.push(octet);
                rest = escape.get(6..).unwrap_or_default();
            }
            None => {
                octets.push(b'\\');
                rest = escape.get(1..).unwrap_or_default();
            }
        }
    }
    octets.extend_from_slice(rest);
    octets
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::Bytes;
    use policy::{Authority, Body, Scheme};

    use super::*;

    #[test]
    fn a_mark_is_found_however_it_is_written() {
        let facts = |header: (&str, &str), query: &str, body: &[u8]| Facts {
            agent: "bot".into(),
            method: "POST".into(),
            authority: Authority::parse(Scheme::Https, "a.example").unwrap(),
            path: "/".into(),
            query: Some(query.to_owned()),
            headers: vec![(header.0.to_owned(), header.1.to_owned())],
            body: Body::new(Bytes::copy_from_slice(body)),
            votes: Vec::new(),
            unanswered: false,
            lost: Vec::new(),
        };
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"a mark").unwrap();
        let gzip = gzip.finish().unwrap();
        let has = |bytes: &[u8]| memmem::find(bytes, b"mark").is_some();
        for (header, query, body) in [
            (("x", "a mark"), "", b"".as_slice()),
            (("x", "m%61rk"), "", b""),
            (("x", ""), "q=m%61r%6B", b""),
            (("x", ""), "", b"\0mark\xff"),
            (("x", ""), "", br#"{"a":"\u006dar\u006B"}"#),
            (("x", ""), "", b"a=m%61rk"),
            (("content-encoding", "gzip"), "", &gzip),
        ] {
            assert!(any(&facts(header, query, body), has), "{header:?} {query} {body:?}");
        }
        assert!(!any(&facts(("x", "m%6ark"), "m%", b"\\u00mark\\u00"), |bytes| memmem::find(bytes, b"markk").is_some()));
        assert!(!any(&facts(("content-encoding", "x"), "", b"?"), has));
    }
}
