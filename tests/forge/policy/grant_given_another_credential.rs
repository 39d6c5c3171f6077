//@ error: E0616
//! A grant whose credential is swapped after the decision.

pub fn swap(grant: &mut policy::Grant) {
    grant.credential = Some("root".to_owned());
}
