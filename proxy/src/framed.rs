//! The connection as hyper sees it: only bytes that [`head`](crate::head) has checked, one framed message after another.
//!
//! A message that is refused is replaced by a plain stand-in request, so that its refusal is answered in its turn and
//! through the same code as every other. After it nothing more is read.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::head::{self, Framing};
use crate::limits::Limits;
use crate::refusal::Refusal;

/// A byte stream whose reading side passes framed, checked HTTP/1.1 requests only.
#[derive(Debug)]
pub struct Framed<IO> {
    io: IO,
    /// Read from the socket, not yet checked.
    raw: BytesMut,
    /// Checked, not yet read by hyper.
    checked: BytesMut,
    stage: Stage,
    limits: Arc<Limits>,
    verdicts: Verdicts,
    /// When the head or body under way must be complete; none between messages (hyper watches idleness).
    deadline: Option<Pin<Box<Sleep>>>,
    heads: u64,
}

/// Where in a message the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Inside the data of a chunk; bytes still to come.
    ChunkData(u64),
    /// At the CRLF after the data of a chunk.
    ChunkEnd,
    /// At a line with the size of a chunk.
    ChunkSize,
    /// Everything was read that ever will be.
    End,
    /// At the first byte of a head, or inside one.
    Head,
    /// At the empty line after the last chunk.
    LastChunkEnd,
    /// Inside a body of known length; bytes still to come.
    Length(u64),
}

/// What the reader found wrong, kept for the code that answers. Shared by the two sides of one connection.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    refused: Arc<Mutex<Option<(u64, Refusal)>>>,
    answered: Arc<AtomicU64>,
}

// === impl Verdicts ===

impl Verdicts {
    /// A connection whose first request is refused, whatever it says.
    pub fn refusing(refusal: Refusal) -> Verdicts {
        Verdicts { refused: Arc::new(Mutex::new(Some((0, refusal)))), answered: Arc::default() }
    }

    /// To be called once for each request hyper hands over: its number on this connection, from 0.
    pub fn next(&self) -> u64 {
        self.answered.fetch_add(1, Ordering::SeqCst)
    }

    /// The refusal of request `number`, if it was refused while its head or its body was read.
    pub fn take(&self, number: u64) -> Option<Refusal> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.as_ref() {
            Some((at, _)) if *at == number => refused.take().map(|(_, refusal)| refusal),
            Some(_) | None => None,
        }
    }

    fn put(&self, number: u64, refusal: Refusal) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get_or_insert((number, refusal));
    }
}

// === impl Framed ===

impl<IO: AsyncRead + Unpin> Framed<IO> {
    /// Frames `io`, starting with the bytes in `raw` that were read from it before.
    pub fn new(io: IO, raw: BytesMut, limits: Arc<Limits>, verdicts: Verdicts) -> Framed<IO> {
        Framed { io, raw, checked: BytesMut::new(), stage: Stage::Head, limits, verdicts, deadline: None, heads: 0 }
    }

    /// Checks as much of `raw` as can be. False: more bytes are needed.
    fn advance(&mut self) -> Result<bool, Refusal> {
        match self.stage {
            Stage::ChunkData(left) => Ok(self.pass(left, Stage::ChunkData, Stage::ChunkEnd)),
            Stage::ChunkEnd => self.line_end(Stage::ChunkSize),
            Stage::ChunkSize => self.chunk_size(),
            Stage::End => Ok(false),
            Stage::Head => self.head(),
            Stage::LastChunkEnd => self.line_end(Stage::Head),
            Stage::Length(left) => Ok(self.pass(left, Stage::Length, Stage::Head)),
        }
    }

    fn head(&mut self) -> Result<bool, Refusal> {
        // RFC 9112 section 2.2: a server ignores one empty line before a request line.
        if self.heads > 0 && self.raw.starts_with(b"\r\n") {
            self.raw.advance(2);
        }
        if self.raw.is_empty() {
            return Ok(false);
        }
        let Some(head) = head::parse(&self.raw, &self.limits)? else {
            let time = Limits::seconds(self.limits.head_seconds);
            self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
            return Ok(false);
        };
        if head.method == "CONNECT" {
            return Err(Refusal::MethodRefused("CONNECT on a connection that is already in use".to_owned()));
        }
        self.checked.extend_from_slice(&self.raw.split_to(head.bytes));
        self.heads += 1;
        self.stage = match head.framing {
            Framing::Chunked => Stage::ChunkSize,
            Framing::Length(0) => Stage::Head,
            Framing::Length(length) => Stage::Length(length),
        };
        let time = Limits::seconds(self.limits.body_seconds);
        self.deadline = (self.stage != Stage::Head).then(|| Box::pin(tokio::time::sleep(time)));
        Ok(true)
    }

