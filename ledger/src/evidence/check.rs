//! Checking a bundle, in the order of the format's table: the first failure is the verdict.
//!
//! One pass over the lines in constant memory per line; everything else in a bundle is small by its format.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Seek};

use super::archive::{Archive, ArchiveError};
use super::bundle::{self, MAX_SMALL};
use super::keys::Keys;
use super::lines::Lines;
use super::lives::Lives;
use super::manifest::{Entries, Manifest};
use super::report::Checked;
use super::summary::Tally;
use super::{Code, Refusal, Trust, Verdict};
use crate::chain::MAX_LINE;
use crate::checkpoint::Checkpoint;
use crate::event::Event;
use crate::note::{Note, Verifier};
use crate::tree::{Edge, Hash};

/// Why checking ended early.
enum Stop {
    Io(io::Error),
    Refused(Refusal),
}

/// What is read before the lines.
struct Frame {
    manifest: Manifest,
    key: Verifier,
    root: Hash,
    note: Note,
}

/// What the lines amount to.
struct Walked {
    keys: Keys,
    lives: Lives,
    tally: Tally,
    named: BTreeSet<String>,
    entries: Entries,
    /// Root that lines and cover lead to, if the cover fits.
    root: Option<Hash>,
    /// The first entry that a complete bundle lacks.
    lacks: Option<u64>,
    times: Option<[String; 2]>,
}

/// Checks everything.
pub(super) fn bundle<R: Read + Seek>(source: R, trust: &Trust) -> io::Result<Verdict> {
    match check(source, trust) {
        Err(Stop::Io(error)) => Err(error),
        Err(Stop::Refused(refusal)) => Ok(Verdict::Refused(refusal)),
        Ok(checked) if trust.key.is_some() => Ok(Verdict::Verified(checked)),
        Ok(checked) => Ok(Verdict::Unauthenticated(checked)),
    }
}

fn check<R: Read + Seek>(source: R, trust: &Trust) -> Result<Checked, Stop> {
    let mut archive = Archive::open(source)?;
    let frame = frame(&mut archive)?;
    let walked = walk(&mut archive, &frame.manifest)?;
    check_whole(&frame, &walked)?;
    check_summary(&mut archive, &frame.manifest, &walked)?;
    let cosigned = check_trust(&mut archive, trust, &frame, &walked)?;
    let Walked { entries, lives, times, .. } = walked;
    Ok(Checked {
        manifest: frame.manifest,
        key: frame.key,
        entries,
        times,
        requests: lives.correlations(),
        cosigned,
        key_known: trust.key.is_some(),
        held: trust.checkpoint.is_some(),
    })
}

/// Manifest, digests, signature and checkpoint: what says which lines there have to be.
fn frame<R: Read + Seek>(archive: &mut Archive<R>) -> Result<Frame, Stop> {
    if !archive.members().iter().any(|member| member.name == bundle::MANIFEST && member.size <= MAX_SMALL) {
        return Err(refused(Code::Manifest, "there is no manifest.json of at most 8 MiB"));
    }
    let bytes = archive.read(bundle::MANIFEST)?;
    let (manifest, key, root) = Manifest::parse(&bytes)?;
    check_files(archive, &manifest)?;
    let signature = archive.read(bundle::SIGNATURE)?;
    if archive.read(bundle::CHECKSUMS)? != bundle::checksums(&manifest, &bytes, &signature).as_bytes() {
        return Err(refused(Code::Checksums, "checksums.sha256 does not list what is in the bundle"));
    }
    if key.name() != manifest.origin || !key.is_signature(&bytes, &signature) {
        let what = format!("manifest.sig is no signature by `{key}` of the ledger `{}`", manifest.origin);
        return Err(refused(Code::Signature, what));
    }
    let bad = |error: crate::note::NoteError| refused(Code::Checkpoint, error.to_string());
    let note = Note::parse(&archive.read(bundle::CHECKPOINT)?).map_err(bad)?;
    let checkpoint = Checkpoint::of(&note).map_err(bad)?;
    let expected = Checkpoint { origin: manifest.origin.clone(), size: manifest.size, root };
    if checkpoint != expected {
        let what = format!("the checkpoint is of {checkpoint}, the manifest of {expected}");
        return Err(refused(Code::Checkpoint, what));
    }
    note.verify(&key).map_err(bad)?;
    Ok(Frame { manifest, key, root, note })
}

fn check_files<R: Read + Seek>(archive: &mut Archive<R>, manifest: &Manifest) -> Result<(), Stop> {
    let members = archive.members().to_vec();
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let listed: BTreeSet<&str> = manifest.files.keys().map(String::as_str).chain(bundle::UNLISTED).collect();
    if let Some(name) = names.symmetric_difference(&listed).next() {
        return Err(refused(Code::Files, format!("`{name}` is in the bundle or in its manifest, but not in both")));
    }
    if let Some(name) = bundle::REQUIRED.iter().find(|name| !names.contains(*name)) {
        return Err(refused(Code::Files, format!("`{name}` is missing")));
    }
    for member in &members {
        if member.name != bundle::EVENTS && member.size > MAX_SMALL {
            return Err(refused(Code::Files, format!("`{}` is larger than 8 MiB", member.name)));
        }
        let Some(file) = manifest.files.get(&member.name) else { continue };
        let found = digest_of(archive.content(&member.name)?)?;
        if file.bytes != u64::from(member.size) || file.sha256 != found {
            let what = format!("`{}` hashes to `{found}` but the manifest says `{}`", member.name, file.sha256);
            return Err(refused(Code::Files, what));
        }
    }
    Ok(())
}

