//! `writ credentials`: what is configured, and whether it can be read. Never shows a secret.

use anyhow::{Context, Result};
use serde_json::json;
use vault::{Vault, VaultError};

use super::{CredentialCommand, Exit, say, say_error};
use crate::config::Config;
use crate::credential::Credential;
use crate::home::Home;
use crate::refusal::Refusal;
use crate::rulebook::Rulebook;

/// Runs one of them, on the files of the home: no running gate is needed.
pub(super) async fn run(home: Home, what: &CredentialCommand, as_json: bool) -> Result<Exit> {
    let config = Config::load(home)?;
    let book = Rulebook::load(&config)?;
    match what {
        CredentialCommand::List => {
            for (name, credential) in &book.credentials {
                list(name, credential, as_json);
            }
            Ok(Exit::Ok)
        }
        CredentialCommand::Test { name } => {
            let credential = book.credentials.get(name);
            let credential = credential
                .with_context(|| format!("there is no credential `{name}`; `writ credentials list` names them"))?;
            Ok(test(name, credential, &Vault::new(config.limits.of_secrets()), as_json).await)
        }
    }
}

fn list(name: &str, credential: &Credential, as_json: bool) {
    let (reference, provider) = (credential.place.reference().to_string(), credential.place.provider());
    let hosts = credential.hosts();
    say(&if as_json {
        json!({"name": name, "reference": reference, "provider": provider, "hosts": hosts}).to_string()
    } else {
        format!("{name}  {reference}  → {}", hosts.join(", "))
    });
}

async fn test(name: &str, credential: &Credential, vault: &Vault, as_json: bool) -> Exit {
    let (reference, provider) = (credential.place.reference().to_string(), credential.place.provider());
    let mut fetched = vault.fetch(&credential.place).await;
    if let Ok(fetched) = &mut fetched
        && let Some(lease) = fetched.lease.take()
        && let Err(fault) = vault.give_back(lease).await
    {
        say_error(&format!("`{reference}` is a dynamic secret, and could not be given back: {fault}"));
    }
    let code = |error: &VaultError| Refusal::Unfetched(error.fault.clone(), String::new()).answer().code;
    if as_json {
        let found = fetched.as_ref();
        let line = json!({
            "name": name,
            "reference": reference,
            "provider": provider,
            "readable": found.is_ok(),
            "length": found.ok().map(|fetched| fetched.secret.len()),
            "version": found.ok().and_then(|fetched| fetched.version.clone()),
            "code": found.err().map(code),
            "detail": found.err().map(ToString::to_string),
        });
        say(&line.to_string());
    } else {
        match &fetched {
            Ok(fetched) => {
                let version = fetched.version.as_ref().map(|version| format!(", version {version}"));
                say(&format!("`{reference}`: {} bytes{}", fetched.secret.len(), version.unwrap_or_default()));
            }
            Err(error) => say_error(&format!("{error} ({})", code(error))),
        }
    }
    if fetched.is_ok() { Exit::Ok } else { Exit::Failed }
}
