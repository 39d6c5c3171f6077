//! A socket under TLS, read ahead while much comes through it.
//!
//! rustls asks for four kilobytes at a time: a long body would cost a system call for each. Nothing is read before it
//! is asked for, and a connection that waits keeps no buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream with what was read from it and not yet taken.
#[derive(Debug)]
pub struct Ahead<IO> {
    io: IO,
    buffer: BytesMut,
    /// Whether the last read gave all that was asked for: then there is likely more.
    eager: bool,
}

// === impl Ahead ===

impl<IO> Ahead<IO> {
    /// Reads `buffer` first, which was taken from `io` before.
    pub fn new(io: IO, buffer: BytesMut) -> Ahead<IO> {
        Ahead { io, buffer, eager: false }
    }
}

impl<IO: AsyncRead + Unpin> Ahead<IO> {
    fn poll_direct(&mut self, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(context, out))?;
        self.eager = out.remaining() == 0;
        Poll::Ready(Ok(()))
    }

    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.reserve(READ_BYTES);
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.io), context, &mut self.buffer);
        if !matches!(read, Poll::Ready(Ok(1..))) {
            self.eager = false;
            self.buffer = BytesMut::new();
        }
        read
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Ahead<IO> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() && !this.eager {
            return this.poll_direct(context, out);
        }
        if this.buffer.is_empty() {
            ready!(this.poll_ahead(context))?;
        }
        let take = this.buffer.len().min(out.remaining());
        out.put_slice(this.buffer.get(..take).unwrap_or_default());
        this.buffer.advance(take);
        if this.buffer.is_empty() && !this.eager {
            this.buffer = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Ahead<IO> {
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

/// Bytes read ahead: four TLS records of the largest kind (RFC 8446 section 5.2).
const READ_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read_all(sent: &[u8], step: usize) -> Vec<u8> {
        let (before, behind) = sent.split_at(1000);
        let mut ahead = Ahead::new(behind, BytesMut::from(before));
        let (mut read, mut piece) = (Vec::new(), vec![0; step]);
        while let bytes @ 1.. = ahead.read(&mut piece).await.unwrap() {
            read.extend_from_slice(&piece[..bytes]);
        }
        assert_eq!(ahead.buffer.capacity(), 0, "a buffer is kept after reading in pieces of {step}");
        read
    }

    #[tokio::test]
    async fn every_byte_comes_once_and_in_order_in_any_pieces() {
        let sent: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        for step in [1, 7, 4096, 100_000] {
            assert!(read_all(&sent, step).await == sent, "in pieces of {step}");
        }
    }
}
