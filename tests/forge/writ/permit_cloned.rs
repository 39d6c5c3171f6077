//@ error: E0277
//! Two sends for one record.

pub fn double(permit: &writ::permit::Permit) -> writ::permit::Permit {
    Clone::clone(permit)
}
