//! What an upstream may send on a connection: exactly one plain reply to each request (RFC 9112).
//!
//! A second reply, two lengths, a bare line feed, an unasked switch of protocols: the connection is broken off and the
//! request has failed. hyper alone would read some of these in one way while another client reads them in another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::chunk::{Chunk, Chunks};
use crate::framed::{Grammar, Step};

/// The grammar of replies.
#[derive(Debug)]
pub struct Replies {
    stage: Stage,
    due: Due,
    /// Interim replies seen since the last final one.
    interim: usize,
}

/// Whether a reply is due, told to the reading side by the sending side.
#[derive(Clone, Debug, Default)]
pub struct Due(Arc<AtomicU8>);

#[derive(Clone, Copy, Debug)]
enum Stage {
    Chunked(Chunks),
    Head,
    Length(u64),
    UntilClose,
}

/// The framing of one reply.
enum Framing {
    Chunked,
    Interim,
    Length(u64),
    UntilClose,
}

// === impl Due ===

impl Due {
    /// A request is about to go out. A reply to HEAD has no body, whatever it says; `upgrades`: it may hand the
    /// connection over.
    pub fn expect(&self, method: &str, upgrades: bool) {
        let due = match (method, upgrades) {
            ("HEAD", _) => HEAD_REPLY,
            (_, true) => UPGRADE,
            (_, false) => REPLY,
        };
        self.0.store(due, Ordering::SeqCst);
    }
}

// === impl Replies ===

impl Replies {
    /// The grammar at the start of a connection.
    pub fn new(due: Due) -> Replies {
        Replies { stage: Stage::Head, due, interim: 0 }
    }

    fn head(&mut self, raw: &[u8]) -> Step {
        if raw.is_empty() {
            return Step::More;
        }
        let due = self.due.0.load(Ordering::SeqCst);
        if due == NOTHING {
            return malformed("it sent what was not asked for");
        }
        let end = memchr::memmem::find(raw, b"\r\n\r\n").map(|at| at + 4);
        let Some(end) = end else {
            return if raw.len() > MAX_HEAD { malformed("its reply's head is too large") } else { Step::More };
        };
        match framing(raw.get(..end).unwrap_or_default(), due) {
            Err(why) => malformed(why),
            Ok(Framing::Interim) => {
                self.interim += 1;
                if self.interim > MAX_INTERIM { malformed("it sent too many interim replies") } else { Step::Pass(end) }
            }
            Ok(framing) => {
                self.interim = 0;
                self.enter(framing);
                Step::Pass(end)
            }
        }
    }

    fn enter(&mut self, framing: Framing) {
        self.stage = match framing {
            Framing::Chunked => Stage::Chunked(Chunks::new(MAX_TRAILERS)),
            Framing::Interim | Framing::Length(0) => {
                self.finish();
                return;
            }
            Framing::Length(length) => Stage::Length(length),
            Framing::UntilClose => Stage::UntilClose,
        };
    }

    fn finish(&mut self) {
        self.stage = Stage::Head;
        self.due.0.store(NOTHING, Ordering::SeqCst);
    }
}

impl Grammar for Replies {
    /// What comes unasked is to be seen at once.
    fn poll_turn(&mut self, _raw: &[u8], _context: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn step(&mut self, raw: &[u8]) -> Step {
        match self.stage {
            Stage::Head => self.head(raw),
            Stage::Chunked(mut chunks) => {
                let chunk = chunks.step(raw);
                self.stage = Stage::Chunked(chunks);
                match chunk {
                    Chunk::Bad(why) => malformed(why),
                    Chunk::Last(bytes) => {
                        self.finish();
                        Step::Pass(bytes)
                    }
                    Chunk::More => Step::More,
                    Chunk::Pass(bytes) => Step::Pass(bytes),
                }
            }
            Stage::Length(_) | Stage::UntilClose if raw.is_empty() => Step::More,
            Stage::Length(_) | Stage::UntilClose => {
                let take = raw.len().min(usize::try_from(self.plain()).unwrap_or(usize::MAX));
                self.pass_plain(take as u64);
                Step::Pass(take)
            }
        }
    }

    fn plain(&self) -> u64 {
        match self.stage {
            Stage::Length(left) => left,
            Stage::UntilClose => u64::MAX,
            Stage::Chunked(_) | Stage::Head => 0,
        }
    }

    fn pass_plain(&mut self, bytes: u64) {
        if let Stage::Length(left) = self.stage {
            match left.saturating_sub(bytes) {
                0 => self.finish(),
                left => self.stage = Stage::Length(left),
            }
        }
    }

    /// The sending side watches the time.
    fn deadline(&self, _waiting: bool) -> Option<(u64, Duration)> {
        None
    }

    fn overdue(&mut self) -> Step {
        Step::More
    }
}

/// How the body of the reply with this head is framed (RFC 9112 section 6.3).
fn framing(head: &[u8], due: u8) -> Result<Framing, &'static str> {
    let body = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let mut lines = body.split(|byte| *byte == b'\n').enumerate().map(|(at, line)| {
        // Every line but the last has lost its LF here and must still have its CR.
        let whole = line.strip_suffix(b"\r");
        (at, whole.unwrap_or(line), whole.is_some())
    });
    let count = body.iter().filter(|byte| **byte == b'\n').count();
    let status = match lines.next() {
        Some((_, line, ended)) if ended || count == 0 => status(line)?,
        Some(_) | None => return Err("a line of its reply ends with a bare line feed"),
    };
    let (mut length, mut chunked) = (None, false);
    for (at, line, ended) in lines {
        if !ended && at != count {
            return Err("a line of its reply ends with a bare line feed");
        }
        let (name, value) = header(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(content_length(value)?).is_some() {
                return Err("its reply has two lengths");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("its reply has an unknown transfer encoding");
            }
            chunked = true;
        }
    }
    match (status, length, chunked) {
        // What comes then is not HTTP any more, and ends with the connection.
        (101, None, false) if due == UPGRADE => Ok(Framing::UntilClose),
        (101, ..) => Err("it switches protocols, which was not asked for"),
        (100..=199, ..) => Ok(Framing::Interim),
        (_, Some(_), true) => Err("its reply has a length and a transfer encoding"),
        (204 | 304, ..) => Ok(Framing::Length(0)),
        _ if due == HEAD_REPLY => Ok(Framing::Length(0)),
        (_, None, true) => Ok(Framing::Chunked),
        (_, Some(length), false) => Ok(Framing::Length(length)),
        (_, None, false) => Ok(Framing::UntilClose),
    }
}

