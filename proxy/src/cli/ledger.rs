//! `writ ledger`: reads through a running gate, verifies beside it, rebuilds without it.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::evidence::read_note;
use super::{Exit, LedgerCommand, LedgerTail, say, say_error};
use crate::config::Config;
use crate::door::Door;
use crate::home::Home;

/// Runs one of the ledger's commands.
pub(super) async fn run(home: Home, what: &LedgerCommand, as_json: bool) -> Result<Exit> {
    match what {
        LedgerCommand::Tail(tail) => print(home, tail, as_json).await,
        LedgerCommand::Head => head(home, as_json).await,
        LedgerCommand::Archive => archive(&home, as_json),
        LedgerCommand::Checkpoint => fetch(home, "/v1/checkpoint").await,
        LedgerCommand::Key => {
            let config = Config::load(home)?;
            let key = ::ledger::signing_key(&config.home.data(), config.ledger_key.as_deref())?;
            say(&key.verifier().to_string());
            Ok(Exit::Ok)
        }
        LedgerCommand::Proof { seq } => fetch(home, &format!("/v1/events/{seq}/proof")).await,
        LedgerCommand::RotateKey => {
            let rotated = Door::of(&Config::load(home)?)?.ask(Method::POST, "/v1/ledger-key/rotate", None).await?;
            say(rotated.get("key").and_then(Value::as_str).unwrap_or_default());
            Ok(Exit::Ok)
        }
        LedgerCommand::Verify { checkpoints } => {
            let held = checkpoints.iter().map(|path| read_note(path)).collect::<Result<Vec<_>>>()?;
            let verified = ::ledger::verify_against(&home.data(), &held);
            Ok(verdict(verified.map_err(|error| error.to_string()), as_json))
        }
        LedgerCommand::Rebuild => {
            let config = Config::load(home)?;
            let rebuilt = ::ledger::rebuild(&config.home.data(), config.ledger_key.as_deref());
            Ok(verdict(rebuilt.map_err(|error| error.to_string()), as_json))
        }
    }
}

fn archive(home: &Home, as_json: bool) -> Result<Exit> {
    let archived = ::ledger::archive(&home.data())?;
    if as_json {
        let days = archived.iter().map(|day| json!({"day": day.day, "bytes": day.bytes, "packed": day.packed}));
        say(&json!({"archived": days.collect::<Vec<_>>()}).to_string());
    } else if archived.is_empty() {
        say("no closed day to pack");
    }
    for day in archived.iter().filter(|_| !as_json) {
        say(&format!("{}: {} bytes in {}", day.day, day.bytes, day.packed));
    }
    Ok(Exit::Ok)
}

async fn print(home: Home, tail: &LedgerTail, as_json: bool) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    // Without `--after` the newest are wanted: they are looked for among the last entries there are.
    let seq = door.ask(Method::GET, "/v1/head", None).await?.get("seq").and_then(Value::as_u64).unwrap_or_default();
    let (after, limit) = match tail.after {
        Some(after) => (Some(after), tail.limit),
        None => (seq.checked_sub(LOOK_BACK), 10_000),
    };
    let mut page = format!("/v1/events?limit={limit}");
    let filters = [
        ("type", tail.kind.clone()),
        ("agent", tail.agent.clone()),
        ("intent", tail.intent.clone()),
        ("destination", tail.destination.clone()),
        ("correlation", tail.correlation.clone()),
        ("run", tail.run.clone()),
    ];
    for (name, value) in filters.into_iter().chain([("after", after.map(|after| after.to_string()))]) {
        if let Some(value) = value {
            page.push_str(&format!("&{name}={value}"));
        }
    }
    let found = door.fetch(Method::GET, &page, None).await?;
    let found = String::from_utf8_lossy(&found);
    let lines: Vec<&str> = found.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(tail.limit)) {
        say(&if as_json { (*line).to_owned() } else { readable(line) });
    }
    Ok(Exit::Ok)
}

/// Prints what the operator door gives as it is.
async fn fetch(home: Home, page: &str) -> Result<Exit> {
    let text = Door::of(&Config::load(home)?)?.fetch(Method::GET, page, None).await?;
    say(String::from_utf8_lossy(&text).trim_end());
    Ok(Exit::Ok)
}

async fn head(home: Home, as_json: bool) -> Result<Exit> {
    let head = Door::of(&Config::load(home)?)?.ask(Method::GET, "/v1/head", None).await?;
    let text =
        |key: &str| head.get(key).map(|value| value.to_string().trim_matches('"').to_owned()).unwrap_or_default();
    say(&if as_json {
        head.to_string()
    } else {
        format!("{}  {}  {}  {}", text("seq"), text("entry_hash"), text("ts"), text("origin"))
    });
    Ok(Exit::Ok)
}

fn verdict(result: Result<::ledger::Verified, String>, as_json: bool) -> Exit {
    match result {
        Ok(verified) if as_json => {
            say(&json!({"verified": true, "entries": verified.entries, "head": verified.head_hash, "origin": verified.origin}).to_string());
            Exit::Ok
        }
        Ok(verified) => {
            say(&format!("verified: {} entries, head {}", verified.entries, verified.head_hash));
            Exit::Ok
        }
        Err(fault) => {
            say_error(&fault);
            Exit::Unverified
        }
    }
}

/// One line a person can read: number, time, type, and what it is about.
fn readable(line: &str) -> String {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    let text = |pointer: &str| {
        event.pointer(pointer).map(|value| value.to_string().trim_matches('"').to_owned()).unwrap_or_default()
    };
    let about = [
        text("/agent_id"),
        text("/dest_key"),
        text("/data/method"),
        format!("{}{}", text("/data/authority"), text("/data/path")),
        text("/data/status"),
        text("/data/code"),
        text("/data/operator"),
        text("/data/rationale"),
        text("/data/reason"),
        text("/intent_id"),
    ];
    let about: Vec<String> = about.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{:>6}  {}  {:<28} {}", text("/seq"), text("/ts"), text("/type"), about.join("  "))
}

/// How many entries `writ ledger tail` looks back for the newest that fit.
const LOOK_BACK: u64 = 9_999;
