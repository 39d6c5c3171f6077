//@ error: E0603
//! The steps behind the one way out, used without it.

pub use writ::upstream::dial;
