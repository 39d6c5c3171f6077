//! What every test stands on: a gate, an agent, and a server behind the gate.

pub(crate) mod agent;
pub(crate) mod connection;
pub(crate) mod gate;
pub(crate) mod origin;
mod plan;
mod reply;
pub(crate) mod trace;
pub(crate) mod world;
