//! A reply on its way to a connection that waits for it, as it comes.
//!
//! An agent that is suspended, or stopped by a kill switch, gets no more of a reply that is under way.

use http::Response;
use http::response::Parts;
use tokio::sync::mpsc;

use super::source::Source;
use super::{PARTS, Slot, Tally};
use crate::agent;
use crate::body::{Part, Reply};
use crate::gate::Gate;
use crate::limits::Limits;
use crate::permit::check_switches;
use crate::record::Ticket;

/// Hands a short reply over whole; of others the head, then the parts as they come. An error says how the reply ended
/// early; the client is then left without the end, and knows that it has not all.
pub(super) async fn live(
    (gate, ticket): (&Gate, &Ticket),
    slot: Slot,
    head: Parts,
    source: &mut Source<'_>,
    tally: &mut Tally<'_>,
) -> Result<(), &'static str> {
    // Most replies are here as a whole with their head: then the connection is woken once and writes once.
    let first = tokio::select! {
        biased;
        part = source.next() => Some(part),
        () = std::future::ready(()) => None,
    };
    match first {
        Some(Ok(Part::Data(whole))) if source.is_end_stream() && whole.len() as u64 <= gate.limits.reply_bytes => {
            let whole = tally.admit(gate, whole).await?;
            slot.send(Ok(Response::from_parts(head, Reply::from(whole)))).map_err(|_| "client_gone")
        }
        first => {
            let (parts, reply) = mpsc::channel(PARTS);
            // A closed slot is found again by the first part that nobody takes.
            drop(slot.send(Ok(Response::from_parts(head, Reply::Stream(reply)))));
            stream((gate, ticket), first, source, &parts, tally).await
        }
    }
}

async fn stream(
    (gate, ticket): (&Gate, &Ticket),
    mut first: Option<Result<Part, &'static str>>,
    source: &mut Source<'_>,
    parts: &mpsc::Sender<Part>,
    tally: &mut Tally<'_>,
) -> Result<(), &'static str> {
    let mut tightened = gate.tightened.subscribe();
    // What happened before is seen too: somebody may have been stopped since the permit was recorded.
    tightened.mark_changed();
    loop {
        let mut part = match first.take() {
            Some(part) => part?,
            None => tokio::select! {
                part = source.next() => part?,
                // A client that goes away while the upstream is silent must not keep it, nor the memory it takes.
                () = parts.closed() => return Err("client_gone"),
                Ok(()) = tightened.changed() => {
                    check_stopped(gate, ticket)?;
                    continue;
                }
            },
        };
        source.tell().await;
        if let Part::Data(data) = part {
            part = Part::Data(tally.admit(gate, data).await?);
        }
        let last = matches!(part, Part::End);
        let unread = Limits::seconds(gate.limits.write_seconds);
        match tokio::time::timeout(unread, parts.send(part)).await {
            Ok(Ok(())) if last => return Ok(()),
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err("client_gone"),
            Err(_) => return Err("client_stalled"),
        }
    }
}

/// Whether its agent is still served, and nobody has stopped what it is for.
///
/// # Errors
/// The word for how it ends.
pub(crate) fn check_stopped(gate: &Gate, ticket: &Ticket) -> Result<(), &'static str> {
    let (rulebook, key) = (gate.rulebook(), ticket.destination());
    // The key of a call stands for itself and for its destination.
    let base = rulebook.rules.destinations().find(|destination| destination.is_called(key));
    let base = base.map_or(key, |destination| destination.key.as_str());
    let served = agent::still_served(&gate.principals, ticket.agent());
    let allowed = served.and_then(|()| check_switches(gate, ticket.agent(), [key, base]));
    allowed.map_err(|_| "stopped")
}
