//! What a program that runs under the gate must not have: the secrets in its environment, the gate's own files, and the
//! sockets of this machine, any of which could lead around the gate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use vault::{LocalReference, Reference};

use crate::credential::Credential;
use crate::home::Home;

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
    /// As the configuration of this home and the sockets of this machine demand it now.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn of(home: &Home) -> Result<Withheld> {
        let texts = [home.config(), home.credentials()].map(|path| read(&path));
        let [config, credentials] = texts;
        let (config, credentials) = (config?, credentials?);
        let mut variables: BTreeSet<String> = named(&config, "env://").collect();
        variables.extend(CREDENTIALS.iter().map(|name| (*name).to_owned()));
        let keys = named(&credentials, "env://").collect();
        let folders = [home.path(), Path::new("/run")].iter().filter_map(|path| path.canonicalize().ok()).collect();
        let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let secrets = named(&config, "file://").chain(named(&credentials, "file://")).map(PathBuf::from);
        let files = secrets.chain(sockets_in(&sockets)).filter_map(|path| path.canonicalize().ok()).collect();
        let mut hidden = Hidden { folders, files };
        hidden.simplify();
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

    /// Files in hidden folders need no hiding of their own.
    fn simplify(&mut self) {
        let files = std::mem::take(&mut self.files);
        self.files = files.into_iter().filter(|file| !self.covers(file)).collect::<BTreeSet<_>>().into_iter().collect();
    }
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

/// Paths of the Unix sockets of this machine (proc_net_unix): the eighth word of a line, where there is one.
fn sockets_in(table: &str) -> impl Iterator<Item = PathBuf> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(7))
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
}

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
        let table = "Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 1 1 01 7 /tmp/a.sock\n0: 2 0 1 1 01 8 @abstract\n0: 2 0 1 1 01 9\n";
        assert_eq!(sockets_in(table).collect::<Vec<_>>(), [PathBuf::from("/tmp/a.sock")]);
    }
}
