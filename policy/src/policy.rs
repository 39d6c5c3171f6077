//! Policies: what is allowed at the destinations that name them.
//!
//! Every rule is evaluated, and says nothing, allow, hold or deny. What a rule cannot read counts as the worst it could
//! be: thresholds hold, rules about content deny. A reason never repeats content of the body.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::allowed_types::AllowedTypes;
use crate::approval_for::{self, Watched};
use crate::basis::Match;
use crate::case::{Case, Opinion};
use crate::check::FieldCheck;
use crate::decide::NoResponse;
use crate::destination::{Destination, is_key};
use crate::dlp::{Dlp, Findings};
use crate::document::Source;
use crate::extract::RECIPIENTS;
use crate::facts::sha256_hex;
use crate::fault::{Code, Faults};
use crate::limit::{self, LimitsOverTime, Reservation};
use crate::policy_file::{FieldCheckEntry, PolicyFile, RequireApproval};
use crate::profile::ProfileKind;
use crate::recipients::{self, Recipients};
use crate::risk::{Risk, RiskLimits};
use crate::rule::{self, Rule};
use crate::scan::{Terms, TermsError};
use crate::shadow::Shadow;
use crate::template::Templates;
use crate::texts::{Kind, Place, Text};
use crate::thresholds::{OVER, Thresholds, UNDER};
use crate::yaml::Step;

/// One compiled policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) id: String,
    /// SHA-256 in hex over the file's bytes.
    pub(crate) hash: String,
    /// The environment for which it is changed.
    pub(crate) environment: Option<String>,
    /// The destinations it may be used for; any when absent.
    pub(crate) destinations: Option<Vec<String>>,
    pub(crate) approvals: u32,
    /// The groups of operators who may approve; everyone who may vote when absent.
    pub(crate) approvers: Option<BTreeSet<String>>,
    pub(crate) no_response: NoResponse,
    pub(crate) expiry: SignedDuration,
    /// How long the same side effect is not had again.
    pub(crate) dedupe: Option<u32>,
    types: Option<AllowedTypes>,
    terms: Option<Terms>,
    dlp: Option<Dlp>,
    checks: Vec<FieldCheck>,
    rules: Vec<Rule>,
    approval: Option<RequireApproval>,
    thresholds: Thresholds,
    watched: Watched,
    templates: Option<Templates>,
    recipients: Option<Recipients>,
    profile: Option<ProfileKind>,
    risk: Option<RiskLimits>,
    over_time: LimitsOverTime,
    /// None when it is enforced.
    shadow: Option<Shadow>,
}

/// What a policy says about one request.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// The rules that spoke.
    pub(crate) rules: Vec<Match>,
    /// The sensitive data found, where it was looked for.
    pub(crate) findings: Option<Findings>,
    pub(crate) risk: Option<Risk>,
    /// What a grant takes.
    pub(crate) reservations: Vec<Reservation>,
}

// === impl Policy ===

impl Policy {
    /// Compiles a policy file; `id` comes from the file's name.
    pub(crate) fn compile(id: &str, file: PolicyFile, source: &Source, faults: &mut Faults<'_>) -> Self {
        check_file(id, &file, faults);
        let shadow = Shadow::compile(&file, faults);
        Self {
            shadow,
            id: id.to_owned(),
            hash: sha256_hex(source.text.as_bytes()),
            environment: None,
            destinations: file.destinations,
            approvals: file.require_approvals.unwrap_or(1),
            approvers: file.approvers.map(|groups| groups.into_iter().collect()),
            no_response: file.on_no_response.unwrap_or_default(),
            dedupe: file.dedupe_seconds,
            expiry: SignedDuration::from_mins(i64::from(file.expiry_minutes.unwrap_or(DEFAULT_EXPIRY))),
            types: file.allowed_types.map(|entries| AllowedTypes::compile(&entries, faults)),
            terms: file.block_if_terms.and_then(|terms| compile_terms(&terms, faults)),
            dlp: Dlp::compile(file.dlp, file.block_if_pii == Some(true), faults),
            checks: compile_checks(file.field_checks, faults),
            rules: rule::compile(file.rules, faults),
            approval: file.require_approval,
            thresholds: Thresholds::compile(file.auto_approve_under, file.require_approval_over, faults),
            watched: Watched::compile(file.require_approval_for, faults),
            templates: file.require_approval_if_template_error.filter(|on| *on).and_then(|_| Templates::compile()),
            risk: file.risk.map(|entry| RiskLimits::compile(&entry, faults)),
            over_time: LimitsOverTime::compile(file.rate_limits, file.budgets, faults),
            profile: file.require_profile,
            recipients: file.allowed_recipients.map(|entries| Recipients::compile(&entries, faults)),
        }
    }

