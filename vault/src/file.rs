//! Reads secrets from files, as Docker and Kubernetes mount them.
//!
//! Must never keep what it read, read more than the limit, or take a file others could have written.

use std::collections::HashSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::UNIX_EPOCH;

use nix::fcntl::OFlag;
use nix::sys::statfs::{self, FsType};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{Fault, Raw, without_line_end};

/// Which files may be read where.
#[derive(Debug)]
pub(crate) struct Files {
    /// Threads that may hang in a file system.
    pub(crate) slots: Arc<Semaphore>,
    /// Files last found on this machine: a thread for each read would cost several times what the read does.
    near: RwLock<HashSet<PathBuf>>,
}

// === impl Files ===

impl Files {
    pub(crate) fn new(slots: usize) -> Files {
        Files { slots: Arc::new(Semaphore::new(slots)), near: RwLock::default() }
    }

    fn is_near(&self, path: &Path) -> bool {
        self.near.read().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    fn note(&self, path: &Path, near: bool) {
        let mut known = self.near.write().unwrap_or_else(PoisonError::into_inner);
        if near {
            known.insert(path.to_owned());
        } else {
            known.remove(path);
        }
    }
}

/// Reads the file, on a thread that may block unless it is near; one newline at its end is not part of the secret.
///
/// Links are followed: Kubernetes swaps a mounted secret by swapping a link. The target is what is checked.
pub(crate) async fn read(path: &Path, max_bytes: usize, files: &Files) -> Result<Raw, Fault> {
    let known = files.is_near(path);
    let (raw, near) = match known {
        true => read_now(path, max_bytes)?,
        false => read_on_thread(path, max_bytes, files).await?,
    };
    if near != known {
        files.note(path, near);
    }
    Ok(raw)
}

async fn read_on_thread(path: &Path, max_bytes: usize, files: &Files) -> Result<(Raw, bool), Fault> {
    let slot = files.slots.clone().acquire_owned().await.map_err(|closed| Fault::Io(closed.to_string()))?;
    let path = PathBuf::from(path);
    let reading = tokio::task::spawn_blocking(move || {
        // Held by the thread, not by the caller: a caller that gives up leaves the thread behind.
        let _slot = slot;
        read_now(&path, max_bytes)
    });
    reading.await.map_err(|lost| Fault::Io(lost.to_string()))?
}

/// The secret, and whether its file is near.
fn read_now(path: &Path, max_bytes: usize) -> Result<(Raw, bool), Fault> {
    let failed = |error: io::Error| Fault::Io(error.to_string());
    // Without `O_NONBLOCK` opening a pipe would wait for a writer.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    check(&metadata)?;
    let value = read_value(&file, max_bytes).map_err(failed)?;
    Ok((Raw { value, version: version(&metadata), loan: None }, is_near(&file)))
}

/// Whether the file is on this machine, where reading it waits for nobody.
fn is_near(file: &File) -> bool {
    statfs::fstatfs(file).is_ok_and(|system| NEAR.contains(&system.filesystem_type()))
}

fn check(metadata: &Metadata) -> Result<(), Fault> {
    if !metadata.is_file() {
        return Err(Fault::NotRegular);
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & WRITABLE_BY_OTHERS == 0 { Ok(()) } else { Err(Fault::Writable(mode)) }
}

fn read_value(mut file: &File, max_bytes: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for a line break and one byte too many, so that the length shows whether the limit is broken. The room is
    // made at once: a vector that grows leaves unwiped copies behind.
    let most = max_bytes.saturating_add(3);
    let expected = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut value = read_at_most(file, most.min(expected.saturating_add(1)))?;
    if value.len() > expected {
        // It grew meanwhile: read all of it again, into all the room there may be.
        file.seek(SeekFrom::Start(0))?;
        value = read_at_most(file, most)?;
    }
    without_line_end(&mut value);
    Ok(value)
}

fn read_at_most(file: &File, room: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(Vec::with_capacity(room));
    file.take(u64::try_from(room).unwrap_or(u64::MAX)).read_to_end(&mut value)?;
    Ok(value)
}

fn version(metadata: &Metadata) -> Option<String> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs().to_string())
}

/// File systems in memory or on a disk of this machine; a FUSE or network one may hang.
const NEAR: &[FsType] = &[
    statfs::BTRFS_SUPER_MAGIC,
    statfs::EXT4_SUPER_MAGIC,
    statfs::OVERLAYFS_SUPER_MAGIC,
    statfs::TMPFS_MAGIC,
    // XFS, which has no name in every C library.
    FsType(0x5846_5342),
];

