//! Traces: one span for a request and one for each of its stages, sent to a collector (OTLP 1.x, JSON over HTTP).
//!
//! Off unless a collector is configured. Never waited for by a request, and never a record: what the collector does not
//! take is counted and gone. Spans carry names and codes, never a path, a query, a header or a body.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::record::Trace;

/// Where a request stands in a trace (W3C Trace Context, level 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    trace: u128,
    /// The span of the request itself, the parent of its stages and of what the upstream does.
    span: u64,
    /// The span of whoever sent it; 0 when it did not say.
    parent: u64,
}

/// A span that is over.
#[derive(Debug)]
struct Span {
    name: &'static str,
    context: Context,
    id: u64,
    parent: u64,
    begun: SystemTime,
    ended: SystemTime,
    attributes: Vec<(&'static str, String)>,
}

/// What waits for the collector.
#[derive(Debug)]
enum Item {
    /// Tells when everything before it was sent.
    End(oneshot::Sender<()>),
    Span(Span),
}

/// Takes spans to a collector, if there is one.
#[derive(Debug, Default)]
pub struct Spans {
    queue: Option<mpsc::Sender<Item>>,
    lost: AtomicU64,
}

/// Where the collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    host: String,
    uri: Uri,
}

// === impl Context ===

impl Context {
    /// Goes on with the trace that `traceparent` names, or begins one. A header that is not as the standard writes it
    /// counts as none.
    pub fn begin(headers: &HeaderMap) -> Option<Context> {
        let given = headers.get(TRACEPARENT).and_then(|value| parse(value.to_str().ok()?));
        let span = random()?;
        Some(match given {
            Some((trace, parent)) => Context { trace, span, parent },
            None => Context { trace: u128::from(random()?) << 64 | u128::from(random()?), span, parent: 0 },
        })
    }

    /// What the upstream is told: its spans belong to this request.
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let value = format!("00-{:032x}-{:016x}-01", self.trace, self.span);
        Some((HeaderName::from_static(TRACEPARENT), HeaderValue::try_from(value).ok()?))
    }
}

// === impl Spans ===

impl Spans {
    /// Sends to a collector.
    pub fn to(collector: Collector) -> Spans {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(deliver(collector, waiting));
        Spans { queue: Some(queue), lost: AtomicU64::default() }
    }

    /// The place of a request in its trace; none where no collector is configured.
    pub fn context(&self, headers: &HeaderMap) -> Option<Context> {
        self.queue.as_ref().and_then(|_| Context::begin(headers))
    }

    /// A stage of a request is over.
    pub fn stage(&self, name: &'static str, context: Option<&Context>, begun: Instant) {
        if let (Some(context), Some(id)) = (context, random()) {
            self.send(span(name, *context, (id, context.span), begun, Vec::new()));
        }
    }

    /// A request is answered, its reply perhaps not yet passed on.
    pub fn answered<T>(&self, trace: &Trace, begun: Instant, reply: &Response<T>) {
        let Some(context) = trace.span else { return };
        let decision = reply.headers().get("writ-decision").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let attributes = vec![
            ("writ.correlation_id", trace.correlation.clone()),
            ("writ.decision", decision.to_owned()),
            ("http.response.status_code", reply.status().as_str().to_owned()),
        ];
        self.send(span("request", context, (context.span, context.parent), begun, attributes));
    }

    /// Waits until what is there was sent, or could not be.
    pub async fn flush(&self) {
        let Some(queue) = &self.queue else { return };
        let (told, done) = oneshot::channel();
        if queue.send(Item::End(told)).await.is_ok() {
            drop(done.await);
        }
    }

    /// Spans that found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn send(&self, span: Span) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(Item::Span(span)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === impl Collector ===

impl std::str::FromStr for Collector {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Collector> {
        let uri: Uri = text.parse().with_context(|| format!("`{text}` is not a URL"))?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(host)) => {
                Ok(Collector { host: format!("{host}:{}", uri.port_u16().unwrap_or(4318)), uri })
            }
            _ => bail!(
                "`{text}` is not a collector; write http://HOST:4318/v1/traces, of a collector on this machine or network"
            ),
        }
    }
}

fn span(
    name: &'static str,
    context: Context,
    (id, parent): (u64, u64),
    begun: Instant,
    attributes: Vec<(&'static str, String)>,
) -> Span {
    let ended = SystemTime::now();
    let begun = ended.checked_sub(begun.elapsed()).unwrap_or(ended);
    Span { name, context, id, parent, begun, ended, attributes }
}

/// In batches: what came within a while after the first.
async fn deliver(collector: Collector, mut waiting: mpsc::Receiver<Item>) {
    while let Some(first) = waiting.recv().await {
        let mut items = vec![first];
        if matches!(items.first(), Some(Item::Span(_))) {
            tokio::time::sleep(EVERY).await;
        }
        while let Ok(item) = waiting.try_recv() {
            items.push(item);
        }
        let (mut spans, mut ends) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                Item::End(told) => ends.push(told),
                Item::Span(span) => spans.push(span),
            }
        }
        for batch in spans.chunks(BATCH) {
            match tokio::time::timeout(PATIENCE, send(&collector, batch)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), spans = batch.len(), "spans are lost"),
                Err(_) => tracing::warn!(spans = batch.len(), "spans are lost: the collector does not answer"),
            }
        }
        // Who waits for it may have given up.
        ends.into_iter().for_each(|told| told.send(()).unwrap_or_default());
    }
}

