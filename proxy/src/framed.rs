//! A connection as hyper sees it: its reading side passes checked bytes only.
//!
//! What is checked, and how, says a [`Grammar`]: [`Requests`](crate::requests::Requests) towards agents,
//! [`Replies`](crate::replies::Replies) towards upstreams. Here bytes are only moved, and waited for no longer than the
//! grammar allows.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What may stand on one side of a connection.
pub trait Grammar: Unpin {
    /// Ready when what comes next may be looked at; `raw` is what is here of it.
    fn poll_turn(&mut self, raw: &[u8], context: &mut Context<'_>) -> Poll<()>;

    /// Says what the front of `raw` is, and goes on behind it.
    fn step(&mut self, raw: &[u8]) -> Step;

    /// Bytes of a body of known length that are still to come: they need no look.
    fn plain(&self) -> u64;

    /// That many of them went by.
    fn pass_plain(&mut self, bytes: u64);

    /// What is being waited for, when that must not take for ever: which part of which message, and how long.
    /// `waiting` says that some bytes of it are here.
    fn deadline(&self, waiting: bool) -> Option<(u64, Duration)>;

    /// That time is over.
    fn overdue(&mut self) -> Step;
}

/// What to do with the bytes at hand.
#[derive(Debug)]
pub enum Step {
    /// Nothing more comes, and reading fails with this.
    Break(io::Error),
    /// Leave this many out.
    Drop(usize),
    /// Nothing more comes; hyper reads this, and then neither bytes nor an end.
    End(&'static [u8]),
    /// Wait for more.
    More,
    /// Pass this many on.
    Pass(usize),
}

/// A byte stream whose reading side is checked by `G`.
#[derive(Debug)]
pub struct Framed<IO, G> {
    io: IO,
    grammar: G,
    /// Read and not yet passed on; the first `checked` bytes may be.
    raw: BytesMut,
    checked: usize,
    /// Whether the last read into `raw` left no room: then there is likely more.
    filled: bool,
    /// Set when nothing more is read: what hyper still gets.
    last: Option<&'static [u8]>,
    /// Set when there is to be no end behind `last`: to hyper that would be a client that did not wait for its answer.
    silent: bool,
    /// Whether the peer may end its side and still wait for its answers.
    half_closing: bool,
    deadline: Option<(u64, Pin<Box<Sleep>>)>,
    /// Runs while the end of the connection waits for its peer.
    linger: Option<Pin<Box<Sleep>>>,
    thrown_away: usize,
}

// === impl Framed ===

impl<IO: AsyncRead + Unpin, G: Grammar> Framed<IO, G> {
    /// Checks `io`, starting with the bytes in `raw` that were read from it before.
    pub fn new(io: IO, raw: BytesMut, grammar: G) -> Framed<IO, G> {
        let (last, deadline, linger) = (None, None, None);
        let (silent, half_closing, thrown_away) = (false, false, 0);
        Framed {
            io,
            grammar,
            raw,
            checked: 0,
            filled: false,
            last,
            silent,
            half_closing,
            deadline,
            linger,
            thrown_away,
        }
    }

    /// Lets the peer end its side while it waits for an answer, and hides that end until the answer is there.
    pub fn half_closing(self, may: bool) -> Framed<IO, G> {
        Framed { half_closing: may, ..self }
    }

    /// Gives hyper what is ready. False: nothing is.
    fn hand_over(&mut self, out: &mut ReadBuf<'_>) -> bool {
        if self.checked > 0 {
            let take = self.checked.min(out.remaining());
            out.put_slice(self.raw.get(..take).unwrap_or_default());
            self.raw.advance(take);
            self.checked -= take;
            return true;
        }
        let Some(last) = self.last else { return false };
        let (now, later) = last.split_at(last.len().min(out.remaining()));
        out.put_slice(now);
        self.last = Some(later);
        true
    }

