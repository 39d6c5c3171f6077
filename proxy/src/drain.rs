//! The end of a gate: no new work, what is under way gets its time, the ledger is closed last.

use std::sync::Arc;
use std::time::Duration;

use ledger::{Draft, EventType};
use sd_notify::NotifyState;

use crate::gate::Gate;
use crate::limits::Limits;

/// Ends orderly: requests and executions get their time, which `hurry` cuts short. What waits for a reviewer stays.
pub async fn shut_down(gate: Arc<Gate>, hurry: impl Future<Output = ()>) {
    tell_systemd(NotifyState::Stopping);
    gate.stop.cancel();
    gate.connections.close();
    gate.tasks.close();
    let (connections, executions) = (gate.connections.len(), gate.tasks.len());
    tracing::info!(connections, executions, "ending");
    let drained = async {
        // A request that is still being read may begin an execution; no execution begins a request.
        gate.connections.wait().await;
        gate.tasks.wait().await;
    };
    let is_drained = tokio::select! {
        () = drained => true,
        () = tokio::time::sleep(Limits::seconds(gate.limits.drain_seconds)) => false,
        () = hurry => false,
    };
    if !is_drained {
        let (connections, executions) = (gate.connections.len(), gate.tasks.len());
        tracing::warn!(connections, executions, "cut off; what was sent is recorded as unknown at the next start");
    }
    // A collector that hangs must not keep the ledger open.
    drop(tokio::time::timeout(FLUSH, gate.spans.flush()).await);
    let mut last = gate.refusals.due(true);
    last.push(Draft::new(EventType::GateStopped));
    if let Err(error) = gate.ledger.append(last).await {
        tracing::error!(%error, "the end could not be recorded");
    }
    let ledger = gate.ledger.clone();
    drop(gate);
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || ledger.close()).await {
        tracing::error!(%error, "the ledger could not be closed");
    }
}

/// Tells the service manager, where there is one (sd_notify(3)).
pub(crate) fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Time for the last spans.
const FLUSH: Duration = Duration::from_secs(3);
