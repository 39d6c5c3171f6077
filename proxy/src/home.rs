//! `$WRIT_HOME`: where everything lives, which modes it must have, and how the first one is made.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::statvfs::{FsFlags, statvfs};
use policy::{Code, Fault, Invalid};

use crate::environment::Trusted;

/// The folder with configuration and data.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    /// Where the operator's own files are: the home itself, or a folder that the gate never writes to.
    config: PathBuf,
    data: PathBuf,
    /// Where clients find what they have to trust.
    trust: PathBuf,
}

// === impl Home ===

impl Home {
    /// `$WRIT_HOME`, else `~/.writ`.
    ///
    /// # Errors
    /// When neither is set.
    pub fn locate(given: Option<&Path>) -> Result<Home> {
        if let Some(path) = given {
            let root = std::path::absolute(path).with_context(|| format!("cannot resolve `{}`", path.display()))?;
            return Ok(Home::at(root));
        }
        match std::env::var_os("HOME") {
            Some(home) if !home.is_empty() => Ok(Home::at(PathBuf::from(home).join(".writ"))),
            Some(_) | None => bail!("neither WRIT_HOME nor HOME is set; set WRIT_HOME to the folder Writ may use"),
        }
    }

    fn at(root: PathBuf) -> Home {
        let (config, data, trust) = (root.clone(), root.join("data"), root.clone());
        Home { root, config, data, trust }
    }

    /// The same home with the operator's files in a folder of their own, such as a read-only mount.
    pub fn configured_in(self, config: Option<PathBuf>) -> Home {
        let config = config.unwrap_or(self.config);
        Home { config, ..self }
    }

    /// The same home with what clients have to trust elsewhere, such as in a folder that agents see.
    pub fn trusting_in(self, trust: Option<PathBuf>) -> Home {
        let trust = trust.unwrap_or(self.trust);
        Home { trust, ..self }
    }

    /// What clients have to trust, in each form that some client wants.
    pub fn trusted(&self) -> Trusted {
        Trusted::at(&self.trust)
    }

    /// Whether the operator's files are in a folder of their own: nothing is ever created there.
    pub fn is_configured_apart(&self) -> bool {
        self.config != self.root
    }

    /// What another process of this program is started with to have the same home.
    pub fn options(&self) -> [&OsStr; 6] {
        let [home, config, trust] = [&self.root, &self.config, &self.trust].map(|folder| folder.as_os_str());
        ["--home".as_ref(), home, "--config".as_ref(), config, "--trust".as_ref(), trust]
    }

    /// The same home with its data in the making: complete only when it has its final name.
    pub fn staged(&self) -> Home {
        Home { data: self.root.join("data.new"), ..self.clone() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The folder with the operator's own files.
    pub fn config_folder(&self) -> &Path {
        &self.config
    }

    /// `writ.yaml`.
    pub fn config(&self) -> PathBuf {
        self.config.join("writ.yaml")
    }

    /// `destinations.yaml`.
    pub fn destinations(&self) -> PathBuf {
        self.config.join("destinations.yaml")
    }

    /// `policies/`.
    pub fn policies(&self) -> PathBuf {
        self.config.join("policies")
    }

    /// `agents/`: a manifest for each agent that has one; need not exist.
    pub fn agents(&self) -> PathBuf {
        self.config.join("agents")
    }

    /// `tests/`: cases for the policies.
    pub fn cases(&self) -> PathBuf {
        self.config.join("tests")
    }

    /// `credentials.yaml`.
    pub fn credentials(&self) -> PathBuf {
        self.config.join("credentials.yaml")
    }

    /// `data/`: what the gate writes.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// `data/keys/`.
    pub fn keys(&self) -> PathBuf {
        self.data().join("keys")
    }

    /// `data/ca/`.
    pub fn ca(&self) -> PathBuf {
        self.data().join("ca")
    }

    /// The interception certificate together with the public roots: what clients are told to trust.
    pub fn bundle(&self) -> PathBuf {
        self.trusted().bundle()
    }

    /// The token of the operator that the first run made.
    pub fn operator_token(&self) -> PathBuf {
        self.root.join("operator.token")
    }

    /// The proxy URL with the token of the agent that the first run made.
    pub fn agent_token(&self, name: &str) -> PathBuf {
        self.root.join(format!("agent-{name}.token"))
    }

    /// Makes the folder (0700) and the ones below it that must exist.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create(&self) -> Result<()> {
        let own = (!self.is_configured_apart()).then(|| [self.policies(), self.cases()]);
        for dir in std::iter::once(self.root.clone()).chain(own.into_iter().flatten()) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.with_context(|| format!("cannot create `{}`", dir.display()))?;
        }
        Ok(())
    }

