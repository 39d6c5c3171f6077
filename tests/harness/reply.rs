//! What an origin answers, put together by sentences.

use std::time::Duration;

/// What to answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// Status code.
    pub(crate) status: u16,
    /// Headers besides those that frame the body.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, sent with its length.
    pub(crate) body: Vec<u8>,
    /// Instead of `body`: chunks, each after a pause.
    pub(crate) chunks: Option<Vec<(Duration, Vec<u8>)>>,
    /// Instead of everything else: bytes to write as they are, after which the connection is closed.
    pub(crate) raw: Option<Vec<u8>>,
    /// Instead of `body`: the body of the request.
    pub(crate) echo: bool,
    /// How long to wait before the first byte.
    pub(crate) delay: Duration,
}

// === impl Reply ===

impl Reply {
    /// `200` with the text `ok`, the answer where no other is set.
    pub(crate) fn ok() -> Reply {
        Reply::new(200).header("content-type", "text/plain").body("ok\n")
    }

    /// A reply with this status, no headers and no body.
    pub(crate) fn new(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    /// Sends the request's body back.
    pub(crate) fn echo() -> Reply {
        Reply { echo: true, ..Reply::new(200) }
    }

    /// Writes `bytes` as they are and closes the connection.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply { raw: Some(bytes.into()), ..Reply::new(200) }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = body.into();
        self
    }

    /// Sends chunks instead of a body with a length, each after a pause.
    pub(crate) fn chunks(mut self, chunks: Vec<(Duration, Vec<u8>)>) -> Reply {
        self.chunks = Some(chunks);
        self
    }

    /// Waits before the first byte.
    pub(crate) fn delay(mut self, delay: Duration) -> Reply {
        self.delay = delay;
        self
    }

    /// The head as it is sent, for a body of this length.
    pub(super) fn head(&self, length: usize) -> String {
        let reason = http::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason.unwrap_or_default());
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if self.chunks.is_some() {
            head += "transfer-encoding: chunked\r\n";
        } else if self.has_body() {
            head += &format!("content-length: {length}\r\n");
        }
        head + "\r\n"
    }

    /// Whether replies with this status have a body at all (RFC 9112, 6.3).
    pub(super) fn has_body(&self) -> bool {
        self.status >= 200 && self.status != 204 && self.status != 304
    }
}
