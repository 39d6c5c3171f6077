//! The running gate: what every request needs, put together once, and what runs beside the requests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use arc_swap::{ArcSwap, ArcSwapOption};
use ca::{Issuer, Root};
use jiff::Timestamp;
use ledger::{Draft, EventType, Ledger, Options, Sealed, State};
use policy::Rules;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vault::Vault;

use crate::access_tokens::Tokens;
use crate::config::Config;
use crate::flood::Refusals;
use crate::health::Vaults;
use crate::limits::Limits;
use crate::metrics::{Metrics, Stage};
use crate::mint::Mint;
use crate::neighbour::Neighbours;
use crate::orders::{self, Signer};
use crate::pool::Pool;
use crate::principal::Principals;
use crate::record::{self, Trace};
use crate::rulebook::{Rulebook, Traces};
use crate::shares::Shares;
use crate::span::Spans;
use crate::{downtime, enrol, hold, listen, parked, witness};

/// Everything a request needs. One for the process; shared by all doors.
#[derive(Debug)]
pub struct Gate {
    /// What the operator configured.
    pub config: Config,
    /// Limits in force.
    pub limits: Arc<Limits>,
    /// Where every decision is recorded.
    pub ledger: Ledger,
    /// Held requests and kept replies.
    pub sealed: Arc<Sealed>,
    /// Where secrets come from.
    pub vault: Vault,
    /// Access tokens in use.
    pub tokens: Tokens,
    /// Makes leaf certificates.
    pub issuer: Issuer,
    /// How many leaves an agent may cause.
    pub mint: Mint,
    /// Open connections to upstreams.
    pub pool: Pool,
    /// Names being looked up, for each agent.
    pub lookups: Arc<Shares<String>>,
    /// Memory for replies that wait for their readers, in bytes.
    pub replies: Arc<Shares<String>>,
    /// Agents and operators.
    pub principals: Principals,
    /// Signs orders for runners.
    pub orders: Signer,
    /// Memory for request bodies, in bytes.
    pub bodies: Arc<Semaphore>,
    /// Held while a request is parked: its limits and its twin are looked for and it is added in one step.
    pub parking: tokio::sync::Mutex<()>,
    /// Held while files are read and put in force.
    reloading: tokio::sync::Mutex<()>,
    /// Refusals that are counted rather than recorded one by one.
    pub refusals: Refusals,
    /// Connections of agents; a shutdown waits for the requests on them.
    pub connections: TaskTracker,
    /// Executions under way; a shutdown waits for them.
    pub tasks: TaskTracker,
    /// Cancelled when the gate shuts down.
    pub stop: CancellationToken,
    /// When it was opened.
    pub opened: Timestamp,
    /// Told when somebody is suspended or stopped: replies under way look again whether they may go on.
    pub tightened: watch::Sender<()>,
    /// What is counted for Prometheus.
    pub metrics: Metrics,
    /// What is told to a collector of traces.
    pub spans: Spans,
    /// Vaults that do not lend.
    pub vaults: Vaults,
    /// Why the rules written last are not in force; none when they are.
    pub rules_refused: ArcSwapOption<String>,
    /// Whether an agent runs as the gate's own user.
    pub neighbours: Neighbours,
    rulebook: ArcSwap<Rulebook>,
    /// The files before they were first read.
    traces: Traces,
    /// Addresses of the gate's own doors.
    own: Vec<SocketAddr>,
}

// === impl Gate ===

