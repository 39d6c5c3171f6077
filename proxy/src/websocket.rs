//! WebSockets (RFC 6455): what a request for one has to say, what an upstream's agreement has to say, and the two ways of
//! the connection that then stands.
//!
//! The request is decided and recorded like any other; the messages are not looked into, but for a credential that comes
//! back. Their frames are: what breaks the protocol or a limit ends the connection, and so does an operator who stops the
//! agent. What passes, passes unmodified.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use http::{HeaderMap, Method, Version, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use policy::{Destination, Facts, Upgrade};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::canonical::Asked;
use crate::gate::Gate;
use crate::limits::Limits;
use crate::record::Ticket;
use crate::refusal::Refusal;
use crate::relay;
use crate::scrub::Needles;

mod frames;
mod sieve;

use frames::{Frames, Side, TOO_LARGE};
use sieve::{Sieve, UNCLEAR};

/// A connection on which both sides have agreed.
#[derive(Debug)]
pub struct Socket {
    agent: TokioIo<Upgraded>,
    upstream: TokioIo<Upgraded>,
}

/// What went over a connection, and how it ended.
#[derive(Debug)]
pub struct Passed {
    sent: Frames,
    received: Frames,
    /// Why the gate ended it; nothing when one of its sides did.
    pub why: Option<&'static str>,
}

/// One direction under way.
struct Way<'a> {
    frames: &'a mut Frames,
    /// The same for what was passed on.
    passed: &'a mut Frames,
    /// Looks for the credential in what comes back.
    sieve: Option<Sieve>,
    from: &'a mut ReadHalf<TokioIo<Upgraded>>,
    to: &'a mut WriteHalf<TokioIo<Upgraded>>,
}

/// Whether a request that asks for a WebSocket says all that it must (section 4.2.1).
///
/// # Errors
/// [`Refusal::Ambiguous`] when it does not.
pub fn check_asked(method: &Method, version: Version, headers: &[(String, String)]) -> Result<(), Refusal> {
    let mut listed = all(headers, "connection").flat_map(|value| value.split(','));
    let key = only(headers, "sec-websocket-key").and_then(|key| BASE64.decode(key.as_bytes()).ok());
    let sound = *method == Method::GET
        && version == Version::HTTP_11
        && listed.any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        && only(headers, "upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
        && only(headers, "sec-websocket-version") == Some("13")
        && key.is_some_and(|key| key.len() == KEY)
        && all(headers, "content-length").all(|length| length == "0")
        && all(headers, "transfer-encoding").next().is_none();
    let why = "it is not the opening handshake of a WebSocket (RFC 6455 section 4.2.1)";
    if sound { Ok(()) } else { Err(Refusal::ambiguous(why)) }
}

fn all<'a>(headers: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(each, _)| each == name).map(|(_, value)| value.as_str())
}

fn only<'a>(headers: &'a [(String, String)], name: &'a str) -> Option<&'a str> {
    let mut values = all(headers, name);
    values.next().filter(|_| values.next().is_none())
}

/// The client's connection, where it asks for a WebSocket and its destination may have one.
///
/// # Errors
/// [`Refusal::UpgradeRefused`] where it may not.
pub fn opened(
    asked: &Asked,
    destination: Option<&Destination>,
    client: Option<OnUpgrade>,
) -> Result<Option<OnUpgrade>, Refusal> {
    // An unknown destination is denied in words of its own.
    if !asked.socket || destination.is_none() {
        return Ok(None);
    }
    let opened = destination.is_some_and(|destination| destination.upgrade == Some(Upgrade::Websocket));
    let refused = || Refusal::UpgradeRefused("no WebSocket is opened for this destination".to_owned());
    client.filter(|_| opened).map(Some).ok_or_else(refused)
}

