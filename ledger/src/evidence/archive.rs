//! The ZIP archive of a bundle: written in one layout, and read in that layout only.
//!
//! ZIP says several things twice and allows bytes in between, so two programs can see two contents in one file. Here
//! every byte of the archive follows from the members' names and contents; any other byte is a refusal. Nothing is
//! compressed, so nothing can be larger than the file.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crc32fast::Hasher;

/// A member and where its content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) size: u32,
    start: u64,
}

/// An archive whose layout was checked.
#[derive(Debug)]
pub(super) struct Archive<R> {
    source: R,
    members: Vec<Member>,
}

/// An archive being written, member after member in the order of their names.
#[derive(Debug)]
pub(super) struct Builder<W> {
    out: W,
    at: u32,
    directory: Vec<u8>,
    members: u16,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Layout(String),
}

// === impl Archive ===

impl<R: Read + Seek> Archive<R> {
    /// Checks the layout of the whole archive.
    pub(super) fn open(mut source: R) -> Result<Archive<R>, ArchiveError> {
        source.seek(SeekFrom::Start(0))?;
        let mut members: Vec<Member> = Vec::new();
        let mut expected = Builder::new(io::sink());
        let mut head = read_up_to(&mut source, HEAD_BYTES)?;
        while head.starts_with(&LOCAL) {
            let (member, crc) = read_member(&mut source, &head, expected.at)?;
            if members.last().is_some_and(|last| last.name >= member.name) {
                return Err(layout(format!("`{}` is not in the order of names", member.name)));
            }
            let header = expected.begin(&member.name, crc, member.size)?;
            if header != [head.as_slice(), member.name.as_bytes()].concat() {
                return Err(layout(format!("the header of `{}` is not the one it has to have", member.name)));
            }
            expected.at = expected.at.checked_add(member.size).ok_or_else(too_large)?;
            members.push(member);
            head = read_up_to(&mut source, HEAD_BYTES)?;
        }
        let directory = expected.finish_directory()?;
        let found = [head, read_up_to(&mut source, directory.len() + 1)?].concat();
        if members.is_empty() || found != directory {
            return Err(layout("what follows the last member is not exactly the archive's directory".to_owned()));
        }
        Ok(Archive { source, members })
    }

    /// Its members, in order of their names.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The content of a member from its start; empty if there is none of that name.
    pub(super) fn content(&mut self, name: &str) -> io::Result<io::Take<&mut R>> {
        let member = self.members.iter().find(|member| member.name == name);
        let (start, size) = member.map_or((0, 0), |member| (member.start, u64::from(member.size)));
        self.source.seek(SeekFrom::Start(start))?;
        Ok(self.source.by_ref().take(size))
    }

    /// The whole content of a small member.
    pub(super) fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.content(name)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

// === impl Builder ===

impl<W: Write> Builder<W> {
    pub(super) fn new(out: W) -> Builder<W> {
        Builder { out, at: 0, directory: Vec::new(), members: 0 }
    }

    /// Writes a member whose content is at hand.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> Result<(), ArchiveError> {
        let size = u32::try_from(content.len()).map_err(|_| too_large())?;
        let body = self.start(name, crc32fast::hash(content), size)?;
        body.write_all(content)?;
        Ok(())
    }

    /// Writes the header of a member; exactly `size` bytes of content have to follow.
    pub(super) fn start(&mut self, name: &str, crc: u32, size: u32) -> Result<&mut W, ArchiveError> {
        let header = self.begin(name, crc, size)?;
        self.out.write_all(&header)?;
        self.at = self.at.checked_add(size).ok_or_else(too_large)?;
        Ok(&mut self.out)
    }

    /// Writes the directory.
    pub(super) fn finish(mut self) -> Result<(), ArchiveError> {
        let directory = self.finish_directory()?;
        self.out.write_all(&directory)?;
        self.out.flush()?;
        Ok(())
    }

    /// The local header of a member, noted in the directory.
    fn begin(&mut self, name: &str, crc: u32, size: u32) -> Result<Vec<u8>, ArchiveError> {
        let length = u16::try_from(name.len()).map_err(|_| too_large())?;
        let sizes = [crc.to_le_bytes(), size.to_le_bytes(), size.to_le_bytes()].concat();
        let fixed = [&NEEDS, [0; 6].as_slice(), &DATE, &sizes, &length.to_le_bytes(), &[0; 2]].concat();
        let offset = self.at.to_le_bytes();
        let directory = [&CENTRAL, MADE_BY.as_slice(), &fixed, &[0; 6], &MODE, &offset, name.as_bytes()].concat();
        self.directory.extend_from_slice(&directory);
        let header = [&LOCAL, fixed.as_slice(), name.as_bytes()].concat();
        self.members = self.members.checked_add(1).ok_or_else(too_large)?;
        self.at = u32::try_from(header.len()).ok().and_then(|n| self.at.checked_add(n)).ok_or_else(too_large)?;
        Ok(header)
    }

