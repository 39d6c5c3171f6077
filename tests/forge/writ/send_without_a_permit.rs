//@ error: E0308
//! A send of a request that was only read, not recorded.

use writ::gate::Gate;
use writ::inject::Injected;
use writ::permit::Permit;
use writ::upstream::{self, Progress};

pub async fn send(gate: &Gate, permit: &Permit, progress: &Progress) -> bool {
    upstream::send(gate, permit.facts().clone(), Injected::default(), progress).await.is_ok()
}
