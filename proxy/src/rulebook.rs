//! One version of everything an operator may load again: destinations, policies, credentials, roots.
//!
//! A request takes one version at its start and keeps it to its end, so no decision mixes two. A fault in any file
//! leaves the version in force as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, anyhow, bail};
use policy::{Destination, Facts, Rules, Source, yaml};

use crate::canonical::Asked;
use crate::config::{Config, source};
use crate::credential::{Credential, RawCredentials};
use crate::trust::Trust;

/// Destinations, policies, credentials and roots that were loaded together.
#[derive(Debug)]
pub struct Rulebook {
    /// Destinations and policies.
    pub rules: Rules,
    /// Credentials by name.
    pub credentials: BTreeMap<String, Credential>,
    /// Which roots are trusted for which destination.
    pub trust: Trust,
}

/// What the files look like from outside: enough to see that one was written, replaced, added or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces(BTreeMap<PathBuf, Option<Seen>>);

/// Inode, length and time of the last change.
type Seen = (u64, u64, SystemTime);

// === impl Traces ===

impl Traces {
    /// As they are now. A link is followed, so a swapped Kubernetes mount shows too.
    pub fn of(config: &Config) -> Traces {
        let mut files = vec![config.home.destinations(), config.home.credentials()];
        files.extend(config.home.policy_files().unwrap_or_default());
        files.extend(config.home.manifest_files().unwrap_or_default());
        let look = |path: PathBuf| {
            let found = std::fs::metadata(&path).ok();
            let seen = found.and_then(|found| Some((found.ino(), found.len(), found.modified().ok()?)));
            (path, seen)
        };
        Traces(files.into_iter().map(look).collect())
    }
}

// === impl Rulebook ===

impl Rulebook {
    /// Reads all files as they are now.
    ///
    /// # Errors
    /// All faults found, one a line, each with file, line and remedy.
    pub fn load(config: &Config) -> Result<Rulebook> {
        config.home.check()?;
        let credentials = read_credentials(config)?;
        let rules = read_rules(config, credentials.keys().cloned().collect())?;
        check_bindings(config, &rules, &credentials)?;
        let special = rules.destinations().filter_map(|destination| destination.roots.as_deref());
        let trust = Trust::load(config.roots.as_deref(), special)?;
        Ok(Rulebook { rules, credentials, trust })
    }

    /// The destination that a request is for.
    pub fn destination(&self, asked: &Asked) -> Option<&Destination> {
        self.rules.destination(&asked.method, asked.authority.as_ref()?, &asked.path)
    }

    /// The destination that is called `key`, or takes a call of that key, if the request is still for it.
    pub fn destination_called(&self, key: &str, facts: &Facts) -> Option<&Destination> {
        let found = self.rules.destination(&facts.method, &facts.authority, &facts.path);
        found.filter(|destination| destination.is_called(key))
    }

    /// The credential that a destination's requests get.
    pub fn credential_of(&self, destination: &Destination) -> Option<&Credential> {
        destination.credential.as_deref().and_then(|name| self.credentials.get(name))
    }
}

fn read_rules(config: &Config, credentials: BTreeSet<String>) -> Result<Rules> {
    let destinations = source(&config.home.destinations())?;
    let policies = named(config.home.policy_files()?)?;
    let agents = named(config.home.manifest_files()?)?;
    let rules = Rules::load(&destinations, &policies, &credentials, config.environment.as_deref())?;
    Ok(rules.with_manifests(&agents)?)
}

/// The texts of files by what they are called.
fn named(files: Vec<PathBuf>) -> Result<Vec<(String, Source)>> {
    let name = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    files.into_iter().map(|path| Ok((name(&path), source(&path)?))).collect()
}

fn read_credentials(config: &Config) -> Result<BTreeMap<String, Credential>> {
    let path = config.home.credentials();
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let raw: RawCredentials = yaml::read(&source(&path)?)?;
    raw.check(&config.providers).map_err(|faults| anyhow!("{}: {}", path.display(), faults.join("\n")))
}

/// A destination may use a credential only for hosts that the credential is bound to.
fn check_bindings(config: &Config, rules: &Rules, credentials: &BTreeMap<String, Credential>) -> Result<()> {
    for destination in rules.destinations() {
        let Some(name) = destination.credential.as_deref() else { continue };
        let credential = credentials.get(name);
        let stray = destination.hosts().find(|host| !credential.is_some_and(|credential| credential.covers(host)));
        if let Some(host) = stray {
            let (file, key) = (config.home.destinations(), &destination.key);
            bail!(
                "{}: destination `{key}` sends credential `{name}` to `{host}`, which the `hosts:` of that credential \
                 do not list; add it there or use another credential",
                file.display()
            );
        }
    }
    Ok(())
}
