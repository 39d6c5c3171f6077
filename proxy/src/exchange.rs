//! One request, top to bottom: who, what, may it, record, send, reply. The order of the lines is the order of trust.
//!
//! A live request and one that a person approved later are decided by the same [`decide`](policy::Rules::decide) and
//! carried out by the same [`relay::execute`]; an approval is one more fact, never a way around.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use ledger::{Once, Taken};
use policy::{Body, Decision, Destination, Facts, Grant, Standing};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::body::{self, Answer, Reply, Share};
use crate::canonical::{self, Asked, Entry, Way};
use crate::credential::Credential;
use crate::dialect::Dialect;
use crate::flood::{self, Source};
use crate::gate::Gate;
use crate::hold::Waiting;
use crate::intents::Call;
use crate::limits::Limits;
use crate::metrics::{Stage, Verdict};
use crate::permit::{Order, check_switches};
use crate::record::Trace;
use crate::refusal::Refusal;
use crate::relay::{self, Sink};
use crate::routes::Via;
use crate::rulebook::Rulebook;
use crate::trust::Offer;
use crate::turns::{Turn, Turns};
use crate::{agent, hold, inject, intents, repeat, standing, token, websocket};

/// Where a request came from: one for each connection, or for each tunnel in it.
#[derive(Debug)]
pub struct Caller {
    /// Address of the client.
    pub peer: SocketAddr,
    /// Plain, or in a tunnel.
    pub way: Way,
    /// Who opened the tunnel; a tunnel's identity is never read again.
    pub agent: Option<String>,
    /// The turns of its requests.
    pub turns: Turns,
    /// Why nothing may be asked here at all: the TLS client asked for another name than the tunnel's.
    pub mismatch: Option<String>,
    /// Ends the connection when the answer under way is done.
    pub close: CancellationToken,
}

/// One request's way in.
struct Visit<'a> {
    caller: &'a Caller,
    via: Option<Via>,
}

/// A request read whole, before anyone has decided on it.
struct Whole {
    facts: Facts,
    once: Option<Once>,
    offer: Offer,
    /// The client's connection, where it is to be handed over.
    client: Option<OnUpgrade>,
    share: Share,
    trace: Trace,
    /// Seconds its caller wants to wait for a decision.
    wait: u64,
}

/// A request that policy allows, or that now waits.
enum Admitted {
    Go(Box<Grant>),
    Wait(String),
}

// === impl Caller ===

impl Caller {
    /// A caller on a fresh connection; `agent` is known in a tunnel.
    pub fn new(peer: SocketAddr, way: Way, agent: Option<String>) -> Caller {
        Caller { peer, way, agent, turns: Turns::default(), mismatch: None, close: CancellationToken::new() }
    }
}

// === impl Visit ===

impl Visit<'_> {
    /// Under which URL the agent API is reached the same way.
    fn base(&self) -> String {
        self.via.as_ref().map_or_else(|| self.caller.way.base(), Via::base)
    }
}

/// Answers one request. Never fails: what goes wrong is a refusal with an answer of its own.
pub async fn handle(gate: Arc<Gate>, caller: Arc<Caller>, request: Request<Incoming>) -> Response<Answer> {
    let (turn, begun) = (caller.turns.begin(), Instant::now());
    let reply = match Trace::begin(request.headers()) {
        Ok(mut trace) => {
            trace.span = gate.spans.context(request.headers());
            let reply = answer(&gate, &caller, request, &trace, &turn).await;
            gate.spans.answered(&trace, begun, &reply);
            reply
        }
        Err(refusal) => refusal.respond(&unnamed()).map(Reply::from),
    };
    if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
        turn.open();
    }
    reply.map(|reply| Answer::new(reply, turn))
}

