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

use anyhow::{Context, Result, anyhow, bail};
use policy::{Source, yaml};
use serde::Deserialize;
use vault::{ProviderSettings, Providers};

use crate::home::Home;
use crate::limits::Limits;
use crate::routes::{RawReverse, Reverse};

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
    /// Where secrets can come from besides variables, files and programs.
    pub providers: Providers,
    /// `host:port` → the address to dial in its place.
    pub connect_to: BTreeMap<String, SocketAddr>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    environment: Option<String>,
    doors: RawDoors,
    reverse: Option<RawReverse>,
    limits: Limits,
    answers: RawAnswers,
    providers: BTreeMap<String, ProviderSettings>,
    upstream: RawUpstream,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDoors {
    forward: SocketAddr,
    operator: SocketAddr,
    reverse: Option<SocketAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAnswers {
    hold_status: u16,
    public_url: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawUpstream {
    roots: Option<PathBuf>,
    connect_to: BTreeMap<String, SocketAddr>,
}

// === impl Config ===

impl Config {
    /// Reads and checks `writ.yaml`.
    ///
    /// # Errors
    /// Names the file, the line where there is one, and what to do.
    pub fn load(home: Home) -> Result<Config> {
        home.check()?;
        let raw = read_config(&home.config(), |name| std::env::var(name).ok())?;
        let reverse =
            reverse_door(raw.doors.reverse, raw.reverse).with_context(|| format!("{}", home.config().display()))?;
        check_doors(&raw.doors, reverse.as_ref())?;
        if !matches!(raw.answers.hold_status, 202 | 400..=499) {
            bail!("`answers.hold_status` is {}; use 202 or a 4xx code such as 409", raw.answers.hold_status);
        }
        let providers = Providers::new(raw.providers);
        let providers = providers.map_err(|faults| anyhow!("{}: {}", home.config().display(), faults.join("\n")))?;
        Ok(Config {
            home,
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
        })
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

/// The reverse door is there when it has routes.
fn reverse_door(address: Option<SocketAddr>, raw: Option<RawReverse>) -> Result<Option<Reverse>> {
    match raw {
        Some(raw) => raw.check(address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 4002)))).map(Some),
        None if address.is_some() => bail!("`doors.reverse` is set and there is no `reverse:` with routes; add it"),
        None => Ok(None),
    }
}

fn check_doors(doors: &RawDoors, reverse: Option<&Reverse>) -> Result<()> {
    let mut taken = vec![("forward", doors.forward), ("operator", doors.operator)];
    taken.extend(reverse.map(|reverse| ("reverse", reverse.address)));
    taken.retain(|(_, address)| address.port() != 0);
    taken.sort_by_key(|(_, address)| *address);
    match taken.iter().zip(taken.iter().skip(1)).find(|((_, one), (_, next))| one == next) {
        Some(((one, _), (next, _))) => {
            bail!("`doors.{one}` and `doors.{next}` are the same address; give each its own")
        }
        None => Ok(()),
    }
}

/// Reads `writ.yaml`, absent or empty meaning all defaults, and lays the variables over it.
fn read_config(path: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<RawConfig> {
    let text = if path.exists() { source(path)?.text } else { String::new() };
    let has_content = text.lines().any(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
    let mut raw: RawConfig = if has_content {
        let source = Source { name: path.display().to_string(), text };
        yaml::read(&source)?
    } else {
        RawConfig::default()
    };
    overlay("WRIT_DOORS_FORWARD", &variable, &mut raw.doors.forward)?;
    overlay("WRIT_DOORS_OPERATOR", &variable, &mut raw.doors.operator)?;
    if let Some(text) = variable("WRIT_DOORS_REVERSE") {
        let unread = || format!("WRIT_DOORS_REVERSE=`{text}` is not an address and port");
        raw.doors.reverse = Some(text.trim().parse().with_context(unread)?);
    }
    overlay("WRIT_ANSWERS_HOLD_STATUS", &variable, &mut raw.answers.hold_status)?;
    raw.environment = variable("WRIT_ENVIRONMENT").or(raw.environment);
    raw.answers.public_url = variable("WRIT_ANSWERS_PUBLIC_URL").or(raw.answers.public_url);
    raw.upstream.roots = variable("WRIT_UPSTREAM_ROOTS").map(PathBuf::from).or(raw.upstream.roots);
    for (name, _) in Limits::TABLE {
        let key = format!("WRIT_LIMITS_{}", name.to_ascii_uppercase());
        if let Some(field) = raw.limits.field(name) {
            overlay(&key, &variable, field)?;
        }
    }
    Ok(raw)
}

fn overlay<T: std::str::FromStr>(key: &str, variable: &impl Fn(&str) -> Option<String>, field: &mut T) -> Result<()> {
    if let Some(text) = variable(key) {
        *field = text.trim().parse().ok().with_context(|| format!("{key}=`{text}` is not a value for this setting"))?;
    }
    Ok(())
}

/// The text of a file under the name that errors show.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn source(path: &Path) -> Result<Source> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(Source { name: path.display().to_string(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str, variables: &[(&str, &str)]) -> Result<RawConfig> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("writ.yaml");
        fs::write(&path, text).unwrap();
        read_config(&path, |name| {
            variables.iter().find(|(each, _)| *each == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_empty_file_means_defaults_and_variables_win() {
        assert_eq!(config("# nothing\n", &[]).unwrap().doors.forward.port(), 4001);
        let raw = config(
            "doors:\n  forward: 127.0.0.1:1\nlimits:\n  body_bytes: 7\n",
            &[("WRIT_DOORS_FORWARD", "127.0.0.1:2")],
        )
        .unwrap();
        assert_eq!((raw.doors.forward.port(), raw.limits.body_bytes), (2, 7));
    }

    #[test]
    fn every_limit_can_be_set_in_the_file_and_by_a_variable() {
        for (name, default) in Limits::TABLE {
            let set = default + 1;
            let mut from_file = config(&format!("limits:\n  {name}: {set}\n"), &[]).unwrap();
            assert_eq!(from_file.limits.field(name).copied(), Some(set), "{name}");
            let key = format!("WRIT_LIMITS_{}", name.to_ascii_uppercase());
            let mut from_variable = config("", &[(&key, &set.to_string())]).unwrap();
            assert_eq!(from_variable.limits.field(name).copied(), Some(set), "{key}");
        }
    }

    #[test]
    fn unknown_and_duplicate_keys_name_file_and_line() {
        for text in ["doors:\n  forwad: 127.0.0.1:1\n", "limits:\n  headers: 1\n  headers: 2\n", "limits:\n  x: 1\n"] {
            let error = format!("{:#}", config(text, &[]).unwrap_err());
            assert!(error.contains("writ.yaml:2") || error.contains("writ.yaml:3"), "{text}: {error}");
        }
        let error = format!("{:#}", config("", &[("WRIT_LIMITS_HEADERS", "many")]).unwrap_err());
        assert!(error.contains("WRIT_LIMITS_HEADERS"), "{error}");
    }
}
