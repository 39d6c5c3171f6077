//! The conditions of a rule: what `when:` asks of a request.
//!
//! An answer is yes, no, or unknown where the request has no one reading. What unknown means is for the rule to say.

use std::collections::BTreeMap;

use crate::case::Case;
use crate::check::Constraints;
use crate::destination::{Destination, is_key};
use crate::fault::{Code, Faults, Flaw};
use crate::field::{FieldPath, Found, ODD, Value};
use crate::form;
use crate::glob::Glob;
use crate::json::Unreadable;
use crate::pattern::PathPattern;
use crate::policy_file::{ConditionEntry, WhenEntry};
use crate::spelling::Spelling;
use crate::window::Window;
use crate::yaml::{Step, below};

/// All conditions of one rule; one that is absent holds.
#[derive(Debug)]
pub(crate) struct When {
    agents: Option<Vec<Glob>>,
    methods: Option<Vec<String>>,
    destinations: Option<Vec<Glob>>,
    paths: Option<Vec<PathPattern>>,
    query: Vec<(String, Glob)>,
    headers: Vec<(String, Glob)>,
    body: Vec<(FieldPath, Constraints)>,
    measured: Vec<(String, Constraints)>,
    time: Option<Window>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    No,
    Unknown(Unreadable),
    Yes,
}

/// How many of several values must meet a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// One that does not is enough to fail: for allowing.
    Every,
    /// One that does is enough: for holding and denying.
    Some,
}

// === impl When ===

impl When {
    pub(crate) fn compile(entry: WhenEntry, at: &[Step<'_>], faults: &mut Faults<'_>) -> Self {
        let sound = |method: &String| !method.is_empty() && !method.contains(|c: char| c.is_ascii_lowercase());
        let sound = |methods: &Vec<String>| !methods.is_empty() && methods.iter().all(sound);
        let is_given = entry.methods.is_some();
        let methods = entry.methods.filter(sound);
        if is_given && methods.is_none() {
            faults.note_flaw(&below(at, &[Step::Key("methods")]), METHODS);
        }
        Self {
            agents: compile_list("agents", entry.agents, Glob::parse, at, faults),
            methods,
            destinations: compile_list("destinations", entry.destinations, Glob::parse, at, faults),
            paths: compile_list("paths", entry.paths, PathPattern::parse, at, faults),
            query: compile_map("query", entry.query, at, faults),
            headers: compile_map("headers", entry.headers, at, faults)
                .into_iter()
                .map(|(name, glob)| (name.to_ascii_lowercase(), glob))
                .collect(),
            body: compile_conditions("body", FieldPath::parse, entry.body, at, faults),
            measured: compile_conditions("measured", read_name, entry.measured, at, faults),
            time: entry.time.and_then(|time| Window::compile(time, &below(at, &[Step::Key("time")]), faults)),
        }
    }

    /// Notes conditions that no request to these destinations can meet.
    pub(crate) fn check_use(&self, users: &BTreeMap<&str, &Destination>, at: &[Step<'_>], faults: &mut Faults<'_>) {
        for (place, glob) in self.destinations.iter().flatten().enumerate() {
            if !users.values().any(|user| user.may_be_meant(glob)) {
                let path = [Step::Key("destinations"), Step::Item(place)];
                let message = "no destination of this policy has such a key, so the rule can never match";
                faults.note(&below(at, &path), Code::MatchesNothing, message, "correct the key, or remove it");
            }
        }
        let meant: Vec<&&Destination> =
            users.iter().filter(|(key, _)| self.means(key)).map(|(_, destination)| destination).collect();
        let reachable = |methods: Option<&[String]>, path: Option<&PathPattern>| {
            meant.is_empty() || meant.iter().any(|destination| destination.can_match(methods, path))
        };
        let remedy = "correct it, or remove it";
        for (name, _) in &self.measured {
            for user in meant.iter().filter(|user| user.measures().all(|(measured, _)| measured != name)) {
                let message = format!("the rule needs `{name}`, which `{}` does not measure", user.key);
                let path = below(at, &[Step::Key("measured"), Step::Key(name)]);
                faults.note(&path, Code::NotMeasured, message, "add it to the destination's `measure`");
            }
        }
        for (place, method) in self.methods.iter().flatten().enumerate() {
            if !reachable(Some(std::slice::from_ref(method)), None) {
                let path = [Step::Key("methods"), Step::Item(place)];
                let message = "no destination of this rule takes the method";
                faults.note(&below(at, &path), Code::MatchesNothing, message, remedy);
            }
        }
        for (place, pattern) in self.paths.iter().flatten().enumerate() {
            if !reachable(self.methods.as_deref(), Some(pattern)) {
                let path = [Step::Key("paths"), Step::Item(place)];
                let message = "no destination of this rule has such a path, so it can never match";
                faults.note(&below(at, &path), Code::MatchesNothing, message, remedy);
            }
        }
    }

    /// Whether all conditions hold.
    pub(crate) fn holds(&self, case: &Case<'_>, quantity: Quantity) -> Truth {
        let facts = case.content.facts();
        let plain = self.agents.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(&facts.agent)))
            && self.methods.as_ref().is_none_or(|methods| methods.contains(&facts.method))
            && self.means(&case.destination.key)
            && self.paths.as_ref().is_none_or(|paths| paths.iter().any(|path| path.matches(&facts.path)))
            && self.time.as_ref().is_none_or(|window| window.contains(case.now));
        if !plain {
            return Truth::No;
        }
        let headers = self.headers.iter().map(|(name, glob)| {
            quantity.of(facts.header(name).map(|value| if glob.matches(value) { Truth::Yes } else { Truth::No }))
        });
        let measured = self.measured.iter().map(|(name, wanted)| match case.reading(name) {
            Ok(reading) => {
                let meets = |text: &String| meets(wanted, Found::Value(Value::Form(text)));
                quantity.of(reading.all().iter().map(meets))
            }
            Err(why) => Truth::Unknown(why),
        });
        let query = std::iter::once(self.query_holds(case, quantity));
        let all = Quantity::Every.of(headers.chain(measured).chain(query));
        let asks_body = !self.body.is_empty() && all != Truth::No;
        let body = asks_body.then(|| self.body_holds(case, quantity));
        Quantity::Every.of(std::iter::once(all).chain(body))
    }

