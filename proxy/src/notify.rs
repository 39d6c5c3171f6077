//! Tells people what is held, decided, failed or violated: over Slack and webhooks.
//!
//! The ledger is the queue. Each channel keeps on disk up to which entry it has told, so what could not be delivered is
//! tried again, after a restart too; a receiver may hear the same twice, under the same id. What is told opens nothing:
//! a link leads to the operator door, which asks who comes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use jiff::{SignedDuration, Timestamp};
use ledger::{Ledger, Past, ReadError};
use serde::{Deserialize, Serialize};

pub use self::channel::{Channel, Notifications, RawNotifications};
use self::message::Notice;
use crate::gate::Gate;
use crate::principal;

mod channel;
mod message;

/// Up to which entry a channel has told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    seq: u64,
    ts: Timestamp,
}

/// One channel at work.
struct Teller {
    gate: Arc<Gate>,
    channel: Arc<Channel>,
    file: PathBuf,
    told: Told,
}

/// How a delivery ended.
enum Delivered {
    /// It arrived.
    Arrived,
    /// The receiver will never take it.
    Refused(String),
    /// It may arrive another time.
    Later(String),
}

/// Starts telling; ends when the gate does.
///
/// # Errors
/// When what was told before cannot be read or kept.
pub fn start(gate: &Arc<Gate>) -> Result<()> {
    let dir = gate.config.home.data().join("notifications");
    let channels = &gate.config.notifications.channels;
    if !channels.is_empty() {
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    }
    for channel in channels {
        let teller = Teller::open(gate, channel, &dir)?;
        let stop = gate.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(teller.run()).await });
    }
    Ok(())
}

// === impl Teller ===

impl Teller {
    /// A new channel begins with what comes next.
    fn open(gate: &Arc<Gate>, channel: &Arc<Channel>, dir: &Path) -> Result<Teller> {
        let file = dir.join(format!("{}.json", channel.name));
        let told = if file.exists() {
            let text = std::fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("`{}` is damaged; remove it", file.display()))?
        } else {
            let head = gate.ledger.head();
            Told { seq: head.seq, ts: head.ts }
        };
        let teller = Teller { gate: Arc::clone(gate), channel: Arc::clone(channel), file, told };
        teller.keep().map(|()| teller)
    }

    async fn run(mut self) {
        let mut changes = self.gate.ledger.subscribe();
        loop {
            changes.borrow_and_update();
            if let Err(error) = self.tell_due().await {
                tracing::error!(channel = self.channel.name, error = format!("{error:#}"), "not told");
            }
            // What happens together is told together.
            tokio::time::sleep(PAUSE).await;
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells what was not told yet, in order.
    async fn tell_due(&mut self) -> Result<()> {
        let (ledger, since, after) = (self.gate.ledger.clone(), Some(self.told.ts), self.told.seq);
        let past = Past { kinds: self.channel.kinds(), since, limit: PAGE, ..Past::default() };
        let lines = tokio::task::spawn_blocking(move || newest(&ledger, past, after)).await??;
        let notices = lines.iter().rev().filter_map(|line| Notice::read(line, &self.gate.config));
        let due: Vec<Notice> = notices.filter(|notice| notice.seq > after).collect();
        for notices in due.chunks(self.channel.at_once()) {
            self.tell(notices).await;
        }
        Ok(())
    }

    /// Delivers, however long that takes, and keeps in mind that it did. What is older than a day is left.
    async fn tell(&mut self, notices: &[Notice]) {
        let Some(last) = notices.last() else { return };
        let mut wait = FIRST_WAIT;
        loop {
            let fresh: Vec<&Notice> = notices.iter().filter(|notice| notice.is_fresh(TELL_FOR)).collect();
            let (name, seq) = (&self.channel.name, last.seq);
            match self.channel.deliver(&self.gate, &fresh).await {
                Delivered::Arrived => break,
                Delivered::Refused(why) => {
                    tracing::error!(channel = name, seq, why, "a notification was refused and is left out");
                    break;
                }
                Delivered::Later(why) => tracing::warn!(channel = name, seq, why, "a notification did not arrive yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        self.told = Told { seq: last.seq, ts: last.ts };
        if let Err(error) = self.keep() {
            tracing::error!(channel = self.channel.name, error = format!("{error:#}"), "it may be told twice");
        }
    }

    fn keep(&self) -> Result<()> {
        principal::write_private(&self.file, serde_json::to_string(&self.told)?.as_bytes())
    }
}

/// What matches behind an entry, the newest first, and no more than anybody would read.
fn newest(ledger: &Ledger, mut past: Past, after: u64) -> Result<Vec<String>, ReadError> {
    let mut lines = Vec::new();
    loop {
        let page = ledger.past(&past)?;
        lines.extend(page.lines);
        past.before = page.older.filter(|older| *older > after + 1);
        if past.before.is_none() || lines.len() >= BACKLOG {
            return Ok(lines);
        }
    }
}

/// A channel's name names a file, too.
fn plain_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(anyhow!("`{name}` is no name of a channel; use a-z, 0-9 and `-`"));
    }
    Ok(())
}

/// What is told when nothing else is said.
fn every_topic() -> BTreeSet<message::Topic> {
    message::Topic::ALL.into()
}

/// Between two looks at what is new.
const PAUSE: Duration = Duration::from_millis(500);

/// Before the second attempt; each wait after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Between two attempts at most.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What is older helps nobody any more.
const TELL_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Entries read at once.
const PAGE: usize = 200;

/// After a long silence the newest so many are told.
const BACKLOG: usize = 1000;
