//! Witnesses (<https://c2sp.org/tlog-witness>): whoever cosigns a checkpoint once it is proved that the ledger only grew.
//!
//! Both sides, without the network between them: what a ledger asks, and how a witness answers. A witness remembers the
//! newest checkpoint it cosigned, durably before it says so, and never cosigns an older one or another history.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::checkpoint::Checkpoint;
use crate::durable;
use crate::note::{Note, Purpose, Signed, Signer, Verifier, is_name};
use crate::tree::{self, Hash};

/// A witness with its key and what it has seen.
#[derive(Debug)]
pub struct Witness {
    dir: PathBuf,
    signer: Signer,
    logs: Vec<Verifier>,
    /// Held from looking at what was cosigned last until the next is written.
    turn: Mutex<()>,
}

/// Why a witness does not cosign.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It last cosigned a checkpoint of another size, or another one of this size.
    #[error("the last checkpoint cosigned is of {0} entries")]
    Conflict(u64),
    /// No key known for this ledger signed.
    #[error("no known key of this ledger signed the checkpoint")]
    Forbidden,
    /// Not a request.
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    /// What was seen cannot be kept, so nothing is cosigned.
    #[error("the checkpoint could not be kept: {0}")]
    Storage(#[from] io::Error),
    /// The ledger is not known here.
    #[error("this ledger is not known here")]
    Unknown,
    /// It is not proved that the ledger only grew.
    #[error("the proof does not lead from the last checkpoint to this one")]
    Unproved,
}

/// Why a witness cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The file system refused.
    #[error("cannot use `{}`: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The key cannot be read, or is of another name.
    #[error("`{}` is not the key of a witness `{name}`; restore it, or give the name it was made with", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The name given.
        name: String,
    },
    /// The name cannot be one.
    #[error("`{0}` cannot name a witness; use a name without spaces and `+`, such as `example.com/witness`")]
    Name(String),
}

// === impl Witness ===

impl Witness {
    /// Opens a witness that keeps what it needs in `dir`; its key is made if there is none. `logs` are the keys of the
    /// ledgers it knows.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn open(dir: &Path, name: &str, logs: Vec<Verifier>) -> Result<Witness, WitnessError> {
        if !is_name(name) {
            return Err(WitnessError::Name(name.to_owned()));
        }
        let path = dir.join(KEY_NAME);
        let failed = |source| WitnessError::Io { path: path.clone(), source };
        durable::create_dir(dir).map_err(failed)?;
        if !path.exists() {
            let mut seed = Zeroizing::new([0_u8; 32]);
            getrandom::fill(seed.as_mut()).map_err(io::Error::other).map_err(failed)?;
            let signer = Signer::from_seed(name, Purpose::Cosign, &seed);
            durable::write(dir, KEY_NAME, signer.to_text().as_bytes()).map_err(failed)?;
        }
        let text = std::fs::read_to_string(&path).map(Zeroizing::new).map_err(failed)?;
        let signer = Signer::parse(&text).filter(|signer| {
            let key = signer.verifier();
            key.name() == name && key.purpose() == Purpose::Cosign
        });
        let signer = signer.ok_or_else(|| WitnessError::Key { path: path.clone(), name: name.to_owned() })?;
        Ok(Witness { dir: dir.to_owned(), signer, logs, turn: Mutex::new(()) })
    }

    /// Its public key.
    pub fn key(&self) -> Verifier {
        self.signer.verifier()
    }

    /// Answers an `add-checkpoint` request with a signature line. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn add(&self, request: &[u8], now: u64) -> Result<String, Refused> {
        let (old, proof, note) = parse(request)?;
        let checkpoint = Checkpoint::of(&note).map_err(|_| Refused::Malformed("it holds no checkpoint"))?;
        let mut keys = self.logs.iter().filter(|key| key.name() == checkpoint.origin).peekable();
        keys.peek().ok_or(Refused::Unknown)?;
        if !keys.any(|key| note.verify(key).is_ok()) {
            return Err(Refused::Forbidden);
        }
        if old > checkpoint.size {
            return Err(Refused::Malformed("the old size is above that of the checkpoint"));
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.last(&checkpoint.origin)?;
        let (size, root) = last.as_ref().map_or((0, Hash::of_nothing()), |last| (last.size, last.root));
        if old != size || (old == checkpoint.size && root != checkpoint.root) {
            return Err(Refused::Conflict(size));
        }
        tree::verify_consistency((size, root), (checkpoint.size, checkpoint.root), &proof)
            .map_err(|_| Refused::Unproved)?;
        // Before it is said: a witness that forgets what it said could be led back.
        durable::write(&self.dir, &file_of(&checkpoint.origin), note.to_string().as_bytes())?;
        Ok(format!("{}\n", self.signer.sign(note.text(), now)))
    }

    /// The checkpoint last cosigned for a ledger.
    fn last(&self, origin: &str) -> io::Result<Option<Checkpoint>> {
        let bytes = match std::fs::read(self.dir.join(file_of(origin))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let checkpoint = Note::parse(&bytes).and_then(|note| Checkpoint::of(&note)).map_err(io::Error::other)?;
        Ok(Some(checkpoint))
    }
}

