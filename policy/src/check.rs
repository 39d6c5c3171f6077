//! Checks of fields: what the values at a path must be.
//!
//! A check that cannot be made is broken: text is no number, a list has no characters. What is said about a value never
//! repeats it.

use regex::{Regex, RegexBuilder};

use crate::case::Case;
use crate::decimal::Decimal;
use crate::fault::{Code, Faults};
use crate::field::{FieldPath, Found, ODD, Value};
use crate::json::{Json, Unreadable};
use crate::policy_file::{FieldCheckEntry, Scalar};
use crate::yaml::{Step, below};

/// One entry of `field_checks`.
#[derive(Debug)]
pub(crate) struct FieldCheck {
    path: FieldPath,
    required: bool,
    constraints: Constraints,
}

/// What one value must be; every one that is given must hold.
#[derive(Debug)]
pub(crate) struct Constraints {
    min: Option<Decimal>,
    max: Option<Decimal>,
    /// Characters of text, or elements of a list.
    max_length: Option<usize>,
    pattern: Option<Regex>,
    one_of: Option<Vec<Scalar>>,
}

/// A constraint that a value does not keep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The constraint's key.
    pub(crate) rule: &'static str,
    pub(crate) why: String,
    /// Whether the value is of a kind that cannot be compared at all.
    pub(crate) incomparable: bool,
}

// === impl FieldCheck ===

