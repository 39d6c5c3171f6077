//@ error: E0451
//! A root made without its file and the checks on it.

pub fn forge(pem: String) -> ca::Root {
    ca::Root { pem, ..loop {} }
}
