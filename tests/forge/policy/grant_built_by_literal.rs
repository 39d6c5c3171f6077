//@ error: E0451
//! An allow that no rule gave.

pub fn forge(basis: policy::Basis) -> policy::Decision {
    policy::Decision::Allow(policy::Grant { basis, ..loop {} })
}