    fn finish_directory(&mut self) -> Result<Vec<u8>, ArchiveError> {
        let length = u32::try_from(self.directory.len()).map_err(|_| too_large())?;
        let members = self.members.to_le_bytes();
        let mut whole = std::mem::take(&mut self.directory);
        for part in
            [&END, [0; 4].as_slice(), &members, &members, &length.to_le_bytes(), &self.at.to_le_bytes(), &[0; 2]]
        {
            whole.extend_from_slice(part);
        }
        Ok(whole)
    }
}

/// Reads name and content behind a local header, whose other fields the caller compares with what they have to be.
fn read_member(source: &mut (impl Read + Seek), head: &[u8], at: u32) -> Result<(Member, u32), ArchiveError> {
    let number = |at: usize| head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let (Some(size), Some(&[low, high])) = (number(18), head.get(26..28)) else {
        return Err(layout("it ends inside a header".to_owned()));
    };
    let name = read_up_to(source, usize::from(u16::from_le_bytes([low, high])))?;
    let name = String::from_utf8(name).map_err(|_| layout("the name of a member is not UTF-8".to_owned()))?;
    let start = u64::from(at) + head.len() as u64 + name.len() as u64;
    let (mut crc, mut left) = (Hasher::new(), size as usize);
    while left > 0 {
        let piece = read_up_to(source, left.min(PIECE_BYTES))?;
        if piece.is_empty() {
            return Err(layout(format!("it ends inside `{name}`")));
        }
        crc.update(&piece);
        left -= piece.len();
    }
    Ok((Member { name, size, start }, crc.finalize()))
}

/// Fewer bytes only at the end.
fn read_up_to(source: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    source.by_ref().take(bytes as u64).read_to_end(&mut found)?;
    Ok(found)
}

fn layout(detail: String) -> ArchiveError {
    ArchiveError::Layout(detail)
}

fn too_large() -> ArchiveError {
    layout("an archive holds at most 4 GiB; choose a narrower scope".to_owned())
}

const LOCAL: [u8; 4] = *b"PK\x03\x04";

const CENTRAL: [u8; 4] = *b"PK\x01\x02";

const END: [u8; 4] = *b"PK\x05\x06";

/// Version 1.0: stored members.
const NEEDS: [u8; 2] = [10, 0];

/// Unix, version 2.0; together with [`MODE`] what `unzip` makes files of mode 0644 from.
const MADE_BY: [u8; 2] = [20, 3];

/// The first of January 1980 behind a time of zero: archives of equal content are equal.
const DATE: [u8; 2] = [0x21, 0];

const MODE: [u8; 4] = [0, 0, 0xa4, 0x81];

const HEAD_BYTES: usize = 30;

const PIECE_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn built() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut builder = Builder::new(&mut bytes);
        for (name, content) in [("a", "first"), ("b/c", ""), ("d", "third")] {
            builder.add(name, content.as_bytes()).unwrap();
        }
        builder.finish().unwrap();
        bytes
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = built();
        let mut archive = Archive::open(Cursor::new(&bytes)).unwrap();
        let names: Vec<&str> = archive.members().iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["a", "b/c", "d"]);
        assert_eq!(archive.read("d").unwrap(), b"third");
        assert_eq!(archive.read("a").unwrap(), b"first");
        assert_eq!(archive.read("e").unwrap(), b"");
    }

    #[test]
    fn every_changed_missing_or_added_byte_is_a_refusal() {
        let bytes = built();
        let refused = |bytes: &[u8]| matches!(Archive::open(Cursor::new(bytes)), Err(ArchiveError::Layout(_)));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(refused(&changed), "bit {bit} of byte {at}");
            }
            assert!(refused(&bytes[..at]), "cut at {at}");
            assert!(refused(&[&bytes[..at], b"x", &bytes[at..]].concat()), "a byte more at {at}");
        }
        assert!(refused(&[bytes.as_slice(), b"x"].concat()));
        assert!(refused(&[bytes.as_slice(), bytes.as_slice()].concat()));
    }
}
