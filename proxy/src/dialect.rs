//! A refusal in the words of clients that do not read problem documents: git prints lines of its own protocol, gRPC the
//! status in its own headers, JSON-RPC an error of the same id.
//!
//! What is told is the same for all, and so are the gate's own headers. HTTP status 200 is what both need to look for
//! more than a number: neither takes it for success.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use policy::RpcIds;
use serde_json::{Value, json};

use crate::record::Trace;
use crate::refusal::Refusal;

/// How a client wants to be told that its request went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// git looks for a repository: it prints a refusal that is plain text.
    GitDiscovery,
    /// git fetches: it prints an `ERR` line (gitprotocol-pack).
    GitFetch,
    /// git pushes: the same, inside the side band that git has asked for since 2009.
    GitPush,
    /// JSON-RPC: an error for each message that expects a reply (JSON-RPC 2.0 section 5), as MCP over HTTP has it.
    JsonRpc(RpcIds),
    /// gRPC: a status without messages, called "Trailers-Only" (gRPC over HTTP2).
    Grpc,
    /// Everyone else.
    Problem,
}

// === impl Dialect ===

impl Dialect {
    /// What the sender of a request understands.
    pub fn of<B>(request: &Request<B>) -> Dialect {
        let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let content_type = header(header::CONTENT_TYPE).unwrap_or_default();
        let is_git = header(header::USER_AGENT).is_some_and(|agent| agent.starts_with("git/"));
        match content_type {
            "application/x-git-receive-pack-request" => Dialect::GitPush,
            "application/x-git-upload-pack-request" => Dialect::GitFetch,
            _ if is_grpc(content_type) => Dialect::Grpc,
            _ if is_git && request.uri().path().ends_with("/info/refs") => Dialect::GitDiscovery,
            _ => Dialect::Problem,
        }
    }