/// Every line, in order: entry, chain, keys, rules; and what they amount to.
fn walk<R: Read + Seek>(archive: &mut Archive<R>, manifest: &Manifest) -> Result<Walked, Stop> {
    let mut cover = hashes(&archive.read(bundle::COVER)?).map(Vec::into_iter);
    let mut edge = cover.is_some().then(Edge::default);
    let mut lines = Lines::of(&manifest.origin, manifest.size);
    let mut walked = Walked::new();
    let mut awaits_next = false;
    let mut reader = BufReader::with_capacity(READ_BYTES, archive.content(bundle::EVENTS)?);
    while let Some(line) = next_line(&mut reader, lines.expected_seq())? {
        let expected = lines.expected_seq();
        let (event, adjacent) = lines.step(&line)?;
        walked.keys.take(&event)?;
        walked.lives.take(&event)?;
        let selected = walked.take(&event, manifest);
        if (awaits_next || selected) && !adjacent {
            walked.lacks.get_or_insert(if awaits_next { expected } else { event.seq - 1 });
        }
        awaits_next = selected;
        edge = edge.filter(|_| cover.is_some()).and_then(|mut edge| {
            edge.skip_to(event.seq, cover.as_mut()?)?;
            edge.push(Hash::of_leaf(line.as_bytes()));
            Some(edge)
        });
    }
    if awaits_next && lines.expected_seq() < manifest.size {
        walked.lacks.get_or_insert(lines.expected_seq());
    }
    walked.root = edge.zip(cover).and_then(|(mut edge, mut cover)| {
        edge.skip_to(manifest.size, &mut cover)?;
        cover.next().is_none().then(|| edge.root())
    });
    Ok(walked)
}

/// What holds or not only once all lines are known.
fn check_whole(frame: &Frame, walked: &Walked) -> Result<(), Stop> {
    let manifest = &frame.manifest;
    if walked.root != Some(frame.root) {
        let found = walked.root.map_or("no root at all".to_owned(), |root| format!("root `{root}`"));
        let what = format!("lines and proofs/cover lead to {found}, the checkpoint says `{}`", frame.root);
        return Err(refused(Code::Proof, what));
    }
    if walked.keys.last() != Some(&frame.key) {
        return Err(refused(Code::Key, format!("`{}` is not the key that the entries name last", frame.key)));
    }
    check_texts(manifest, &walked.named)?;
    if walked.lives.open() != manifest.open {
        let what =
            format!("sends without an outcome: {:?}; the manifest says {:?}", walked.lives.open(), manifest.open);
        return Err(refused(Code::Open, what));
    }
    if walked.entries != manifest.entries || walked.entries.selected == 0 {
        let (found, said) = (walked.entries, manifest.entries);
        let what = format!(
            "{} lines, {} inside the scope; the manifest says {} and {}",
            found.count, found.selected, said.count, said.selected
        );
        return Err(refused(Code::Scope, what));
    }
    match walked.lacks.filter(|_| manifest.scope.is_of_time_alone()) {
        None => Ok(()),
        Some(seq) => Err(refused(Code::Scope, format!("entry {seq} is inside or beside the scope, but missing"))),
    }
}

fn check_texts(manifest: &Manifest, named: &BTreeSet<String>) -> Result<(), Stop> {
    let texts = || manifest.files.iter().filter_map(|(name, file)| Some((name, bundle::digest_of_text(name)?, file)));
    if let Some((name, ..)) = texts().find(|(_, digest, file)| file.sha256 != *digest) {
        return Err(refused(Code::Texts, format!("`{name}` does not hash to its name")));
    }
    let mut given: Vec<&String> = texts().map(|(name, ..)| name).chain(&manifest.missing).collect();
    given.sort_unstable();
    if given.iter().copied().eq(named) {
        return Ok(());
    }
    Err(refused(Code::Texts, "the texts that are there or said to be missing are not those the entries name"))
}

fn check_summary<R: Read + Seek>(archive: &mut Archive<R>, manifest: &Manifest, walked: &Walked) -> Result<(), Stop> {
    let summary = walked.tally.finish(manifest, walked.lives.correlations());
    let (json, page) = summary.files().map_err(|error| refused(Code::Summary, error.to_string()))?;
    for (name, derived) in [(bundle::SUMMARY, json), (bundle::PAGE, page.into_bytes())] {
        if archive.read(name)? != derived {
            return Err(refused(Code::Summary, format!("`{name}` does not say what the entries say")));
        }
    }
    Ok(())
}

