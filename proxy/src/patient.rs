//! A connection whose writing side waits for its reader only so long: who stops reading is let go.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A byte stream that fails a write which makes no progress for a time.
#[derive(Debug)]
pub struct Patient<IO> {
    io: IO,
    time: Duration,
    /// Runs while a write is stuck.
    stuck: Option<Pin<Box<Sleep>>>,
}

// === impl Patient ===

impl<IO> Patient<IO> {
    /// Gives each write of `io` at most `time` to make progress.
    pub fn new(io: IO, time: Duration) -> Patient<IO> {
        Patient { io, time, stuck: None }
    }

    /// Passes on what a write gave; one that is pending for too long has failed.
    fn judge<T>(&mut self, context: &mut Context<'_>, given: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if given.is_ready() {
            self.stuck = None;
            return given;
        }
        let time = self.time;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        match stuck.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading"))),
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Patient<IO> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, out)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Patient<IO> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let given = Pin::new(&mut this.io).poll_write(context, bytes);
        this.judge(context, given)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let given = Pin::new(&mut this.io).poll_write_vectored(context, slices);
        this.judge(context, given)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let given = Pin::new(&mut this.io).poll_flush(context);
        this.judge(context, given)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}
