//@ error: E0423
//! A lease that no vault gave.

pub fn forge() -> vault::Lease {
    vault::Lease(loop {})
}
