//! Profiles: what kind of action a request is, measured from its own bytes, and one line about it for a reviewer.
//!
//! A profile names fields and their kinds; a destination says where they stand in its API. The line repeats parts of the
//! request, so it is shown to people who may see the request, and is never recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::document::{MeasureEntry, ProfileEntry};
use crate::extract::{COUNT, MISSING, RECIPIENTS, Reading};
use crate::fault::{Code, Faults};
use crate::json::Unreadable;
use crate::measure::Measure;
use crate::recipients;
use crate::views;
use crate::yaml::{Step, below};

/// The profiles there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ProfileKind {
    /// Records are put into a customer database: `records`, `object`.
    #[serde(rename = "crm.import.v1")]
    CrmImport,
    /// A message is sent: `recipients`, `subject`, `from`.
    #[serde(rename = "email.send.v1")]
    EmailSend,
    /// Money is taken: `amount`, `currency`, `payer`.
    #[serde(rename = "payment.charge.v1")]
    PaymentCharge,
    /// Money is given back: `amount`, `payment`, `currency`.
    #[serde(rename = "payment.refund.v1")]
    PaymentRefund,
    /// Something is published: `text`, `account`.
    #[serde(rename = "social.publish.v1")]
    SocialPublish,
    /// A customer is answered: `text`, `ticket`, `public`.
    #[serde(rename = "support.reply.v1")]
    SupportReply,
}

/// The profile of one destination.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) kind: ProfileKind,
    fields: BTreeMap<&'static str, Measure>,
}

/// A field of a profile.
#[derive(Debug)]
struct Field {
    name: &'static str,
    kind: FieldKind,
    required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldKind {
    Number,
    Text,
    /// Any number of texts, at least one.
    Texts,
}

// === impl ProfileKind ===

impl ProfileKind {
    pub(crate) const ALL: [Self; 6] = [
        Self::CrmImport,
        Self::EmailSend,
        Self::PaymentCharge,
        Self::PaymentRefund,
        Self::SocialPublish,
        Self::SupportReply,
    ];

    pub(crate) fn field_names(self) -> impl Iterator<Item = &'static str> {
        self.fields().iter().map(|field| field.name)
    }

    fn fields(self) -> &'static [Field] {
        match self {
            Self::CrmImport => &CRM_IMPORT,
            Self::EmailSend => &EMAIL_SEND,
            Self::PaymentCharge => &PAYMENT_CHARGE,
            Self::PaymentRefund => &PAYMENT_REFUND,
            Self::SocialPublish => &SOCIAL_PUBLISH,
            Self::SupportReply => &SUPPORT_REPLY,
        }
    }
}

impl fmt::Display for ProfileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CrmImport => "crm.import.v1",
            Self::EmailSend => "email.send.v1",
            Self::PaymentCharge => "payment.charge.v1",
            Self::PaymentRefund => "payment.refund.v1",
            Self::SocialPublish => "social.publish.v1",
            Self::SupportReply => "support.reply.v1",
        })
    }
}

// === impl Profile ===

