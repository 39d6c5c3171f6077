//! What an agent may send on a connection: one plain HTTP/1.1 request after another (RFC 9112).
//!
//! A request that is refused is replaced by a plain stand-in, so that its refusal is answered in its turn and through
//! the same code as every other. After it nothing more is read.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::chunk::{Chunk, Chunks};
use crate::framed::{Grammar, Step};
use crate::head::{self, Framing};
use crate::limits::Limits;
use crate::refusal::Refusal;
use crate::turns::Turns;

/// The grammar of requests.
#[derive(Debug)]
pub struct Requests {
    stage: Stage,
    limits: Arc<Limits>,
    turns: Turns,
    /// Heads that passed.
    heads: u64,
    /// Whether an empty line was left out before the head that comes.
    skipped: bool,
}

/// Where in a message the reader stands.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Chunked(Chunks),
    Head,
    Length(u64),
    /// Handed over: what comes is not HTTP any more.
    Open,
}

// === impl Requests ===

impl Requests {
    /// The grammar at the start of a connection.
    pub fn new(limits: Arc<Limits>, turns: Turns) -> Requests {
        Requests { stage: Stage::Head, limits, turns, heads: 0, skipped: false }
    }

    fn head(&mut self, raw: &[u8]) -> Step {
        if raw.is_empty() || raw == b"\r" && !self.skipped {
            return Step::More;
        }
        // RFC 9112 section 2.2: a server ignores one empty line before a request line.
        if raw.starts_with(b"\r\n") && !self.skipped {
            self.skipped = true;
            return Step::Drop(2);
        }
        let head = match head::parse(raw, &self.limits) {
            Ok(Some(head)) if head.method == "CONNECT" => {
                return self
                    .refuse(Refusal::MethodRefused("CONNECT on a connection that is already in use".to_owned()));
            }
            Ok(Some(head)) => head,
            Ok(None) => return Step::More,
            Err(refusal) => return self.refuse(refusal),
        };
        self.heads += 1;
        self.skipped = false;
        self.stage = match head.framing {
            Framing::Chunked => Stage::Chunked(Chunks::new(0)),
            Framing::Length(0) => Stage::Head,
            Framing::Length(length) => Stage::Length(length),
        };
        Step::Pass(head.bytes)
    }

    fn chunk(&mut self, mut chunks: Chunks, raw: &[u8]) -> Step {
        let chunk = chunks.step(raw);
        self.stage = Stage::Chunked(chunks);
        match chunk {
            Chunk::Bad(why) => self.refuse(Refusal::ambiguous(why)),
            Chunk::Last(bytes) => {
                self.stage = Stage::Head;
                Step::Pass(bytes)
            }
            Chunk::More => Step::More,
            Chunk::Pass(bytes) => Step::Pass(bytes),
        }
    }

    /// Ends reading. In a head, hyper gets the stand-in; in a body it gets an error, and the code that waits for the
    /// body asks for the verdict.
    fn refuse(&mut self, refusal: Refusal) -> Step {
        match self.stage {
            Stage::Head => {
                self.turns.refuse(self.heads, refusal);
                Step::End(STAND_IN)
            }
            Stage::Chunked(_) | Stage::Length(_) | Stage::Open => {
                self.turns.refuse(self.heads.saturating_sub(1), refusal);
                Step::Break(io::Error::new(io::ErrorKind::InvalidData, "refused"))
            }
        }
    }
}

impl Grammar for Requests {
    /// A head waits until what stands before it is answered.
    fn poll_turn(&mut self, raw: &[u8], context: &mut Context<'_>) -> Poll<()> {
        match self.stage {
            Stage::Chunked(_) | Stage::Length(_) | Stage::Open => Poll::Ready(()),
            Stage::Head => {
                let turn = self.turns.poll_ended(self.heads, context);
                if turn.is_ready() && self.turns.is_open() {
                    self.stage = Stage::Open;
                }
                if turn.is_pending() && !raw.is_empty() {
                    self.turns.follow(self.heads.saturating_sub(1));
                }
                turn
            }
        }
    }

    fn step(&mut self, raw: &[u8]) -> Step {
        match self.stage {
            Stage::Chunked(chunks) => self.chunk(chunks, raw),
            Stage::Head => self.head(raw),
            Stage::Length(_) | Stage::Open if raw.is_empty() => Step::More,
            Stage::Open => Step::Pass(raw.len()),
            Stage::Length(left) => {
                let take = raw.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.pass_plain(take as u64);
                Step::Pass(take)
            }
        }
    }

    fn plain(&self) -> u64 {
        match self.stage {
            Stage::Length(left) => left,
            Stage::Open => u64::MAX,
            Stage::Chunked(_) | Stage::Head => 0,
        }
    }

    fn pass_plain(&mut self, bytes: u64) {
        if let Stage::Length(left) = self.stage {
            let left = left.saturating_sub(bytes);
            self.stage = if left == 0 { Stage::Head } else { Stage::Length(left) };
        }
    }

    /// A head from its first byte, a body from its head on. Between requests hyper watches idleness.
    fn deadline(&self, waiting: bool) -> Option<(u64, Duration)> {
        match self.stage {
            Stage::Head => waiting.then(|| (2 * self.heads, Limits::seconds(self.limits.head_seconds))),
            Stage::Open => None,
            Stage::Chunked(_) | Stage::Length(_) => {
                Some((2 * self.heads + 1, Limits::seconds(self.limits.body_seconds)))
            }
        }
    }

    fn overdue(&mut self) -> Step {
        self.refuse(Refusal::SlowRequest("the request did not arrive in time".to_owned()))
    }
}

/// What hyper reads in the place of a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
