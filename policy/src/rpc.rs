//! The messages of a JSON-RPC 2.0 request, one or a batch (sections 4 and 6 of its specification), and what MCP calls by
//! them.
//!
//! A message whose method or tool some parser may read differently has no reading, and neither has its request.

use crate::content::Content;
use crate::json::{Json, Unreadable};

/// One message: a request, a notification, or a response to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    json: &'a Json,
    method: Option<&'a str>,
}

/// All messages of the body, at least one.
pub(crate) fn messages<'a>(content: &'a Content<'_>) -> Result<Vec<Message<'a>>, Unreadable> {
    let read = content.json()?;
    match read.items().unwrap_or(std::slice::from_ref(read)) {
        [] => Err(Unreadable("the JSON-RPC batch is empty")),
        messages if messages.len() > MAX_BATCH => Err(Unreadable("the JSON-RPC batch is too long")),
        messages => messages.iter().map(Message::read).collect(),
    }
}

// === impl Message ===

impl<'a> Message<'a> {
    fn read(json: &'a Json) -> Result<Self, Unreadable> {
        if text(json, "jsonrpc")? != Some("2.0") {
            return Err(Unreadable("a message is not JSON-RPC 2.0"));
        }
        let method = text(json, "method")?;
        let is_response = ["result", "error"].iter().any(|key| json.keys().any(|given| given == key));
        if method.is_some() == is_response {
            return Err(Unreadable("a JSON-RPC message is neither a call nor a response"));
        }
        Ok(Self { json, method })
    }

    /// The whole message.
    pub(crate) fn json(self) -> &'a Json {
        self.json
    }

    /// The method; none for a response.
    pub(crate) fn method(self) -> Option<&'a str> {
        self.method
    }

    /// The tool that MCP calls by it; none for every other method.
    pub(crate) fn tool(self) -> Result<Option<&'a str>, Unreadable> {
        if self.method != Some("tools/call") {
            return Ok(None);
        }
        self.param("name")?.map(Some).ok_or(Unreadable("a tool call names no tool"))
    }

    /// A parameter that is text.
    pub(crate) fn param(self, name: &str) -> Result<Option<&'a str>, Unreadable> {
        member(self.json, "params")?.map_or(Ok(None), |params| text(params, name))
    }
}

/// A member that is text, or is not there.
fn text<'a>(json: &'a Json, key: &str) -> Result<Option<&'a str>, Unreadable> {
    match member(json, key)? {
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Unreadable("a member of a JSON-RPC message is not text")),
        None => Ok(None),
    }
}

fn member<'a>(json: &'a Json, key: &str) -> Result<Option<&'a Json>, Unreadable> {
    if json.has_rival(key) {
        return Err(Unreadable("another key may be read as the one that counts"));
    }
    Ok(json.at(&[key.to_owned()]))
}

const MAX_BATCH: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, Scheme};
    use crate::facts::{Body, Facts};

    fn methods(body: &str) -> Result<Vec<String>, Unreadable> {
        let facts = Facts {
            agent: "a".to_owned(),
            method: "POST".to_owned(),
            authority: Authority::parse(Scheme::Https, "a.example.com").unwrap(),
            path: "/".to_owned(),
            query: None,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: Body::new(body.to_owned().into()),
            votes: Vec::new(),
            unanswered: false,
            lost: Vec::new(),
        };
        let content = Content::new(&facts);
        let messages = messages(&content)?;
        Ok(messages.iter().map(|message| message.method().unwrap_or("none").to_owned()).collect())
    }

    #[test]
    fn reads_calls_and_responses() {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let table: [(&str, &[&str]); 3] = [
            (ping, &["ping"]),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#, &["none"]),
            (&format!("[{ping},{ping}]"), &["ping", "ping"]),
        ];
        for (body, expected) in table {
            assert_eq!(methods(body).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        let long = format!("[{}]", [r#"{"jsonrpc":"2.0","method":"m"}"#; 51].join(","));
        for body in [
            "[]",
            "1",
            "[1]",
            "[[]]",
            r#"{"method":"m"}"#,
            r#"{"jsonrpc":2.0,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","method":1}"#,
            r#"{"jsonrpc":"2.0","method":"m","result":1}"#,
            r#"{"jsonrpc":"2.0","method":"m","METHOD":"n"}"#,
            &long,
        ] {
            assert!(methods(body).is_err(), "{body:.60}");
        }
    }
}
