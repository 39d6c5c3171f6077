//! Checkpoints of this ledger: signed from the tree in the index, the newest in a file of its own, compared at every
//! start.
//!
//! A chain shows every change inside it, but not that its end is missing, or that all of it was written anew. What was
//! once signed and synced here shows both to whoever starts this gate, and to everybody else who keeps a copy.

use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use data_encoding::BASE64;
use tokio::sync::watch;

use crate::append::AppendError;
use crate::checkpoint::Checkpoint;
use crate::durable;
use crate::event::Draft;
use crate::evidence::keys::rotation;
use crate::handle::Ledger;
use crate::home::{Home, NEWEST};
use crate::kind::EventType;
use crate::note::{Note, NoteError, Signed, Signer, Verifier};
use crate::open::OpenError;
use crate::store::{Store, StoreError};
use crate::tree;

/// Makes checkpoints and keeps the newest.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    home: Home,
    origin: String,
    signing: RwLock<Signing>,
    newest: RwLock<Note>,
    /// Size of the newest; touched as well when the ledger is closed, so that nobody waits for one that will not come.
    pub(crate) size: watch::Sender<u64>,
}

/// The key that signs, and those before it.
#[derive(Debug)]
struct Signing {
    signer: Signer,
    /// The key that signs once the rotation to it is in the index.
    next: Option<Signer>,
    /// All keys of the ledger.
    keys: Vec<Verifier>,
}

