//! The facts of one request: everything a decision may look at.
//!
//! Facts are measured by the gate from the bytes that will be sent. What an agent says about itself is not a fact, and
//! nothing here may be changed after the digest was taken.

use std::fmt;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::authority::Authority;
use crate::limit::Lost;

/// A request body with its digest, computed once.
#[derive(Clone)]
pub struct Body {
    bytes: Bytes,
    sha256: String,
}

/// One unambiguous reading of a request.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The authenticated agent.
    pub agent: String,
    /// The method, as it will be sent.
    pub method: String,
    /// Where the request goes.
    pub authority: Authority,
    /// The canonical path, exactly as it will be sent.
    pub path: String,
    /// The query without its question mark, exactly as it will be sent.
    pub query: Option<String>,
    /// Lower-case names and values of the headers that will be forwarded, before credentials are put in.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Body,
    /// What reviewers said about this request so far.
    pub votes: Vec<Vote>,
    /// Whether it was held and the time to answer is over.
    pub unanswered: bool,
    /// What a grant for it was refused for on the ledger, because others were quicker.
    pub lost: Vec<Lost>,
}

/// What one reviewer said about a held request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The operator who voted.
    pub operator: String,
    /// What they said.
    pub ballot: Ballot,
    /// The intent digest they voted on, as in [`Facts::digest`].
    pub digest: String,
    /// The hash of the hold reasons they were shown, as in [`Hold::reasons`](crate::Hold::reasons).
    pub reasons: String,
    /// The groups that the operator is in now.
    pub groups: Vec<String>,
}

/// The two things a reviewer can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ballot {
    /// Send it.
    Approve,
    /// Do not send it.
    Deny,
}

/// What the intent digest covers. Texts only, the fields in the order of RFC 8785: as it is written it is canonical.
#[derive(Serialize)]
struct Digested<'a> {
    agent: &'a str,
    authority: String,
    body_sha256: &'a str,
    destination: &'a str,
    headers: &'a [(String, String)],
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
}

// === impl Body ===

impl Body {
    /// Takes the bytes and digests them.
    pub fn new(bytes: Bytes) -> Self {
        let sha256 = sha256_hex(&bytes);
        Self { bytes, sha256 }
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256 of the bytes, in lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The length in octets.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Length and digest only: bodies stay out of logs.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).field("sha256", &self.sha256).finish()
    }
}

// === impl Facts ===

impl Facts {
    /// The intent digest: SHA-256 in lower-case hex over the canonical JSON (RFC 8785) of agent, method, authority,
    /// path, query, headers, body digest and destination key. Votes, that time is over and what was lost are no part of it:
    /// they are about it.
    pub fn digest(&self, destination: &str) -> String {
        let digested = Digested {
            agent: &self.agent,
            authority: self.authority.to_string(),
            body_sha256: &self.body.sha256,
            destination,
            headers: &self.headers,
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
        };
        let mut canonical = Vec::with_capacity(DIGESTED_BYTES);
        // Writing texts into memory cannot fail.
        let _ = serde_json::to_writer(&mut canonical, &digested);
        sha256_hex(&canonical)
    }

    /// What it does, whoever asks and in whatever headers: SHA-256 in hex over the JSON list of method, authority, path,
    /// query and body digest.
    pub fn side_effect(&self) -> String {
        let done = json!([self.method, self.authority.to_string(), self.path, self.query, self.body.sha256]);
        sha256_hex(done.to_string().as_bytes())
    }

    /// All values of a header, in order; `name` in lower case.
    pub(crate) fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// SHA-256 in lower-case hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Room for what is digested of most requests.
const DIGESTED_BYTES: usize = 1024;

#[cfg(test)]
mod tests {

    use super::*;
    use crate::authority::Scheme;

    fn facts() -> Facts {
        Facts {
            agent: "crm".to_owned(),
            method: "POST".to_owned(),
            authority: Authority::parse(Scheme::Https, "api.example.com").unwrap(),
            path: "/v1/a%2Fb".to_owned(),
            query: Some("q=\u{7f}\"\\\u{1}é\u{2028}".to_owned()),
            headers: vec![("accept".to_owned(), "*/*".to_owned())],
            body: Body::new(Bytes::from_static(b"{}")),
            votes: Vec::new(),
            unanswered: false,
            lost: Vec::new(),
        }
    }

    #[test]
    fn digest_is_over_canonical_json() {
        let facts = facts();
        let value = json!({
            "query": facts.query, "path": facts.path, "method": "POST", "headers": [["accept", "*/*"]],
            "destination": "d", "body_sha256": sha256_hex(b"{}"), "authority": "https://api.example.com", "agent": "crm",
        });
        let canonical = serde_json_canonicalizer::to_vec(&value).unwrap();
        assert_eq!(facts.digest("d"), sha256_hex(&canonical));
    }

    #[test]
    fn digest_covers_everything_but_votes() {
        let original = facts().digest("d");
        let changes: [fn(&mut Facts); 9] = [
            |facts| facts.agent.push('x'),
            |facts| facts.method = "PUT".to_owned(),
            |facts| facts.authority = Authority::parse(Scheme::Https, "api.example.com:444").unwrap(),
            |facts| facts.authority = Authority::parse(Scheme::Http, "api.example.com").unwrap(),
            |facts| facts.path.push('/'),
            |facts| facts.query = None,
            |facts| facts.headers.push(("x".to_owned(), String::new())),
            |facts| facts.headers[0].1.push('x'),
            |facts| facts.body = Body::new(Bytes::new()),
        ];
        for (place, change) in changes.iter().enumerate() {
            let mut changed = facts();
            change(&mut changed);
            assert_ne!(changed.digest("d"), original, "change {place}");
        }
        assert_ne!(facts().digest("e"), original);
        let mut voted = facts();
        let (operator, reasons) = ("op".to_owned(), String::new());
        voted.votes.push(Vote {
            operator,
            ballot: Ballot::Approve,
            digest: original.clone(),
            reasons,
            groups: Vec::new(),
        });
        assert_eq!(voted.digest("d"), original);
    }
}
