//! The gate's own configuration: `writ.yaml` and its `WRIT_…` variables. It holds for the life of the process; what can
//! be loaded again is the [`rulebook`](crate::rulebook)'s.
//!
//! Files are read once into final types; nothing is checked again later. Every fault is reported with its file and a
//! remedy, and none is guessed around.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use policy::yaml::{self, Step};
use policy::{Code, Fault, Faults, Invalid, Source};
use schemars::JsonSchema;
use serde::Deserialize;
use vault::{ProviderSettings, Providers};

use crate::home::Home;
use crate::limits::Limits;
use crate::notify::{Notifications, RawNotifications};
use crate::routes::{RawReverse, Reverse};
use crate::span::Collector;
use crate::witness::{RawWitness, Witness};

/// Everything the gate was told, checked.
#[derive(Debug)]
pub struct Config {
    /// Where the files are.
    pub home: Home,
    /// Address of the forward door.
    pub forward: SocketAddr,
    /// Address of the operator door.
    pub operator: SocketAddr,
    /// The reverse door, where there is one.
    pub reverse: Option<Arc<Reverse>>,
    /// Limits in force.
    pub limits: Arc<Limits>,
    /// Which of a policy's `environments:` is in force.
    pub environment: Option<String>,
    /// Status code of held requests.
    pub hold_status: u16,
    /// Where agents reach the agent API, if not at the door they came through.
    pub public_url: Option<String>,
    /// PEM file of roots trusted besides the public ones.
    pub roots: Option<PathBuf>,
    /// Who is told of what.
    pub notifications: Notifications,
    /// Where secrets can come from besides variables, files and programs.
    pub providers: Providers,
    /// `host:port` → the address to dial in its place.
    pub connect_to: BTreeMap<String, SocketAddr>,
    /// File of the ledger's signing key, if it is not in the data directory.
    pub ledger_key: Option<PathBuf>,
    /// Who is shown each checkpoint of the ledger.
    pub witnesses: Vec<Witness>,
    /// Folder with a token for each agent, in a file of its name.
    pub agent_tokens: Option<PathBuf>,
    /// Folder with a token for each operator, in a file called by its name and role.
    pub operator_tokens: Option<PathBuf>,
    /// Whether the gate counts for Prometheus.
    pub metrics: bool,
    /// Where traces are sent to, if anywhere.
    pub traces: Option<Collector>,
}

#[derive(Debug, Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    environment: Option<String>,
    doors: RawDoors,
    reverse: Option<RawReverse>,
    limits: Limits,
    answers: RawAnswers,
    notifications: RawNotifications,
    providers: BTreeMap<String, ProviderSettings>,
    telemetry: RawTelemetry,
    tokens: RawTokens,
    upstream: RawUpstream,
    ledger: RawLedger,
    witnesses: Vec<RawWitness>,
}

#[derive(Debug, Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawLedger {
    key: Option<PathBuf>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawDoors {
    #[schemars(with = "String")]
    forward: SocketAddr,
    #[schemars(with = "String")]
    operator: SocketAddr,
    #[schemars(with = "Option<String>")]
    reverse: Option<SocketAddr>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawAnswers {
    hold_status: u16,
    public_url: Option<String>,
}

#[derive(Debug, Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawTokens {
    agents: Option<PathBuf>,
    operators: Option<PathBuf>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawTelemetry {
    metrics: bool,
    traces: Option<String>,
}

#[derive(Debug, Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawUpstream {
    roots: Option<PathBuf>,
    #[schemars(with = "BTreeMap<String, String>")]
    connect_to: BTreeMap<String, SocketAddr>,
}

// === impl Config ===

impl Config {
    /// Reads and checks `writ.yaml`.
    ///
    /// # Errors
    /// Every fault, with the file, the line where there is one, and what to do.
    pub fn load(home: Home) -> Result<Config, Invalid> {
        let (config, faults) = Config::survey(home);
        if faults.is_empty() { Ok(config) } else { Err(Invalid(faults)) }
    }

