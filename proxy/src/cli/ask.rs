//! Commands that speak to a running gate over its operator door.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http::Method;
use serde_json::{Value, json};

use super::standing::Term;
use super::{Exit, KillCommand, PrincipalCommand, Vote, say};
use crate::config::Config;
use crate::door::Door;
use crate::home::Home;
use crate::setup;

/// Lists intents.
pub(super) async fn intents(home: Home, state: Option<&str>, limit: usize, as_json: bool) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    let filter = state.map(|state| format!("state={state}&")).unwrap_or_default();
    let found = door.ask(Method::GET, &format!("/v1/intents?{filter}limit={limit}"), None).await?;
    if as_json {
        say(&found.to_string());
        return Ok(Exit::Ok);
    }
    let list = found.get("intents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        say("nothing");
    }
    for intent in list {
        let request = |key| field(intent.get("request"), key);
        say(&format!(
            "{}  {}  {}",
            field(Some(intent), "id"),
            field(Some(intent), "status"),
            field(Some(intent), "agent")
        ));
        say(&format!("    {} {}{}", request("method"), request("authority"), request("path")));
        say(&format!(
            "    {}  {} bytes  expires {}",
            field(Some(intent), "destination"),
            request("body_bytes"),
            request("expires_at")
        ));
        for rule in intent.pointer("/request/rules").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
            say(&format!("    {}: {}", field(Some(rule), "rule"), field(Some(rule), "reason")));
        }
    }
    Ok(Exit::Ok)
}

/// Shows one intent.
pub(super) async fn intent(home: Home, id: &str) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    let found = door.ask(Method::GET, &format!("/v1/intents/{id}"), None).await?;
    say(&serde_json::to_string_pretty(&found)?);
    Ok(Exit::Ok)
}

/// Settles an unknown outcome, or has the request held again.
pub(super) async fn resolve(home: Home, id: &str, how: &str, body: &Value) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    let answer = door.ask(Method::POST, &format!("/v1/intents/{id}/{how}"), Some(body)).await?;
    say(&serde_json::to_string_pretty(&answer)?);
    Ok(Exit::Ok)
}

/// Votes on what is shown now: its digest and its reasons go back with the vote.
pub(super) async fn vote(
    home: Home,
    verdict: &str,
    vote: &Vote,
    remember: Option<Term>,
    as_json: bool,
) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    let page = format!("/v1/intents/{}", vote.id);
    let shown = door.ask(Method::GET, &page, None).await?;
    let request = shown.get("request");
    let body = json!({
        "rationale": vote.rationale,
        "digest": field(request, "digest"),
        "reasons": field(request, "reasons"),
        "remember": remember.map(Term::body),
    });
    let cast = door.ask(Method::POST, &format!("{page}/{verdict}"), Some(&body)).await?;
    let now = settled(&door, &page, cast).await?;
    if as_json {
        say(&now.to_string());
    } else {
        if ["approved", "executing"].contains(&field(Some(&now), "status").as_str()) {
            let why = [field(now.get("latest"), "reason"), field(now.get("latest"), "detail")].join(" ");
            say(&format!("{}  approved, not sent yet: {}", vote.id, why.trim()));
            say("  `writ approve` tries again, `writ deny` takes it back; it expires like any other");
            return Ok(Exit::Ok);
        }
        let upstream = field(now.get("latest"), "status");
        let upstream = if upstream.is_empty() { upstream } else { format!("  upstream {upstream}") };
        say(&format!("{}  {}{upstream}", vote.id, field(Some(&now), "status")));
    }
    Ok(Exit::Ok)
}

/// What became of an approved request, if that shows within some seconds.
async fn settled(door: &Door, page: &str, mut now: Value) -> Result<Value> {
    let end = Instant::now() + SETTLE;
    while ["approved", "executing"].contains(&field(Some(&now), "status").as_str()) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = door.ask(Method::GET, page, None).await?;
    }
    Ok(now)
}

/// Asks for a code that opens one browser session.
pub(super) async fn login(home: Home, as_json: bool) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    let given = door.ask(Method::POST, "/v1/login", Some(&json!({}))).await?;
    if as_json {
        say(&given.to_string());
        return Ok(Exit::Ok);
    }
    let code = field(Some(&given), "code");
    let groups: Vec<String> = code.chars().collect::<Vec<_>>().chunks(4).map(|group| group.iter().collect()).collect();
    say(&format!("Open {} and type", field(Some(&given), "url")));
    say(&format!("    {}", groups.join("-")));
    say(&format!("It works once, within two minutes, and logs you in as {}.", field(Some(&given), "operator")));
    Ok(Exit::Ok)
}