    fn means(&self, key: &str) -> bool {
        self.destinations.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(key)))
    }

    fn query_holds(&self, case: &Case<'_>, quantity: Quantity) -> Truth {
        if self.query.is_empty() {
            return Truth::Yes;
        }
        let query = case.content.facts().query.as_deref();
        let pairs = match form::pairs(query.unwrap_or_default()) {
            Ok(pairs) => pairs,
            Err(why) => return Truth::Unknown(why),
        };
        Quantity::Every.of(self.query.iter().map(|(name, glob)| {
            let values = pairs.iter().filter(|(given, _)| given == name);
            let truths = values.map(|(_, value)| if glob.matches(value) { Truth::Yes } else { Truth::No });
            let spelling = Spelling::of(name);
            let rival = spelling.refuse_in_query(query, &[name]);
            let rival = rival.and_then(|()| case.content.refuse_in_body(&spelling, &[]));
            quantity.of(truths.chain(rival.err().map(Truth::Unknown)))
        }))
    }

    fn body_holds(&self, case: &Case<'_>, quantity: Quantity) -> Truth {
        Quantity::Every.of(self.body.iter().map(|(path, wanted)| match case.find(path) {
            Ok(found) => quantity.of(found.into_iter().map(|found| meets(wanted, found))),
            Err(why) => Truth::Unknown(why),
        }))
    }
}

// === impl Quantity ===

