//! The way to the upstream: directly, or with CONNECT through a proxy. TLS with the upstream's name either way.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::BytesMut;
use data_encoding::BASE64;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::lane::{Lane, parse};
use crate::tls::{self, Http};

/// How to get a connection to the upstream.
#[derive(Debug)]
pub(crate) struct Route {
    dial: SocketAddr,
    /// The CONNECT request, when `dial` is a proxy.
    connect: Option<Vec<u8>>,
    name: ServerName<'static>,
    http: Http,
    tls: Arc<ClientConfig>,
}

// === impl Route ===

impl Route {
    /// A route straight to an upstream at `dial`.
    pub(crate) fn direct(dial: SocketAddr, host: &str, roots: &Path, http: Http) -> Result<Route> {
        ensure!(dial.ip().is_loopback(), "{dial} is not on loopback");
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Route { dial, connect: None, name, http, tls: tls::client(roots, http)? })
    }

    /// The same through a proxy at the address, which may want `agent:token`.
    pub(crate) fn through_proxy(mut self, credential: Option<&str>) -> Route {
        let target = format!("{}:443", self.name.to_str());
        let credential = credential.map(|pair| BASE64.encode(pair.as_bytes()));
        let credential = credential.map_or_else(String::new, |pair| format!("Proxy-Authorization: Basic {pair}\r\n"));
        self.connect = Some(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{credential}\r\n").into_bytes());
        self
    }

    /// One connection, ready for requests.
    pub(crate) async fn open(&self) -> Result<Lane> {
        let stream = self.tls().await?;
        match self.http {
            Http::One => Ok(Lane::http1(stream)),
            Http::Two => Lane::http2(stream).await,
        }
    }

    async fn tls(&self) -> Result<TlsStream<TcpStream>> {
        let mut stream = TcpStream::connect(self.dial).await?;
        stream.set_nodelay(true)?;
        if let Some(connect) = &self.connect {
            stream.write_all(connect).await?;
            established(&mut stream).await?;
        }
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(self.name.clone(), stream).await?;
        let agreed = stream.get_ref().1.alpn_protocol();
        ensure!(agreed == Some(self.http.alpn()), "the other side does not speak the wanted HTTP");
        Ok(stream)
    }
}

async fn established(stream: &mut TcpStream) -> Result<()> {
    let mut raw = BytesMut::new();
    loop {
        ensure!(stream.read_buf(&mut raw).await? > 0, "the proxy closed the connection");
        if let Some(head) = parse(&raw)? {
            ensure!(head.status == 200, "the proxy answered CONNECT with {}", head.status);
            return Ok(());
        }
    }
}
