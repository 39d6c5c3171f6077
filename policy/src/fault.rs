//! What can be wrong with a configuration file, and where it is said.
//!
//! Every fault of every file is one [`Fault`] with a code that never changes its meaning. A message names keys and
//! positions; a value only where it cannot be a secret.

use std::fmt;

use serde::Serialize;

use crate::document::Source;
use crate::yaml::{self, Step};

/// Declares [`Code`] from one table, so that a variant, its word and its place in `ALL` cannot drift apart.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// What kind of fault it is. Words are only ever added: scripts may rely on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Code { $($(#[$doc])* #[serde(rename = $word)] $variant,)+ }

        impl Code {
            /// Every code, in the order of the variants.
            pub const ALL: &[Code] = &[$(Code::$variant,)+];

            /// The word, for example `unknown_key`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $word,)+ }
            }
        }
    };
}

codes! {
    /// An entry of the credentials that cannot be used.
    BadCredential = "bad_credential",
    /// A door that cannot be opened as it is written.
    BadDoor = "bad_door",
    /// A way to measure a value that there is not.
    BadExtractor = "bad_extractor",
    /// A path of a body field that cannot be read.
    BadField = "bad_field",
    /// A pattern of text that is empty or too long.
    BadGlob = "bad_glob",
    /// A host, or a pattern of hosts, that no request can have.
    BadHost = "bad_host",
    /// A key, id or name with other characters than those allowed.
    BadKey = "bad_key",
    /// Methods that are not a list of upper-case names.
    BadMethod = "bad_method",
    /// A channel of notifications that cannot be used.
    BadNotification = "bad_notification",
    /// A path pattern that no canonical path can match.
    BadPath = "bad_path",
    /// A regular expression that cannot be compiled within bounds.
    BadPattern = "bad_pattern",
    /// A provider of secrets that cannot be used.
    BadProvider = "bad_provider",
    /// A point in time or an hour that cannot be read.
    BadTime = "bad_time",
    /// A type of body that there is not.
    BadType = "bad_type",
    /// A value of the right type that is none of those allowed.
    BadValue = "bad_value",
    /// A time zone that is not in the IANA database.
    BadZone = "bad_zone",
    /// A variable of the environment that is no value for its setting.
    BadVariable = "bad_variable",
    /// Somebody who is to be shown checkpoints of the ledger and cannot be reached as it is written.
    BadWitness = "bad_witness",
    /// The file begins with a byte order mark.
    ByteOrderMark = "byte_order_mark",
    /// Of another system: it means something else here.
    Changed = "changed",
    /// Two rules with the same conditions that say different things.
    ContradictingRules = "contradicting_rules",
    /// A credential would go to a host that its own list does not have.
    CredentialHost = "credential_host",
    /// A credential would travel without TLS.
    CredentialOverHttp = "credential_over_http",
    /// Of another system: it did nothing there.
    DeadLine = "dead_line",
    /// Two destinations have one key.
    DuplicateDestination = "duplicate_destination",
    /// Two entries of a list are the same.
    DuplicateEntry = "duplicate_entry",
    /// One mapping has a key twice.
    DuplicateKey = "duplicate_key",
    /// Two files would be one policy.
    DuplicatePolicy = "duplicate_policy",
    /// Two rules of a policy have one id.
    DuplicateRule = "duplicate_rule",
    /// The file has no content.
    EmptyFile = "empty_file",
    /// A list or mapping has no entry, and so no meaning.
    EmptyList = "empty_list",
    /// A term or text has nothing that could be compared.
    EmptyText = "empty_text",
    /// A window of time without any time in it.
    EmptyWindow = "empty_window",
    /// Of another system: it let through what it seems to stop.
    FailOpen = "fail_open",
    /// An environment changes what it cannot change.
    FixedKey = "fixed_key",
    /// The id in a file is not the file's name.
    IdMismatch = "id_mismatch",
    /// Of another system: it is not taken over.
    LeftOut = "left_out",
    /// A pattern stands for everything, where that would make its rule meaningless.
    MatchesAll = "matches_all",
    /// A rule or entry that no request can match.
    MatchesNothing = "matches_nothing",
    /// A YAML merge key.
    MergeKey = "merge_key",
    /// A file or folder that has to be there is not, or cannot be read.
    MissingFile = "missing_file",
    /// A key that has to be there is not.
    MissingKey = "missing_key",
    /// A policy is not enforced for the time being.
    NotEnforced = "not_enforced",
    /// A rule needs a value that the destination does not measure.
    NotMeasured = "not_measured",
    /// A number that is infinite or not a number.
    NotFinite = "not_finite",
    /// A field that another field of the policy keeps from ever deciding.
    NeverDecides = "never_decides",
    /// A check that checks nothing, or a limit without a number.
    NothingChecked = "nothing_checked",
    /// A number, time or size outside of its range.
    OutOfRange = "out_of_range",
    /// A policy has an address where a destination's key belongs.
    RawUrl = "raw_url",
    /// A second YAML document.
    SecondDocument = "second_document",
    /// Two rules that say the same under the same conditions.
    RepeatedRule = "repeated_rule",
    /// A file or folder that others may change or read.
    SharedFile = "shared_file",
    /// A hold or a deny that would stop to hold or to deny.
    StrictExpires = "strict_expires",
    /// No YAML.
    Syntax = "syntax",
    /// A YAML tag.
    Tag = "tag",
    /// A policy that decides about payments is not enforced.
    ShadowPayment = "shadow_payment",
    /// Limits that contradict each other.
    ThresholdsReversed = "thresholds_reversed",
    /// Two destinations match the same requests with equal right.
    Tie = "tie",
    /// Brackets or levels that are nested beyond any use.
    TooDeep = "too_deep",
    /// A file or list longer than any use.
    TooLong = "too_long",
    /// More nodes, once aliases are expanded, than any use.
    TooManyNodes = "too_many_nodes",
    /// A name of a credential that there is not.
    UnknownCredential = "unknown_credential",
    /// A name of a destination that there is not, or that does not use this policy.
    UnknownDestination = "unknown_destination",
    /// A name of a rule for sensitive data that there is not.
    UnknownDetector = "unknown_detector",
    /// A name of an environment that no policy has.
    UnknownEnvironment = "unknown_environment",
    /// A key that means nothing here.
    UnknownKey = "unknown_key",
    /// A name of a policy that there is not.
    UnknownPolicy = "unknown_policy",
    /// A rule that only applies where a stricter one does too.
    UnreachableRule = "unreachable_rule",
    /// The policy of a destination does not list it.
    UnlistedDestination = "unlisted_destination",
    /// A credential that no destination uses.
    UnusedCredential = "unused_credential",
    /// A policy that no destination uses.
    UnusedPolicy = "unused_policy",
    /// A key or item without a value.
    NoValue = "no_value",
    /// A value of another type than it must have.
    WrongType = "wrong_type",
}

