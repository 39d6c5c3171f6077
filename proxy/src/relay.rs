//! Carries out a permit in a task of its own, passes the reply on, and records how it ended.
//!
//! The task outlives the connection that asked for it: a client that goes away cancels the upstream leg, never the
//! record of what happened.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use vault::Lease;

use crate::body::{self, Part, Reply, StillUnread};
use crate::gate::Gate;
use crate::inject::{self, Guard, Injected};
use crate::limits::Limits;
use crate::mailbox;
use crate::metrics::Stage;
use crate::permit::{Order, Permit};
use crate::record::{self, Outcome, Ticket};
use crate::refusal::Refusal;
use crate::upstream::{self, Progress};

mod live;
mod socket;
mod source;

pub(crate) use live::check_stopped;
use live::live;
use source::Source;

/// Where a reply goes.
#[derive(Debug)]
pub enum Sink {
    /// To the connection that waits for it, or for the refusal in its place.
    Live(Slot),
    /// To the connection, and sealed beside it: whoever sends the same again gets the same. It does not matter then
    /// whether the connection stays.
    Kept(Slot),
    /// Into the sealed mailbox of an intent.
    Mailbox,
    /// To the connection, which may then be handed over to a WebSocket.
    Socket(Slot, OnUpgrade),
}

/// Takes what one connection waits for.
pub type Slot = oneshot::Sender<Result<Response<Reply>, Refusal>>;

/// How much of a reply came, its digest, and whose it is.
struct Tally<'a> {
    agent: &'a str,
    bytes: u64,
    digest: Sha256,
    started: Instant,
}

/// Records the permit and carries it out: fetches the credential, sends, passes the reply on, records the outcome.
///
/// Runs to its end whoever goes away: nothing that was recorded as allowed is left without an outcome.
pub async fn execute(gate: Arc<Gate>, order: Order, sink: Sink) {
    let begun = Instant::now();
    match Permit::record(&gate, order).await {
        Ok((permit, ticket)) => {
            gate.passed(Stage::Record, begun, &ticket.trace);
            perform(&gate, permit, &ticket, sink).await;
        }
        Err(refusal) => sink.refuse(refusal),
    }
}

/// Carries a permit out to its recorded outcome.
pub async fn perform(gate: &Gate, permit: Permit, ticket: &Ticket, sink: Sink) {
    let started = Instant::now();
    let (outcome, leases) = carry_out(gate, permit, ticket, sink).await;
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut outcome = ticket.outcome(outcome).with("millis", millis);
    for lease in leases {
        if let Err(fault) = gate.vault.give_back(lease).await {
            // It ends by itself, later: who reads the ledger knows that it was good for longer than its use.
            outcome = outcome.with("lease_not_revoked", fault.to_string());
        }
    }
    record::append_or_log(&gate.ledger, outcome).await;
    ledger::crash::point("outcome.recorded");
}

/// How it ended, and what was borrowed for it.
async fn carry_out(gate: &Gate, permit: Permit, ticket: &Ticket, sink: Sink) -> (Outcome, Vec<Lease>) {
    let mut injected = match inject::credentials(gate, &permit, &ticket.trace).await {
        Ok(injected) => injected,
        Err(refusal) => {
            let credential = inject::origin(&permit, None);
            let data = json!({"reason": refusal.answer().code, "detail": refusal.cause(), "credential": credential});
            sink.refuse(refusal);
            return (Outcome::Failed { sent: false, data }, Vec::new());
        }
    };
    ledger::crash::point("credential.fetched");
    let leases = std::mem::take(&mut injected.leases);
    (send(gate, permit, injected, ticket, sink).await, leases)
}

/// Sends the request with its credential, and passes the reply on.
async fn send(gate: &Gate, permit: Permit, mut injected: Injected, ticket: &Ticket, mut sink: Sink) -> Outcome {
    let credential = injected.origin.clone();
    let guard = injected.guard.take();
    let progress = Progress::default();
    let begun = Instant::now();
    let reply = tokio::select! {
        reply = upstream::send(gate, permit, injected, &progress) => reply,
        () = sink.closed() => return gone(&progress, &credential),
    };
    gate.passed(Stage::Upstream, begun, &ticket.trace);
    match reply {
        Ok(reply) => match sink {
            Sink::Socket(slot, client) if reply.response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Box::pin(socket::hand_over((gate, ticket), reply, (slot, client), (credential, guard))).await
            }
            sink @ (Sink::Kept(_) | Sink::Live(_) | Sink::Mailbox | Sink::Socket(..)) => {
                pass_on((gate, ticket), reply, sink, (credential, guard)).await
            }
        },
        Err(failure) => {
            let data = json!({"reason": "upstream_failed", "detail": failure.why, "credential": credential});
            if failure.sent {
                sink.refuse(Refusal::UnknownOutcome(failure.why));
                return Outcome::Unknown(data);
            }
            sink.refuse(Refusal::Upstream(failure.why));
            Outcome::Failed { sent: false, data }
        }
    }
}

