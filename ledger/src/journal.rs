//! The journal on disk: one file of lines per UTC day, appended and read in order.
//!
//! Knows lines, files and offsets, not what a line means, nor whether a closed day is packed. Never rewrites a byte it has written, never retries a failed
//! write or sync, and never goes back to an earlier day.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::chain::MAX_LINE;
use crate::closed::{self, Day};
use crate::crash;
use crate::durable;

/// Where a line is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// UTC day, `YYYY-MM-DD`, which names the file.
    pub(crate) day: String,
    /// Number of the line in its file, from 1.
    pub(crate) line: u64,
    /// Offset of its first byte.
    pub(crate) start: u64,
    /// Offset behind its newline.
    pub(crate) end: u64,
}

/// The end of the journal, open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    file: File,
    last: Position,
}

/// Reads lines in order, across days, in constant memory.
#[derive(Debug)]
pub(crate) struct Reader {
    dir: PathBuf,
    days: std::vec::IntoIter<String>,
    current: Option<(BufReader<Day>, Position)>,
}

/// What the reader found next.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A complete line, without its newline.
    Line(Vec<u8>, Position),
    /// A line longer than any entry.
    Long(Position),
    /// The file ends inside a line.
    Torn(Position),
}

// === impl Position ===

impl Position {
    /// Before the first line of a day.
    fn at_start(day: &str) -> Position {
        Position { day: day.to_owned(), line: 0, start: 0, end: 0 }
    }

    /// The line behind this one, if it is `bytes` long with its newline.
    fn following(&self, bytes: u64) -> Position {
        Position { day: self.day.clone(), line: self.line + 1, start: self.end, end: self.end + bytes }
    }
}

// === impl Journal ===

impl Journal {
    /// Writes the first line of a new journal into an empty folder.
    pub(crate) fn create(dir: &Path, day: &str, line: &str) -> io::Result<()> {
        let mut file = create_day(dir, day)?;
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        durable::sync_dir(dir)
    }

    /// Opens the journal behind its last line, which the caller has just read and verified.
    pub(crate) fn open(dir: &Path, last: Position) -> io::Result<Journal> {
        // A crash right after a day's file was created leaves it empty. It must not stay: should the clock go back over
        // midnight, entries of an earlier day would follow it.
        for day in days(dir)?.into_iter().filter(|day| *day > last.day) {
            std::fs::remove_file(path_of(dir, &day))?;
        }
        let file = OpenOptions::new().append(true).open(path_of(dir, &last.day))?;
        Ok(Journal { dir: dir.to_owned(), file, last })
    }

    /// Appends lines to the file of `day` and returns once they are on disk. After an error the journal must not be
    /// used again: nobody knows what the file holds, and a second `fsync` would report success for pages already lost.
    pub(crate) fn append<'a>(&mut self, day: &str, lines: impl Iterator<Item = &'a str>) -> io::Result<Position> {
        if self.last.day != day {
            self.turn_to(day)?;
        }
        self.check_untouched()?;
        let mut bytes = Vec::new();
        let mut last = self.last.clone();
        for line in lines {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
            last = last.following(line.len() as u64 + 1);
        }
        // Dying before the write loses entries nobody was told about. Dying inside or after it leaves some or all of them
        // complete, perhaps with half a line behind: the next start sets the half line aside and keeps the rest.
        crash::point("journal.before-write");
        crash::halfway("journal.half-written", &mut self.file, &bytes);
        self.file.write_all(&bytes)?;
        crash::point("journal.written");
        self.file.sync_data()?;
        // From here on the entries survive a power cut, whether or not anybody hears of them.
        crash::point("journal.synced");
        self.last = last.clone();
        Ok(last)
    }

    fn turn_to(&mut self, day: &str) -> io::Result<()> {
        self.file = create_day(&self.dir, day)?;
        // Without this a power cut could take the whole file with its synced content.
        durable::sync_dir(&self.dir)?;
        self.last = Position::at_start(day);
        Ok(())
    }

    /// A deleted file would swallow entries without an error, a truncated or extended one would tear them.
    fn check_untouched(&self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        if metadata.nlink() == 0 || metadata.len() != self.last.end {
            let path = path_of(&self.dir, &self.last.day);
            return Err(io::Error::other(format!("`{}` was changed by somebody else", path.display())));
        }
        Ok(())
    }
}

