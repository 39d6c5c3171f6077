//! Frames HTTP/1.1 requests on raw bytes, strictly, before any library sees them (RFC 9112).
//!
//! hyper accepts much that two programs can read in two ways: it even removes a Content-Length that stands beside a
//! Transfer-Encoding before anyone can notice. So each head is checked here byte for byte, and each body is counted
//! here. What passes is handed on unchanged; what does not becomes a [`Refusal`]. Nothing here decides whether a
//! request is allowed.

use crate::limits::Limits;
use crate::refusal::Refusal;

/// One request head that can be read in one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Upper-case method from the list of known ones.
    pub method: String,
    /// Request target as sent.
    pub target: String,
    /// Minor version: 0 or 1.
    pub minor: u8,
    /// Header names in lower case, values without surrounding white space, in the order sent.
    pub headers: Vec<(String, String)>,
    /// How the body is framed.
    pub framing: Framing,
    /// Bytes of the head including the empty line.
    pub bytes: usize,
}

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Chunks without extensions or trailers.
    Chunked,
    /// This many bytes.
    Length(u64),
}

// === impl Head ===

impl Head {
    /// The value of a header that may stand once.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }
}

/// Reads one head from the front of `raw`. `None` means that more bytes are needed.
///
/// # Errors
/// [`Refusal::Ambiguous`] for anything two parsers could read differently, [`Refusal::HeadTooLarge`] or
/// [`Refusal::TargetTooLong`] over a limit,
/// [`Refusal::Expectation`] for an unknown expectation, [`Refusal::MethodRefused`] for TRACE.
pub fn parse(raw: &[u8], limits: &Limits) -> Result<Option<Head>, Refusal> {
    let Some(end) = end_of_head(raw, limits)? else { return Ok(None) };
    let text = raw.get(..end).unwrap_or_default();
    let mut lines = lines(text)?.into_iter();
    let (method, target, minor) = request_line(lines.next().unwrap_or_default(), limits)?;
    let mut headers = Vec::new();
    for line in lines {
        headers.push(header_line(line, limits)?);
    }
    if headers.len() > Limits::size(limits.headers) {
        return Err(Refusal::HeadTooLarge(format!("more than {} headers", limits.headers)));
    }
    let framing = framing(&method, minor, &headers)?;
    let head = Head { method, target, minor, headers, framing, bytes: end };
    check_host(&head)?;
    check_expect(&head.headers)?;
    Ok(Some(head))
}

/// Whether a method may be forwarded.
///
/// # Errors
/// [`Refusal::MethodRefused`] for those that never are, [`Refusal::Ambiguous`] for unknown ones and other spellings.
pub fn check_method(method: &str) -> Result<(), Refusal> {
    if ["CONNECT", "TRACE", "TRACK"].contains(&method) {
        return Err(Refusal::MethodRefused(method.to_owned()));
    }
    if METHODS.contains(&method) {
        Ok(())
    } else {
        Err(Refusal::ambiguous("the method is not a known one in upper case"))
    }
}

/// The only expectation is `100-continue` (RFC 9110 section 10.1.1).
///
/// # Errors
/// [`Refusal::Expectation`] for any other.
pub fn check_expect(headers: &[(String, String)]) -> Result<(), Refusal> {
    let expected = headers.iter().filter(|(name, _)| name == "expect").map(|(_, value)| value.as_str());
    match expected.collect::<Vec<_>>().as_slice() {
        [] => Ok(()),
        [value] if value.eq_ignore_ascii_case("100-continue") => Ok(()),
        _ => Err(Refusal::Expectation),
    }
}

/// Whether this may be the name of a header.
pub fn is_name(name: &str) -> bool {
    // An underscore is a legal token character, but CGI-style servers read `Content_Length` as `Content-Length`.
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

/// Where the head ends, counted from the start of `raw`; at once an error when no more bytes could mend it.
fn end_of_head(raw: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
    let found = memchr::memmem::find(raw, b"\r\n\r\n").map(|at| at + 4);
    let seen = found.unwrap_or(raw.len());
    if seen > Limits::size(limits.head_bytes) {
        return Err(Refusal::HeadTooLarge(format!("the head is larger than {} bytes", limits.head_bytes)));
    }
    let head = raw.get(..seen).unwrap_or_default();
    let mut before = None;
    for byte in head {
        if *byte == b'\n' && before != Some(b'\r') {
            return Err(Refusal::ambiguous("a line ends with a bare line feed"));
        }
        before = Some(*byte);
    }
    // A first byte that no method starts with cannot become a request: say so now instead of waiting for more.
    if head.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
        return Err(Refusal::ambiguous("this is not an HTTP request"));
    }
    Ok(found)
}

