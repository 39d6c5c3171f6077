//! `dlp` and `block_if_pii`: secrets and personal data in a request.
//!
//! Every text is looked at. Of what is found only the detector and the number are said, never the text.

use std::collections::{BTreeMap, BTreeSet};

use regex::RegexSet;

use crate::case::{Case, Opinion};
use crate::check::PATTERN;
use crate::destination::is_key;
use crate::detector::{self, Detector, Finds};
use crate::facts::sha256_hex;
use crate::fault::{Code, Faults};
use crate::json::Unreadable;
use crate::policy_file::{DlpAction, DlpEntry};
use crate::texts::Text;
use crate::yaml::{Step, below};

/// The detectors of one policy.
#[derive(Debug)]
pub(crate) struct Dlp {
    /// SHA-256 in hex over every detector's field, action, id and pattern.
    pub(crate) hash: String,
    groups: Vec<Group>,
}

/// The detectors of one field, and what happens when they find something.
#[derive(Debug)]
struct Group {
    field: &'static str,
    action: DlpAction,
    detectors: Vec<Detector>,
    /// The patterns of all detectors, to find in one pass which of them to ask.
    any: RegexSet,
}

/// What was found, by field and detector.
pub(crate) type Findings = Result<BTreeMap<(&'static str, String), usize>, Unreadable>;

// === impl Dlp ===

impl Dlp {
    /// None when a policy has neither field.
    pub(crate) fn compile(dlp: Option<DlpEntry>, block_if_pii: bool, faults: &mut Faults<'_>) -> Option<Self> {
        let personal = block_if_pii.then(|| {
            let detectors = detector::ids(true).into_iter().filter_map(Detector::built_in).collect();
            (PII, DlpAction::Block, detectors)
        });
        let written = dlp.map(|entry| (DLP, entry.action, compile_detectors(entry, faults)));
        let groups: Vec<Group> = written.into_iter().chain(personal).filter_map(Group::new).collect();
        (!groups.is_empty()).then(|| Self { hash: sha256_hex(describe(&groups).as_bytes()), groups })
    }

    /// The keys of a policy that it comes from.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.groups.iter().map(|group| group.field)
    }

    /// Looks at every text of the request.
    pub(crate) fn find(&self, case: &Case<'_>) -> Findings {
        let texts = case.texts()?;
        let mut findings = BTreeMap::new();
        for group in &self.groups {
            let found = group.detectors.iter().zip(group.find(texts)).filter(|(_, found)| found.len() > 0);
            findings.extend(found.map(|(detector, found)| ((group.field, detector.id.clone()), found.len())));
        }
        Ok(findings)
    }

    /// What each field says about the findings.
    pub(crate) fn judge(&self, findings: &Findings) -> Vec<(&'static str, Opinion)> {
        self.groups.iter().filter_map(|group| Some((group.field, group.judge(findings)?))).collect()
    }
}

// === impl Group ===

impl Group {
    fn new((field, action, detectors): (&'static str, DlpAction, Vec<Detector>)) -> Option<Self> {
        let any = RegexSet::new(detectors.iter().map(Detector::pattern)).ok()?;
        Some(Self { field, action, detectors, any })
    }

    /// What each detector finds, in their order.
    fn find(&self, texts: &[Text<'_>]) -> Vec<Finds> {
        let mut found = vec![Finds::default(); self.detectors.len()];
        for text in texts.iter().map(|text| text.text.as_ref()).filter(|text| self.any.is_match(text)) {
            let matched = self.any.matches(text);
            let asked = self.detectors.iter().zip(&mut found).enumerate().filter(|(place, _)| matched.matched(*place));
            asked.for_each(|(_, (detector, found))| detector.find(text, found));
        }
        found
    }

    fn judge(&self, findings: &Findings) -> Option<Opinion> {
        let reason = match findings {
            Ok(findings) => {
                let own = findings.iter().filter(|((field, _), _)| *field == self.field);
                let found: Vec<String> = own.map(|((_, id), count)| format!("{count} of `{id}`")).collect();
                (!found.is_empty()).then(|| format!("sensitive data is found: {}", found.join(", ")))?
            }
            Err(why) => format!("the request cannot be searched for sensitive data: {why}"),
        };
        match self.action {
            DlpAction::Block => Some(Opinion::deny(reason, "leave the data out")),
            DlpAction::Hold => Some(Opinion::hold(reason, "leave the data out, or wait for a reviewer")),
            DlpAction::Observe => None,
        }
    }
}

fn compile_detectors(entry: DlpEntry, faults: &mut Faults<'_>) -> Vec<Detector> {
    let list = Step::Key(DLP);
    if entry.rules.is_empty() && entry.custom.is_empty() {
        let remedy = "list rules such as `card`, or a custom pattern";
        faults.note(&[list], Code::EmptyList, "no rule is listed", remedy);
    }
    let mut ids = BTreeSet::new();
    let mut detectors = Vec::new();
    for (at, id) in entry.rules.iter().enumerate() {
        let path = [list, Step::Key("rules"), Step::Item(at)];
        match Detector::built_in(id) {
            Some(_) if !ids.insert(id.clone()) => {
                faults.note(&path, Code::DuplicateEntry, format_args!("the rule `{id}` is listed twice"), "keep one");
            }
            Some(detector) => detectors.push(detector),
            None => {
                let remedy = format!("choose from {}", detector::ids(false).join(", "));
                faults.note(&path, Code::UnknownDetector, format_args!("there is no rule `{id}`"), &remedy);
            }
        }
    }
    for (at, custom) in entry.custom.into_iter().enumerate() {
        let path = [list, Step::Key("custom"), Step::Item(at)];
        if !is_key(&custom.id) || Detector::built_in(&custom.id).is_some() || !ids.insert(custom.id.clone()) {
            let remedy = "use lower-case letters, digits and `-`, and an id of its own";
            faults.note(&below(&path, &[Step::Key("id")]), Code::BadKey, "the id is malformed or taken", remedy);
        }
        match Detector::custom(custom.id, &custom.pattern) {
            Ok(detector) => detectors.push(detector),
            Err(message) => {
                faults.note(&below(&path, &[Step::Key("pattern")]), Code::BadPattern, message, PATTERN);
            }
        }
    }
    detectors
}

/// One line for each detector; what is hashed must not depend on anything else.
fn describe(groups: &[Group]) -> String {
    let lines = groups.iter().flat_map(|group| {
        let head = format!("{} {:?}", group.field, group.action);
        group.detectors.iter().map(move |detector| format!("{head} {} {}\n", detector.id, detector.pattern()))
    });
    lines.collect()
}

const DLP: &str = "dlp";
const PII: &str = "block_if_pii";
