//! Voting at the operator door: what a reviewer sees of a held request, and what a vote has to say.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};
use ledger::{Draft, EventType, Intent, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Cookie;
use super::{Fault, append, internal, known, require, shown};
use crate::gate::Gate;
use crate::hold::{self, text};
use crate::principal::{Principal, Role};
use crate::standing::{self, Remember};
use crate::{parked, record, reviewer};

/// A vote as it is sent.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVote {
    /// Why. Zehrava Gate's clients call it `reason`, and can give none with an approval.
    #[serde(alias = "reason")]
    rationale: Option<String>,
    digest: Option<String>,
    reasons: Option<String>,
    remember: Option<Remember>,
}

/// A vote that says what it is about.
struct VoteBody {
    rationale: String,
    /// The digest that was shown; a vote counts for nothing else.
    digest: String,
    /// The hash of the reasons that were shown.
    reasons: String,
    /// Whether an approval is also for others like it, how long and how often.
    remember: Option<Remember>,
}

/// The request that waits, as it would be sent: what a reviewer decides about.
pub(super) async fn held_request(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    require(&operator, Role::Reviewer)?;
    let (facts, _) = hold::unpark(&gate, &known(&gate, &id)?)
        .await
        .map_err(|error| Fault(StatusCode::GONE, format!("{error:#}")))?;
    let body = facts.body.bytes();
    let shown = body.get(..body.len().min(SHOWN_BODY_BYTES)).unwrap_or_default();
    Ok(Json(json!({
        "summary": gate.rulebook().rules.summary(&facts),
        "method": facts.method,
        "url": format!("{}{}", facts.authority, facts.path),
        "query": facts.query,
        "headers": facts.headers,
        "body": String::from_utf8_lossy(shown).escape_debug().to_string(),
        "body_bytes": body.len(),
        "bytes_not_shown": body.len() - shown.len(),
    })))
}

/// One vote. The ledger takes at most one of each operator, and only while the intent waits.
pub(super) async fn vote(
    Shared(gate): Shared<Arc<Gate>>,
    Extension(operator): Extension<Principal>,
    Path((id, verdict)): Path<(String, String)>,
    session: Option<Extension<Cookie>>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let intent = known(&gate, &id)?;
    let verdict = if verdict == "reject" { "deny".to_owned() } else { verdict };
    let given = read(&body, &intent, session.is_some())?;
    check_vote(&gate, &operator, &intent, &given)?;
    let vote = record::about_intent(EventType::ApprovalVote, &intent)
        .with("operator", operator.name.as_str())
        .with("verdict", verdict.as_str())
        .with("rationale", given.rationale.trim())
        .with("digest", given.digest.as_str())
        .with("reasons", given.reasons.as_str());
    let vote = hold::signed(&gate, vote);
    let remembered = remembered(&gate, &operator, &intent, (&verdict, given.remember))?;
    let cast = match (verdict.as_str(), intent.state) {
        // It was approved and could not be sent: tried again, without another vote.
        ("approve", State::Approved) => Vec::new(),
        // What was approved and could not be sent can still be taken back; its votes are closed.
        ("deny", State::Approved) => {
            let denied = record::about_intent(EventType::ApprovalDenied, &intent);
            vec![denied.with("operator", operator.name.as_str()).with("rationale", given.rationale.trim())]
        }
        ("approve" | "deny", _) => std::iter::once(vote).chain(remembered).collect(),
        _ => return Err(Fault(StatusCode::NOT_FOUND, "vote with `approve` or `deny`".to_owned())),
    };
    // In a task of its own: a vote that is recorded has its consequence, also when the operator has gone away.
    let (task, intent) = (Arc::clone(&gate), id.clone());
    let cast = gate.tasks.spawn(async move {
        if !cast.is_empty() {
            let denied = cast.iter().any(|draft| draft.kind == EventType::ApprovalDenied);
            append(&task, cast).await?;
            ledger::crash::point("vote.recorded");
            if denied {
                hold::forget(&task, &intent).await;
            }
        }
        parked::resume(&task, &intent).await.map_err(|refusal| {
            let why = if refusal.cause().is_empty() { refusal.answer().detail } else { refusal.cause().to_owned() };
            Fault(StatusCode::SERVICE_UNAVAILABLE, format!("the vote is recorded, but nothing was sent: {why}"))
        })
    });
    cast.await.map_err(|error| internal(&error))??;
    Ok(Json(shown(&known(&gate, &id)?)))
}