async fn answer(
    gate: &Arc<Gate>,
    caller: &Caller,
    request: Request<Incoming>,
    trace: &Trace,
    turn: &Turn,
) -> Response<Reply> {
    let mut dialect = Dialect::of(&request);
    let mut agent = caller.agent.clone();
    let refusal = match attempt(gate, caller, request, trace, (turn, &mut agent, &mut dialect)).await {
        Ok(reply) => return reply,
        Err(refusal) => refusal,
    };
    // What was sent behind it was sent without knowing its answer: it is never read.
    let close = refusal.answer().close || turn.is_followed();
    if close {
        caller.close.cancel();
    }
    let told = refuse(gate, refusal, caller.peer.ip(), agent.as_deref(), trace).await;
    let mut response = dialect.respond(&told, trace).map(Reply::from);
    if close {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The way of a request. Everything that can go wrong leaves it through `?`.
async fn attempt(
    gate: &Arc<Gate>,
    caller: &Caller,
    request: Request<Incoming>,
    trace: &Trace,
    (turn, agent, dialect): (&Turn, &mut Option<String>, &mut Dialect),
) -> Result<Response<Reply>, Refusal> {
    if let Some(refusal) = caller.mismatch.clone().map(Refusal::AuthorityMismatch).or_else(|| turn.refusal()) {
        return Err(refusal);
    }
    let begun = Instant::now();
    let (mut parts, incoming) = request.into_parts();
    let mut asked = canonical::read(&parts, &caller.way, &gate.limits)?;
    if asked.authority.is_none() && intents::is_public(&asked) {
        return intents::public(gate, &asked, &caller.way.base());
    }
    let name = identify(gate, caller, &mut asked)?;
    *agent = Some(name.clone());
    let visit = Visit { caller, via: asked.via.take() };
    if asked.authority.is_none() {
        let body = body::collect(incoming, gate.limits.body_bytes, &gate.bodies, turn);
        let body = tokio::time::timeout(Limits::seconds(gate.limits.body_seconds), body).await;
        let (body, _share) = body.map_err(|_| slow_body())??;
        let call = Call { asked: &asked, body, agent: &name, peer: caller.peer.ip(), trace, base: visit.base() };
        return Box::pin(intents::answer(gate, &call)).await;
    }
    let rulebook = gate.rulebook();
    let destination = rulebook.destination(&asked);
    let client = websocket::opened(&asked, destination, parts.extensions.remove())?;
    let limit = destination.and_then(|destination| destination.max_body).unwrap_or(gate.limits.body_bytes);
    let whole = body::collect(incoming, limit, &gate.bodies, turn);
    let whole = tokio::time::timeout(Limits::seconds(gate.limits.body_seconds), whole).await;
    let (bytes, share) = whole.map_err(|_| slow_body())??;
    gate.passed(Stage::Read, begun, trace);
    gate.metrics.requested(bytes.len());
    let wait = waits(gate, &asked, destination);
    let credential = destination.and_then(|destination| rulebook.credential_of(destination));
    let facts = facts(asked, name.clone(), bytes, (&rulebook, credential))?;
    if let Some(ids) = destination.and_then(|destination| destination.rpc_ids(&facts)) {
        *dialect = Dialect::JsonRpc(ids);
    }
    let once = repeat::once(gate, destination, &facts)?;
    let digest = once.as_ref().and_then(|once| once.digest.clone()).unwrap_or_default();
    let done = match once.as_ref().and_then(|once| gate.ledger.taken(&once.key)) {
        Some(first) => Err(Refusal::Repeated(Box::new(first))),
        None => {
            let offer = match &client {
                Some(_) => Offer::WebSocket,
                None if parts.version == Version::HTTP_2 => Offer::Any,
                None => Offer::Http1,
            };
            let whole = Whole { facts, once, offer, client, share, trace: trace.clone(), wait };
            decided(gate, &visit, rulebook, whole).await
        }
    };
    let mut reply = match done {
        Err(Refusal::Repeated(first)) => {
            Box::pin(repeated(gate, &visit, *first, (&digest, wait), (&name, trace))).await?
        }
        done => done?,
    };
    if let Some(via) = visit.via {
        via.restore(reply.headers_mut());
    }
    Ok(reply)
}

fn slow_body() -> Refusal {
    Refusal::SlowRequest("the request body did not arrive in time".to_owned())
}

/// Decides, then carries out or parks.
async fn decided(
    gate: &Arc<Gate>,
    visit: &Visit<'_>,
    rulebook: Arc<Rulebook>,
    whole: Whole,
) -> Result<Response<Reply>, Refusal> {
    let Whole { facts, once, offer, client, share, trace, wait } = whole;
    loop {
        let grant = match admit(gate, &rulebook, &facts, &trace, (once.as_ref(), offer)).await? {
            Admitted::Go(grant) => *grant,
            Admitted::Wait(intent) => {
                // Sealed now: what it took in memory is free for others while this one waits.
                drop((facts, share));
                return Box::pin(held(gate, &intent, wait, &visit.base())).await;
            }
        };
        if grant.standing().is_none() || client.is_some() {
            let order = Order { facts, grant, rulebook, trace, intent: None, once, offer, share };
            return execute(gate, order, client).await;
        }
        let (facts, share) = (facts.clone(), Share::default());
        let (rulebook, trace, once) = (Arc::clone(&rulebook), trace.clone(), once.clone());
        match execute(gate, Order { facts, grant, rulebook, trace, intent: None, once, offer, share }, None).await {
            // Another request was quicker to take the last use: decided again, without it.
            Err(Refusal::StandingSpent(_)) => {}
            answer => return answer,
        }
    }
}

/// Records that a request came again, and answers it with what became of the first one.
async fn repeated(
    gate: &Arc<Gate>,
    visit: &Visit<'_>,
    first: Taken,
    (digest, wait): (&str, u64),
    (agent, trace): (&str, &Trace),
) -> Result<Response<Reply>, Refusal> {
    let told = refuse(gate, Refusal::Repeated(Box::new(first)), visit.caller.peer.ip(), Some(agent), trace).await;
    // It may be that it could not be recorded: then that is what is told.
    let Refusal::Repeated(first) = told else { return Err(told) };
    repeat::answer(gate, &first, digest, trace, (wait, &visit.base())).await
}

/// Who: the tunnel's identity, or the credential of this request.
fn identify(gate: &Gate, caller: &Caller, asked: &mut Asked) -> Result<String, Refusal> {
    match (&caller.agent, &caller.way.entry) {
        (Some(name), _) => agent::still_served(&gate.principals, name).map(|()| name.clone()),
        (None, Entry::Reverse(door)) => agent::identify_at(&gate.principals, door, asked).map_err(Refusal::at_origin),
        (None, Entry::Forward | Entry::Tunnel(_)) => {
            let own_api = if asked.authority.is_none() { asked.header("authorization") } else { None };
            agent::identify(&gate.principals, asked.header("proxy-authorization").or(own_api)).map(|agent| agent.name)
        }
    }
}

/// What: the request as it would be sent, before any credential of the gate.
///
/// # Errors
/// When it cannot be forwarded as it is, or carries a gate token.
pub(crate) fn facts(
    asked: Asked,
    agent: String,
    bytes: Bytes,
    (rulebook, credential): (&Rulebook, Option<&Credential>),
) -> Result<Facts, Refusal> {
    let headers = asked.forwarded()?;
    let mut facts = Facts {
        agent,
        method: asked.method,
        authority: asked.authority.ok_or(Refusal::NotFound)?,
        path: asked.path,
        query: asked.query,
        headers,
        body: Body::new(bytes),
        votes: Vec::new(),
        unanswered: false,
        lost: Vec::new(),
    };
    inject::prepare(rulebook.placeholders.as_ref(), credential, &mut facts)?;
    if token::is_in(&facts) { Err(Refusal::TokenInRequest) } else { Ok(facts) }
}

/// May it: decided on one version of the rules, and once more with what was approved in advance. A hold is sealed and
/// recorded; a denial becomes a refusal.
async fn admit(
    gate: &Gate,
    rulebook: &Rulebook,
    facts: &Facts,
    trace: &Trace,
    (once, offer): (Option<&Once>, Offer),
) -> Result<Admitted, Refusal> {
    let begun = Instant::now();
    let mut decision = decide(rulebook, facts, &[]);
    if matches!(decision, Decision::Hold(_)) {
        let standings = Box::pin(standing::offered(gate, facts)).await;
        if !standings.is_empty() {
            decision = decide(rulebook, facts, &standings);
        }
    }
    gate.passed(Stage::Decide, begun, trace);
    // Its configured key: the key of a call holds what the agent wrote.
    let destination = rulebook.rules.destination(&facts.method, &facts.authority, &facts.path);
    gate.metrics.decided(&facts.agent, destination.map(|each| each.key.as_str()), Verdict::of(&decision));
    match decision {
        Decision::Allow(grant) => Ok(Admitted::Go(Box::new(grant))),
        Decision::Deny(denial) => Err(Refusal::Denied(Box::new((denial, facts.clone())))),
        Decision::Hold(_) if offer == Offer::WebSocket => {
            Err(Refusal::UpgradeRefused("a WebSocket would have to wait for an approval here, and cannot".to_owned()))
        }
        Decision::Hold(hold) => {
            let key = hold.basis.destination.as_deref().unwrap_or_default();
            let base = rulebook.destination_called(key, facts).map_or(key, |destination| destination.key.as_str());
            check_switches(gate, &facts.agent, [key, base]).map_err(|refusal| refusal.about(facts, &hold.basis))?;
            let waiting = Waiting { facts, hold: &hold, trace, once: once.cloned(), announced: None };
            Box::pin(hold::park(gate, &waiting, None)).await.map(Admitted::Wait)
        }
    }
}

/// The one decision. Reading a large body takes a while: other requests must not wait for it.
pub(crate) fn decide(rulebook: &Rulebook, facts: &Facts, standings: &[Standing]) -> Decision {
    let decide = || rulebook.rules.decide_given(facts, standings, Timestamp::now());
    if facts.body.len() > LARGE_BODY { tokio::task::block_in_place(decide) } else { decide() }
}

/// Record, then send: from here on in a task of its own, this connection only receives.
async fn execute(gate: &Arc<Gate>, order: Order, client: Option<OnUpgrade>) -> Result<Response<Reply>, Refusal> {
    let (slot, reply) = oneshot::channel();
    let sink = match client {
        Some(client) => Sink::Socket(slot, client),
        None if order.once.is_some() => Sink::Kept(slot),
        None => Sink::Live(slot),
    };
    gate.tasks.spawn(relay::execute(Arc::clone(gate), order, sink));
    reply.await.map_err(|_| Refusal::UnknownOutcome("the execution broke off".to_owned()))?
}

/// Answers for a request that waits: at once, or when it is decided and done.
async fn held(gate: &Gate, intent: &str, wait: u64, base: &str) -> Result<Response<Reply>, Refusal> {
    let intent = hold::wait(gate, intent, wait).await.ok_or(Refusal::NotFound)?;
    hold::answer(gate, &intent, base).await
}

/// Records a refusal and returns what to tell: when it cannot be recorded, that instead.
pub async fn refuse(gate: &Arc<Gate>, refusal: Refusal, peer: IpAddr, agent: Option<&str>, trace: &Trace) -> Refusal {
    let recorded = if flood::is_on_the_ledger(&refusal) {
        Ok(())
    } else {
        gate.refusals.record(gate, &Source { peer, agent }, &refusal, trace).await
    };
    let told = recorded.err().unwrap_or(refusal);
    gate.metrics.refused(told.answer().code);
    if let Some((kind, severity)) = flood::violation(&told) {
        gate.metrics.violated(kind, severity);
    }
    if !told.cause().is_empty() {
        tracing::error!(code = told.answer().code, cause = told.cause(), correlation = trace.correlation, "refused");
    }
    told
}

/// Seconds the caller wants its connection kept open for a decision: `Prefer: wait=N` (RFC 7240), `X-Gate-Wait: true`,
/// or what the destination says.
fn waits(gate: &Gate, asked: &Asked, destination: Option<&Destination>) -> u64 {
    let preferred =
        asked.headers.iter().filter(|(name, _)| name == "prefer").flat_map(|(_, value)| value.split([',', ';']));
    let preferred =
        preferred.filter_map(|each| each.trim().strip_prefix("wait=")).find_map(|seconds| seconds.parse().ok());
    if let Some(seconds) = preferred {
        return gate.limits.wait_seconds.min(seconds);
    }
    if asked.header("x-gate-wait").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return gate.limits.wait_seconds;
    }
    destination.and_then(|destination| destination.wait_seconds).unwrap_or(0)
}

/// For the answer that says that not even an id could be made.
fn unnamed() -> Trace {
    Trace { correlation: String::new(), run: None, parent: None, trigger: None, declared: false, span: None }
}

/// Bytes of a body above which deciding may take milliseconds.
const LARGE_BODY: usize = 256 * 1024;
