//! Policies: what is allowed at the destinations that name them.
//!
//! Every rule is evaluated, and says nothing, allow, hold or deny. What a rule cannot read counts as the worst it could
//! be: thresholds hold, rules about content deny. A reason never repeats content of the body.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use crate::content::{Content, Family, is_media_type};
use crate::decide::{Match, Verdict};
use crate::decimal::Decimal;
use crate::document::{Faults, Limits, PolicyFile, RequireApproval, Source};
use crate::extract::Reading;
use crate::facts::sha256_hex;
use crate::form::{self, Plus};
use crate::json::Unreadable;
use crate::scan::{Terms, TermsError};
use crate::yaml::Step;

/// One compiled policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) id: String,
    /// SHA-256 in hex over the file's bytes.
    pub(crate) hash: String,
    /// The destinations it may be used for; any when absent.
    pub(crate) destinations: Option<Vec<String>>,
    pub(crate) approvals: u32,
    pub(crate) expiry: SignedDuration,
    types: Option<Vec<AllowedType>>,
    terms: Option<Terms>,
    approval: Option<RequireApproval>,
    under: BTreeMap<String, Decimal>,
    over: BTreeMap<String, Decimal>,
}

/// What was measured, or why it could not be.
pub(crate) type Readings = BTreeMap<String, Result<Reading, Unreadable>>;

/// An entry of `allowed_types`.
#[derive(Debug)]
enum AllowedType {
    Family(Family),
    /// A media type such as `application/pdf`.
    Media(String),
}

// === impl Policy ===

impl Policy {
    /// Compiles a policy file; `id` comes from the file's name.
    pub(crate) fn compile(id: &str, file: PolicyFile, source: &Source, faults: &mut Faults<'_>) -> Self {
        check_file(id, &file, faults);
        let types = file.allowed_types.map(|entries| compile_types(&entries, faults));
        let terms = file.block_if_terms.and_then(|terms| compile_terms(&terms, faults));
        let limits = |limits: Option<Limits>| limits.map(|limits| limits.0).unwrap_or_default();
        Self {
            id: id.to_owned(),
            hash: sha256_hex(source.text.as_bytes()),
            destinations: file.destinations,
            approvals: file.require_approvals.unwrap_or(1),
            expiry: SignedDuration::from_mins(i64::from(file.expiry_minutes.unwrap_or(DEFAULT_EXPIRY))),
            types,
            terms,
            approval: file.require_approval,
            under: limits(file.auto_approve_under),
            over: limits(file.require_approval_over),
        }
    }

    /// The names that its thresholds need as numbers, with the threshold's key.
    pub(crate) fn limited(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let under = self.under.keys().map(|name| (UNDER, name.as_str()));
        under.chain(self.over.keys().map(|name| (OVER, name.as_str())))
    }

    /// What every rule says, in the order of this function.
    pub(crate) fn judge(&self, content: &Content<'_>, readings: &Readings) -> Vec<Match> {
        let rules = [
            self.judge_types(content),
            self.judge_terms(content),
            self.judge_approval(),
            self.judge_under(readings),
            self.judge_over(readings),
        ];
        rules.into_iter().flatten().collect()
    }

    fn judge_types(&self, content: &Content<'_>) -> Option<Match> {
        let allowed = self.types.as_ref()?;
        let facts = content.facts();
        if facts.body.is_empty() && matches!(facts.method.as_str(), "GET" | "HEAD" | "DELETE") {
            return None;
        }
        let deny = |reason: String| {
            let remedy = "send one of the allowed types, uncompressed, and declare it in Content-Type";
            Some(self.speak("allowed_types", Verdict::Deny, reason, remedy))
        };
        let media = match content.media() {
            Ok(media) => media,
            Err(why) => return deny(why.to_string()),
        };
        let listed = allowed.iter().any(|allowed| match allowed {
            AllowedType::Family(family) => *family == media.family,
            AllowedType::Media(essence) => *essence == media.essence,
        });
        if !listed {
            return deny(format!("the type `{}` is not allowed", media.essence));
        }
        match content.is_as_declared() {
            Ok(true) => None,
            Ok(false) => deny(format!("the body is not what `{}` declares", media.essence)),
            Err(why) => deny(why.to_string()),
        }
    }

    fn judge_terms(&self, content: &Content<'_>) -> Option<Match> {
        let terms = self.terms.as_ref()?;
        let (reason, remedy) = match find_term(terms, content) {
            Ok(None) => return None,
            Ok(Some((term, place))) => (format!("the {place} has the blocked term `{term}`"), "leave the term out"),
            Err(why) => (
                format!("the request cannot be searched for blocked terms: {why}"),
                "send it as plain, uncompressed text",
            ),
        };
        Some(self.speak("block_if_terms", Verdict::Deny, reason, remedy))
    }

