//! Reading bodies under one content coding (RFC 9110 section 8.4.1, RFC 8878, RFC 7932).
//!
//! Nothing is decoded without a bound, and nothing but one whole stream is accepted: what follows it, a second member,
//! a wrong checksum or a window that only some decoders take makes the body unreadable.

use std::borrow::Cow;
use std::io::Read;

use brotli_decompressor::Decompressor;
use flate2::bufread::{GzDecoder, ZlibDecoder};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::json::Unreadable;

/// The codings that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Brotli,
    Deflate,
    Gzip,
    Zstd,
}

/// The bytes of a body under the codings that its `Content-Encoding` headers list, each by name.
///
/// # Errors
/// Why they cannot be read, in words that hold nothing of the body.
pub fn decoded<'a, 'h>(body: &'a [u8], headers: impl Iterator<Item = &'h str>) -> Result<Cow<'a, [u8]>, &'static str> {
    decode(body, headers).map_err(|Unreadable(why)| why)
}

/// The most bytes that a body of `length` may decode to.
pub fn most_decoded(length: usize) -> usize {
    length.saturating_mul(MAX_RATIO).clamp(ALWAYS, MAX_DECODED)
}

/// The bytes of a body under the codings that its headers list.
pub(crate) fn decode<'a, 'h>(
    body: &'a [u8],
    headers: impl Iterator<Item = &'h str>,
) -> Result<Cow<'a, [u8]>, Unreadable> {
    let mut coding = None;
    for name in headers.flat_map(|value| value.split(',')) {
        let next = match name.trim().to_ascii_lowercase().as_str() {
            "identity" => continue,
            "br" => Coding::Brotli,
            "deflate" => Coding::Deflate,
            "gzip" | "x-gzip" => Coding::Gzip,
            "zstd" => Coding::Zstd,
            _ => return Err(Unreadable("the content coding is none that is read here")),
        };
        if coding.replace(next).is_some() {
            return Err(Unreadable("the body is compressed more than once"));
        }
    }
    match coding.filter(|_| !body.is_empty()) {
        Some(coding) => coding.decode(body).map(Cow::Owned),
        None => Ok(Cow::Borrowed(body)),
    }
}

// === impl Coding ===

impl Coding {
    fn decode(self, body: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let limit = most_decoded(body.len());
        match self {
            Self::Brotli => {
                let mut stream = Decompressor::new(body, BUFFER);
                let decoded = read(&mut stream, limit)?;
                // What is left in the decoder's own buffer is an error only of the next read.
                let whole = stream.read(&mut [0]).is_ok_and(|octets| octets == 0) && stream.into_inner().is_empty();
                if whole { Ok(decoded) } else { Err(MALFORMED) }
            }
            Self::Deflate => {
                let mut stream = ZlibDecoder::new(body);
                let decoded = read(&mut stream, limit)?;
                if stream.into_inner().is_empty() { Ok(decoded) } else { Err(MALFORMED) }
            }
            Self::Gzip => {
                let mut stream = GzDecoder::new(body);
                let decoded = read(&mut stream, limit)?;
                if stream.into_inner().is_empty() { Ok(decoded) } else { Err(MALFORMED) }
            }
            Self::Zstd => {
                let mut stream = StreamingDecoder::new_with_max_window_size(body, MAX_WINDOW).map_err(|_| MALFORMED)?;
                let decoded = read(&mut stream, limit)?;
                let (rest, frame): (_, FrameDecoder) = stream.into_parts();
                let given = frame.get_checksum_from_data();
                let sound = given.is_none() || given == frame.get_calculated_checksum();
                if rest.is_empty() && sound { Ok(decoded) } else { Err(MALFORMED) }
            }
        }
    }
}

fn read(stream: &mut impl Read, limit: usize) -> Result<Vec<u8>, Unreadable> {
    let mut decoded = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(most).read_to_end(&mut decoded).map_err(|_| MALFORMED)?;
    if decoded.len() > limit { Err(Unreadable("the body is compressed beyond all measure")) } else { Ok(decoded) }
}

