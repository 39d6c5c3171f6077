//! What a program that runs under the gate must not have: the secrets in its environment, the gate's own files, and the
//! sockets of this machine, any of which could lead around the gate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use vault::{LocalReference, Reference};

use crate::config::Config;
use crate::credential::Credential;

/// What is kept from a program.
#[derive(Debug)]
pub struct Withheld {
    /// Variables that are taken out.
    variables: BTreeSet<String>,
    /// Variables of credentials: what they hold is replaced, as many clients do not start without them.
    keys: BTreeSet<String>,
    /// What agents send as a key, by the variable that holds the key itself.
    placeholders: BTreeMap<String, String>,
    /// What is hidden in the file system.
    pub hidden: Hidden,
}

/// Parts of the file system that a program finds empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Hidden {
    /// Folders.
    pub folders: Vec<PathBuf>,
    /// Files and sockets.
    pub files: Vec<PathBuf>,
}

// === impl Withheld ===

impl Withheld {
    /// As this configuration and the sockets of this machine demand it now.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn of(config: &Config) -> Result<Withheld> {
        let home = &config.home;
        let texts = [home.config(), home.credentials()].map(|path| read(&path));
        let [main, credentials] = texts;
        let (main, credentials) = (main?, credentials?);
        let mut variables: BTreeSet<String> = named(&main, "env://").collect();
        variables.extend(CREDENTIALS.iter().map(|name| (*name).to_owned()));
        let keys = named(&credentials, "env://").collect();
        let secrets = named(&main, "file://").chain(named(&credentials, "file://")).map(PathBuf::from);
        let mut hidden = Hidden::default().and(secrets.chain(gates_own(config)));
        let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let found = sockets_below(walked(), &hidden);
        hidden = hidden.and(sockets_in(&table).chain(found));
        Ok(Withheld { variables, keys, placeholders: BTreeMap::new(), hidden })
    }

    /// The same, with the placeholders of these credentials in the variables that hold their secrets.
    pub fn giving(mut self, credentials: &BTreeMap<String, Credential>) -> Withheld {
        for credential in credentials.values() {
            if let (Reference::Local(LocalReference::Env(name)), Some(placeholder)) =
                (credential.place.reference(), &credential.placeholder)
            {
                self.placeholders.insert(name.clone(), placeholder.clone());
            }
        }
        self
    }

    /// The environment without secrets.
    pub fn environment(&self, own: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
        let withheld = |name: &str| self.variables.contains(name) || self.placeholders.contains_key(name);
        let kept = own.filter(|(name, _)| !withheld(name) && !name.starts_with("WRIT_"));
        let kept = kept.map(|(name, value)| {
            let value = if self.keys.contains(&name) { PLACEHOLDER.to_owned() } else { value };
            (name, value)
        });
        kept.chain(self.placeholders.clone()).collect()
    }
}

// === impl Hidden ===

impl Hidden {
    /// Whether a path is in a hidden folder.
    pub fn covers(&self, path: &Path) -> bool {
        self.folders.iter().any(|folder| path.starts_with(folder))
    }

    /// The same and these, as far as they are there. What is in a hidden folder needs no hiding of its own.
    pub fn and(self, more: impl IntoIterator<Item = PathBuf>) -> Hidden {
        let more = more.into_iter().filter_map(|path| path.canonicalize().ok());
        let (folders, files): (Vec<_>, Vec<_>) = more.partition(|path| path.is_dir());
        let mut hidden = Hidden::default();
        // In order: a folder comes before what is in it.
        for folder in self.folders.into_iter().chain(folders).collect::<BTreeSet<_>>() {
            if !hidden.covers(&folder) {
                hidden.folders.push(folder);
            }
        }
        let files: BTreeSet<PathBuf> = self.files.into_iter().chain(files).collect();
        hidden.files = files.into_iter().filter(|file| !hidden.covers(file)).collect();
        hidden
    }
}

/// What belongs to the gate, wherever it is: who can write it decides what the gate does.
fn gates_own(config: &Config) -> Vec<PathBuf> {
    let home = &config.home;
    let mut all = vec![PathBuf::from("/run"), home.path().into(), home.config_folder().into()];
    // Some may be links that lead elsewhere.
    all.extend([home.config(), home.destinations(), home.credentials(), home.data()]);
    all.extend(home.policy_files().unwrap_or_default());
    all.extend(home.manifest_files().unwrap_or_default());
    let reverse = config.reverse.as_ref().and_then(|door| door.key.as_ref());
    let named = [config.ledger_key.as_ref(), config.agent_tokens.as_ref(), config.operator_tokens.as_ref(), reverse];
    all.extend(named.into_iter().flatten().cloned());
    all
}