/// Whether an upstream agreed to exactly what it was asked (section 4.1).
///
/// # Errors
/// What it did otherwise.
pub fn check_agreed(facts: &Facts, reply: &HeaderMap) -> Result<(), &'static str> {
    let asked = |name: &str| facts.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str());
    let told = |name: &str| {
        let mut values = reply.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
    };
    let key = asked("sec-websocket-key").unwrap_or_default();
    let accept = BASE64.encode(&Sha1::digest(format!("{key}{GUID}").as_bytes()));
    if !told("upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
        || !told("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade"))
    {
        return Err("it switched to something else than a WebSocket");
    }
    if told("sec-websocket-accept") != Some(accept.as_str()) {
        return Err("it did not answer the key of the WebSocket");
    }
    if reply.contains_key("sec-websocket-extensions") {
        return Err("it uses an extension that it was not offered");
    }
    let offered = asked("sec-websocket-protocol").unwrap_or_default();
    match told("sec-websocket-protocol") {
        Some(chosen) if !offered.split(',').any(|each| each.trim() == chosen) => {
            Err("it chose a protocol that it was not offered")
        }
        Some(_) => Ok(()),
        None if reply.contains_key("sec-websocket-protocol") => Err("it chose two protocols"),
        None => Ok(()),
    }
}

/// The headers by which the agent is told that it has its connection.
pub fn confirm(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
}

// === impl Socket ===

impl Socket {
    /// A connection between these two.
    pub fn between(agent: Upgraded, upstream: Upgraded) -> Socket {
        Socket { agent: TokioIo::new(agent), upstream: TokioIo::new(upstream) }
    }

    /// Carries frames both ways until a side ends, or something ends both.
    pub async fn carry(self, gate: &Gate, ticket: &Ticket, needles: Option<&Arc<Needles>>) -> Passed {
        let most = gate.limits.websocket_message_bytes;
        let way = |side| (Frames::new(side, most), Frames::new(side, most));
        let ((mut sent, mut to_upstream), (mut received, mut to_agent)) = (way(Side::Client), way(Side::Server));
        let (mut agent_in, mut agent_out) = split(self.agent);
        let (mut upstream_in, mut upstream_out) = split(self.upstream);
        let moves = AtomicU64::new(0);
        let out = Way {
            frames: &mut sent,
            passed: &mut to_upstream,
            sieve: None,
            from: &mut agent_in,
            to: &mut upstream_out,
        };
        let back = Way {
            frames: &mut received,
            passed: &mut to_agent,
            sieve: needles.map(Sieve::new),
            from: &mut upstream_in,
            to: &mut agent_out,
        };
        let why = both(gate, out, back, &moves, watch(gate, ticket, &moves)).await.err();
        if let Some(why) = why {
            let code = code(why);
            farewell(&to_agent, &mut agent_out, &close_frame(code, false)).await;
            farewell(&to_upstream, &mut upstream_out, &close_frame(code, true)).await;
        }
        // What can still be written is on its way; who is gone does not mind.
        drop(agent_out.shutdown().await);
        drop(upstream_out.shutdown().await);
        Passed { sent, received, why }
    }
}

// === impl Passed ===

impl Passed {
    /// For the outcome on the ledger.
    pub fn told(&self) -> Value {
        let way = |frames: &Frames| json!({"messages": frames.messages, "bytes": frames.bytes, "close": frames.close});
        json!({"sent": way(&self.sent), "received": way(&self.received)})
    }
}

/// Both directions until the first ends; the other then has a moment to finish, as a closing handshake takes two.
async fn both(
    gate: &Gate,
    out: Way<'_>,
    back: Way<'_>,
    moves: &AtomicU64,
    watched: impl Future<Output = &'static str>,
) -> Result<(), &'static str> {
    let mut out = pin!(out.run(gate, moves));
    let mut back = pin!(back.run(gate, moves));
    tokio::select! {
        ended = &mut out => {
            ended?;
            tokio::time::timeout(CLOSING, back).await.unwrap_or(Ok(()))
        }
        ended = &mut back => {
            ended?;
            tokio::time::timeout(CLOSING, out).await.unwrap_or(Ok(()))
        }
        why = watched => Err(why),
    }
}

// === impl Way ===