    /// Passes up to `left` bytes of a body.
    fn pass(&mut self, left: u64, more: fn(u64) -> Stage, done: Stage) -> bool {
        let take = self.raw.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if take == 0 {
            return false;
        }
        self.checked.extend_from_slice(&self.raw.split_to(take));
        let left = left - take as u64;
        self.enter(if left == 0 { done } else { more(left) });
        true
    }

    fn line_end(&mut self, next: Stage) -> Result<bool, Refusal> {
        match self.raw.get(..2) {
            None if self.raw.first().is_none_or(|byte| *byte == b'\r') => Ok(false),
            Some(b"\r\n") => {
                self.checked.extend_from_slice(&self.raw.split_to(2));
                self.enter(next);
                Ok(true)
            }
            None | Some(_) => {
                Err(Refusal::ambiguous("a chunk is longer or shorter than its size, or there are trailers"))
            }
        }
    }

    fn chunk_size(&mut self) -> Result<bool, Refusal> {
        let line = self.raw.iter().take(MAX_SIZE_DIGITS + 1).position(|byte| !byte.is_ascii_hexdigit());
        let Some(digits) = line else {
            let early = self.raw.len() <= MAX_SIZE_DIGITS;
            return if early { Ok(false) } else { Err(Refusal::ambiguous("a chunk size is too long")) };
        };
        if self.raw.len() < digits + 2 && self.raw.get(digits) == Some(&b'\r') {
            return Ok(false);
        }
        let size = self
            .raw
            .get(..digits)
            .and_then(|hex| str::from_utf8(hex).ok())
            .and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let (Some(size), Some(b"\r\n")) = (size, self.raw.get(digits..digits + 2)) else {
            return Err(Refusal::ambiguous("a chunk size is not a plain hexadecimal number"));
        };
        self.checked.extend_from_slice(&self.raw.split_to(digits + 2));
        self.stage = if size == 0 { Stage::LastChunkEnd } else { Stage::ChunkData(size) };
        Ok(true)
    }

    /// Ends reading. In a head, hyper gets a stand-in request, so that the refusal is answered in its turn; in a
    /// body, it gets an error, and the code that waits for the body asks for the verdict.
    fn refuse(&mut self, refusal: Refusal) -> io::Result<()> {
        let in_head = self.stage == Stage::Head;
        let number = if in_head { self.heads } else { self.heads.saturating_sub(1) };
        self.verdicts.put(number, refusal);
        self.stage = Stage::End;
        self.raw.clear();
        if in_head {
            self.checked.extend_from_slice(STAND_IN);
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "refused"))
    }

    /// Goes on to the next part of a message; the deadline of a body ends with it.
    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        if stage == Stage::Head {
            self.deadline = None;
        }
    }

    /// Reads more raw bytes. `Ok(false)`: the peer has ended its side.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [0_u8; 16 * 1024];
        let mut buffer = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
        let fresh = buffer.filled();
        self.raw.extend_from_slice(fresh);
        Poll::Ready(Ok(!fresh.is_empty()))
    }

    /// Ready when the head or body under way has taken too long.
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.deadline.as_mut() {
            Some(deadline) => deadline.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Framed<IO> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.checked.is_empty() {
                let take = this.checked.len().min(out.remaining());
                out.put_slice(&this.checked.split_to(take));
                return Poll::Ready(Ok(()));
            }
            if this.stage == Stage::End {
                return Poll::Ready(Ok(()));
            }
            match this.advance() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(refusal) => {
                    this.refuse(refusal)?;
                    continue;
                }
            }
            match this.fill(context) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => this.stage = Stage::End,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(this.poll_overdue(context));
                    this.refuse(Refusal::SlowRequest("the request did not arrive in time".to_owned()))?;
                }
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Framed<IO> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

/// Digits of the largest chunk size: 15 hexadecimal digits stay below 2^60.
const MAX_SIZE_DIGITS: usize = 15;

/// What hyper reads in the place of a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