/// Why a checkpoint could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error("writing a checkpoint failed: {0}")]
    File(#[from] io::Error),
    #[error("a checkpoint kept in the index cannot be read: {0}")]
    Note(#[from] NoteError),
    #[error("a checkpoint could not be made: {0}")]
    Store(#[from] StoreError),
}

// === impl Ledger ===

impl Ledger {
    /// The newest checkpoint, with the cosignatures it has.
    pub fn checkpoint(&self) -> Note {
        self.shared().checkpoints.newest()
    }

    /// Returns once a checkpoint of everything recorded until now is durable.
    ///
    /// # Errors
    /// [`AppendError::Latched`].
    pub async fn checkpointed(&self) -> Result<(), AppendError> {
        let size = self.head().seq + 1;
        let mut made = self.shared().checkpoints.size.subscribe();
        while *made.borrow_and_update() < size {
            self.shared().check_open()?;
            self.shared().backlog.hurry(size);
            // The sender lives as long as the ledger.
            drop(made.changed().await);
        }
        Ok(())
    }

    /// [`Ledger::checkpointed`], for threads that may block.
    ///
    /// # Errors
    /// [`AppendError::Latched`].
    pub fn checkpointed_blocking(&self) -> Result<(), AppendError> {
        let size = self.head().seq + 1;
        while *self.shared().checkpoints.size.borrow() < size {
            self.shared().check_open()?;
            self.shared().backlog.hurry(size);
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Compares a copy of a checkpoint that was kept in the file `path`, on another disk perhaps, with this ledger.
    ///
    /// # Errors
    /// [`OpenError`] if entries of it are missing or were rewritten, or it is not of this ledger.
    pub fn compare(&self, path: &Path) -> Result<(), OpenError> {
        let bytes = std::fs::read(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let note = Note::parse(&bytes).map_err(|error| unusable(path, &error))?;
        self.checkpointed_blocking().map_err(OpenError::Recovery)?;
        let shared = self.shared();
        shared.checkpoints.compare(path, &note, &shared.store, *shared.checkpoints.size.borrow()).map(drop)
    }

    /// The public key that checkpoints and evidence are signed with.
    pub fn key(&self) -> Verifier {
        self.shared().checkpoints.key()
    }

    /// Signs with a new key from now on, and records it, signed by the old key and the new one. Blocks.
    ///
    /// # Errors
    /// [`AppendError`]; the old key then stays.
    pub fn rotate_key(&self) -> Result<Verifier, AppendError> {
        let checkpoints = &self.shared().checkpoints;
        let draft = checkpoints
            .prepare_rotation()
            .map_err(|source| AppendError::Text { path: "the ledger's keys".to_owned(), source })?;
        drop(self.append_blocking(vec![draft])?);
        // The follower turns to the key when it comes to the entry, and signs with it.
        self.checkpointed_blocking()?;
        Ok(self.key())
    }

    /// Adds cosignatures of witnesses to the checkpoint of `size` entries. If it cannot be kept, the ledger is closed.
    pub fn cosign(&self, size: u64, cosignatures: Vec<Signed>) {
        let shared = self.shared();
        if let Err(error) = shared.checkpoints.cosign(&shared.store, size, cosignatures) {
            self.latch(&error.to_string());
        }
    }

    /// Follows the size of the newest checkpoint.
    pub fn subscribe_checkpoints(&self) -> watch::Receiver<u64> {
        self.shared().checkpoints.size.subscribe()
    }
}

// === impl Checkpoints ===

impl Checkpoints {
    /// The first checkpoint of a ledger.
    pub(crate) fn begin(home: &Home, signer: &Signer, first: &Checkpoint) -> io::Result<()> {
        durable::create_dir(&home.checkpoints())?;
        durable::write(&home.checkpoints(), NEWEST, Note::signed(first.text(), signer, 0).to_string().as_bytes())
    }

    /// Compares the newest checkpoint with a ledger of `size` entries whose keys are `keys`.
    pub(crate) fn open(
        home: &Home,
        signer: Signer,
        keys: Vec<Verifier>,
        store: &Store,
        size: u64,
    ) -> Result<Checkpoints, OpenError> {
        let path = home.newest();
        let bytes = std::fs::read(&path).map_err(|source| match source.kind() == io::ErrorKind::NotFound {
            true => OpenError::NoCheckpoint { path: path.clone() },
            false => OpenError::Io { path: path.clone(), source },
        })?;
        let note = Note::parse(&bytes).map_err(|error| unusable(&path, &error))?;
        let (sender, _) = watch::channel(0);
        let origin = signer.verifier().name().to_owned();
        let signing = RwLock::new(Signing { signer, next: None, keys });
        let newest = RwLock::new(note.clone());
        let checkpoints = Checkpoints { home: home.clone(), origin, signing, newest, size: sender };
        checkpoints.size.send_replace(checkpoints.compare(&path, &note, store, size)?);
        Ok(checkpoints)
    }

    /// Compares a checkpoint, which stood in the file `path`, with the ledger of `size` entries, and gives its size.
    fn compare(&self, path: &Path, note: &Note, store: &Store, size: u64) -> Result<u64, OpenError> {
        let claimed = Checkpoint::of(note).map_err(|error| unusable(path, &error))?;
        let is_signed = self.signing(|signing| signing.keys.iter().any(|key| note.verify(key).is_ok()));
        if claimed.origin != self.origin || !is_signed {
            return Err(unusable(path, &NoteError::Unsigned { name: self.origin.clone() }));
        }
        if claimed.size > size {
            return Err(OpenError::Lost { claimed: claimed.size, found: size });
        }
        if tree::root(claimed.size, |node| store.node(node))? != claimed.root {
            return Err(OpenError::Rewritten { size: claimed.size });
        }
        Ok(claimed.size)
    }

    /// The newest.
    pub(crate) fn newest(&self) -> Note {
        self.newest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes one of the first `size` entries, which the index has, unless it is there.
    pub(crate) fn make(&self, store: &Store, size: u64) -> Result<(), MakeError> {
        if *self.size.borrow() >= size {
            return Ok(());
        }
        let root = tree::root(size, |node| store.node(node))?;
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
        let note = self.signing(|signing| Note::signed(checkpoint.text(), &signing.signer, 0));
        self.keep(store, size, &note)?;
        *self.newest.write().unwrap_or_else(PoisonError::into_inner) = note;
        self.size.send_replace(size);
        Ok(())
    }

    /// Adds cosignatures to the checkpoint of `size` entries, if it is kept.
    pub(crate) fn cosign(&self, store: &Store, size: u64, cosignatures: Vec<Signed>) -> Result<(), MakeError> {
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        if Checkpoint::of(&newest)?.size == size {
            newest.extend(cosignatures);
            return self.keep(store, size, &newest);
        }
        drop(newest);
        let Some(kept) = store.checkpoint_from(size)? else { return Ok(()) };
        let mut note = Note::parse(&kept)?;
        if Checkpoint::of(&note)?.size == size {
            note.extend(cosignatures);
            store.keep_checkpoint(size, &note.to_string())?;
        }
        Ok(())
    }

    /// The smallest checkpoint kept of at least `size` entries, or else the newest.
    pub(crate) fn covering(&self, store: &Store, size: u64) -> Result<Note, MakeError> {
        match store.checkpoint_from(size)? {
            None => Ok(self.newest()),
            Some(kept) => Ok(Note::parse(&kept)?),
        }
    }

    /// A signature of the present key over bytes that are no note, and that key.
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.signing(|signing| signing.signer.sign_bytes(bytes))
    }

    /// The present key.
    pub(crate) fn key(&self) -> Verifier {
        self.signing(|signing| signing.signer.verifier())
    }

    /// Makes the next key and the event that records the rotation to it.
    pub(crate) fn prepare_rotation(&self) -> io::Result<Draft> {
        let next = Home::create_key(&self.home.next_key(), &self.origin)?;
        let (old, new) = (self.key(), next.verifier());
        let statement = rotation(&old, &new);
        let draft = Draft::new(EventType::LedgerKeyRotated)
            .with("old", old.to_string())
            .with("new", new.to_string())
            .with("old_signature", BASE64.encode(&self.sign(statement.as_bytes())))
            .with("new_signature", BASE64.encode(&next.sign_bytes(statement.as_bytes())));
        self.change(|signing| signing.next = Some(next));
        Ok(draft)
    }

    /// Signs with the next key from now on: the rotation to it is in the index.
    pub(crate) fn rotate(&self) -> io::Result<()> {
        // Dying before leaves the key beside the present one, where the next start finds it.
        self.home.turn_key()?;
        self.change(|signing| {
            if let Some(next) = signing.next.take() {
                signing.keys.push(next.verifier());
                signing.signer = next;
            }
        });
        Ok(())
    }

    fn signing<T>(&self, read: impl FnOnce(&Signing) -> T) -> T {
        read(&self.signing.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Signing)) {
        change(&mut self.signing.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn keep(&self, store: &Store, size: u64, note: &Note) -> Result<(), MakeError> {
        let text = note.to_string();
        // The file first: it is what the next start compares. The index forgets a checkpoint only when it is rebuilt.
        durable::write(&self.home.checkpoints(), NEWEST, text.as_bytes())?;
        Ok(store.keep_checkpoint(size, &text)?)
    }
}

fn unusable(path: &Path, error: &NoteError) -> OpenError {
    OpenError::Checkpoint { path: path.to_owned(), why: error.to_string() }
}

/// Between two looks of a thread that waits for a checkpoint.
const LOOK: Duration = Duration::from_millis(1);
