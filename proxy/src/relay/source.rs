//! A reply as it comes from its upstream: read within time, decoded where it must be, and without the credential.
//!
//! A reply to a request without a credential goes through untouched. Nothing here decides where a reply goes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::body::{Part, Share};
use crate::credential::HANDING_OUT;
use crate::gate::Gate;
use crate::inject::Guard;
use crate::limits::Limits;
use crate::record::{self, Ticket};
use crate::scrub::Scrubber;

/// The body of a reply, part by part.
pub(super) struct Source<'a> {
    gate: &'a Gate,
    ticket: &'a Ticket,
    body: Flow,
    /// Looks for the credential, if there was one.
    scrubber: Option<Box<Scrubber>>,
    /// Whether the ledger knows that the credential came back.
    is_told: bool,
    /// What follows the bytes that were held to the end.
    last: Option<Part>,
    /// What a decoded reply takes of the memory there is for bodies.
    _share: Share,
}

enum Flow {
    /// It was encoded, and is here as a whole.
    Decoded(Option<Bytes>),
    Incoming(Incoming),
}

// === impl Source ===

impl<'a> Source<'a> {
    pub(super) fn new((gate, ticket): (&'a Gate, &'a Ticket), body: Incoming) -> Source<'a> {
        Source {
            gate,
            ticket,
            body: Flow::Incoming(body),
            scrubber: None,
            is_told: false,
            last: None,
            _share: Share::default(),
        }
    }

    /// Looks for the credential from now on, in the head at once. The headers that `came` say how to read the body: in
    /// those that go on, the upstream may have left some out.
    ///
    /// # Errors
    /// Why the reply cannot be looked through, and has to be withheld.
    pub(super) async fn watch(
        &mut self,
        head: &mut Parts,
        came: &HeaderMap,
        guard: Option<Guard>,
    ) -> Result<(), &'static str> {
        let Some(Guard { needles, passing, withholds_parts, token, secrets: _in_use }) = guard else { return Ok(()) };
        if let (Some(token), StatusCode::UNAUTHORIZED) = (token, head.status) {
            self.gate.tokens.expire(&token).await;
        }
        HANDING_OUT.iter().filter(|name| !passing.contains(**name)).for_each(|name| drop(head.headers.remove(*name)));
        let Some(needles) = needles else { return Ok(()) };
        if withholds_parts && is_part(head.status, came) {
            return Err("it is a part of a reply; `ranges: true` on the credential lets parts pass");
        }
        if !content_types(came).all(|value| is_readable(&value)) {
            return Err("its charset is not one that it can be looked through in");
        }
        let codings = codings(came);
        if !codings.is_empty() && !self.is_end_stream() {
            self.decode(&codings).await?;
            DESCRIBING.iter().for_each(|name| drop(head.headers.remove(*name)));
        }
        let mut scrubber = Scrubber::new(needles);
        scrubber.scrub_headers(&mut head.headers);
        self.scrubber = Some(Box::new(scrubber));
        Ok(())
    }

    /// How many bytes of credentials were masked so far.
    pub(super) fn masked(&self) -> u64 {
        self.scrubber.as_ref().map_or(0, |scrubber| scrubber.masked())
    }

    /// The next part. Nothing is lost when this is given up and asked again.
    ///
    /// # Errors
    /// How the reply ended early.
    pub(super) async fn next(&mut self) -> Result<Part, &'static str> {
        loop {
            if let Some(last) = self.last.take() {
                return Ok(last);
            }
            let Some(part) = self.read_or_pause().await? else { return Ok(Part::Data(self.release())) };
            let is_last = self.is_end_stream();
            let Some(scrubber) = &mut self.scrubber else { return Ok(part) };
            let part = match part {
                Part::Data(data) if is_last => Part::Data(joined(scrubber.push(data), scrubber.release())),
                Part::Data(data) => Part::Data(scrubber.push(data)),
                Part::End => self.after(Part::End),
                Part::Trailers(mut trailers) => {
                    scrubber.scrub_headers(&mut trailers);
                    self.after(Part::Trailers(trailers))
                }
            };
            if !matches!(&part, Part::Data(data) if data.is_empty()) {
                return Ok(part);
            }
        }
    }

    /// What is still held, and then `last`.
    fn after(&mut self, last: Part) -> Part {
        let held = self.release();
        if held.is_empty() {
            return last;
        }
        self.last = Some(last);
        Part::Data(held)
    }

    fn release(&mut self) -> Bytes {
        self.scrubber.as_mut().map(|scrubber| scrubber.release()).unwrap_or_default()
    }

    /// The next part, or `None` when the upstream pauses while so little is held that the agent need not wait for it.
    async fn read_or_pause(&mut self) -> Result<Option<Part>, &'static str> {
        if !self.scrubber.as_ref().is_some_and(|scrubber| scrubber.holds_little()) {
            return self.read().await.map(Some);
        }
        tokio::time::timeout(PAUSE, self.read()).await.map_or(Ok(None), |part| part.map(Some))
    }

    /// Whether there is nothing more.
    pub(super) fn is_end_stream(&self) -> bool {
        let is_read = match &self.body {
            Flow::Decoded(body) => body.is_none(),
            Flow::Incoming(body) => body.is_end_stream(),
        };
        is_read && self.last.is_none()
    }

    /// Puts on the ledger that the credential came back, once for each reply.
    pub(super) async fn tell(&mut self) {
        if self.masked() > 0 && !self.is_told {
            self.is_told = true;
            let correlation = &self.ticket.trace.correlation;
            tracing::error!(correlation, "an upstream sent the credential back; it is masked");
            self.gate.metrics.violated("secret_echoed", "CRITICAL");
            let violation = self.ticket.violation("secret_echoed", "CRITICAL");
            record::append_or_log(&self.gate.ledger, violation).await;
        }
    }

    /// The next part as the upstream sent it.
    async fn read(&mut self) -> Result<Part, &'static str> {
        let body = match &mut self.body {
            Flow::Decoded(body) => return Ok(body.take().map_or(Part::End, Part::Data)),
            Flow::Incoming(body) => body,
        };
        let silent = Limits::seconds(self.gate.limits.reply_idle_seconds);
        loop {
            let frame = match tokio::time::timeout(silent, body.frame()).await {
                Ok(None) => return Ok(Part::End),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) => return Err("truncated"),
                Err(_) => return Err("upstream_stalled"),
            };
            match frame.into_data().map_err(|frame| frame.into_trailers()) {
                Ok(data) => return Ok(Part::Data(data)),
                Err(Ok(mut trailers)) => {
                    super::strip_own(&mut trailers);
                    return Ok(Part::Trailers(trailers));
                }
                Err(Err(_)) => {}
            }
        }
    }

    /// Takes an encoded reply in whole and decodes it: the upstream was asked for one that is not encoded.
    async fn decode(&mut self, codings: &[String]) -> Result<(), &'static str> {
        let most = Limits::size(self.gate.limits.encoded_reply_bytes);
        let mut encoded = BytesMut::new();
        loop {
            match self.read().await? {
                Part::Data(data) if encoded.len() + data.len() > most => {
                    return Err("its encoding makes it too long to look through");
                }
                Part::Data(data) => encoded.extend_from_slice(&data),
                Part::Trailers(_) => {}
                Part::End => break,
            }
        }
        let room = policy::most_decoded(encoded.len());
        let share = Share::take(&self.gate.bodies, room).map_err(|_| "there is no memory to decode it in")?;
        let decoded = tokio::task::block_in_place(|| {
            policy::decoded(&encoded, codings.iter().map(String::as_str))
                .map(|decoded| Bytes::from(decoded.into_owned()))
        });
        self.body = Flow::Decoded(Some(decoded?));
        self._share = share;
        Ok(())
    }
}

