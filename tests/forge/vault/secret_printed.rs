//@ error: E0277
//! A secret in a message.

pub fn print(secret: &vault::Secret) -> String {
    format!("{secret}")
}
