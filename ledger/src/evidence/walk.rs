//! One pass over the lines of some evidence: each checked by itself, against the line before, against the rules, and added
//! to the tree. In constant memory but for what the rules have to remember.

use std::collections::BTreeSet;

use super::bundle;
use super::check::Stop;
use super::keys::Keys;
use super::lines::Lines;
use super::lives::Lives;
use super::manifest::Entries;
use super::summary::Tally;
use super::{Code, Refusal, Scope};
use crate::event::Event;
use crate::tree::{Edge, Hash};

/// What the lines are of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) origin: &'a str,
    pub(super) size: u64,
    pub(super) scope: &'a Scope,
}

/// What the lines amount to.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) keys: Keys,
    pub(super) lives: Lives,
    pub(super) tally: Tally,
    /// Texts that lines refer to.
    pub(super) named: BTreeSet<String>,
    pub(super) entries: Entries,
    /// Times of the first and the last line inside the scope.
    pub(super) times: Option<[String; 2]>,
    /// Root that lines and cover lead to, if the cover fits.
    root: Option<Hash>,
    /// The first entry that complete evidence lacks.
    lacks: Option<u64>,
}

/// Walks over lines; `next` gives one after the other, and is told the number the line must have if it says none.
pub(super) fn walk(
    subject: Subject<'_>,
    cover: Option<Vec<Hash>>,
    mut next: impl FnMut(u64) -> Result<Option<String>, Stop>,
) -> Result<Walked, Stop> {
    let mut cover = cover.map(Vec::into_iter);
    let mut edge = cover.is_some().then(Edge::default);
    let mut lines = Lines::of(subject.origin, subject.size);
    let mut walked = Walked::default();
    let mut awaits_next = false;
    while let Some(line) = next(lines.expected_seq())? {
        let expected = lines.expected_seq();
        let (event, adjacent) = lines.step(&line)?;
        walked.keys.take(&event)?;
        walked.lives.take(&event)?;
        let selected = walked.take(&event, subject.scope);
        if (awaits_next || selected) && !adjacent {
            walked.lacks.get_or_insert(if awaits_next { expected } else { event.seq - 1 });
        }
        awaits_next = selected;
        edge = edge.zip(cover.as_mut()).and_then(|(mut edge, cover)| {
            edge.skip_to(event.seq, cover)?;
            edge.push(Hash::of_leaf(line.as_bytes()));
            Some(edge)
        });
    }
    if awaits_next && lines.expected_seq() < subject.size {
        walked.lacks.get_or_insert(lines.expected_seq());
    }
    walked.root = edge.zip(cover).and_then(|(mut edge, mut cover)| {
        edge.skip_to(subject.size, &mut cover)?;
        cover.next().is_none().then(|| edge.root())
    });
    Ok(walked)
}

// === impl Walked ===

impl Walked {
    /// Counts an event in and says whether it is inside the scope.
    fn take(&mut self, event: &Event, scope: &Scope) -> bool {
        self.tally.take(event);
        self.named.extend(bundle::texts_of(event));
        self.entries.count += 1;
        let selected = scope.holds(event);
        if selected {
            self.entries.selected += 1;
            let ts = event.ts_text();
            let first = self.times.take().map_or_else(|| ts.clone(), |[first, _]| first);
            self.times = Some([first, ts]);
        }
        selected
    }

    /// Lines and cover lead to the root.
    pub(super) fn check_root(&self, expected: Hash) -> Result<(), Refusal> {
        if self.root == Some(expected) {
            return Ok(());
        }
        let found = self.root.map_or("no root at all".to_owned(), |root| format!("root `{root}`"));
        Err(Refusal::new(Code::Proof, format!("lines and cover lead to {found}, the checkpoint says `{expected}`")))
    }

    /// At least one line is inside the scope, and nothing is missing where that shows.
    pub(super) fn check_scope(&self, scope: &Scope) -> Result<(), Refusal> {
        if self.entries.selected == 0 {
            return Err(Refusal::new(Code::Scope, "no line is inside the scope"));
        }
        match self.lacks.filter(|_| scope.is_of_time_alone()) {
            None => Ok(()),
            Some(seq) => {
                Err(Refusal::new(Code::Scope, format!("entry {seq} is inside or beside the scope, but missing")))
            }
        }
    }
}
