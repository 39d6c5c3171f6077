//! Ways that once led past the gate, or kept its people out of it. Each is tried again here and must come to nothing.

use crate::harness::connection::{Connection, Response};
use crate::harness::gate::{Gate, Plan};
use crate::harness::origin::Origin;
use crate::harness::world::API;

mod crowds;
mod decisions;
mod files;
mod journal;

/// A gate with the API behind it.
fn api() -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let gate = Plan::new().origin(API, &origin).start();
    (origin, gate)
}

/// GET of a page of the operator door.
fn page(gate: &Gate, token: &str, path: &str) -> std::io::Result<Response> {
    let mut connection = Connection::open(gate.operator);
    let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\r\n", gate.operator);
    connection.send(head.as_bytes());
    connection.answer()
}

/// The token of the operator that the first run made.
fn operator_token(gate: &Gate) -> String {
    std::fs::read_to_string(gate.home().join("operator.token")).unwrap().trim().to_owned()
}

/// The state of an intent as operators see it, whatever became of its agent.
fn status(gate: &Gate, intent: &str) -> String {
    page(gate, &operator_token(gate), &format!("/v1/intents/{intent}")).unwrap().text_at("/status")
}

/// Waits at most `seconds` for an intent to be decided and done, and says where it stands then.
fn status_within(gate: &Gate, intent: &str, seconds: u64) -> String {
    gate.agent().get(&format!("http://writ.internal/v1/intents/{intent}?wait={seconds}")).text_at("/status")
}
