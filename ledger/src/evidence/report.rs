//! What a verifier says: what was checked, what was not, and the first thing that is wrong.

use std::fmt;

use serde_json::{Value, json};

use super::manifest::Entries;
use super::walk::Walked;
use super::{Refusal, Scope, Trust, Verdict};
use crate::checkpoint::Checkpoint;

/// What was checked, of evidence that holds in itself.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What it says, by name.
    facts: Vec<(&'static str, Value)>,
    /// What was checked, in a sentence.
    checked: &'static str,
    /// What nothing in the evidence shows, each in a sentence.
    unchecked: Vec<String>,
}

// === impl Checked ===

impl Checked {
    /// Of lines with the proof that they are in the ledger. `scope` comes with the texts that are missing.
    pub(super) fn of(
        checkpoint: &Checkpoint,
        walked: &Walked,
        (scope, missing): (&Scope, &[String]),
        cosigned: Vec<(String, u64)>,
        trust: &Trust,
    ) -> Checked {
        let Entries { count, selected } = walked.entries;
        let key = walked.keys.last().map(ToString::to_string).unwrap_or_default();
        let mut facts = ledger(checkpoint, &cosigned);
        facts.push(("key", json!(key)));
        facts.push(("scope", json!(scope)));
        facts.push(("selected", json!(selected)));
        facts.push(("context", json!(count - selected)));
        facts.push(("times", json!(walked.times)));
        facts.push(("requests", json!(walked.lives.correlations())));
        facts.push(("open", json!(walked.lives.open())));
        let mut unchecked = doubts(checkpoint, &cosigned, trust, &key);
        if !scope.is_of_time_alone() {
            unchecked.push("that no other entry fits the scope: only a scope of time alone shows that".to_owned());
        }
        if !missing.is_empty() {
            unchecked.push(format!("texts that were not there any more: {}", missing.join(", ")));
        }
        Checked { facts, checked: CHECKED_LINES, unchecked }
    }

    /// Of one line with the proof that it is in the ledger.
    pub(super) fn of_entry(
        checkpoint: &Checkpoint,
        line: &str,
        cosigned: Vec<(String, u64)>,
        trust: &Trust,
    ) -> Checked {
        let mut facts = ledger(checkpoint, &cosigned);
        facts.push(("entry", serde_json::from_str(line).unwrap_or_default()));
        Checked { facts, checked: CHECKED_ENTRY, unchecked: doubts(checkpoint, &cosigned, trust, "") }
    }

    fn to_json(&self) -> Value {
        let mut members: serde_json::Map<String, Value> =
            self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        members.insert("not_checked".to_owned(), json!(self.unchecked));
        Value::Object(members)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.facts {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            writeln!(f, "  {name:<11} {text}")?;
        }
        writeln!(f, "checked: {}", self.checked)?;
        write!(f, "not checked:")?;
        self.unchecked.iter().try_for_each(|what| write!(f, "\n  - {what}"))
    }
}

// === impl Refusal ===

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            Some(entry) => write!(f, "{}: entry {entry}: {}", self.code, self.message),
            None => write!(f, "{}: {}", self.code, self.message),
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// The verdict as one JSON object.
    pub fn to_json(&self) -> Value {
        match self {
            Verdict::Refused(refusal) => match refusal.entry {
                Some(entry) => json!({
                    "verdict": "refused", "code": refusal.code.as_str(), "entry": entry, "message": refusal.message
                }),
                None => json!({"verdict": "refused", "code": refusal.code.as_str(), "message": refusal.message}),
            },
            Verdict::Unauthenticated(checked) => json!({"verdict": "unauthenticated", "checked": checked.to_json()}),
            Verdict::Verified(checked) => json!({"verdict": "verified", "checked": checked.to_json()}),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Refused(refusal) => write!(f, "does not verify\n  {refusal}"),
            Verdict::Unauthenticated(checked) => write!(f, "consistent but unauthenticated\n{checked}"),
            Verdict::Verified(checked) => write!(f, "verified\n{checked}"),
        }
    }
}

fn ledger(checkpoint: &Checkpoint, cosigned: &[(String, u64)]) -> Vec<(&'static str, Value)> {
    let cosigned: Vec<Value> = cosigned.iter().map(|(name, time)| json!({"witness": name, "time": time})).collect();
    vec![
        ("ledger", json!(checkpoint.origin)),
        ("size", json!(checkpoint.size)),
        ("root", json!(checkpoint.root.to_string())),
        ("cosigned", json!(cosigned)),
    ]
}

/// What remains open about any evidence.
fn doubts(checkpoint: &Checkpoint, cosigned: &[(String, u64)], trust: &Trust, key: &str) -> Vec<String> {
    let mut doubts = Vec::new();
    if trust.key.is_none() {
        doubts.push(format!(
            "whose ledger this is: get its key from somewhere you trust and give it with --key{}",
            if key.is_empty() { String::new() } else { format!("; here it says `{key}`") }
        ));
    }
    if cosigned.is_empty() && trust.checkpoint.is_none() {
        doubts.push(
            "that whoever holds the key did not write a second history: a witness (--witness) or a checkpoint you kept \
             (--checkpoint) shows that"
                .to_owned(),
        );
    }
    doubts.push(format!("anything behind entry {}", checkpoint.size.saturating_sub(1)));
    doubts
}

const CHECKED_LINES: &str = "every file, the hash of every entry, the chain between neighbours, that all entries are in
  the signed tree, the rules of record, and that the summaries say what the entries say";

const CHECKED_ENTRY: &str = "the hash of the entry, and that it is in the signed tree";
