//@ compiles
//! The one way out, used as it is meant.

use writ::gate::Gate;
use writ::inject::Injected;
use writ::permit::Permit;
use writ::upstream::{self, Progress};

pub async fn send(gate: &Gate, permit: Permit, injected: Injected, progress: &Progress) -> bool {
    upstream::send(gate, permit, injected, progress).await.is_ok()
}