/// Adds, lists or changes agents or operators.
pub(super) async fn principals(home: Home, kind: &str, what: &PrincipalCommand, as_json: bool) -> Result<Exit> {
    let config = Config::load(home)?;
    let (door, forward) = (Door::of(&config)?, config.forward);
    let page = format!("/v1/{kind}");
    let change = |name: &str, to: &str| format!("{page}/{name}/{to}");
    let answer = match what {
        PrincipalCommand::Add { name, owner, role, groups } => {
            if (role.is_some() || !groups.is_empty()) && kind == "agents" {
                bail!("agents have neither role nor groups; leave `--role` and `--group` out");
            }
            let new = json!({"name": name, "owner": owner, "role": role, "groups": groups});
            door.ask(Method::POST, &page, Some(&new)).await?
        }
        PrincipalCommand::Groups { name, groups } => {
            door.ask(Method::POST, &change(name, "groups"), Some(&json!({"groups": groups}))).await?
        }
        PrincipalCommand::List => door.ask(Method::GET, &page, None).await?,
        PrincipalCommand::Suspend { name } => door.ask(Method::POST, &change(name, "suspend"), None).await?,
        PrincipalCommand::Resume { name } => door.ask(Method::POST, &change(name, "resume"), None).await?,
        PrincipalCommand::Revoke { name } => door.ask(Method::POST, &change(name, "revoke"), None).await?,
    };
    if as_json {
        say(&answer.to_string());
        return Ok(Exit::Ok);
    }
    for each in answer.get(kind).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        say(&format!(
            "{}  {}  {}{}{}",
            field(Some(each), "name"),
            field(Some(each), "standing"),
            field(Some(each), "owner"),
            field(Some(each), "role"),
            groups_of(each)
        ));
    }
    if let Some(token) = answer.get("token").and_then(Value::as_str) {
        let name = field(Some(&answer), "name");
        say(&format!("{name}\n  token, shown this once: {token}"));
        if kind == "agents" {
            say(&format!("  export HTTPS_PROXY=\"{}\"", setup::proxy_url(&name, token, forward)));
        }
    } else if answer.get("name").is_some() {
        say(&format!("{}  {}{}", field(Some(&answer), "name"), field(Some(&answer), "standing"), groups_of(&answer)));
    }
    Ok(Exit::Ok)
}

fn groups_of(operator: &Value) -> String {
    let groups = operator.get("groups").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let groups: Vec<&str> = groups.collect();
    if groups.is_empty() { String::new() } else { format!("  in {}", groups.join(", ")) }
}

/// Turns a kill switch on or off, or lists those that are on.
pub(super) async fn kill(home: Home, what: &KillCommand, as_json: bool) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    let (way, switch) = match what {
        KillCommand::On(switch) => ("on", switch),
        KillCommand::Off(switch) => ("off", switch),
        KillCommand::List => return list_switches(&door, as_json).await,
    };
    let body = json!({"agent": switch.agent, "destination": switch.destination, "rationale": switch.rationale});
    let turned = door.ask(Method::POST, &format!("/v1/switches/{way}"), Some(&body)).await?;
    say(&if as_json { turned.to_string() } else { format!("{} {way}", scope(&turned)) });
    Ok(Exit::Ok)
}

async fn list_switches(door: &Door, as_json: bool) -> Result<Exit> {
    let found = door.ask(Method::GET, "/v1/switches", None).await?;
    if as_json {
        say(&found.to_string());
        return Ok(Exit::Ok);
    }
    let list = found.get("switches").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        say("nothing is stopped");
    }
    for switch in list {
        let told = |key| field(Some(switch), key);
        say(&format!("{}  since {}, by {}: {}", scope(switch), told("since"), told("by"), told("rationale")));
    }
    Ok(Exit::Ok)
}

/// What a switch is for, in words.
fn scope(switch: &Value) -> String {
    match (field(Some(switch), "agent").as_str(), field(Some(switch), "destination").as_str()) {
        ("", "") => "everything".to_owned(),
        (agent, "") => format!("agent {agent}"),
        ("", destination) => format!("destination {destination}"),
        (agent, destination) => format!("agent {agent} at destination {destination}"),
    }
}

/// Has the gate load its rules again.
pub(super) async fn reload(home: Home) -> Result<Exit> {
    Door::of(&Config::load(home)?)?.ask(Method::POST, "/v1/reload", None).await?;
    say("loaded");
    Ok(Exit::Ok)
}

/// A field as text; numbers too, absent and null as nothing.
pub(super) fn field(of: Option<&Value>, key: &str) -> String {
    match of.and_then(|value| value.get(key)) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other @ (Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_))) => other.to_string(),
    }
}

/// How long a vote waits for its effect before it reports where the intent stands.
const SETTLE: Duration = Duration::from_secs(5);