/// The request for a cosignature: the size the witness has seen, the proof from there, the checkpoint.
pub fn request(old: u64, proof: &[Hash], note: &Note) -> String {
    let proof: String = proof.iter().map(|hash| format!("{hash}\n")).collect();
    format!("old {old}\n{proof}\n{note}")
}

/// The cosignatures in an answer that really are of `witness` over the text of `note`.
pub fn cosignatures(answer: &str, note: &Note, witness: &Verifier) -> Vec<Signed> {
    let signed = |line: &Signed| Note::of(note.text().to_owned(), vec![line.clone()]).verify(witness).is_ok();
    answer.lines().take(MAX_LINES).filter_map(Signed::parse).filter(signed).collect()
}

/// Keeps a copy of a checkpoint in a file, replacing an earlier one as a whole.
///
/// # Errors
/// What the file system said.
pub fn keep(path: &Path, note: &Note) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    durable::write(path.parent().unwrap_or(Path::new(".")), name, note.to_string().as_bytes())
}

fn parse(request: &[u8]) -> Result<(u64, Vec<Hash>, Note), Refused> {
    let malformed = Refused::Malformed;
    let text = str::from_utf8(request).map_err(|_| malformed("it is not UTF-8"))?;
    let (head, note) = text.split_once("\n\n").ok_or(malformed("there is no empty line before the checkpoint"))?;
    let mut lines = head.split('\n');
    let number =
        lines.next().and_then(|line| line.strip_prefix("old ")).ok_or(malformed("it does not begin with `old`"))?;
    let old: u64 = number.parse().map_err(|_| malformed("the old size is no number"))?;
    let proof: Option<Vec<Hash>> = lines.map(Hash::from_base64).collect();
    let proof = proof.filter(|proof| proof.len() <= MAX_LINES).ok_or(malformed("a line of the proof is no hash"))?;
    if old.to_string() != number {
        return Err(malformed("the old size is not in its shortest form"));
    }
    let note = Note::parse(note.as_bytes()).map_err(|_| malformed("it holds no signed note"))?;
    Ok((old, proof, note))
}

/// The file of the newest checkpoint of a ledger; origins are not names of files.
fn file_of(origin: &str) -> String {
    format!("{}.checkpoint", HEXLOWER.encode(&Sha256::digest(origin)))
}

const KEY_NAME: &str = "witness.key";

