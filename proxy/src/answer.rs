//! What an agent is told of each refusal: the one place that says it.
//!
//! Words for the agent only; what an operator should read stays in the refusal's cause.

use http::StatusCode;
use policy::{Basis, Denial, Match, Verdict};

use crate::refusal::{Challenge, Pending, Refusal};
use crate::unfetched;

/// The public side of a refusal.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable, documented code.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What happened, for the agent.
    pub detail: String,
    /// What would make it pass.
    pub remedy: String,
    /// Whether the same request may pass later.
    pub retryable: bool,
    /// Whether the connection ends with it.
    pub close: bool,
}

// === impl Refusal ===

impl Refusal {
    /// The one mapping from a refusal to what the agent sees.
    #[expect(clippy::too_many_lines, reason = "one row per refusal; a table reads better whole")]
    pub fn answer(&self) -> Answer {
        use Refusal::*;
        match self {
            AgentSuspended => row(
                403,
                "agent_suspended",
                "agent suspended",
                "this agent is suspended",
                "an operator can resume it: `writ agents resume NAME`",
            ),
            Ambiguous(why) => row(
                400,
                "ambiguous_request",
                "ambiguous request",
                why,
                "send one plain, complete HTTP/1.1 request as RFC 9112 writes it",
            )
            .closing(),
            AuthorityMismatch(why) => row(
                421,
                "authority_mismatch",
                "authority mismatch",
                why,
                "CONNECT target, TLS server name, Host and absolute URL must name the same host and port",
            )
            .closing(),
            BadDeclaration(why) => row(
                400,
                "bad_declaration",
                "bad declaration",
                format!("the body is not what this page takes: {why}"),
                "send the JSON that `/v1/openapi.json` describes",
            ),
            Blocked(id, reason) => row(
                403,
                "blocked",
                "blocked by policy",
                format!("intent `{id}` is denied by the policy in force now: {reason}"),
                "ask an operator which request would pass",
            ),
            BodyTooLarge(limit) => row(
                413,
                "body_too_large",
                "body too large",
                format!("the request body is larger than {limit} bytes"),
                "send less at once, or ask an operator to raise `max_body` of this destination",
            )
            .closing(),
            Busy(why) => row(503, "busy", "gate busy", why, "try again shortly").retryable(),
            Cancelled(id) => row(
                410,
                "cancelled",
                "cancelled",
                format!("intent `{id}` was cancelled by its agent"),
                "send the request again if it is still wanted",
            ),
            ClientGone => row(
                400,
                "incomplete_request",
                "incomplete request",
                "the request ended before it was complete",
                "send the whole request",
            )
            .closing(),
            Denied(denied_with) => denied(&denied_with.0),
            Duplicate(first, _) => row(
                409,
                "duplicate_blocked",
                "duplicate blocked",
                format!("the same was asked for a short while ago, by `{first}`"),
                "do not repeat it; if it is meant to happen twice, use another key, wait, or have an operator change \
                 `dedupe_seconds`",
            ),
            Expectation => row(
                417,
                "expectation_failed",
                "expectation failed",
                "only `Expect: 100-continue` is understood",
                "leave the Expect header out",
            )
            .closing(),
            Expired(id) => row(
                410,
                "expired",
                "expired",
                format!("nobody decided on intent `{id}` in time"),
                "send the request again if it is still wanted",
            ),
            HeadTooLarge(why) => {
                row(431, "head_too_large", "request head too large", why, "send fewer or shorter headers").closing()
            }
            Killed(scope, _) => row(
                403,
                "kill_switch",
                "kill switch",
                format!("an operator has stopped {scope}"),
                "stop; only an operator can let it go on: `writ kill off`",
            ),
            LedgerRefused(why) => row(409, "conflict", "already decided", why, "look at the state of the intent"),
            LedgerUnavailable(_) => row(
                503,
                "ledger_unavailable",
                "ledger unavailable",
                "the decision could not be recorded, so nothing was sent",
                "try again later; an operator sees the cause in the gate's log",
            )
            .retryable(),
            MethodRefused(method) => row(
                403,
                "method_refused",
                "method refused",
                format!("`{method}` is never forwarded"),
                "use another method",
            ),
            NoKey(why) => row(
                400,
                "idempotency_key_required",
                "idempotency key required",
                format!("the request has no key under which it could be carried out once: {why}"),
                "send the value that this destination tells requests apart by, once",
            ),
            NoPlace(why) => row(
                400,
                "no_place_for_credential",
                "no place for the credential",
                why,
                "leave a place for the credential, as the API's documentation writes it; the gate fills it",
            ),
            NoSpace(_) => row(
                507,
                "storage_low",
                "storage low",
                "too little disk space is left to record what would follow, so nothing was begun",
                "try again later; an operator has to free space on the gate's disk",
            )
            .retryable(),
            NotDeclarable(_) => row(
                403,
                "not_declarable",
                "not declarable",
                "no destination of this key takes declared intents",
                "send the request itself through the proxy, or ask an operator to add `execute` to the destination",
            ),
            NotFound => row(
                404,
                "not_found",
                "not found",
                "there is no such intent or page for this agent",
                "check the id; only the agent that made an intent can read it",
            ),
            NotIdentified(Challenge::Origin) => row(
                401,
                "credential_required",
                "credential required",
                "this door serves known agents only",
                "send `Writ-Agent-Token: TOKEN`, or the token in the place of the API's own key",
            )
            .retryable(),
            NotIdentified(Challenge::Proxy) => row(
                407,
                "credential_required",
                "proxy credential required",
                "this proxy serves known agents only",
                "set HTTPS_PROXY=http://AGENT:TOKEN@HOST:PORT",
            )
            .retryable(),
            NotMarked(why) => row(
                403,
                "custom_header_required",
                "custom header required",
                why,
                "send the agent's token in `Writ-Agent-Token`, or let the client add the header `Writ-Agent` to every request",
            ),
            NoRoute(asked) => row(
                421,
                "no_route",
                "no route",
                format!("no route of this door is for {asked}"),
                "use a host or prefix that is routed; an operator can add one to `reverse.routes` in writ.yaml",
            )
            .closing(),
            OverLimit(limit, ..) => row(
                429,
                "over_limit",
                "over the limit",
                format!("`{limit}` has no room for this request"),
                "wait as long as Retry-After says, or ask for less; splitting a request does not help",
            )
            .retryable(),
            Pending(held) => pending(held),
            PlaceholderMisplaced => row(
                403,
                "placeholder_misplaced",
                "placeholder where it is not replaced",
                "the request carries the placeholder of a credential in a place, or to a host, where it is not replaced",
                "send the placeholder only where its API takes the key, and only to that API",
            ),
            PlaceholderRequired => row(
                403,
                "placeholder_required",
                "placeholder required",
                "the request carries a key of its own, or none, where this destination wants the placeholder",
                "use the placeholder that an operator gave out for this API as its key, and no other key beside it",
            ),
            RangeRefused => row(
                403,
                "range_refused",
                "range refused",
                "a part of a reply is not passed on from here: in pieces, a credential that comes back is not recognised",
                "leave the Range header out; or have an operator set `ranges: true` for this credential",
            ),
            Rejected(id, rationale) => row(
                403,
                "rejected",
                "rejected by a reviewer",
                format!("intent `{id}` was rejected: {rationale}"),
                "do what the reviewer asks, then send a new request",
            ),
            Repeated(first) => row(
                409,
                "replayed",
                "replayed",
                format!("the key of this request was had before, by `{}`", first.holder()),
                "use another key for another request",
            ),
            ReplyWithheld(why) => row(
                502,
                "reply_withheld",
                "reply withheld",
                format!("the request was carried out, but its reply is withheld: {why}"),
                "the request has taken effect: do not send it again; an operator can see to a reply without encoding",
            ),
            SlowRequest(why) => {
                row(408, "request_timeout", "request timeout", why, "send the whole request at once").closing()
            }
            StandingSpent(_) => row(
                503,
                "approval_used_up",
                "approval used up",
                "what was approved in advance was used up meanwhile, so nothing was sent",
                "send it again: it will wait for a reviewer",
            )
            .retryable(),
            TargetTooLong(limit) => row(
                414,
                "target_too_long",
                "request target too long",
                format!("the request target is longer than {limit} bytes"),
                "send the parameters in a body",
            )
            .closing(),
            TokenInRequest => row(
                403,
                "token_in_request",
                "gate token in request",
                "the request carries a gate token that would have left with it",
                "send the token in Proxy-Authorization only; then have an operator replace it",
            ),
            TokenRefused(_) => row(
                502,
                "token_refused",
                "access token refused",
                "the destination's token endpoint gave no access token, so nothing was sent",
                "an operator has to mend it; the gate's ledger and log show the cause",
            ),
            TokenUnreachable(_) => row(
                503,
                "token_unreachable",
                "token endpoint unreachable",
                "the destination's token endpoint could not be reached, so nothing was sent",
                "try again later; the gate's ledger and log show the cause",
            )
            .retryable(),
            TooMany(why) => {
                row(429, "too_many", "too many", why, "send fewer at once, or wait until earlier ones are decided")
                    .retryable()
            }
            UpgradeRefused(why) => row(
                403,
                "upgrade_refused",
                "upgrade refused",
                why,
                "use the plain HTTP API of this destination, or have an operator set `upgrade: websocket` for it, with a policy that allows it",
            )
            .closing(),
            WrongCredential(challenge) => row(
                if *challenge == Challenge::Origin { 401 } else { 407 },
                "credential_invalid",
                "credential not valid",
                "this agent name and token do not belong together",
                "use the token printed when the agent was added; it cannot be shown again",
            ),
            Upstream(why) => row(
                502,
                "upstream_failed",
                "upstream failed",
                why,
                "check that the destination is up and its certificate is trusted",
            )
            .retryable(),
            Unfetched(fault, _) => unfetched::answer(fault),
            UnknownOutcome(why) => row(
                502,
                "outcome_unknown",
                "outcome unknown",
                why,
                "the request may have taken effect: check before sending it again",
            ),
            VaultUnavailable(_) => row(
                503,
                "credential_unavailable",
                "credential unavailable",
                "the destination's credential is not configured for it, so nothing was sent",
                "an operator has to mend it; the ledger and the log of the gate show the cause",
            )
            .retryable(),
        }
    }
}