async fn send(collector: &Collector, batch: &[Span]) -> Result<()> {
    let stream = TcpStream::connect(&collector.host).await.context("the collector cannot be reached")?;
    // Some collectors know header names in their usual case only.
    let mut builder = http1::Builder::new();
    let (mut sender, connection) = builder.title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    let serving = tokio::spawn(connection);
    let body = Full::new(Bytes::from(document(batch).to_string()));
    let path = collector.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder().method(Method::POST).uri(path).header(header::HOST, &collector.host);
    let answer = sender.send_request(request.header(header::CONTENT_TYPE, "application/json").body(body)?).await?;
    let status = answer.status();
    // Read to its end, however long it is said to be; nothing of it is of use.
    let _whole = http_body_util::Limited::new(answer.into_body(), ANSWER).collect().await;
    serving.abort();
    if status.is_success() { Ok(()) } else { bail!("the collector answered {status}") }
}

/// `ExportTraceServiceRequest` in JSON: ids in hexadecimal, 64-bit numbers as text.
fn document(batch: &[Span]) -> Value {
    let attribute = |(key, value): &(&str, String)| json!({"key": key, "value": {"stringValue": value}});
    let span = |span: &Span| {
        let parent = if span.parent == 0 { String::new() } else { format!("{:016x}", span.parent) };
        json!({
            "traceId": format!("{:032x}", span.context.trace),
            "spanId": format!("{:016x}", span.id),
            "parentSpanId": parent,
            "name": span.name,
            "kind": if span.name == "request" { SERVER } else { INTERNAL },
            "startTimeUnixNano": nanos(span.begun),
            "endTimeUnixNano": nanos(span.ended),
            "attributes": span.attributes.iter().map(attribute).collect::<Vec<_>>(),
        })
    };
    let named = [("service.name", "writ".to_owned()), ("service.version", env!("CARGO_PKG_VERSION").to_owned())];
    json!({"resourceSpans": [{
        "resource": {"attributes": named.iter().map(attribute).collect::<Vec<_>>()},
        "scopeSpans": [{"scope": {"name": "writ"}, "spans": batch.iter().map(span).collect::<Vec<_>>()}],
    }]})
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// Trace and parent of a `traceparent` of version 00, or of a later one read as such.
fn parse(text: &str) -> Option<(u128, u64)> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_plain = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    if !is_plain || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (trace, parent) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(parent, 16).ok()?);
    (trace != 0 && parent != 0).then_some((trace, parent))
}

/// A number that is not 0, which stands for none.
fn random() -> Option<u64> {
    getrandom::u64().ok().filter(|number| *number != 0)
}

/// Header of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

/// Spans that may wait.
const QUEUE: usize = 8192;

/// Spans in one delivery.
const BATCH: usize = 2048;

/// Time between two deliveries.
const EVERY: Duration = Duration::from_millis(500);

/// Time for one delivery.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of a collector's answer that are read.
const ANSWER: usize = 64 * 1024;

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;

/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_only_where_its_header_is_as_the_standard_writes_it() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let good = [format!("00-{trace}-b7ad6b7169203331-01"), format!("01-{trace}-b7ad6b7169203331-00-more")];
        for text in good {
            assert_eq!(parse(&text).map(|(trace, _)| format!("{trace:032x}")).as_deref(), Some(trace), "{text}");
        }
        let bad = [
            String::new(),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{trace}-b7ad6b7169203331-01-more"),
            format!("00-{trace}-b7ad6b7169203331"),
            format!("00-{}-b7ad6b7169203331-01", trace.to_ascii_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{trace}-b7ad6b716920333g-01"),
        ];
        for text in bad {
            assert_eq!(parse(&text), None, "{text}");
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_str(&text).unwrap());
            let fresh = Context::begin(&headers).unwrap();
            let told = fresh.header().unwrap().1;
            assert!(fresh.parent == 0 && parse(told.to_str().unwrap()).is_some(), "{fresh:?}");
        }
    }

    #[test]
    fn a_collector_is_an_http_url() {
        assert_eq!("http://c/v1/traces".parse::<Collector>().unwrap().host, "c:4318");
        assert_eq!("http://[::1]:9/x".parse::<Collector>().unwrap().host, "[::1]:9");
        for bad in ["", "c:4318", "https://c/", "/v1/traces"] {
            assert!(bad.parse::<Collector>().is_err(), "{bad}");
        }
    }
}
