//! Closed days: their files packed with zstd, and read as if they were not.
//!
//! Packing changes no entry. A file is there in one form or the other at any time, and it is not removed before what
//! stands for it was read back. The newest file is never packed: the writer may still append to it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::durable;
use crate::home::Home;
use crate::journal::{days, path_of};

/// A day that was packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// UTC day, `YYYY-MM-DD`.
    pub day: String,
    /// Bytes of its lines.
    pub bytes: u64,
    /// Bytes of the file that holds them now.
    pub packed: u64,
}

/// Why a day cannot be packed.
#[derive(Debug, thiserror::Error)]
#[error("cannot pack `{}`: {source}", .path.display())]
pub struct ArchiveError {
    /// Its file.
    path: PathBuf,
    /// What went wrong.
    source: io::Error,
}

/// The bytes of a day, however they are kept.
#[derive(Debug)]
pub(crate) enum Day {
    Packed(Pieces),
    Plain(File),
}

/// Frames of zstd one behind the other, each taken whole.
#[derive(Debug)]
pub(crate) struct Pieces {
    path: PathBuf,
    file: BufReader<File>,
    piece: Cursor<Vec<u8>>,
}

/// Packs every day of the journal in `dir` but the newest. Works beside a running gate.
///
/// # Errors
/// [`ArchiveError`]; the days before are packed, that one is as it was.
pub fn archive(dir: &Path) -> Result<Vec<Archived>, ArchiveError> {
    let events = Home::new(dir).events();
    let failed = |path: PathBuf| move |source| ArchiveError { path, source };
    let mut closed = days(&events).map_err(failed(events.clone()))?;
    closed.pop();
    closed.retain(|day| path_of(&events, day).exists());
    let pack = |day: String| pack(&events, &day).map_err(failed(path_of(&events, &day)));
    closed.into_iter().map(pack).collect()
}

fn pack(events: &Path, day: &str) -> io::Result<Archived> {
    let plain = path_of(events, day);
    let name = format!("{day}{SUFFIX}");
    durable::write_by(events, &name, |packed| {
        let mut lines = File::open(&plain)?;
        loop {
            let mut piece = Vec::new();
            if (&mut lines).take(PIECE_BYTES).read_to_end(&mut piece)? == 0 {
                return Ok(());
            }
            packed.write_all(&compress_to_vec(piece.as_slice(), CompressionLevel::Fastest))?;
        }
    })?;
    let bytes = compare(BufReader::new(File::open(&plain)?), BufReader::new(Pieces::open(events.join(&name))?))?;
    fs::remove_file(&plain)?;
    durable::sync_dir(events)?;
    Ok(Archived { day: day.to_owned(), bytes, packed: events.join(&name).metadata()?.len() })
}

/// How many bytes there are, if they are the same.
fn compare(mut one: impl BufRead, mut other: impl BufRead) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left.get(..length) != right.get(..length) || left.is_empty() != right.is_empty() {
            return Err(io::Error::other("what was packed does not unpack to the same"));
        }
        if length == 0 {
            return Ok(bytes);
        }
        one.consume(length);
        other.consume(length);
        bytes += length as u64;
    }
}

// === impl Day ===

impl Day {
    /// Opens the file of a day.
    pub(crate) fn open(events: &Path, day: &str) -> io::Result<Day> {
        match File::open(path_of(events, day)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Packed meanwhile, or long ago; if it is not there either, the lines are missed under their own name.
                Pieces::open(events.join(format!("{day}{SUFFIX}"))).map(Day::Packed).map_err(|_| error)
            }
            opened => opened.map(Day::Plain),
        }
    }

    /// Goes on behind the first `bytes`.
    pub(crate) fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self {
            Day::Packed(pieces) => io::copy(&mut pieces.take(bytes), &mut io::sink()).map(drop),
            Day::Plain(file) => file.seek(SeekFrom::Start(bytes)).map(drop),
        }
    }
}

impl Read for Day {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Day::Packed(pieces) => pieces.read(buffer),
            Day::Plain(file) => file.read(buffer),
        }
    }
}

// === impl Pieces ===

impl Pieces {
    fn open(path: PathBuf) -> io::Result<Pieces> {
        Ok(Pieces { file: BufReader::new(File::open(&path)?), path, piece: Cursor::default() })
    }

    fn next_piece(&mut self) -> io::Result<Vec<u8>> {
        let damaged = |what: String| io::Error::other(format!("`{}` is damaged: {what}", self.path.display()));
        let mut frame = StreamingDecoder::new(&mut self.file).map_err(|error| damaged(error.to_string()))?;
        let mut piece = Vec::new();
        let read = (&mut frame).take(PIECE_BYTES + 1).read_to_end(&mut piece);
        read.map_err(|error| damaged(error.to_string()))?;
        let sum = frame.into_frame_decoder();
        if piece.is_empty()
            || piece.len() as u64 > PIECE_BYTES
            || sum.get_checksum_from_data() != sum.get_calculated_checksum()
        {
            return Err(damaged("a checksum is wrong".to_owned()));
        }
        Ok(piece)
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.fill_buf()?.is_empty() && !self.file.fill_buf()?.is_empty() {
            self.piece = Cursor::new(self.next_piece()?);
        }
        self.piece.read(buffer)
    }
}

/// How the name of a packed day ends.
pub(crate) const SUFFIX: &str = ".jsonl.zst";

/// Lines packed together, so that reading takes a bounded amount of memory.
const PIECE_BYTES: u64 = 4 << 20;
