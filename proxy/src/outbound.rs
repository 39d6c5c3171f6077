//! What the gate itself asks of others: of witnesses. One request on a connection of its own, in bounded time and memory;
//! certificates are verified, redirects are not followed, proxy variables are not read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::trust::{Offer, Trust};

/// Asks others, trusting the public roots and the operator's own.
#[derive(Clone, Debug)]
pub struct Outbound {
    tls: Arc<ClientConfig>,
}

// === impl Outbound ===

impl Outbound {
    /// `roots` is a PEM file of roots trusted besides the public ones.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn new(roots: Option<&Path>) -> Result<Outbound> {
        let trust = Trust::load(roots, std::iter::empty())?;
        let roots = trust.roots(None).context("there are no public roots")?;
        Ok(Outbound { tls: roots.config(Offer::Http1) })
    }

    /// Posts a text and returns the answer.
    ///
    /// # Errors
    /// When nobody answers in time, or with more than 64 KiB.
    pub async fn post(&self, url: &Uri, text: String) -> Result<(StatusCode, Bytes)> {
        let exchange = async {
            let response = self.exchange(url, text).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok((status, body.map_err(|error| anyhow!("the answer cannot be read: {error}"))?.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, exchange).await.with_context(|| format!("`{url}` did not answer in time"))?
    }

    async fn exchange(&self, url: &Uri, text: String) -> Result<Response<Incoming>> {
        let authority = url.authority().with_context(|| format!("`{url}` names no host"))?;
        let tls = url.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, port)).await.with_context(|| format!("cannot reach `{authority}`"))?;
        stream.set_nodelay(true)?;
        let request = Request::post(url.path_and_query().map_or("/", |path| path.as_str()))
            .header(header::HOST, authority.as_str())
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(Full::new(Bytes::from(text)))?;
        match url.scheme_str() {
            Some("http") => send(stream, request).await,
            Some("https") => {
                let name = ServerName::try_from(host.to_owned()).with_context(|| format!("`{host}` is no name"))?;
                let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
                send(stream, request).await
            }
            Some(_) | None => bail!("`{url}` is neither http nor https"),
        }
    }
}

async fn send<IO>(stream: IO, request: Request<Full<Bytes>>) -> Result<Response<Incoming>>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// From dialling to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(10);

const MAX_ANSWER: usize = 64 * 1024;
