//! A decision as the ledger has it, with the texts that were in force then.
//!
//! The texts come by their hashes, so what explains the decision is what made it, whatever the files say now.

use anyhow::{Context, Result, anyhow};
use http::Method;
use policy::{Basis, Rules, Source, Verdict};
use serde_json::{Value, json};

use crate::door::Door;
use crate::record;

/// One decision and the rules that made it.
#[derive(Debug)]
pub struct Recorded {
    /// What was decided.
    pub verdict: Verdict,
    /// What it rests on.
    pub basis: Basis,
    /// The request as far as it is recorded: no values, no body.
    pub canonical: Value,
    /// Destinations and policies as they were.
    pub rules: Rules,
}

/// Finds the newest decision under a correlation id.
///
/// # Errors
/// When there is none, or the texts it was made with cannot be had.
pub async fn find(door: &Door, correlation: &str) -> Result<Recorded> {
    let events = events(door, &format!("correlation={correlation}&limit=1000")).await?;
    let decided = events.iter().rev().find_map(|event| Some((event, verdict(event)?)));
    let (event, verdict) = decided
        .with_context(|| format!("no decision is recorded under `{correlation}`; `writ ledger tail` shows the ids"))?;
    let data = event.get("data").cloned().unwrap_or_default();
    let basis = record::basis(event).context("the event does not say what the decision rests on")?;
    let seq = event.get("seq").and_then(Value::as_u64).unwrap_or_default();
    let rules = rules(door, &basis, seq).await?;
    let part = |key: &str| data.get(key);
    let canonical = json!({
        "agent": event.get("agent_id"),
        "method": part("method"),
        "authority": part("authority"),
        "path": part("path"),
        "query_names": part("query_names"),
        "body_bytes": part("body_bytes"),
        "body_sha256": part("body_sha256"),
    });
    Ok(Recorded { verdict, basis, canonical, rules })
}

fn verdict(event: &Value) -> Option<Verdict> {
    match event.get("type").and_then(Value::as_str)? {
        "decision.allowed" | "action.executing" => Some(Verdict::Allow),
        "decision.approval_required" => Some(Verdict::Hold),
        "decision.denied" => Some(Verdict::Deny),
        // Stopped by an operator after it had been decided on.
        "request.refused" if event.pointer("/data/rules").is_some() => Some(Verdict::Deny),
        _ => None,
    }
}

/// The rules of the configuration that was in force before the entry `seq` and has the hashes of its decision.
async fn rules(door: &Door, basis: &Basis, seq: u64) -> Result<Rules> {
    let loaded = events(door, "type=config.loaded&limit=10000").await?;
    let before = |event: &&Value| event.get("seq").and_then(Value::as_u64).is_some_and(|number| number < seq);
    let same = |event: &&Value| {
        event.pointer("/data/destinations_hash").and_then(Value::as_str) == Some(basis.destinations_hash.as_str())
    };
    let loaded = loaded.iter().rev().filter(before).find(same);
    let files = loaded.and_then(|event| event.pointer("/data/files")).and_then(Value::as_object);
    let files = files.context("the configuration of that time is not on the ledger")?;
    let (mut destinations, mut policies, mut agents) = (None, Vec::new(), Vec::new());
    for (name, hash) in files {
        let hash = hash.as_str().unwrap_or_default();
        let text = door.fetch(Method::GET, &format!("/v1/texts/{hash}"), None).await?;
        let text = String::from_utf8(text.to_vec()).context("a recorded text is not UTF-8")?;
        let source = Source { name: name.clone(), text };
        let (folder, file) = name.split_once('/').unwrap_or(("", name));
        let id = file.rsplit_once('.').map_or(file, |(id, _)| id).to_owned();
        match folder {
            "agents" => agents.push((id, source)),
            "policies" => policies.push((id, source)),
            _ => destinations = Some(source),
        }
    }
    let destinations = destinations.context("the destinations of that time are not on the ledger")?;
    Rules::load(&destinations, &policies, None, basis.environment.as_deref())
        .and_then(|rules| rules.with_manifests(&agents))
        .map_err(|invalid| anyhow!("the recorded texts do not load in this version:\n{invalid}"))
}

async fn events(door: &Door, query: &str) -> Result<Vec<Value>> {
    let found = door.fetch(Method::GET, &format!("/v1/events?{query}"), None).await?;
    let lines = String::from_utf8_lossy(&found);
    lines.lines().map(|line| serde_json::from_str(line).context("an event cannot be read")).collect()
}
