//! The providers an operator configured, and which of them a secret comes from.
//!
//! Must never open a connection or start a program: a configuration can be checked where no vault can be reached.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::aws::{self, Aws};
use crate::hashicorp::{self, Hashicorp};
use crate::onepassword::{self, OnePassword};
use crate::{Limits, LocalReference, Reference, ReferenceError};

/// Providers by name, checked.
#[derive(Debug, Default)]
pub struct Providers {
    aws: BTreeMap<String, Arc<Aws>>,
    /// AWS without an entry: all of it is said by the environment, as in a pod.
    ambient_aws: Arc<Aws>,
    hashicorp: BTreeMap<String, Arc<Hashicorp>>,
    onepassword: BTreeMap<String, Arc<OnePassword>>,
}

/// One entry of `providers:`: exactly one kind with its settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct ProviderSettings {
    aws: Option<aws::Settings>,
    hashicorp: Option<hashicorp::Settings>,
    onepassword: Option<onepassword::Settings>,
}

/// Where a secret is kept, with the provider that reads it there.
#[derive(Debug, Clone)]
pub struct Place {
    pub(crate) key: Arc<Key>,
    pub(crate) source: Source,
    pub(crate) kept_for: Duration,
}

/// What tells one secret from another.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    reference: Reference,
    /// Name of the provider; empty where none is asked.
    provider: String,
    /// Whether it may have more than one line.
    pub(crate) lines: bool,
}

/// What reads a secret, and what it needs to know.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Aws { provider: Arc<Aws>, id: String, key: Option<String>, stage: Option<String>, version: Option<String> },
    Exec { program: PathBuf, arguments: Vec<String> },
    Hashicorp { provider: Arc<Hashicorp>, path: String, field: String, version: Option<u64> },
    Local(LocalReference),
    OnePassword { provider: Arc<OnePassword>, item: String },
}

// === impl Providers ===

impl Providers {
    /// Checks the settings of every provider.
    ///
    /// # Errors
    /// The name of each provider that cannot be used, with a sentence about what to write instead.
    pub fn new(settings: BTreeMap<String, ProviderSettings>) -> Result<Providers, Vec<(String, String)>> {
        let mut providers = Providers::default();
        let mut faults = Vec::new();
        for (name, settings) in settings {
            if let Err(fault) = providers.add(&name, settings) {
                faults.push((name, fault));
            }
        }
        if faults.is_empty() { Ok(providers) } else { Err(faults) }
    }

    fn add(&mut self, name: &str, settings: ProviderSettings) -> Result<(), String> {
        let name = name.to_owned();
        match settings {
            ProviderSettings { aws: Some(settings), hashicorp: None, onepassword: None } => {
                self.aws.insert(name, Arc::new(Aws::new(settings)?));
            }
            ProviderSettings { aws: None, hashicorp: Some(settings), onepassword: None } => {
                self.hashicorp.insert(name, Arc::new(Hashicorp::new(settings)?));
            }
            ProviderSettings { aws: None, hashicorp: None, onepassword: Some(settings) } => {
                self.onepassword.insert(name, Arc::new(OnePassword::new(settings)?));
            }
            ProviderSettings { .. } => return Err("needs exactly one kind: aws, hashicorp, onepassword".to_owned()),
        }
        Ok(())
    }

    /// Renews the logins that would end soon. To be called now and then: a login that is not renewed in time is lost,
    /// and some cannot be made anew.
    pub async fn tend(&self, limits: Limits) {
        for provider in self.hashicorp.values() {
            // One that could not be renewed in time is tried again, or made anew when it is needed.
            let _tended = tokio::time::timeout(limits.deadline, provider.tend()).await;
        }
    }

