//@ error: lifetime may not live long enough
//! The bytes of a secret, carried out of the loan.

pub fn keep(secret: &vault::Secret) -> &[u8] {
    secret.lend(|bytes| bytes)
}
