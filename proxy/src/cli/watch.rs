//! Commands that watch a running gate: its health, one screen about it, and that screen kept up to date.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::{Exit, say};
use crate::config::Config;
use crate::door::Door;
use crate::home::Home;

/// How often to look.
#[derive(Args)]
pub(super) struct Top {
    /// Seconds between two looks
    #[arg(long, default_value_t = 1)]
    every: u64,
    /// End after so many looks [default: never]
    #[arg(long)]
    times: Option<u64>,
}

/// How often an agent's requests to a destination were allowed, held and denied, by agent and destination.
type Counts = BTreeMap<(String, String), [u64; 3]>;

/// Asks whether the gate serves, for a container's health check: it needs no token and no other program.
pub(super) async fn health(home: Home, live: bool, as_json: bool) -> Result<Exit> {
    let door = Door::at(Config::load(home)?.operator, "");
    let (found, is_well) = door.look(if live { "/health" } else { "/ready" }).await?;
    if as_json {
        say(&found.to_string());
    } else {
        let word = if is_well { "ok" } else { "failed" };
        say(found.get("status").and_then(Value::as_str).unwrap_or(word));
        reasons(&found).iter().for_each(|reason| say(&format!("  {reason}")));
    }
    Ok(if is_well { Exit::Ok } else { Exit::Failed })
}

/// Prints one screen about the gate.
pub(super) async fn status(home: Home, as_json: bool) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    let found = door.ask(Method::GET, "/v1/status", None).await?;
    say(&if as_json { found.to_string() } else { screen(&found).join("\n") });
    Ok(Exit::Ok)
}

/// Prints that screen again and again, with what happened in between.
pub(super) async fn top(home: Home, what: &Top) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    let every = Duration::from_secs(what.every.max(1));
    let mut before: Option<Counts> = None;
    let mut left = what.times;
    loop {
        let found = door.ask(Method::GET, "/v1/status", None).await?;
        let now = counts(&found);
        let rates = before.as_ref().map(|before| rates(before, &now, every)).unwrap_or_default();
        show(&[screen(&found), rates].concat())?;
        before = Some(now);
        left = left.map(|left| left.saturating_sub(1));
        if left == Some(0) {
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(every).await;
    }
}

/// On a terminal each screen takes the place of the one before.
fn show(lines: &[String]) -> Result<()> {
    let mut out = std::io::stdout();
    let begin = if out.is_terminal() { CLEAR } else { "" };
    writeln!(out, "{begin}{}\n", lines.join("\n"))?;
    Ok(out.flush()?)
}

