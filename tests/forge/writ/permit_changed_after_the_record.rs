//@ error: E0616
//! The request in a permit, replaced after it was recorded.

pub fn redirect(permit: &mut writ::permit::Permit) {
    permit.facts.path = "/elsewhere".to_owned();
}
