//! An agent: a name, a token, and the requests it makes through the forward door.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use data_encoding::BASE64;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

pub(crate) use super::connection::{Connection, Response};

/// Who asks, and through which door.
#[derive(Clone)]
pub(crate) struct Agent {
    door: SocketAddr,
    tls: Arc<ClientConfig>,
    name: String,
    /// Its token.
    pub(crate) token: String,
}

/// Takes any certificate, but checks that the peer holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

// === impl Agent ===

impl Agent {
    /// An agent that trusts the gate's bundle.
    pub(crate) fn new(door: SocketAddr, bundle: &Path, name: &str, token: &str) -> Agent {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(bundle).unwrap() {
            // A system's bundle may hold what rustls does not take for a root; the gate's own must be taken.
            drop(roots.add(certificate.unwrap()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Agent { door, tls: Arc::new(tls), name: name.to_owned(), token: token.to_owned() }
    }

    /// The same agent with another token.
    pub(crate) fn with_token(&self, token: &str) -> Agent {
        Agent { token: token.to_owned(), ..self.clone() }
    }

    /// The same agent, taking any certificate, so that the gate's own check of names is seen.
    pub(crate) fn without_verification(&self) -> Agent {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(self.tls.crypto_provider().clone())));
        Agent { tls: Arc::new(tls), ..self.clone() }
    }

    /// The same agent at another door.
    pub(crate) fn at(&self, door: SocketAddr) -> Agent {
        Agent { door, ..self.clone() }
    }

    /// The header line with its credential, with its line end.
    pub(crate) fn credential(&self) -> String {
        let pair = BASE64.encode(format!("{}:{}", self.name, self.token).as_bytes());
        format!("proxy-authorization: Basic {pair}\r\n")
    }

    /// A connection to the forward door on which nothing was said yet.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.door)
    }

    /// A tunnel to `host`, port 443, with TLS inside.
    pub(crate) fn tunnel(&self, host: &str) -> Connection {
        self.tunnel_as(host, host)
    }

    /// A tunnel to `host`, port 443, with TLS for another server name inside.
    pub(crate) fn tunnel_as(&self, host: &str, server_name: &str) -> Connection {
        let connection = self.open_tunnel(&format!("{host}:443"));
        self.tls_as(connection, server_name).unwrap()
    }

    /// A tunnel to `host:port` with nothing inside yet.
    pub(crate) fn open_tunnel(&self, target: &str) -> Connection {
        let mut connection = self.connect();
        let answer =
            connection.ask(&format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{}\r\n", self.credential()));
        assert_eq!(answer.status, 200, "CONNECT {target}: {answer:?}");
        connection
    }

    /// Speaks TLS on a connection.
    pub(crate) fn tls_as(&self, connection: Connection, server_name: &str) -> io::Result<Connection> {
        connection.with_tls(self.tls.clone(), server_name)
    }

    /// GET of a URL on a connection of its own.
    pub(crate) fn get(&self, url: &str) -> Response {
        self.request("GET", url, &[], b"")
    }

    /// POST to a URL on a connection of its own.
    pub(crate) fn post(&self, url: &str, body: &str) -> Response {
        self.request("POST", url, &[], body.as_bytes())
    }

    /// A request on a connection of its own: `https` through a tunnel, `http` in absolute form.
    pub(crate) fn request(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_request(method, url, headers, body).unwrap()
    }

    /// As [`Agent::request`], for a gate that may die meanwhile.
    pub(crate) fn try_request(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let mut connection = self.begin(method, url, headers, body);
        connection.answer_to(method)
    }

    /// Sends a request on a connection of its own, and does not wait for the answer.
    pub(crate) fn begin(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Connection {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let (mut connection, target, credential) = match scheme {
            "https" => (self.tunnel(host), format!("/{path}"), String::new()),
            _ => (self.connect(), url.to_owned(), self.credential()),
        };
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{credential}{lines}");
        let length = if method == "GET" { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        connection.send(&[format!("{head}{length}\r\n").as_bytes(), body].concat());
        connection
    }

    /// The state of an intent, as the agent API tells it.
    pub(crate) fn status(&self, intent: &str) -> String {
        let answer = self.get(&format!("http://writ.internal/v1/intents/{intent}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text_at("/status")
    }

    /// The state of an intent, once it is decided and done.
    pub(crate) fn settled(&self, intent: &str) -> String {
        let answer = self.get(&format!("http://writ.internal/v1/intents/{intent}?wait=20"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text_at("/status")
    }

    /// The reply that waits in an intent's mailbox, or why there is none.
    pub(crate) fn response(&self, intent: &str) -> Response {
        self.get(&format!("http://writ.internal/v1/intents/{intent}/response"))
    }

    /// Withdraws an intent.
    pub(crate) fn cancel(&self, intent: &str) -> Response {
        self.post(&format!("http://writ.internal/v1/intents/{intent}/cancel"), "")
    }

    /// Sends a request that must be held, and returns its intent.
    pub(crate) fn held(&self, url: &str, body: &str) -> String {
        let answer = self.post(url, body);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.text_at("/intentId")
    }
}

// === impl AnyCertificate ===

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
