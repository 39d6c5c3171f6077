//! The upstream: HTTPS with HTTP/1.1 and HTTP/2, a small answer to everything, and N bytes for `/bulk/N` and `/bare/N`.

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::figures;
use crate::tls::{self, Http};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// New folder for its authority; clients trust `root.pem` in it
    #[arg(long)]
    ca: PathBuf,
    /// Name in its certificate
    #[arg(long, default_value = "upstream.example")]
    host: String,
}

/// A body of `left` more bytes that takes no memory.
struct Bulk {
    left: u64,
}

type Answer = Either<Full<Bytes>, Bulk>;

// === impl Bulk ===

impl Body for Bulk {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let size = usize::try_from(this.left).unwrap_or(usize::MAX).min(CHUNK.len());
        this.left -= size as u64;
        Poll::Ready((size > 0).then(|| Ok(Frame::data(Bytes::from_static(CHUNK).slice(..size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Serves until it is stopped.
pub(crate) async fn run(options: Options) -> Result<()> {
    let config = tls::issuer(&options.ca)?.server_config(&ca::Name::dns(&options.host)?)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    figures::say(&json!({"listening": listener.local_addr()?}))?;
    loop {
        let (stream, _) = listener.accept().await?;
        // How a connection ends is the other side's to say: a client that is stopped does not say good-bye.
        tokio::spawn(serve(acceptor.clone(), stream));
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    match Http::agreed(stream.get_ref().1.alpn_protocol()) {
        Http::One => http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await?,
        Http::Two => {
            let builder = http2::Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await?;
        }
    }
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path();
    let bulk = path.strip_prefix("/bulk/").or(path.strip_prefix("/bare/")).and_then(|bytes| bytes.parse().ok());
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        drop(frame);
    }
    let answer = match bulk {
        Some(left) => Either::Right(Bulk { left }),
        None => Either::Left(Full::new(Bytes::from_static(SMALL))),
    };
    let mut response = Response::new(answer);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// What a long body is made of.
static CHUNK: &[u8] = &[b'b'; 64 * 1024];

/// Two hundred bytes, as an API answers.
const SMALL: &[u8] = br#"{"id":"item_0123456789abcdef","object":"item","created":1767225600,"status":"accepted","livemode":false,"url":"/v1/items/item_0123456789abcdef","note":"two hundred bytes, as many API answers have"}"#;
