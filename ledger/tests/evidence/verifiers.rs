//! The two verifiers, asked the same.

use std::path::Path;
use std::process::Command;

use ledger::evidence::{Trust, Verdict, verify_bytes};
use ledger::note::{Note, Verifier};
use serde_json::Value;

/// What a verifier is given besides the bundle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) key: Option<String>,
    pub(crate) witnesses: Vec<String>,
    pub(crate) checkpoint: Option<String>,
}

/// Exit code, code and entry.
pub(crate) type Answer = (u8, Option<String>, Option<u64>);

/// What this crate says.
pub(crate) fn rust(bundle: &[u8], given: &Given) -> Answer {
    let trust = Trust {
        key: given.key.as_deref().map(|key| Verifier::parse(key).unwrap()),
        witnesses: given.witnesses.iter().map(|key| Verifier::parse(key).unwrap()).collect(),
        checkpoint: given.checkpoint.as_deref().map(|note| Note::parse(note.as_bytes()).unwrap()),
    };
    let verdict = verify_bytes(bundle, &trust).unwrap();
    assert!(!verdict.to_string().is_empty());
    match &verdict {
        Verdict::Refused(refusal) => (verdict.exit_code(), Some(refusal.code.to_string()), refusal.entry),
        Verdict::Unauthenticated(_) | Verdict::Verified(_) => (verdict.exit_code(), None, None),
    }
}

/// What `deploy/verify.py` says.
pub(crate) fn python(bundle: &[u8], given: &Given) -> Answer {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bundle.zip"), bundle).unwrap();
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/verify.py")).arg(dir.path().join("bundle.zip"));
    command.arg("--json").env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(key) = &given.key {
        command.args(["--key", key]);
    }
    for key in &given.witnesses {
        command.args(["--witness", key]);
    }
    if let Some(note) = &given.checkpoint {
        std::fs::write(dir.path().join("held"), note).unwrap();
        command.arg("--checkpoint").arg(dir.path().join("held"));
    }
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    let code = said.get("code").and_then(Value::as_str).map(str::to_owned);
    let exit = u8::try_from(output.status.code().unwrap()).unwrap();
    (exit, code, said.get("entry").and_then(Value::as_u64))
}

/// What both say.
pub(crate) fn both(bundle: &[u8], given: &Given) -> Answer {
    let answer = rust(bundle, given);
    assert_eq!(python(bundle, given), answer, "verify.py and this crate disagree");
    answer
}