    fn judge_approval(&self) -> Option<Match> {
        let (verdict, reason, remedy) = match self.approval? {
            RequireApproval::Always => (Verdict::Hold, "every request needs approval", "wait for a reviewer"),
            RequireApproval::Never => (Verdict::Allow, "no request needs approval", "nothing"),
        };
        Some(self.speak("require_approval", verdict, reason.to_owned(), remedy))
    }

    fn judge_under(&self, readings: &Readings) -> Option<Match> {
        if self.under.is_empty() {
            return None;
        }
        let over = exceeded(&self.under, readings);
        if over.is_empty() {
            let within: Vec<String> =
                self.under.iter().map(|(name, limit)| format!("`{name}` is at most {limit}")).collect();
            return Some(self.speak(UNDER, Verdict::Allow, within.join(", "), "nothing"));
        }
        Some(self.speak(UNDER, Verdict::Hold, over.join(", "), "stay within the limit, or wait for a reviewer"))
    }

    fn judge_over(&self, readings: &Readings) -> Option<Match> {
        let over = exceeded(&self.over, readings);
        let reason = if over.is_empty() { return None } else { over.join(", ") };
        Some(self.speak(OVER, Verdict::Hold, reason, "stay within the limit, or wait for a reviewer"))
    }

    fn speak(&self, field: &str, verdict: Verdict, reason: String, remedy: &str) -> Match {
        Match { rule: format!("{}/{field}", self.id), verdict, reason, remedy: remedy.to_owned() }
    }
}

/// The limits that are not kept, in words; a value that was not measured keeps none.
fn exceeded(limits: &BTreeMap<String, Decimal>, readings: &Readings) -> Vec<String> {
    let not_kept = limits.iter().filter_map(|(name, limit)| {
        let reading = readings.get(name).map_or(Err(Unreadable("the value is not measured")), |reading| {
            reading.as_ref().map_err(|why| *why).and_then(|reading| reading.number(name))
        });
        match reading {
            Ok(number) if number <= limit => None,
            Ok(number) => Some(format!("`{name}` is {number}, over the limit of {limit}")),
            Err(why) => Some(format!("`{name}` cannot be measured and counts as over {limit}: {why}")),
        }
    });
    not_kept.collect()
}

/// A blocked term and where it stands; each part of the request in every reading it may have.
fn find_term<'t>(terms: &'t Terms, content: &Content<'_>) -> Result<Option<(&'t str, &'static str)>, Unreadable> {
    let facts = content.facts();
    let path = form::decode(&facts.path, Plus::Itself)?;
    let mut found = terms.find(&path).map(|term| (term, "path"));
    if let Some(query) = &facts.query {
        found = found.or_else(|| terms.find(query).map(|term| (term, "query")));
        for (name, value) in form::pairs(query)? {
            found = found.or_else(|| terms.find(&name).or_else(|| terms.find(&value)).map(|term| (term, "query")));
        }
    }
    for (_, value) in &facts.headers {
        found = found.or_else(|| terms.find(value).map(|term| (term, "headers")));
    }
    Ok(found.or(find_in_body(terms, content)?.map(|term| (term, "body"))))
}

/// Whatever is declared, every reading that works is searched; a declared one that does not work is an error.
fn find_in_body<'t>(terms: &'t Terms, content: &Content<'_>) -> Result<Option<&'t str>, Unreadable> {
    let raw = content.text()?;
    if raw.is_empty() {
        return Ok(None);
    }
    let family = match content.media() {
        Ok(media) => Some(media.family),
        Err(_) if content.facts().header("content-type").next().is_none() => None,
        Err(why) => return Err(why),
    };
    let mut found = terms.find(raw);
    let mut search = |text: &str| found = found.or_else(|| terms.find(text));
    match content.read_json() {
        Ok(json) => json.each_text(&mut search),
        Err(why) if family == Some(Family::Json) => return Err(why),
        Err(_) => {}
    }
    if family == Some(Family::Multipart) {
        for part in content.parts()? {
            search(&part.name);
            search(part.filename.as_deref().unwrap_or_default());
        }
    }
    if family != Some(Family::Json) {
        match form::pairs(raw) {
            Ok(pairs) => pairs.iter().for_each(|(name, value)| {
                search(name);
                search(value);
            }),
            Err(why) if family == Some(Family::Form) => return Err(why),
            Err(_) => {}
        }
    }
    Ok(found)
}

