//! Where a secret is kept, as it is written in configuration and shown in records.
//!
//! Must never repeat a text that is not a reference: it may be the secret itself.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::field::Field;

/// Where a secret is kept. It is configuration, not a secret, and may be printed and recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `aws-sm://name-or-arn` of AWS Secrets Manager: the whole value, or with `#key` one key of the JSON object in it;
    /// with `?stage=…` or `?version=…` another one than the current.
    Aws {
        /// The whole as configured.
        text: String,
        /// Name or ARN.
        id: String,
        /// Key of the object.
        key: Option<String>,
        /// Staging label, such as `AWSPREVIOUS`.
        stage: Option<String>,
        /// Id of a version.
        version: Option<String>,
    },
    /// `exec:///absolute/program argument argument`: what a program prints. Words are split at single spaces; there
    /// is no shell and no quoting.
    Exec {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// `vault://mount/path#field`, of HashiCorp Vault or OpenBao; with `?version=N` one version of a KV v2 secret.
    Hashicorp {
        /// The whole as configured.
        text: String,
        /// Mount and path.
        path: String,
        /// Which field of the secret.
        field: String,
        /// Which version; the newest without one.
        version: Option<u64>,
    },
    /// What this process can read by itself.
    Local(LocalReference),
    /// `op://vault/item/[section/]field` of 1Password, as a whole.
    OnePassword(String),
}

/// A secret that needs no provider: the only kind that a provider's own token may be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
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
            "aws-sm" => aws(text, place),
            "env" => is_variable(place).then(|| Reference::Local(LocalReference::Env(place.into()))),
            "exec" => program(place),
            "file" => is_path(place).then(|| Reference::Local(LocalReference::File(place.into()))),
            "vault" => hashicorp(text, place),
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
            Reference::Aws { text, .. } | Reference::Hashicorp { text, .. } | Reference::OnePassword(text) => {
                out.write_str(text)
            }
            Reference::Local(local) => local.fmt(out),
        }
    }
}

// === impl LocalReference ===

impl TryFrom<String> for LocalReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.parse()? {
            Reference::Local(local) => Ok(local),
            Reference::Aws { .. }
            | Reference::Exec { .. }
            | Reference::Hashicorp { .. }
            | Reference::OnePassword(_) => Err(ReferenceError::NotLocal),
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

fn aws(text: &str, place: &str) -> Option<Reference> {
    let field = Field::parse(place).filter(|field| field.has_only(&["stage"]) || field.has_only(&["version"]))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-:".contains(&byte);
    let own = |text: &str| text.to_owned();
    field.path.bytes().all(plain).then(|| Reference::Aws {
        text: own(text),
        id: own(field.path),
        key: field.name.map(own),
        stage: field.parameter("stage").map(own),
        version: field.parameter("version").map(own),
    })
}

fn hashicorp(text: &str, place: &str) -> Option<Reference> {
    let field = Field::parse(place).filter(|field| field.is_plain_path() && field.has_only(&["version"]))?;
    let version = field.parameter("version").map(|version| version.parse().ok().filter(|version| *version > 0));
    let version = version.map_or(Some(None), |version: Option<u64>| version.map(Some))?;
    Some(Reference::Hashicorp { text: text.into(), path: field.path.into(), field: field.name?.into(), version })
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

const KNOWN: &str = "write `env://NAME`, `file:///absolute/path`, `exec:///absolute/program ARGUMENTS`, \
                     `op://vault/item/field`, `vault://mount/path#field` or `aws-sm://name#key`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_printed_as_it_was_configured() {
        let program = |program: &str, arguments: &[&str]| Reference::Exec {
            program: program.into(),
            arguments: arguments.iter().map(|&each| each.to_owned()).collect(),
        };
        let own = |text: &str| text.to_owned();
        let aws = |text: &str, key: Option<&str>, stage: Option<&str>, version: Option<&str>| Reference::Aws {
            text: text.into(),
            id: "prod/a".into(),
            key: key.map(own),
            stage: stage.map(own),
            version: version.map(own),
        };
        let vault = |text: &str, field: &str, version| Reference::Hashicorp {
            text: text.into(),
            path: "kv/a/b".into(),
            field: field.into(),
            version,
        };
        let cases = [
            ("env://STRIPE_KEY", Reference::Local(LocalReference::Env("STRIPE_KEY".into()))),
            ("file:///run/secrets/a%20b c", Reference::Local(LocalReference::File("/run/secrets/a%20b c".into()))),
            ("exec:///usr/bin/pass show a/b $HOME;", program("/usr/bin/pass", &["show", "a/b", "$HOME;"])),
            ("exec:///usr/bin/secret", program("/usr/bin/secret", &[])),
            ("op://AI Agents/Stripe.com/key_1", Reference::OnePassword("op://AI Agents/Stripe.com/key_1".into())),
            ("vault://kv/a/b#key", vault("vault://kv/a/b#key", "key", None)),
            ("vault://kv/a/b#key?version=3", vault("vault://kv/a/b#key?version=3", "key", Some(3))),
            ("vault://kv/a/b?version=3#key", vault("vault://kv/a/b?version=3#key", "key", Some(3))),
            ("aws-sm://prod/a", aws("aws-sm://prod/a", None, None, None)),
            ("aws-sm://prod/a#k", aws("aws-sm://prod/a#k", Some("k"), None, None)),
            ("aws-sm://prod/a#k?stage=S", aws("aws-sm://prod/a#k?stage=S", Some("k"), Some("S"), None)),
            ("aws-sm://prod/a?version=V", aws("aws-sm://prod/a?version=V", None, None, Some("V"))),
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
            "aws-sm://",
            "aws-sm://CANARY#",
            "aws-sm://CANARY name",
            "aws-sm://CANARY?stage=",
            "aws-sm://CANARY?stage=A&version=B",
            "vault://kv/CANARY",
            "vault://kv/CANARY#",
            "vault://#CANARY",
            "vault://kv//CANARY#f",
            "vault://kv/../CANARY#f",
            "vault://kv/%2e%2e/CANARY#f",
            "vault://kv/CANARY?version=0#f",
            "vault://kv/CANARY?version=x#f",
            "vault://kv/CANARY?version=1&version=2#f",
            "vault://kv/CANARY?version=1#f?version=1",
            "vault://kv/CANARY?other=1#f",
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