    /// The measured names that its rules need, with the key of the rule.
    pub(crate) fn needed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let watched = self.watched.names().map(|name| (approval_for::KEY, name));
        let recipients = self.recipients.iter().map(|_| (recipients::KEY, RECIPIENTS));
        self.thresholds.names().chain(watched).chain(recipients).chain(self.over_time.names())
    }

    /// Whether a rule needs the value of this name as a number.
    pub(crate) fn limits(&self, name: &str) -> bool {
        self.thresholds.names().chain(self.over_time.names()).any(|(_, limited)| limited == name)
    }

    /// What every rule says, in the order of this function, and what it rests on.
    pub(crate) fn judge(&self, case: &Case<'_>) -> Judgement {
        let opinions = [
            ("allowed_types", self.types.as_ref().and_then(|types| types.judge(case))),
            ("block_if_terms", self.judge_terms(case)),
            ("field_checks", self.judge_checks(case)),
            ("require_approval", self.judge_approval()),
            (UNDER, self.thresholds.judge_under(case)),
            (OVER, self.thresholds.judge_over(case)),
            (approval_for::KEY, self.watched.judge(case)),
            (TEMPLATE, self.templates.as_ref().and_then(|templates| templates.judge(case))),
            (PROFILE, self.judge_profile(case)),
            (recipients::KEY, self.recipients.as_ref().and_then(|recipients| recipients.judge(case))),
        ];
        let fields = opinions.into_iter().filter_map(|(field, opinion)| Some(self.speak(field, opinion?)));
        let mut rules: Vec<Match> = fields.collect();
        let findings = self.dlp.as_ref().map(|dlp| (dlp, dlp.find(case)));
        if let Some((dlp, findings)) = &findings {
            rules.extend(dlp.judge(findings).into_iter().map(|(field, opinion)| self.speak(field, opinion)));
        }
        let own = self.rules.iter().filter_map(|rule| rule.judge(case).map(|opinion| (rule, opinion)));
        rules.extend(own.map(|(rule, opinion)| self.speak(&format!("rules/{}", rule.id), opinion)));
        let findings = findings.map(|(_, findings)| findings);
        let risk = Risk::of(case, findings.as_ref());
        let risky = self.risk.as_ref().and_then(|limits| limits.judge(&risk));
        rules.extend(risky.map(|opinion| self.speak("risk", opinion)));
        let (reservations, opinion) = self.over_time.reserve(&self.id, case);
        rules.extend(opinion.map(|opinion| self.speak("limits", opinion)));
        let repeated = self.dedupe.and_then(|_| limit::judge_repeated(case.content.facts()));
        rules.extend(repeated.map(|opinion| self.speak(DEDUPE, opinion)));
        Judgement { rules, findings, risk: Some(risk), reservations }
    }

    /// The names of all rules it has, also of those that have nothing to say about a request.
    pub(crate) fn rule_names(&self) -> Vec<String> {
        let limits = |key| self.thresholds.names().any(|(limiting, _)| limiting == key);
        let fields = [
            ("allowed_types", self.types.is_some()),
            ("block_if_terms", self.terms.is_some()),
            ("field_checks", !self.checks.is_empty()),
            ("require_approval", self.approval.is_some()),
            (UNDER, limits(UNDER)),
            (OVER, limits(OVER)),
            (approval_for::KEY, self.watched.names().next().is_some()),
            (TEMPLATE, self.templates.is_some()),
            (PROFILE, self.profile.is_some()),
            ("limits", !self.over_time.is_empty()),
            (DEDUPE, self.dedupe.is_some()),
            (recipients::KEY, self.recipients.is_some()),
            ("risk", self.risk.is_some()),
        ];
        let fields = fields.into_iter().filter(|(_, given)| *given).map(|(field, _)| field.to_owned());
        let dlp = self.dlp.iter().flat_map(Dlp::fields).map(str::to_owned);
        let own = self.rules.iter().map(|rule| format!("rules/{}", rule.id));
        fields.chain(dlp).chain(own).map(|name| format!("{}/{name}", self.id)).collect()
    }

    /// The hash of its detectors of sensitive data.
    pub(crate) fn dlp_hash(&self) -> Option<&str> {
        self.dlp.as_ref().map(|dlp| dlp.hash.as_str())
    }

    /// When it will be enforced, if it is not at `now`.
    pub(crate) fn tried_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.shadow.map(|shadow| shadow.until).filter(|until| now < *until)
    }

    fn judge_terms(&self, case: &Case<'_>) -> Option<Opinion> {
        let terms = self.terms.as_ref()?;
        match case.texts() {
            Ok(texts) => {
                let joined = texts.iter().any(|text| text.kind == Kind::Joined);
                // What stands in one value stands in all of them joined, too.
                let repeated = |text: &Text<'_>| joined && text.place == Place::Body && text.kind == Kind::Value;
                let mut searched = texts.iter().filter(|text| !repeated(text));
                let (term, place) = searched.find_map(|text| terms.find(&text.text).map(|term| (term, text.place)))?;
                Some(Opinion::deny(format!("the {place} has the blocked term `{term}`"), "leave the term out"))
            }
            Err(why) => Some(Opinion::deny(
                format!("the request cannot be searched for blocked terms: {why}"),
                "send it as plain text",
            )),
        }
    }

    fn judge_checks(&self, case: &Case<'_>) -> Option<Opinion> {
        let remedy = "correct the named fields";
        let broken = self.checks.iter().filter_map(|check| check.broken_by(case).transpose());
        match broken.collect::<Result<Vec<String>, _>>() {
            Ok(broken) => (!broken.is_empty()).then(|| Opinion::deny(broken.join(", "), remedy)),
            Err(why) => Some(Opinion::deny(format!("the fields cannot be checked: {why}"), remedy)),
        }
    }

    fn judge_profile(&self, case: &Case<'_>) -> Option<Opinion> {
        let wanted = self.profile?;
        let reason = match case.destination.profile.as_ref().filter(|profile| profile.kind == wanted) {
            Some(profile) => {
                let (field, why) = profile.broken_by(case.content)?;
                format!("the request is not as `{wanted}` has it: `{field}` cannot be read: {why}")
            }
            None => format!("the destination has not the profile `{wanted}`"),
        };
        Some(Opinion::deny(reason, "send the named field once, as the API documents it"))
    }

    fn judge_approval(&self) -> Option<Opinion> {
        Some(match self.approval? {
            RequireApproval::Always => Opinion::hold("every request needs approval", "wait for a reviewer"),
            RequireApproval::Never => Opinion::allow("no request needs approval"),
        })
    }

    fn speak(&self, field: &str, opinion: Opinion) -> Match {
        let Opinion { verdict, reason, remedy } = opinion;
        Match { rule: format!("{}/{field}", self.id), verdict, reason, remedy }
    }
}