fn screen(found: &Value) -> Vec<String> {
    let (now, since) = (time(found, "/now"), time(found, "/since"));
    let status = text(found, "/health/status");
    let mut lines = vec![format!("writ {}  up {}  {status}", text(found, "/version"), age(since, now))];
    lines.extend(found.get("health").map(reasons).unwrap_or_default().iter().map(|reason| format!("  {reason}")));
    let doors = found.get("doors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named =
        ["forward", "operator", "reverse"].iter().zip(doors).filter_map(|(name, at)| Some((name, at.as_str()?)));
    lines.push(row("doors", &named.map(|(name, at)| format!("{name} {at}")).collect::<Vec<_>>().join("  ")));
    let standing = |what| number(found, &format!("/agents/{what}"));
    let (active, suspended, revoked) = (standing("active"), standing("suspended"), standing("revoked"));
    lines.push(row("agents", &format!("{active} served, {suspended} suspended, {revoked} revoked")));
    lines.push(row("waiting", &waiting(found, now)));
    lines.push(row("decided", &totals(found)));
    lines.push(row("ledger", &ledger(found)));
    let rules = found.get("rules").and_then(Value::as_object).into_iter().flatten();
    let rules = rules.filter_map(|(file, hash)| Some(format!("{file} {}", hash.as_str()?.get(..12)?)));
    lines.push(row("rules", &rules.collect::<Vec<_>>().join("  ")));
    let last = found.get("last").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    lines.extend(last.iter().enumerate().map(|(n, event)| row(if n == 0 { "last" } else { "" }, &decision(event))));
    lines
}

fn waiting(found: &Value, now: Option<Timestamp>) -> String {
    let oldest = match time(found, "/intents/oldest") {
        None => String::new(),
        oldest => format!(", the oldest for {}", age(oldest, now)),
    };
    let (waiting, unknown) = (number(found, "/intents/waiting"), number(found, "/intents/unknown"));
    format!("{waiting} requests{oldest}; {unknown} of unknown outcome")
}

fn totals(found: &Value) -> String {
    let all =
        counts(found).into_values().fold([0; 3], |[a, h, d], [allow, hold, deny]| [a + allow, h + hold, d + deny]);
    let [allow, hold, deny] = all;
    let (connections, tunnels) = (number(found, "/open/connections"), number(found, "/open/tunnels"));
    format!("{allow} allowed, {hold} held, {deny} denied; {connections} connections and {tunnels} tunnels are open")
}

fn ledger(found: &Value) -> String {
    let millis = |pointer| found.pointer(pointer).and_then(Value::as_f64);
    let (entries, behind) = (number(found, "/ledger/entries"), number(found, "/ledger/behind"));
    let mean = millis("/ledger/commit_millis").unwrap_or_default();
    let slow = match millis("/ledger/commit_millis_99") {
        None => String::new(),
        Some(bound) => format!(" (99 % within {bound} ms)"),
    };
    let (free, kept) = (number(found, "/ledger/free_bytes") >> 20, number(found, "/ledger/reserve_bytes") >> 20);
    format!("{entries} entries; a commit takes {mean:.2} ms{slow}; index {behind} behind; {free} MiB free, {kept} kept")
}

fn decision(event: &Value) -> String {
    let verdict = match text(event, "/type").as_str() {
        "decision.allowed" => "allow",
        "decision.denied" => "deny",
        _ => "hold",
    };
    let at = text(event, "/ts").get(11..19).unwrap_or_default().to_owned();
    let (agent, destination) = (text(event, "/agent"), text(event, "/destination"));
    format!("{at}  {verdict:5}  {agent}  {destination}  {}", text(event, "/action"))
}

/// The busiest pairs of agent and destination, with what they did in between.
fn rates(before: &Counts, now: &Counts, every: Duration) -> Vec<String> {
    let change = |(pair, counts): (&(String, String), &[u64; 3])| {
        let old = before.get(pair).copied().unwrap_or_default();
        let [allow, hold, deny] = [0, 1, 2].map(|n: usize| {
            let of = |counts: &[u64; 3]| counts.get(n).copied().unwrap_or_default();
            of(counts).saturating_sub(of(&old))
        });
        (allow + hold + deny, pair.clone(), [allow, hold, deny])
    };
    let mut changed: Vec<_> = now.iter().map(change).filter(|(sum, ..)| *sum > 0).collect();
    changed.sort_by_key(|(sum, ..)| std::cmp::Reverse(*sum));
    let head = format!("\nin the last {} s   allow   hold   deny", every.as_secs());
    let row = |(_, (agent, destination), [allow, hold, deny]): &(u64, (String, String), [u64; 3])| {
        format!("                {allow:7}{hold:7}{deny:7}  {agent}  {destination}")
    };
    std::iter::once(head).chain(changed.iter().take(BUSIEST).map(row)).collect()
}

fn counts(found: &Value) -> Counts {
    let rows = found.get("decided").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let count = |row: &Value| {
        let key = (text(row, "/agent"), text(row, "/destination"));
        (key, ["/allow", "/hold", "/deny"].map(|pointer| number(row, pointer)))
    };
    rows.iter().map(count).collect()
}

fn reasons(document: &Value) -> Vec<String> {
    let reasons = document.get("reasons").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let details = reasons.iter().filter_map(|reason| reason.get("detail"));
    details.chain(document.get("error")).filter_map(|detail| detail.as_str().map(str::to_owned)).collect()
}

fn row(name: &str, what: &str) -> String {
    format!("{name:8}  {what}")
}

fn text(of: &Value, pointer: &str) -> String {
    of.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(of: &Value, pointer: &str) -> u64 {
    of.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn time(of: &Value, pointer: &str) -> Option<Timestamp> {
    of.pointer(pointer)?.as_str()?.parse().ok()
}

/// How long ago that was, in one unit.
fn age(since: Option<Timestamp>, now: Option<Timestamp>) -> String {
    let seconds = now.zip(since).map_or(0, |(now, since)| (now.as_second() - since.as_second()).max(0));
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Erases the screen and goes to its top (ECMA-48).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Pairs of agent and destination on the screen.
const BUSIEST: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_happened_in_between_the_busiest_first() {
        let key = |agent: &str| (agent.to_owned(), "api".to_owned());
        let before = Counts::from([(key("a"), [1, 0, 0]), (key("b"), [5, 1, 0])]);
        let now = Counts::from([(key("a"), [2, 0, 0]), (key("b"), [5, 1, 0]), (key("c"), [0, 2, 3])]);
        let lines = rates(&before, &now, Duration::from_secs(1));
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines[1].ends_with("0      2      3  c  api") && lines[2].ends_with("1      0      0  a  api"),
            "{lines:?}"
        );
    }

    #[test]
    fn an_age_is_told_in_one_unit() {
        let at = |second| Timestamp::from_second(second).ok();
        let ages = [0, 119, 120, 7199, 7200, 172_800].map(|seconds| age(at(0), at(seconds)));
        assert_eq!(ages, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
        assert_eq!(age(at(9), at(0)), "0 s", "a clock that went back");
    }
}
