//! Destinations: what host, method and path map to.
//!
//! What an entry of the file means is settled here, once. Which of them a request is for, the index says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::authority::{Authority, Scheme};
use crate::calls::Calls;
use crate::document::{DestinationEntry, MatchEntry};
use crate::execute::Execute;
use crate::fault::{Code, Faults, Flaw};
use crate::glob::Glob;
use crate::idempotency::Idempotency;
use crate::measure::{self, Measure};
use crate::pattern::{HostPattern, PathPattern};
use crate::profile::Profile;
use crate::yaml::{Step, below};

/// What a request does at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Changes something in a system of someone else.
    ExternalMutation,
    /// Reaches a person.
    Notification,
    /// Moves money.
    Payment,
    /// Changes nothing.
    Read,
    /// Changes something of one's own.
    Write,
}

/// What a connection may be handed over to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Upgrade {
    /// A WebSocket (RFC 6455): its handshake is decided on, its messages are not looked into.
    Websocket,
}

/// What a host, method and path map to. Made only by loading.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its name, such as `stripe.refunds`.
    pub key: String,
    /// What a request does there.
    pub effect: Effect,
    /// The id of its policy.
    pub policy: String,
    /// The credential put into its requests.
    pub credential: Option<String>,
    /// Address ranges it may resolve to although they are closed by default.
    pub addresses: Vec<IpNet>,
    /// A file of root certificates that replaces the public roots.
    pub roots: Option<String>,
    /// The longest request body in octets, when not the gate's default.
    pub max_body: Option<u64>,
    /// How many seconds a held caller's connection waits for a decision.
    pub wait_seconds: Option<u64>,
    /// What a connection to it may be handed over to.
    pub upgrade: Option<Upgrade>,
    pub(crate) measure: BTreeMap<String, Measure>,
    pub(crate) profile: Option<Profile>,
    /// What the operator adds to the risk of its requests.
    pub(crate) risk: u32,
    /// What a payload declared for it becomes.
    pub(crate) execute: Option<Execute>,
    /// Which of its requests are the same one.
    pub(crate) idempotency: Idempotency,
    /// Destinations of their own that a request to this one may call.
    pub(crate) calls: Option<Box<Calls>>,
    /// Of a call, the key of the destination that takes it.
    pub(crate) base: Option<String>,
    pub(crate) matches: Vec<Pattern>,
    pub(crate) endpoints: BTreeSet<(Scheme, u16)>,
}

/// Host, path and methods of one `match`.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) host: HostPattern,
    pub(crate) path: PathPattern,
    pub(crate) methods: Option<BTreeSet<String>>,
}

// === impl Effect ===

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExternalMutation => "external_mutation",
            Self::Notification => "notification",
            Self::Payment => "payment",
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

// === impl Destination ===

impl Destination {
    /// Compiles one entry of the file; `at` is its place there.
    pub(crate) fn compile(
        entry: DestinationEntry,
        at: usize,
        credentials: Option<&BTreeSet<String>>,
        faults: &mut Faults<'_>,
    ) -> Self {
        let endpoints = endpoints(&entry, at, faults);
        check_entry(&entry, at, faults);
        if let Some(credential) = &entry.credential {
            check_credential(credential, credentials, &endpoints, &mut |code, message, remedy| {
                faults.note(&[LIST, Step::Item(at), Step::Key("credential")], code, message, remedy);
            });
        }
        let listed = entry.matches.listed;
        let matches = entry.matches.items.into_iter().enumerate().filter_map(|(place, entry)| {
            let item = listed.then_some(Step::Item(place));
            let path: Vec<Step<'_>> = [LIST, Step::Item(at), Step::Key("match")].into_iter().chain(item).collect();
            Pattern::compile(entry, &path, faults)
        });
        let matches: Vec<Pattern> = matches.collect();
        let measure = measure::compile(&entry.measure, &[LIST, Step::Item(at), Step::Key("measure")], faults);
        let at_profile = [LIST, Step::Item(at), Step::Key("profile")];
        let profile = entry.profile.and_then(|entry| Profile::compile(&entry, &at_profile, faults));
        let key = |key| [LIST, Step::Item(at), Step::Key(key)];
        let idempotency = entry.idempotency.map(|entry| Idempotency::compile(&entry, &key("idempotency"), faults));
        let hosts: BTreeSet<String> = matches.iter().map(Pattern::host).collect();
        let target = (hosts, endpoints.iter().max().copied());
        let execute = entry.execute.and_then(|entry| Execute::compile(entry, target, &key("execute"), faults));
        let base = Self {
            key: entry.key,
            effect: entry.effect,
            policy: entry.policy,
            credential: entry.credential,
            addresses: entry.addresses,
            roots: entry.roots,
            max_body: entry.max_body.map(|octets| octets.0),
            wait_seconds: entry.wait_seconds,
            upgrade: entry.upgrade,
            measure,
            profile,
            risk: entry.risk.unwrap_or(0),
            execute,
            idempotency: idempotency.unwrap_or_default(),
            calls: None,
            base: None,
            matches,
            endpoints,
        };
        let calls = entry.calls.and_then(|entry| {
            Calls::compile(entry, &base, &[LIST, Step::Item(at), Step::Key("calls")], faults).map(Box::new)
        });
        let whole = Self { calls, ..base };
        for call in whole.with_calls() {
            let twice =
                call.profile.iter().flat_map(Profile::measures).find(|(name, _)| call.measure.contains_key(*name));
            if let Some((name, _)) = twice {
                let message = format!("`{name}` of `{}` is measured by its profile and by `measure`", call.key);
                faults.note(&at_profile, Code::DuplicateEntry, message, "say it in one of the two");
            }
        }
        whole
    }

