//! Who is shown each checkpoint of the ledger: witnesses that cosign it, files elsewhere, endpoints.
//!
//! Beside the requests: a witness that is slow or gone holds nothing up. That it was gone is itself recorded.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use http::{StatusCode, Uri};
use jiff::Timestamp;
use ledger::checkpoint::Checkpoint;
use ledger::note::{Purpose, Verifier};
use ledger::{Draft, EventType, Ledger, witness};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;

use crate::gate::Gate;
use crate::outbound::Outbound;
use crate::record;

/// Somebody or something that is shown each checkpoint.
#[derive(Clone, Debug)]
pub enum Witness {
    /// Speaks the protocol of C2SP and cosigns.
    Cosigner {
        /// The prefix of its address.
        url: Uri,
        /// Its key.
        key: Box<Verifier>,
    },
    /// Takes a copy by POST.
    Endpoint(Uri),
    /// A copy in a file, compared when the gate starts.
    File(PathBuf),
}

/// A witness as `writ.yaml` has it: `url` and `key`, or `post`, or `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawWitness {
    url: Option<String>,
    key: Option<String>,
    post: Option<String>,
    file: Option<PathBuf>,
}

/// What is known of one witness.
struct Watch {
    gate: Arc<Gate>,
    outbound: Outbound,
    witness: Witness,
    /// Size of the checkpoint it has.
    seen: u64,
    /// Since when it does not answer.
    silent: Option<(Instant, Timestamp)>,
    /// Whether that is recorded.
    told: bool,
    /// When a cosignature was last recorded.
    recorded: Option<Instant>,
}

// === impl Witness ===

impl TryFrom<RawWitness> for Witness {
    type Error = anyhow::Error;

    fn try_from(raw: RawWitness) -> Result<Witness> {
        let uri = |text: String| {
            let uri: Uri = text.parse().with_context(|| format!("`{text}` is no URL; write https://host"))?;
            match uri.scheme_str() {
                Some("http" | "https") => Ok(uri),
                Some(_) | None => {
                    Err(anyhow!("`{text}` is of another scheme; it has to begin with http:// or https://"))
                }
            }
        };
        match raw {
            RawWitness { url: Some(url), key: Some(key), post: None, file: None } => {
                let key = Verifier::parse(&key).ok().filter(|key| key.purpose() == Purpose::Cosign);
                let key = key.with_context(|| {
                    format!("the `key` of `{url}` is not that of a witness; copy what it prints when it starts")
                })?;
                Ok(Witness::Cosigner { url: uri(url)?, key: Box::new(key) })
            }
            RawWitness { url: None, key: None, post: Some(post), file: None } => Ok(Witness::Endpoint(uri(post)?)),
            RawWitness { url: None, key: None, post: None, file: Some(file) } => Ok(Witness::File(file)),
            RawWitness { .. } => bail!("a witness is reached in one way; give `url` with `key`, or `post`, or `file`"),
        }
    }
}

impl Witness {
    fn name(&self) -> String {
        match self {
            Witness::Cosigner { key, .. } => key.name().to_owned(),
            Witness::Endpoint(url) => url.to_string(),
            Witness::File(path) => path.display().to_string(),
        }
    }
}

/// Compares the ledger with the copies that the configured files hold.
///
/// # Errors
/// When entries that a copy was made of are missing or were rewritten.
pub fn compare(ledger: &Ledger, witnesses: &[Witness]) -> Result<()> {
    for witness in witnesses {
        if let Witness::File(path) = witness {
            match path.try_exists() {
                Ok(true) => ledger.compare(path)?,
                Ok(false) => tracing::warn!(file = %path.display(), "there is no copy of a checkpoint yet"),
                Err(error) => bail!("cannot look at the witness `{}`: {error}", path.display()),
            }
        }
    }
    Ok(())
}

/// Shows every checkpoint from now on to every witness.
///
/// # Errors
/// When the configured roots cannot be used.
pub fn start(gate: &Arc<Gate>) -> Result<()> {
    let outbound = Outbound::new(gate.config.roots.as_deref())?;
    for witness in gate.config.witnesses.clone() {
        let (gate, outbound) = (Arc::clone(gate), outbound.clone());
        let watch = Watch { gate, outbound, witness, seen: 0, silent: None, told: false, recorded: None };
        tokio::spawn(watch.run());
    }
    Ok(())
}

// === impl Watch ===

impl Watch {
    async fn run(mut self) {
        let stop = self.gate.stop.clone();
        let mut made = self.gate.ledger.subscribe_checkpoints();
        let mut pause = EVERY;
        loop {
            if *made.borrow_and_update() > self.seen {
                pause = self.try_to_show(pause).await;
            }
            // A silent one is asked again even if nothing is new.
            let next = (self.silent.is_none()).then_some(&mut made);
            if stop.run_until_cancelled(wait(pause, next)).await.is_none() {
                return;
            }
        }
    }