/// Lines of a proof or an answer.
const MAX_LINES: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Edge, Node};

    fn leaf(seq: u64) -> Hash {
        Hash::of_leaf(&seq.to_be_bytes())
    }

    fn node(node: Node) -> Result<Hash, std::convert::Infallible> {
        let mut edge = Edge::default();
        (node.index << node.height..(node.index + 1) << node.height).for_each(|seq| edge.push(leaf(seq)));
        Ok(edge.root())
    }

    fn note(signer: &Signer, size: u64) -> Note {
        let root = tree::root(size, node).unwrap();
        Note::signed(Checkpoint { origin: "example.com/log".to_owned(), size, root }.text(), signer, 0)
    }

    fn ask(old: u64, size: u64, signer: &Signer) -> Vec<u8> {
        request(old, &tree::consistency(old, size, node).unwrap(), &note(signer, size)).into_bytes()
    }

    #[test]
    fn a_witness_cosigns_what_only_grew_and_remembers_it() {
        let home = tempfile::tempdir().unwrap();
        let log = Signer::from_seed("example.com/log", Purpose::Sign, &[1; 32]);
        let open = || Witness::open(home.path(), "example.com/w", vec![log.verifier()]).unwrap();
        let witness = open();
        let key = witness.key();
        for (old, size) in [(0, 3), (3, 3), (3, 70), (70, 71)] {
            let answer = witness.add(&ask(old, size, &log), 1_700_000_000).unwrap();
            let lines = cosignatures(&answer, &note(&log, size), &key);
            assert_eq!(lines.len(), 1, "{old} {size}");
            assert!(cosignatures(&answer, &note(&log, size + 1), &key).is_empty(), "of another checkpoint");
        }
        drop(witness);
        // After a restart it has the same key and goes on where it was.
        let witness = open();
        assert_eq!(witness.key(), key);
        assert!(matches!(witness.add(&ask(3, 80, &log), 0), Err(Refused::Conflict(71))));
        assert!(matches!(witness.add(&ask(0, 71, &log), 0), Err(Refused::Conflict(71))));
        assert!(witness.add(&ask(71, 80, &log), 0).is_ok());
    }

    #[test]
    fn a_fork_a_rollback_and_a_stranger_get_nothing() {
        let home = tempfile::tempdir().unwrap();
        let log = Signer::from_seed("example.com/log", Purpose::Sign, &[1; 32]);
        let witness = Witness::open(home.path(), "example.com/w", vec![log.verifier()]).unwrap();
        witness.add(&ask(0, 10, &log), 0).unwrap();
        let fork = Checkpoint { origin: "example.com/log".to_owned(), size: 10, root: leaf(7) };
        let fork = request(10, &[], &Note::signed(fork.text(), &log, 0));
        assert!(matches!(witness.add(fork.as_bytes(), 0), Err(Refused::Conflict(10))));
        let forked = Checkpoint { origin: "example.com/log".to_owned(), size: 12, root: leaf(7) };
        let proof = tree::consistency(10, 12, node).unwrap();
        let forked = request(10, &proof, &Note::signed(forked.text(), &log, 0));
        assert!(matches!(witness.add(forked.as_bytes(), 0), Err(Refused::Unproved)));
        assert!(matches!(witness.add(&ask(10, 9, &log), 0), Err(Refused::Malformed(_))));
        let thief = Signer::from_seed("example.com/log", Purpose::Sign, &[2; 32]);
        assert!(matches!(witness.add(&ask(10, 12, &thief), 0), Err(Refused::Forbidden)));
        let other = Checkpoint { origin: "example.com/other".to_owned(), size: 1, root: leaf(0) };
        let other = request(0, &[], &Note::signed(other.text(), &log, 0));
        assert!(matches!(witness.add(other.as_bytes(), 0), Err(Refused::Unknown)));
        for junk in [b"".as_slice(), b"old 0\n", b"old 01\n\n", b"old 0\nAAAA\n\n", b"old 0\n\n\xff"] {
            assert!(matches!(witness.add(junk, 0), Err(Refused::Malformed(_))));
        }
        assert!(witness.add(&ask(10, 11, &log), 0).is_ok());
    }

    #[test]
    fn two_requests_at_once_are_answered_one_after_the_other() {
        let home = tempfile::tempdir().unwrap();
        let log = Signer::from_seed("example.com/log", Purpose::Sign, &[1; 32]);
        let witness = Witness::open(home.path(), "example.com/w", vec![log.verifier()]).unwrap();
        let asks: Vec<Vec<u8>> = (5..13).map(|size| ask(0, size, &log)).collect();
        let won = std::thread::scope(|scope| {
            let asked: Vec<_> = asks.iter().map(|ask| scope.spawn(|| witness.add(ask, 0).is_ok())).collect();
            asked.into_iter().filter_map(|thread| thread.join().ok()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
    }

    #[test]
    fn a_witness_that_lost_its_key_or_goes_by_another_name_does_not_start() {
        let home = tempfile::tempdir().unwrap();
        let open = |name: &str| Witness::open(home.path(), name, Vec::new());
        open("example.com/w").unwrap();
        assert!(matches!(open("example.com/x"), Err(WitnessError::Key { .. })));
        assert!(matches!(open("two words"), Err(WitnessError::Name(_))));
        std::fs::write(home.path().join(KEY_NAME), "key").unwrap();
        assert!(matches!(open("example.com/w"), Err(WitnessError::Key { .. })));
    }
}
