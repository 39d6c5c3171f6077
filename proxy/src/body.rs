//! Bodies: a request's taken in whole and within limits, a reply's passed on as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::refusal::Refusal;
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
    #[expect(dead_code, reason = "held for its drop")]
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

/// A share of the memory that request bodies may take together; given back when dropped.
#[derive(Debug, Default)]
pub struct Share(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

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
        Pin::new(&mut self.get_mut().reply).poll_frame(context)
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

fn reserve(budget: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Arc::clone(budget)
        .try_acquire_many_owned(bytes)
        .map_err(|_| Refusal::Busy("too many request bodies are in memory".to_owned()))
}