    /// Shows the newest checkpoint, and says how long to wait before the next try.
    async fn try_to_show(&mut self, pause: Duration) -> Duration {
        match self.show().await {
            Ok(seen) => {
                (self.seen, self.silent, self.told) = (seen, None, false);
                EVERY
            }
            Err(error) => {
                tracing::warn!(witness = self.witness.name(), error = format!("{error:#}"), "not witnessed");
                self.fell_silent().await;
                (pause * 2).min(AT_MOST)
            }
        }
    }

    /// Shows the newest checkpoint and returns its size.
    async fn show(&mut self) -> Result<u64> {
        match self.witness.clone() {
            Witness::Cosigner { url, key } => self.ask(&url, &key).await,
            Witness::Endpoint(url) => {
                let note = self.gate.ledger.checkpoint();
                let (status, _) = self.outbound.post(&url, note.to_string()).await?;
                anyhow::ensure!(status.is_success(), "it answered {status}");
                Ok(Checkpoint::of(&note)?.size)
            }
            Witness::File(path) => {
                let note = self.gate.ledger.checkpoint();
                let size = Checkpoint::of(&note)?.size;
                tokio::task::spawn_blocking(move || witness::keep(&path, &note)).await??;
                Ok(size)
            }
        }
    }

    /// Asks for a cosignature, once more if the witness has seen another size than was thought.
    async fn ask(&mut self, url: &Uri, key: &Verifier) -> Result<u64> {
        let address: Uri = format!("{}/add-checkpoint", url.to_string().trim_end_matches('/')).parse()?;
        for _ in 0..2 {
            let (ledger, seen) = (self.gate.ledger.clone(), self.seen);
            let proved = tokio::task::spawn_blocking(move || ledger.consistency(seen)).await??;
            let Some((proof, note)) = proved else { return self.is_ahead().await };
            let checkpoint = Checkpoint::of(&note)?;
            let (status, answer) = self.outbound.post(&address, witness::request(self.seen, &proof, &note)).await?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            if status == StatusCode::CONFLICT && self.seen != checkpoint.size {
                self.seen = answer.trim().parse().context("it disagrees and does not say about what")?;
                continue;
            }
            anyhow::ensure!(status.is_success(), "it answered {status}: {}", answer.trim());
            let lines = witness::cosignatures(&answer, &note, key);
            anyhow::ensure!(!lines.is_empty(), "its answer is no cosignature");
            let ledger = self.gate.ledger.clone();
            tokio::task::spawn_blocking(move || ledger.cosign(checkpoint.size, lines)).await?;
            self.record(&checkpoint).await;
            return Ok(checkpoint.size);
        }
        bail!("it saw another size than it said")
    }

    /// The witness has seen entries that this ledger does not have.
    async fn is_ahead(&mut self) -> Result<u64> {
        let found = Draft::new(EventType::Violation)
            .with("kind", "ledger_behind_witness")
            .with("severity", "critical")
            .with("detail", format!("`{}` has seen {} entries", self.witness.name(), self.seen));
        if !self.told {
            self.told = true;
            record::append_or_log(&self.gate.ledger, found).await;
        }
        bail!("it has seen {} entries, more than there are: the ledger was rolled back", self.seen)
    }

    /// Cosignatures stand on the ledger themselves from time to time.
    async fn record(&mut self, checkpoint: &Checkpoint) {
        if self.recorded.is_none_or(|recorded| recorded.elapsed() >= RECORD_EVERY) {
            self.recorded = Some(Instant::now());
            let made = Draft::new(EventType::LedgerCheckpoint)
                .with("size", checkpoint.size)
                .with("root", checkpoint.root.to_string())
                .with("cosigned_by", self.witness.name());
            record::append_or_log(&self.gate.ledger, made).await;
        }
    }

    /// After a while the silence of a witness is recorded, once.
    async fn fell_silent(&mut self) {
        let (since, at) = *self.silent.get_or_insert_with(|| (Instant::now(), Timestamp::now()));
        if since.elapsed() >= SILENCE && !self.told {
            self.told = true;
            let gap = Draft::new(EventType::LedgerGap)
                .with("reason", "witness_silent")
                .with("witness", self.witness.name())
                .with("since", at.to_string());
            record::append_or_log(&self.gate.ledger, gap).await;
        }
    }
}

async fn wait(pause: Duration, next: Option<&mut watch::Receiver<u64>>) {
    tokio::time::sleep(pause).await;
    if let Some(made) = next {
        // The sender lives as long as the ledger.
        drop(made.changed().await);
    }
}

/// Between two checkpoints that a witness is shown.
const EVERY: Duration = Duration::from_secs(1);

/// Between two tries, at most.
const AT_MOST: Duration = Duration::from_secs(60);

/// How long a witness may not answer before that is recorded.
const SILENCE: Duration = Duration::from_secs(30);

/// Between two records of cosignatures of one witness.
const RECORD_EVERY: Duration = Duration::from_secs(600);
