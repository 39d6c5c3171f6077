//@ error: E0382
//! One record, two sends.

use writ::gate::Gate;
use writ::inject::Injected;
use writ::permit::Permit;
use writ::upstream::{self, Progress};

pub async fn send(gate: &Gate, permit: Permit, progress: &Progress) {
    drop(upstream::send(gate, permit, Injected::default(), progress).await);
    drop(upstream::send(gate, permit, Injected::default(), progress).await);
}
