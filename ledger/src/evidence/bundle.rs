//! Names, limits and small files of a bundle, the same for who writes one and who checks it.

use data_encoding::HEXLOWER;
use serde_json::Value;

use super::manifest::Manifest;
use crate::event::{Event, sha256_hex};

pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const CHECKSUMS: &str = "checksums.sha256";
pub(super) const CONSISTENCY: &str = "proofs/consistency";
pub(super) const COVER: &str = "proofs/cover";
pub(super) const EVENTS: &str = "events.jsonl";
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const PAGE: &str = "summary.html";
pub(super) const SIGNATURE: &str = "manifest.sig";
pub(super) const SUMMARY: &str = "summary.json";
pub(super) const VERIFY: &str = "VERIFY.md";

/// Members that the manifest cannot list, because they follow from it.
pub(super) const UNLISTED: [&str; 3] = [CHECKSUMS, MANIFEST, SIGNATURE];

/// Members every bundle has.
pub(super) const REQUIRED: [&str; 9] =
    [VERIFY, CHECKPOINT, CHECKSUMS, EVENTS, MANIFEST, SIGNATURE, COVER, PAGE, SUMMARY];

/// Largest member but `events.jsonl`, so that checking takes a bounded amount of memory.
pub(super) const MAX_SMALL: u32 = 8 << 20;

/// Whether a member can have this name.
pub(super) fn is_known(name: &str) -> bool {
    REQUIRED.contains(&name) || name == CONSISTENCY || digest_of_text(name).is_some()
}

/// The digest in the name of a text.
pub(super) fn digest_of_text(name: &str) -> Option<&str> {
    let (_, file) = name.split_once('/').filter(|(folder, _)| ["destinations", "policies"].contains(folder))?;
    file.strip_suffix(".yaml").filter(|digest| is_digest(digest))
}

/// Names of the texts that an event refers to.
pub(super) fn texts_of(event: &Event) -> impl Iterator<Item = String> {
    [("policy_hash", "policies"), ("destinations_hash", "destinations")].into_iter().filter_map(|(key, folder)| {
        let digest = event.data.get(key).and_then(Value::as_str).filter(|digest| is_digest(digest))?;
        Some(format!("{folder}/{digest}.yaml"))
    })
}

/// Whether this is a SHA-256 as it is written everywhere here.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && HEXLOWER.decode(text.as_bytes()).is_ok()
}

/// `checksums.sha256`: what `sha256sum -c` reads.
pub(super) fn checksums(manifest: &Manifest, manifest_bytes: &[u8], signature: &[u8]) -> String {
    let listed = manifest.files.iter().map(|(name, file)| (name.as_str(), file.sha256.clone()));
    let unlisted = [(MANIFEST, sha256_hex(manifest_bytes)), (SIGNATURE, sha256_hex(signature))];
    let mut lines: Vec<(&str, String)> = listed.chain(unlisted).collect();
    lines.sort_unstable();
    lines.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}