// === impl Reader ===

impl Reader {
    /// Reads the whole journal.
    pub(crate) fn from_start(dir: &Path) -> io::Result<Reader> {
        Ok(Reader { dir: dir.to_owned(), days: days(dir)?.into_iter(), current: None })
    }

    /// Reads from the line at `position` on, that line included. Whether a line starts there is for the caller to check.
    pub(crate) fn from(dir: &Path, position: &Position) -> io::Result<Reader> {
        let mut file = Day::open(dir, &position.day)?;
        file.skip(position.start)?;
        let later: Vec<String> = days(dir)?.into_iter().filter(|day| *day > position.day).collect();
        let before = Position {
            day: position.day.clone(),
            line: position.line.saturating_sub(1),
            start: position.start,
            end: position.start,
        };
        Ok(Reader { dir: dir.to_owned(), days: later.into_iter(), current: Some((BufReader::new(file), before)) })
    }

    /// Whether no file follows the one being read.
    pub(crate) fn in_last_file(&self) -> bool {
        self.days.as_slice().is_empty()
    }

    /// The next piece, or `None` at the end.
    pub(crate) fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if let Some((file, last)) = &mut self.current
                && let Some(piece) = read_piece(file, last)?
            {
                return Ok(Some(piece));
            }
            let Some(day) = self.days.next() else { return Ok(None) };
            let file = Day::open(&self.dir, &day)?;
            self.current = Some((BufReader::with_capacity(READ_BYTES, file), Position::at_start(&day)));
        }
    }
}

/// The file of a day.
pub(crate) fn path_of(dir: &Path, day: &str) -> PathBuf {
    dir.join(format!("{day}.jsonl"))
}

/// The days that have a file, in order. Everything else in the folder is no part of the journal.
pub(crate) fn days(dir: &Path) -> io::Result<Vec<String>> {
    let mut days = Vec::new();
    for entry in dir.read_dir()? {
        let name = entry?.file_name();
        let day = name.to_str().and_then(|name| name.strip_suffix(".jsonl").or(name.strip_suffix(closed::SUFFIX)));
        days.extend(day.filter(|day| day.parse::<jiff::civil::Date>().is_ok()).map(str::to_owned));
    }
    days.sort_unstable();
    // One that was being packed may be there twice.
    days.dedup();
    Ok(days)
}

fn read_piece(file: &mut BufReader<Day>, last: &mut Position) -> io::Result<Option<Piece>> {
    let mut line = Vec::new();
    let mut bytes = file.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line)? as u64;
    let mut complete = line.pop_if(|byte| *byte == b'\n').is_some();
    if bytes == 0 {
        return Ok(None);
    }
    let long = !complete && bytes > MAX_LINE as u64;
    if long {
        let (skipped, ended) = skip_line(file)?;
        bytes += skipped;
        complete = ended;
    }
    *last = last.following(bytes);
    Ok(Some(match (complete, long) {
        (false, _) => Piece::Torn(last.clone()),
        (true, false) => Piece::Line(line, last.clone()),
        (true, true) => Piece::Long(last.clone()),
    }))
}

/// Skips to behind the next newline: how many bytes, and whether there was one.
fn skip_line(file: &mut BufReader<Day>) -> io::Result<(u64, bool)> {
    let mut skipped = 0;
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok((skipped, false));
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(buffer.len(), |index| index + 1);
        file.consume(used);
        skipped += used as u64;
        if newline.is_some() {
            return Ok((skipped, true));
        }
    }
}

/// A file that exists already was not made by this writer, so it is an error, not something to append to.
fn create_day(dir: &Path, day: &str) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(path_of(dir, day))
}

/// Reading ahead this much keeps a whole walk bound by parsing, not by system calls.
const READ_BYTES: usize = 256 * 1024;
