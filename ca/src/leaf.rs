//! Signs one leaf certificate for one name.
//!
//! Must never put a second name into a leaf, reuse a key, or let a leaf outlive the root.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer};

use crate::CaError;
use crate::root::{self, Root};

/// What a leaf is made for: one DNS name in lower case, or one IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Subject);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    Dns(String),
    Ip(IpAddr),
}

/// A certificate and its key, on their way into a TLS configuration.
pub(crate) struct Leaf {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

// === impl Name ===

impl Name {
    /// A DNS name, in lower case from here on. International names come in their ASCII form.
    ///
    /// # Errors
    /// [`CaError::Name`] for anything that is not a plain host name (RFC 1123, with underscores): wildcards, a final
    /// dot, and names whose last label is a number, which resolvers take for addresses.
    pub fn dns(name: &str) -> Result<Name, CaError> {
        let refused = || CaError::Name { name: name.escape_debug().to_string() };
        let last_label = name.rsplit('.').next().unwrap_or_default();
        if last_label.is_empty() || last_label.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        let valid = DnsName::try_from(name).map_err(|_| refused())?;
        Ok(Name(Subject::Dns(valid.as_ref().to_ascii_lowercase())))
    }
}

impl From<IpAddr> for Name {
    fn from(address: IpAddr) -> Self {
        Name(Subject::Ip(address))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Subject::Dns(name) => name.fmt(out),
            Subject::Ip(address) => address.fmt(out),
        }
    }
}

/// Signs a leaf for `name` with a fresh key, valid from an hour before `now` to a day after it; or says why not.
pub(crate) fn issue(root: &Root, name: &Name, now: SystemTime) -> Result<Leaf, String> {
    if now >= root.until() {
        return Err("the root certificate has expired; make a new root".into());
    }
    let params = params(root, name, now)?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
    let certificate = params.signed_by(&key, root.signer()).map_err(|error| error.to_string())?;
    Ok(Leaf { certificate: certificate.into(), key: key.into() })
}

fn params(root: &Root, name: &Name, now: SystemTime) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // A fixed text: host names may be longer than the 64 characters of a common name, and clients read the SAN.
    params.distinguished_name.push(DnType::CommonName, "Writ leaf");
    params.subject_alt_names = vec![san(name).map_err(|error| error.to_string())?];
    params.serial_number = Some(root::random::<16>().map_err(|error| error.to_string())?.to_vec().into());
    root::set_validity(&mut params, now - root::CLOCK_SKEW, root.until().min(now + VALIDITY));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn san(name: &Name) -> Result<SanType, rcgen::Error> {
    match &name.0 {
        Subject::Dns(name) => name.as_str().try_into().map(SanType::DnsName),
        Subject::Ip(address) => Ok(SanType::IpAddress(*address)),
    }
}

