//@ error: E0603
//! A lease that no vault gave.

pub fn forge() -> vault::Lease {
    vault::Lease(loop {})
}
