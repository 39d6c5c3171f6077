//! Files that are there after a power cut: folders and files with tight modes, written beside and renamed into place.
//!
//! Never leaves a half-written file under its final name.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use data_encoding::HEXLOWER;

/// Creates a folder only its owner can enter, with its parents, unless it is there.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        None => Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes a file only its owner can read, replacing an earlier one of that name as a whole.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_by(dir, name, |file| file.write_all(bytes))
}

/// [`write`], with content that `fill` writes.
pub(crate) fn write_by(dir: &Path, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut nonce = [0_u8; 8];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let temporary = dir.join(format!("{TEMPORARY}{}", HEXLOWER.encode(&nonce)));
    let written = write_new(&temporary, fill).and_then(|()| std::fs::rename(&temporary, dir.join(name)));
    if written.is_err() {
        // The first error is the one that matters; what stays behind is swept later.
        drop(std::fs::remove_file(&temporary));
    }
    written.and_then(|()| sync_dir(dir))
}

fn write_new(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    fill(&mut file)?;
    file.sync_all()
}

/// How the names of unfinished files begin; no finished file begins with a dot.
pub(crate) const TEMPORARY: &str = ".new-";
