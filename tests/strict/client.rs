//! A client that believes nothing and hides nothing: CONNECT to any target, TLS with any server name, any certificate
//! taken, sessions resumed wherever the server lets them be, HTTP/1.1 or HTTP/2.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::payload::latin1;
use crate::harness::agent::Agent;
use crate::harness::connection::Connection;

/// Opens tunnels as one agent.
pub(crate) struct Client {
    agent: Agent,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// What is spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

// === impl Client ===

impl Client {
    /// A client with this agent's credential.
    pub(crate) fn new(agent: Agent) -> Client {
        Client { agent, http1: anyone(b"http/1.1"), http2: anyone(b"h2") }
    }

    /// CONNECT to `target`, whatever it is, one byte for each character. `Err` is the status of a refusal.
    pub(crate) fn connect(&self, target: &str) -> Result<Connection, u16> {
        let mut connection = self.agent.connect();
        let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{}\r\n", self.agent.credential());
        connection.send(&latin1(&head));
        match connection.answer_to("CONNECT") {
            Ok(answer) if answer.status == 200 => Ok(connection),
            Ok(answer) => Err(answer.status),
            Err(_) => Err(0),
        }
    }

    /// TLS on a connection, with this server name, or none when it is an address.
    pub(crate) fn secure(&self, connection: Connection, name: &str, protocol: Protocol) -> io::Result<Connection> {
        let config = match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        };
        connection.with_tls(config.clone(), name)
    }

    /// A tunnel with HTTP/2 inside, as a client without bad intentions opens it.
    pub(crate) fn http2(&self, host: &str) -> Connection {
        let connection = self.connect(&format!("{host}:443")).unwrap();
        self.secure(connection, host, Protocol::Http2).unwrap()
    }
}

// === impl Anyone ===

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A configuration that takes any certificate and offers one protocol.
pub(crate) fn anyone(protocol: &[u8]) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let verifier = Arc::new(Anyone(provider));
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}
