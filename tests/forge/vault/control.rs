//@ compiles
//! What everybody may do with a secret: borrow it for a moment.

pub fn length(secret: &vault::Secret) -> usize {
    secret.lend(|bytes| bytes.len())
}
