//! The lines of a bundle one after the other: each an entry by itself, and the chain wherever neighbours are there.

use super::{Code, Refusal};
use crate::chain::{self, Flaw, GENESIS, Link};
use crate::event::Event;
use crate::kind::{EventType, Kind};

/// Steps over lines in ascending order, gaps allowed.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    origin: &'a str,
    size: u64,
    last: Option<Link>,
}

// === impl Lines ===

impl<'a> Lines<'a> {
    /// Lines of a ledger of this name and size.
    pub(super) fn of(origin: &'a str, size: u64) -> Lines<'a> {
        Lines { origin, size, last: None }
    }

    /// The number a line has if it does not say another.
    pub(super) fn expected_seq(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.seq.saturating_add(1))
    }

    /// Reads the next line and whether it is the entry right behind the line before.
    pub(super) fn step(&mut self, line: &str) -> Result<(Event, bool), Refusal> {
        let expected = self.expected_seq();
        let event = chain::parse(line).map_err(|flaw| {
            let code = if matches!(flaw, Flaw::Version { .. }) { Code::EntryVersion } else { Code::EntryForm };
            Refusal::at(code, expected, format!("it {flaw}"))
        })?;
        chain::check_hash(line, &event)
            .map_err(|flaw| Refusal::at(Code::EntryHash, event.seq, format!("it {flaw}")))?;
        let adjacent = event.seq == expected;
        self.check_place(&event, adjacent).map_err(|(code, what)| Refusal::at(code, event.seq, what))?;
        self.last = Some(Link::of(&event));
        Ok((event, adjacent))
    }

    fn check_place(&self, event: &Event, adjacent: bool) -> Result<(), (Code, String)> {
        let behind = event.seq < self.expected_seq() || (self.last.is_none() && event.seq != 0);
        if behind || event.seq >= self.size {
            let last =
                self.last.as_ref().map_or("the first line".to_owned(), |last| format!("behind entry {}", last.seq));
            return Err((
                Code::ChainOrder,
                format!("it cannot stand here, {last}, in a ledger of {} entries", self.size),
            ));
        }
        let created = event.kind == Kind::Known(EventType::LedgerCreated);
        if event.seq == 0 && !(created && event.text("origin") == Some(self.origin) && event.prev_hash == GENESIS) {
            return Err((Code::ChainGenesis, format!("it does not create a ledger `{}`", self.origin)));
        }
        let Some(last) = &self.last else { return Ok(()) };
        if adjacent && event.prev_hash != last.entry_hash {
            let what = format!("it continues `{}` but the entry before is `{}`", event.prev_hash, last.entry_hash);
            return Err((Code::ChainPrev, what));
        }
        if event.ts < last.ts {
            return Err((
                Code::ChainClock,
                format!("it is of `{}`, before the line before it (`{}`)", event.ts, last.ts),
            ));
        }
        Ok(())
    }
}
