//! The first run: a home with starter files, an authority, a ledger, one agent and one operator.
//!
//! Nothing that exists is overwritten, and nothing is created anew that has been lost: a home with data but without its
//! ledger is refused, not repaired.

use std::fmt::Display;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ledger::{Ledger, Options};

use crate::environment::Trusted;
use crate::home::Home;
use crate::id;
use crate::operator;
use crate::principal::{self, Newcomer, Principals, Role};
use crate::truststore;

/// Creates whatever a complete home lacks on its first run. Returns whether this was the first run.
///
/// # Errors
/// Whatever stops it, with the remedy.
pub fn create(home: &Home) -> Result<bool> {
    if home.path().exists() {
        home.check()?;
    }
    if home.is_configured_apart() && !home.destinations().exists() {
        bail!("`{}` does not exist; nothing is created in a folder of configuration", home.destinations().display());
    }
    home.create()?;
    // A home with destinations is configured: a starter policy that its owner removed stays removed.
    if !home.destinations().exists() {
        for (name, text) in STARTER {
            write_new(&home.path().join(name), text)?;
        }
    }
    let first = !home.data().exists();
    if first {
        create_data(home)?;
    }
    let root = ca::Root::open(&home.ca())?;
    write_bundle(home, root.pem())?;
    Ok(first)
}

/// Authority, ledger and principals come into being together: whatever was left of an earlier attempt is made anew.
fn create_data(home: &Home) -> Result<()> {
    let staged = home.staged();
    if staged.data().exists() {
        fs::remove_dir_all(staged.data()).with_context(|| format!("cannot remove `{}`", staged.data().display()))?;
    }
    for dir in [staged.data(), staged.keys()] {
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.with_context(|| format!("cannot create `{}`", dir.display()))?;
    }
    ca::Root::create(&staged.ca(), "Writ")?;
    Ledger::create(&staged.data(), &id::fresh("writ-")?)?;
    add_first_principals(&staged)?;
    fs::rename(staged.data(), home.data()).with_context(|| format!("cannot create `{}`", home.data().display()))?;
    File::open(home.path())?.sync_all().with_context(|| format!("cannot sync `{}`", home.path().display()))
}

/// Whether the destinations are still those of a first run, so that the lines to try are true.
pub fn is_starter(home: &Home) -> bool {
    let written = fs::read_to_string(home.destinations()).unwrap_or_default();
    starter_files().any(|(name, text)| name == Path::new("destinations.yaml") && text == written)
}

/// The proxy URL for an agent, with its token.
pub fn proxy_url(agent: &str, token: &str, door: impl Display) -> String {
    format!("http://{agent}:{token}@{door}")
}

/// One agent and one operator, so that the first minute needs no further command. Their tokens go to 0600 files.
fn add_first_principals(home: &Home) -> Result<()> {
    let principals = Principals::open(&home.keys().join("principals.json"))?;
    let ledger = Ledger::open(Options { dir: home.data(), queue: 16, reserve_bytes: 0 })?;
    let first_agent = Newcomer::agent(FIRST_AGENT, "unassigned");
    let first_operator = Newcomer::operator(FIRST_OPERATOR, Role::Admin);
    ledger.append_blocking(vec![operator::registration(&first_agent), operator::registration(&first_operator)])?;
    let agent = principals.add(first_agent)?;
    let operator = principals.add(first_operator)?;
    principal::write_private(&home.agent_token(FIRST_AGENT), format!("{agent}\n").as_bytes())?;
    principal::write_private(&home.operator_token(), format!("{operator}\n").as_bytes())?;
    ledger.close()?;
    Ok(())
}

/// What clients are to trust: this system's public roots, where it has them, and the gate's own.
fn write_bundle(home: &Home, root: &str) -> Result<()> {
    let system = SYSTEM_BUNDLES.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    write_trusted(&home.trusted(), &format!("{system}\n{root}"))
}

/// Writes a bundle of roots in each form that some client wants. Every user may read them: nobody learns anything.
///
/// # Errors
/// When the file system refuses, or the bundle is not PEM.
pub fn write_trusted(trusted: &Trusted, bundle: &str) -> Result<()> {
    let keystore = truststore::pkcs12(bundle).context("the roots of this system are not PEM")?;
    let wget = format!("ca_certificate = {}\n", trusted.bundle().display());
    let files: [(PathBuf, &[u8]); 3] =
        [(trusted.bundle(), bundle.as_bytes()), (trusted.keystore(), &keystore), (trusted.wget(), wget.as_bytes())];
    for (path, bytes) in files {
        let written = fs::write(&path, bytes).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)));
        written.with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot create `{}`", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Where a starter file goes; for tests and documentation.
pub fn starter_files() -> impl Iterator<Item = (PathBuf, &'static str)> {
    STARTER.iter().map(|(name, text)| (PathBuf::from(name), *text))
}

/// Name of the agent that the first run makes.
pub const FIRST_AGENT: &str = "default";

/// Name of the operator that the first run makes.
pub const FIRST_OPERATOR: &str = "admin";

/// Starter configuration: what a new home holds.
const STARTER: &[(&str, &str)] = &[
    ("writ.yaml", include_str!("starter/writ.yaml")),
    ("credentials.yaml", include_str!("starter/credentials.yaml")),
    ("tests/starter.yaml", include_str!("starter/tests/starter.yaml")),
    ("policies/reads.yaml", include_str!("starter/policies/reads.yaml")),
    ("policies/models.yaml", include_str!("starter/policies/models.yaml")),
    ("policies/payments.yaml", include_str!("starter/policies/payments.yaml")),
    ("policies/messages.yaml", include_str!("starter/policies/messages.yaml")),
    ("policies/crm.yaml", include_str!("starter/policies/crm.yaml")),
    ("policies/code.yaml", include_str!("starter/policies/code.yaml")),
    ("policies/pushes.yaml", include_str!("starter/policies/pushes.yaml")),
    ("policies/changes.yaml", include_str!("starter/policies/changes.yaml")),
    // Last: it tells that the ones before it are there.
    ("destinations.yaml", include_str!("starter/destinations.yaml")),
];

/// Public roots as the usual systems keep them.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];
