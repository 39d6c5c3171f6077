//! Which entries belong into evidence of a scope: those inside it, and those without which they cannot be checked.
//!
//! Asks the index, so a scope costs what it holds and not what was ever recorded.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Scope;
use super::export::ExportError;
use crate::chain::{self, Flaw};
use crate::event::Event;
use crate::handle::Ledger;
use crate::kind::EventType;
use crate::past::Past;
use crate::query::Query;

/// Called with each entry and its line.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&Event, &str) -> Result<(), ExportError>;

/// Numbers of entries, and whether the last of those inside the scope is the last there is: then nothing behind it can
/// show that it is.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) seqs: Vec<u64>,
    pub(super) reaches_end: bool,
}

/// The selection for a scope among the first `bound` entries.
pub(super) fn select(ledger: &Ledger, scope: &Scope, bound: u64) -> Result<Selection, ExportError> {
    let mut seqs = BTreeSet::new();
    let (mut ids, mut agents) = (BTreeSet::new(), BTreeSet::new());
    visit(ledger, candidates(ledger, scope, bound)?.into_iter(), &mut |event, _| {
        if scope.holds(event) {
            seqs.insert(event.seq);
            ids.extend([&event.correlation_id, &event.intent_id].into_iter().flatten().cloned());
            agents.extend(event.agent_id.clone());
        }
        Ok(())
    })?;
    let (Some(first), Some(last)) = (seqs.first().copied(), seqs.last().copied()) else {
        return Err(ExportError::Nothing);
    };
    let reaches_end = last + 1 == bound;
    if scope.is_of_time_alone() {
        // Its neighbours show that nothing at its ends is left out.
        seqs.extend(first.checked_sub(1).into_iter().chain((!reaches_end).then_some(last + 1)));
    }
    // Of a whole ledger there is nothing else.
    if (seqs.len() as u64) < bound {
        for id in &ids {
            let by = |query: Query| all(ledger, query);
            seqs.extend(by(Query { correlation: Some(id.clone()), ..Query::default() })?);
            seqs.extend(by(Query { intent: Some(id.clone()), ..Query::default() })?);
        }
        for agent in agents {
            let registered = Past { agent: Some(agent), kinds: vec![EventType::AgentRegistered], ..Past::default() };
            seqs.extend(newest_first(ledger, registered)?);
        }
        let rotated = Past { kinds: vec![EventType::LedgerKeyRotated], ..Past::default() };
        seqs.extend(newest_first(ledger, rotated)?);
        seqs.insert(0);
    }
    Ok(Selection { seqs: seqs.into_iter().filter(|seq| *seq < bound).collect(), reaches_end })
}

/// Visits entries in order of their numbers.
pub(super) fn visit(ledger: &Ledger, seqs: impl Iterator<Item = u64>, visit: Visit<'_>) -> Result<(), ExportError> {
    let mut seqs = seqs.peekable();
    while let Some(first) = seqs.next() {
        let mut next = first + 1;
        while next < first + PAGE && seqs.next_if_eq(&next).is_some() {
            next += 1;
        }
        let limit = usize::try_from(next - first).unwrap_or(usize::MAX);
        let lines = ledger.events(&Query { after: first.checked_sub(1), limit, ..Query::default() })?;
        if lines.len() != limit {
            return Err(ExportError::Entry {
                seq: first,
                flaw: Flaw::Malformed { detail: "it is missing".to_owned() },
            });
        }
        for (seq, line) in (first..).zip(lines) {
            let event = chain::parse(&line).map_err(|flaw| ExportError::Entry { seq, flaw })?;
            visit(&event, &line)?;
        }
    }
    Ok(())
}

/// Numbers among which all entries inside the scope are.
fn candidates(ledger: &Ledger, scope: &Scope, bound: u64) -> Result<Vec<u64>, ExportError> {
    let (correlation, intent) = (scope.correlation.clone(), scope.intent.clone());
    let mut found = if correlation.is_some() || intent.is_some() {
        all(ledger, Query { correlation, intent, ..Query::default() })?
    } else if scope.is_of_time_alone() {
        let place = |time: &Option<String>, otherwise| match time.as_deref().map(str::parse::<Timestamp>) {
            Some(Ok(time)) => Ok(ledger.first_since(time)?.min(bound)),
            Some(Err(_)) | None => Ok::<u64, ExportError>(otherwise),
        };
        (place(&scope.since, 0)?..place(&scope.until, bound)?).collect()
    } else {
        let (agent, destination) = (scope.agent.clone(), scope.destination.clone());
        newest_first(ledger, Past { agent, destination, ..Past::default() })?
    };
    found.retain(|seq| *seq < bound);
    found.sort_unstable();
    Ok(found)
}

/// Numbers of all entries that match.
fn all(ledger: &Ledger, mut query: Query) -> Result<Vec<u64>, ExportError> {
    query.limit = usize::MAX;
    Ok(ledger.events(&query)?.iter().filter_map(|line| seq_of(line)).collect())
}

/// Numbers of all entries that match, the newest first.
fn newest_first(ledger: &Ledger, mut past: Past) -> Result<Vec<u64>, ExportError> {
    past.limit = usize::try_from(PAGE).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    loop {
        let page = ledger.past(&past)?;
        found.extend(page.lines.iter().filter_map(|line| seq_of(line)));
        match page.older {
            None => return Ok(found),
            older => past.before = older,
        }
    }
}

fn seq_of(line: &str) -> Option<u64> {
    chain::parse(line).ok().map(|event| event.seq)
}

/// Entries read at once.
const PAGE: u64 = 1000;
