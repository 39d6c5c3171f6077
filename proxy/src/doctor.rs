//! `writ doctor`: looks whether this machine is fit for a gate, and its clients for going through one.
//!
//! Clients are tried for real, with the variables that `writ env` prints, through a gate of the doctor's own to a server of
//! its own: nothing leaves the machine but one empty connection, which is to show whether anything stops it.

use std::fs::{self, File};
use std::io::Write;
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;
use vault::Vault;

use crate::config::Config;
use crate::door::Door;
use crate::home::{self, Home};
use crate::rulebook::Rulebook;

mod clients;

/// What was looked at, and how it was found.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it was found.
    pub verdict: Verdict,
    /// More about it.
    pub detail: String,
    /// What would mend it; empty where nothing has to be.
    pub fix: String,
}

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, or may not be needed; worth knowing.
    Doubt,
    /// A gate cannot work so.
    Bad,
}

// === impl Finding ===

impl Finding {
    fn good(check: &str, detail: impl Into<String>) -> Finding {
        Finding { check: check.to_owned(), verdict: Verdict::Good, detail: detail.into(), fix: String::new() }
    }

    fn other(check: &str, verdict: Verdict, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { check: check.to_owned(), verdict, detail: detail.into(), fix: fix.into() }
    }
}

/// Looks at everything. `bypass` is the address, `host:port`, to which a direct connection is tried.
///
/// # Errors
/// When the trial itself cannot be set up.
pub async fn examine(home: Home, bypass: &str) -> Result<Vec<Finding>> {
    let mut findings = vec![files(&home)];
    if let Ok(config) = Config::load(home.clone()) {
        findings.push(modes(&home));
        findings.push(clock(&home));
        findings.push(disk(&home));
        findings.push(running(&config).await);
        findings.extend(credentials(&config).await);
    }
    findings.extend(clients::examine().await?);
    findings.push(direct(bypass).await);
    Ok(findings)
}

fn files(home: &Home) -> Finding {
    let shown = home.path().display();
    let loaded = Config::load(home.clone()).and_then(|config| Rulebook::load(&config));
    match loaded {
        Ok(book) => Finding::good("home", format!("`{shown}`, {} destinations", book.rules.destinations().count())),
        Err(error) => Finding::other(
            "home",
            Verdict::Bad,
            format!("{error:#}"),
            "`writ check` says it all; `writ init` makes a home",
        ),
    }
}

/// Secrets that others could read.
fn modes(home: &Home) -> Finding {
    let tokens = fs::read_dir(home.path()).into_iter().flatten().flatten().map(|entry| entry.path());
    let tokens = tokens.filter(|path| path.extension().is_some_and(|extension| extension == "token"));
    let keys = fs::read_dir(home.keys()).into_iter().flatten().flatten().map(|entry| entry.path());
    match tokens.chain(keys).find_map(|path| home::require_private(&path).err()) {
        None => Finding::good("file modes", "tokens and keys are readable for their owner only"),
        Some(error) => Finding::other(
            "file modes",
            Verdict::Bad,
            format!("{error:#}"),
            "run the command, then replace what others may have read",
        ),
    }
}

/// The ledger never goes back in time: a clock that did stops every record.
fn clock(home: &Home) -> Finding {
    let now = Timestamp::now();
    match last_entry(home) {
        Ok(Some(last)) if last > now => Finding::other(
            "clock",
            Verdict::Bad,
            format!("{now} here is before the last entry of the ledger, {last}"),
            "set the clock; the ledger never goes back",
        ),
        Ok(_) => Finding::good("clock", now.to_string()),
        Err(error) => Finding::other("clock", Verdict::Doubt, format!("{error:#}"), "`writ ledger verify` says more"),
    }
}

fn last_entry(home: &Home) -> Result<Option<Timestamp>> {
    let days = fs::read_dir(home.data().join("events")).context("there is no journal")?;
    let Some(newest) = days.flatten().map(|entry| entry.path()).max() else { return Ok(None) };
    let text = fs::read_to_string(&newest)?;
    let Some(line) = text.lines().next_back() else { return Ok(None) };
    let event: Value = serde_json::from_str(line).context("the last line of the journal is not whole")?;
    Ok(event.get("ts").and_then(Value::as_str).and_then(|ts| ts.parse().ok()))
}

/// Every record waits for this once.
fn disk(home: &Home) -> Finding {
    match sync_time(home) {
        Ok(time) if time > SLOW => Finding::other(
            "disk",
            Verdict::Doubt,
            format!("a write takes {} ms to be durable", time.as_millis()),
            "put the data on a disk that is faster or has a battery: each decision waits for one write",
        ),
        Ok(time) => Finding::good("disk", format!("a write is durable within {:.1} ms", time.as_secs_f64() * 1000.0)),
        Err(error) => {
            Finding::other("disk", Verdict::Bad, format!("{error:#}"), "make the data folder writable for this user")
        }
    }
}

/// The median of several.
fn sync_time(home: &Home) -> Result<Duration> {
    let path = home.data().join("doctor.tmp");
    let mut file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[0; 1024])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    fs::remove_file(&path)?;
    times.sort();
    times.get(SYNCS / 2).copied().context("nothing was measured")
}

async fn running(config: &Config) -> Finding {
    let asked = async { Door::of(config)?.ask(http::Method::GET, "/v1/head", None).await };
    match asked.await {
        Ok(_) => Finding::good("gate", format!("answers at {}", config.operator)),
        Err(error) => Finding::other(
            "gate",
            Verdict::Doubt,
            format!("{error:#}"),
            "`writ up` starts it; `writ run` starts one of its own",
        ),
    }
}

/// Each secret is fetched once, and given back.
async fn credentials(config: &Config) -> Vec<Finding> {
    let Ok(book) = Rulebook::load(config) else { return Vec::new() };
    let vault = Vault::new(config.limits.of_secrets());
    let mut findings = Vec::new();
    for (name, credential) in &book.credentials {
        let (check, reference) = (format!("credential {name}"), credential.place.reference().to_string());
        findings.push(match vault.fetch(&credential.place).await {
            Ok(mut fetched) => {
                if let Some(lease) = fetched.lease.take() {
                    // It ends by itself as well.
                    drop(vault.give_back(lease).await);
                }
                Finding::good(&check, reference)
            }
            Err(error) => {
                let fix = format!("requests that need it are refused until `writ credentials test {name}` succeeds");
                Finding::other(&check, Verdict::Doubt, format!("`{reference}`: {error}"), fix)
            }
        });
    }
    findings
}

/// Whether anything stops a program that goes around the gate.
async fn direct(address: &str) -> Finding {
    let check = "bypass";
    match tokio::time::timeout(DIRECT, open(address)).await {
        Ok(Ok(())) => Finding::other(
            check,
            Verdict::Doubt,
            format!("a direct connection to {address} was opened: nothing stops programs of this user"),
            "start agents by `writ run`, or deny them every other way out in the network",
        ),
        Ok(Err(_)) | Err(_) => Finding::good(check, format!("a direct connection to {address} got nowhere")),
    }
}

async fn open(address: &str) -> Result<()> {
    let Some(address) = address.to_socket_addrs()?.next() else { bail!("it has no address") };
    TcpStream::connect(address).await?;
    Ok(())
}

/// From which on a decision waits noticeably.
const SLOW: Duration = Duration::from_millis(30);

/// Writes that are measured.
const SYNCS: usize = 15;

/// For a direct connection.
const DIRECT: Duration = Duration::from_secs(3);
