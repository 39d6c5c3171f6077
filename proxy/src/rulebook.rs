//! One version of everything an operator may load again: destinations, policies, credentials, roots.
//!
//! A request takes one version at its start and keeps it to its end, so no decision mixes two. A fault in any file
//! leaves the version in force as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use policy::yaml::{self, Step};
use policy::{Code, Destination, Facts, Fault, Faults, Invalid, Rules, Source};

use crate::canonical::Asked;
use crate::config::{Config, source};
use crate::credential::{Credential, RawCredentials};
use crate::scrub::Needles;
use crate::trust::Trust;

/// Destinations, policies, credentials and roots that were loaded together.
#[derive(Debug)]
pub struct Rulebook {
    /// Destinations and policies.
    pub rules: Rules,
    /// Credentials by name.
    pub credentials: BTreeMap<String, Credential>,
    /// What all placeholders are found by, where there are any.
    pub placeholders: Option<Needles>,
    /// Which roots are trusted for which destination.
    pub trust: Trust,
    /// What someone should look at in other files than the rules'.
    warnings: Vec<Fault>,
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
    /// All faults found, each with file, line and remedy.
    pub fn load(config: &Config) -> Result<Rulebook, Invalid> {
        let mut faults = config.home.check().err().map(|invalid| invalid.0).unwrap_or_default();
        if !config.home.path().is_dir() {
            return Err(Invalid(faults));
        }
        let credentials = keep(read_credentials(config), &mut faults);
        let destinations = keep(source(&config.home.destinations()), &mut faults);
        let rules = destinations.as_ref().and_then(|destinations| {
            let rules = keep(read_rules(config, destinations, credentials.as_ref()), &mut faults)?;
            faults.extend(stray(destinations, &rules, credentials.as_ref()));
            Some(rules)
        });
        let (Some(rules), Some(credentials), []) = (rules, credentials, faults.as_slice()) else {
            return Err(Invalid(faults));
        };
        let special = rules.destinations().filter_map(|destination| destination.roots.as_deref());
        let special = special.chain(credentials.values().filter_map(|credential| credential.shape.roots()));
        let unreadable = |error: anyhow::Error| {
            Invalid(vec![Fault::told(
                &config.home.path().display().to_string(),
                Code::MissingFile,
                &format!("{error:#}"),
            )])
        };
        let trust = Trust::load(config.roots.as_deref(), special).map_err(unreadable)?;
        let warnings = unused(&config.home.credentials(), &rules, &credentials)?;
        let placeholders = placeholders(&credentials);
        Ok(Rulebook { rules, credentials, placeholders, trust, warnings })
    }

    /// What someone should look at, although all files could be loaded.
    pub fn warnings(&self) -> impl Iterator<Item = &Fault> {
        self.rules.warnings().iter().chain(&self.warnings)
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

fn read_rules(
    config: &Config,
    destinations: &Source,
    credentials: Option<&BTreeMap<String, Credential>>,
) -> Result<Rules, Invalid> {
    let policies = named(config.home.policy_files()?)?;
    let agents = named(config.home.manifest_files()?)?;
    let names = credentials.map(|credentials| credentials.keys().cloned().collect());
    let rules = Rules::load(destinations, &policies, names.as_ref(), config.environment.as_deref())?;
    rules.with_manifests(&agents)
}

/// The texts of files by what they are called.
fn named(files: Vec<PathBuf>) -> Result<Vec<(String, Source)>, Invalid> {
    let name = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    files.into_iter().map(|path| Ok((name(&path), source(&path)?))).collect()
}

fn read_credentials(config: &Config) -> Result<BTreeMap<String, Credential>, Invalid> {
    let path = config.home.credentials();
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    // A line of this file may be a secret, although none belongs there.
    let quiet = |invalid: Invalid| Invalid(invalid.0.into_iter().map(Fault::without_snippet).collect());
    let source = source(&path)?;
    let (raw, misshapen) = yaml::survey::<RawCredentials>(&source);
    let mut faults = Faults::new(&source);
    faults.extend(misshapen);
    let checked = raw.map(|raw| raw.check(&config.providers)).unwrap_or_else(|| Ok(BTreeMap::new()));
    let credentials = checked.unwrap_or_else(|wrong| {
        for (name, why) in wrong {
            let path = [Step::Key("credentials"), Step::Key(&name)];
            faults.tell(&path, Code::BadCredential, &format!("credential `{name}`: {why}"));
        }
        BTreeMap::new()
    });
    let faults = faults.into_vec();
    if faults.is_empty() { Ok(credentials) } else { Err(quiet(Invalid(faults))) }
}

fn placeholders(credentials: &BTreeMap<String, Credential>) -> Option<Needles> {
    let all = credentials.values().filter_map(|credential| credential.placeholder.as_deref().map(str::as_bytes));
    let all: Vec<&[u8]> = all.collect();
    (!all.is_empty()).then(|| Needles::new(&all))
}

/// Destinations whose credential is not bound to all of their hosts.
fn stray(source: &Source, rules: &Rules, credentials: Option<&BTreeMap<String, Credential>>) -> Vec<Fault> {
    let mut faults = Faults::new(source);
    for (at, destination) in rules.destinations().enumerate() {
        let name = destination.credential.as_deref().unwrap_or_default();
        let Some(credential) = credentials.and_then(|credentials| credentials.get(name)) else { continue };
        if let Some(host) = destination.hosts().find(|host| !credential.covers(host)) {
            let path = [Step::Key("destinations"), Step::Item(at), Step::Key("credential")];
            let key = &destination.key;
            let message = format!("`{key}` sends the credential `{name}` to `{host}`, which its `hosts:` do not list");
            faults.note(&path, Code::CredentialHost, message, "add the host there, or use another credential");
        }
    }
    faults.into_vec()
}

/// What could be read; or nothing, and why among the faults.
fn keep<T>(read: Result<T, Invalid>, faults: &mut Vec<Fault>) -> Option<T> {
    read.map_err(|invalid| faults.extend(invalid.0)).ok()
}

/// Credentials that no destination uses.
fn unused(path: &Path, rules: &Rules, credentials: &BTreeMap<String, Credential>) -> Result<Vec<Fault>, Invalid> {
    let used: BTreeSet<&str> =
        rules.destinations().filter_map(|destination| destination.credential.as_deref()).collect();
    if credentials.keys().all(|name| used.contains(name.as_str())) {
        return Ok(Vec::new());
    }
    let source = source(path)?;
    let mut faults = Faults::new(&source);
    for name in credentials.keys().filter(|name| !used.contains(name.as_str())) {
        let path = [Step::Key("credentials"), Step::Key(name)];
        faults.warn(
            &path,
            Code::UnusedCredential,
            "no destination uses this credential",
            "name it in one, or remove it",
        );
    }
    Ok(faults.into_vec().into_iter().map(Fault::without_snippet).collect())
}
