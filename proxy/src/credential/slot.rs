//! The places in a request that a text can fill.
//!
//! Nothing here sees a secret or a request.

use schemars::JsonSchema;
use serde::Deserialize;

/// A place that a text fills. Templates hold `{secret}`.
#[derive(Debug)]
pub enum Slot {
    /// `Authorization: Basic`, user and password templates (RFC 7617).
    Basic {
        /// Template of the user name.
        user: String,
        /// Template of the password.
        password: String,
    },
    /// A cookie of this name (RFC 6265); the only one that is sent.
    Cookie {
        /// Cookie name.
        name: String,
    },
    /// A field of a body in `application/x-www-form-urlencoded`.
    Form {
        /// Field name.
        field: String,
    },
    /// A header of this name, lower case, with this template.
    Header {
        /// Header name.
        name: String,
        /// Template of its value.
        value: String,
    },
    /// A member of a JSON body: the names on the way to it from the outermost object.
    Json {
        /// Names of members, at least one.
        field: Vec<String>,
    },
    /// A part of the path: a template of its first segments, one of which holds `{secret}`; `*` is any segment.
    Path {
        /// The template, such as `/bot{secret}`.
        template: String,
    },
    /// A query parameter of this name.
    Query {
        /// Parameter name.
        name: String,
    },
    /// The secret is the whole URL, as of an incoming webhook; its host must be the request's.
    Url,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBasic {
    user: String,
    #[serde(default)]
    password: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawField {
    field: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHeader {
    name: String,
    #[serde(default = "plain_template")]
    value: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNamed {
    name: String,
}

// === impl Slot ===

impl Slot {
    /// The slot of access tokens (RFC 6750 section 2.1).
    pub(super) fn bearer(template: &str) -> Slot {
        Slot::Header { name: "authorization".to_owned(), value: format!("Bearer {template}") }
    }

    pub(super) fn basic(raw: RawBasic) -> Slot {
        Slot::Basic { user: raw.user, password: raw.password }
    }

    pub(super) fn cookie(raw: RawNamed) -> Slot {
        Slot::Cookie { name: raw.name }
    }

    pub(super) fn form(raw: RawField) -> Slot {
        Slot::Form { field: raw.field }
    }

    pub(super) fn header(raw: RawHeader) -> Slot {
        Slot::Header { name: raw.name.to_ascii_lowercase(), value: raw.value }
    }

    pub(super) fn json(raw: RawField) -> Slot {
        Slot::Json { field: raw.field.trim_start_matches('/').split('/').map(str::to_owned).collect() }
    }

    pub(super) fn query(raw: RawNamed) -> Slot {
        Slot::Query { name: raw.name }
    }

    /// Whether there can be such a place.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Slot::Basic { user, password } => check_template(&format!("{user}{password}")),
            Slot::Cookie { name } | Slot::Query { name } | Slot::Form { field: name } => check_name(name),
            Slot::Header { name, value } => check_template(value).and_then(|()| check_header(name)),
            Slot::Json { field } if field.is_empty() || field.iter().any(String::is_empty) => {
                Err("`json: { field: … }` is a path of names, such as `/auth/token`".to_owned())
            }
            Slot::Json { .. } | Slot::Url => Ok(()),
            Slot::Path { template } => check_path(template),
        }
    }
}

fn check_template(template: &str) -> Result<(), String> {
    if template.contains(PLACEHOLDER) { Ok(()) } else { Err(format!("the template holds no `{PLACEHOLDER}`")) }
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) { Err(format!("`{name}` is not a plain name")) } else { Ok(()) }
}

/// Whether a header of this name can be set.
pub(super) fn check_header(name: &str) -> Result<(), String> {
    if FRAMING.contains(&name) {
        return Err(format!("`{name}` frames the request and cannot carry a secret"));
    }
    check_name(name)
}

fn check_path(template: &str) -> Result<(), String> {
    let filled = template.split('/').filter(|segment| segment.contains(PLACEHOLDER)).count();
    if !template.starts_with('/') || filled != 1 || template.matches(PLACEHOLDER).count() != 1 {
        return Err(format!("`path:` is a template such as `/bot{PLACEHOLDER}`, with `{PLACEHOLDER}` in it once"));
    }
    Ok(())
}

fn plain_template() -> String {
    PLACEHOLDER.to_owned()
}

/// Where a template takes the secret.
pub const PLACEHOLDER: &str = "{secret}";

const FRAMING: &[&str] = &["host", "content-length", "transfer-encoding", "connection", "te", "upgrade"];
