//! WebSocket frames on their way (RFC 6455 section 5): looked at, counted, passed on unmodified.
//!
//! What breaks the protocol or a limit ends the connection. Nothing here reads what a message says.

use std::ops::Range;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The agent, whose frames are masked (section 5.1).
    Client,
    /// The upstream, whose frames are not.
    Server,
}

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Frames {
    side: Side,
    most_message: u64,
    stage: Stage,
    /// Bytes of the message under way, and whether there is one.
    message: Option<u64>,
    /// Bytes that went by, heads of frames among them.
    pub(crate) bytes: u64,
    /// Messages that were complete.
    pub(crate) messages: u64,
    /// The code in the close frame, if there was one; 1005 when it has none (section 7.1.5).
    pub(crate) close: Option<u16>,
}

#[derive(Debug)]
enum Stage {
    Head(Vec<u8>),
    Payload(Payload),
}

#[derive(Debug)]
struct Payload {
    left: u64,
    fin: bool,
    kind: Kind,
    mask: [u8; 4],
    /// What has come of a close frame's code.
    code: Vec<u8>,
}

/// Where in the bytes looked at stands what a frame carries, or a part of it.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) range: Range<usize>,
    pub(crate) kind: Kind,
    /// Whether its message or control frame ends with it.
    pub(crate) is_last: bool,
}

/// What a frame is (section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Close,
    Data,
    Other,
}

// === impl Frames ===

impl Frames {
    /// The start of a direction in which no message may be larger than this many bytes.
    pub(crate) fn new(side: Side, most_message: u64) -> Frames {
        Frames { side, most_message, stage: Stage::Head(Vec::new()), message: None, bytes: 0, messages: 0, close: None }
    }

    /// Looks at the next bytes, and says where in them the frames carry something.
    ///
    /// # Errors
    /// What is wrong with them; they must not be passed on.
    pub(crate) fn look(&mut self, bytes: &[u8]) -> Result<Vec<Stretch>, &'static str> {
        self.bytes += bytes.len() as u64;
        let (mut left, mut carried) = (bytes, Vec::new());
        while let Some(rest) = self.step(left, bytes.len() - left.len(), &mut carried)? {
            left = rest;
        }
        Ok(carried)
    }

    /// Takes one step, and returns what is left behind it; nothing when it takes more bytes.
    fn step<'b>(
        &mut self,
        bytes: &'b [u8],
        at: usize,
        carried: &mut Vec<Stretch>,
    ) -> Result<Option<&'b [u8]>, &'static str> {
        match &mut self.stage {
            Stage::Head(head) => {
                let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
                head.push(*first);
                let head = std::mem::take(head);
                self.stage = self.begin(head)?;
                Ok(Some(rest))
            }
            Stage::Payload(payload) => {
                let take = bytes.len().min(usize::try_from(payload.left).unwrap_or(usize::MAX));
                let (now, later) = bytes.split_at_checked(take).unwrap_or((bytes, &[]));
                payload.take(now);
                let is_last = payload.fin && payload.left == 0;
                carried.push(Stretch { range: at..at + take, kind: payload.kind, is_last });
                if payload.left > 0 {
                    return Ok(None);
                }
                self.end()?;
                Ok(Some(later))
            }
        }
    }

    /// Whether nothing is under way: a frame of our own could follow.
    pub(crate) fn is_between(&self) -> bool {
        matches!(&self.stage, Stage::Head(head) if head.is_empty())
    }

    /// What follows a head, if it is complete.
    fn begin(&mut self, head: Vec<u8>) -> Result<Stage, &'static str> {
        let Some((length, mask)) = self.measure(&head)? else { return Ok(Stage::Head(head)) };
        let first = head.first().copied().unwrap_or_default();
        let (fin, kind) = (first & FIN != 0, kind(first & OPCODE)?);
        if kind == Kind::Data {
            let begun = self.message.is_some();
            if (first & OPCODE == CONTINUATION) != begun {
                return Err("its frames do not make up messages");
            }
            let whole = self.message.unwrap_or(0).saturating_add(length);
            if whole > self.most_message {
                return Err(TOO_LARGE);
            }
            self.message = Some(whole);
        } else if !fin || length > MOST_CONTROL {
            return Err("a control frame is cut or too long");
        }
        Ok(Stage::Payload(Payload { left: length, fin, kind, mask, code: Vec::new() }))
    }

    /// Length and mask of a frame, once its head is complete.
    fn measure(&self, head: &[u8]) -> Result<Option<(u64, [u8; 4])>, &'static str> {
        let [first, second, rest @ ..] = head else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err("it uses an extension that was not agreed on");
        }
        if (second & MASKED != 0) != (self.side == Side::Client) {
            return Err("its masking is not what its side has to do");
        }
        let wide = match second & LENGTH {
            LENGTH_16 => 2,
            LENGTH_64 => 8,
            _ => 0,
        };
        let mask = if self.side == Side::Client { 4 } else { 0 };
        let (Some(length), Some(mask)) = (rest.get(..wide), rest.get(wide..wide + mask)) else { return Ok(None) };
        let long = length.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let shortest = [(2, 0x7e), (8, 0x1_0000)].into_iter().find(|(width, _)| *width == wide);
        if shortest.is_some_and(|(_, least)| long < least) || long > i64::MAX as u64 {
            return Err("a frame's length is not written as it must be");
        }
        let length = if wide == 0 { u64::from(second & LENGTH) } else { long };
        Ok(Some((length, <[u8; 4]>::try_from(mask).unwrap_or_default())))
    }

    fn end(&mut self) -> Result<(), &'static str> {
        let Stage::Payload(payload) = std::mem::replace(&mut self.stage, Stage::Head(Vec::new())) else {
            return Ok(());
        };
        match payload.kind {
            Kind::Close => {
                let code = <[u8; 2]>::try_from(payload.code.as_slice()).map(u16::from_be_bytes);
                self.close.get_or_insert(code.unwrap_or(NO_CODE));
            }
            Kind::Data if payload.fin => {
                self.messages += 1;
                self.message = None;
            }
            Kind::Data | Kind::Other => {}
        }
        Ok(())
    }
}

