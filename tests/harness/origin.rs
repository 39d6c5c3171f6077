//! A real HTTP/1.1 server for the gateway to send to, over TLS or plain.
//!
//! It keeps the exact bytes of every request and must never repair or refuse what it can read at all: a test has to
//! see what the gateway sent, not what a well-behaved library makes of it. It runs on a thread of its own, so that it
//! answers while a test blocks or has stopped the clock.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::gate::{PATIENCE, within};
pub(crate) use super::reply::Reply;

/// A running server. It stops, and closes its connections, when it is dropped.
pub(crate) struct Origin {
    port: u16,
    roots_pem: String,
    shared: Arc<Shared>,
    /// Dropping it ends the server's thread.
    _stop: oneshot::Sender<()>,
}

/// One request as it arrived. It is recorded as soon as its head is complete.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hit {
    /// The first word of the request line.
    pub(crate) method: String,
    /// The second word of the request line.
    pub(crate) target: String,
    /// Names as sent, in the order sent; values without the white space around them.
    pub(crate) headers: Vec<(String, String)>,
    /// What arrived of the body, without chunk framing.
    pub(crate) body: Vec<u8>,
    /// Head and body, byte for byte.
    pub(crate) raw: Vec<u8>,
    /// Whether the body arrived to its end.
    pub(crate) complete: bool,
    /// The server name the TLS client asked for.
    pub(crate) sni: Option<String>,
    /// The certificate that the TLS client presented, in DER.
    pub(crate) certificate: Option<Vec<u8>>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    hits: Mutex<Vec<Hit>>,
    replies: Mutex<Vec<(String, Reply)>>,
}

/// One connection, over TLS or not.
struct Conversation<S> {
    stream: S,
    sni: Option<String>,
    certificate: Option<Vec<u8>>,
    /// What was received and belongs to no request yet.
    unread: Vec<u8>,
    shared: Arc<Shared>,
}

// === impl Origin ===

impl Origin {
    /// Serves HTTPS on a free port of 127.0.0.1 with a certificate for `names` (DNS names or IP addresses).
    pub(crate) fn https(names: &[&str]) -> Origin {
        let (config, roots_pem) = certify(names, 4096, None);
        Origin::start(Some(TlsAcceptor::from(Arc::new(config))), roots_pem)
    }

    /// As [`Origin::https`], for clients with a certificate of `root` alone.
    pub(crate) fn mutual(names: &[&str], root: &CertificateDer<'_>) -> Origin {
        let (config, roots_pem) = certify(names, 4096, Some(root));
        Origin::start(Some(TlsAcceptor::from(Arc::new(config))), roots_pem)
    }

    /// As [`Origin::https`], with a certificate that ran out long ago.
    pub(crate) fn expired(names: &[&str]) -> Origin {
        let (config, roots_pem) = certify(names, 2001, None);
        Origin::start(Some(TlsAcceptor::from(Arc::new(config))), roots_pem)
    }

    /// Serves HTTP on a free port of 127.0.0.1.
    pub(crate) fn plain() -> Origin {
        Origin::start(None, String::new())
    }

    /// Answers targets that begin with `prefix` with `reply`. The longest wins; else [`Reply::ok`].
    pub(crate) fn reply(self, prefix: &str, reply: Reply) -> Origin {
        self.shared.replies.lock().unwrap().push((prefix.to_owned(), reply));
        self
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The root certificate to trust, in PEM; empty without TLS.
    pub(crate) fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// The requests so far, in the order in which their heads were complete.
    pub(crate) fn hits(&self) -> Vec<Hit> {
        self.shared.hits.lock().unwrap().clone()
    }

    /// Waits until there were this many requests.
    pub(crate) fn wait_for(&self, hits: usize) {
        let enough = within(PATIENCE, || (self.hits().len() >= hits).then_some(()));
        assert!(enough.is_some(), "{hits} requests were due, these came: {:#?}", self.hits());
    }

    /// How many TCP connections were accepted, whether or not anything came over them.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    fn start(acceptor: Option<TlsAcceptor>, roots_pem: String) -> Origin {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let server = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, acceptor, server) => {}
                    _ = stopped => {}
                }
            });
        });
        Origin { port, roots_pem, shared, _stop: stop }
    }
}

// === impl Hit ===

impl Hit {
    /// The first header of this name, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Reads as much as can be made out of a head; `raw` has all of it in any case.
    fn from_head(raw: Vec<u8>, sni: Option<String>) -> Hit {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let split = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Hit {
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            headers: lines.filter_map(split).collect(),
            raw,
            sni,
            ..Hit::default()
        }
    }

    fn has(&self, header: &str, word: &str) -> bool {
        self.header(header).is_some_and(|value| value.to_ascii_lowercase().contains(word))
    }
}

// === impl Shared ===

impl Shared {
    fn record(&self, hit: &Hit) -> usize {
        let mut hits = self.hits.lock().unwrap();
        hits.push(hit.clone());
        hits.len() - 1
    }

