//! `writ up`: opens the doors, serves, and ends orderly.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::gate::Gate;
use crate::home::Home;
use crate::rulebook::Rulebook;
use crate::setup::{self, FIRST_AGENT};
use crate::{drain, listen, notify, operator, witness};

/// A gate with its doors open.
#[derive(Debug)]
pub struct Running {
    /// The gate.
    pub gate: Arc<Gate>,
    /// Bound address of the forward door.
    pub forward: SocketAddr,
    /// Bound address of the operator door.
    pub operator: SocketAddr,
    /// Bound address of the reverse door, where there is one.
    pub reverse: Option<SocketAddr>,
}

/// A home that is complete and configured, not yet served.
#[derive(Debug)]
pub struct Ready {
    config: Config,
    first: bool,
}

/// Creates what is missing and reads the configuration.
///
/// # Errors
/// What cannot be created, or is wrong with the files, with the remedy.
pub fn prepare(home: Home) -> Result<Ready> {
    let first = setup::create(&home)?;
    let config = Config::load(home)?;
    Rulebook::load(&config)?;
    Ok(Ready { config, first })
}

/// Opens everything and serves until SIGINT or SIGTERM; requests under way get their time, unless SIGINT comes then.
/// SIGHUP reloads the rules.
///
/// # Errors
/// Whatever stops the gate from starting, with the remedy.
pub async fn run(ready: Ready) -> Result<()> {
    let running = start(ready.config).await?;
    announce(&running, ready.first)?;
    drain::tell_systemd(NotifyState::Ready);
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => match running.gate.reload().await {
                Ok(()) => tracing::info!("destinations and policies were loaded again"),
                Err(error) => tracing::error!(error = format!("{error:#}"), "nothing was changed; the rules in force stay"),
            },
        }
    }
    drain::shut_down(running.gate, async move {
        interrupt.recv().await;
    })
    .await;
    Ok(())
}

/// Binds the doors, opens the gate behind them, serves in the background.
///
/// # Errors
/// As [`run`].
pub async fn start(config: Config) -> Result<Running> {
    let forward = bind(config.forward, "forward").await?;
    let operator = bind(config.operator, "operator").await?;
    let reverse = match config.reverse.clone() {
        Some(door) => Some((bind(door.address, "reverse").await?, door)),
        None => None,
    };
    let (forward_at, operator_at) = (forward.local_addr()?, operator.local_addr()?);
    let reverse_at = reverse.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?;
    let own = [forward_at, operator_at].into_iter().chain(reverse_at).collect();
    let gate = Gate::open(config, own).await?;
    gate.start_background();
    witness::start(&gate)?;
    notify::start(&gate)?;
    let room = listen::room(&gate);
    tokio::spawn(listen::forward(Arc::clone(&gate), forward, Arc::clone(&room)));
    if let Some((listener, door)) = reverse {
        tokio::spawn(listen::reverse(Arc::clone(&gate), listener, room, door));
    }
    tokio::spawn(operator::serve(Arc::clone(&gate), operator));
    Ok(Running { gate, forward: forward_at, operator: operator_at, reverse: reverse_at })
}

async fn bind(address: SocketAddr, door: &str) -> Result<TcpListener> {
    let remedy = format!(
        "cannot open the {door} door at {address}; is another gate running? `doors.{door}` in writ.yaml changes the address"
    );
    TcpListener::bind(address).await.context(remedy)
}

/// Says what to paste. A token is shown on a terminal only; elsewhere the file it is in.
fn announce(running: &Running, first: bool) -> Result<()> {
    let mut out = std::io::stdout();
    let home = &running.gate.config.home;
    let (forward, operator) = (running.forward, running.operator);
    let bundle = home.bundle();
    let bundle = bundle.display();
    let token_file = home.agent_token(FIRST_AGENT);
    let token = match std::fs::read_to_string(&token_file) {
        Ok(token) if out.is_terminal() => token.trim().to_owned(),
        Ok(_) | Err(_) => format!("$(cat {})", token_file.display()),
    };
    let proxy = setup::proxy_url(FIRST_AGENT, &token, forward);
    writeln!(out, "writ {} is up{}", env!("CARGO_PKG_VERSION"), if first { " for the first time" } else { "" })?;
    writeln!(
        out,
        "  forward door   http://{forward}\n  operator door  http://{operator}\n  home           {}",
        home.path().display()
    )?;
    if let (Some(address), Some(door)) = (running.reverse, &running.gate.config.reverse) {
        let scheme = if door.identity.is_some() { "https" } else { "http" };
        writeln!(out, "  reverse door   {scheme}://{address}")?;
        door.shown().try_for_each(|route| writeln!(out, "                   {route}"))?;
    }
    writeln!(out, "  CA SHA-256     {}", running.gate.issuer.root().fingerprint())?;
    for (policy, until) in running.gate.rulebook().rules.not_enforced(Timestamp::now()) {
        writeln!(out, "\n  NOT ENFORCED   policy `{policy}` until {until}: what it holds or denies is sent")?;
    }
    writeln!(out, "\nIn the agent's shell:")?;
    writeln!(
        out,
        "  export HTTPS_PROXY=\"{proxy}\"; export HTTP_PROXY=\"$HTTPS_PROXY\" https_proxy=\"$HTTPS_PROXY\" http_proxy=\"$HTTPS_PROXY\""
    )?;
    writeln!(
        out,
        "  export SSL_CERT_FILE={bundle} CURL_CA_BUNDLE={bundle} REQUESTS_CA_BUNDLE={bundle} GIT_SSL_CAINFO={bundle} NODE_EXTRA_CA_CERTS={bundle} GRPC_DEFAULT_SSL_ROOTS_FILE_PATH={bundle}"
    )?;
    if setup::is_starter(home) {
        writeln!(out, "\nTry it there:")?;
        writeln!(out, "  curl https://example.com/                     # a read: allowed")?;
        writeln!(out, "  curl -X DELETE https://example.com/           # nothing allows it: denied, with the reason")?;
        writeln!(out, "  curl -d 'hello' https://example.com/          # a change: held for approval")?;
    }
    let own = std::env::current_exe().map_or_else(|_| "writ".to_owned(), |path| path.display().to_string());
    writeln!(out, "\nIn your own shell:")?;
    writeln!(
        out,
        "  {own} login        # a code for the pages at http://{operator}/\n  {own} pending\n  {own} approve INTENT --rationale 'why'\n  {own} ledger tail\n\nCtrl-C ends the gate."
    )?;
    out.flush()?;
    Ok(())
}
