//! Verification: walks a journal with nothing but the files, and says where it first breaks.
//!
//! Takes no lock, opens no database, writes nothing. A chain shows every change inside it; that its end is missing, or
//! that all of it was written anew, shows only against a checkpoint, and for sure only against one kept elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::chain::{Entry, Flaw, Link, MAX_LINE, Walker};
use crate::checkpoint::Checkpoint;
use crate::event::Event;
use crate::evidence::keys::Keys;
use crate::home::Home;
use crate::journal::{self, Piece, Position, Reader};
use crate::note::Note;
use crate::tree::{Edge, Hash};

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
    /// A checkpoint is not one of this ledger.
    #[error("the checkpoint is not one of this ledger: {why}")]
    Checkpoint {
        /// What is wrong with it.
        why: String,
    },
    /// Entries that a checkpoint was made of are not there.
    #[error(
        "the checkpoint is of {claimed} entries but the journal has {found}: entries {found} to {} are missing; restore \
         the journal from a copy", .claimed - 1
    )]
    Cut {
        /// Entries there once were.
        claimed: u64,
        /// Entries there are.
        found: u64,
    },
    /// The entries are not those that a checkpoint was made of.
    #[error(
        "the first {size} entries have root `{found}` but the checkpoint says `{claimed}`: the journal was rewritten"
    )]
    Rewritten {
        /// Entries the checkpoint is of.
        size: u64,
        /// Their root in the checkpoint.
        claimed: Hash,
        /// Their root now.
        found: Hash,
    },
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

/// Checkpoints, and what the entries amount to where each of them was made.
#[derive(Debug, Default)]
struct Claims {
    edge: Edge,
    keys: Keys,
    /// By size: the notes of it, and the root the entries have there.
    sizes: BTreeMap<u64, (Vec<Note>, Option<Hash>)>,
}

/// A walk along the journal on disk: the reader's lines checked by the walker.
#[derive(Debug)]
pub(crate) struct Walk {
    dir: PathBuf,
    reader: Reader,
    walker: Walker,
}

// === impl Claims ===

impl Claims {
    fn add(&mut self, note: Note) -> Result<(), VerifyError> {
        let size = Checkpoint::of(&note).map_err(|error| VerifyError::Checkpoint { why: error.to_string() })?.size;
        self.sizes.entry(size).or_default().0.push(note);
        Ok(())
    }

    fn take(&mut self, entry: &Entry) {
        self.edge.push(Hash::of_leaf(entry.line.as_bytes()));
        // A rotation that is not right names no key, and what it signs is then of nobody known.
        drop(self.keys.take(&entry.event));
        if let Some((_, root)) = self.sizes.get_mut(&self.edge.size()) {
            *root = Some(self.edge.root());
        }
    }

    fn check(&self, verified: &Verified) -> Result<(), VerifyError> {
        let notes = self.sizes.values().flat_map(|(notes, found)| notes.iter().map(move |note| (note, *found)));
        for (note, found) in notes {
            self.check_one(note, found, verified)?;
        }
        Ok(())
    }

    /// `found` is the root that the entries have at the note's size, if there are so many.
    fn check_one(&self, note: &Note, found: Option<Hash>, verified: &Verified) -> Result<(), VerifyError> {
        let claimed = Checkpoint::of(note).map_err(|error| VerifyError::Checkpoint { why: error.to_string() })?;
        if claimed.origin != verified.origin || !self.keys.known().iter().any(|key| note.verify(key).is_ok()) {
            let why = format!("it is of `{}`, signed by none of the keys of `{}`", claimed.origin, verified.origin);
            return Err(VerifyError::Checkpoint { why });
        }
        match found {
            None => Err(VerifyError::Cut { claimed: claimed.size, found: verified.entries }),
            Some(found) if found != claimed.root => {
                Err(VerifyError::Rewritten { size: claimed.size, claimed: claimed.root, found })
            }
            Some(_) => Ok(()),
        }
    }
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

/// Verifies the whole journal of a data directory, from entry 0 to its end, and against its newest checkpoint.
pub fn verify(dir: &Path) -> Result<Verified, VerifyError> {
    verify_against(dir, &[])
}

/// [`verify`], and against checkpoints that somebody kept elsewhere.
pub fn verify_against(dir: &Path, held: &[Note]) -> Result<Verified, VerifyError> {
    let home = Home::new(dir);
    let mut claims = Claims::default();
    if let Ok(bytes) = std::fs::read(home.newest()) {
        let own = Note::parse(&bytes).map_err(|error| VerifyError::Checkpoint { why: error.to_string() })?;
        claims.add(own)?;
    }
    held.iter().try_for_each(|note| claims.add(note.clone()))?;
    let (verified, torn) = survey_each(&home.events(), u64::MAX, |entry| claims.take(entry))?;
    claims.check(&verified)?;
    torn.map_or(Ok(verified), Err)
}

/// Verifies up to entry `until`. A torn line at the very end, as a crash leaves it, is given beside the result.
pub(crate) fn survey(events: &Path, until: u64) -> Result<(Verified, Option<VerifyError>), VerifyError> {
    survey_each(events, until, |_| {})
}

/// [`survey`], with every entry shown to `visit`.
fn survey_each(
    events: &Path,
    until: u64,
    mut visit: impl FnMut(&Entry),
) -> Result<(Verified, Option<VerifyError>), VerifyError> {
    let mut walk = Walk::from_start(events)?;
    let (first, _) = walk.step()?.ok_or(VerifyError::Empty { dir: events.to_owned() })?;
    let mut verified = Verified {
        entries: 1,
        head_hash: first.event.entry_hash.clone(),
        first_ts: first.event.ts,
        last_ts: first.event.ts,
        origin: origin_of(&first.event),
    };
    visit(&first);
    while verified.entries <= until {
        match walk.step() {
            Err(torn @ VerifyError::Torn { .. }) if walk.in_last_file() => return Ok((verified, Some(torn))),
            Err(error) => return Err(error),
            Ok(None) => break,
            Ok(Some((entry, _))) => {
                visit(&entry);
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