// === impl Answer ===

impl Answer {
    fn closing(mut self) -> Answer {
        self.close = true;
        self
    }

    pub(crate) fn retryable(mut self) -> Answer {
        self.retryable = true;
        self
    }
}

pub(crate) fn row(
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: impl AsRef<str>,
    remedy: &str,
) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        code,
        title,
        detail: detail.as_ref().to_owned(),
        remedy: remedy.to_owned(),
        retryable: false,
        close: false,
    }
}

fn denied(denial: &Denial) -> Answer {
    match first_denial(&denial.basis) {
        Some(rule) => row(403, "denied", "denied by policy", &rule.reason, &rule.remedy),
        None => row(403, "denied", "denied by policy", "no rule allows this request", "ask an operator"),
    }
}

/// The rule that denied.
pub(crate) fn first_denial(basis: &Basis) -> Option<&Match> {
    basis.rules.iter().find(|rule| rule.verdict == Verdict::Deny)
}

fn pending(held: &Pending) -> Answer {
    let reason = held.rules.iter().find(|rule| rule.verdict == Verdict::Hold);
    let detail = reason.map_or("a person has to approve this request", |rule| rule.reason.as_str());
    let remedy = "wait: the stored request is sent once when a reviewer approves; poll statusUrl, do not send it again";
    row(held.status, "pending_approval", "waiting for approval", detail, remedy).retryable()
}
