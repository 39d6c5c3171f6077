//! Makes the root and reads it back from its directory.
//!
//! Must never let the private key out, write it with a mode others can read, or follow a link to it.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::{HEXLOWER, HEXUPPER};
use nix::fcntl::OFlag;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::CaError;

/// The root certificate and its key, good for signing leaves and for nothing else.
///
/// The key cannot be had from outside this crate:
///
/// ```compile_fail,E0624
/// fn steal(root: &ca::Root) { let _ = root.signer(); }
/// ```
pub struct Root {
    signer: rcgen::Issuer<'static, KeyPair>,
    pem: String,
    fingerprint: String,
    until: SystemTime,
}

// === impl Root ===

impl Root {
    /// Makes a new root in `dir` and opens it: P-256, valid for two years, usable only to sign leaves.
    ///
    /// `dir` is made with mode 0700 if it does not exist. The certificate's common name is `common_name` and eight
    /// random hexadecimal digits, so that two installations are never mistaken for each other in a trust store.
    /// The key is on disk, with its directory, when this returns.
    ///
    /// # Errors
    /// [`CaError::Exists`] if there is a root already, [`CaError::Mode`] if others can reach `dir`, and what
    /// [`Root::open`] returns.
    pub fn create(dir: &Path, common_name: &str) -> Result<Root, CaError> {
        let cannot_make = |error: rcgen::Error| CaError::Root { reason: error.to_string() };
        let params = params(common_name)?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(cannot_make)?;
        let certificate = params.self_signed(&key).map_err(cannot_make)?;

        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(|source| io_error(dir, source))?;
        check_dir(dir)?;
        if !is_absent(&dir.join(PEM_FILE)) {
            return Err(CaError::Exists { path: dir.join(PEM_FILE) });
        }
        // The key goes first: of two processes that race here only one gets past it, and its pair stays whole.
        write_new(&dir.join(KEY_FILE), KEY_MODE, Zeroizing::new(key.serialize_pem()).as_bytes())?;
        write_new(&dir.join(PEM_FILE), PEM_MODE, certificate.pem().as_bytes())?;
        File::open(dir).and_then(|open| open.sync_all()).map_err(|source| io_error(dir, source))?;
        Root::open(dir)
    }

