//@ error: E0308
//! A send that leaves the permit behind for another one.

use writ::gate::Gate;
use writ::inject::Injected;
use writ::permit::Permit;
use writ::upstream::{self, Progress};

pub async fn send(gate: &Gate, permit: &Permit, progress: &Progress) -> bool {
    upstream::send(gate, permit, Injected::default(), progress).await.is_ok()
}
