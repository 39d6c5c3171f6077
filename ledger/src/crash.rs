//! Named points at which a test build can kill its own process, to prove what survives.
//!
//! Without the feature `crash-points` every function here is empty. With it, `WRIT_CRASH_AT=name` (or `name:N` for the
//! N-th time the point is reached) ends the process with SIGKILL: no destructor, no flush, nothing.

#[cfg(not(feature = "crash-points"))]
use std::fs::File;

/// The points of the write path, in the order a batch passes them.
pub const POINTS: [&str; 7] = [
    "journal.before-write",
    "journal.half-written",
    "journal.written",
    "journal.synced",
    "waiters.woken",
    "store.applied",
    "checkpoint.made",
];

/// Dies here if this point is armed.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn point(_name: &str) {}

/// Dies here if this point is armed, leaving the first half of `bytes` in the file.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub(crate) fn halfway(_name: &str, _file: &mut File, _bytes: &[u8]) {}

#[cfg(feature = "crash-points")]
pub use armed::point;

#[cfg(feature = "crash-points")]
pub(crate) use armed::halfway;

#[cfg(feature = "crash-points")]
mod armed {
    use std::fs::File;
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// Dies here if this point is armed.
    pub fn point(name: &str) {
        if due(name) {
            die();
        }
    }

    /// Dies here if this point is armed, leaving the first half of `bytes` in the file.
    pub(crate) fn halfway(name: &str, file: &mut File, bytes: &[u8]) {
        if due(name) {
            let (half, _) = bytes.split_at(bytes.len() / 2);
            // The process dies either way; a write that fails leaves less than half, which is as good a test.
            drop(file.write_all(half));
            die();
        }
    }

    fn due(name: &str) -> bool {
        static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
        static HITS: AtomicU64 = AtomicU64::new(0);
        let armed = ARMED.get_or_init(|| {
            let value = std::env::var("WRIT_CRASH_AT").ok()?;
            match value.split_once(':') {
                None => Some((value, 1)),
                Some((point, hit)) => Some((point.to_owned(), hit.parse().ok()?)),
            }
        });
        let here = armed.as_ref().filter(|(point, _)| point == name);
        here.is_some_and(|(_, hit)| HITS.fetch_add(1, Ordering::Relaxed) + 1 == *hit)
    }

    fn die() -> ! {
        // A failing kill leaves the thread parked below, which a test notices as a process that does not end.
        let _ = kill(Pid::this(), Signal::SIGKILL);
        loop {
            std::thread::park();
        }
    }
}
