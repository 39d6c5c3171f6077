//! Both ends of TLS, with P-256 keys as the gate itself makes them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Which HTTP is spoken inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Http {
    /// HTTP/1.1
    #[value(name = "1")]
    One,
    /// HTTP/2
    #[value(name = "2")]
    Two,
}

// === impl Http ===

impl Http {
    /// Its name in ALPN (RFC 7301).
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Http::One => b"http/1.1",
            Http::Two => b"h2",
        }
    }

    /// What was agreed on a connection.
    pub(crate) fn agreed(alpn: Option<&[u8]>) -> Http {
        if alpn == Some(Http::Two.alpn()) { Http::Two } else { Http::One }
    }
}

/// A new authority whose root certificate is `DIR/root.pem`.
pub(crate) fn issuer(dir: &Path) -> Result<ca::Issuer> {
    Ok(ca::Issuer::new(ca::Root::create(dir, "Benchmark")?, 16))
}

/// A client that trusts `roots` and speaks only `http`.
pub(crate) fn client(roots: &Path, http: Http) -> Result<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots).with_context(|| format!("cannot read {roots:?}"))? {
        store.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![http.alpn().to_vec()];
    Ok(Arc::new(config))
}
