//! A request that was held, after something happened to it: a vote, a restart, silence until its time was over.
//!
//! It is decided again by the same `decide` on the policy in force now, and carried out by the
//! same executor as a live one. Nothing here is a way around either.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ledger::{EventType, Intent, State};
use policy::{Decision, Destination, NoResponse};

use crate::agent;
use crate::exchange::decide;
use crate::flood;
use crate::gate::Gate;
use crate::hold::{self, Retried, Waiting};
use crate::orders;
use crate::permit::{Order, Permit};
use crate::record::{self, Trace};
use crate::refusal::Refusal;
use crate::relay::{self, Sink};
use crate::repeat::{self, IDEMPOTENCY_KEY};

/// A vote arrived, or the gate started again: decides anew on an intent, and carries it out when that is allowed.
///
/// # Errors
/// Why it could not be decided or recorded; the intent stays as it is then.
pub async fn resume(gate: &Arc<Gate>, id: &str) -> Result<(), Refusal> {
    let Some(intent) = gate.ledger.intent(id) else { return Ok(()) };
    match intent.state {
        State::Approved | State::Held if !is_expired(gate, &intent) => decide_again(gate, &intent).await,
        State::Approved
        | State::Blocked
        | State::Cancelled
        | State::Executing
        | State::Expired
        | State::Failed
        | State::Held
        | State::Rejected
        | State::Succeeded
        | State::Unknown => Ok(()),
    }
}

/// Nobody decided in time: it ends, unless its policy said otherwise when it was held and says so still.
///
/// # Errors
/// Why it could not be recorded, or the ledger's word that somebody decided just now.
pub async fn unanswered(gate: &Arc<Gate>, intent: &Intent) -> Result<(), Refusal> {
    let said = &intent.opened.data;
    let ends = intent.state != State::Held || ["", "reject"].contains(&hold::text(said, "on_no_response").as_str());
    let served = agent::still_served(&gate.principals, &intent.agent_id).is_ok();
    if !ends
        && served
        && let Ok((mut facts, trace)) = hold::unpark(gate, intent).await
    {
        facts.unanswered = true;
        let rulebook = gate.rulebook();
        match decide(&rulebook, &facts, &[]) {
            Decision::Allow(grant) => {
                return carry_out(gate, intent, Order::resumed(&intent.id, (facts, trace), grant, rulebook)).await;
            }
            Decision::Hold(hold) if hold.no_response == NoResponse::Defer && !said.contains_key("deferred") => {
                let once = repeat::once_again(gate, &rulebook, &hold, &facts);
                let waiting = Waiting { facts: &facts, hold: &hold, trace: &trace, once, announced: None };
                let again = waiting.draft(gate).intent(&intent.id).with("deferred", true);
                return record::durable(gate, vec![again], None).await.map(|_| ());
            }
            Decision::Deny(_) | Decision::Hold(_) => {}
        }
    }
    record::durable(gate, vec![record::about_intent(EventType::ApprovalExpired, intent)], None).await?;
    hold::forget(gate, &intent.id).await;
    Ok(())
}

async fn decide_again(gate: &Arc<Gate>, intent: &Intent) -> Result<(), Refusal> {
    let unsealed = hold::unpark(gate, intent).await;
    let (facts, trace) = unsealed.map_err(|error| Refusal::LedgerUnavailable(format!("{error:#}")))?;
    agent::still_served(&gate.principals, &facts.agent)?;
    let rulebook = gate.rulebook();
    match decide(&rulebook, &facts, &[]) {
        Decision::Allow(grant) => {
            carry_out(gate, intent, Order::resumed(&intent.id, (facts, trace), grant, rulebook)).await
        }
        Decision::Deny(denial) => {
            let denied = match hold::denial_of_a_reviewer(intent, &facts) {
                Some(denied) => denied,
                None => record::decision(EventType::DecisionDenied, &trace, &facts, &denial.basis).intent(&intent.id),
            };
            record::durable(gate, vec![denied], None).await?;
            hold::forget(gate, &intent.id).await;
            Ok(())
        }
        // The reasons shown are not the reasons now, or the votes given are not enough any more: it is held anew.
        Decision::Hold(hold)
            if intent.state == State::Approved || hold.reasons != hold::text(&intent.opened.data, "reasons") =>
        {
            let once = repeat::once_again(gate, &rulebook, &hold, &facts);
            let again = Waiting { facts: &facts, hold: &hold, trace: &trace, once, announced: None }
                .draft(gate)
                .intent(&intent.id);
            record::durable(gate, vec![again], None).await.map(|_| ())
        }
        Decision::Hold(_) => Ok(()),
    }
}