    /// The place that `reference` names, read by the provider called `provider`. Without a name it is the only one of
    /// the kind that the reference needs.
    ///
    /// # Errors
    /// When there is no such provider, more than one to choose from, or none is needed.
    pub fn place(&self, reference: Reference, provider: Option<&str>) -> Result<Place, ReferenceError> {
        let (provider, source) = match (&reference, provider) {
            (Reference::Aws { id, key, stage, version, .. }, name) => {
                let (name, provider) = match name {
                    None if self.aws.is_empty() => ("", Arc::clone(&self.ambient_aws)),
                    name => chosen("aws", &self.aws, name)?,
                };
                let (id, key, stage, version) = (id.clone(), key.clone(), stage.clone(), version.clone());
                (name, Source::Aws { provider, id, key, stage, version })
            }
            (Reference::Exec { .. } | Reference::Local(_), Some(name)) => {
                return Err(ReferenceError::NeedlessProvider(name.to_owned()));
            }
            (Reference::Exec { program, arguments }, None) => {
                ("", Source::Exec { program: program.clone(), arguments: arguments.clone() })
            }
            (Reference::Hashicorp { path, field, version, .. }, name) => {
                let (name, provider) = chosen("hashicorp", &self.hashicorp, name)?;
                let (path, field) = (path.clone(), field.clone());
                (name, Source::Hashicorp { provider, path, field, version: *version })
            }
            (Reference::Local(local), None) => ("", Source::Local(local.clone())),
            (Reference::OnePassword(item), name) => {
                let (name, provider) = chosen("onepassword", &self.onepassword, name)?;
                (name, Source::OnePassword { provider, item: item.clone() })
            }
        };
        let key = Arc::new(Key { provider: provider.to_owned(), reference, lines: false });
        Ok(Place { key, source, kept_for: Duration::ZERO })
    }
}

fn chosen<'a, P>(
    kind: &'static str,
    known: &'a BTreeMap<String, Arc<P>>,
    name: Option<&str>,
) -> Result<(&'a str, Arc<P>), ReferenceError> {
    let mut all = known.iter();
    let found = match (name, all.next(), all.next()) {
        (Some(name), _, _) => {
            known.get_key_value(name).ok_or_else(|| ReferenceError::UnknownProvider { kind, name: name.to_owned() })?
        }
        (None, Some(only), None) => only,
        (None, Some(_), Some(_)) => {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            return Err(ReferenceError::WhichProvider { kind, names: names.join(", ") });
        }
        (None, None, _) => return Err(ReferenceError::NoProvider(kind)),
    };
    Ok((found.0, Arc::clone(found.1)))
}

// === impl Place ===

impl Place {
    /// The reference as configured.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.key.reference
    }

    /// The same place, whose secret may be lent again within this time of its fetch; without it, never.
    #[must_use]
    pub fn kept_for(self, time: Duration) -> Place {
        Place { kept_for: time, ..self }
    }

    /// The same place, whose secret may have more than one line, as a key in PEM has (RFC 7468). It is then not fit for
    /// a header.
    #[must_use]
    pub fn with_lines(self) -> Place {
        let Key { reference, provider, .. } = &*self.key;
        let key = Key { reference: reference.clone(), provider: provider.clone(), lines: true };
        Place { key: Arc::new(key), ..self }
    }

    /// Which kind of provider reads it: `env`, `file`, `exec`, `aws`, `hashicorp`, `1password`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        match &self.source {
            Source::Aws { .. } => "aws",
            Source::Exec { .. } => "exec",
            Source::Hashicorp { .. } => "hashicorp",
            Source::Local(LocalReference::Env(_)) => "env",
            Source::Local(LocalReference::File(_)) => "file",
            Source::OnePassword { .. } => "1password",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn providers(names: &[&str]) -> Providers {
        let settings = |_| ProviderSettings {
            aws: None,
            hashicorp: None,
            onepassword: Some(onepassword::Settings {
                command: "/usr/bin/op".into(),
                token: LocalReference::Env("T".into()),
                config: None,
            }),
        };
        Providers::new(names.iter().map(|&name| (name.to_owned(), settings(name))).collect()).unwrap()
    }

    #[test]
    fn a_reference_gets_the_provider_it_names_or_the_only_one() {
        let place = |names: &[&str], text: &str, provider| {
            providers(names).place(text.parse().unwrap(), provider).map(|place| place.provider())
        };
        assert_eq!(place(&["a"], "op://v/i/f", None), Ok("1password"));
        assert_eq!(place(&["a", "b"], "op://v/i/f", Some("b")), Ok("1password"));
        assert_eq!(place(&[], "exec:///bin/x", None), Ok("exec"));
        assert_eq!(place(&["a"], "aws-sm://x", None), Ok("aws"));
        let faults = [
            (place(&[], "op://v/i/f", None), "needs a provider of the kind `onepassword`"),
            (place(&["a", "b"], "op://v/i/f", None), "a, b"),
            (place(&["a"], "op://v/i/f", Some("c")), "no provider of the kind `onepassword` is called `c`"),
            (place(&["a"], "env://K", Some("a")), "leave `provider: a` out"),
        ];
        for (placed, expected) in faults {
            let fault = placed.unwrap_err().to_string();
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