fn check_file(id: &str, file: &PolicyFile, faults: &mut Faults<'_>) {
    if file.require_approval == Some(RequireApproval::Always) && file.auto_approve_under.is_some() {
        let message = "`require_approval: always` holds what this would allow";
        faults.warn(&[Step::Key(UNDER)], Code::NeverDecides, message, "remove one of the two");
    }
    if file.id.as_deref().is_some_and(|written| written != id) {
        let remedy = "rename the file or correct the id";
        faults.note(&[Step::Key("id")], Code::IdMismatch, "the id differs from the file's name", remedy);
    }
    if file.destinations.as_ref().is_some_and(Vec::is_empty) {
        let remedy = "list destination keys or remove the key";
        faults.note(&[Step::Key("destinations")], Code::EmptyList, "the list is empty", remedy);
    }
    if file.expiry_minutes.is_some_and(|minutes| !(1..=MAX_EXPIRY).contains(&minutes)) {
        faults.note(
            &[Step::Key("expiry_minutes")],
            Code::OutOfRange,
            "the time is not 1 to 10080 minutes",
            "choose a time in that range",
        );
    }
    if file.approvers.as_ref().is_some_and(|groups| groups.is_empty() || !groups.iter().all(|group| is_key(group))) {
        let remedy = "list groups of operators, in lower-case letters, digits and `-`, or remove the key";
        faults.note(&[Step::Key("approvers")], Code::BadKey, "this is no list of groups", remedy);
    }
    if file.dedupe_seconds.is_some_and(|seconds| !(1..=MAX_DEDUPE).contains(&seconds)) {
        faults.note(
            &[Step::Key(DEDUPE)],
            Code::OutOfRange,
            "the time is not 1 second to 30 days",
            "choose a time in that range",
        );
    }
    if file.require_approvals.is_some_and(|count| !(1..=MAX_APPROVALS).contains(&count)) {
        let remedy = "choose a number in that range";
        faults.note(&[Step::Key("require_approvals")], Code::OutOfRange, "the number is not 1 to 20", remedy);
    }
}