fn read(path: &Path) -> Result<String> {
    if !path.exists() {
        return Ok(String::new());
    }
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// What follows each `scheme` in a text, wherever it stands: what is taken from a program may well be too much.
fn named<'a>(text: &'a str, scheme: &'a str) -> impl Iterator<Item = String> + 'a {
    let end = |each: char| each.is_whitespace() || "\"',}]".contains(each);
    text.split(scheme).skip(1).map(move |rest| rest.split(end).next().unwrap_or_default().to_owned())
}

/// Paths of the Unix sockets of this machine (proc_net_unix): what follows the seventh word of a line, where there is
/// something. It is what they were bound to: a relative path or an old name says nothing.
fn sockets_in(table: &str) -> impl Iterator<Item = PathBuf> {
    let path = |line: &str| {
        let rest = (0..7).try_fold(line, |rest, _| Some(rest.trim_start().split_once(' ')?.1))?;
        rest.starts_with('/').then(|| PathBuf::from(rest))
    };
    table.lines().skip(1).filter_map(path)
}

/// Where programs usually put their sockets.
fn walked() -> Vec<PathBuf> {
    let named = ["HOME", "XDG_RUNTIME_DIR", "TMPDIR"].iter().filter_map(std::env::var_os).map(PathBuf::from);
    let here = std::env::current_dir().ok();
    ["/tmp", "/var/tmp"].map(PathBuf::from).into_iter().chain(named).chain(here).collect()
}

/// The sockets in and below folders, as they are called now. The nearest come first; far away some may be missed.
fn sockets_below(folders: Vec<PathBuf>, hidden: &Hidden) -> Vec<PathBuf> {
    let (mut waiting, mut sockets, mut left) = (VecDeque::from(folders), Vec::new(), LOOKED_AT);
    while let Some(folder) = waiting.pop_front().filter(|_| left > 0) {
        let readable = if hidden.covers(&folder) { None } else { fs::read_dir(&folder).ok() };
        for entry in readable.into_iter().flatten().flatten().take(left) {
            left = left.saturating_sub(1);
            match entry.file_type() {
                Ok(kind) if kind.is_socket() => sockets.push(entry.path()),
                Ok(kind) if kind.is_dir() => waiting.push_back(entry.path()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    sockets
}

/// How many names a search for sockets looks at.
const LOOKED_AT: usize = 50_000;

/// What vaults and clouds are opened with.
const CREDENTIALS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "BAO_TOKEN",
    "OP_CONNECT_TOKEN",
    "OP_SERVICE_ACCOUNT_TOKEN",
    "VAULT_SECRET_ID",
    "VAULT_TOKEN",
];

/// What stands in the place of a key that the gate puts in, and that has no placeholder of its own.
const PLACEHOLDER: &str = "put-in-by-writ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_wherever_the_configuration_names_them() {
        let text =
            "a: \"env://ONE\"\nb: { token: 'env://TWO', c: env://THREE}\n# file:///run/x y\nd: file:///etc/key\n";
        assert_eq!(named(text, "env://").collect::<Vec<_>>(), ["ONE", "TWO", "THREE"]);
        assert_eq!(named(text, "file://").collect::<Vec<_>>(), ["/run/x", "/etc/key"]);
    }

    #[test]
    fn keys_are_replaced_and_what_opens_vaults_is_taken_out() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let withheld = Withheld {
            variables: set(&["VAULT_TOKEN"]),
            keys: set(&["KEY"]),
            placeholders: [("OTHER".to_owned(), "sk-writ-x".to_owned())].into(),
            hidden: Hidden::default(),
        };
        let own =
            ["PATH", "VAULT_TOKEN", "KEY", "OTHER", "WRIT_TOKEN"].map(|name| (name.to_owned(), "secret".to_owned()));
        let kept = withheld.environment(own.into_iter());
        let expected = [("PATH", "secret"), ("KEY", PLACEHOLDER), ("OTHER", "sk-writ-x")];
        assert_eq!(kept, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn only_sockets_with_a_path_are_hidden() {
        let table = "Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 1 1 01 7 /tmp/a.sock\n0: 2 0 1 1 01 8 @abstract\n0: 2 0 1 1 01 9\n0: 2 0 1 1 01    10 /tmp/two words\n0: 2 0 1 1 01 11 relative\n";
        assert_eq!(sockets_in(table).collect::<Vec<_>>(), ["/tmp/a.sock", "/tmp/two words"].map(PathBuf::from));
    }
}
