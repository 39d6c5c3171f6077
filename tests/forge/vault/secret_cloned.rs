//@ error: E0277
//! A copy of a secret, which nobody would wipe.

pub fn copy(secret: &vault::Secret) -> vault::Secret {
    Clone::clone(secret)
}