impl Gate {
    /// Opens everything. `own` are the addresses its doors are bound to.
    ///
    /// # Errors
    /// Whatever stops the gate from starting, with what to do about it.
    pub async fn open(config: Config, own: Vec<SocketAddr>) -> Result<Arc<Gate>> {
        let limits = Arc::clone(&config.limits);
        let traces = Traces::of(&config);
        let rulebook = Rulebook::load(&config)?;
        let data = config.home.data();
        let issuer = Issuer::new(Root::open(&config.home.ca())?, limits.leaves);
        let known = config.home.keys().join("principals.json");
        // A home that lost the file must not serve as if nobody had ever been added: nothing is made anew here.
        crate::home::require_private(&known)?;
        let principals = Principals::open(&known)?;
        let queue = Limits::size(limits.ledger_queue);
        let options = Options { dir: data, queue, reserve_bytes: limits.reserve_bytes };
        let (witnesses, key) = (config.witnesses.clone(), config.ledger_key.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let ledger = Ledger::open_with_key(options, key.as_deref())?;
            witness::compare(&ledger, &witnesses).map(|()| ledger)
        });
        let ledger = opened.await??;
        verify_all(&ledger).await?;
        let gate = Arc::new(Gate {
            vault: Vault::new(limits.of_secrets()),
            pool: Pool::new(
                Limits::seconds(limits.upstream_idle_seconds),
                Limits::size(limits.upstream_idle),
                listen::descriptors() / 4,
            ),
            lookups: halves(limits.lookups),
            replies: halves(limits.reply_budget_bytes),
            mint: Mint::new(limits.leaves_per_minute),
            bodies: Arc::new(Semaphore::new(Limits::size(limits.body_budget_bytes).min(Semaphore::MAX_PERMITS))),
            tokens: Tokens::default(),
            parking: tokio::sync::Mutex::new(()),
            reloading: tokio::sync::Mutex::new(()),
            refusals: Refusals::default(),
            connections: TaskTracker::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            opened: Timestamp::now(),
            tightened: watch::Sender::default(),
            metrics: Metrics::new(config.metrics)?,
            spans: config.traces.clone().map(Spans::to).unwrap_or_default(),
            vaults: Vaults::default(),
            rules_refused: ArcSwapOption::empty(),
            neighbours: Neighbours::default(),
            rulebook: ArcSwap::from_pointee(rulebook),
            traces,
            sealed: Arc::new(open_sealed(&config, &limits)?),
            orders: Signer::open(&config.home.keys().join("orders.key"))?,
            config,
            limits,
            ledger,
            issuer,
            principals,
            own,
        });
        enrol::tighten(&gate);
        gate.record_start().await?;
        warn(&gate.rulebook());
        enrol::from_files(&gate).await?;
        Ok(gate)
    }

    /// The version in force now; a request takes it once.
    pub fn rulebook(&self) -> Arc<Rulebook> {
        self.rulebook.load_full()
    }

    /// A stage of a request is over that began then: for whoever watches the gate.
    pub fn passed(&self, stage: Stage, begun: Instant, trace: &Trace) {
        self.metrics.passed(stage, begun);
        self.spans.stage(stage.name(), trace.span.as_ref(), begun);
    }

    /// Addresses of its doors: forward, operator, and reverse where there is one.
    pub fn doors(&self) -> &[SocketAddr] {
        &self.own
    }

    /// Whether an address is one of the gate's own doors.
    pub fn is_own(&self, address: SocketAddr) -> bool {
        let same = |own: &SocketAddr| {
            own.port() == address.port()
                && (own.ip() == address.ip() || own.ip().is_unspecified() || is_local(address.ip()))
        };
        self.own.iter().any(same)
    }

    /// Starts what runs beside the requests: expiry, counted refusals, retention, and what a restart left undone.
    pub fn start_background(self: &Arc<Gate>) {
        let gate = Arc::clone(self);
        tokio::spawn(async move { gate.tick().await });
        self.resume_voted();
    }

    /// Decides anew on everything that a person has voted on and that was not carried out: after a restart, or when
    /// what stood in the way is gone.
    pub fn resume_voted(self: &Arc<Gate>) {
        for intent in self.ledger.intents(&[State::Approved, State::Held], usize::MAX) {
            if intent.state == State::Approved || !intent.votes.is_empty() {
                tokio::spawn(Arc::clone(self).resume(intent.id));
            }
        }
    }

    async fn resume(self: Arc<Gate>, intent: String) {
        if let Err(refusal) = parked::resume(&self, &intent).await {
            let code = refusal.answer().code;
            tracing::warn!(intent, code, cause = refusal.cause(), "an approved request was not carried out");
        }
    }

    /// Reads destinations, policies and credentials again. A fault leaves the version in force, and is recorded.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub async fn reload(&self) -> Result<()> {
        // One after the other: files that were read earlier must not be put in force later.
        let _one_at_a_time = self.reloading.lock().await;
        match tokio::task::block_in_place(|| Rulebook::load(&self.config)) {
            Ok(rulebook) => {
                self.record_rules(&rulebook.rules).await?;
                warn(&rulebook);
                self.rulebook.store(Arc::new(rulebook));
                self.rules_refused.store(None);
                self.pool.sweep(true);
                Ok(())
            }
            Err(invalid) => {
                self.rules_refused.store(Some(Arc::new(invalid.to_string())));
                record::append_or_log(&self.ledger, record::refused_configuration(&invalid)).await;
                Err(invalid.into())
            }
        }
    }

    async fn tick(self: &Arc<Gate>) {
        let mut each_second = tokio::time::interval(Duration::from_secs(1));
        let mut seconds: u64 = 0;
        let mut loaded = self.traces.clone();
        let mut last = loaded.clone();
        while self.stop.run_until_cancelled(each_second.tick()).await.is_some() {
            self.expire().await;
            orders::end_unreported(self).await;
            self.pool.sweep(false);
            self.tokens.sweep();
            // Files that changed and then stayed as they are for a second: nobody is writing them any more.
            let now = Traces::of(&self.config);
            if now == last && now != loaded {
                loaded = now.clone();
                self.reload_or_log().await;
            }
            last = now;
            for draft in self.refusals.due(false) {
                record::append_or_log(&self.ledger, draft).await;
            }
            if seconds.is_multiple_of(LOGINS_EVERY_SECONDS) {
                self.tend_logins();
            }
            if seconds.is_multiple_of(RETENTION_EVERY_SECONDS) {
                self.sweep().await;
            }
            seconds += 1;
        }
    }

    /// In a task of its own: a vault that hangs must not hold up what else is done.
    fn tend_logins(self: &Arc<Gate>) {
        let gate = Arc::clone(self);
        self.tasks.spawn(async move { gate.config.providers.tend(gate.limits.of_secrets()).await });
    }

    async fn reload_or_log(&self) {
        match self.reload().await {
            Ok(()) => tracing::info!("destinations, policies and credentials were loaded again"),
            Err(error) => tracing::error!(error = format!("{error:#}"), "nothing was changed; the rules in force stay"),
        }
    }

    /// Ends what nobody decided in time, or does what its policy says of that. The ledger refuses the event when a decision was quicker.
    async fn expire(self: &Arc<Gate>) {
        let waiting = self.ledger.intents(&[State::Approved, State::Held], usize::MAX);
        for intent in waiting.iter().filter(|intent| parked::is_expired(self, intent)) {
            if let Err(refusal) = parked::unanswered(self, intent).await {
                tracing::info!(intent = intent.id, cause = refusal.cause(), "not expired");
            }
        }
    }

    /// Removes sealed files past their retention, never the request of an intent that still waits or that a standing
    /// approval was given for.
    async fn sweep(&self) {
        let age = Limits::seconds(self.limits.retention_hours.saturating_mul(3600));
        let Some(before) = SystemTime::now().checked_sub(age) else { return };
        let waiting =
            self.ledger.intents(&[State::Approved, State::Executing, State::Held, State::Unknown], usize::MAX);
        let standings = self.ledger.standings();
        let remembered = standings.iter().map(|standing| hold::text(&standing.data, "intent"));
        let waiting = waiting.into_iter().map(|intent| intent.id);
        let kept = waiting.chain(remembered).map(|intent| hold::request_name(&intent)).collect();
        let sealed = Arc::clone(&self.sealed);
        let swept = tokio::task::spawn_blocking(move || sealed.sweep(before, &kept)).await;
        if let Err(error) = swept.map_err(anyhow::Error::from).and_then(|swept| swept.map_err(anyhow::Error::from)) {
            tracing::error!(%error, "old sealed files could not be removed");
        }
    }

    async fn record_start(&self) -> Result<()> {
        if let Some(gap) = downtime::gap(&self.ledger)? {
            self.ledger.append(vec![gap]).await.context("the time without a gate could not be recorded")?;
        }
        let started = Draft::new(EventType::GateStarted)
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("ca_fingerprint", self.issuer.root().fingerprint());
        self.ledger.append(vec![started]).await.context("the start could not be recorded")?;
        self.record_rules(&self.rulebook().rules).await
    }

    /// Stores the texts in force by their hash, then says which they are.
    async fn record_rules(&self, rules: &Rules) -> Result<()> {
        let mut policies = serde_json::Map::new();
        for (hash, text, name) in rules.texts() {
            let (ledger, text) = (self.ledger.clone(), text.to_owned());
            let stored = tokio::task::spawn_blocking(move || ledger.store_text(text.as_bytes())).await??;
            if stored != hash {
                return Err(anyhow!("`{name}` was stored under another hash than it was loaded with"));
            }
            let path = std::path::Path::new(name);
            let path = path.strip_prefix(self.config.home.path()).unwrap_or(path);
            policies.insert(path.display().to_string(), hash.into());
        }
        let now = Timestamp::now();
        let mut loaded = Draft::new(EventType::ConfigLoaded)
            .with("destinations_hash", rules.destinations_hash())
            .with("files", policies)
            .with("at", now.to_string());
        let tried: Vec<&str> = rules.not_enforced(now).map(|(policy, _)| policy).collect();
        if !tried.is_empty() {
            loaded = loaded.with("not_enforced", tried);
        }
        self.ledger.append(vec![loaded]).await.context("the rules could not be recorded")?;
        Ok(())
    }
}

