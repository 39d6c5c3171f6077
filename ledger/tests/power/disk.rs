//! A disk that keeps its promises and no more: what was synced is there, of everything else any part may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::trace::Told;

/// Files as a program sees them, and what is certain of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    files: Vec<Content>,
    /// Names as the program sees them.
    names: BTreeMap<PathBuf, usize>,
    /// Names that a sync of their folder made certain.
    certain: BTreeMap<PathBuf, usize>,
    /// Changes to names since, in order; a folder's are made certain together.
    renamed: Vec<Renamed>,
    folders: Vec<PathBuf>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    synced: Vec<u8>,
    /// Length as the program sees it.
    length: usize,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Resize(usize),
    Write(usize, Vec<u8>),
}

#[derive(Clone, Debug)]
enum Renamed {
    Gone(PathBuf),
    Is(PathBuf, usize),
}

/// Numbers that are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

// === impl Disk ===

impl Disk {
    /// What is in a folder, all of it certain.
    pub(crate) fn of(dir: &Path) -> Disk {
        let mut disk = Disk::default();
        disk.take(dir, dir);
        disk.certain = disk.names.clone();
        disk
    }

    fn take(&mut self, dir: &Path, root: &Path) {
        for entry in dir.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                self.folders.push(name);
                self.take(&path, root);
            } else {
                let synced = fs::read(&path).unwrap();
                self.names.insert(name, self.files.len());
                self.files.push(Content { length: synced.len(), synced, pending: Vec::new() });
            }
        }
    }

    pub(crate) fn tell(&mut self, told: &Told) {
        match told {
            Told::Append { file, bytes } => {
                self.change(file, |content| Change::Write(content.length, bytes.clone()));
            }
            Told::Create { file } if !self.names.contains_key(file) => {
                self.names.insert(file.clone(), self.files.len());
                self.renamed.push(Renamed::Is(file.clone(), self.files.len()));
                self.files.push(Content::default());
            }
            Told::Create { .. } => {}
            Told::MakeDir { dir } => self.folders.push(dir.clone()),
            Told::Remove { file } => {
                self.names.remove(file);
                self.renamed.push(Renamed::Gone(file.clone()));
            }
            Told::Rename { from, to } => {
                let Some(moved) = self.names.remove(from) else { return };
                self.names.insert(to.clone(), moved);
                self.renamed.push(Renamed::Is(to.clone(), moved));
                self.renamed.push(Renamed::Gone(from.clone()));
            }
            Told::Resize { file, size } => self.change(file, |_| Change::Resize(*size)),
            Told::Sync { path } => self.sync(path),
            Told::Write { file, at, bytes } => self.change(file, |_| Change::Write(*at, bytes.clone())),
        }
    }

    fn change(&mut self, file: &Path, change: impl FnOnce(&Content) -> Change) {
        // A file that was removed while it was open is nobody's any more.
        let Some(content) = self.names.get(file).map(|at| &mut self.files[*at]) else { return };
        let change = change(content);
        content.length = match &change {
            Change::Resize(size) => *size,
            Change::Write(at, bytes) => content.length.max(at + bytes.len()),
        };
        content.pending.push(change);
    }

    fn sync(&mut self, path: &Path) {
        if let Some(at) = self.names.get(path) {
            let content = &mut self.files[*at];
            for change in std::mem::take(&mut content.pending) {
                change.apply(&mut content.synced);
            }
            return;
        }
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.renamed).into_iter().partition(|renamed| renamed.path().parent() == Some(path));
        self.renamed = rest;
        synced.into_iter().for_each(|renamed| renamed.apply(&mut self.certain));
    }

    /// Writes one of the states that a power cut could leave now, and says how many changes it lost or tore.
    pub(crate) fn write_what_is_left(&self, dir: &Path, dice: &mut Dice) -> usize {
        let mut names = self.certain.clone();
        // A journaling file system keeps the order of names; how far it came is open.
        let kept = dice.below(self.renamed.len() + 1);
        self.renamed[..kept].iter().for_each(|renamed| renamed.clone().apply(&mut names));
        fs::create_dir_all(dir).unwrap();
        self.folders.iter().for_each(|folder| fs::create_dir_all(dir.join(folder)).unwrap());
        let mut lost = self.renamed.len() - kept;
        for (name, at) in names {
            let (bytes, torn) = self.files[at].left(dice);
            lost += torn;
            fs::write(dir.join(&name), bytes).unwrap();
            private(&dir.join(&name));
        }
        lost
    }
}

// === impl Content ===

impl Content {
    /// The synced bytes with any part of the rest, in any order.
    fn left(&self, dice: &mut Dice) -> (Vec<u8>, usize) {
        let mut bytes = self.synced.clone();
        let mut pending: Vec<&Change> = self.pending.iter().collect();
        let mut lost = 0;
        while !pending.is_empty() {
            let next = if dice.below(4) == 0 { dice.below(pending.len()) } else { 0 };
            let change = pending.remove(next).clone();
            match (dice.below(3), change) {
                (0, _) => lost += 1,
                (1, Change::Write(at, written)) => {
                    lost += 1;
                    Change::Write(at, torn(written, dice)).apply(&mut bytes);
                }
                (_, change) => change.apply(&mut bytes),
            }
        }
        (bytes, lost)
    }
}

/// Part of what was written: its beginning, or all of it with sectors that never arrived.
fn torn(mut written: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    if dice.below(2) == 0 {
        written.truncate(dice.below(written.len() + 1));
    } else {
        let sector = dice.below(written.len().div_ceil(SECTOR).max(1)) * SECTOR;
        let end = (sector + SECTOR).min(written.len());
        written[sector.min(end)..end].fill(0);
    }
    written
}

// === impl Change ===

impl Change {
    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Change::Resize(size) => bytes.resize(size, 0),
            Change::Write(at, written) => {
                if bytes.len() < at + written.len() {
                    bytes.resize(at + written.len(), 0);
                }
                bytes[at..at + written.len()].copy_from_slice(&written);
            }
        }
    }
}

// === impl Renamed ===

impl Renamed {
    fn path(&self) -> &Path {
        match self {
            Renamed::Gone(path) | Renamed::Is(path, _) => path,
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Renamed::Gone(path) => drop(names.remove(&path)),
            Renamed::Is(path, at) => drop(names.insert(path, at)),
        }
    }
}

// === impl Dice ===

impl Dice {
    /// A number below `limit` (splitmix64).
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

const SECTOR: usize = 512;
