//! What becomes of appends when the writer is busy or gone.

use std::sync::Barrier;

use super::*;
use crate::kind::EventType;

#[test]
fn a_full_queue_refuses_at_once_and_recovers() {
    let home = tempfile::tempdir().unwrap();
    Ledger::create(home.path(), "example.com/test").unwrap();
    let ledger = Ledger::open(Options { dir: home.path().to_owned(), queue: 2, reserve_bytes: 0 }).unwrap();
    let draft = || vec![Draft::new(EventType::GateStarted)];
    let barrier = Arc::new(Barrier::new(2));
    let writer = Arc::clone(&barrier);
    // The writer calls this answer and then waits, twice, for this thread: no group can be taken in between.
    let hold = move |answer: Result<Recorded, AppendError>| {
        writer.wait();
        writer.wait();
        drop(answer);
    };
    ledger.submit(draft(), Urgency::Now, Box::new(hold)).unwrap();
    barrier.wait();
    for _ in 0..2 {
        ledger.submit(draft(), Urgency::Now, Box::new(drop)).unwrap();
    }
    assert!(matches!(ledger.append_blocking(draft()), Err(AppendError::Busy)));
    assert_eq!(ledger.latched(), None);
    barrier.wait();
    // What was queued is recorded, and nothing of what was refused.
    ledger.clone().close().unwrap();
    assert_eq!(ledger.head().seq, 3);
}

#[test]
fn a_writer_that_dies_closes_the_ledger() {
    let home = tempfile::tempdir().unwrap();
    Ledger::create(home.path(), "example.com/test").unwrap();
    let open = || Ledger::open(Options { dir: home.path().to_owned(), queue: 64, reserve_bytes: 0 }).unwrap();
    let draft = || vec![Draft::new(EventType::GateStarted)];
    let ledger = open();
    ledger.submit(draft(), Urgency::Now, Box::new(|_| panic!("the writer dies here"))).unwrap();
    // Whether this one is still queued or comes too late, it is refused and nobody waits for ever.
    assert!(matches!(ledger.append_blocking(draft()), Err(AppendError::Latched(_))));
    assert!(ledger.clone().close().is_err());
    assert_eq!(ledger.latched().as_deref(), Some("the writer stopped unexpectedly"));
    drop(ledger);
    // The entry whose answer was lost was durable before, and so is the second if it was in the same group.
    assert!((1..=2).contains(&open().head().seq));
}
