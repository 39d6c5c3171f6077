//! Wakes the pages: an event stream (WHATWG server-sent events) that says *that* something changed, never what.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::sse::{Event, KeepAlive, Sse};
use ledger::State;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use crate::gate::Gate;

/// One event for what is there now, one for each change after it, a few a second at most.
pub(super) async fn stream(
    Shared(gate): Shared<Arc<Gate>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut changes = gate.ledger.subscribe();
        loop {
            let seq = *changes.borrow_and_update();
            let waiting = gate.ledger.intents(&[State::Held], usize::MAX).len();
            let data = json!({"seq": seq, "waiting": waiting}).to_string();
            let told = sender.send(Ok(Event::default().event("changed").data(data))).await;
            let next = async {
                tokio::time::sleep(PAUSE).await;
                changes.changed().await
            };
            tokio::select! {
                changed = next => if changed.is_err() || told.is_err() { return },
                () = gate.stop.cancelled() => return,
                () = sender.closed() => return,
            }
        }
    });
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

/// Between two events; many changes at once wake a page once.
const PAUSE: Duration = Duration::from_millis(250);
