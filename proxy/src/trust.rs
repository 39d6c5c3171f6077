//! What an upstream's certificate is checked against, which versions of HTTP it is offered (RFC 7301), and as whom the
//! gate shows itself to one that asks; and the operator's own certificate, where a door shows one.
//!
//! Certificates are always verified; there is no switch to turn that off.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::crypto::aws_lc_rs::{default_provider, sign};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Which versions of HTTP an upstream is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/2 and HTTP/1.1, as the upstream likes.
    Any,
    /// HTTP/1.1, because the client speaks it: what needs no translation costs least and is never changed by it.
    Http1,
    /// HTTP/1.1 that is then handed over to a WebSocket.
    WebSocket,
}

/// Which roots are trusted for which destinations.
#[derive(Debug)]
pub struct Trust {
    general: Roots,
    /// By the path of a destination's `roots:` file.
    special: BTreeMap<String, Roots>,
}

/// One set of roots, with each offer.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    store: Arc<RootCertStore>,
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

/// A certificate of the gate's own, with its private key, for connections to one upstream (RFC 8446 section 4.4.2).
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    resolver: Arc<SingleCertAndKey>,
    fingerprint: Fingerprint,
}

/// The SHA-256 of a certificate.
pub type Fingerprint = [u8; 32];

// === impl Trust ===

impl Trust {
    /// The public roots, `extra` besides them, and one set of its own for each file in `special`.
    ///
    /// # Errors
    /// When a file cannot be read or holds no certificate.
    pub fn load<'a>(extra: Option<&Path>, special: impl Iterator<Item = &'a str>) -> Result<Trust> {
        let mut general = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(extra) = extra {
            add_roots(&mut general, extra)?;
        }
        let mut sets = BTreeMap::new();
        for file in special {
            let mut store = RootCertStore::empty();
            add_roots(&mut store, Path::new(file))?;
            sets.insert(file.to_owned(), Roots::new(store)?);
        }
        Ok(Trust { general: Roots::new(general)?, special: sets })
    }

    /// The roots in this file, or the general ones.
    pub(crate) fn roots(&self, file: Option<&str>) -> Option<&Roots> {
        match file {
            None => Some(&self.general),
            Some(file) => self.special.get(file),
        }
    }
}

// === impl Roots ===

impl Roots {
    fn new(store: RootCertStore) -> Result<Roots> {
        let store = Arc::new(store);
        let mut any = builder()?.with_root_certificates(Arc::clone(&store)).with_no_client_auth();
        any.alpn_protocols = Offer::Any.protocols();
        let mut http1 = any.clone();
        http1.alpn_protocols = Offer::Http1.protocols();
        // A session is resumed with the version it was agreed with.
        http1.resumption = rustls::client::Resumption::default();
        Ok(Roots { store, any: Arc::new(any), http1: Arc::new(http1) })
    }

    /// The client side of a connection that makes this offer.
    pub(crate) fn config(&self, offer: Offer) -> Arc<ClientConfig> {
        Arc::clone(match offer {
            Offer::Any => &self.any,
            Offer::Http1 | Offer::WebSocket => &self.http1,
        })
    }

    /// The client side of a connection on which the gate shows `certificate` when it is asked to.
    ///
    /// # Errors
    /// When the library offers no version of TLS.
    pub(crate) fn presenting(
        &self,
        certificate: &ClientCertificate,
        offer: Offer,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let builder = builder()?.with_root_certificates(Arc::clone(&self.store));
        let mut config = builder.with_client_cert_resolver(Arc::clone(&certificate.resolver) as _);
        config.alpn_protocols = offer.protocols();
        Ok(Arc::new(config))
    }
}

// === impl Offer ===

impl Offer {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Offer::Any => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Offer::Http1 | Offer::WebSocket => vec![b"http/1.1".to_vec()],
        }
    }
}

// === impl ClientCertificate ===

impl ClientCertificate {
    /// Reads certificates and their private key, both in PEM (RFC 7468). The copy of the key in the TLS library is not
    /// wiped by us.
    ///
    /// # Errors
    /// What is wrong with them; never a part of them.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<ClientCertificate, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|_| "the client certificate is not PEM".to_owned())?;
        let first = chain.first().ok_or("there is no client certificate in PEM; name one as `chain:`")?;
        let fingerprint = Sha256::digest(first).into();
        let key = PrivateKeyDer::from_pem_slice(key).map(Zeroizing::new);
        let key = key.map_err(|_| "the secret is no private key in PEM".to_owned())?;
        let key =
            sign::any_supported_type(&key).map_err(|_| "the private key is of no kind that TLS knows".to_owned())?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| "private key and client certificate do not belong together".to_owned())?;
        Ok(ClientCertificate { resolver: Arc::new(certified.into()), fingerprint })
    }

    /// What tells it from others.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()
}

/// The server side of a connection with the operator's own certificate, leaf first, and its key.
///
/// # Errors
/// When a file cannot be read, others may read the key, or the two do not belong together.
pub(crate) fn server(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let mode = std::fs::metadata(key).map(|found| found.permissions().mode() & 0o777);
    let mode = mode.with_context(|| format!("cannot read `{}`", key.display()))?;
    // A group may have it: that is how Kubernetes mounts a secret for a user that is not root.
    if mode & 0o007 != 0 {
        let key = key.display();
        bail!("`{key}` is readable by everybody (mode {mode:o}); run `chmod o= {key}`");
    }
    let unreadable = |file: &Path| format!("`{}` is not a PEM file", file.display());
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain: Vec<CertificateDer<'_>> = chain.with_context(|| unreadable(certificate))?;
    let secret = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    let builder =
        ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()?;
    let config = builder.with_no_client_auth().with_single_cert(chain, secret);
    let mut config =
        config.with_context(|| format!("`{}` and `{}` do not go together", certificate.display(), key.display()))?;
    config.alpn_protocols = ca::ALPN.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn add_roots(store: &mut RootCertStore, file: &Path) -> Result<()> {
    let certificates =
        CertificateDer::pem_file_iter(file).with_context(|| format!("cannot read roots from `{}`", file.display()))?;
    let mut added = 0;
    for certificate in certificates {
        let certificate =
            certificate.with_context(|| format!("`{}` is not a PEM file of certificates", file.display()))?;
        store
            .add(certificate)
            .with_context(|| format!("`{}` holds a certificate that cannot be a root", file.display()))?;
        added += 1;
    }
    if added == 0 {
        bail!("`{}` holds no certificate", file.display());
    }
    Ok(())
}
