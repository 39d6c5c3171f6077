//! `writ standing`: what was approved in advance; and how `writ approve --remember` says for how long.

use std::str::FromStr;

use anyhow::Result;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::ask::field;
use super::{Exit, Vote, say};
use crate::config::Config;
use crate::door::Door;
use crate::home::Home;

/// A vote that can be remembered.
#[derive(Args)]
pub(super) struct Approval {
    #[command(flatten)]
    pub(super) vote: Vote,
    /// Also approve others like it in advance: for a time such as 10m or 1h, or so many times, such as 5
    #[arg(long)]
    pub(super) remember: Option<Term>,
}

/// What to do with what was approved in advance.
#[derive(Subcommand)]
pub(super) enum Command {
    /// List those that can still be used
    List,
    /// Withdraw one
    Revoke {
        /// Its id, `std_…`
        id: String,
        /// Why; stands on the ledger
        #[arg(long)]
        rationale: String,
    },
}

/// How long, or how often, an approval stands for others like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// For so many seconds.
    Seconds(u64),
    /// So many times.
    Uses(u64),
}

/// What is neither a time nor a number of times.
#[derive(Debug, thiserror::Error)]
#[error("write a time such as `30s`, `10m` or `1h`, or how often, such as `5`")]
pub(super) struct NotATerm;

// === impl Term ===

impl Term {
    /// As the operator door takes it.
    pub(super) fn body(self) -> Value {
        match self {
            Term::Seconds(seconds) => json!({"seconds": seconds}),
            Term::Uses(uses) => json!({"uses": uses}),
        }
    }
}

impl FromStr for Term {
    type Err = NotATerm;

    fn from_str(text: &str) -> Result<Term, NotATerm> {
        let number = text.trim_end_matches(['s', 'm', 'h']);
        let count: u64 = number.parse().map_err(|_| NotATerm)?;
        let seconds = |factor: u64| count.checked_mul(factor).map(Term::Seconds).ok_or(NotATerm);
        match text.strip_prefix(number) {
            Some("") => Ok(Term::Uses(count)),
            Some("s") => seconds(1),
            Some("m") => seconds(60),
            Some("h") => seconds(3600),
            Some(_) | None => Err(NotATerm),
        }
    }
}

/// Lists standing approvals, or withdraws one.
pub(super) async fn run(home: Home, what: &Command, as_json: bool) -> Result<Exit> {
    let door = Door::of(&Config::load(home)?)?;
    let answer = match what {
        Command::List => door.ask(Method::GET, "/v1/standings", None).await?,
        Command::Revoke { id, rationale } => {
            let body = json!({"rationale": rationale});
            door.ask(Method::POST, &format!("/v1/standings/{id}/revoke"), Some(&body)).await?
        }
    };
    if as_json {
        say(&answer.to_string());
        return Ok(Exit::Ok);
    }
    let Some(list) = answer.get("standings").and_then(Value::as_array) else {
        say(&format!("{}  revoked", field(Some(&answer), "id")));
        return Ok(Exit::Ok);
    };
    if list.is_empty() {
        say("nothing is approved in advance");
    }
    list.iter().for_each(print);
    Ok(Exit::Ok)
}

fn print(standing: &Value) {
    let (told, given) = (|key| field(Some(standing), key), |key| field(standing.get("given"), key));
    say(&format!("{}  used {} of {}, until {}", told("id"), told("used"), told("uses"), told("expires_at")));
    say(&format!("    {}: {} {}{}", given("agent"), given("method"), given("authority"), given("path")));
    let measured = standing.pointer("/given/measured").and_then(Value::as_object).into_iter().flatten();
    for (name, value) in measured {
        say(&format!("    {name} as {}", value.as_str().unwrap_or_default()));
    }
    say(&format!("    by {}, for intent {}", given("operator"), given("intent")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_a_time_or_a_number_of_times() {
        let terms = ["10m", "1h", "45s", "5"].map(|text| text.parse::<Term>().ok());
        let expected = [Term::Seconds(600), Term::Seconds(3600), Term::Seconds(45), Term::Uses(5)];
        assert_eq!(terms, expected.map(Some));
        for text in ["", "h", "1d", "1hm", "-1", "1.5h", "99999999999999999999h"] {
            assert!(text.parse::<Term>().is_err(), "{text}");
        }
    }
}