/// How long a leaf lives after it is issued.
pub(crate) const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use rustls::pki_types::pem::PemObject;
    use x509_parser::certificate::X509Certificate;
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    use x509_parser::prelude::FromDer;

    use super::*;

    fn new_root() -> Root {
        let home = tempfile::tempdir().unwrap();
        Root::create(&home.path().join("ca"), "Test root").unwrap()
    }

    fn parse(der: &[u8]) -> X509Certificate<'_> {
        X509Certificate::from_der(der).unwrap().1
    }

    fn seconds(at: SystemTime) -> i64 {
        i64::try_from(at.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
    }

    #[test]
    fn a_leaf_says_what_strict_clients_demand_and_no_more() {
        let root = new_root();
        let root_der = CertificateDer::from_pem_slice(root.pem().as_bytes()).unwrap();
        let now = SystemTime::now();
        let leaf = issue(&root, &Name::dns("api.example.com").unwrap(), now).unwrap();
        let leaf = parse(&leaf.certificate);

        assert_eq!(leaf.version().0, 2, "version 3 is written as 2");
        assert_eq!(leaf.issuer(), parse(&root_der).subject());
        assert_eq!(leaf.public_key().parsed().unwrap().key_size(), 256, "P-256");
        assert_eq!(leaf.validity().not_before.timestamp(), seconds(now) - 60 * 60);
        assert_eq!(leaf.validity().not_after.timestamp(), seconds(now) + 24 * 60 * 60);

        let san = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(san.value.general_names, [GeneralName::DNSName("api.example.com")]);
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        assert_eq!(usage.value.flags, 1, "digitalSignature alone");
        let purpose = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(purpose.server_auth && !purpose.client_auth && !purpose.any && purpose.other.is_empty());
        let constraints = leaf.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && !constraints.value.ca);
        assert_eq!(authority_key(&leaf), subject_key(&parse(&root_der)));
        assert!(subject_key(&leaf).is_some());
        assert_eq!(leaf.extensions().len(), 6);
    }

    fn subject_key(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
        certificate.extensions().iter().find_map(|extension| {
            let ParsedExtension::SubjectKeyIdentifier(key) = extension.parsed_extension() else { return None };
            Some(key.0.to_vec())
        })
    }

    fn authority_key(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
        certificate.extensions().iter().find_map(|extension| {
            let ParsedExtension::AuthorityKeyIdentifier(key) = extension.parsed_extension() else { return None };
            key.key_identifier.as_ref().map(|key| key.0.to_vec())
        })
    }

    #[test]
    fn an_address_is_a_san_of_its_own_kind() {
        let root = new_root();
        let addresses: [(&str, &[u8]); 2] = [
            ("192.0.2.7", &[192, 0, 2, 7]),
            ("2001:db8::7", &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]),
        ];
        for (text, octets) in addresses {
            let leaf = issue(&root, &text.parse::<IpAddr>().unwrap().into(), SystemTime::now()).unwrap();
            let leaf = parse(&leaf.certificate);
            let san = leaf.subject_alternative_name().unwrap().unwrap();
            assert_eq!(san.value.general_names, [GeneralName::IPAddress(octets)], "{text}");
        }
    }

    #[test]
    fn keys_and_serial_numbers_are_never_used_twice() {
        let root = new_root();
        let names = ["a.example", "b.example", "a.example"].map(|name| Name::dns(name).unwrap());
        let leaves = names.map(|name| issue(&root, &name, SystemTime::now()).unwrap().certificate);
        let parsed = leaves.each_ref().map(|leaf| parse(leaf));
        for (left, right) in [(0, 1), (0, 2), (1, 2)] {
            assert_ne!(parsed[left].public_key().raw, parsed[right].public_key().raw);
            assert_ne!(parsed[left].raw_serial(), parsed[right].raw_serial());
        }
    }

    #[test]
    fn a_leaf_ends_with_the_root_at_the_latest() {
        let root = new_root();
        let now = root.until() - Duration::from_secs(60);
        let leaf = issue(&root, &Name::dns("a.example").unwrap(), now).unwrap();
        assert_eq!(parse(&leaf.certificate).validity().not_after.timestamp(), seconds(root.until()));
    }

    #[test]
    fn names_are_plain_host_names() {
        let long = format!("{0}.{0}.{0}.{0}", "a".repeat(63));
        let fitting = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
        for name in ["a", "api.example.com", "xn--bcher-kva.example", "_dmarc.a-b.example", "1.a", &fitting] {
            assert_eq!(Name::dns(name).unwrap().to_string(), name);
        }
        assert_eq!(Name::dns("API.Example.COM").unwrap(), Name::dns("api.example.com").unwrap());
        let label = "a".repeat(64);
        let refused = [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "*.a",
            "a b",
            "a/b",
            "a:443",
            "a@b",
            "a\0b",
            "a\nb",
            "b\u{fc}cher.example",
            "127.0.0.1",
            "2130706433",
            "a.1",
            "0x7f.1",
            "::1",
            "[::1]",
            "-a",
            "a-.b",
            &label,
            &long,
        ];
        for name in refused {
            let error = Name::dns(name).unwrap_err();
            assert!(matches!(error, CaError::Name { .. }), "{name}: {error}");
        }
    }
}
