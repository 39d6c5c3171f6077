//! Verification: walks a journal with nothing but the files, and says where it first breaks.
//!
//! Takes no lock, opens no database, writes nothing. A chain shows every change inside it; that its end is missing, or
//! that all of it was written anew, shows only against a head known from elsewhere.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::chain::{Entry, Flaw, Link, MAX_LINE, Walker};
use crate::event::Event;
use crate::home::Home;
use crate::journal::{self, Piece, Position, Reader};

/// What a whole journal turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Number of entries.
    pub entries: u64,
    /// Hash of the last entry.
    pub head_hash: String,
    /// Time of the first entry.
    pub first_ts: Timestamp,
    /// Time of the last entry.
    pub last_ts: Timestamp,
    /// Origin named by entry 0.
    pub origin: String,
}

/// Where and why a journal does not verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// An entry does not follow from the one before it.
    #[error("`{}` line {line}: entry {seq} {flaw}; restore the journal from a copy", .file.display())]
    Broken {
        /// The file of the day.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Number of the entry that should be there.
        seq: u64,
        /// What was expected and what was found.
        flaw: Flaw,
    },
    /// There is no entry at all.
    #[error("`{}` holds no entry; restore the journal from a copy", .dir.display())]
    Empty {
        /// The folder of the journal.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read the journal in `{}`: {source}", .dir.display())]
    Read {
        /// The folder of the journal.
        dir: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A file ends inside a line. In the newest file that is what a crash leaves, and the next start sets it aside.
    #[error(
        "`{}` line {line}: entry {seq} is cut off after {bytes} bytes; a start of the gate sets a cut last line aside, \
         anywhere else restore the journal from a copy", .file.display()
    )]
    Torn {
        /// The file of the day.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Number of the entry that should be there.
        seq: u64,
        /// Offset of the line.
        start: u64,
        /// What there is of the line.
        bytes: u64,
    },
}

/// A walk along the journal on disk: the reader's lines checked by the walker.
#[derive(Debug)]
pub(crate) struct Walk {
    dir: PathBuf,
    reader: Reader,
    walker: Walker,
}

// === impl Walk ===

impl Walk {
    /// Walks from entry 0.
    pub(crate) fn from_start(dir: &Path) -> Result<Walk, VerifyError> {
        let reader = Reader::from_start(dir).map_err(|source| VerifyError::Read { dir: dir.to_owned(), source })?;
        Ok(Walk { dir: dir.to_owned(), reader, walker: Walker::from_start() })
    }

    /// Walks from the line at `position`, whose predecessor is `before`.
    pub(crate) fn from(dir: &Path, position: &Position, before: Option<Link>) -> Result<Walk, VerifyError> {
        let reader = Reader::from(dir, position).map_err(|source| VerifyError::Read { dir: dir.to_owned(), source })?;
        Ok(Walk { dir: dir.to_owned(), reader, walker: before.map_or_else(Walker::from_start, Walker::behind) })
    }

    /// Whether no file follows the one being walked.
    pub(crate) fn in_last_file(&self) -> bool {
        self.reader.in_last_file()
    }

    /// The next entry and where it is, or `None` at the end.
    pub(crate) fn step(&mut self) -> Result<Option<(Entry, Position)>, VerifyError> {
        let seq = self.walker.expected_seq();
        let piece = self.reader.next_piece().map_err(|source| VerifyError::Read { dir: self.dir.clone(), source })?;
        match piece {
            None => Ok(None),
            Some(Piece::Line(bytes, position)) => match self.check(bytes, &position) {
                Ok(entry) => Ok(Some((entry, position))),
                Err(flaw) => Err(self.broken(&position, seq, flaw)),
            },
            Some(Piece::Long(position)) => Err(self.broken(&position, seq, Flaw::Long { limit: MAX_LINE })),
            Some(Piece::Torn(position)) => Err(VerifyError::Torn {
                file: journal::path_of(&self.dir, &position.day),
                line: position.line,
                seq,
                start: position.start,
                bytes: position.end - position.start,
            }),
        }
    }

    fn check(&mut self, bytes: Vec<u8>, position: &Position) -> Result<Entry, Flaw> {
        let line = String::from_utf8(bytes).map_err(|error| Flaw::Malformed { detail: error.to_string() })?;
        let event = self.walker.step(&line)?;
        let day = day_of(event.ts);
        if day != position.day {
            return Err(Flaw::Day { expected: position.day.clone(), found: day });
        }
        Ok(Entry { event, line })
    }

    fn broken(&self, position: &Position, seq: u64, flaw: Flaw) -> VerifyError {
        let file = journal::path_of(&self.dir, &position.day);
        VerifyError::Broken { file, line: position.line, seq, flaw }
    }
}

/// Verifies the whole journal of a data directory, from entry 0 to its end.
pub fn verify(dir: &Path) -> Result<Verified, VerifyError> {
    match survey(&Home::new(dir).events(), u64::MAX)? {
        (verified, None) => Ok(verified),
        (_, Some(torn)) => Err(torn),
    }
}

/// Verifies up to entry `until`. A torn line at the very end, as a crash leaves it, is given beside the result.
pub(crate) fn survey(events: &Path, until: u64) -> Result<(Verified, Option<VerifyError>), VerifyError> {
    let mut walk = Walk::from_start(events)?;
    let (first, _) = walk.step()?.ok_or(VerifyError::Empty { dir: events.to_owned() })?;
    let mut verified = Verified {
        entries: 1,
        head_hash: first.event.entry_hash.clone(),
        first_ts: first.event.ts,
        last_ts: first.event.ts,
        origin: origin_of(&first.event),
    };
    while verified.entries <= until {
        match walk.step() {
            Err(torn @ VerifyError::Torn { .. }) if walk.in_last_file() => return Ok((verified, Some(torn))),
            Err(error) => return Err(error),
            Ok(None) => break,
            Ok(Some((entry, _))) => {
                verified.entries += 1;
                verified.head_hash = entry.event.entry_hash;
                verified.last_ts = entry.event.ts;
            }
        }
    }
    Ok((verified, None))
}

/// The origin that entry 0 names.
pub(crate) fn origin_of(created: &Event) -> String {
    created.text("origin").unwrap_or_default().to_owned()
}

/// The UTC day of a time, which names the file of its entries.
pub(crate) fn day_of(ts: Timestamp) -> String {
    Offset::UTC.to_datetime(ts).date().to_string()
}
