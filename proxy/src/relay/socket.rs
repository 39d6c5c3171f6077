//! A reply that hands the connection over to a WebSocket: told to the agent, then carried to its end.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, Version};
use hyper::upgrade::{self, OnUpgrade};
use serde_json::{Value, json};

use super::{Slot, relayed_headers};
use crate::body::Reply;
use crate::credential::HANDING_OUT;
use crate::gate::Gate;
use crate::inject::Guard;
use crate::record::{self, Outcome, Ticket};
use crate::scrub::Scrubber;
use crate::upstream;
use crate::websocket::{self, ECHOED, Socket};

/// Hands both connections over and carries what comes, until it ends. The leg stays taken for as long.
pub(super) async fn hand_over(
    (gate, ticket): (&Gate, &Ticket),
    reply: upstream::Reply,
    (slot, client): (Slot, OnUpgrade),
    (credential, guard): (Value, Option<Guard>),
) -> Outcome {
    let upstream::Reply { response, leg } = reply;
    let mut told = Response::new(Reply::Whole(None));
    *told.status_mut() = response.status();
    *told.version_mut() = Version::HTTP_11;
    *told.headers_mut() = relayed_headers(response.headers(), ticket);
    websocket::confirm(told.headers_mut());
    let needles = guard.and_then(|guard| {
        let kept = |name: &&&str| !guard.passing.contains(**name);
        HANDING_OUT.iter().filter(kept).for_each(|name| drop(told.headers_mut().remove(*name)));
        let needles = guard.needles?;
        Scrubber::new(Arc::clone(&needles)).scrub_headers(told.headers_mut());
        Some(needles)
    });
    let data = |ended: Option<&str>, passed: Value| json!({"status": 101, "credential": credential, "websocket": passed, "ended": ended});
    let switched = async {
        let upstream = upgrade::on(response).await.map_err(|_| "upstream_gone")?;
        slot.send(Ok(told)).map_err(|_| "client_gone")?;
        Ok((client.await.map_err(|_| "client_gone")?, upstream))
    };
    let both = match tokio::time::timeout(SWITCH, switched).await {
        Ok(both) => both,
        Err(_) => Err("client_gone"),
    };
    let (agent, upstream) = match both {
        Ok(both) => both,
        Err(ended) => return Outcome::Executed(data(Some(ended), Value::Null)),
    };
    let passed = Socket::between(agent, upstream).carry(gate, ticket, needles.as_ref()).await;
    drop(leg);
    if passed.why == Some(ECHOED) {
        record::append_or_log(&gate.ledger, ticket.violation("secret_echoed", "CRITICAL")).await;
    }
    Outcome::Executed(data(passed.why, passed.told()))
}

/// For both sides to be handed over.
const SWITCH: Duration = Duration::from_secs(10);
