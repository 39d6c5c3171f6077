//! Trusted certificates as Java reads them: PKCS #12 (RFC 7292) without a password.
//!
//! There is nothing secret in it, so nothing is encrypted and nothing signed. Java takes a certificate of such a store
//! for trusted when it carries an attribute of Oracle's.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error, PemObject};

/// All certificates of a PEM file, as a store.
///
/// # Errors
/// When the text is not PEM.
pub fn pkcs12(pem: &str) -> Result<Vec<u8>, Error> {
    let mut bags = Vec::new();
    for (number, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        bags.push(bag(&certificate?, &format!("root-{number}")));
    }
    let safe = content(&sequence(&bags));
    let version = der(INTEGER, &[3]);
    Ok(sequence(&[version, content(&sequence(&[safe]))]))
}

/// A `SafeBag` with one certificate, its name, and what makes Java trust it.
fn bag(certificate: &[u8], name: &str) -> Vec<u8> {
    let own = sequence(&[der(OID, X509), explicit(&der(OCTETS, certificate))]);
    // BMPString: two octets for each character, and these are ASCII.
    let name: Vec<u8> = name.bytes().flat_map(|byte| [0, byte]).collect();
    let friendly = sequence(&[der(OID, FRIENDLY_NAME), der(SET, &der(BMP_STRING, &name))]);
    let trusted = sequence(&[der(OID, TRUSTED_KEY_USAGE), der(SET, &der(OID, ANY_USAGE))]);
    let attributes = der(SET, &[friendly, trusted].concat());
    sequence(&[der(OID, CERTIFICATE_BAG), explicit(&own), attributes])
}

/// A `ContentInfo` of plain data.
fn content(data: &[u8]) -> Vec<u8> {
    sequence(&[der(OID, DATA), explicit(&der(OCTETS, data))])
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    der(SEQUENCE, &parts.concat())
}

fn explicit(inner: &[u8]) -> Vec<u8> {
    der(CONTEXT_0, inner)
}

/// One value with its tag and length (X.690 section 8.1).
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let significant = length.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let mut out = vec![tag];
    match significant.as_slice() {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(value);
    out
}

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xa0;

/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// 1.2.840.113549.1.12.10.1.3
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];

/// 1.2.840.113549.1.9.22.1
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];

/// 1.2.840.113549.1.9.20
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];

/// 2.16.840.1.113894.746875.1.1
const TRUSTED_KEY_USAGE: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];

/// 2.5.29.37.0
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_short_as_they_can_be() {
        for (length, head) in
            [(0, vec![4, 0]), (0x7f, vec![4, 0x7f]), (0x80, vec![4, 0x81, 0x80]), (0x1234, vec![4, 0x82, 0x12, 0x34])]
        {
            let written = der(OCTETS, &vec![0; length]);
            assert_eq!((&written[..head.len()], written.len()), (head.as_slice(), head.len() + length));
        }
    }

    #[test]
    fn every_certificate_of_the_file_is_in_the_store() {
        let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert;
        let (one, two) = (made("one.example"), made("two.example"));
        let store = pkcs12(&(one.pem() + &two.pem())).unwrap();
        for certificate in [one, two] {
            assert!(store.windows(certificate.der().len()).any(|window| window == certificate.der().as_ref()));
        }
    }
}
