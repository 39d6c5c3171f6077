//@ error: E0451
//! A permit without a record.

pub fn forge() -> writ::permit::Permit {
    writ::permit::Permit { ..loop {} }
}
