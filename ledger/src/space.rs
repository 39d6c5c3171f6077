//! The free space that is kept for what must still be recorded once there is little left.
//!
//! A full disk closes the ledger, and with it everything. So what opens something new is refused before that; how open
//! things end, what reviewers say and what is refused still has room.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use crate::append::AppendError;
use crate::kind::EventType;

/// What is free on the ledger's disk, and what of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes to be kept free: with less, nothing new is begun.
    pub reserve: u64,
}

/// How much space there is, looked at now and then.
#[derive(Debug)]
pub(crate) struct Space {
    dir: PathBuf,
    /// Bytes to be kept free.
    reserve: u64,
    free: u64,
    looked: Option<Instant>,
}

// === impl Space ===

impl Space {
    pub(crate) fn new(dir: PathBuf, reserve: u64) -> Space {
        Space { dir, reserve, free: 0, looked: None }
    }

    /// Looks again if the last look was some time ago.
    pub(crate) fn look(&mut self) {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.free = free(&self.dir);
            self.looked = Some(Instant::now());
        }
    }

    /// Refuses what opens something new when there is little left.
    pub(crate) fn check(&self, kind: EventType) -> Result<(), AppendError> {
        let opens = matches!(
            kind,
            EventType::ActionExecuting
                | EventType::ActionRequested
                | EventType::DecisionAllowed
                | EventType::DecisionApprovalRequired
        );
        if opens && self.free < self.reserve {
            let dir = self.dir.display().to_string();
            return Err(AppendError::NoSpace { dir, free: self.free, reserve: self.reserve });
        }
        Ok(())
    }
}

/// Bytes free where `dir` is. Where that cannot be read there is nothing; the next write says why.
pub(crate) fn free(dir: &Path) -> u64 {
    statvfs(dir).map_or(0, |found| found.blocks_available().saturating_mul(found.fragment_size()))
}

/// Between two looks the journal cannot grow by more than any sensible reserve.
const LOOK_EVERY: Duration = Duration::from_secs(1);