/// The lines of a head without their CRLF and without the empty last one; CR and LF may stand nowhere else.
fn lines(head: &[u8]) -> Result<Vec<&str>, Refusal> {
    let Ok(text) = str::from_utf8(head) else {
        return Err(Refusal::ambiguous("the head holds bytes outside ASCII"));
    };
    let body = text.strip_suffix("\r\n\r\n").unwrap_or(text);
    let lines: Vec<&str> = body.split("\r\n").collect();
    let odd = |byte: u8| byte == b'\r' || byte == b'\n' || (byte < 0x20 && byte != b'\t') || byte >= 0x7f;
    match lines.iter().flat_map(|line| line.bytes()).find(|byte| odd(*byte)) {
        Some(byte) => Err(Refusal::Ambiguous(format!("the head holds the byte 0x{byte:02x}"))),
        None => Ok(lines),
    }
}

fn request_line(line: &str, limits: &Limits) -> Result<(String, String, u8), Refusal> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return Err(Refusal::ambiguous("the request line is not `METHOD target HTTP/1.1`"));
    };
    let minor = match *version {
        "HTTP/1.1" => 1,
        "HTTP/1.0" => 0,
        _ => return Err(Refusal::ambiguous("the version is neither HTTP/1.1 nor HTTP/1.0")),
    };
    if *method != "CONNECT" {
        check_method(method)?;
    }
    if target.len() > Limits::size(limits.target_bytes) {
        return Err(Refusal::TargetTooLong(limits.target_bytes));
    }
    if target.is_empty() || target.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(Refusal::ambiguous("the request target holds white space, a control or a fragment"));
    }
    // hyper would answer these by itself, and nobody would know.
    if target.parse::<http::Uri>().is_err() {
        return Err(Refusal::ambiguous("the request target is neither a path nor a URL"));
    }
    Ok(((*method).to_owned(), (*target).to_owned(), minor))
}

fn header_line(line: &str, limits: &Limits) -> Result<(String, String), Refusal> {
    if line.len() > Limits::size(limits.line_bytes) {
        return Err(Refusal::HeadTooLarge(format!("a header line is longer than {} bytes", limits.line_bytes)));
    }
    let Some((name, value)) = line.split_once(':') else {
        return Err(Refusal::ambiguous("a header line has no colon"));
    };
    if !is_name(name) {
        return Err(Refusal::ambiguous("a header name is empty, folded, or holds a character that is not allowed"));
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

fn framing(method: &str, minor: u8, headers: &[(String, String)]) -> Result<Framing, Refusal> {
    let values =
        |name: &str| headers.iter().filter(|(each, _)| each == name).map(|(_, value)| value.as_str()).collect();
    let lengths: Vec<&str> = values("content-length");
    let encodings: Vec<&str> = values("transfer-encoding");
    if method == "CONNECT" && !(encodings.is_empty() && lengths.iter().all(|length| *length == "0")) {
        return Err(Refusal::ambiguous("a CONNECT request has no body"));
    }
    match (lengths.as_slice(), encodings.as_slice()) {
        // RFC 1945 section 7.2.2: its body would end with the connection, as no body in HTTP/1.1 does.
        ([], []) if minor == 0 && ["PATCH", "POST", "PUT"].contains(&method) => {
            Err(Refusal::ambiguous("an HTTP/1.0 request with a body needs a Content-Length"))
        }
        ([], []) => Ok(Framing::Length(0)),
        ([length], []) => content_length(length),
        ([], ["chunked"]) if minor == 1 => Ok(Framing::Chunked),
        ([], _) => Err(Refusal::ambiguous("Transfer-Encoding is not exactly one `chunked` in an HTTP/1.1 request")),
        (_, []) => Err(Refusal::ambiguous("there is more than one Content-Length")),
        (_, _) => Err(Refusal::ambiguous("Content-Length and Transfer-Encoding stand together")),
    }
}

fn content_length(text: &str) -> Result<Framing, Refusal> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    match text.parse::<u64>() {
        Ok(length) if plain && length < 1 << 62 => Ok(Framing::Length(length)),
        Ok(_) | Err(_) => Err(Refusal::ambiguous("Content-Length is not a plain decimal number")),
    }
}

fn check_host(head: &Head) -> Result<(), Refusal> {
    match head.headers.iter().filter(|(name, _)| name == "host").count() {
        1 => Ok(()),
        // Python's http.client before 3.12 sends CONNECT as HTTP/1.0 without Host; its target is the authority.
        0 if head.minor == 0 || head.method == "CONNECT" => Ok(()),
        0 => Err(Refusal::ambiguous("there is no Host header")),
        _ => Err(Refusal::ambiguous("there is more than one Host header")),
    }
}

/// Methods that can be forwarded. COPY and MOVE are not among them: their `Destination` header is a second path. (RFC 9110, RFC 5789, RFC 4918, RFC 3253, RFC 5323). Upper case only.
const METHODS: &[&str] = &[
    "DELETE",
    "GET",
    "HEAD",
    "LOCK",
    "MKCOL",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "REPORT",
    "SEARCH",
    "UNLOCK",
];

#[cfg(test)]
mod tests;
