//! The gate as those see it who keep it running: its probes, its counters, and how it ends.

use crate::harness::connection::{Connection, Response};
use crate::harness::gate::Gate;

mod drain;
mod health;
mod metrics;
mod mounted;
mod pages;
mod process;
mod prometheus;
mod streams;
mod watch;

/// GET of a page of the operator door, under whatever name.
fn look(gate: &Gate, host: &str, token: Option<&str>, path: &str) -> Response {
    let mut connection = Connection::open(gate.operator);
    let credential = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    connection.ask(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{credential}\r\n"))
}
