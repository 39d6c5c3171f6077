//! Evidence from outside: what is exported verifies, by two independent verifiers, and nothing that was changed does.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panic")]

mod bundle;
mod forge;
mod make;
mod story;
mod vectors;
mod verifiers;
