//! How a secret goes into a request: what `inject:` says, checked once when the file is loaded.
//!
//! A shape names the one place it fills. Nothing here sees a secret or a request.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// Where in a request a secret goes. Templates hold `{secret}`.
#[derive(Debug)]
pub enum Shape {
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
    /// A signature with the secret as its key.
    Hmac(Hmac),
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

/// A keyed digest (RFC 2104) over a text made of parts of the request, and the headers that carry it.
#[derive(Debug)]
pub struct Hmac {
    /// The digest.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// Template of what is signed: `{method}`, `{host}`, `{path}`, `{query}`, `{body}`, `{body_sha256}`, `{timestamp}`.
    pub over: String,
    /// Headers to set, names in lower case, values as templates of `{signature}` and `{timestamp}`.
    pub headers: BTreeMap<String, String>,
}

/// A digest of the SHA-2 family (FIPS 180-4).
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How octets are written as text.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Base64 (RFC 4648 section 4).
    Base64,
    /// Hexadecimal digits in lower case.
    Hex,
}

/// `inject:` as written: exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct RawInject {
    basic: Option<RawBasic>,
    bearer: Option<String>,
    cookie: Option<RawNamed>,
    form: Option<RawField>,
    header: Option<RawHeader>,
    hmac: Option<RawHmac>,
    json: Option<RawField>,
    path: Option<String>,
    query: Option<RawNamed>,
    url: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawBasic {
    user: String,
    #[serde(default)]
    password: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawField {
    field: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawHeader {
    name: String,
    #[serde(default = "plain_template")]
    value: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawHmac {
    over: String,
    headers: BTreeMap<String, String>,
    #[serde(default = "sha256")]
    algorithm: Algorithm,
    #[serde(default = "hex")]
    encoding: Encoding,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawNamed {
    name: String,
}

// === impl RawInject ===

impl RawInject {
    /// The one shape it names.
    ///
    /// # Errors
    /// One sentence: none or several are given, or what is wrong with the one.
    pub(super) fn check(self) -> Result<Shape, String> {
        let RawInject { basic, bearer, cookie, form, header, hmac, json, path, query, url } = self;
        let shapes = [
            basic.map(|basic| Shape::Basic { user: basic.user, password: basic.password }),
            bearer.map(|value| Shape::Header { name: "authorization".to_owned(), value: format!("Bearer {value}") }),
            cookie.map(|cookie| Shape::Cookie { name: cookie.name }),
            form.map(|form| Shape::Form { field: form.field }),
            header.map(|header| Shape::Header { name: header.name.to_ascii_lowercase(), value: header.value }),
            hmac.map(|hmac| Shape::Hmac(hmac.into())),
            json.map(|json| Shape::Json { field: members(&json.field) }),
            path.map(|template| Shape::Path { template }),
            query.map(|query| Shape::Query { name: query.name }),
            url.filter(|url| *url).map(|_| Shape::Url),
        ];
        let mut given = shapes.into_iter().flatten();
        let (Some(shape), None) = (given.next(), given.next()) else {
            return Err(
                "`inject:` needs exactly one of basic, bearer, cookie, form, header, hmac, json, path, query, \
                        `url: true`"
                    .to_owned(),
            );
        };
        check(&shape).map(|()| shape)
    }
}

// === impl Hmac ===

impl From<RawHmac> for Hmac {
    fn from(raw: RawHmac) -> Hmac {
        let headers = raw.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        Hmac { algorithm: raw.algorithm, encoding: raw.encoding, over: raw.over, headers }
    }
}

fn check(shape: &Shape) -> Result<(), String> {
    match shape {
        Shape::Basic { user, password } => check_template(&format!("{user}{password}")),
        Shape::Cookie { name } | Shape::Query { name } | Shape::Form { field: name } => check_name(name),
        Shape::Header { name, value } => check_template(value).and_then(|()| check_header(name)),
        Shape::Hmac(hmac) => check_hmac(hmac),
        Shape::Json { field } if field.is_empty() || field.iter().any(String::is_empty) => {
            Err("`json: { field: … }` is a path of names, such as `/auth/token`".to_owned())
        }
        Shape::Json { .. } | Shape::Url => Ok(()),
        Shape::Path { template } => check_path(template),
    }
}

fn check_template(template: &str) -> Result<(), String> {
    if template.contains(PLACEHOLDER) { Ok(()) } else { Err(format!("the template holds no `{PLACEHOLDER}`")) }
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) { Err(format!("`{name}` is not a plain name")) } else { Ok(()) }
}

fn check_header(name: &str) -> Result<(), String> {
    if FRAMING.contains(&name) {
        return Err(format!("`{name}` frames the request and cannot carry a secret"));
    }
    check_name(name)
}

fn check_hmac(hmac: &Hmac) -> Result<(), String> {
    if !["{body}", "{body_sha256}"].iter().any(|part| hmac.over.contains(part)) {
        return Err("`over:` names neither `{body}` nor `{body_sha256}`: the signature would fit any body".to_owned());
    }
    if !hmac.headers.values().any(|value| value.contains("{signature}")) {
        return Err("no value under `headers:` holds `{signature}`".to_owned());
    }
    hmac.headers.keys().try_for_each(|name| check_header(name))
}

fn check_path(template: &str) -> Result<(), String> {
    let filled = template.split('/').filter(|segment| segment.contains(PLACEHOLDER)).count();
    if !template.starts_with('/') || filled != 1 || template.matches(PLACEHOLDER).count() != 1 {
        return Err(format!("`path:` is a template such as `/bot{PLACEHOLDER}`, with `{PLACEHOLDER}` in it once"));
    }
    Ok(())
}

fn members(pointer: &str) -> Vec<String> {
    pointer.trim_start_matches('/').split('/').map(str::to_owned).collect()
}

fn plain_template() -> String {
    PLACEHOLDER.to_owned()
}

fn sha256() -> Algorithm {
    Algorithm::Sha256
}

fn hex() -> Encoding {
    Encoding::Hex
}

/// Where a template takes the secret.
pub const PLACEHOLDER: &str = "{secret}";

const FRAMING: &[&str] = &["host", "content-length", "transfer-encoding", "connection", "te", "upgrade"];
