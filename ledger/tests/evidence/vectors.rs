//! The committed vectors: bundles changed in every way, each with the verdict it must get. Both verifiers give it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::verifiers::{Given, rust};

/// One bundle, as changes to a committed one, and what a verifier must say about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vector {
    /// What was done to it.
    pub(crate) what: String,
    /// The bundle it was made from.
    pub(crate) base: String,
    /// Offset in the base, bytes to leave out there, base64 of what is there instead; in order.
    pub(crate) splices: Vec<(usize, usize, String)>,
    /// What the verifier is given besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) witnesses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<String>,
    /// The exit code, and for 4 the code of the first failure and the entry it names.
    pub(crate) exit: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<u64>,
}

// === impl Vector ===

impl Vector {
    pub(crate) fn bundle(&self) -> Vec<u8> {
        let base = std::fs::read(folder().join(&self.base)).unwrap();
        let (mut bytes, mut at) = (Vec::new(), 0);
        for (offset, left_out, instead) in &self.splices {
            bytes.extend_from_slice(&base[at..*offset]);
            bytes.extend(BASE64.decode(instead.as_bytes()).unwrap());
            at = offset + left_out;
        }
        bytes.extend_from_slice(&base[at..]);
        bytes
    }
}

#[test]
fn every_vector_gets_its_verdict() {
    let classes = classes();
    for (class, vectors) in &classes {
        for vector in vectors {
            let given = Given {
                key: vector.key.clone(),
                witnesses: vector.witnesses.clone(),
                checkpoint: vector.checkpoint.clone(),
            };
            let expected = (vector.exit, vector.code.clone(), vector.entry);
            assert_eq!(rust(&vector.bundle(), &given), expected, "{class}: {}", vector.what);
        }
    }
    let refused = classes.values().flatten().filter(|vector| vector.exit == 4).count();
    let tampered = classes.values().filter(|vectors| vectors.iter().any(|vector| vector.exit == 4)).count();
    assert!(refused >= 500 && tampered >= 25, "{refused} refused vectors in {tampered} classes");
}

#[test]
fn the_verifier_in_python_gives_the_same_verdicts() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evidence/vectors.py");
    let output = Command::new("python3").arg("-B").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    let total: usize = classes().values().map(Vec::len).sum();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("{total} vectors agree"));
}

fn classes() -> BTreeMap<String, Vec<Vector>> {
    let mut classes = BTreeMap::new();
    for entry in folder().read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let vectors = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            classes.insert(path.file_stem().unwrap().to_string_lossy().into_owned(), vectors);
        }
    }
    classes
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/bundles")
}