impl Way<'_> {
    /// Passes on what may be passed, until its end.
    async fn run(mut self, gate: &Gate, moves: &AtomicU64) -> Result<(), &'static str> {
        let unread = Limits::seconds(gate.limits.write_seconds);
        let mut buffer = vec![0_u8; PIECE];
        loop {
            // A side that breaks off has ended.
            let Ok(read @ 1..) = self.from.read(&mut buffer).await else { return Ok(()) };
            let piece = buffer.get(..read).unwrap_or_default();
            let clear = self.look(piece, gate.limits.reply_bytes)?;
            moves.fetch_add(1, Ordering::Relaxed);
            let write = async {
                self.to.write_all(&clear).await?;
                self.to.flush().await
            };
            match tokio::time::timeout(unread, write).await {
                Ok(Ok(())) => drop(self.passed.look(&clear)?),
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err("stalled"),
            }
        }
    }

    /// What of a piece, and of what waited, may be passed on now.
    fn look<'p>(&mut self, piece: &'p [u8], most: u64) -> Result<Cow<'p, [u8]>, &'static str> {
        let carried = self.frames.look(piece)?;
        if self.frames.bytes > most {
            return Err("too_many_bytes");
        }
        match &mut self.sieve {
            Some(sieve) => sieve.pass(piece, &carried).map(Cow::Owned),
            None => Ok(Cow::Borrowed(piece)),
        }
    }
}

/// Ends with the reason why a connection has to end, if there is one: the operator's, the clock's, the gate's own.
async fn watch(gate: &Gate, ticket: &Ticket, moves: &AtomicU64) -> &'static str {
    let (began, mut moved, mut seen) = (Instant::now(), Instant::now(), 0);
    let mut tightened = gate.tightened.subscribe();
    tightened.mark_changed();
    loop {
        let stopped = tokio::select! {
            () = gate.stop.cancelled() => Some(ENDING),
            Ok(()) = tightened.changed() => relay::check_stopped(gate, ticket).err(),
            () = tokio::time::sleep(LOOK) => None,
        };
        if let Some(why) = stopped {
            return why;
        }
        let now = moves.load(Ordering::Relaxed);
        if now != seen {
            (seen, moved) = (now, Instant::now());
        }
        if began.elapsed() > Limits::seconds(gate.limits.reply_seconds) {
            return "too_long";
        }
        if moved.elapsed() > Limits::seconds(gate.limits.reply_idle_seconds) {
            return "idle";
        }
    }
}

/// The close code that says most of why (section 7.4.1).
fn code(why: &str) -> u16 {
    match why {
        TOO_LARGE => 1009,
        ENDING => 1001,
        "idle" | "stalled" | "stopped" | "too_long" | "too_many_bytes" | ECHOED | UNCLEAR => 1008,
        _ => 1002,
    }
}

fn close_frame(code: u16, masked: bool) -> Vec<u8> {
    let mask = if masked { [0x80, 0, 0, 0, 0].as_slice() } else { [0].as_slice() };
    let (flag, mask) = mask.split_first().unwrap_or((&0, &[]));
    [&[0x88, flag | 2], mask, &code.to_be_bytes()].concat()
}

/// A last frame where one can stand.
async fn farewell(frames: &Frames, to: &mut (impl AsyncWrite + Unpin), close: &[u8]) {
    if frames.is_between() && frames.close.is_none() {
        let write = async {
            to.write_all(close).await?;
            to.flush().await
        };
        // Who does not read it has no use for it.
        drop(tokio::time::timeout(CLOSING, write).await);
    }
}

/// A credential in a message; its connection has ended.
pub const ECHOED: &str = "credential_echoed";

const ENDING: &str = "gate_stopped";

/// Octets of a key.
const KEY: usize = 16;

/// Section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes moved at once.
const PIECE: usize = 16 * 1024;

/// For the other side of a closing handshake.
const CLOSING: Duration = Duration::from_secs(2);

/// How often somebody looks whether a connection may go on.
const LOOK: Duration = Duration::from_secs(1);