    /// The same destination under another key.
    pub(crate) fn called(&self, key: &str) -> Self {
        let mut call = self.clone();
        key.clone_into(&mut call.key);
        call
    }

    /// Everything that is measured, by name.
    pub(crate) fn measures(&self) -> impl Iterator<Item = (&str, &Measure)> {
        let own = self.measure.iter().map(|(name, measure)| (name.as_str(), measure));
        own.chain(self.profile.iter().flat_map(Profile::measures))
    }

    /// Whether this is the key of the destination, or of a call that it takes.
    pub fn is_called(&self, key: &str) -> bool {
        let name = key.strip_prefix(&self.key).and_then(|rest| rest.strip_prefix('.'));
        key == self.key || self.calls.as_ref().zip(name).is_some_and(|(calls, name)| calls.mean(name))
    }

    /// Whether a request here may have a key that is meant. The key of a call ends with a pattern of names.
    pub(crate) fn may_be_meant(&self, glob: &Glob) -> bool {
        glob.matches(&self.key) || self.key.strip_suffix('*').is_some_and(|start| glob.may_begin(start))
    }

    /// Whether this is a call that the destination of this key takes.
    pub(crate) fn is_call_of(&self, key: &str) -> bool {
        self.base.as_deref() == Some(key)
    }

    /// This destination and those of its calls, which have keys such as `mcp.github.get_*`.
    pub(crate) fn with_calls(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.calls.iter().flat_map(|calls| calls.destinations()))
    }

    /// The hosts it can match, as written canonically: a name, an address, or `*.name`.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        self.matches.iter().map(Pattern::host)
    }

    /// Where the value of a name is measured, here or in a call.
    pub(crate) fn measured_at(&self, name: &str) -> Option<String> {
        let measured = self.with_calls().flat_map(Self::measures).find(|(measured, _)| *measured == name);
        measured.map(|(_, measure)| measure.written.clone())
    }

    /// Whether some request with one of these methods and such a path can come here.
    pub(crate) fn can_match(&self, methods: Option<&[String]>, path: Option<&PathPattern>) -> bool {
        self.matches.iter().any(|pattern| {
            let taken = |method| pattern.methods.as_ref().is_none_or(|taken| taken.contains(method));
            methods.is_none_or(|methods| methods.iter().any(taken))
                && path.is_none_or(|path| pattern.path.overlaps(path))
        })
    }

    pub(crate) fn is_open_to(&self, authority: &Authority) -> bool {
        self.endpoints.contains(&(authority.scheme(), authority.port()))
    }
}

// === impl Pattern ===

impl Pattern {
    fn compile(entry: MatchEntry, at: &[Step<'_>], faults: &mut Faults<'_>) -> Option<Self> {
        let mut note = |key: &'static str, flaw: Flaw| {
            faults.note_flaw(&below(at, &[Step::Key(key)]), flaw);
        };
        let host = HostPattern::parse(&entry.host).map_err(|flaw| note("host", flaw)).ok();
        let path = PathPattern::parse(&entry.path).map_err(|flaw| note("path", flaw)).ok();
        let sound = |method: &String| {
            !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
        };
        if entry.methods.as_ref().is_some_and(|methods| methods.is_empty() || !methods.iter().all(sound)) {
            note("methods", METHODS);
        }
        Some(Self { host: host?, path: path?, methods: entry.methods.map(BTreeSet::from_iter) })
    }