    /// Reads the root from `dir` and checks that it is usable and out of others' reach.
    ///
    /// # Errors
    /// [`CaError::Missing`] if there is neither key nor certificate; otherwise each way in which the two files, their
    /// modes or the certificate's dates are not as [`Root::create`] left them.
    pub fn open(dir: &Path) -> Result<Root, CaError> {
        let (key_path, pem_path) = (dir.join(KEY_FILE), dir.join(PEM_FILE));
        if is_absent(&key_path) && is_absent(&pem_path) {
            return Err(CaError::Missing { dir: dir.into() });
        }
        check_dir(dir)?;
        let key_pem = read_key(&key_path)?;
        let key =
            KeyPair::from_pem(&key_pem).map_err(|_| CaError::Malformed { path: key_path, what: "a private key" })?;

        let pem = read_pem(&pem_path)?;
        let malformed = || CaError::Malformed { path: pem_path.clone(), what: "a PEM certificate" };
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| malformed())?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| malformed())?;
        if certificate.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(CaError::Mismatch { dir: dir.into() });
        }
        let until = check_certificate(&pem_path, &certificate)?;

        let signer = rcgen::Issuer::from_ca_cert_der(&der, key).map_err(|_| malformed())?;
        Ok(Root { signer, fingerprint: fingerprint(&der), pem, until })
    }

    /// The certificate, in PEM, for agents to trust. It is public.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 over the certificate's DER in upper-case hexadecimal with colons, as `openssl x509 -fingerprint
    /// -sha256` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    pub(crate) fn signer(&self) -> &rcgen::Issuer<'static, KeyPair> {
        &self.signer
    }

    /// End of the root's validity; no leaf outlives it.
    pub(crate) fn until(&self) -> SystemTime {
        self.until
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Root").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

fn params(common_name: &str) -> Result<CertificateParams, CaError> {
    if common_name.is_empty() || common_name.chars().count() > COMMON_NAME_MAX || common_name.contains(char::is_control)
    {
        return Err(CaError::CommonName { name: common_name.escape_debug().to_string() });
    }
    let suffix = HEXLOWER.encode(&random::<4>()?);
    let now = SystemTime::now();

    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{common_name} {suffix}"));
    params.serial_number = Some(random::<16>()?.to_vec().into());
    set_validity(&mut params, now - CLOCK_SKEW, now + VALIDITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Checks the dates and the right to sign; returns the end of the validity.
fn check_certificate(path: &Path, certificate: &X509Certificate<'_>) -> Result<SystemTime, CaError> {
    if !certificate.is_ca() {
        return Err(CaError::Authority { path: path.into() });
    }
    let validity = certificate.validity();
    if !validity.is_valid() {
        let (from, until) = (validity.not_before.to_string(), validity.not_after.to_string());
        return Err(CaError::NotValidNow { path: path.into(), from, until });
    }
    // A certificate that is valid now cannot end before 1970.
    let until = u64::try_from(validity.not_after.timestamp()).unwrap_or_default();
    Ok(UNIX_EPOCH + Duration::from_secs(until))
}

fn fingerprint(der: &CertificateDer<'_>) -> String {
    let hex = Sha256::digest(der).iter().map(|byte| HEXUPPER.encode(&[*byte])).collect::<Vec<_>>();
    hex.join(":")
}

fn check_dir(dir: &Path) -> Result<(), CaError> {
    let mode = dir.metadata().map_err(|source| io_error(dir, source))?.permissions().mode() & PERMISSION_BITS;
    if mode & OTHERS != 0 {
        return Err(CaError::Mode { what: "root directory", path: dir.into(), mode, wanted: DIR_MODE });
    }
    Ok(())
}

fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn read_key(path: &Path) -> Result<Zeroizing<String>, CaError> {
    let mut file = open_no_follow(path)?;
    // The open file is asked, not the path, so that nothing can be swapped in between.
    let metadata = file.metadata().map_err(|source| io_error(path, source))?;
    let mode = metadata.permissions().mode() & PERMISSION_BITS;
    if mode != KEY_MODE {
        return Err(CaError::Mode { what: "root key", path: path.into(), mode, wanted: KEY_MODE });
    }
    let mut pem = Zeroizing::new(String::with_capacity(FILE_MAX));
    read_bounded(&mut file, path, &mut pem)?;
    Ok(pem)
}

fn read_pem(path: &Path) -> Result<String, CaError> {
    let mut pem = String::new();
    read_bounded(&mut open_no_follow(path)?, path, &mut pem)?;
    Ok(pem)
}

fn read_bounded(file: &mut File, path: &Path, text: &mut String) -> Result<(), CaError> {
    let bound = u64::try_from(FILE_MAX).unwrap_or(u64::MAX);
    file.take(bound).read_to_string(text).map_err(|source| io_error(path, source))?;
    Ok(())
}

fn open_no_follow(path: &Path) -> Result<File, CaError> {
    if path.is_symlink() {
        return Err(CaError::Symlink { path: path.into() });
    }
    // `O_NONBLOCK` so that a pipe put in the file's place cannot stop the start.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    opened.map_err(|source| io_error(path, source))
}

fn write_new(path: &Path, mode: u32, content: &[u8]) -> Result<(), CaError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            CaError::Exists { path: path.into() }
        } else {
            io_error(path, source)
        }
    })?;
    // The umask may have taken bits away from the mode asked for.
    let written = file
        .set_permissions(PermissionsExt::from_mode(mode))
        .and_then(|()| file.write_all(content))
        .and_then(|()| file.sync_all());
    written.map_err(|source| io_error(path, source))
}

fn io_error(path: &Path, source: io::Error) -> CaError {
    CaError::Io { path: path.into(), source }
}

/// Who can reach a file with this mode, in words for [`CaError::Mode`].
pub(crate) fn reachable(mode: u32) -> &'static str {
    match (mode & 0o007 != 0, mode & 0o070 != 0) {
        (true, _) => "open to everyone",
        (false, true) => "open to its group",
        (false, false) => "not set as it should be",
    }
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CaError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| CaError::Entropy { reason: error.to_string() })?;
    Ok(bytes)
}

/// Makes a certificate valid from one moment to another, in whole seconds.
pub(crate) fn set_validity(params: &mut CertificateParams, from: SystemTime, until: SystemTime) {
    let since_1970 = |at: SystemTime| Duration::from_secs(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_1970(from);
    params.not_after = epoch + since_1970(until);
}

/// How far a client's clock may be behind ours.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

const VALIDITY: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);
const KEY_FILE: &str = "root.key";
const PEM_FILE: &str = "root.pem";
const KEY_MODE: u32 = 0o600;
const PEM_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o700;
const OTHERS: u32 = 0o077;
const PERMISSION_BITS: u32 = 0o7777;
/// Far above what a key or a certificate takes.
const FILE_MAX: usize = 16 * 1024;
/// X.520 allows 64 characters; a space and eight digits are ours.
const COMMON_NAME_MAX: usize = 55;

#[cfg(test)]
mod tests;