fn check_file(id: &str, file: &PolicyFile, faults: &mut Faults<'_>) {
    if file.id.as_deref().is_some_and(|written| written != id) {
        faults.note(&[Step::Key("id")], "the id differs from the file's name", "rename the file or correct the id");
    }
    if file.destinations.as_ref().is_some_and(Vec::is_empty) {
        faults.note(&[Step::Key("destinations")], "the list is empty", "list destination keys or remove the key");
    }
    if file.expiry_minutes.is_some_and(|minutes| !(1..=MAX_EXPIRY).contains(&minutes)) {
        faults.note(
            &[Step::Key("expiry_minutes")],
            "the time is not 1 to 10080 minutes",
            "choose a time in that range",
        );
    }
    if file.require_approvals.is_some_and(|count| !(1..=MAX_APPROVALS).contains(&count)) {
        faults.note(&[Step::Key("require_approvals")], "the number is not 1 to 20", "choose a number in that range");
    }
    for (key, limits) in [(UNDER, &file.auto_approve_under), (OVER, &file.require_approval_over)] {
        if limits.as_ref().is_some_and(|limits| limits.0.is_empty()) {
            faults.note(&[Step::Key(key)], "no limit is given", "give a number or remove the key");
        }
    }
    let (Some(under), Some(over)) = (&file.auto_approve_under, &file.require_approval_over) else { return };
    for (name, limit) in &under.0 {
        if over.0.get(name).is_some_and(|over| limit > over) {
            let message = format!("`auto_approve_under` is greater than `require_approval_over` for `{name}`");
            faults.note(&[Step::Key(UNDER)], message, "make it at most as great");
        }
    }
}

fn compile_types(entries: &[String], faults: &mut Faults<'_>) -> Vec<AllowedType> {
    if entries.is_empty() {
        faults.note(&[Step::Key("allowed_types")], "the list is empty", "list types or remove the key");
    }
    let mut types = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        match entry.as_str() {
            "binary" => types.push(AllowedType::Family(Family::Binary)),
            "csv" => types.push(AllowedType::Family(Family::Csv)),
            "form" => types.push(AllowedType::Family(Family::Form)),
            "json" => types.push(AllowedType::Family(Family::Json)),
            "multipart" => types.push(AllowedType::Family(Family::Multipart)),
            "text" => types.push(AllowedType::Family(Family::Text)),
            "xml" => types.push(AllowedType::Family(Family::Xml)),
            media if is_media_type(media) => types.push(AllowedType::Media(media.to_owned())),
            other => faults.note(
                &[Step::Key("allowed_types"), Step::Item(at)],
                format_args!("`{other}` is no type"),
                "write csv, json, form, text, xml, multipart, binary or a media type such as `application/pdf`",
            ),
        }
    }
    types
}

fn compile_terms(terms: &[String], faults: &mut Faults<'_>) -> Option<Terms> {
    let list = Step::Key("block_if_terms");
    if terms.is_empty() {
        faults.note(&[list], "the list is empty", "list terms or remove the key");
        return None;
    }
    match Terms::compile(terms) {
        Ok(terms) => return Some(terms),
        Err(TermsError::Empty(at)) => faults.note(
            &[list, Step::Item(at)],
            "the term has neither a letter nor a digit and would match everything or nothing",
            "write a word",
        ),
        Err(TermsError::TooMany) => faults.note(&[list], "the list is too long", "write fewer or shorter terms"),
    }
    None
}

/// Notes everything that does not fit between a policy and the destinations that name it.
pub(crate) fn check_use(
    policy: &Policy,
    users: &BTreeSet<&str>,
    measured: &dyn Fn(&str, &str) -> bool,
    faults: &mut Faults<'_>,
) {
    if users.is_empty() {
        faults.note(&[], "no destination uses this policy", "name it in a destination or remove the file");
        return;
    }
    for (at, entry) in policy.destinations.iter().flatten().enumerate() {
        let path = [Step::Key("destinations"), Step::Item(at)];
        if entry.contains(['/', ':']) {
            faults.note(&path, "a policy names an address", "define a destination for it and name its key");
        } else if !users.contains(entry.as_str()) {
            let message = format!("no destination `{entry}` uses this policy");
            faults.note(&path, message, "correct the key, or name the policy there");
        }
    }
    for (key, name) in policy.limited() {
        for user in users.iter().filter(|user| !measured(user, name)) {
            let message = format!("`{key}` limits `{name}`, which `{user}` does not measure");
            faults.note(&[Step::Key(key)], message, "add it to the destination's `measure`");
        }
    }
}

const UNDER: &str = "auto_approve_under";
const OVER: &str = "require_approval_over";
const DEFAULT_EXPIRY: u32 = 60;
const MAX_EXPIRY: u32 = 10_080;
const MAX_APPROVALS: u32 = 20;
