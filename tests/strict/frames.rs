//! HTTP/2 by hand (RFC 9113, RFC 7541): frames as a test wants them, header fields as plain literals.

use super::payload::latin1;
use crate::harness::connection::Connection;

/// An HTTP/2 connection, from its preface on.
pub(crate) struct Frames {
    connection: Connection,
}

/// One frame as it arrived.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With a status, complete.
    Answer(u16),
    /// The connection ended without a GOAWAY.
    Closed,
    /// The connection ended with this error code.
    Gone(u32),
    /// The stream was reset with this error code.
    Reset(u32),
}

// === impl Frames ===

impl Frames {
    /// Sends preface and settings.
    pub(crate) fn open(connection: Connection) -> Frames {
        Frames::open_with(connection, &[])
    }

    /// Sends preface and these settings.
    pub(crate) fn open_with(mut connection: Connection, settings: &[u8]) -> Frames {
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut frames = Frames { connection };
        frames.send(SETTINGS, 0, 0, settings);
        frames
    }

    /// Sends one frame.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.connection.send(&frame(kind, flags, stream, payload));
    }

    /// Sends a request without a body.
    pub(crate) fn request(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields));
    }

    /// Sends a request with a body, in one frame.
    pub(crate) fn request_with(&mut self, stream: u32, fields: &[(&str, &str)], body: &[u8]) {
        self.send(HEADERS, END_HEADERS, stream, &block(fields));
        self.send(DATA, END_STREAM, stream, body);
    }

    /// Waits for the end of a stream, or of the connection.
    pub(crate) fn outcome(&mut self, stream: u32) -> Outcome {
        let (mut status, mut gone) = (None, None);
        while let Some(frame) = self.frame() {
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
                PING if frame.flags & ACK == 0 => self.send(PING, ACK, 0, &frame.payload),
                GOAWAY => gone = Some(number(&frame.payload[4..8])),
                RST_STREAM if frame.stream == stream => {
                    return status.map_or(Outcome::Reset(number(&frame.payload)), Outcome::Answer);
                }
                HEADERS if frame.stream == stream && status.is_none() => status = Some(status_of(&frame.payload)),
                _ => {}
            }
            let ended =
                [HEADERS, DATA].contains(&frame.kind) && frame.stream == stream && frame.flags & END_STREAM != 0;
            if let (true, Some(status)) = (ended, status) {
                return Outcome::Answer(status);
            }
        }
        gone.map_or(Outcome::Closed, Outcome::Gone)
    }

    /// Waits for the end of the connection, and shows every sign of life that is asked for.
    pub(crate) fn until_end(&mut self) {
        while let Some(frame) = self.frame() {
            if frame.kind == PING && frame.flags & ACK == 0 {
                self.send(PING, ACK, 0, &frame.payload);
            }
        }
    }

    /// The next frame; nothing when the connection has ended.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let head = self.connection.exactly(9).ok()?;
        let length = usize::try_from(number(&head[..3])).unwrap();
        let payload = self.connection.exactly(length).ok()?;
        Some(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]) & 0x7fff_ffff, payload })
    }
}

/// One frame (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields as literals that are not indexed and not compressed, one byte for each character.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let literal = |text: &str| {
        let bytes = latin1(text);
        [integer(bytes.len()), bytes].concat()
    };
    fields.iter().flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect()
}

/// An HPACK integer with a prefix of seven bits.
fn integer(value: usize) -> Vec<u8> {
    let Some(mut rest) = value.checked_sub(0x7f) else { return vec![u8::try_from(value).unwrap()] };
    let mut bytes = vec![0x7f];
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest % 0x80).unwrap() | 0x80);
        rest /= 0x80;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// The status at the front of a block: from the static table, or a literal whose digits may be Huffman codes.
fn status_of(block: &[u8]) -> u16 {
    // The encoder may say first that its table changed.
    let block = &block[block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
    match block {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [_, length, value @ ..] if length & 0x80 == 0 => str::from_utf8(&value[..3]).unwrap().parse().unwrap(),
        [_, length, value @ ..] => digits(&value[..usize::from(length & 0x7f)]),
        _ => 0,
    }
}

/// Three digits as Huffman codes: five bits for 0 to 2, six for the others (RFC 7541 appendix B).
fn digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u16> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1))).collect();
    let read = |at: usize, length: usize| bits[at..at + length].iter().fold(0, |code, bit| code * 2 + bit);
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let (digit, length) = match read(at, 5) {
            short @ 0..=2 => (short, 5),
            _ => (read(at, 6) - 0b011_001 + 3, 6),
        };
        value = value * 10 + digit;
        at += length;
    }
    value
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

/// On SETTINGS and PING.
pub(crate) const ACK: u8 = 1;

/// On HEADERS and DATA.
pub(crate) const END_STREAM: u8 = 1;

/// On HEADERS and CONTINUATION.
pub(crate) const END_HEADERS: u8 = 4;
