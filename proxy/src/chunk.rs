//! The chunked coding, counted on raw bytes (RFC 9112 section 7.1): plain sizes, no extensions.

/// Where in a chunked body the reader stands.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    stage: Stage,
    /// Bytes of trailer lines that may still come; none in requests.
    trailers: usize,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Data(u64),
    DataEnd,
    Size,
    Trailers,
}

/// What the front of the bytes at hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Not a chunk that can be read in one way only.
    Bad(&'static str),
    /// This many bytes belong to the body, and end it.
    Last(usize),
    /// More bytes are needed.
    More,
    /// This many bytes belong to the body.
    Pass(usize),
}

// === impl Chunks ===

impl Chunks {
    /// A body whose trailer lines may take this many bytes; 0 forbids them.
    pub fn new(trailers: usize) -> Chunks {
        Chunks { stage: Stage::Size, trailers }
    }

    /// Reads on from the front of `raw`.
    pub fn step(&mut self, raw: &[u8]) -> Chunk {
        match self.stage {
            Stage::Data(left) => self.data(raw, left),
            Stage::DataEnd => self.data_end(raw),
            Stage::Size => self.size(raw),
            Stage::Trailers => self.trailer(raw),
        }
    }

    fn data(&mut self, raw: &[u8], left: u64) -> Chunk {
        let take = raw.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if take == 0 {
            return Chunk::More;
        }
        let left = left - take as u64;
        self.stage = if left == 0 { Stage::DataEnd } else { Stage::Data(left) };
        Chunk::Pass(take)
    }

    fn data_end(&mut self, raw: &[u8]) -> Chunk {
        match raw {
            [] | [b'\r'] => Chunk::More,
            [b'\r', b'\n', ..] => {
                self.stage = Stage::Size;
                Chunk::Pass(2)
            }
            _ => Chunk::Bad("a chunk is longer or shorter than its size"),
        }
    }

    fn size(&mut self, raw: &[u8]) -> Chunk {
        let digits = raw.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > MAX_DIGITS {
            return Chunk::Bad("a chunk size is too long");
        }
        match raw.get(digits..).unwrap_or_default() {
            [] | [b'\r'] if digits > 0 || raw.is_empty() => return Chunk::More,
            [b'\r', b'\n', ..] if digits > 0 => {}
            _ => return Chunk::Bad("a chunk size is not a plain hexadecimal number"),
        }
        let size = raw.iter().take(digits).filter_map(|byte| char::from(*byte).to_digit(16));
        let size = size.fold(0, |size, digit| size * 16 + u64::from(digit));
        self.stage = if size == 0 { Stage::Trailers } else { Stage::Data(size) };
        Chunk::Pass(digits + 2)
    }

    /// A trailer line, or the empty line that ends the body.
    fn trailer(&mut self, raw: &[u8]) -> Chunk {
        match raw {
            [] | [b'\r'] => return Chunk::More,
            [b'\r', b'\n', ..] => return Chunk::Last(2),
            _ if self.trailers == 0 => return Chunk::Bad("there are trailers"),
            _ => {}
        }
        let Some(end) = raw.windows(2).position(|pair| pair == b"\r\n").map(|at| at + 2) else {
            return if raw.len() > self.trailers { Chunk::Bad("the trailers are too long") } else { Chunk::More };
        };
        let line = raw.get(..end - 2).unwrap_or_default();
        let plain = line.iter().all(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f)) && line.contains(&b':');
        if end > self.trailers || !plain {
            return Chunk::Bad("a trailer line is not plain");
        }
        self.trailers -= end;
        Chunk::Pass(end)
    }
}

/// Digits of the largest chunk size: 15 hexadecimal digits stay below 2^60.
const MAX_DIGITS: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole body, fed in pieces of `step` bytes: its length when it ends, or what was wrong.
    fn read(raw: &[u8], trailers: usize, step: usize) -> Result<Option<usize>, &'static str> {
        let mut chunks = Chunks::new(trailers);
        let (mut at, mut seen) = (0, step.min(raw.len()));
        loop {
            match chunks.step(&raw[at..seen]) {
                Chunk::Bad(why) => return Err(why),
                Chunk::Last(bytes) => return Ok(Some(at + bytes)),
                Chunk::More if seen == raw.len() => return Ok(None),
                Chunk::More => seen = (seen + step).min(raw.len()),
                Chunk::Pass(bytes) => at += bytes,
            }
        }
    }

    #[test]
    fn whole_bodies_end_where_they_say_in_any_pieces() {
        for raw in
            ["0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "A\r\n0123456789\r\n00\r\n\r\n", "1\r\na\r\n1\r\nb\r\n0\r\n\r\n"]
        {
            let more = format!("{raw}GET / HTTP/1.1\r\n");
            for step in 1..raw.len() + 1 {
                assert_eq!(read(more.as_bytes(), 0, step), Ok(Some(raw.len())), "{raw:?} in {step}");
            }
            assert_eq!(read(&raw.as_bytes()[..raw.len() - 1], 0, 3), Ok(None), "{raw:?} cut");
        }
    }

    #[test]
    fn a19_to_a25_chunks_that_can_be_read_in_two_ways() {
        let cases = [
            "0x5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "-0x0\r\n\r\n",
            "5_0\r\n",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "\r\n\r\n",
            "5;x=y\r\nhello\r\n",
            "FFFFFFFFFFFFFFFF\r\n",
            "0000000000000000005\r\nhello\r\n",
            "1\nZ\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhellooo\r\n",
            "5\r\nhel\r\n0\r\n\r\n",
            "5\r\nhello\r\n\r\n0\r\n\r\n",
            "0\r\nX: y\r\n\r\n",
            "0\r\n\n",
            "g\r\n",
            "0\r\r\n",
        ];
        for raw in cases {
            for step in [1, 2, 1000] {
                assert!(
                    read(raw.as_bytes(), 0, step).is_err(),
                    "{raw:?} in {step}: {:?}",
                    read(raw.as_bytes(), 0, step)
                );
            }
        }
    }

    #[test]
    fn trailers_are_bounded_and_plain_where_they_are_allowed() {
        assert_eq!(read(b"0\r\ngrpc-status: 0\r\n\r\n", 100, 1), Ok(Some(21)));
        assert!(read(b"0\r\ngrpc-status: 0\r\n\r\n", 10, 1).is_err());
        for raw in ["0\r\na: b\0\r\n\r\n", "0\r\nno colon\r\n\r\n", "0\r\na: b\rc\r\n\r\n", "0\r\na: b\n\r\n\r\n"] {
            assert!(read(raw.as_bytes(), 100, 1000).is_err(), "{raw:?}");
        }
    }
}
