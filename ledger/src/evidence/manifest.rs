//! The manifest: what a bundle says about itself, signed by the ledger's key.
//!
//! Read in its one canonical spelling only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bundle::{UNLISTED, digest_of_text, is_digest, is_known};
use super::{Code, Refusal, Scope};
use crate::note::{Purpose, Verifier};
use crate::tree::Hash;

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) entries: Entries,
    pub(super) files: BTreeMap<String, FileDigest>,
    pub(super) key: String,
    pub(super) missing: Vec<String>,
    pub(super) open: Vec<String>,
    pub(super) origin: String,
    pub(super) root: String,
    pub(super) schema: String,
    pub(super) scope: Scope,
    pub(super) size: u64,
}

/// How many entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entries {
    /// All lines.
    pub(super) count: u64,
    /// Those inside the scope.
    pub(super) selected: u64,
}

/// Size and digest of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileDigest {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

// === impl Manifest ===

impl Manifest {
    /// Reads a manifest, with the key and the root it names.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Manifest, Verifier, Hash), Refusal> {
        let refused = |what: String| Refusal::new(Code::Manifest, format!("manifest.json {what}"));
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| refused(format!("cannot be read: {error}")))?;
        if manifest.to_bytes().map_err(|error| refused(error.to_string()))? != bytes {
            return Err(refused("is not canonical JSON".to_owned()));
        }
        if manifest.schema != SCHEMA {
            return Err(refused(format!("is of schema `{}`, this verifier knows `{SCHEMA}`", manifest.schema)));
        }
        let key = Verifier::parse(&manifest.key).map_err(|error| refused(format!("names no key: {error}")))?;
        let root = Hash::from_base64(&manifest.root).ok_or_else(|| refused("names no root".to_owned()))?;
        let is_plain = key.purpose() == Purpose::Sign
            && is_sorted(&manifest.missing)
            && is_sorted(&manifest.open)
            && manifest.missing.iter().all(|name| digest_of_text(name).is_some())
            && manifest.files.keys().all(|name| is_known(name) && !UNLISTED.contains(&name.as_str()))
            && manifest.files.values().all(|file| is_digest(&file.sha256));
        if is_plain {
            Ok((manifest, key, root))
        } else {
            Err(refused("holds a name or digest that cannot be".to_owned()))
        }
    }

    /// The canonical bytes, which are signed.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json_canonicalizer::to_vec(self)
    }
}

/// Strictly ascending, by bytes.
fn is_sorted(names: &[String]) -> bool {
    names.is_sorted_by(|a, b| a < b)
}

/// Version of the bundle's format.
pub(super) const SCHEMA: &str = "writ-evidence-1";