    /// Reads `writ.yaml`, with defaults where it cannot be read, and finds everything wrong with it. With faults it is
    /// for finding more of them, and never to be served.
    pub fn survey(home: Home) -> (Config, Vec<Fault>) {
        let mut faults = home.check().err().map(|invalid| invalid.0).unwrap_or_default();
        let (source, raw) = read_config(&home.config(), |name| std::env::var(name).ok(), &mut faults);
        let mut found = Faults::new(&source);
        let traces = raw.telemetry.traces.as_deref().map(str::parse::<Collector>).transpose();
        let traces = traces.unwrap_or_else(|error| {
            found.tell(&[Step::Key("telemetry"), Step::Key("traces")], Code::BadValue, &format!("{error:#}"));
            None
        });
        let reverse = reverse_door(raw.doors.reverse, raw.reverse).unwrap_or_else(|error| {
            found.tell(&[Step::Key("reverse")], Code::BadDoor, &format!("{error:#}"));
            None
        });
        check_doors(&raw.doors, reverse.as_ref(), &mut found);
        let providers = Providers::new(raw.providers).unwrap_or_else(|wrong| {
            for (name, why) in wrong {
                let path = [Step::Key("providers"), Step::Key(&name)];
                found.tell(&path, Code::BadProvider, &format!("provider `{name}`: {why}"));
            }
            Providers::default()
        });
        let witnesses = witnesses(raw.witnesses, &mut found);
        let notifications = raw.notifications.check(&providers).unwrap_or_else(|error| {
            found.tell(&[Step::Key("notifications")], Code::BadNotification, &format!("{error:#}"));
            Notifications::default()
        });
        // Nobody wants a secret here, and somebody may have written one.
        faults.extend(found.into_vec().into_iter().map(Fault::without_snippet));
        let config = Config {
            home,
            notifications,
            forward: raw.doors.forward,
            operator: raw.doors.operator,
            reverse: reverse.map(Arc::new),
            limits: Arc::new(raw.limits),
            environment: raw.environment,
            hold_status: raw.answers.hold_status,
            public_url: raw.answers.public_url,
            roots: raw.upstream.roots,
            providers,
            connect_to: raw.upstream.connect_to,
            ledger_key: raw.ledger.key,
            witnesses,
            agent_tokens: raw.tokens.agents,
            operator_tokens: raw.tokens.operators,
            metrics: raw.telemetry.metrics,
            traces,
        };
        (config, faults)
    }
}

// === impl RawDoors ===

impl Default for RawDoors {
    fn default() -> RawDoors {
        RawDoors {
            forward: SocketAddr::from(([127, 0, 0, 1], 4001)),
            operator: SocketAddr::from(([127, 0, 0, 1], 8787)),
            reverse: None,
        }
    }
}

// === impl RawAnswers ===

impl Default for RawAnswers {
    fn default() -> RawAnswers {
        RawAnswers { hold_status: 202, public_url: None }
    }
}

// === impl RawTelemetry ===

impl Default for RawTelemetry {
    fn default() -> RawTelemetry {
        RawTelemetry { metrics: true, traces: None }
    }
}

/// The reverse door is there when it has routes.
fn reverse_door(address: Option<SocketAddr>, raw: Option<RawReverse>) -> Result<Option<Reverse>> {
    match raw {
        Some(raw) => raw.check(address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 4002)))).map(Some),
        None if address.is_some() => bail!("`doors.reverse` is set and there is no `reverse:` with routes; add it"),
        None => Ok(None),
    }
}

fn witnesses(raw: Vec<RawWitness>, faults: &mut Faults<'_>) -> Vec<Witness> {
    let mut witnesses = Vec::new();
    for (at, raw) in raw.into_iter().enumerate() {
        match Witness::try_from(raw) {
            Err(error) => {
                faults.tell(&[Step::Key("witnesses"), Step::Item(at)], Code::BadWitness, &format!("{error:#}"))
            }
            Ok(witness) => witnesses.push(witness),
        }
    }
    witnesses
}

fn check_doors(doors: &RawDoors, reverse: Option<&Reverse>, faults: &mut Faults<'_>) {
    let mut taken = vec![("forward", doors.forward), ("operator", doors.operator)];
    taken.extend(reverse.map(|reverse| ("reverse", reverse.address)));
    taken.retain(|(_, address)| address.port() != 0);
    taken.sort_by_key(|(_, address)| *address);
    let same = taken.iter().zip(taken.iter().skip(1)).find(|((_, one), (_, next))| one == next);
    if let Some(((one, _), (next, _))) = same {
        let message = format!("`doors.{one}` and `doors.{next}` are the same address");
        faults.note(&[Step::Key("doors")], Code::BadDoor, message, "give each its own");
    }
}

