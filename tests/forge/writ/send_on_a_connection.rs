//@ error: E0624
//! A connection to an upstream is no way around the permit: only the sender writes to it.

/// The way in.
pub fn forge() {
    let _ = writ::pool::Leg::send;
}