/// The client went away before the reply began.
fn gone(progress: &Progress, credential: &Value) -> Outcome {
    let data = json!({"reason": "client_gone", "credential": credential});
    if progress.sent() { Outcome::Unknown(data) } else { Outcome::Failed { sent: false, data } }
}

async fn pass_on(
    (gate, ticket): (&Gate, &Ticket),
    reply: upstream::Reply,
    sink: Sink,
    (credential, guard): (Value, Option<Guard>),
) -> Outcome {
    let upstream::Reply { response, leg } = reply;
    let (mut head, body) = response.into_parts();
    let came = std::mem::take(&mut head.headers);
    head.headers = relayed_headers(&came, ticket);
    head.extensions.clear();
    head.version = Version::HTTP_11;
    let status = head.status;
    let mut tally = Tally { agent: ticket.agent(), bytes: 0, digest: Sha256::default(), started: Instant::now() };
    let mut source = Source::new((gate, ticket), body);
    let watched = source.watch(&mut head, &came, guard).await;
    source.tell().await;
    let ended = match (watched, sink) {
        (Ok(()), Sink::Live(slot) | Sink::Socket(slot, _)) => {
            live((gate, ticket), slot, head, &mut source, &mut tally).await
        }
        (Ok(()), Sink::Kept(slot)) => {
            let (parts, reply) = mpsc::channel(PARTS);
            // Whoever waited for it may be gone.
            drop(slot.send(Ok(Response::from_parts(head.clone(), Reply::Stream(reply)))));
            Box::pin(store((gate, ticket), head, &mut source, &mut tally, Some(parts))).await
        }
        (Ok(()), Sink::Mailbox) => Box::pin(store((gate, ticket), head, &mut source, &mut tally, None)).await,
        (Err(why), sink) => {
            sink.refuse(Refusal::ReplyWithheld(why.to_owned()));
            Err("withheld")
        }
    };
    source.tell().await;
    let masked = source.masked();
    gate.metrics.replied(tally.bytes);
    if ended.is_ok() {
        gate.pool.give_back(leg).await;
    }
    let data = json!({
        "status": status.as_u16(),
        "reply_bytes": tally.bytes,
        "reply_sha256": data_encoding::HEXLOWER.encode(&tally.digest.finalize()),
        "masked_bytes": (masked > 0).then_some(masked),
        "credential": credential,
        "ended": ended.err(),
    });
    if status.is_client_error() || status.is_server_error() {
        return Outcome::Failed { sent: true, data };
    }
    Outcome::Executed(data)
}

/// Keeps the reply for the agent, and passes it on to a connection that waits for it. What is over the limit is counted
/// and digested, and not kept.
async fn store(
    (gate, ticket): (&Gate, &Ticket),
    head: Parts,
    source: &mut Source<'_>,
    tally: &mut Tally<'_>,
    mut listener: Option<mpsc::Sender<Part>>,
) -> Result<(), &'static str> {
    let mut whole = BytesMut::new();
    let mut trailers = HeaderMap::new();
    let mut ended = Ok(());
    loop {
        let part = match source.next().await {
            Ok(part) => part,
            Err(early) => {
                ended = Err(early);
                break;
            }
        };
        source.tell().await;
        match &part {
            Part::Data(data) => {
                if let Err(early) = tally.add(data, &gate.limits) {
                    ended = Err(early);
                    break;
                }
                if tally.bytes > gate.limits.mailbox_bytes {
                    ended = Err("reply_too_large_to_keep");
                    whole.clear();
                } else {
                    whole.extend_from_slice(data);
                }
            }
            Part::Trailers(fields) => trailers = fields.clone(),
            Part::End => {}
        }
        let last = matches!(part, Part::End);
        tell(gate, tally.agent, &mut listener, part).await;
        if last {
            break;
        }
    }
    drop(listener);
    let name = ticket.mailbox();
    match mailbox::keep(gate, name, &head, whole.freeze(), &trailers).await {
        Ok(()) => {
            ledger::crash::point("reply.stored");
            ended
        }
        Err(error) => {
            tracing::error!(name, %error, "a reply could not be kept");
            ended.and(Err("reply_not_kept"))
        }
    }
}