/// Reads `writ.yaml`, absent or empty meaning all defaults, and lays the variables over it.
fn read_config(path: &Path, variable: impl Fn(&str) -> Option<String>, faults: &mut Vec<Fault>) -> (Source, RawConfig) {
    let (source, mut raw) = read_file(path, faults);
    overlay("WRIT_DOORS_FORWARD", &variable, &mut raw.doors.forward, faults);
    overlay("WRIT_DOORS_OPERATOR", &variable, &mut raw.doors.operator, faults);
    if variable("WRIT_DOORS_REVERSE").is_some() {
        let mut address = RawDoors::default().forward;
        overlay("WRIT_DOORS_REVERSE", &variable, &mut address, faults);
        raw.doors.reverse = Some(address);
    }
    overlay("WRIT_ANSWERS_HOLD_STATUS", &variable, &mut raw.answers.hold_status, faults);
    overlay("WRIT_TELEMETRY_METRICS", &variable, &mut raw.telemetry.metrics, faults);
    raw.telemetry.traces = variable("WRIT_TELEMETRY_TRACES").or(raw.telemetry.traces);
    raw.environment = variable("WRIT_ENVIRONMENT").or(raw.environment);
    raw.answers.public_url = variable("WRIT_ANSWERS_PUBLIC_URL").or(raw.answers.public_url);
    raw.ledger.key = variable("WRIT_LEDGER_KEY").map(PathBuf::from).or(raw.ledger.key);
    raw.tokens.agents = variable("WRIT_TOKENS_AGENTS").map(PathBuf::from).or(raw.tokens.agents);
    raw.tokens.operators = variable("WRIT_TOKENS_OPERATORS").map(PathBuf::from).or(raw.tokens.operators);
    raw.upstream.roots = variable("WRIT_UPSTREAM_ROOTS").map(PathBuf::from).or(raw.upstream.roots);
    for (name, _) in Limits::TABLE {
        let key = format!("WRIT_LIMITS_{}", name.to_ascii_uppercase());
        if let Some(field) = raw.limits.field(name) {
            overlay(&key, &variable, field, faults);
        }
    }
    let mut found = Faults::new(&source);
    check(&raw, &mut found);
    faults.extend(found.into_vec().into_iter().map(Fault::without_snippet));
    (source, raw)
}

fn read_file(path: &Path, faults: &mut Vec<Fault>) -> (Source, RawConfig) {
    let empty = || Source { name: path.display().to_string(), text: String::new() };
    let found = if path.exists() { source(path) } else { Ok(empty()) };
    let source = found.unwrap_or_else(|invalid| {
        faults.extend(invalid.0);
        empty()
    });
    let has_content = source.text.lines().any(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
    if !has_content {
        return (source, RawConfig::default());
    }
    let (raw, misshapen) = yaml::survey::<RawConfig>(&source);
    // Nobody wants a secret here, and somebody may have written one.
    faults.extend(misshapen.into_iter().map(Fault::without_snippet));
    (source, raw.unwrap_or_default())
}

fn check(raw: &RawConfig, faults: &mut Faults<'_>) {
    if !matches!(raw.answers.hold_status, 202 | 400..=499) {
        let message = format!("the status of held requests is {}", raw.answers.hold_status);
        let path = [Step::Key("answers"), Step::Key("hold_status")];
        faults.note(&path, Code::OutOfRange, message, "use 202 or a 4xx code such as 409");
    }
}

fn overlay<T: std::str::FromStr>(
    key: &str,
    variable: &impl Fn(&str) -> Option<String>,
    field: &mut T,
    faults: &mut Vec<Fault>,
) {
    let Some(text) = variable(key) else { return };
    match text.trim().parse() {
        Ok(value) => *field = value,
        Err(_) => {
            faults.push(Fault::about(
                key,
                Code::BadVariable,
                "the variable is no value for its setting",
                "correct or unset it",
            ));
        }
    }
}

/// The text of a file under the name that errors show.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn source(path: &Path) -> Result<Source, Invalid> {
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| {
        let message = format!("it cannot be read: {error}");
        Invalid(vec![Fault::about(&name, Code::MissingFile, &message, "put the file there, readable for the gate")])
    };
    let text = fs::read_to_string(path).map_err(unreadable)?;
    Ok(Source { name, text })
}

#[cfg(test)]
mod tests;
