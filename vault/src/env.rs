//! Reads secrets from the environment of this process, for development.
//!
//! Must never change the environment or read it ahead of a fetch.

use std::os::unix::ffi::OsStringExt;

use zeroize::Zeroizing;

use crate::{Fault, Raw};

/// Reads the variable as it is, without taking a line break away.
pub(crate) fn read(name: &str) -> Result<Raw, Fault> {
    let value = std::env::var_os(name).ok_or(Fault::Unset)?;
    Ok(Raw { value: Zeroizing::new(value.into_vec()), version: None, loan: None })
}

#[cfg(test)]
mod tests {
    use crate::{Limits, Providers, Vault};

    async fn fetched(name: &str, limits: Limits) -> Result<crate::Fetched, String> {
        let place = Providers::default().place(format!("env://{name}").parse().unwrap(), None).unwrap();
        Vault::new(limits).fetch(&place).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_variable_is_read_when_it_is_fetched() {
        // Set by cargo for every test.
        let fetched = fetched("CARGO_PKG_NAME", Limits::default()).await.unwrap();
        fetched.secret.lend(|secret| assert_eq!(secret, b"vault"));
        assert_eq!(fetched.version, None);
    }

    #[tokio::test]
    async fn a_variable_keeps_to_the_same_limits() {
        let limits = Limits { max_bytes: 4, ..Limits::default() };
        let error = fetched("CARGO_PKG_NAME", limits).await.unwrap_err();
        assert_eq!(error, "`env://CARGO_PKG_NAME` is longer than 4 bytes; store the secret alone");
    }

    #[tokio::test]
    async fn a_variable_that_is_not_set_is_an_error() {
        let error = fetched("WRIT_NO_SUCH", Limits::default()).await.unwrap_err();
        assert_eq!(error, "`env://WRIT_NO_SUCH` is not set; set the variable before the start");
    }
}