fn compile_terms(terms: &[String], faults: &mut Faults<'_>) -> Option<Terms> {
    let list = Step::Key("block_if_terms");
    if terms.is_empty() {
        faults.note(&[list], Code::EmptyList, "the list is empty", "list terms or remove the key");
        return None;
    }
    match Terms::compile(terms) {
        Ok(terms) => return Some(terms),
        Err(TermsError::Empty(at)) => faults.note(
            &[list, Step::Item(at)],
            Code::EmptyText,
            "the term has neither a letter nor a digit and would match everything or nothing",
            "write a word",
        ),
        Err(TermsError::TooMany) => {
            faults.note(&[list], Code::TooLong, "the list is too long", "write fewer or shorter terms");
        }
    }
    None
}

fn compile_checks(entries: Option<Vec<FieldCheckEntry>>, faults: &mut Faults<'_>) -> Vec<FieldCheck> {
    let list = Step::Key("field_checks");
    if entries.as_ref().is_some_and(Vec::is_empty) {
        faults.note(&[list], Code::EmptyList, "the list is empty", "list checks or remove the key");
    }
    let entries = entries.into_iter().flatten().enumerate();
    entries.filter_map(|(at, entry)| FieldCheck::compile(entry, &[list, Step::Item(at)], faults)).collect()
}

/// Notes everything that does not fit between a policy and the destinations that name it.
pub(crate) fn check_use(policy: &Policy, users: &BTreeMap<&str, &Destination>, faults: &mut Faults<'_>) {
    if users.is_empty() {
        let remedy = "name it in a destination or remove the file";
        faults.note(&[], Code::UnusedPolicy, "no destination uses this policy", remedy);
        return;
    }
    for (at, entry) in policy.destinations.iter().flatten().enumerate() {
        let path = [Step::Key("destinations"), Step::Item(at)];
        if entry.contains(['/', ':']) {
            let remedy = "define a destination for it and name its key";
            faults.note(&path, Code::RawUrl, "a policy names an address", remedy);
        } else if !users.values().any(|user| user.is_called(entry) || user.is_call_of(entry)) {
            let message = format!("no destination `{entry}` uses this policy");
            faults.note(&path, Code::UnknownDestination, message, "correct the key, or name the policy there");
        }
    }
    for (key, name) in policy.needed() {
        for user in users.values().filter(|user| user.measures().all(|(measured, _)| measured != name)) {
            let message = format!("`{key}` needs `{name}`, which `{}` does not measure", user.key);
            faults.note(&[Step::Key(key)], Code::NotMeasured, message, "add it to the destination's `measure`");
        }
    }
    if let Some(wanted) = policy.profile {
        let without = |user: &&&Destination| user.profile.as_ref().is_none_or(|profile| profile.kind != wanted);
        for user in users.values().filter(without) {
            let message = format!("`{}` has not the profile `{wanted}`", user.key);
            faults.note(
                &[Step::Key(PROFILE)],
                Code::NotMeasured,
                message,
                "add it to the destination's `profile`, or choose another policy",
            );
        }
    }
    if policy.shadow.is_some() {
        Shadow::check_use(users, faults);
    }
    rule::check_use(&policy.rules, users, faults);
}

const DEDUPE: &str = "dedupe_seconds";
const PROFILE: &str = "require_profile";
const TEMPLATE: &str = "require_approval_if_template_error";
const DEFAULT_EXPIRY: u32 = 60;
const MAX_EXPIRY: u32 = 10_080;
const MAX_DEDUPE: u32 = 2_592_000;
const MAX_APPROVALS: u32 = 20;