    fn reply_to(&self, target: &str) -> Reply {
        let replies = self.replies.lock().unwrap();
        let fitting = replies.iter().filter(|(prefix, _)| target.starts_with(prefix));
        fitting.max_by_key(|(prefix, _)| prefix.len()).map(|(_, reply)| reply.clone()).unwrap_or_else(Reply::ok)
    }
}

// === impl Conversation ===

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    /// Reads and answers requests until one side has enough.
    async fn run(mut self) -> io::Result<()> {
        while let Ok(head) = self.through(b"\r\n\r\n", &mut Vec::new()).await {
            let mut hit = Hit::from_head(head, self.sni.clone());
            hit.certificate = self.certificate.clone();
            let index = self.shared.record(&hit);
            let body = self.read_body(&mut hit).await;
            hit.complete = body.is_ok();
            self.shared.hits.lock().unwrap()[index] = hit.clone();
            body?;

            let reply = self.shared.reply_to(&hit.target);
            self.write(&hit, &reply).await?;
            if reply.raw.is_some() || hit.has("connection", "close") {
                break;
            }
        }
        self.stream.shutdown().await
    }

    async fn read_body(&mut self, hit: &mut Hit) -> io::Result<()> {
        if hit.has("expect", "100-continue") {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if hit.has("transfer-encoding", "chunked") {
            return self.read_chunks(hit).await;
        }
        if let Some(length) = hit.header("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            hit.body = self.exactly(length, &mut hit.raw).await?;
        }
        Ok(())
    }

    async fn read_chunks(&mut self, hit: &mut Hit) -> io::Result<()> {
        loop {
            let line = self.through(b"\r\n", &mut hit.raw).await?;
            let text = String::from_utf8_lossy(&line);
            let size = text.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            let chunk = self.exactly(size + b"\r\n".len(), &mut hit.raw).await?;
            hit.body.extend_from_slice(&chunk[..size]);
        }
        while self.through(b"\r\n", &mut hit.raw).await? != b"\r\n" {}
        Ok(())
    }

    async fn write(&mut self, hit: &Hit, reply: &Reply) -> io::Result<()> {
        tokio::time::sleep(reply.delay).await;
        if let Some(raw) = &reply.raw {
            self.stream.write_all(raw).await?;
            return self.stream.flush().await;
        }
        let body = if reply.echo { &hit.body } else { &reply.body };
        self.stream.write_all(reply.head(body.len()).as_bytes()).await?;
        if hit.method != "HEAD" && reply.has_body() {
            match &reply.chunks {
                Some(chunks) => self.write_chunks(chunks).await?,
                None => self.stream.write_all(body).await?,
            }
        }
        self.stream.flush().await
    }

    async fn write_chunks(&mut self, chunks: &[(Duration, Vec<u8>)]) -> io::Result<()> {
        for (pause, chunk) in chunks {
            self.stream.flush().await?;
            tokio::time::sleep(*pause).await;
            let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
            self.stream.write_all(&framed).await?;
        }
        self.stream.write_all(b"0\r\n\r\n").await
    }

    /// Takes everything up to and including the first `end`, and keeps it in `raw` too.
    async fn through(&mut self, end: &[u8], raw: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        loop {
            if let Some(start) = self.unread.windows(end.len()).position(|window| window == end) {
                return self.exactly(start + end.len(), raw).await;
            }
            self.receive().await?;
        }
    }

    async fn exactly(&mut self, length: usize, raw: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        while self.unread.len() < length {
            self.receive().await?;
        }
        raw.extend_from_slice(&self.unread[..length]);
        Ok(self.unread.drain(..length).collect())
    }

    async fn receive(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(converse(stream, acceptor.clone(), shared.clone()));
    }
}

async fn converse(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match acceptor {
        None => Conversation { stream, sni: None, certificate: None, unread: Vec::new(), shared }.run().await,
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            let tls = stream.get_ref().1;
            let sni = tls.server_name().map(str::to_owned);
            let certificate = tls.peer_certificates().and_then(|chain| chain.first()).map(|first| first.to_vec());
            Conversation { stream, sni, certificate, unread: Vec::new(), shared }.run().await
        }
    }
}

/// Makes a root and a certificate for `names` under it that is valid until this year; returns the root in PEM. Clients
/// need a certificate of the root `of_clients`, if there is one.
fn certify(names: &[&str], until: i32, of_clients: Option<&CertificateDer<'_>>) -> (ServerConfig, String) {
    let mut root = CertificateParams::default();
    root.distinguished_name.push(DnType::CommonName, "Origin root");
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();

    let mut leaf = CertificateParams::new(names.iter().copied().map(str::to_owned).collect::<Vec<_>>()).unwrap();
    leaf.not_after = rcgen::date_time_ymd(until, 1, 1);
    leaf.use_authority_key_identifier_extension = true;
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&leaf_key, &root).unwrap();

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = of_clients.map(|root| {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned()).unwrap();
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap()
    });
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder
        .with_client_cert_verifier(verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_single_cert(vec![leaf.into()], leaf_key.into())
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (config, root.pem())
}