/// So much for all, half of it for one agent.
fn halves(most: u64) -> Arc<Shares<String>> {
    let most = Limits::size(most);
    Shares::new(most, most.div_ceil(2))
}

/// Says what someone should look at.
fn warn(rulebook: &Rulebook) {
    for fault in rulebook.warnings() {
        tracing::warn!("{fault}");
    }
}

/// Opening verified the end of the chain; this verifies all of it. A short one is verified before the doors open, a long
/// one beside the first requests.
async fn verify_all(ledger: &Ledger) -> Result<()> {
    let ledger = ledger.clone();
    let short = ledger.head().seq < SHORT_LEDGER;
    let verifying = tokio::task::spawn_blocking(move || {
        let verified = ledger.verify();
        if let Err(error) = &verified {
            tracing::error!(%error, "the ledger does not verify; nothing is allowed any more");
            ledger.latch(&format!("the ledger does not verify: {error}"));
        }
        verified.map(|_| ())
    });
    if short {
        verifying.await?.context("the ledger does not verify; restore the journal from a copy that does")?;
    }
    Ok(())
}

fn open_sealed(config: &Config, limits: &Limits) -> Result<Sealed> {
    let (dir, key) = (config.home.data().join("sealed"), config.home.keys().join("seal.key"));
    Ok(Sealed::open(&dir, &key, ledger::Limits { max_bytes: limits.sealed_bytes })?)
}

/// Whether an address is this machine's own as far as the address alone can say.
fn is_local(address: IpAddr) -> bool {
    crate::address::unmapped(address).is_loopback() || address.is_unspecified()
}

/// How often old sealed files are looked for.
const RETENTION_EVERY_SECONDS: u64 = 600;

/// How often the logins to vaults are looked at.
const LOGINS_EVERY_SECONDS: u64 = 2;

/// Entries that are verified in well under a second.
const SHORT_LEDGER: u64 = 100_000;
