//! What the rules of a policy look at, and the form in which each answers.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::basis::Verdict;
use crate::content::Content;
use crate::destination::Destination;
use crate::extract::Reading;
use crate::field::{FieldPath, Fields, Found};
use crate::json::Unreadable;
use crate::manifest::{Manifest, Tier};
use crate::texts::{Text, Wording};

/// One call of a request at its destination, measured.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    pub(crate) destination: &'a Destination,
    /// What the call itself has of the request.
    pub(crate) content: &'a Content<'a>,
    pub(crate) readings: Readings,
    pub(crate) now: Timestamp,
    /// How much harm the agent may do by what it is, if that was said.
    pub(crate) tier: Option<Tier>,
    /// With whom the agent shares budgets.
    pub(crate) group: Option<&'a str>,
    whole: &'a Wording<'a>,
    fields: OnceCell<Result<Fields<'a>, Unreadable>>,
}

/// What was measured, or why it could not be.
pub(crate) type Readings = BTreeMap<String, Result<Reading, Unreadable>>;

/// What one rule says. The reason holds thresholds and counts, never content of the body.
#[derive(Debug)]
pub(crate) struct Opinion {
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

// === impl Case ===

impl<'a> Case<'a> {
    /// Measures a call; `whole` has the texts of the whole request, in which a term may be torn between calls.
    pub(crate) fn new(
        destination: &'a Destination,
        content: &'a Content<'a>,
        whole: &'a Wording<'a>,
        (manifest, now): (Option<&'a Manifest>, Timestamp),
    ) -> Self {
        let tier = manifest.map(|manifest| manifest.tier);
        let group = manifest.and_then(|manifest| manifest.group.as_deref());
        let readings = destination.measures().map(|(name, measure)| (name.to_owned(), measure.read(name, content)));
        Self { destination, content, readings: readings.collect(), now, tier, group, whole, fields: OnceCell::new() }
    }

    /// Every text of the request.
    pub(crate) fn texts(&self) -> Result<&[Text<'a>], Unreadable> {
        self.whole.texts()
    }

    /// Everything that stands at a path in the body, whose fields are read once. A query that has the field too makes
    /// it odd, because a server may merge the two.
    pub(crate) fn find(&self, path: &FieldPath) -> Result<Vec<Found<'_>>, Unreadable> {
        let fields = self.fields.get_or_init(|| Fields::of(self.content)).as_ref().map_err(|why| *why)?;
        let mut found = path.find(fields);
        let merged = path.spelling().refuse_in_query(self.content.facts().query.as_deref(), &[]);
        found.extend(merged.is_err().then_some(Found::Odd));
        Ok(found)
    }

    /// The measured value of this name.
    pub(crate) fn reading(&self, name: &str) -> Result<&Reading, Unreadable> {
        let reading = self.readings.get(name).ok_or(Unreadable("the value is not measured"))?;
        reading.as_ref().map_err(|why| *why)
    }
}

// === impl Opinion ===

impl Opinion {
    pub(crate) fn allow(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Allow, reason: reason.into(), remedy: "nothing".to_owned() }
    }

    pub(crate) fn deny(reason: impl Into<String>, remedy: &str) -> Self {
        Self { verdict: Verdict::Deny, reason: reason.into(), remedy: remedy.to_owned() }
    }

    pub(crate) fn hold(reason: impl Into<String>, remedy: &str) -> Self {
        Self { verdict: Verdict::Hold, reason: reason.into(), remedy: remedy.to_owned() }
    }
}
