//! One connection to the upstream with requests going over it one by one.
//!
//! HTTP/1.1 is written and read by hand, as cheaply as can be: the client shares the processors with what is measured.

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// An open connection, or one stream's share of it.
#[derive(Debug)]
pub(crate) enum Lane {
    Http1(Box<Http1>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

#[derive(Debug)]
pub(crate) struct Http1 {
    stream: TlsStream<TcpStream>,
    raw: BytesMut,
}

/// A request that is sent again and again.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Head of the message in HTTP/1.1.
    head: Bytes,
    /// The same for HTTP/2.
    request: Request<Full<Bytes>>,
    /// Bytes of filler sent as the body after `head`.
    filler: u64,
}

/// The head of an HTTP/1.1 reply.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    bytes: usize,
    body: Option<u64>,
}

// === impl Ask ===

impl Ask {
    /// `POST` of a small JSON body.
    pub(crate) fn post(host: &str, path: &str) -> Result<Ask> {
        let body = Bytes::from(format!("{{\"amount\":5,\"note\":\"{}\"}}", "n".repeat(POST_BYTES - 22)));
        let head =
            head("POST", path, host, &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        let request = Request::post(format!("https://{host}{path}")).header("content-type", "application/json");
        Ok(Ask { head: [head, body.clone()].concat().into(), request: request.body(Full::new(body))?, filler: 0 })
    }

    /// `GET` of `bytes` bytes, from one of the upstream's folders for that.
    pub(crate) fn down(host: &str, folder: &str, bytes: u64) -> Result<Ask> {
        let path = format!("/{folder}/{bytes}");
        let request = Request::get(format!("https://{host}{path}")).body(Full::default())?;
        Ok(Ask { head: head("GET", &path, host, ""), request, filler: 0 })
    }

    /// `PUT` of `bytes` bytes; over HTTP/1.1 only.
    pub(crate) fn up(host: &str, bytes: u64) -> Result<Ask> {
        let fields = format!("Content-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n");
        let request = Request::put(format!("https://{host}/sink")).body(Full::default())?;
        Ok(Ask { head: head("PUT", "/sink", host, &fields), request, filler: bytes })
    }
}

// === impl Lane ===

impl Lane {
    pub(crate) fn http1(stream: TlsStream<TcpStream>) -> Lane {
        Lane::Http1(Box::new(Http1 { stream, raw: BytesMut::with_capacity(READ_BYTES) }))
    }

    pub(crate) async fn http2(stream: TlsStream<TcpStream>) -> Result<Lane> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Lane::Http2(sender))
    }

    /// One more stream of the same connection, where there are such.
    pub(crate) fn another(&self) -> Option<Lane> {
        match self {
            Lane::Http1(_) => None,
            Lane::Http2(sender) => Some(Lane::Http2(sender.clone())),
        }
    }

    /// Sends one request, reads its whole reply and returns the bytes of the two bodies that are not small.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<u64> {
        match self {
            Lane::Http1(lane) => lane.ask(ask).await,
            Lane::Http2(sender) => {
                sender.ready().await?;
                let response = sender.send_request(ask.request.clone()).await?;
                ensure!(response.status() == 200, "the answer was {}", response.status());
                Ok(response.into_body().collect().await?.to_bytes().len() as u64)
            }
        }
    }
}

// === impl Http1 ===

impl Http1 {
    async fn ask(&mut self, ask: &Ask) -> Result<u64> {
        self.stream.write_all(&ask.head).await?;
        let mut left = ask.filler;
        while left > 0 {
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(FILLER.len());
            self.stream.write_all(FILLER.get(..size).unwrap_or_default()).await?;
            left -= size as u64;
        }
        self.stream.flush().await?;
        Ok(ask.filler + self.reply().await?)
    }

    async fn reply(&mut self) -> Result<u64> {
        let head = loop {
            match parse(&self.raw)? {
                Some(head) => break head,
                None => self.read().await?,
            }
        };
        ensure!(head.status == 200, "the answer was {}: {:?}", head.status, self.raw);
        self.raw.advance(head.bytes);
        let bytes = head.body.context("a reply without Content-Length")?;
        let mut left = bytes;
        loop {
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(self.raw.len());
            self.raw.advance(size);
            left -= size as u64;
            if left == 0 {
                return Ok(bytes);
            }
            self.raw.clear();
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<()> {
        self.raw.reserve(READ_BYTES);
        ensure!(self.stream.read_buf(&mut self.raw).await? > 0, "the connection was closed in the middle of a reply");
        Ok(())
    }
}

/// The head at the front of `raw`, once it is complete.
pub(crate) fn parse(raw: &[u8]) -> Result<Option<Head>> {
    let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = str::from_utf8(raw.get(..end).unwrap_or_default())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)).context("a reply without a status")?.parse()?;
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
    };
    Ok(Some(Head { status, bytes: end + 4, body: lines.find_map(length) }))
}

fn head(method: &str, path: &str, host: &str, fields: &str) -> Bytes {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n{fields}\r\n").into()
}

/// Length of a small body.
const POST_BYTES: usize = 1024;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// What a long body is made of.
static FILLER: &[u8] = &[b'f'; 64 * 1024];