    /// Takes one step. `Ok(false)`: more bytes are needed.
    fn take(&mut self, step: Step) -> io::Result<bool> {
        match step {
            Step::Break(error) => {
                self.last = Some(&[]);
                return Err(error);
            }
            Step::Drop(bytes) => self.raw.advance(bytes),
            Step::End(last) => {
                self.last = Some(last);
                self.silent = true;
            }
            Step::More => return Ok(false),
            Step::Pass(bytes) => self.checked = bytes,
        }
        Ok(true)
    }

    /// Goes one step on in what is at hand. `Ok(false)`: more bytes are needed.
    fn advance(&mut self) -> io::Result<bool> {
        let step = self.grammar.step(&self.raw);
        self.take(step)
    }

    /// Reads more to look at.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.raw.reserve(if self.filled { READ_BYTES } else { FIRST_BYTES });
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.io), context, &mut self.raw);
        self.filled = read.is_ready() && self.raw.len() == self.raw.capacity();
        if self.raw.is_empty() && self.raw.capacity() > FIRST_BYTES {
            // A connection that waits keeps no more than it will most likely need.
            self.raw = BytesMut::new();
        }
        read
    }

    /// Reads body bytes of known length straight to where hyper wants them.
    fn poll_plain(&mut self, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let plain = usize::try_from(self.grammar.plain()).unwrap_or(usize::MAX);
        let read = if plain >= out.remaining() {
            let before = out.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(context, out))?;
            out.filled().len() - before
        } else {
            let mut buffer = ReadBuf::new(out.initialize_unfilled_to(plain));
            ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
            let read = buffer.filled().len();
            out.advance(read);
            read
        };
        self.grammar.pass_plain(read as u64);
        Poll::Ready(Ok(read))
    }

    /// Ready when what is being waited for has taken too long.
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((what, time)) = self.grammar.deadline(!self.raw.is_empty()) else {
            self.deadline = None;
            return Poll::Pending;
        };
        if self.deadline.as_ref().is_none_or(|(running, _)| *running != what) {
            self.deadline = Some((what, Box::pin(tokio::time::sleep(time))));
        }
        match self.deadline.as_mut() {
            Some((_, sleep)) => sleep.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl<IO: AsyncRead + Unpin, G> Framed<IO, G> {
    /// Throws away what the peer still sends, for a while: a socket closed over unread bytes is reset, and the peer
    /// would lose the answer that it has not read yet (RFC 9112 section 9.6).
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0_u8; 4096];
        while self.thrown_away < LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.thrown_away += buffer.filled().len(),
                Poll::Ready(_) => break,
                Poll::Pending => {
                    let linger = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_TIME)));
                    return linger.as_mut().poll(context).map(Ok);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin, G: Grammar> AsyncRead for Framed<IO, G> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.silent && this.last.is_some_and(<[u8]>::is_empty) {
                return Poll::Pending;
            }
            if this.hand_over(out) {
                return Poll::Ready(Ok(()));
            }
            let direct = this.raw.is_empty() && this.grammar.plain() > 0;
            let early = this.grammar.poll_turn(&this.raw, context).is_pending();
            if !direct && !early && this.advance()? {
                continue;
            }
            // Out of turn, it is read on only to see whether the peer is still there.
            if early && this.raw.len() >= READ_BYTES {
                return Poll::Pending;
            }
            let read = if direct { this.poll_plain(context, out) } else { this.poll_more(context) };
            match read {
                Poll::Ready(Ok(0)) if early && this.half_closing => return Poll::Pending,
                Poll::Ready(Ok(0)) => this.last = Some(&[]),
                Poll::Ready(Ok(_)) if direct => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if early => return Poll::Pending,
                Poll::Pending => {
                    ready!(this.poll_overdue(context));
                    let step = this.grammar.overdue();
                    this.take(step)?;
                }
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncWrite for Framed<IO, G> {
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
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_shutdown(context))?;
        this.poll_linger(context)
    }
}

/// Room for most requests and the heads of most replies.
const FIRST_BYTES: usize = 4 * 1024;

/// Bytes read from the socket at once where they have to be looked at and there are many.
const READ_BYTES: usize = 16 * 1024;

/// How long a connection that ends still takes what its peer had under way.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// And how much of it.
const LINGER_BYTES: usize = 4 << 20;