    fn host(&self) -> String {
        match &self.host {
            HostPattern::Exact(host) => host.as_str().to_owned(),
            HostPattern::Under(host) => format!("*.{}", host.as_str()),
        }
    }

    pub(crate) fn accepts(&self, method: &str, path: &str) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method)) && self.path.matches(path)
    }

    /// Whether one request can match both patterns with equal right; host and path patterns are known to be equal.
    pub(crate) fn ties_with(&self, other: &Self) -> bool {
        match (&self.methods, &other.methods) {
            (Some(one), Some(other)) => !one.is_disjoint(other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

fn endpoints(entry: &DestinationEntry, at: usize, faults: &mut Faults<'_>) -> BTreeSet<(Scheme, u16)> {
    let mut note = |key, code, message| {
        faults.note(&[LIST, Step::Item(at), Step::Key(key)], code, message, "list one or remove the key");
    };
    if entry.schemes.as_ref().is_some_and(Vec::is_empty) {
        note("schemes", Code::EmptyList, "no scheme is listed");
    }
    if entry.ports.as_ref().is_some_and(|ports| ports.is_empty() || ports.contains(&0)) {
        note("ports", Code::OutOfRange, "no port from 1 to 65535 is listed");
    }
    let schemes = entry.schemes.clone().unwrap_or_else(|| vec![Scheme::Https]);
    let ports = |scheme: Scheme| entry.ports.clone().unwrap_or_else(|| vec![scheme.default_port()]);
    schemes.into_iter().flat_map(|scheme| ports(scheme).into_iter().map(move |port| (scheme, port))).collect()
}

fn check_entry(entry: &DestinationEntry, at: usize, faults: &mut Faults<'_>) {
    let mut note = |key, code, message, remedy| {
        faults.note(&[LIST, Step::Item(at), Step::Key(key)], code, message, remedy);
    };
    if !is_key(&entry.key) {
        note(
            "key",
            Code::BadKey,
            "this is no destination key",
            "use lower-case letters, digits, `.`, `-` and `_`, like `stripe.refunds`",
        );
    }
    if entry.matches.items.is_empty() {
        note("match", Code::EmptyList, "the destination matches nothing", "write a mapping of host, methods and path");
    }
    if entry.roots.as_ref().is_some_and(String::is_empty) {
        note("roots", Code::EmptyText, "the file name is empty", "name a file of PEM certificates or remove the key");
    }
    if entry.risk.is_some_and(|weight| weight > MAX_RISK) {
        note("risk", Code::OutOfRange, "the weight is not 0 to 100", "choose a weight in that range or remove the key");
    }
    if entry.wait_seconds.is_some_and(|seconds| !(1..=MAX_WAIT).contains(&seconds)) {
        note(
            "wait_seconds",
            Code::OutOfRange,
            "the time to wait is not 1 to 3600 seconds",
            "choose a time in that range or remove the key",
        );
    }
}

fn check_credential(
    credential: &str,
    known: Option<&BTreeSet<String>>,
    endpoints: &BTreeSet<(Scheme, u16)>,
    note: &mut dyn FnMut(Code, String, &str),
) {
    if known.is_some_and(|known| !known.contains(credential)) {
        let message = format!("there is no credential `{credential}`");
        note(Code::UnknownCredential, message, "add it to the credentials file or correct the name");
    }
    if endpoints.iter().any(|(scheme, _)| *scheme == Scheme::Http) {
        note(
            Code::CredentialOverHttp,
            format!("the credential `{credential}` would travel over plain http"),
            "remove `http` from the schemes, or the credential",
        );
    }
}

/// Whether the text can be a key, a name or an id.
pub(crate) fn is_key(text: &str) -> bool {
    let sound = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    (1..=100).contains(&text.len()) && text.bytes().all(sound)
}

pub(crate) const LIST: Step<'static> = Step::Key("destinations");
const MAX_RISK: u32 = 100;
const MAX_WAIT: u64 = 3_600;
const METHODS: Flaw = Flaw {
    code: Code::BadMethod,
    message: "the methods are not a list of upper-case names",
    remedy: "write them like `[GET, POST]`, or remove the key for every method",
};
