//@ compiles
//! What everybody may do with a grant: read it.

pub fn show(grant: &policy::Grant) -> (&str, &str) {
    (grant.digest(), grant.destination())
}