/// Whether a fault keeps a file from being loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It does: nothing of it is put in force.
    Error,
    /// It does not, but someone should look at it.
    Warning,
}

/// One thing wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Whether it keeps the file from being loaded.
    pub severity: Severity,
    /// What kind of fault it is.
    pub code: Code,
    /// The file's path.
    pub file: String,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The column, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The line itself, unless it may hold a secret.
    pub snippet: Option<String>,
}

/// Why configuration is refused: everything found wrong, at least one error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invalid(pub Vec<Fault>);

/// Everything found wrong with one file.
#[derive(Debug)]
pub struct Faults<'a> {
    source: &'a Source,
    found: Vec<Fault>,
    /// The environment whose policy is looked at, which has some keys of its own.
    environment: Option<String>,
}

/// Why a text is refused, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) code: Code,
    pub(crate) message: &'static str,
    pub(crate) remedy: &'static str,
}

// === impl Code ===

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Fault ===

impl Fault {
    pub(crate) fn new(source: &Source, at: Option<(usize, usize)>, code: Code, message: &str, remedy: &str) -> Self {
        let (line, column) = at.unzip();
        let snippet = line.and_then(|line| source.text.lines().nth(line.checked_sub(1)?)).map(shorten);
        Self { line, column, snippet, ..Self::about(&source.name, code, message, remedy) }
    }