    /// Refuses a home that others may write, or configuration that others may change.
    ///
    /// # Errors
    /// Every such file, its mode and the command that mends it.
    pub fn check(&self) -> Result<(), Invalid> {
        if !self.root.is_dir() {
            return Err(Invalid(vec![missing(&self.root, "it does not exist", "`writ init` or `writ up` creates it")]));
        }
        let mut guarded =
            vec![self.root.clone(), self.config.clone(), self.data(), self.keys(), self.policies(), self.agents()];
        guarded.extend([self.config(), self.destinations(), self.credentials()]);
        guarded.extend(self.policy_files()?);
        guarded.extend(self.manifest_files()?);
        let there = guarded.iter().filter(|path| path.is_symlink() || path.exists());
        let faults: Vec<Fault> = there.filter_map(|path| shared(path)).collect();
        if faults.is_empty() { Ok(()) } else { Err(Invalid(faults)) }
    }

    /// The policy files, by name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn policy_files(&self) -> Result<Vec<PathBuf>, Invalid> {
        yaml_files(&self.policies())
    }

    /// The manifests of agents, by name; none where there is no folder for them.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn manifest_files(&self) -> Result<Vec<PathBuf>, Invalid> {
        if self.agents().exists() { yaml_files(&self.agents()) } else { Ok(Vec::new()) }
    }

    /// The files with cases for the policies, by name.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn case_files(&self) -> Result<Vec<PathBuf>, Invalid> {
        if self.cases().exists() { yaml_files(&self.cases()) } else { Ok(Vec::new()) }
    }
}

/// The YAML files of a folder, by name.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn yaml_files(dir: &Path) -> Result<Vec<PathBuf>, Invalid> {
    let unreadable = |error: std::io::Error| {
        Invalid(vec![missing(dir, &format!("it cannot be read: {error}"), "`writ init` creates what is missing")])
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn missing(path: &Path, message: &str, remedy: &str) -> Fault {
    Fault::about(&path.display().to_string(), Code::MissingFile, message, remedy)
}

/// Refuses a file with a secret in it that anyone but its owner may read.
///
/// # Errors
/// Names the file, its mode and the command that mends it.
pub fn require_private(path: &Path) -> Result<()> {
    let found = fs::symlink_metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mode = found.permissions().mode() & 0o777;
    if found.is_symlink() {
        bail!("`{}` is a symbolic link; put the file itself there", path.display());
    }
    if mode & 0o077 != 0 {
        let path = path.display();
        bail!("`{path}` is readable by others (mode {mode:o}); run `chmod 600 {path}`");
    }
    Ok(())
}

/// Refuses a file that anyone but its owner may change.
///
/// # Errors
/// Names the file and what mends it.
pub fn require_unshared(path: &Path) -> Result<()> {
    shared(path).map_or(Ok(()), |fault| bail!("{fault}"))
}

/// What is wrong with a file or folder that anyone but its owner may change.
fn shared(path: &Path) -> Option<Fault> {
    let name = path.display().to_string();
    let fault = |message: &str, remedy: &str| Some(Fault::about(&name, Code::SharedFile, message, remedy));
    if path.is_symlink() && !path.exists() {
        return fault("this is a symbolic link that leads nowhere", "remove it");
    }
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) => {
            return Some(missing(path, &format!("it cannot be read: {error}"), "make it readable for the gate"));
        }
    };
    // Kubernetes gives the folder of a ConfigMap the mode 0777 and mounts it read-only.
    let is_fixed = statvfs(path).is_ok_and(|mount| mount.flags().contains(FsFlags::ST_RDONLY));
    let mode = found.permissions().mode() & 0o777;
    if found.is_dir() && fs::symlink_metadata(path).is_ok_and(|link| link.is_symlink()) {
        return fault("this folder is a symbolic link", "put the folder itself there");
    }
    if mode & 0o022 != 0 && !is_fixed {
        return fault(&format!("this can be changed by others (mode {mode:o})"), &format!("run `chmod go-w {name}`"));
    }
    let (owner, own) = (found.uid(), nix::unistd::geteuid().as_raw());
    if owner != own && owner != 0 {
        let message = format!("this belongs to user {owner}, not to user {own} who runs the gate");
        return fault(&message, &format!("run `chown {own} {name}`"));
    }
    None
}
