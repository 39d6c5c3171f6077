//! Reads secrets from the environment of this process, for development.
//!
//! Must never change the environment or read it ahead of a fetch.

use std::os::unix::ffi::OsStringExt;

use zeroize::Zeroizing;

use crate::{Raw, Reference, VaultError};

/// Reads the variable as it is, without taking a line break away.
pub(crate) fn read(reference: &Reference, name: &str) -> Result<Raw, VaultError> {
    let value = std::env::var_os(name).ok_or_else(|| VaultError::Unset { reference: reference.clone() })?;
    Ok(Raw { value: Zeroizing::new(value.into_vec()), version: None })
}

#[cfg(test)]
mod tests {
    use crate::{Limits, Vault};

    use super::*;

    #[tokio::test]
    async fn a_variable_is_read_when_it_is_fetched() {
        // Set by cargo for every test.
        let fetched = Vault::new(Limits::default()).fetch(&Reference::Env("CARGO_PKG_NAME".into())).await.unwrap();
        fetched.secret.lend(|secret| assert_eq!(secret, b"vault"));
        assert_eq!((fetched.provider, fetched.version), ("env", None));
    }

    #[tokio::test]
    async fn a_variable_keeps_to_the_same_limits() {
        let limits = Limits { max_bytes: 4, ..Limits::default() };
        let error = Vault::new(limits).fetch(&Reference::Env("CARGO_PKG_NAME".into())).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the secret at `env://CARGO_PKG_NAME` is longer than 4 bytes; store the secret alone"
        );
    }

    #[tokio::test]
    async fn a_variable_that_is_not_set_is_an_error() {
        let error = Vault::new(Limits::default()).fetch(&Reference::Env("WRIT_NO_SUCH".into())).await.unwrap_err();
        assert_eq!(error.to_string(), "`env://WRIT_NO_SUCH` is not set; set the variable before the start");
    }
}
