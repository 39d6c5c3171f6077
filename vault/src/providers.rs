//! The providers an operator configured, and which of them a secret comes from.
//!
//! Must never open a connection or start a program: a configuration can be checked where no vault can be reached.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::onepassword::{self, OnePassword};
use crate::{LocalReference, Reference, ReferenceError};

/// Providers by name, checked.
#[derive(Debug, Default)]
pub struct Providers {
    onepassword: BTreeMap<String, Arc<OnePassword>>,
}

/// One entry of `providers:`: exactly one kind with its settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    onepassword: Option<onepassword::Settings>,
}

/// Where a secret is kept, with the provider that reads it there.
#[derive(Debug, Clone)]
pub struct Place {
    pub(crate) reference: Reference,
    pub(crate) source: Source,
}

/// What reads a secret, and what it needs to know.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Exec { program: PathBuf, arguments: Vec<String> },
    Local(LocalReference),
    OnePassword { provider: Arc<OnePassword>, item: String },
}

// === impl Providers ===

impl Providers {
    /// Checks the settings of every provider.
    ///
    /// # Errors
    /// One sentence per fault, naming the provider and what to write instead.
    pub fn new(settings: BTreeMap<String, ProviderSettings>) -> Result<Providers, Vec<String>> {
        let mut providers = Providers::default();
        let mut faults = Vec::new();
        for (name, settings) in settings {
            if let Err(fault) = providers.add(&name, settings) {
                faults.push(format!("provider `{name}`: {fault}"));
            }
        }
        if faults.is_empty() { Ok(providers) } else { Err(faults) }
    }

    fn add(&mut self, name: &str, settings: ProviderSettings) -> Result<(), String> {
        let ProviderSettings { onepassword } = settings;
        match onepassword {
            Some(settings) => {
                self.onepassword.insert(name.to_owned(), Arc::new(OnePassword::new(settings)?));
                Ok(())
            }
            None => Err("needs exactly one kind: `onepassword`".to_owned()),
        }
    }

    /// The place that `reference` names, read by the provider called `provider`. Without a name it is the only one of
    /// the kind that the reference needs.
    ///
    /// # Errors
    /// When there is no such provider, more than one to choose from, or none is needed.
    pub fn place(&self, reference: Reference, provider: Option<&str>) -> Result<Place, ReferenceError> {
        let source = match (&reference, provider) {
            (Reference::Exec { .. } | Reference::Local(_), Some(name)) => {
                return Err(ReferenceError::NeedlessProvider(name.to_owned()));
            }
            (Reference::Exec { program, arguments }, None) => {
                Source::Exec { program: program.clone(), arguments: arguments.clone() }
            }
            (Reference::Local(local), None) => Source::Local(local.clone()),
            (Reference::OnePassword(item), name) => {
                Source::OnePassword { provider: chosen("onepassword", &self.onepassword, name)?, item: item.clone() }
            }
        };
        Ok(Place { reference, source })
    }
}

fn chosen<P>(
    kind: &'static str,
    known: &BTreeMap<String, Arc<P>>,
    name: Option<&str>,
) -> Result<Arc<P>, ReferenceError> {
    let found = match name {
        Some(name) => known.get(name).ok_or_else(|| ReferenceError::UnknownProvider { kind, name: name.to_owned() })?,
        None => {
            let mut all = known.values();
            match (all.next(), all.next()) {
                (Some(only), None) => only,
                (Some(_), Some(_)) => {
                    let names: Vec<&str> = known.keys().map(String::as_str).collect();
                    return Err(ReferenceError::WhichProvider { kind, names: names.join(", ") });
                }
                (None, _) => return Err(ReferenceError::NoProvider(kind)),
            }
        }
    };
    Ok(Arc::clone(found))
}

// === impl Place ===

impl Place {
    /// The reference as configured.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Which kind of provider reads it: `env`, `file`, `exec`, `1password`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        match &self.source {
            Source::Exec { .. } => "exec",
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
