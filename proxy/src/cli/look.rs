//! Commands that only look at the home: no running gate is needed.

use std::fs;

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use policy::{Authority, Body, Decision, Facts, Scheme};
use serde_json::json;

use super::{Exit, Explain, say, say_error};
use crate::config::Config;
use crate::home::Home;
use crate::rulebook::Rulebook;
use crate::{path, setup};

/// Creates the home.
pub(super) fn init(home: &Home) -> Result<Exit> {
    let first = setup::create(home)?;
    say(&format!("{} `{}`", if first { "created" } else { "complete already:" }, home.path().display()));
    Ok(Exit::Ok)
}

/// Loads everything and reports the faults.
pub(super) fn check(home: Home) -> Result<Exit> {
    match Config::load(home).and_then(|config| Rulebook::load(&config).map(|book| book.rules.destinations().count())) {
        Ok(destinations) => {
            say(&format!("valid: {destinations} destinations"));
            Ok(Exit::Ok)
        }
        Err(error) => {
            say_error(&format!("{error:#}"));
            Ok(Exit::Invalid)
        }
    }
}

/// Decides about a request that nobody sent.
pub(super) fn explain(home: Home, what: &Explain, as_json: bool) -> Result<Exit> {
    let rules = Rulebook::load(&Config::load(home)?)?.rules;
    let facts = facts(what)?;
    let decision = rules.decide(&facts, Timestamp::now());
    let (verdict, exit) = match &decision {
        Decision::Allow(_) => ("allow", Exit::Ok),
        Decision::Hold(_) => ("hold", Exit::Ok),
        Decision::Deny(_) => ("deny", Exit::Denied),
    };
    let basis = decision.basis();
    if as_json {
        say(&json!({"verdict": verdict, "basis": basis}).to_string());
        return Ok(exit);
    }
    say(verdict);
    say(&format!("  destination  {}", basis.destination.as_deref().unwrap_or("none")));
    say(&format!("  policy       {}", basis.policy.as_deref().unwrap_or("none")));
    for (name, value) in &basis.measured {
        say(&format!("  measured     {name} = {value}"));
    }
    for rule in &basis.rules {
        say(&format!("  rule         {} ({:?}): {}", rule.rule, rule.verdict, rule.reason));
    }
    Ok(exit)
}

/// Prints the root certificate.
pub(super) fn export_ca(home: &Home) -> Result<Exit> {
    let root = ca::Root::open(&home.ca())?;
    say(root.pem().trim_end());
    Ok(Exit::Ok)
}

fn facts(what: &Explain) -> Result<Facts> {
    let (scheme, rest) = match what.url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(_) | None => bail!("`{}` is not a URL; write https://host/path", what.url),
    };
    let (host, target) = rest.find(['/', '?']).and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, "/"));
    let (given, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    let given = if given.is_empty() { "/" } else { given };
    let body = match what.data.as_deref().map(|data| (data, data.strip_prefix('@'))) {
        None => Vec::new(),
        Some((_, Some(file))) => fs::read(file).with_context(|| format!("cannot read `{file}`"))?,
        Some((text, None)) => text.as_bytes().to_vec(),
    };
    let mut headers = Vec::new();
    for header in &what.headers {
        let (name, value) = header.split_once(':').with_context(|| format!("`{header}` is not `Name: value`"))?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Facts {
        agent: what.agent.clone(),
        method: what.method.clone(),
        authority: Authority::parse(scheme, host).map_err(|error| anyhow!("{error}"))?,
        path: path::canonical(given).map_err(|refusal| anyhow!("{}", refusal.answer().detail))?,
        query,
        headers,
        body: Body::new(body.into()),
        votes: Vec::new(),
        unanswered: false,
    })
}