/// Holds the request of an intent whose outcome nobody knows once more, as a new intent that needs votes of its own.
///
/// # Errors
/// When the request is no longer kept, or policy would not hold it now.
pub async fn hold_again(gate: &Gate, intent: &Intent, operator: &str, rationale: &str) -> Result<String, Refusal> {
    let unsealed = hold::unpark(gate, intent).await;
    let (mut facts, old) = unsealed.map_err(|error| Refusal::LedgerRefused(format!("{error:#}")))?;
    facts.votes.clear();
    agent::still_served(&gate.principals, &facts.agent)?;
    let trace = Trace { correlation: record::correlation()?, ..old };
    let rulebook = gate.rulebook();
    let key = intent.dest_key.as_deref().unwrap_or_default();
    let honoured = rulebook.destination_called(key, &facts).is_some_and(Destination::honours_idempotency);
    if honoured && !facts.headers.iter().any(|(name, _)| name == IDEMPOTENCY_KEY) {
        // Under the key that went with the first one: if that one was carried out, the upstream knows.
        facts.headers.push((IDEMPOTENCY_KEY.to_owned(), intent.id.clone()));
    }
    match decide(&rulebook, &facts, &[]) {
        Decision::Hold(hold) => {
            let again = Retried { of: &intent.id, by: operator, rationale };
            let once = repeat::once_again(gate, &rulebook, &hold, &facts);
            hold::park(gate, &Waiting { facts: &facts, hold: &hold, trace: &trace, once, announced: None }, Some(again))
                .await
        }
        Decision::Allow(_) => {
            Err(Refusal::LedgerRefused("policy no longer holds this; the agent may send it again itself".to_owned()))
        }
        Decision::Deny(denial) => Err(Refusal::Denied(Box::new((denial, facts)))),
    }
}

/// Records that an intent is granted, and starts to carry it out, unless a runner will.
async fn carry_out(gate: &Arc<Gate>, intent: &Intent, order: Order) -> Result<(), Refusal> {
    if intent.state == State::Held {
        let granted = record::about_intent(EventType::ApprovalGranted, intent);
        record::durable(gate, vec![granted], None).await?;
        ledger::crash::point("approval.granted");
    }
    if orders::is_for_runner(&order.rulebook, intent) {
        return Ok(());
    }
    gate.tasks.spawn(send(Arc::clone(gate), intent.id.clone(), order));
    Ok(())
}

async fn send(gate: Arc<Gate>, id: String, order: Order) {
    let trace = order.trace.clone();
    match Permit::record(&gate, order).await {
        Ok((permit, ticket)) => relay::perform(&gate, permit, &ticket, Sink::Mailbox).await,
        Err(refusal) => not_permitted(&gate, &id, &trace, &refusal).await,
    }
}

/// Records why an approved request was not sent. One whose limit had no room stays approved, and is decided again when
/// there is room.
async fn not_permitted(gate: &Arc<Gate>, id: &str, trace: &Trace, refusal: &Refusal) {
    let answer = refusal.answer();
    tracing::warn!(intent = id, code = answer.code, cause = refusal.cause(), "an approved request was not sent");
    let Some(decided) = refusal.decided() else { return };
    let stopped = flood::stopped(decided, refusal, trace).intent(id);
    if let Refusal::OverLimit(_, after, _) = refusal {
        // A denial would end it for good, and what a person approved only has to wait.
        let waits = ledger::Draft { kind: EventType::RequestRefused, ..stopped };
        record::append_or_log(&gate.ledger, waits).await;
        if let Some(seconds) = after {
            tokio::spawn(later(Arc::clone(gate), id.to_owned(), *seconds));
        }
        return;
    }
    let ends = stopped.kind == EventType::DecisionDenied;
    record::append_or_log(&gate.ledger, stopped).await;
    if ends {
        hold::forget(gate, id).await;
    }
}

/// Decides on an intent again after some seconds. Boxed, because what it waits for may come back to here.
fn later(gate: Arc<Gate>, id: String, seconds: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let room = tokio::time::sleep(Duration::from_secs(seconds));
        if gate.stop.run_until_cancelled(room).await.is_some()
            && let Err(refusal) = resume(&gate, &id).await
        {
            tracing::warn!(intent = id, cause = refusal.cause(), "an approved request was not decided again");
        }
    })
}

/// Whether nobody may decide on it any more. Time never goes back: the ledger's last entry counts too.
pub fn is_expired(gate: &Gate, intent: &Intent) -> bool {
    let now = record::now(gate);
    let expires = hold::text(&intent.opened.data, "expires_at").parse::<Timestamp>();
    expires.map_or(true, |expires| expires <= now)
}
