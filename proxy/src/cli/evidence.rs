//! `writ export` and `writ verify`: evidence out of a running gate, and checked without one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use ledger::evidence::{self, Trust, Verdict};
use ledger::note::{Note, Verifier};

use super::{Exit, say};
use crate::config::Config;
use crate::door::Door;
use crate::home::Home;

/// What to export.
#[derive(Args, Debug)]
pub(super) struct Export {
    /// Everything about one request, `corr_…`
    correlation: Option<String>,
    /// Everything about one intent, `int_…`
    #[arg(long)]
    intent: Option<String>,
    /// Not before this time, such as 2026-11-20 or 2026-11-20T08:00:00Z
    #[arg(long)]
    since: Option<String>,
    /// Before this time
    #[arg(long)]
    until: Option<String>,
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only for this destination
    #[arg(long)]
    destination: Option<String>,
    /// A checkpoint the auditor has; the bundle then shows that the ledger continues it
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Write one JSON file in ProofGuard's shape instead of a bundle
    #[arg(long, conflicts_with = "checkpoint")]
    capsule: bool,
    /// Where to write it; must not be there yet [default: evidence.zip, or capsule.json]
    #[arg(long, short)]
    out: Option<PathBuf>,
}

/// What to verify, and what is known from elsewhere.
#[derive(Args, Debug)]
pub(super) struct Verify {
    /// A bundle, a capsule, or the proof of one entry
    file: PathBuf,
    /// The ledger's public key, `NAME+…`; without it nobody says whose evidence this is
    #[arg(long)]
    key: Option<String>,
    /// Public key of a witness that must have cosigned; may be given more than once
    #[arg(long = "witness")]
    witnesses: Vec<String>,
    /// A checkpoint kept from before
    #[arg(long)]
    checkpoint: Option<PathBuf>,
}

/// Writes a bundle to a file.
pub(super) async fn export(home: Home, what: &Export) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    let held = what.checkpoint.as_deref().map(std::fs::read_to_string).transpose();
    let fields = [
        ("correlation", what.correlation.clone()),
        ("intent", what.intent.clone()),
        ("since", what.since.clone()),
        ("until", what.until.clone()),
        ("agent", what.agent.clone()),
        ("destination", what.destination.clone()),
        ("checkpoint", held.context("cannot read the checkpoint")?),
    ];
    let query = serde_urlencoded::to_string(fields)?;
    let (page, name) = if what.capsule { ("capsule", "capsule.json") } else { ("export", "evidence.zip") };
    let out = what.out.clone().unwrap_or_else(|| PathBuf::from(name));
    let mut file = create(&out)?;
    let written = door.download(&format!("/v1/{page}?{query}"), &mut file).await;
    if let Err(error) = written.and_then(|()| Ok(file.sync_all()?)) {
        // Half a bundle must not lie about; that it cannot be removed matters less than why it is half.
        drop(std::fs::remove_file(&out));
        return Err(error.context("nothing was written"));
    }
    say(&format!("written to `{}`; check it with `writ verify {0}`", out.display()));
    Ok(Exit::Ok)
}

/// Checks evidence.
pub(super) fn verify(what: &Verify, as_json: bool) -> Result<Exit> {
    let key = |text: &String| Verifier::parse(text);
    let held = what.checkpoint.as_deref().map(read_note).transpose()?;
    let trust = Trust {
        key: what.key.as_ref().map(key).transpose()?,
        witnesses: what.witnesses.iter().map(key).collect::<Result<_, _>>()?,
        checkpoint: held,
    };
    let verdict =
        evidence::verify(&what.file, &trust).with_context(|| format!("cannot read `{}`", what.file.display()))?;
    say(&if as_json { verdict.to_json().to_string() } else { verdict.to_string() });
    Ok(match verdict {
        Verdict::Refused(_) => Exit::Unverified,
        Verdict::Unauthenticated(_) => Exit::Unauthenticated,
        Verdict::Verified(_) => Exit::Ok,
    })
}

/// A checkpoint from a file.
pub(super) fn read_note(path: &Path) -> Result<Note> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Note::parse(&bytes).with_context(|| format!("`{}` is no checkpoint", path.display()))
}

fn create(path: &Path) -> Result<File> {
    if path.exists() {
        bail!("`{}` is there already; choose another name with `--out`", path.display());
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot create `{}`", path.display()))
}
