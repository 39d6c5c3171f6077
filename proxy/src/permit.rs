//! The writ itself: proof that an execution is durably recorded, consumed by the one send it allows.

use std::sync::Arc;

use ledger::{Draft, Once, Receipt, Reservation};
use policy::{Decision, Facts, Grant, Lost};
use serde_json::Value;

use crate::body::Share;
use crate::exchange::decide;
use crate::gate::Gate;
use crate::record::{self, Ticket, Trace};
use crate::refusal::Refusal;
use crate::rulebook::Rulebook;
use crate::trust::Offer;

/// A request that was allowed and may go out once. Made only by [`Permit::record`], taken apart only by the sender.
///
/// There is no other way to make one, and it cannot be copied: the cases in `tests/forge/writ` do not compile.
#[derive(Debug)]
pub struct Permit {
    facts: Facts,
    grant: Grant,
    rulebook: Arc<Rulebook>,
    receipt: Receipt,
    offer: Offer,
    /// Given back with the permit, when the request has been sent.
    _share: Share,
}

/// Refuses what an operator has stopped: for this agent, for a destination or one of its calls, or everything.
///
/// # Errors
/// [`Refusal::Killed`].
pub fn check_switches(gate: &Gate, agent: &str, keys: [&str; 2]) -> Result<(), Refusal> {
    let switches = gate.ledger.kill_switches();
    match keys.iter().find_map(|key| switches.hit(Some(agent), Some(key))) {
        Some(switch) => Err(Refusal::Killed(switch.scope(), None)),
        None => Ok(()),
    }
}

/// A request that policy allowed and that is about to be recorded.
#[derive(Debug)]
pub struct Order {
    /// The request.
    pub facts: Facts,
    /// What allows it.
    pub grant: Grant,
    /// The version it was decided on, which it keeps to its end.
    pub rulebook: Arc<Rulebook>,
    /// What ties its events together.
    pub trace: Trace,
    /// The intent, when it had been held.
    pub intent: Option<String>,
    /// The key it takes, when it is carried out once.
    pub once: Option<Once>,
    /// Which versions of HTTP its upstream is offered.
    pub offer: Offer,
    /// What its body takes of the memory there is for bodies.
    pub share: Share,
}

// === impl Order ===

impl Order {
    /// The order of an intent that may go on.
    pub fn resumed(intent: &str, (facts, trace): (Facts, Trace), grant: Grant, rulebook: Arc<Rulebook>) -> Order {
        let intent = Some(intent.to_owned());
        Order { facts, grant, rulebook, trace, intent, once: None, offer: Offer::Any, share: Share::default() }
    }

    /// Records it. When others have taken what the grant needs, that is one more fact, and it is decided again.
    async fn settle(&mut self, gate: &Gate, terms: Option<&Value>) -> Result<(Receipt, Ticket), Refusal> {
        loop {
            let refusal = match self.authorise(gate, terms).await {
                Ok(recorded) => return Ok(recorded),
                Err(refusal) => refusal,
            };
            // Each turn adds a fact that no later grant needs to lose again.
            let lost = lost(&refusal).filter(|lost| !self.facts.lost.contains(lost));
            let Some(lost) = lost else { return Err(refusal.about(&self.facts, self.grant.basis())) };
            self.facts.lost.push(lost);
            match decide(&self.rulebook, &self.facts, &[]) {
                Decision::Allow(grant) => self.grant = grant,
                Decision::Deny(denial) => return Err(refusal.about(&self.facts, &denial.basis)),
                Decision::Hold(hold) => return Err(refusal.about(&self.facts, &hold.basis)),
            }
        }
    }

