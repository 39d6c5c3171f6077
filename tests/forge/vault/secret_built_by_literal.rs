//@ error: E0451
//! A secret that no source gave.

pub fn forge() -> vault::Secret {
    vault::Secret { ..loop {} }
}