/// What the auditor knows from elsewhere. Gives the witnesses and when each of them cosigned.
fn check_trust<R: Read + Seek>(
    archive: &mut Archive<R>,
    trust: &Trust,
    frame: &Frame,
    walked: &Walked,
) -> Result<Vec<(String, u64)>, Stop> {
    if let Some(key) = trust.key.as_ref().filter(|key| !walked.keys.known().contains(key)) {
        return Err(refused(Code::TrustKey, format!("this ledger is signed by `{}`, not by `{key}`", frame.key)));
    }
    let mut cosigned = Vec::new();
    for witness in &trust.witnesses {
        let time = frame.note.verify(witness).map_err(|error| refused(Code::TrustWitness, error.to_string()))?;
        let what = format!("`{witness}` is not the key of a witness");
        cosigned.push((witness.name().to_owned(), time.ok_or_else(|| refused(Code::TrustWitness, what))?));
    }
    if let Some(held) = &trust.checkpoint {
        let member = archive.read(bundle::CONSISTENCY)?;
        check_held(held, &member, frame, walked.keys.known()).map_err(|what| refused(Code::TrustCheckpoint, what))?;
    }
    Ok(cosigned)
}

/// The checkpoint held elsewhere and the bundle's are of the same ledger.
fn check_held(held: &Note, member: &[u8], frame: &Frame, keys: &[Verifier]) -> Result<(), String> {
    let seen = Checkpoint::of(held).map_err(|error| error.to_string())?;
    let (origin, size) = (&frame.manifest.origin, frame.manifest.size);
    if seen.origin != *origin || !keys.iter().any(|key| held.verify(key).is_ok()) {
        return Err(format!("the checkpoint held elsewhere is not one of the ledger `{origin}`"));
    }
    let rewritten =
        || format!("the ledger does not continue what it was at {} entries: history was rewritten", seen.size);
    if seen.size == size {
        return if seen.root == frame.root { Ok(()) } else { Err(rewritten()) };
    }
    let proof = member.strip_prefix(format!("old {}\n", seen.size).as_bytes()).and_then(hashes);
    let mut proof = proof.map(Vec::into_iter).ok_or_else(|| {
        format!("nothing in the bundle leads from {} entries to its {size}; export with `--checkpoint`", seen.size)
    })?;
    let mut edge = Edge::default();
    let old = edge.skip_to(seen.size, &mut proof).map(|()| edge.root());
    let new = edge.skip_to(size, &mut proof).map(|()| edge.root());
    let holds = old == Some(seen.root) && new == Some(frame.root) && proof.next().is_none();
    if holds { Ok(()) } else { Err(rewritten()) }
}

// === impl Walked ===

impl Walked {
    fn new() -> Walked {
        Walked {
            keys: Keys::default(),
            lives: Lives::default(),
            tally: Tally::default(),
            named: BTreeSet::new(),
            entries: Entries::default(),
            root: None,
            lacks: None,
            times: None,
        }
    }

    /// Counts an event in and says whether it is inside the scope.
    fn take(&mut self, event: &Event, manifest: &Manifest) -> bool {
        self.tally.take(event);
        self.named.extend(bundle::texts_of(event));
        self.entries.count += 1;
        let selected = manifest.scope.holds(event);
        if selected {
            self.entries.selected += 1;
            let ts = event.ts_text();
            let first = self.times.take().map_or_else(|| ts.clone(), |[first, _]| first);
            self.times = Some([first, ts]);
        }
        selected
    }
}

// === impl Stop ===

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Io(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<ArchiveError> for Stop {
    fn from(error: ArchiveError) -> Stop {
        match error {
            ArchiveError::Io(error) => Stop::Io(error),
            ArchiveError::Layout(what) => refused(Code::Archive, what),
        }
    }
}

fn refused(code: Code, message: impl Into<String>) -> Stop {
    Stop::Refused(Refusal::new(code, message))
}

/// The next line without its newline.
fn next_line(reader: &mut impl BufRead, seq: u64) -> Result<Option<String>, Stop> {
    let mut line = Vec::new();
    if reader.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let form = |what| Stop::Refused(Refusal::at(Code::EntryForm, seq, what));
    if line.pop_if(|byte| *byte == b'\n').is_none() {
        return Err(form(format!("it is longer than {MAX_LINE} bytes, or does not end in a newline")));
    }
    String::from_utf8(line).map(Some).map_err(|error| form(format!("it is not UTF-8: {error}")))
}

/// Hashes in base64, one a line.
fn hashes(text: &[u8]) -> Option<Vec<Hash>> {
    let text = str::from_utf8(text).ok()?;
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.strip_suffix('\n')?.split('\n').map(Hash::from_base64).collect()
}

fn digest_of(mut content: impl Read) -> io::Result<String> {
    use sha2::{Digest, Sha256};
    let mut digest = Sha256::new();
    let mut piece = vec![0; READ_BYTES];
    loop {
        let bytes = content.read(&mut piece)?;
        if bytes == 0 {
            return Ok(data_encoding::HEXLOWER.encode(&digest.finalize()));
        }
        digest.update(piece.get(..bytes).unwrap_or_default());
    }
}

/// Reading this much at once keeps checking bound by hashing, not by system calls.
const READ_BYTES: usize = 128 * 1024;