const WRITABLE_BY_OTHERS: u32 = 0o022;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use crate::{Limits, Place, Providers, Vault};

    use super::*;

    /// Puts something at a path that is to hold a secret.
    type Put = fn(&Path);

    fn vault(max_bytes: usize) -> Vault {
        Vault::new(Limits { max_bytes, ..Limits::default() })
    }

    fn place(path: &Path) -> Place {
        Providers::default().place(format!("file://{}", path.display()).parse().unwrap(), None).unwrap()
    }

    fn put(path: &Path, content: &[u8]) {
        fs::write(path, content).unwrap();
        chmod(path, 0o600);
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn one_newline_at_the_end_is_not_part_of_the_secret() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        let cases: [(&[u8], &[u8]); 5] = [
            (b"abc", b"abc"),
            (b"abc\n", b"abc"),
            (b"abc\r\n", b"abc"),
            (b" a b ", b" a b "),
            (b"12345678\r\n", b"12345678"),
        ];
        for (content, expected) in cases {
            put(&path, content);
            let fetched = vault(8).fetch(&place(&path)).await.unwrap();
            fetched.secret.lend(|secret| assert_eq!(secret, expected));
            assert_eq!(fetched.secret.len(), expected.len());
        }
    }

    #[tokio::test]
    async fn a_file_is_read_anew_on_every_fetch() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        let place = place(&path);
        let vault = vault(8);
        for (content, changed) in [("old", 1_000_000_000), ("new", 1_000_000_007)] {
            put(&path, content.as_bytes());
            let at = UNIX_EPOCH + Duration::from_secs(changed);
            File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
            let fetched = vault.fetch(&place).await.unwrap();
            fetched.secret.lend(|secret| assert_eq!(secret, content.as_bytes()));
            assert_eq!(fetched.version, Some(changed.to_string()));
        }
    }

    #[tokio::test]
    async fn links_are_followed_as_kubernetes_needs() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("..data")).unwrap();
        put(&home.path().join("..data/key"), b"abc");
        chmod(&home.path().join("..data/key"), 0o644);
        symlink("..data/key", home.path().join("key")).unwrap();
        let (vault, place) = (vault(8), place(&home.path().join("key")));
        let fetched = vault.fetch(&place).await.unwrap();
        fetched.secret.lend(|secret| assert_eq!(secret, b"abc"));

        // A changed secret comes as another folder, and the link to it is replaced in one step.
        fs::rename(home.path().join("..data"), home.path().join("..2")).unwrap();
        put(&home.path().join("..2/key"), b"new");
        symlink("..2", home.path().join("..data")).unwrap();
        let fetched = vault.fetch(&place).await.unwrap();
        fetched.secret.lend(|secret| assert_eq!(secret, b"new"));
    }

    #[tokio::test]
    async fn what_is_not_fit_is_refused_without_a_word_of_it() {
        let cases: [(Put, &str); 14] = [
            (|_| (), "`PATH` cannot be read: No such file"),
            (|path| put(path, b""), "`PATH` is empty"),
            (|path| put(path, b"\n"), "`PATH` is empty"),
            (|path| put(path, b"CANARY\n\n"), "`PATH` has a byte that is not printable ASCII"),
            (|path| put(path, b"CAN\r\nARY"), "not printable ASCII"),
            (|path| put(path, b"CANARY\0"), "not printable ASCII"),
            (|path| put(path, b"CAN\tARY"), "not printable ASCII"),
            (|path| put(path, b"CANARY\x7f"), "not printable ASCII"),
            (|path| put(path, "CANÄRY".as_bytes()), "not printable ASCII"),
            (|path| put(path, b"CANARY789"), "`PATH` is longer than 8 bytes"),
            (|path| put(path, &b"CANARY".repeat(100_000)), "is longer than 8 bytes"),
            (|path| writable(path, 0o620), "`PATH` can be changed by others than its owner (mode 620)"),
            (|path| writable(path, 0o602), "(mode 602)"),
            (|path| fs::create_dir(path).unwrap(), "`PATH` is not a regular file"),
        ];
        for (prepare, expected) in cases {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("secret");
            prepare(&path);
            let error = vault(8).fetch(&place(&path)).await.unwrap_err();
            let message = error.to_string().replace(&format!("file://{}", path.display()), "PATH");
            assert!(message.contains(expected), "{message}\nshould say\n{expected}");
            let all = format!("{error} {error:?}");
            assert!(!all.contains("CAN") && !all.contains("ARY"), "{all}");
        }
    }

    fn writable(path: &Path, mode: u32) {
        put(path, b"CANARY");
        chmod(path, mode);
    }

    #[tokio::test]
    async fn a_pipe_is_refused_at_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let started = SystemTime::now();
        let error = vault(8).fetch(&place(&path)).await.unwrap_err();
        assert_eq!(error.fault, Fault::NotRegular);
        assert!(started.elapsed().unwrap() < Limits::default().deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_found_near_needs_no_thread() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        put(&path, b"old");
        let vault = vault(8);
        vault.fetch(&place(&path)).await.unwrap();
        let slots = u32::try_from(vault.local.files.slots.available_permits()).unwrap();
        let _taken = vault.local.files.slots.acquire_many(slots).await.unwrap();
        put(&path, b"new");
        let fetched = vault.fetch(&place(&path)).await.unwrap();
        fetched.secret.lend(|secret| assert_eq!(secret, b"new"));
        writable(&path, 0o620);
        assert!(matches!(vault.fetch(&place(&path)).await.unwrap_err().fault, Fault::Writable(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_ends_at_its_deadline() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secret");
        put(&path, b"abc");
        let vault = vault(8);
        // All slots taken: as if every thread hung in a file system that does not answer.
        let slots = u32::try_from(vault.local.files.slots.available_permits()).unwrap();
        let taken = vault.local.files.slots.acquire_many(slots).await.unwrap();
        let error = vault.fetch(&place(&path)).await.unwrap_err();
        assert_eq!(error.fault, Fault::Deadline(Duration::from_secs(5)));
        drop(taken);
        vault.fetch(&place(&path)).await.unwrap();
    }
}
