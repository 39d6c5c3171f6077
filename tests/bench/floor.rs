//! The floor: interception with the same libraries and certificates as the gate's, and nothing else. No policy, no
//! ledger, no checks, one upstream connection for each tunnel. It measures what the stack costs; nobody may use it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::{TlsAcceptor, TlsConnector, client as tls_client, server as tls_server};

use crate::figures;
use crate::journal::Journal;
use crate::tls::{self, Http};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// New folder for its authority; clients trust `root.pem` in it
    #[arg(long)]
    ca: PathBuf,
    /// Address of the upstream, whatever a tunnel is to
    #[arg(long)]
    upstream: SocketAddr,
    /// Roots that the upstream's certificate is checked against
    #[arg(long)]
    roots: PathBuf,
    /// New file; one entry is appended and synced before each request goes on
    #[arg(long)]
    journal: Option<PathBuf>,
}

struct Floor {
    issuer: ca::Issuer,
    upstream: SocketAddr,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    journal: Option<Journal>,
}

type Inside = TokioIo<tls_server::TlsStream<TcpStream>>;

// === impl Floor ===

impl Floor {
    async fn dial(&self, host: &str, http: Http) -> Result<tls_client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let config = match http {
            Http::One => &self.http1,
            Http::Two => &self.http2,
        };
        let name = ServerName::try_from(host.to_owned())?;
        Ok(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?)
    }

    async fn record(&self) -> Result<()> {
        match &self.journal {
            Some(journal) => journal.append().await,
            None => Ok(()),
        }
    }
}

/// Serves until it is stopped.
pub(crate) async fn run(options: Options) -> Result<()> {
    ensure!(options.upstream.ip().is_loopback(), "the upstream has to be on loopback");
    let floor = Arc::new(Floor {
        issuer: tls::issuer(&options.ca)?,
        upstream: options.upstream,
        http1: tls::client(&options.roots, Http::One)?,
        http2: tls::client(&options.roots, Http::Two)?,
        journal: options.journal.as_deref().map(Journal::create).transpose()?,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    figures::say(&json!({"listening": listener.local_addr()?}))?;
    loop {
        let (stream, _) = listener.accept().await?;
        // How a tunnel ends is the client's to say: it counts what it did not get.
        tokio::spawn(tunnel(Arc::clone(&floor), stream));
    }
}

async fn tunnel(floor: Arc<Floor>, mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let host = target(&mut stream).await?;
    stream.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await?;
    let config = floor.issuer.server_config(&ca::Name::dns(&host)?)?;
    let inside = TlsAcceptor::from(config).accept(stream).await?;
    match Http::agreed(inside.get_ref().1.alpn_protocol()) {
        Http::One => http1(floor, &host, TokioIo::new(inside)).await,
        Http::Two => http2(floor, &host, TokioIo::new(inside)).await,
    }
}

/// The host that a CONNECT request names.
async fn target(stream: &mut TcpStream) -> Result<String> {
    let mut raw = BytesMut::new();
    while !raw.ends_with(b"\r\n\r\n") {
        ensure!(stream.read_buf(&mut raw).await? > 0 && raw.len() < 16 * 1024, "no CONNECT request came");
    }
    let text = str::from_utf8(&raw)?;
    let host = text.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(':')).context("this is no CONNECT")?;
    Ok(host.0.to_owned())
}

async fn http1(floor: Arc<Floor>, host: &str, inside: Inside) -> Result<()> {
    let upstream = floor.dial(host, Http::One).await?;
    let (sender, connection) = client::conn::http1::handshake(TokioIo::new(upstream)).await?;
    tokio::spawn(connection);
    let sender = Arc::new(Mutex::new(sender));
    let service = service_fn(move |request: Request<Incoming>| {
        let (floor, sender) = (Arc::clone(&floor), Arc::clone(&sender));
        async move {
            floor.record().await?;
            let mut sender = sender.lock().await;
            sender.ready().await?;
            Ok::<Response<Incoming>, anyhow::Error>(sender.send_request(request).await?)
        }
    });
    Ok(server::conn::http1::Builder::new().serve_connection(inside, service).await?)
}

async fn http2(floor: Arc<Floor>, host: &str, inside: Inside) -> Result<()> {
    let upstream = floor.dial(host, Http::Two).await?;
    let (sender, connection) = client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(upstream)).await?;
    tokio::spawn(connection);
    let service = service_fn(move |request: Request<Incoming>| {
        let (floor, mut sender) = (Arc::clone(&floor), sender.clone());
        async move {
            floor.record().await?;
            sender.ready().await?;
            Ok::<Response<Incoming>, anyhow::Error>(sender.send_request(request).await?)
        }
    });
    Ok(server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(inside, service).await?)
}