    /// An error about a file as a whole.
    pub fn about(file: &str, code: Code, message: &str, remedy: &str) -> Self {
        Self {
            severity: Severity::Error,
            code,
            file: file.to_owned(),
            line: None,
            column: None,
            message: message.to_owned(),
            remedy: remedy.to_owned(),
            snippet: None,
        }
    }

    /// The same from a sentence that says the remedy after a `; `.
    pub fn told(file: &str, code: Code, text: &str) -> Self {
        let (message, remedy) = told(text);
        Self::about(file, code, message, remedy)
    }

    /// The same without its line: for files in which somebody may have written a secret.
    pub fn without_snippet(self) -> Self {
        Self { snippet: None, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}; {} [{}]", self.message, self.remedy, self.code)
    }
}

// === impl Invalid ===

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Invalid {}

// === impl Faults ===

impl<'a> Faults<'a> {
    /// Nothing is wrong with `source` yet.
    pub fn new(source: &'a Source) -> Self {
        Self { source, found: Vec::new(), environment: None }
    }

    /// From now on notes faults of the policy as an environment changes it.
    pub(crate) fn enter(&mut self, environment: &str) {
        self.environment = Some(environment.to_owned());
    }

    /// From now on notes faults of the policy as it is.
    pub(crate) fn leave(&mut self) {
        self.environment = None;
    }

    /// Notes an error at the node that `path` leads to.
    pub fn note(&mut self, path: &[Step<'_>], code: Code, message: impl fmt::Display, remedy: &str) {
        // Finding the line reads the file once more; nobody corrects more than this at a time.
        if self.found.len() >= MAX_FAULTS {
            return;
        }
        let fault = |at, message: &str| Fault::new(self.source, at, code, message, remedy);
        let message = message.to_string();
        let plain = fault(yaml::locate(self.source, path), &message);
        let Some(environment) = self.environment.as_deref() else {
            return self.found.push(plain);
        };
        if let Some(at) = self.locate_change(environment, path) {
            self.found.push(fault(Some(at), &message));
        } else if !self.found.contains(&plain) {
            let message = format!("in the environment `{environment}`, {message}");
            self.found.push(Fault { message, ..plain });
        }
    }

    /// Notes why the text at `path` is refused.
    pub(crate) fn note_flaw(&mut self, path: &[Step<'_>], flaw: Flaw) {
        self.note(path, flaw.code, flaw.message, flaw.remedy);
    }

    /// Notes an error from a sentence that says the remedy after a `; `.
    pub fn tell(&mut self, path: &[Step<'_>], code: Code, text: &str) {
        let (message, remedy) = told(text);
        self.note(path, code, message, remedy);
    }

    /// Notes what someone should look at, at the node that `path` leads to.
    pub fn warn(&mut self, path: &[Step<'_>], code: Code, message: impl fmt::Display, remedy: &str) {
        let before = self.found.len();
        self.note(path, code, message, remedy);
        self.found.iter_mut().skip(before).for_each(|fault| fault.severity = Severity::Warning);
    }

    /// Takes over faults that were found elsewhere.
    pub fn extend(&mut self, faults: Vec<Fault>) {
        self.found.extend(faults);
    }

    /// Everything noted, from the top of the file to its end.
    pub fn into_vec(mut self) -> Vec<Fault> {
        self.found.sort_by_key(|fault| (fault.line, fault.column));
        self.found
    }

    /// Where an environment has the node, if it has that key.
    fn locate_change(&self, environment: &str, path: &[Step<'_>]) -> Option<(usize, usize)> {
        let changes = [Step::Key("environments"), Step::Key(environment)];
        let locate = |path: &[Step<'_>]| yaml::locate(self.source, &yaml::below(&changes, path));
        // A key that is not there is located where the mapping stands that should have it.
        (locate(path.get(..1)?) != locate(&[])).then(|| locate(path)).flatten()
    }
}

fn told(text: &str) -> (&str, &str) {
    text.split_once("; ").unwrap_or((text, "correct it"))
}

/// A line as it can be shown.
fn shorten(line: &str) -> String {
    let printable = line.chars().map(|character| if character.is_control() { ' ' } else { character });
    printable.take(MAX_SNIPPET).collect::<String>().trim_end().to_owned()
}

const MAX_FAULTS: usize = 50;
const MAX_SNIPPET: usize = 160;