    /// The answer that tells of a refusal.
    pub fn respond(self, told: &Refusal, trace: &Trace) -> Response<Bytes> {
        let response = told.respond(trace);
        // A challenge is for the HTTP library of the client, whoever uses it.
        let challenges = [StatusCode::PROXY_AUTHENTICATION_REQUIRED, StatusCode::UNAUTHORIZED];
        if self == Dialect::Problem || challenges.contains(&response.status()) {
            return response;
        }
        let status = response.status();
        let mut headers = response.into_parts().0.headers;
        let words = words(told);
        let (status, kind, body) = match &self {
            Dialect::JsonRpc(asked) => {
                // MCP clients do not look into a 202; an error is none of their successes.
                let status = if told.pending().is_some() { StatusCode::OK } else { status };
                (status, "application/json", rpc_errors(asked, told).to_string())
            }
            Dialect::GitDiscovery => (status, "text/plain; charset=utf-8", words + "\n"),
            Dialect::GitFetch => (StatusCode::OK, "application/x-git-upload-pack-result", packet(&error_line(&words))),
            Dialect::GitPush => {
                let band = packet(&format!("\u{1}{}{FLUSH}", packet(&error_line(&words))));
                (StatusCode::OK, "application/x-git-receive-pack-result", band + FLUSH)
            }
            Dialect::Grpc => {
                grpc_status(&mut headers, told, &words);
                (StatusCode::OK, "application/grpc", String::new())
            }
            Dialect::Problem => (status, "application/problem+json", String::new()),
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

fn rpc_errors(asked: &RpcIds, told: &Refusal) -> Value {
    let answer = told.answer();
    let code = if told.pending().is_some() { RPC_HELD } else { RPC_REFUSED };
    let error = json!({"code": code, "message": answer.detail, "data": told.document(&answer)});
    let reply = |id: &Value| json!({"jsonrpc": "2.0", "id": id, "error": error});
    match asked.ids.as_slice() {
        ids if asked.batch && !ids.is_empty() => ids.iter().map(reply).collect(),
        ids => reply(ids.first().unwrap_or(&Value::Null)),
    }
}

/// What happened and what would help, in one line.
fn words(told: &Refusal) -> String {
    let answer = told.answer();
    let place = told.pending().map(|held| format!("; its state: {}", held.status_url)).unwrap_or_default();
    let line = format!("{}: {}; {}{place}", answer.title, answer.detail, answer.remedy);
    let mut line = line.replace(|each: char| each.is_control(), " ");
    line.truncate(line.floor_char_boundary(MAX_LINE));
    line
}

fn error_line(words: &str) -> String {
    format!("ERR {words}")
}

/// A line with its length, which counts its own four digits (gitprotocol-common, "pkt-line").
fn packet(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

fn is_grpc(content_type: &str) -> bool {
    let rest = content_type.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

fn grpc_status(headers: &mut HeaderMap, told: &Refusal, words: &str) {
    headers.insert("grpc-status", HeaderValue::from(grpc_code(told)));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(words)) {
        headers.insert("grpc-message", message);
    }
}

/// The status code that is nearest to a refusal. Clients try again by themselves after UNAVAILABLE only: it is for what
/// was certainly not sent and does not wait for anybody either.
fn grpc_code(told: &Refusal) -> u16 {
    let answer = told.answer();
    match answer.status.as_u16() {
        404 => NOT_FOUND,
        401 | 407 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        413 | 429 => RESOURCE_EXHAUSTED,
        409 => ABORTED,
        408 => DEADLINE_EXCEEDED,
        400..=499 if told.pending().is_none() && answer.status != StatusCode::GONE => INVALID_ARGUMENT,
        502 | 503 | 507 if answer.retryable => UNAVAILABLE,
        500..=599 => UNKNOWN,
        _ => FAILED_PRECONDITION,
    }
}

/// Printable ASCII but `%`, everything else as `%XX`.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'%' | 0..0x20 | 0x7f.. => format!("%{byte:02X}"),
        plain => char::from(plain).to_string(),
    };
    text.bytes().map(encode).collect()
}

/// Codes that JSON-RPC leaves to servers.
const RPC_REFUSED: i32 = -32_000;
const RPC_HELD: i32 = -32_001;

// Codes of gRPC (https://grpc.io/docs/guides/status-codes/).
const UNKNOWN: u16 = 2;
const INVALID_ARGUMENT: u16 = 3;
const DEADLINE_EXCEEDED: u16 = 4;
const NOT_FOUND: u16 = 5;
const PERMISSION_DENIED: u16 = 7;
const RESOURCE_EXHAUSTED: u16 = 8;
const FAILED_PRECONDITION: u16 = 9;
const ABORTED: u16 = 10;
const UNAVAILABLE: u16 = 14;
const UNAUTHENTICATED: u16 = 16;

/// The packet that ends a list of packets.
const FLUSH: &str = "0000";

/// Bytes of one line: clients cut off or refuse headers and packets that are much longer.
const MAX_LINE: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Challenge;

    fn trace() -> Trace {
        Trace { correlation: "corr_x".to_owned(), run: None, parent: None, trigger: None, declared: false, span: None }
    }

    fn of(kind: &str, agent: &str, path: &str) -> Dialect {
        let request = Request::builder().uri(path).header("content-type", kind).header("user-agent", agent);
        Dialect::of(&request.body(()).unwrap())
    }

    #[test]
    fn a_client_is_known_by_what_it_sends() {
        assert_eq!(of("application/grpc", "", "/a.B/C"), Dialect::Grpc);
        assert_eq!(of("application/grpc+proto", "", "/a.B/C"), Dialect::Grpc);
        assert_eq!(of("application/grpc-web", "", "/a.B/C"), Dialect::Problem);
        assert_eq!(of("application/x-git-receive-pack-request", "x", "/r/git-receive-pack"), Dialect::GitPush);
        assert_eq!(of("application/x-git-upload-pack-request", "x", "/r/git-upload-pack"), Dialect::GitFetch);
        assert_eq!(of("", "git/2.47.3", "/r/info/refs?service=git-upload-pack"), Dialect::GitDiscovery);
        assert_eq!(of("", "curl/8", "/r/info/refs?service=git-upload-pack"), Dialect::Problem);
    }

    #[test]
    fn every_dialect_keeps_the_gates_own_headers() {
        let told = Refusal::TooMany("more than 2 new hosts in a minute \u{e4}%\n".to_owned());
        for (dialect, status, kind) in [
            (Dialect::GitDiscovery, 429, "text/plain; charset=utf-8"),
            (Dialect::GitFetch, 200, "application/x-git-upload-pack-result"),
            (Dialect::GitPush, 200, "application/x-git-receive-pack-result"),
            (Dialect::Grpc, 200, "application/grpc"),
            (Dialect::Problem, 429, "application/problem+json"),
        ] {
            let response = dialect.respond(&told, &trace());
            let headers = response.headers();
            assert_eq!((response.status().as_u16(), headers["content-type"].as_bytes()), (status, kind.as_bytes()));
            assert_eq!(
                (&headers["writ-decision"], &headers["retry-after"]),
                (&"deny".parse().unwrap(), &"5".parse().unwrap())
            );
        }
        let grpc = Dialect::Grpc.respond(&told, &trace());
        assert_eq!((grpc.headers()["grpc-status"].as_bytes(), grpc.body().len()), (b"8".as_slice(), 0));
        let message = grpc.headers()["grpc-message"].to_str().unwrap();
        assert!(message.starts_with("too many: more than 2 new hosts in a minute %C3%A4%25 ; send"), "{message}");
        let push = Dialect::GitPush.respond(&told, &trace());
        let length = |digits: &[u8]| usize::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
        let (outer, inner) = (length(&push.body()[..4]), length(&push.body()[5..9]));
        assert_eq!((outer + 4, inner + 4 + 1 + 4), (push.body().len(), outer), "{push:?}");
    }

    #[test]
    fn a_challenge_stays_one() {
        for dialect in [Dialect::GitPush, Dialect::Grpc] {
            assert_eq!(dialect.clone().respond(&Refusal::NotIdentified(Challenge::Proxy), &trace()).status(), 407);
            assert_eq!(dialect.respond(&Refusal::NotIdentified(Challenge::Origin), &trace()).status(), 401);
        }
    }
}