/// How a reply is encoded, as its headers say it.
fn codings(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    values.filter(|value| !value.eq_ignore_ascii_case("identity")).collect()
}

/// Whether it is not all of what was asked for (RFC 9110 section 14).
fn is_part(status: StatusCode, came: &HeaderMap) -> bool {
    status == StatusCode::PARTIAL_CONTENT
        || came.contains_key(header::CONTENT_RANGE)
        || content_types(came).any(|value| value.trim_start().starts_with("multipart/byteranges"))
}

/// In lower case; there should be one.
fn content_types(came: &HeaderMap) -> impl Iterator<Item = String> {
    let values = came.get_all(header::CONTENT_TYPE).iter();
    values.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase())
}

/// Whether ASCII stands for itself in whatever charset a content type names.
fn is_readable(content_type: &str) -> bool {
    let mut parameters = content_type.split([';', ',']).filter_map(|each| each.split_once('='));
    parameters.all(|(name, charset)| {
        let charset = charset.trim().trim_matches(['"', '\'']);
        !name.contains("charset")
            || READABLE.contains(&charset)
            || READABLE_FAMILIES.iter().any(|family| charset.starts_with(family))
    })
}

fn joined(one: Bytes, two: Bytes) -> Bytes {
    if two.is_empty() { one } else { [one, two].concat().into() }
}

/// A silence after which a stream that holds little goes on.
const PAUSE: Duration = Duration::from_millis(50);

/// Charsets in which ASCII stands for itself, and families of them.
const READABLE: &[&str] = &[
    "",
    "ascii",
    "big5",
    "euc-jp",
    "euc-kr",
    "gb18030",
    "gb2312",
    "gbk",
    "koi8-r",
    "koi8-u",
    "shift_jis",
    "us-ascii",
    "utf-8",
    "utf8",
];
const READABLE_FAMILIES: &[&str] = &["iso-8859-", "windows-125"];

/// Headers that describe the encoded reply and not the decoded one.
const DESCRIBING: &[&str] =
    &["content-digest", "content-encoding", "content-length", "content-md5", "digest", "repr-digest"];
