//@ error: E0277
//! Two grants from one decision.

pub fn double(grant: &policy::Grant) -> policy::Grant {
    Clone::clone(grant)
}