fn status(line: &[u8]) -> Result<u16, &'static str> {
    let wrong = "its reply does not start with an HTTP/1 status line";
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 ")).ok_or(wrong)?;
    let (code, reason) = rest.split_at_checked(3).ok_or(wrong)?;
    if !(reason.is_empty() || reason.starts_with(b" ")) || !plain(reason) || !code.iter().all(u8::is_ascii_digit) {
        return Err(wrong);
    }
    let code = code.iter().fold(0_u16, |code, digit| code * 10 + u16::from(digit - b'0'));
    if (100..=599).contains(&code) { Ok(code) } else { Err(wrong) }
}

fn header(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("a header line of its reply has no colon")?;
    let (name, value) = line.split_at(colon);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(token) || !plain(value) {
        return Err("a header line of its reply is not plain");
    }
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

fn content_length(text: &[u8]) -> Result<u64, &'static str> {
    let digits = Some(text).filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit));
    let length = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    length.ok_or("the length of its reply is not a number")
}

/// No control but the tab; bytes above ASCII are old text (RFC 9110 section 5.5) and pass.
fn plain(text: &[u8]) -> bool {
    text.iter().all(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f))
}

fn malformed(why: &'static str) -> Step {
    Step::Break(io::Error::new(io::ErrorKind::InvalidData, why))
}

const NOTHING: u8 = 0;
const REPLY: u8 = 1;
const HEAD_REPLY: u8 = 2;
const UPGRADE: u8 = 3;

/// Bytes of a reply's head.
const MAX_HEAD: usize = 64 * 1024;

/// Bytes of a reply's trailers.
const MAX_TRAILERS: usize = 8 * 1024;

/// Interim (1xx) replies before a final one.
const MAX_INTERIM: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that pass as the one reply to a request; `None` when it was broken off.
    fn passed(raw: &[u8], method: &str) -> Option<usize> {
        let due = Due::default();
        due.expect(method, false);
        let mut replies = Replies::new(due);
        let mut at = 0;
        loop {
            match replies.step(&raw[at..]) {
                Step::Pass(bytes) | Step::Drop(bytes) => at += bytes,
                Step::More => return Some(at),
                Step::Break(_) | Step::End(_) => return None,
            }
        }
    }

    #[test]
    fn plain_replies_pass_whole() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET"),
            ("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", "GET"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "GET"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\ngrpc-status: 0\r\n\r\n", "GET"),
            ("HTTP/1.0 200 OK\r\n\r\nuntil the end", "GET"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "HEAD"),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", "GET"),
            ("HTTP/1.1 204 No Content\r\n\r\n", "DELETE"),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET"),
            ("HTTP/1.1 200 OK\r\nX: caf\u{e9}\r\nContent-Length: 0\r\n\r\n", "GET"),
        ];
        for (raw, method) in cases {
            assert_eq!(passed(raw.as_bytes(), method), Some(raw.len()), "{raw:?}");
        }
    }

    #[test]
    fn a40_a41_f08_replies_that_can_be_read_in_two_ways_are_broken_off() {
        let cases = [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\nbody",
            "HTTP/1.1 304 Not Modified\r\n\r\nbody",
            "ok\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n",
        ];
        for raw in cases {
            assert_eq!(passed(raw.as_bytes(), "GET"), None, "{raw:?}");
        }
        let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(MAX_INTERIM + 1);
        assert_eq!(passed(flood.as_bytes(), "GET"), None, "f22");
    }

    #[test]
    fn nothing_may_come_unasked() {
        let mut replies = Replies::new(Due::default());
        assert!(matches!(replies.step(b"HTTP/1.1 408 Request Timeout\r\n\r\n"), Step::Break(_)));
    }
}
