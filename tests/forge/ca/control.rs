//@ compiles
//! What everybody may do with a root: show the certificate.

pub fn show(root: &ca::Root) -> (&str, String) {
    (root.pem(), root.fingerprint())
}
