//@ compiles
//! What everybody may do with a receipt: read it.

pub fn show(receipt: &ledger::Receipt) -> (u64, &str) {
    (receipt.seq(), receipt.entry_hash())
}