impl Profile {
    /// Compiles the profile of a destination, which stands at `at`.
    pub(crate) fn compile(entry: &ProfileEntry, at: &[Step<'_>], faults: &mut Faults<'_>) -> Option<Self> {
        let mut entries = entry.0.iter();
        let (Some((kind, given)), None) = (entries.next(), entries.next()) else {
            faults.note(
                at,
                Code::BadValue,
                "there is not one profile",
                "write one, such as `payment.refund.v1: {amount: …}`",
            );
            return None;
        };
        let name = kind.to_string();
        let at = below(at, &[Step::Key(&name)]);
        check_names(*kind, given, &at, faults);
        let mut fields = BTreeMap::new();
        for field in kind.fields() {
            let Some(entry) = given.get(field.name) else { continue };
            match Measure::compile(entry) {
                Ok(measure) => drop(fields.insert(field.name, measure)),
                Err(flaw) => faults.note_flaw(&below(&at, &[Step::Key(field.name)]), flaw),
            }
        }
        Some(Self { kind: *kind, fields })
    }

    /// What it measures for every rule to see: numbers and lists, and the currency of an amount.
    pub(crate) fn measures(&self) -> impl Iterator<Item = (&str, &Measure)> {
        let shared = |name: &str| matches!(name, COUNT | RECIPIENTS | "amount" | "currency");
        self.fields.iter().map(|(name, measure)| (*name, measure)).filter(move |(name, _)| shared(name))
    }

    /// The first field that is not as the profile has it, and why.
    pub(crate) fn broken_by(&self, content: &Content<'_>) -> Option<(&'static str, Unreadable)> {
        self.kind.fields().iter().find_map(|field| match self.read(field, content) {
            Ok(_) => None,
            Err(MISSING) if !field.required => None,
            Err(why) => Some((field.name, why)),
        })
    }

    /// One line about the request.
    pub(crate) fn summary(&self, content: &Content<'_>) -> String {
        let show = |name: &str| {
            let field = self.kind.fields().iter().find(|field| field.name == name);
            match field.map(|field| (field, self.read(field, content))) {
                Some((_, Ok(reading))) => Some(shown(&reading)),
                Some((field, Err(why))) if field.required || why != MISSING => Some(format!("(unknown {name})")),
                Some(_) | None => None,
            }
        };
        let with = |before: &str, name: &str| show(name).map_or_else(String::new, |text| format!("{before}{text}"));
        let always = |name: &str| show(name).unwrap_or_default();
        match self.kind {
            ProfileKind::CrmImport => format!("import {} records{}", always(COUNT), with(" of ", "object")),
            ProfileKind::EmailSend => {
                format!("e-mail to {}{}{}", always(RECIPIENTS), with(" from ", "from"), with(": ", "subject"))
            }
            ProfileKind::PaymentCharge => {
                format!("charge {} {}{}", always("amount"), always("currency"), with(" to ", "payer"))
            }
            ProfileKind::PaymentRefund => {
                format!("refund {}{} of payment {}", always("amount"), with(" ", "currency"), always("payment"))
            }
            ProfileKind::SocialPublish => format!("publish{}: {}", with(" as ", "account"), always("text")),
            ProfileKind::SupportReply => {
                format!("reply to ticket {}{}: {}", always("ticket"), with(", public: ", "public"), always("text"))
            }
        }
    }

    fn read(&self, field: &Field, content: &Content<'_>) -> Result<Reading, Unreadable> {
        let reading = self.fields.get(field.name).ok_or(MISSING)?.read_whole(field.name, content)?;
        match field.kind {
            FieldKind::Number => reading.number(field.name).cloned().map(Reading::Number),
            // Digits in a form are an id here, not a number.
            FieldKind::Text => match reading {
                Reading::Number(number) => Ok(Reading::Text(number.to_string())),
                Reading::Text(text) => Ok(Reading::Text(text)),
                Reading::Texts(texts) => match texts.as_slice() {
                    [text] => Ok(Reading::Text(text.clone())),
                    _ => Err(Unreadable("there are several values")),
                },
            },
            FieldKind::Texts if reading.texts().is_empty() => Err(MISSING),
            FieldKind::Texts => Ok(reading),
        }
    }
}

fn check_names(kind: ProfileKind, given: &BTreeMap<String, MeasureEntry>, at: &[Step<'_>], faults: &mut Faults<'_>) {
    let known: Vec<&str> = kind.fields().iter().map(|field| field.name).collect();
    for name in given.keys().filter(|name| !known.contains(&name.as_str())) {
        let remedy = format!("choose from {}", known.join(", "));
        let message = format_args!("`{kind}` has no field `{name}`");
        faults.note(&below(at, &[Step::Key(name)]), Code::UnknownKey, message, &remedy);
    }
    for field in kind.fields().iter().filter(|field| field.required && !given.contains_key(field.name)) {
        let message = format!("`{kind}` needs `{}`", field.name);
        faults.note(at, Code::MissingKey, message, "say where it stands in a request");
    }
}

/// A value as a reviewer sees it: short, on one line, with nothing that hides or turns around what stands beside it.
fn shown(reading: &Reading) -> String {
    match reading {
        Reading::Number(number) => number.to_string(),
        Reading::Text(text) => short(text),
        Reading::Texts(texts) => {
            let addresses: Vec<&str> = texts.iter().flat_map(|text| recipients::split(text)).collect();
            let domains: BTreeSet<String> = addresses.iter().map(|address| domain(address)).collect();
            let named: Vec<&str> = domains.iter().take(MAX_NAMED).map(String::as_str).collect();
            let more = domains.len().saturating_sub(named.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{} recipients ({}{more})", addresses.len(), named.join(", "))
        }
    }
}

fn domain(address: &str) -> String {
    let (_, domain) = address.rsplit_once('@').unwrap_or(("", address));
    short(domain.trim_end_matches('>'))
}

fn short(text: &str) -> String {
    let plain = |c: char| if c.is_control() || c.is_whitespace() { ' ' } else { c };
    let mut visible = text.chars().filter(|c| !views::is_invisible(*c)).map(plain);
    let start: String = visible.by_ref().take(MAX_SHOWN).collect();
    if visible.next().is_some() { format!("{start}…") } else { start }
}

const fn required(name: &'static str, kind: FieldKind) -> Field {
    Field { name, kind, required: true }
}

const fn optional(name: &'static str, kind: FieldKind) -> Field {
    Field { name, kind, required: false }
}

const CRM_IMPORT: [Field; 2] = [required(COUNT, FieldKind::Number), optional("object", FieldKind::Text)];
const EMAIL_SEND: [Field; 3] =
    [required(RECIPIENTS, FieldKind::Texts), optional("subject", FieldKind::Text), optional("from", FieldKind::Text)];
const PAYMENT_CHARGE: [Field; 3] =
    [required("amount", FieldKind::Number), required("currency", FieldKind::Text), optional("payer", FieldKind::Text)];
const PAYMENT_REFUND: [Field; 3] = [
    required("amount", FieldKind::Number),
    required("payment", FieldKind::Text),
    optional("currency", FieldKind::Text),
];
const SOCIAL_PUBLISH: [Field; 2] = [required("text", FieldKind::Text), optional("account", FieldKind::Text)];
const SUPPORT_REPLY: [Field; 3] =
    [required("text", FieldKind::Text), required("ticket", FieldKind::Text), optional("public", FieldKind::Text)];

/// Characters of a text that a reviewer is shown.
const MAX_SHOWN: usize = 80;
const MAX_NAMED: usize = 3;