// === impl Payload ===

impl Payload {
    fn take(&mut self, bytes: &[u8]) {
        if self.kind == Kind::Close {
            let from = self.code.len();
            let plain = bytes.iter().zip(self.mask.iter().cycle().skip(from)).map(|(byte, mask)| byte ^ mask);
            self.code.extend(plain.take(2_usize.saturating_sub(from)));
        }
        self.left -= bytes.len() as u64;
    }
}

fn kind(opcode: u8) -> Result<Kind, &'static str> {
    match opcode {
        CONTINUATION | 1 | 2 => Ok(Kind::Data),
        8 => Ok(Kind::Close),
        9 | 10 => Ok(Kind::Other),
        _ => Err("a frame of an unknown kind"),
    }
}

/// Said of a message that is over the limit; the code for it is 1009.
pub(crate) const TOO_LARGE: &str = "message_too_large";

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
const CONTINUATION: u8 = 0;

/// Payload of a control frame (section 5.5).
const MOST_CONTROL: u64 = 125;

/// What a close frame without a code stands for.
const NO_CODE: u16 = 1005;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
        let flag = if masked { MASKED } else { 0 };
        let mut out = vec![first];
        match payload.len() {
            short @ 0..=125 => out.push(flag | u8::try_from(short).unwrap()),
            medium @ 126..=0xffff => {
                out.push(flag | LENGTH_16);
                out.extend(u16::try_from(medium).unwrap().to_be_bytes());
            }
            long => {
                out.push(flag | LENGTH_64);
                out.extend((long as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        if masked {
            out.extend(mask);
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            out.extend(payload);
        }
        out
    }

    #[test]
    fn messages_are_counted_however_their_bytes_come() {
        let sent = [
            frame(0x81, b"hello", true),
            frame(0x02, &[7; 70_000], true),
            frame(0x89, b"ping", true),
            frame(0x80, &[7; 300], true),
            frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e'], true),
        ]
        .concat();
        for piece in [1, 2, 7, 4096, sent.len()] {
            let mut frames = Frames::new(Side::Client, 100_000);
            sent.chunks(piece).for_each(|bytes| drop(frames.look(bytes).unwrap()));
            assert_eq!((frames.messages, frames.bytes, frames.close), (2, sent.len() as u64, Some(1000)), "{piece}");
            assert!(frames.is_between());
        }
        let mut server = Frames::new(Side::Server, 10);
        let carried = server.look(&frame(0x88, &[], false)).unwrap();
        assert!(matches!(carried.as_slice(), [Stretch { range: Range { start: 2, end: 2 }, is_last: true, .. }]));
        assert_eq!(server.close, Some(NO_CODE));
    }

    #[test]
    fn what_breaks_the_protocol_or_the_limit_is_not_passed() {
        for (side, bytes) in [
            (Side::Client, frame(0x81, b"x", false)),
            (Side::Server, frame(0x81, b"x", true)),
            (Side::Server, frame(0xc1, b"x", false)),
            (Side::Server, frame(0x83, b"x", false)),
            (Side::Server, frame(0x80, b"x", false)),
            (Side::Server, [frame(0x01, b"x", false), frame(0x81, b"x", false)].concat()),
            (Side::Server, frame(0x09, b"x", false)),
            (Side::Server, frame(0x89, &[0; 126], false)),
            (Side::Server, vec![0x82, LENGTH_16, 0, 5]),
            (Side::Server, vec![0x82, LENGTH_64, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            (Side::Server, frame(0x82, &[0; 1001], false)),
            (Side::Server, [frame(0x02, &[0; 600], false), frame(0x80, &[0; 600], false)].concat()),
        ] {
            assert!(Frames::new(side, 1000).look(&bytes).is_err(), "{side:?} {:?}", &bytes[..4.min(bytes.len())]);
        }
    }
}
