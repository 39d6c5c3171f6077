//! Which keys a ledger signs with, in order: the one entry 0 names, and those that were rotated in.
//!
//! A rotation counts only if the old key and the new one say so both.

use data_encoding::BASE64;

use super::{Code, Refusal};
use crate::event::Event;
use crate::kind::{EventType, Kind};
use crate::note::{Purpose, Verifier};

/// The keys that the lines so far name, the present one last.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: Vec<Verifier>,
}

// === impl Keys ===

impl From<Option<Verifier>> for Keys {
    /// A key that is known from elsewhere, or none.
    fn from(known: Option<Verifier>) -> Keys {
        Keys { known: known.into_iter().collect() }
    }
}

impl Keys {
    /// Takes the next event.
    pub(crate) fn take(&mut self, event: &Event) -> Result<(), Refusal> {
        let key = match event.kind {
            Kind::Known(EventType::LedgerCreated) => event.text("public_key").and_then(own_key),
            Kind::Known(EventType::LedgerKeyRotated) => self.last().and_then(|old| rotated(event, old)),
            Kind::Known(_) | Kind::Opaque(_) => return Ok(()),
        };
        let what = "it names no key, or not with the signatures of the old key and the new one";
        self.known.push(key.ok_or_else(|| Refusal::at(Code::Key, event.seq, what))?);
        Ok(())
    }

    /// All of them.
    pub(crate) fn known(&self) -> &[Verifier] {
        &self.known
    }

    /// The present one.
    pub(crate) fn last(&self) -> Option<&Verifier> {
        self.known.last()
    }
}

/// What both keys sign when one follows the other.
pub(crate) fn rotation(old: &Verifier, new: &Verifier) -> String {
    format!("writ key rotation/v1\n{}\n{old}\n{new}\n", new.name())
}

fn own_key(text: &str) -> Option<Verifier> {
    Verifier::parse(text).ok().filter(|key| key.purpose() == Purpose::Sign)
}

fn rotated(event: &Event, old: &Verifier) -> Option<Verifier> {
    let new = own_key(event.text("new")?).filter(|new| new.name() == old.name())?;
    let statement = rotation(old, &new);
    let signed = |key: &Verifier, field: &str| {
        let signature = event.text(field).and_then(|text| BASE64.decode(text.as_bytes()).ok());
        signature.is_some_and(|signature| key.is_signature(statement.as_bytes(), &signature))
    };
    let continues = event.text("old") == Some(old.to_string().as_str());
    (continues && signed(old, "old_signature") && signed(&new, "new_signature")).then_some(new)
}
