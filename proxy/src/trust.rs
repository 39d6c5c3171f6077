//! Which roots an upstream's certificate is checked against, and which versions of HTTP it is offered (RFC 7301); and the
//! operator's own certificate, where a door shows one.
//!
//! Certificates are always verified; there is no switch to turn that off.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Which versions of HTTP an upstream is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/2 and HTTP/1.1, as the upstream likes.
    Any,
    /// HTTP/1.1, because the client speaks it: what needs no translation costs least and is never changed by it.
    Http1,
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
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

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
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut any = builder.with_root_certificates(store).with_no_client_auth();
        any.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut http1 = any.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A session is resumed with the version it was agreed with.
        http1.resumption = rustls::client::Resumption::default();
        Ok(Roots { any: Arc::new(any), http1: Arc::new(http1) })
    }

    /// The client side of a connection that makes this offer.
    pub(crate) fn config(&self, offer: Offer) -> Arc<ClientConfig> {
        Arc::clone(match offer {
            Offer::Any => &self.any,
            Offer::Http1 => &self.http1,
        })
    }
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
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
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
