//! One HTTP call to a vault, on a connection of its own.
//!
//! Must never follow a redirect, ask a proxy, trust a certificate unseen or read more than it has room for.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use crate::Fault;

/// Makes calls that trust one set of roots.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    tls: Arc<ClientConfig>,
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    /// Wiped, unlike the copies in the buffers of the connection.
    pub(crate) body: Zeroizing<Vec<u8>>,
}

// === impl Caller ===

impl Caller {
    /// Trusts the certificates in the PEM file `roots`, or the public roots without one.
    pub(crate) fn new(roots: Option<&Path>) -> Result<Caller, String> {
        let roots = match roots {
            Some(file) => read_roots(file)?,
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        Ok(Caller { tls: Arc::new(builder.with_root_certificates(roots).with_no_client_auth()) })
    }

    /// Sends a request with an absolute URI, and reads at most `most` bytes of the reply's body.
    pub(crate) async fn call(&self, request: Request<Vec<u8>>, most: usize) -> Result<Reply, Fault> {
        let target = request.uri().clone();
        let (host, port) = authority(&target)?;
        let stream = TcpStream::connect((host, port)).await.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        if target.scheme_str() == Some("https") {
            let name = ServerName::try_from(host.to_owned()).map_err(|error| Fault::Unreachable(error.to_string()))?;
            let connected = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
            exchange(connected.map_err(|error| tls_fault(&error))?, request, most).await
        } else {
            exchange(stream, request, most).await
        }
    }
}

/// A token that travels in plain text is given away; on this machine it does not travel.
pub(crate) fn check_address(address: &str) -> Result<(), String> {
    let uri: Uri = address.parse().map_err(|_| format!("`{address}` is not a URL; write https://host:port"))?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let own = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if own => {}
        Some("http") => {
            return Err(format!("`{address}` is without TLS; write https://, or an address of this machine"));
        }
        Some(_) | None => return Err(format!("`{address}` is not a URL; write https://host:port")),
    }
    let has_path = uri.path_and_query().is_some_and(|target| target.as_str() != "/");
    if has_path { Err(format!("`{address}` has a path; write https://host:port")) } else { Ok(()) }
}

async fn exchange<S>(stream: S, request: Request<Vec<u8>>, most: usize) -> Result<Reply, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| http_fault(&error))?;
    // The connection ends with the call, however that ends.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(in_origin_form(request)?).await.map_err(|error| http_fault(&error))?;
    let (head, body) = response.into_parts();
    if head.status.is_redirection() {
        return Err(Fault::Redirected);
    }
    Ok(Reply { status: head.status, headers: head.headers, body: collect(body, most).await? })
}

/// Reads the body into memory that is made at once: a vector that grows leaves unwiped copies behind.
async fn collect(mut body: Incoming, most: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut whole = Zeroizing::new(Vec::with_capacity(most));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| http_fault(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if data.len() > most - whole.len() {
            return Err(Fault::TooLong(most));
        }
        whole.extend_from_slice(data);
    }
    Ok(whole)
}

/// A request as an HTTP/1.1 server wants it: path and query, and the host in a header.
fn in_origin_form(request: Request<Vec<u8>>) -> Result<Request<Full<Bytes>>, Fault> {
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let host = parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    if let (Some(Ok(host)), false) = (host, parts.headers.contains_key(header::HOST)) {
        parts.headers.insert(header::HOST, host);
    }
    parts.uri = target.parse().map_err(|error: http::uri::InvalidUri| Fault::Unreachable(error.to_string()))?;
    // What it holds may log in to the vault: it is wiped when the last part of the request is gone.
    let body = Bytes::from_owner(Zeroizing::new(body));
    Ok(Request::from_parts(parts, Full::new(body)))
}

fn authority(target: &Uri) -> Result<(&str, u16), Fault> {
    let host = target.host().ok_or_else(|| Fault::Unreachable(format!("`{target}` names no host")))?;
    let own_port = if target.scheme_str() == Some("https") { 443 } else { 80 };
    Ok((host.trim_start_matches('[').trim_end_matches(']'), target.port_u16().unwrap_or(own_port)))
}

fn read_roots(file: &Path) -> Result<RootCertStore, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("cannot read roots from `{}`: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() { Err(unreadable(&"it holds no certificate")) } else { Ok(roots) }
}

fn unreachable(error: &std::io::Error) -> Fault {
    Fault::Unreachable(error.to_string())
}

fn tls_fault(error: &std::io::Error) -> Fault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => Fault::Certificate(why.to_string()),
        Some(_) | None => Fault::Unreachable(format!("no TLS: {error}")),
    }
}

/// What is not HTTP is no vault; all else is a connection that broke.
fn http_fault(error: &hyper::Error) -> Fault {
    if error.is_parse() { Fault::Garbled } else { Fault::Unreachable(error.to_string()) }
}
