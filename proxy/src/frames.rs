//! Counts what goes by on an HTTP/2 connection: a client that sends many frames which ask for nothing is let go.
//!
//! The HTTP library bounds what frames can make it keep, not how often they make it work: PING, SETTINGS, PRIORITY,
//! WINDOW_UPDATE and empty frames (CVE-2019-9511 to 9518). Nothing is held back here, and nothing is decoded but the nine
//! bytes in front of each frame (RFC 9113 section 4.1).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream of frames, whose reading side fails when too many of them ask for nothing.
#[derive(Debug)]
pub struct Counted<IO> {
    io: IO,
    inbound: Walk,
    outbound: Walk,
    /// Frames without a request in them that may still come.
    allowance: u32,
    /// Since when time has not been added to the allowance.
    since: Instant,
}

/// Where in a sequence of frames the reader stands.
#[derive(Debug, Default)]
struct Walk {
    /// Bytes of the frame's head that are read.
    at: u8,
    frame: Frame,
    /// Bytes to pass until the next head.
    left: usize,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
}

// === impl Counted ===

impl<IO> Counted<IO> {
    /// Counts the frames of `io`, a connection from a client on which nothing was said yet.
    pub fn new(io: IO) -> Counted<IO> {
        let inbound = Walk { left: PREFACE, ..Walk::default() };
        Counted { io, inbound, outbound: Walk::default(), allowance: BURST, since: Instant::now() }
    }

    /// Whether what was read may be passed on.
    fn admit(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut idle, mut work) = (0_u32, 0_u32);
        self.inbound.pass(bytes, |frame| if frame.is_work() { work += 1 } else { idle += 1 });
        self.earn(work);
        if self.allowance < idle {
            let seconds = u32::try_from(self.since.elapsed().as_secs()).unwrap_or(u32::MAX);
            self.since = Instant::now();
            self.allowance = self.allowance.saturating_add(seconds.saturating_mul(EACH_SECOND)).min(BURST);
        }
        match self.allowance.checked_sub(idle) {
            Some(left) => {
                self.allowance = left;
                Ok(())
            }
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "too many frames ask for nothing")),
        }
    }

    fn earn(&mut self, frames: u32) {
        self.allowance = self.allowance.saturating_add(frames.saturating_mul(EACH_WORK)).min(BURST);
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(context, out))?;
        Poll::Ready(this.admit(out.filled().get(before..).unwrap_or_default()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(context, bytes))?;
        let mut work = 0;
        this.outbound.pass(bytes.get(..written).unwrap_or_default(), |frame| work += u32::from(frame.is_work()));
        this.earn(work);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

// === impl Walk ===

impl Walk {
    /// Goes over `bytes`, wherever they were cut, and gives each frame whose head is complete.
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            match self.at {
                0..=2 => self.frame.length = self.frame.length << 8 | usize::from(*byte),
                3 => self.frame.kind = *byte,
                4 => self.frame.flags = *byte,
                _ => {}
            }
            self.at += 1;
            if self.at == HEAD {
                each(self.frame);
                *self = Walk { left: self.frame.length, ..Walk::default() };
            }
        }
    }
}

// === impl Frame ===

impl Frame {
    /// Whether it carries a part of a request or of a reply.
    fn is_work(self) -> bool {
        match self.kind {
            DATA => self.length > 0 || self.flags & END_STREAM != 0,
            HEADERS => true,
            _ => false,
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// On DATA (RFC 9113 section 6.1).
const END_STREAM: u8 = 1;

/// Bytes in front of each frame.
const HEAD: u8 = 9;

/// Bytes a client sends before its first frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// Frames that ask for nothing which may come at once.
const BURST: u32 = 1024;

/// More of them for each frame with a part of a request or reply, in either direction: clients update two windows for
/// what they read, measure the round trip, and order their streams.
const EACH_WORK: u32 = 8;

/// And more with time: signs of life.
const EACH_SECOND: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn opened() -> Counted<()> {
        let mut counted = Counted::new(());
        counted.admit(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        counted
    }

    #[test]
    fn b16_frames_that_ask_for_nothing_are_counted_however_they_arrive() {
        let burst = usize::try_from(BURST).unwrap();
        for piece in [1, 7, 100] {
            for (kind, payload) in [(6, 8), (4, 0), (2, 5), (8, 4), (0, 0), (0xff, 3)] {
                let one = frame(kind, 0, &vec![0; payload]);
                let mut counted = opened();
                let flood = one.repeat(2 * burst);
                let passed = flood.chunks(piece).take_while(|bytes| counted.admit(bytes).is_ok()).count();
                let frames = passed * piece / one.len();
                assert!((burst - 100..=burst).contains(&frames), "{frames} of kind {kind} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn requests_and_replies_earn_what_goes_with_them() {
        let mut counted = opened();
        let request = [frame(1, 4, &[0x82; 30]), frame(0, 1, b"body")].concat();
        let acknowledged = frame(8, 0, &[0; 4]).repeat(2);
        for _ in 0..100_000 {
            counted.admit(&request).unwrap();
            counted.outbound.pass(&frame(0, 0, b"part"), |_| {});
            counted.admit(&acknowledged).unwrap();
        }
    }
}
