//@ error: E0616
//! The key of the root, read from its field.

pub fn steal(root: &ca::Root) {
    let _ = &root.signer;
}