/// Passes a part on to who listens. Who has gone away, or does not read, is not told any more.
async fn tell(gate: &Gate, agent: &str, listener: &mut Option<mpsc::Sender<Part>>, part: Part) {
    let Some(parts) = listener.as_ref() else { return };
    let unread = Limits::seconds(gate.limits.write_seconds);
    let charged = match part {
        Part::Data(data) => body::charge(&gate.replies, agent, data, unread).await.map(Part::Data),
        Part::End | Part::Trailers(_) => Ok(part),
    };
    let told = match charged {
        Ok(part) => matches!(tokio::time::timeout(unread, parts.send(part)).await, Ok(Ok(()))),
        Err(StillUnread) => false,
    };
    if !told {
        *listener = None;
    }
}

/// Leaves out what would be taken for a word of this gate or of another proxy.
fn strip_own(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| stays_behind(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The upstream's headers without what belongs to one hop, to a proxy or to this gate, and with our own.
fn relayed_headers(headers: &HeaderMap, ticket: &Ticket) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len() + 2);
    let listed = headers.get_all("connection").iter().filter_map(|value| value.to_str().ok());
    let listed: Vec<String> =
        listed.flat_map(|value| value.split(',')).map(|token| token.trim().to_ascii_lowercase()).collect();
    for (name, value) in headers {
        if !stays_behind(name.as_str()) && !listed.iter().any(|token| token == name.as_str()) {
            kept.append(name.clone(), value.clone());
        }
    }
    stamp(&mut kept, "writ-decision", "allow");
    stamp(&mut kept, "writ-correlation-id", &ticket.trace.correlation);
    if let Some(intent) = &ticket.intent {
        stamp(&mut kept, "writ-intent-id", intent);
    }
    kept
}

fn stays_behind(name: &str) -> bool {
    let hop = ["alt-svc", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
    hop.contains(&name) || name.starts_with("proxy-") || name.starts_with("writ-") || name.starts_with("x-gate-")
}

fn stamp(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

// === impl Sink ===

impl Sink {
    /// Ready when nobody waits for the reply any more; never when it is kept.
    async fn closed(&mut self) {
        match self {
            Sink::Live(slot) | Sink::Socket(slot, _) => slot.closed().await,
            Sink::Kept(_) | Sink::Mailbox => std::future::pending().await,
        }
    }

    fn refuse(self, refusal: Refusal) {
        match self {
            // Where nobody waits any more, the ledger says what happened.
            Sink::Kept(slot) | Sink::Live(slot) | Sink::Socket(slot, _) => drop(slot.send(Err(refusal))),
            Sink::Mailbox => {
                let answer = refusal.answer();
                let cause = if refusal.cause().is_empty() { &answer.detail } else { refusal.cause() };
                tracing::warn!(code = answer.code, cause, "an approved request was not carried out");
            }
        }
    }
}

// === impl Tally ===

impl Tally<'_> {
    /// Counts a part that goes to its client, and gives it its place in memory.
    async fn admit(&mut self, gate: &Gate, data: Bytes) -> Result<Bytes, &'static str> {
        self.add(&data, &gate.limits)?;
        let unread = Limits::seconds(gate.limits.write_seconds);
        let charged = body::charge(&gate.replies, self.agent, data, unread).await;
        charged.map_err(|StillUnread| "client_stalled")
    }

    /// An error says which limit the reply is over.
    fn add(&mut self, data: &Bytes, limits: &Limits) -> Result<(), &'static str> {
        self.bytes += data.len() as u64;
        self.digest.update(data);
        if self.bytes > limits.reply_bytes {
            return Err("reply_too_large");
        }
        if self.started.elapsed() > Limits::seconds(limits.reply_seconds) { Err("reply_too_long") } else { Ok(()) }
    }
}

/// Parts that may wait between upstream and client.
const PARTS: usize = 8;
