//! The gate from outside: the real program, real sockets, and a server behind it that tells what reached it.
//!
//! One binary for all of it; each file is one theme. Nothing here looks into the gate's memory, but for what must not be there.

#[cfg(test)]
#[expect(dead_code, reason = "it serves another test binary too, and not all of it is needed here")]
mod harness;

#[cfg(test)]
mod answers;
#[cfg(test)]
mod approval;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod budgets;
#[cfg(test)]
mod canaries;
#[cfg(test)]
mod client_certificates;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod declared;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod echoes;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod forgery;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod injection;
#[cfg(test)]
mod language;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod notifications;
#[cfg(test)]
mod oauth2;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod order;
#[cfg(test)]
mod placeholders;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod races;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod reverse;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod shadow;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod standing;
#[cfg(test)]
mod start;
#[cfg(test)]
mod starter;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod volume;
#[cfg(test)]
mod witness;