/// A vote with everything it needs. A program with a token may leave out what it was shown: then its vote is on what is
/// held when it arrives. A browser may not, where a person looks at a card that may be an old one.
fn read(body: &[u8], intent: &Intent, in_browser: bool) -> Result<VoteBody, Fault> {
    let bad = |why: String| Fault(StatusCode::BAD_REQUEST, why);
    let raw: Option<RawVote> = if body.is_empty() {
        None
    } else {
        Some(serde_json::from_slice(body).map_err(|error| bad(format!("this is no vote: {error}")))?)
    };
    let RawVote { rationale, digest, reasons, remember } = raw.unwrap_or_default();
    if in_browser && (rationale.is_none() || digest.is_none() || reasons.is_none()) {
        return Err(bad("a vote names its rationale, and the digest and reasons that were shown".to_owned()));
    }
    let held = |key: &str| text(&intent.opened.data, key);
    Ok(VoteBody {
        rationale: rationale.unwrap_or_else(|| NO_RATIONALE.to_owned()),
        digest: digest.unwrap_or_else(|| held("digest")),
        reasons: reasons.unwrap_or_else(|| held("reasons")),
        remember,
    })
}

/// What makes an approval stand for others like it, too: recorded with the vote, or neither is.
fn remembered(
    gate: &Gate,
    operator: &Principal,
    intent: &Intent,
    (verdict, remember): (&str, Option<Remember>),
) -> Result<Option<Draft>, Fault> {
    let Some(remember) = remember else { return Ok(None) };
    if verdict != "approve" || intent.state != State::Held {
        return Err(Fault(StatusCode::BAD_REQUEST, "only the approval of what is held is remembered".to_owned()));
    }
    let given = standing::given(gate, intent, &operator.name, &remember);
    given.map(Some).map_err(|why| Fault(StatusCode::CONFLICT, why))
}

fn check_vote(gate: &Gate, operator: &Principal, intent: &Intent, given: &VoteBody) -> Result<(), Fault> {
    check_voter(gate, operator, intent)?;
    let conflict = |why: &str| Err(Fault(StatusCode::CONFLICT, why.to_owned()));
    check_rationale(&given.rationale)?;
    if given.digest != text(&intent.opened.data, "digest") || given.reasons != text(&intent.opened.data, "reasons") {
        return conflict("this is not what is held now; look at the intent again and vote on what it shows");
    }
    if parked::is_expired(gate, intent) {
        return conflict("this intent has expired");
    }
    Ok(())
}

/// Whether words say why.
pub(super) fn check_rationale(rationale: &str) -> Result<(), Fault> {
    if rationale.trim().is_empty() || rationale.len() > MAX_RATIONALE_BYTES {
        let why = format!("it needs a rationale of 1 to {MAX_RATIONALE_BYTES} bytes");
        return Err(Fault(StatusCode::BAD_REQUEST, why));
    }
    Ok(())
}

/// Whether an operator may vote on an intent at all.
pub(super) fn check_voter(gate: &Gate, operator: &Principal, intent: &Intent) -> Result<(), Fault> {
    require(operator, Role::Reviewer)?;
    if reviewer::answers_for(gate, &operator.name, &intent.agent_id) {
        return Err(Fault(
            StatusCode::FORBIDDEN,
            "an agent or the owner of an agent cannot vote on its requests".to_owned(),
        ));
    }
    Ok(())
}

/// Bytes of a held body that are shown to a reviewer.
const SHOWN_BODY_BYTES: usize = 64 * 1024;

/// What is recorded for a client that has no way of saying why.
const NO_RATIONALE: &str = "no rationale was given with this vote";

/// Bytes of a rationale.
const MAX_RATIONALE_BYTES: usize = 4096;
