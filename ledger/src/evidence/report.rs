//! What a verifier says: what was checked, what was not, and the first thing that is wrong.

use std::fmt;

use serde_json::{Value, json};

use super::manifest::{Entries, Manifest};
use super::{Refusal, Verdict};
use crate::note::Verifier;

/// What was checked, of evidence that holds in itself.
#[derive(Clone, Debug)]
pub struct Checked {
    pub(super) manifest: Manifest,
    pub(super) key: Verifier,
    pub(super) entries: Entries,
    pub(super) times: Option<[String; 2]>,
    pub(super) requests: u64,
    pub(super) cosigned: Vec<(String, u64)>,
    /// Whether the key was known from elsewhere.
    pub(super) key_known: bool,
    /// Whether it continues a checkpoint held elsewhere.
    pub(super) held: bool,
}

// === impl Checked ===

impl Checked {
    /// What nothing in the evidence shows, each in a sentence.
    fn unchecked(&self) -> Vec<String> {
        let mut unchecked = Vec::new();
        if !self.key_known {
            unchecked.push(format!(
                "whose ledger this is: get its key from somewhere you trust and give it with --key; it says `{}`",
                self.key
            ));
        }
        if self.cosigned.is_empty() && !self.held {
            unchecked.push(
                "that whoever holds the key did not write a second history: a witness (--witness) or a checkpoint you \
                 kept (--checkpoint) shows that"
                    .to_owned(),
            );
        }
        if !self.manifest.scope.is_of_time_alone() {
            unchecked.push("that no other entry fits the scope: only a scope of time alone shows that".to_owned());
        }
        unchecked.push(format!("anything behind entry {}", self.manifest.size.saturating_sub(1)));
        if !self.manifest.missing.is_empty() {
            unchecked.push(format!("texts that were not there any more: {}", self.manifest.missing.join(", ")));
        }
        unchecked
    }

    fn to_json(&self) -> Value {
        json!({
            "origin": self.manifest.origin,
            "key": self.key.to_string(),
            "size": self.manifest.size,
            "root": self.manifest.root,
            "entries": self.entries.count,
            "selected": self.entries.selected,
            "requests": self.requests,
            "open": self.manifest.open,
            "cosigned": self.cosigned.iter().map(|(name, time)| json!({"witness": name, "time": time})).collect::<Vec<_>>(),
            "not_checked": self.unchecked(),
        })
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entries { count, selected } = self.entries;
        writeln!(f, "  ledger      {}", self.manifest.origin)?;
        writeln!(f, "  key         {}", self.key)?;
        writeln!(f, "  checkpoint  {} entries, root {}", self.manifest.size, self.manifest.root)?;
        for (witness, time) in &self.cosigned {
            writeln!(f, "              cosigned by {witness} at {time}")?;
        }
        writeln!(f, "  entries     {selected} inside the scope, {} of context", count - selected)?;
        if let Some([first, last]) = &self.times {
            writeln!(f, "  time        {first} to {last}")?;
        }
        writeln!(f, "  requests    {}, of which {} without an outcome yet", self.requests, self.manifest.open.len())?;
        for open in &self.manifest.open {
            writeln!(f, "              {open}")?;
        }
        writeln!(
            f,
            "checked: every file, the hash of every entry, the chain between neighbours, that all entries are in"
        )?;
        writeln!(f, "  the signed tree, the rules of record, and that the summaries say what the entries say")?;
        write!(f, "not checked:")?;
        self.unchecked().iter().try_for_each(|what| write!(f, "\n  - {what}"))
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