impl Quantity {
    /// One truth for several; no value meets nothing.
    fn of(self, truths: impl Iterator<Item = Truth>) -> Truth {
        let (decisive, other) = match self {
            Self::Every => (Truth::No, Truth::Yes),
            Self::Some => (Truth::Yes, Truth::No),
        };
        let mut all = None;
        for truth in truths {
            if truth == decisive {
                return decisive;
            }
            all = match (all, truth) {
                (Some(Truth::Unknown(why)), _) | (_, Truth::Unknown(why)) => Some(Truth::Unknown(why)),
                (_, Truth::No | Truth::Yes) => Some(other),
            };
        }
        all.unwrap_or(Truth::No)
    }
}

fn meets(wanted: &Constraints, found: Found<'_>) -> Truth {
    match found {
        Found::Missing if wanted.has_limits() => Truth::Unknown(Unreadable("a number that it limits is missing")),
        Found::Missing => Truth::No,
        Found::Odd => Truth::Unknown(ODD),
        Found::Value(value) => {
            let broken = wanted.broken_by(value);
            match broken.iter().all(|broken| broken.incomparable) {
                true if broken.is_empty() => Truth::Yes,
                true => Truth::Unknown(Unreadable("a field is of another kind")),
                false => Truth::No,
            }
        }
    }
}

fn compile_list<T>(
    key: &'static str,
    entries: Option<Vec<String>>,
    parse: impl Fn(&str) -> Result<T, Flaw>,
    at: &[Step<'_>],
    faults: &mut Faults<'_>,
) -> Option<Vec<T>> {
    let entries = entries?;
    if entries.is_empty() {
        let message = "the list is empty, so the rule can never match";
        faults.note(&below(at, &[Step::Key(key)]), Code::EmptyList, message, "list something or remove the key");
    }
    let mut compiled = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        match parse(entry) {
            Ok(item) => compiled.push(item),
            Err(flaw) => faults.note_flaw(&below(at, &[Step::Key(key), Step::Item(place)]), flaw),
        }
    }
    Some(compiled)
}

fn compile_map(
    key: &'static str,
    entries: BTreeMap<String, String>,
    at: &[Step<'_>],
    faults: &mut Faults<'_>,
) -> Vec<(String, Glob)> {
    let mut compiled = Vec::new();
    for (name, pattern) in entries {
        match Glob::parse(&pattern) {
            Ok(glob) => compiled.push((name, glob)),
            Err(flaw) => faults.note_flaw(&below(at, &[Step::Key(key), Step::Key(&name)]), flaw),
        }
    }
    compiled
}

fn compile_conditions<T>(
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, Flaw>,
    entries: BTreeMap<String, ConditionEntry>,
    at: &[Step<'_>],
    faults: &mut Faults<'_>,
) -> Vec<(T, Constraints)> {
    let mut compiled = Vec::new();
    for (name, entry) in entries {
        let at = below(at, &[Step::Key(key), Step::Key(&name)]);
        let parsed = parse(&name);
        if let Err(flaw) = &parsed {
            faults.note_flaw(&at, *flaw);
        }
        let constraints = Constraints::compile(entry.into_check(name.clone()), &at, faults);
        if constraints.as_ref().is_some_and(Constraints::is_empty) {
            let remedy = "write a value, `min`, `max` or a pattern";
            faults.note(&at, Code::NothingChecked, "the condition asks for nothing", remedy);
        }
        compiled.extend(parsed.ok().zip(constraints));
    }
    compiled
}

fn read_name(name: &str) -> Result<String, Flaw> {
    if is_key(name) { Ok(name.to_owned()) } else { Err(NAME) }
}

const NAME: Flaw = Flaw {
    code: Code::BadKey,
    message: "this is no name of a measured value",
    remedy: "write it as in the destination's `measure`",
};
const METHODS: Flaw = Flaw {
    code: Code::BadMethod,
    message: "the methods are not a list of upper-case names",
    remedy: "write them like `[GET, POST]`, or remove the key for every method",
};