impl FieldCheck {
    /// Compiles one entry, which stands at `at`.
    pub(crate) fn compile(entry: FieldCheckEntry, at: &[Step<'_>], faults: &mut Faults<'_>) -> Option<Self> {
        let path = FieldPath::parse(&entry.path);
        if let Err(flaw) = &path {
            faults.note_flaw(&below(at, &[Step::Key("path")]), *flaw);
        }
        let required = entry.required;
        let constraints = Constraints::compile(entry, at, faults)?;
        if !required && constraints.is_empty() {
            let remedy = "add `required: true`, a limit, a pattern or a list of values";
            faults.note(at, Code::NothingChecked, "the check checks nothing", remedy);
        }
        Some(Self { path: path.ok()?, required, constraints })
    }

    /// The first thing wrong with the field, in words.
    pub(crate) fn broken_by(&self, case: &Case<'_>) -> Result<Option<String>, Unreadable> {
        let path = self.path.as_str();
        let say = |rule: &str, why: &str| Some(format!("`{path}` fails `{rule}`: {why}"));
        let broken = case.find(&self.path)?.into_iter().find_map(|found| match found {
            Found::Missing if self.required => say("required", "it is missing"),
            Found::Missing => None,
            Found::Odd => Some(format!("`{path}` cannot be checked: {ODD}")),
            Found::Value(value) if self.required && value.is_empty() => say("required", "it is empty"),
            Found::Value(value) => {
                let broken = self.constraints.broken_by(value).into_iter().next()?;
                say(broken.rule, &broken.why)
            }
        });
        Ok(broken)
    }
}

// === impl Constraints ===

impl Constraints {
    /// Compiles what an entry at `at` constrains; its path is not looked at.
    pub(crate) fn compile(entry: FieldCheckEntry, at: &[Step<'_>], faults: &mut Faults<'_>) -> Option<Self> {
        let mut note =
            |key, code, message: &str, remedy: &str| faults.note(&below(at, &[Step::Key(key)]), code, message, remedy);
        if let (Some(min), Some(max)) = (&entry.min, &entry.max)
            && min > max
        {
            let message = format!("`min` is {min}, greater than `max`, {max}");
            note("min", Code::ThresholdsReversed, &message, "make it at most as great");
        }
        if entry.one_of.as_ref().is_some_and(Vec::is_empty) {
            note("one_of", Code::EmptyList, "the list is empty", "list the values or remove the key");
        }
        let pattern = match entry.pattern.as_deref().map(compile_pattern).transpose() {
            Ok(pattern) => pattern,
            Err(message) => {
                note("pattern", Code::BadPattern, message, PATTERN);
                return None;
            }
        };
        Some(Self { min: entry.min, max: entry.max, max_length: entry.max_length, pattern, one_of: entry.one_of })
    }

    /// Every constraint that the value does not keep.
    pub(crate) fn broken_by(&self, value: Value<'_>) -> Vec<Broken> {
        let broken = [
            self.min.as_ref().and_then(|min| {
                let why = |_: &Decimal| format!("it is less than {min}");
                compare("min", value.number(), |number| number >= min, why)
            }),
            self.max.as_ref().and_then(|max| {
                let why = |_: &Decimal| format!("it is greater than {max}");
                compare("max", value.number(), |number| number <= max, why)
            }),
            self.max_length.and_then(|max| {
                let why = |_: &usize| format!("it is longer than {max}");
                compare("max_length", value.length(), |length| *length <= max, why)
            }),
            self.pattern.as_ref().and_then(|pattern| {
                let why = |_: &&str| "it does not match".to_owned();
                compare("pattern", value.text(), |text| pattern.is_match(text), why)
            }),
            self.one_of.as_ref().and_then(|list| {
                let equal = list.iter().any(|scalar| value.equals(scalar) == Some(true));
                let comparable = list.iter().any(|scalar| value.equals(scalar).is_some());
                let why = "it is none of the listed values".to_owned();
                (!equal).then_some(Broken { rule: "one_of", why, incomparable: !comparable })
            }),
        ];
        broken.into_iter().flatten().collect()
    }

    /// Whether a missing value counts as out of bounds: a limit on a number that is not there cannot be shown to hold.
    pub(crate) fn has_limits(&self) -> bool {
        self.min.is_some() || self.max.is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.has_limits() && self.max_length.is_none() && self.pattern.is_none() && self.one_of.is_none()
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    fn is_empty(self) -> bool {
        match self {
            Self::Form(text) => text.is_empty(),
            Self::Json(json) => matches!(json, Json::Text(text) if text.is_empty()),
        }
    }

    fn number(self) -> Result<Decimal, Unreadable> {
        match self {
            Self::Form(text) => Decimal::parse_plain(text),
            Self::Json(Json::Number(literal)) => Decimal::parse(literal),
            Self::Json(Json::Bool(_) | Json::List(_) | Json::Map(_) | Json::Null | Json::Text(_)) => {
                Err(Unreadable("it is not a number"))
            }
        }
    }

    fn text(self) -> Result<&'a str, Unreadable> {
        match self {
            Self::Form(text) => Ok(text),
            Self::Json(Json::Text(text)) => Ok(text),
            Self::Json(Json::Bool(_) | Json::List(_) | Json::Map(_) | Json::Null | Json::Number(_)) => {
                Err(Unreadable("it is not text"))
            }
        }
    }

    fn length(self) -> Result<usize, Unreadable> {
        match self {
            Self::Form(text) => Ok(text.chars().count()),
            Self::Json(Json::Text(text)) => Ok(text.chars().count()),
            Self::Json(Json::List(items)) => Ok(items.len()),
            Self::Json(Json::Bool(_) | Json::Map(_) | Json::Null | Json::Number(_)) => {
                Err(Unreadable("it is neither text nor a list"))
            }
        }
    }

    /// Whether the value is this one; none when they are of different kinds.
    fn equals(self, scalar: &Scalar) -> Option<bool> {
        match (self, scalar) {
            (_, Scalar::Text(other)) => self.text().ok().map(|text| text == other),
            (Self::Form(text), Scalar::Number(other)) => Decimal::parse_plain(text).ok().map(|number| number == *other),
            (Self::Form(text), Scalar::Bool(other)) => text.parse::<bool>().ok().map(|truth| truth == *other),
            (Self::Json(Json::Bool(truth)), Scalar::Bool(other)) => Some(truth == other),
            (Self::Json(Json::Number(_)), Scalar::Number(other)) => self.number().ok().map(|number| number == *other),
            (Self::Json(_), Scalar::Bool(_) | Scalar::Number(_)) => None,
        }
    }
}

fn compare<T>(
    rule: &'static str,
    value: Result<T, Unreadable>,
    keeps: impl FnOnce(&T) -> bool,
    why: impl FnOnce(&T) -> String,
) -> Option<Broken> {
    match value {
        Ok(value) if keeps(&value) => None,
        Ok(value) => Some(Broken { rule, why: why(&value), incomparable: false }),
        Err(why) => Some(Broken { rule, why: why.to_string(), incomparable: true }),
    }
}

/// A regular expression in linear time; what it matches may stand anywhere in the text unless it says `^` and `$`.
pub(crate) fn compile_pattern(pattern: &str) -> Result<Regex, &'static str> {
    if pattern.is_empty() {
        return Err("the pattern is empty and matches everything");
    }
    RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .build()
        .map_err(|_| "the pattern is no regular expression of bounded size")
}

const MAX_COMPILED: usize = 1024 * 1024;
pub(crate) const PATTERN: &str = "write one without look-around and back-references, such as `^[a-z]+$`";
