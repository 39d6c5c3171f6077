//@ error: E0624
//! The key of the root, taken out of its crate by the method that lends it.

pub fn steal(root: &ca::Root) {
    let _ = root.signer();
}
