//! Checking a bundle.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Seek};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{Rest, Stop, check_trust, hashes, refused};
use crate::chain::MAX_LINE;
use crate::checkpoint::Checkpoint;
use crate::evidence::archive::{Archive, ArchiveError};
use crate::evidence::bundle::{self, MAX_SMALL};
use crate::evidence::manifest::Manifest;
use crate::evidence::report::Checked;
use crate::evidence::walk::{Subject, Walked, walk};
use crate::evidence::{Code, Refusal, Trust};
use crate::note::Verifier;
use crate::tree::Hash;

/// What is read before the lines.
struct Frame {
    manifest: Manifest,
    key: Verifier,
    root: Hash,
    rest: Rest,
}

/// Checks everything.
pub(super) fn check<R: Read + Seek>(source: R, trust: &Trust) -> Result<Checked, Stop> {
    let mut archive = Archive::open(source)?;
    let frame = frame(&mut archive)?;
    let walked = lines(&mut archive, &frame)?;
    check_whole(&frame, &walked)?;
    check_summary(&mut archive, &frame.manifest, &walked)?;
    let consistency = archive.read(bundle::CONSISTENCY)?;
    let cosigned = check_trust(trust, &frame.rest, &walked.keys, &consistency)?;
    let Frame { manifest, rest, .. } = frame;
    let scope = (&manifest.scope, manifest.missing.as_slice());
    Ok(Checked::of(&rest.checkpoint, &walked, scope, cosigned, trust))
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
    let rest = Rest::read(&archive.read(bundle::CHECKPOINT)?)?;
    let expected = Checkpoint { origin: manifest.origin.clone(), size: manifest.size, root };
    if rest.checkpoint != expected {
        let what = format!("the checkpoint is of {}, the manifest of {expected}", rest.checkpoint);
        return Err(refused(Code::Checkpoint, what));
    }
    rest.check_signed(&key)?;
    Ok(Frame { manifest, key, root, rest })
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

fn lines<R: Read + Seek>(archive: &mut Archive<R>, frame: &Frame) -> Result<Walked, Stop> {
    let manifest = &frame.manifest;
    let cover = hashes(&archive.read(bundle::COVER)?);
    let subject = Subject { origin: &manifest.origin, size: manifest.size, scope: &manifest.scope };
    let mut reader = BufReader::with_capacity(READ_BYTES, archive.content(bundle::EVENTS)?);
    walk(subject, cover, |seq| next_line(&mut reader, seq))
}

/// What holds or not only once all lines are known.
fn check_whole(frame: &Frame, walked: &Walked) -> Result<(), Stop> {
    let manifest = &frame.manifest;
    walked.check_root(frame.root)?;
    if walked.keys.last() != Some(&frame.key) {
        return Err(refused(Code::Key, format!("`{}` is not the key that the entries name last", frame.key)));
    }
    check_texts(manifest, &walked.named)?;
    if walked.lives.open() != manifest.open {
        let what =
            format!("sends without an outcome: {:?}; the manifest says {:?}", walked.lives.open(), manifest.open);
        return Err(refused(Code::Open, what));
    }
    if walked.entries != manifest.entries {
        let (found, said) = (walked.entries, manifest.entries);
        let what = format!(
            "{} lines, {} inside the scope; the manifest says {} and {}",
            found.count, found.selected, said.count, said.selected
        );
        return Err(refused(Code::Scope, what));
    }
    Ok(walked.check_scope(&manifest.scope)?)
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

// === impl Stop ===

impl From<ArchiveError> for Stop {
    fn from(error: ArchiveError) -> Stop {
        match error {
            ArchiveError::Io(error) => Stop::Io(error),
            ArchiveError::Layout(what) => refused(Code::Archive, what),
        }
    }
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

fn digest_of(mut content: impl Read) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; READ_BYTES];
    loop {
        let bytes = content.read(&mut piece)?;
        if bytes == 0 {
            return Ok(HEXLOWER.encode(&digest.finalize()));
        }
        digest.update(piece.get(..bytes).unwrap_or_default());
    }
}

/// Reading this much at once keeps checking bound by hashing, not by system calls.
const READ_BYTES: usize = 128 * 1024;
