//! Where a secret is kept, as it is written in configuration and shown in records.
//!
//! Must never repeat a text that is not a reference: it may be the secret itself.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// Where a secret is kept. It is configuration, not a secret, and may be printed and recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `exec:///absolute/program argument argument`: what a program prints. Words are split at single spaces; there
    /// is no shell and no quoting.
    Exec {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// What this process can read by itself.
    Local(LocalReference),
    /// `op://vault/item/[section/]field` of 1Password, as a whole.
    OnePassword(String),
}

/// A secret that needs no provider: the only kind that a provider's own token may be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum LocalReference {
    /// `env://NAME`: a variable of this process's environment. For development: the environment is readable for
    /// everything that runs as the same user, and cannot be changed without a restart.
    Env(String),
    /// `file:///absolute/path`, taken literally, without percent-decoding.
    File(PathBuf),
}

/// Why a text names no place, or a place that no provider reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// A provider is named where none is asked.
    #[error("this process reads the secret itself; leave `provider: {0}` out")]
    NeedlessProvider(String),
    /// No provider of the kind is configured.
    #[error("needs a provider of the kind `{0}`; add one under `providers:` in writ.yaml")]
    NoProvider(&'static str),
    /// The text is no reference. It is not repeated, because it may be the secret itself.
    #[error("not a reference to a secret (the text is withheld); {KNOWN}")]
    NotReference,
    /// It needs a provider, where none can be asked.
    #[error("a provider's own token is read from `env://NAME` or `file:///absolute/path` only")]
    NotLocal,
    /// No provider of the kind has this name.
    #[error(
        "no provider of the kind `{kind}` is called `{name}`; name one that stands under `providers:` in writ.yaml"
    )]
    UnknownProvider {
        /// The kind that the reference needs.
        kind: &'static str,
        /// The name that was given.
        name: String,
    },
    /// The scheme is not one of ours.
    #[error("unknown scheme `{scheme}://` in a reference to a secret; {KNOWN}")]
    UnknownScheme {
        /// The scheme, without what follows it.
        scheme: String,
    },
    /// More than one provider could be meant.
    #[error("several providers are of the kind `{kind}` ({names}); say which with `provider:`")]
    WhichProvider {
        /// The kind that the reference needs.
        kind: &'static str,
        /// Those there are.
        names: String,
    },
}

// === impl Reference ===

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, place) = text.split_once("://").ok_or(ReferenceError::NotReference)?;
        let found = match scheme {
            "env" => is_variable(place).then(|| Reference::Local(LocalReference::Env(place.into()))),
            "exec" => program(place),
            "file" => is_path(place).then(|| Reference::Local(LocalReference::File(place.into()))),
            "op" => is_item(place).then(|| Reference::OnePassword(text.into())),
            _ if is_scheme(scheme) => return Err(ReferenceError::UnknownScheme { scheme: scheme.into() }),
            _ => None,
        };
        found.ok_or(ReferenceError::NotReference)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Exec { program, arguments } => {
                write!(out, "exec://{}", program.display())?;
                arguments.iter().try_for_each(|argument| write!(out, " {argument}"))
            }
            Reference::Local(local) => local.fmt(out),
            Reference::OnePassword(whole) => out.write_str(whole),
        }
    }
}

// === impl LocalReference ===

impl TryFrom<String> for LocalReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.parse()? {
            Reference::Local(local) => Ok(local),
            Reference::Exec { .. } | Reference::OnePassword(_) => Err(ReferenceError::NotLocal),
        }
    }
}

impl fmt::Display for LocalReference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalReference::Env(name) => write!(out, "env://{name}"),
            LocalReference::File(path) => write!(out, "file://{}", path.display()),
        }
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains(char::is_control)
}

fn program(line: &str) -> Option<Reference> {
    let mut words = line.split(' ').map(str::to_owned);
    let program = words.next().filter(|program| is_path(program))?;
    let arguments: Vec<String> = words.collect();
    let plain = |word: &String| !word.is_empty() && !word.contains(char::is_control);
    arguments.iter().all(plain).then(|| Reference::Exec { program: program.into(), arguments })
}

/// Three or four names, each of the characters that 1Password takes in a reference. What has others is named by its id.
fn is_item(place: &str) -> bool {
    let name = |name: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" -_.".contains(&byte);
        !name.trim().is_empty() && name.bytes().all(plain)
    };
    (3..=4).contains(&place.split('/').count()) && place.split('/').all(name)
}

/// Whether this is short and plain enough to be a scheme, and not the beginning of a secret.
fn is_scheme(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

const KNOWN: &str = "write `env://NAME`, `file:///absolute/path`, `exec:///absolute/program ARGUMENTS` or \
                     `op://vault/item/field`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_printed_as_it_was_configured() {
        let program = |program: &str, arguments: &[&str]| Reference::Exec {
            program: program.into(),
            arguments: arguments.iter().map(|&each| each.to_owned()).collect(),
        };
        let cases = [
            ("env://STRIPE_KEY", Reference::Local(LocalReference::Env("STRIPE_KEY".into()))),
            ("file:///run/secrets/a%20b c", Reference::Local(LocalReference::File("/run/secrets/a%20b c".into()))),
            ("exec:///usr/bin/pass show a/b $HOME;", program("/usr/bin/pass", &["show", "a/b", "$HOME;"])),
            ("exec:///usr/bin/secret", program("/usr/bin/secret", &[])),
            ("op://AI Agents/Stripe.com/key_1", Reference::OnePassword("op://AI Agents/Stripe.com/key_1".into())),
            ("op://v/i/section/f", Reference::OnePassword("op://v/i/section/f".into())),
        ];
        for (text, expected) in cases {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference, expected);
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn n19_what_is_no_reference_is_refused_and_never_repeated() {
        let texts = [
            "",
            "CANARY",
            "CANARY://x",
            "canary-very-long-scheme://x",
            "env://",
            "env://CANARY=1",
            "env://CANARY KEY",
            "file://CANARY",
            "file://./CANARY",
            "file:///CANARY\n",
            "file:/CANARY",
            "env:CANARY",
            "://CANARY",
            "exec://CANARY",
            "exec:///CANARY  two-spaces",
            "exec:///CANARY a\nb",
            "exec:// /CANARY",
            "op://CANARY/item",
            "op://a/b/c/d/CANARY",
            "op://a//CANARY",
            "op://a/b/$(CANARY)",
            "op://a/b/CANARY;id",
            "op://a/b/CANARY\n",
        ];
        for text in texts {
            let error = text.parse::<Reference>().unwrap_err();
            assert_eq!(error, ReferenceError::NotReference, "{text}");
            let all = format!("{error} {error:?}");
            assert!(!all.to_lowercase().contains("canary"), "{all}");
            assert!(all.contains("env://NAME") && all.contains("file:///absolute/path"), "{all}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_named_with_the_known_ones() {
        let error = "postgres://user:CANARY@host".parse::<Reference>().unwrap_err();
        assert!(
            error.to_string().starts_with("unknown scheme `postgres://` in a reference to a secret; write `env://")
        );
        assert!(!format!("{error:?}").contains("CANARY"));
    }

    #[test]
    fn a_providers_own_token_is_local() {
        assert!(LocalReference::try_from("file:///run/token".to_owned()).is_ok());
        for text in ["exec:///bin/token", "op://a/b/c"] {
            assert_eq!(LocalReference::try_from(text.to_owned()), Err(ReferenceError::NotLocal));
        }
    }
}
