//! The `aws-chunked` coding of S3 uploads taken off before anyone decides: it is framing, and its signatures are the
//! agent's own.
//!
//! What is decided, recorded and sent is the content alone. A checksum that followed the content in a trailer goes into
//! a header of the same name, which S3 takes as well.

use bytes::Bytes;
use policy::{Body, Facts};

/// Takes the coding off, if the request has it.
///
/// # Errors
/// What is wrong with the framing.
pub(super) fn unframe(facts: &mut Facts) -> Result<(), String> {
    if !remove_coding(&mut facts.headers) {
        return Ok(());
    }
    let declared = facts.headers.iter().find(|(name, _)| name == LENGTH).map(|(_, value)| value.parse::<usize>());
    facts.headers.retain(|(name, _)| name != LENGTH && name != "x-amz-trailer");
    let (content, trailers) = read(facts.body.bytes()).ok_or("the `aws-chunked` body is malformed")?;
    if declared.is_some_and(|declared| declared != Ok(content.len())) {
        return Err("the `aws-chunked` body has another length than it declares".to_owned());
    }
    for (name, value) in trailers.into_iter().filter(|(name, _)| name.starts_with("x-amz-checksum-")) {
        facts.headers.retain(|(other, _)| *other != name);
        facts.headers.push((name, value));
    }
    facts.body = Body::new(Bytes::from(content));
    Ok(())
}

/// Removes the coding from `Content-Encoding`, where others may stand beside it.
fn remove_coding(headers: &mut Vec<(String, String)>) -> bool {
    let mut found = false;
    for (_, value) in headers.iter_mut().filter(|(name, _)| name == "content-encoding") {
        let codings: Vec<&str> = value.split(',').map(str::trim).collect();
        let others: Vec<&str> = codings.iter().copied().filter(|coding| !coding.eq_ignore_ascii_case(CODING)).collect();
        found |= others.len() < codings.len();
        *value = others.join(", ");
    }
    headers.retain(|(name, value)| name != "content-encoding" || !value.is_empty());
    found
}

type Trailers = Vec<(String, String)>;

/// Chunks of `SIZE[;chunk-signature=…]`, each line ended by CRLF, then trailers, then nothing.
fn read(mut rest: &[u8]) -> Option<(Vec<u8>, Trailers)> {
    let mut content = Vec::with_capacity(rest.len());
    loop {
        let line = line(&mut rest)?;
        let digits = line.split(';').next()?;
        if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            break;
        }
        let (chunk, after) = rest.split_at_checked(size)?;
        content.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
    let mut trailers = Vec::new();
    while !rest.is_empty() {
        let line = line(&mut rest)?;
        if !line.is_empty() {
            let (name, value) = line.split_once(':')?;
            trailers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    Some((content, trailers))
}

/// The text up to the next CRLF, which is taken too.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = memchr::memmem::find(rest, b"\r\n")?;
    let (line, after) = rest.split_at_checked(end)?;
    *rest = after.strip_prefix(b"\r\n")?;
    let line = str::from_utf8(line).ok()?;
    line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ').then_some(line)
}

const CODING: &str = "aws-chunked";
const LENGTH: &str = "x-amz-decoded-content-length";

/// Digits of the size of the largest chunk: more than any body that is taken.
const MOST_DIGITS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_and_unsigned_chunks_are_read_and_nothing_else() {
        let signed =
            b"5;chunk-signature=ad80\r\nhello\r\n6;chunk-signature=0f\r\n world\r\n0;chunk-signature=b6\r\n\r\n";
        assert_eq!(read(signed), Some((b"hello world".to_vec(), Vec::new())));
        let trailing =
            b"b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\nx-amz-trailer-signature:63bd\r\n\r\n";
        let (content, trailers) = read(trailing).unwrap();
        assert_eq!(content, b"hello world");
        assert_eq!(trailers[0], ("x-amz-checksum-crc32".to_owned(), "DUoRhQ==".to_owned()));
        assert_eq!(read(b"0\r\n\r\n"), Some((Vec::new(), Vec::new())));
        for bad in [
            b"".as_slice(),
            b"5\r\nhello\r\n",
            b"5\r\nhelloX\n0\r\n\r\n",
            b"6\r\nhello\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"5\nhello\n0\n\n",
            b"fffffffff\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\n\r\nmore",
        ] {
            assert_eq!(read(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn other_codings_stay() {
        let mut headers = vec![("content-encoding".to_owned(), "aws-chunked, gzip".to_owned())];
        assert!(remove_coding(&mut headers));
        assert_eq!(headers, [("content-encoding".to_owned(), "gzip".to_owned())]);
        assert!(!remove_coding(&mut headers));
        let mut headers = vec![("content-encoding".to_owned(), "AWS-chunked".to_owned())];
        assert!(remove_coding(&mut headers) && headers.is_empty());
    }
}