    async fn authorise(&self, gate: &Gate, terms: Option<&Value>) -> Result<(Receipt, Ticket), Refusal> {
        let Order { facts, grant, .. } = self;
        if facts.digest(grant.destination()) != grant.digest() {
            return Err(Refusal::LedgerUnavailable("the grant is for another request".to_owned()));
        }
        let ticket = Ticket::new(self.trace.clone(), self.intent.clone(), facts, grant.destination());
        if let Some(destination) = self.rulebook.destination_called(grant.destination(), facts) {
            check_switches(gate, &facts.agent, [grant.destination(), &destination.key])?;
        }
        let mut authorised = taking(ticket.authorised(facts, grant.basis()), grant, self.once.clone())?;
        if let Some(terms) = terms {
            authorised = authorised.with("order", terms.clone());
        }
        // One use of a standing approval is taken with it, or neither is recorded.
        let used = grant.standing().map(|standing| ticket.used(standing));
        let drafts = used.into_iter().chain([authorised]).collect();
        let receipt = record::durable(gate, drafts, Some(&ticket)).await?.pop();
        let receipt = receipt.ok_or_else(|| Refusal::LedgerUnavailable("the ledger gave no receipt".to_owned()))?;
        ledger::crash::point("permit.recorded");
        Ok((receipt, ticket))
    }
}

// === impl Permit ===

impl Permit {
    /// Records that the order's grant allows exactly its facts, and returns only when that record is durable. When
    /// others have taken what the grant needs, that is one more fact, and it is decided again.
    ///
    /// # Errors
    /// [`Refusal::LedgerUnavailable`] when the record could not be made durable in time, or the ledger refuses it: an
    /// execution that is under way already, a limit without room, a duplicate, a kill switch. Nothing may be sent then.
    pub async fn record(gate: &Gate, mut order: Order) -> Result<(Permit, Ticket), Refusal> {
        let (receipt, ticket) = order.settle(gate, None).await?;
        let Order { facts, grant, rulebook, offer, share, .. } = order;
        Ok((Permit { facts, grant, rulebook, receipt, offer, _share: share }, ticket))
    }

    /// The request that is allowed.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The grant it rests on.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The version it was decided on.
    pub fn rulebook(&self) -> &Rulebook {
        &self.rulebook
    }

    /// Which versions of HTTP the upstream is offered.
    pub fn offer(&self) -> Offer {
        self.offer
    }

    /// The ledger's receipt.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }
}

/// Records that a runner may carry out exactly what the order's grant allows, on these terms. Nothing can be sent with
/// what it returns.
///
/// # Errors
/// As [`Permit::record`].
pub async fn commission(gate: &Gate, mut order: Order, terms: &Value) -> Result<Receipt, Refusal> {
    order.settle(gate, Some(terms)).await.map(|(receipt, _)| receipt)
}

/// What others have taken.
fn lost(refusal: &Refusal) -> Option<Lost> {
    if let Refusal::OverLimit(key, ..) = refusal {
        return Some(Lost::Room(key.clone()));
    }
    if let Refusal::Duplicate(holder, _) = refusal { Some(Lost::Side(holder.clone())) } else { None }
}

/// The record that takes what its grant needs, or is not made at all.
fn taking(draft: Draft, grant: &Grant, once: Option<Once>) -> Result<Draft, Refusal> {
    let reservation = |wanted: &policy::Reservation| {
        let amount = |text: &str| text.parse().map_err(|_| Refusal::OverLimit(wanted.key.clone(), None, None));
        Ok(Reservation {
            key: wanted.key.clone(),
            amount: amount(&wanted.amount)?,
            limit: amount(&wanted.limit)?,
            window_seconds: wanted.window_seconds,
        })
    };
    let reservations = grant.reservations().iter().map(reservation).collect::<Result<Vec<_>, Refusal>>()?;
    let effect = grant.once().map(|once| Once { key: once.key.clone(), digest: None, seconds: once.seconds });
    // The agent's own key first: whoever repeats it is told what became of it.
    let keys: Vec<Once> = once.into_iter().chain(effect).collect();
    Ok(draft.reserving(&reservations).once(&keys))
}
