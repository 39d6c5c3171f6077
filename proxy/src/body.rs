//! Bodies: a request's taken in whole and within limits, a reply's passed on as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::refusal::Refusal;
use crate::shares::{Place, Shares};
use crate::turns::Turn;

/// The body of an answer.
#[derive(Debug)]
pub enum Reply {
    /// Parts as the upstream sends them.
    Stream(mpsc::Receiver<Part>),
    /// Complete, or at its end.
    Whole(Option<Bytes>),
}

/// An answer on its way to the client; the turn of its request ends with it.
#[derive(Debug)]
pub struct Answer {
    reply: Reply,
    turn: Turn,
}

/// A part of a streamed reply. Only [`Part::End`] ends it well: a stream that just stops was broken off.
#[derive(Debug)]
pub enum Part {
    /// Some bytes.
    Data(Bytes),
    /// It was complete.
    End,
    /// Its trailers.
    Trailers(HeaderMap),
}

/// The upstream ended in the middle of its reply; the client must not take what it has for all.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the upstream broke off")]
pub struct BrokenOff;

/// Replies took all the memory there is for them, because nobody read them.
#[derive(Clone, Copy, Debug)]
pub struct StillUnread;

/// Bytes with their place in memory.
struct Charged {
    bytes: Bytes,
    _place: Place<String>,
}

/// A share of the memory that request bodies may take together; given back when dropped.
#[derive(Debug, Default)]
pub struct Share(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

// === impl Share ===

impl Share {
    /// A share of this many bytes.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when they are not there.
    pub fn take(budget: &Arc<Semaphore>, bytes: usize) -> Result<Share, Refusal> {
        reserve(budget, bytes).map(|permit| Share(Some(permit)))
    }
}

// === impl Reply ===

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Reply {
        Reply::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let part = match this {
            Reply::Stream(parts) => ready!(parts.poll_recv(context)),
            Reply::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        };
        Poll::Ready(match part {
            Some(Part::Data(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Part::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Part::End) => {
                *this = Reply::Whole(None);
                None
            }
            None => {
                *this = Reply::Whole(None);
                Some(Err(BrokenOff))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Stream(_) => SizeHint::default(),
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

// === impl Charged ===

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

// === impl Answer ===

impl Answer {
    /// The answer to the request whose turn it is.
    pub fn new(reply: Reply, turn: Turn) -> Answer {
        Answer { reply, turn }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.reply).poll_frame(context);
        this.turn.owe(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reply.size_hint()
    }
}

/// Takes a request's body in whole. `declared` is its Content-Length, if it has one.
///
/// # Errors
/// [`Refusal::BodyTooLarge`] over `limit` bytes, known from the declaration or found on the way; [`Refusal::Busy`] when
/// all bodies together take too much memory; what the framing found wrong; [`Refusal::ClientGone`].
pub async fn collect(
    mut body: Incoming,
    limit: u64,
    budget: &Arc<Semaphore>,
    turn: &Turn,
) -> Result<(Bytes, Share), Refusal> {
    let declared = body.size_hint().exact();
    if declared.is_some_and(|length| length > limit) {
        return Err(Refusal::BodyTooLarge(limit));
    }
    let mut share: Option<OwnedSemaphorePermit> = None;
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(turn.refusal().unwrap_or(Refusal::ClientGone)) };
        let Ok(data) = frame.into_data() else { return Err(Refusal::ambiguous("the request has trailers")) };
        if whole.len() as u64 + data.len() as u64 > limit {
            return Err(Refusal::BodyTooLarge(limit));
        }
        let more = reserve(budget, data.len())?;
        match share.as_mut() {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        whole.extend_from_slice(&data);
    }
    Ok((whole.freeze(), Share(share)))
}

/// A part of a reply that counts as memory of `agent` until it is written to its client, or given up. Waits for others to be
/// written, as long as a client may leave a reply unread.
///
/// # Errors
/// [`StillUnread`] when there was no room in time.
pub async fn charge(
    budget: &Arc<Shares<String>>,
    agent: &str,
    bytes: Bytes,
    patience: Duration,
) -> Result<Bytes, StillUnread> {
    if bytes.len() < SMALL_PART {
        return Ok(bytes);
    }
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(place) = budget.take_several(agent.to_owned(), bytes.len()) {
            return Ok(Bytes::from_owner(Charged { bytes, _place: place }));
        }
        tokio::time::sleep(NEXT_LOOK).await;
    }
    Err(StillUnread)
}

fn reserve(budget: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Arc::clone(budget)
        .try_acquire_many_owned(bytes)
        .map_err(|_| Refusal::Busy("too many request bodies are in memory".to_owned()))
}

/// Bytes of a part that is not worth counting.
const SMALL_PART: usize = 4096;

/// How soon to look again for memory.
const NEXT_LOOK: Duration = Duration::from_millis(20);
