//! Evidence from outside: what is exported verifies, by two independent verifiers, and nothing that was changed does.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::too_many_lines,
    clippy::too_many_arguments,
    clippy::type_complexity,
    reason = "tests fail by panic, and the vectors are made from long tables of cases"
)]

mod bundle;
mod forge;
mod make;
mod story;
mod vectors;
mod verifiers;