const MALFORMED: Unreadable = Unreadable("the compressed body is malformed");

/// The longest decoded body in octets.
const MAX_DECODED: usize = 32 * 1024 * 1024;
/// So many decoded octets are read whatever the ratio is.
const ALWAYS: usize = 1024 * 1024;
const MAX_RATIO: usize = 100;
/// The window that every decoder of the coding must take (RFC 9659).
const MAX_WINDOW: u64 = 8 * 1024 * 1024;
const BUFFER: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut stream = GzEncoder::new(Vec::new(), Compression::best());
        stream.write_all(text).unwrap();
        stream.finish().unwrap()
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut stream = ZlibEncoder::new(Vec::new(), Compression::best());
        stream.write_all(text).unwrap();
        stream.finish().unwrap()
    }

    /// One stored block and the empty last one (RFC 7932 section 9).
    fn brotli(text: &[u8]) -> Vec<u8> {
        let head = (u32::try_from(text.len()).unwrap() - 1) << 4 | 1 << 20;
        [&head.to_le_bytes()[..3], text, &[3]].concat()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    const TEXT: &[u8] = b"{\"text\":\"refund guaranteed\"}";
    type Encode = fn(&[u8]) -> Vec<u8>;
    const CODINGS: [(&str, Encode); 5] =
        [("br", brotli), ("deflate", zlib), ("gzip", gzip), ("X-GZIP", gzip), ("zstd", zstd)];

    #[test]
    fn reads_each_coding() {
        for (name, encode) in CODINGS {
            let encoded = encode(TEXT);
            assert_eq!(decode(&encoded, [name].into_iter()).as_deref(), Ok(TEXT), "{name}");
            let list = format!("identity, {name} ");
            assert_eq!(decode(&encoded, [list.as_str()].into_iter()).as_deref(), Ok(TEXT), "{name}");
        }
        assert_eq!(decode(TEXT, ["identity"].into_iter()).as_deref(), Ok(TEXT));
        assert_eq!(decode(TEXT, [].into_iter()).as_deref(), Ok(TEXT));
        assert_eq!(decode(b"", ["gzip"].into_iter()).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn refuses_everything_but_one_whole_stream() {
        for (name, encode) in CODINGS {
            let whole = encode(TEXT);
            let refused = |bytes: &[u8]| decode(bytes, [name].into_iter()) == Err(MALFORMED);
            assert!(refused(&[&whole[..], b"x"].concat()), "{name} with a tail");
            assert!(refused(&[&whole[..], &vec![b'x'; 9_000]].concat()), "{name} with a long tail");
            assert!(refused(&[&whole[..], &whole].concat()), "{name} twice");
            assert!(refused(&whole[..whole.len() - 1]), "{name} cut off");
            assert!(refused(TEXT), "{name} of plain text");
        }
        for name in ["gzip", "deflate", "zstd"] {
            let (_, encode) = CODINGS.iter().find(|(coding, _)| *coding == name).unwrap();
            let mut wrong = encode(TEXT);
            *wrong.last_mut().unwrap() ^= 1;
            assert_eq!(decode(&wrong, [name].into_iter()), Err(MALFORMED), "{name} with a wrong checksum");
        }
    }

    #[test]
    fn refuses_unknown_and_double_codings() {
        let table: [&[&str]; 7] =
            [&["compress"], &["aws-chunked"], &[""], &["gzip,"], &["gzip, gzip"], &["br", "gzip"], &["g zip"]];
        for headers in table {
            assert!(decode(&gzip(TEXT), headers.iter().copied()).is_err(), "{headers:?}");
        }
    }

    #[test]
    fn is_bounded() {
        let bomb = gzip(&vec![b' '; 4 * 1024 * 1024]);
        let why = decode(&bomb, ["gzip"].into_iter()).unwrap_err();
        assert_eq!(why, Unreadable("the body is compressed beyond all measure"));
        assert!(decode(&gzip(&vec![b' '; ALWAYS]), ["gzip"].into_iter()).is_ok());
    }
}
