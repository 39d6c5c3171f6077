//! `writ explain`: what would be decided about a request that nobody sent, or why a recorded decision came out as it did.

use std::fs;

use anyhow::{Context, Result};
use jiff::Timestamp;
use policy::{Basis, Explanation, Facts, Verdict};
use serde_json::{Value, json};

use super::{Exit, Explain, say};
use crate::config::Config;
use crate::door::Door;
use crate::home::Home;
use crate::recorded;
use crate::rulebook::Rulebook;
use crate::trial::Trial;

/// Explains a request of now, or the decision recorded under a correlation id.
pub(super) async fn run(home: Home, what: &Explain, as_json: bool) -> Result<Exit> {
    let config = Config::load(home)?;
    match (&what.recorded, &what.method, &what.url) {
        (Some(correlation), _, _) => {
            let found = recorded::find(&Door::of(&config)?, correlation).await?;
            let explanation = found.rules.explain(&found.basis);
            Ok(show(found.verdict, &found.canonical, &found.basis, &explanation, as_json))
        }
        (None, Some(method), Some(url)) => {
            let rulebook = Rulebook::load(&config)?;
            let facts = trial(what, method, url)?.facts(&rulebook, &config.limits)?;
            let decision = rulebook.rules.decide(&facts, Timestamp::now());
            let explanation = rulebook.rules.explain(decision.basis());
            Ok(show(decision.verdict(), &canonical(&facts), decision.basis(), &explanation, as_json))
        }
        (None, _, _) => anyhow::bail!("name a method and a URL, or a recorded decision with `--recorded corr_…`"),
    }
}

fn trial(what: &Explain, method: &str, url: &str) -> Result<Trial> {
    let body = match what.data.as_deref().map(|data| (data, data.strip_prefix('@'))) {
        None => Vec::new(),
        Some((_, Some(file))) => fs::read(file).with_context(|| format!("cannot read `{file}`"))?,
        Some((text, None)) => text.as_bytes().to_vec(),
    };
    let headers = what.headers.iter().map(|header| {
        let (name, value) = header.split_once(':').with_context(|| format!("`{header}` is not `Name: value`"))?;
        Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    });
    Ok(Trial {
        agent: what.agent.clone(),
        method: method.to_owned(),
        url: url.to_owned(),
        headers: headers.collect::<Result<_>>()?,
        body: body.into(),
    })
}

/// The one reading of the request, in the words of the ledger.
fn canonical(facts: &Facts) -> Value {
    let names: Vec<&str> = facts.headers.iter().map(|(name, _)| name.as_str()).collect();
    json!({
        "agent": facts.agent,
        "method": facts.method,
        "authority": facts.authority.to_string(),
        "path": facts.path,
        "query": facts.query,
        "headers": names,
        "body_bytes": facts.body.len(),
        "body_sha256": facts.body.sha256(),
    })
}

fn show(verdict: Verdict, canonical: &Value, basis: &Basis, explanation: &Explanation, as_json: bool) -> Exit {
    if as_json {
        say(&json!({
            "verdict": verdict,
            "canonical": canonical,
            "facts": explanation.facts,
            "rules": explanation.rules,
            "basis": basis,
        })
        .to_string());
    } else {
        say(&verdict.to_string());
        print(canonical, basis, explanation);
    }
    match verdict {
        Verdict::Allow | Verdict::Hold => Exit::Ok,
        Verdict::Deny => Exit::Denied,
    }
}

fn print(canonical: &Value, basis: &Basis, explanation: &Explanation) {
    say("\nread as");
    for (name, value) in canonical.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        say(&format!("  {name:<14} {text}"));
    }
    say(&format!("  {:<14} {}", "digest", basis.digest));
    say("\nfacts");
    for fact in &explanation.facts {
        say(&format!("  {:<14} {:<24} from {}", fact.name, fact.value, fact.from));
    }
    say("\nrules; the strictest decides");
    for rule in &explanation.rules {
        let verdict = rule.verdict.map_or_else(|| "-".to_owned(), |verdict| verdict.to_string());
        let reason = rule.reason.as_deref().unwrap_or("has nothing to say");
        say(&format!("  {verdict:<6} {}: {reason}", rule.rule));
    }
    if let Some(remedy) =
        explanation.rules.first().and_then(|rule| rule.remedy.as_deref()).filter(|remedy| *remedy != "nothing")
    {
        say(&format!("\nwhat would pass: {remedy}"));
    }
}
