//! `writ import gate`: the files of a Zehrava Gate become files of this program.
//!
//! What a line meant to say is kept where that is at most as permissive as what it did. Every line that did nothing
//! there, or less than it says, is named. Nothing is ever written over, and no file of the other program is changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use policy::{Fault, Faults, yaml};
use serde_yaml::{Mapping, Value};

use crate::config::source;

mod policies;
mod registry;
mod vault;

/// What was read, written and found.
#[derive(Debug)]
pub struct Imported {
    /// The files written.
    pub files: Vec<PathBuf>,
    /// Every line that did not do what it says, and what became of it.
    pub findings: Vec<Fault>,
}

/// Reads the folder of a Zehrava Gate and writes `destinations.yaml`, `policies/` and `credentials.yaml` into `out`.
///
/// # Errors
/// When a file cannot be read, is no strict YAML, or stands in `out` already.
pub fn gate(dir: &Path, out: &Path) -> Result<Imported> {
    let registry = source(&find(dir, "destinations.yaml")?)?;
    let policy_sources = policy_files(dir)?;
    let vault_source = find(dir, "vault.yaml").ok().map(|path| source(&path)).transpose()?;

    let mut findings = Vec::new();
    let mut known = BTreeMap::new();
    for (id, source) in &policy_sources {
        let file: Mapping = yaml::read(source)?;
        known.insert(id.as_str(), policies::Policy { source, file });
    }
    let mut faults = Faults::new(&registry);
    let mut destinations = registry::read(&yaml::read(&registry)?, &known, &mut faults);
    findings.extend(faults.into_vec());
    let credentials = match &vault_source {
        Some(source) => {
            let mut faults = Faults::new(source);
            let credentials = vault::read(&yaml::read(source)?, &mut destinations, &mut faults);
            findings.extend(faults.into_vec());
            credentials
        }
        None => Mapping::new(),
    };
    let (converted, found) = policies::convert(&known, &mut destinations);
    findings.extend(found);

    let mut files = vec![("destinations.yaml".to_owned(), one("destinations", registry::entries(&destinations)))];
    files.push(("credentials.yaml".to_owned(), one("credentials", Value::Mapping(credentials))));
    files.extend(converted.into_iter().map(|(id, policy)| (format!("policies/{id}.yaml"), policy)));
    Ok(Imported { files: write(out, files)?, findings })
}

/// A file of the gate: in its folder, or in `config/` below.
fn find(dir: &Path, name: &str) -> Result<PathBuf> {
    let places = [dir.join(name), dir.join("config").join(name)];
    match places.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => {
            bail!("there is no `{name}` in `{}` or its `config/`; name the folder of a Zehrava Gate", dir.display())
        }
    }
}

fn policy_files(dir: &Path) -> Result<Vec<(String, policy::Source)>> {
    let folder = dir.join("policies");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if let (true, Some(id)) = (is_yaml, path.file_stem()) {
            found.push((id.to_string_lossy().into_owned(), source(&path)?));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

fn one(key: &str, value: Value) -> Mapping {
    Mapping::from_iter([(Value::from(key), value)])
}

/// Writes all files, or none when one of them is there already.
fn write(out: &Path, files: Vec<(String, Mapping)>) -> Result<Vec<PathBuf>> {
    let files: Vec<(PathBuf, Mapping)> = files.into_iter().map(|(name, content)| (out.join(name), content)).collect();
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        bail!("`{}` is there already; name an empty folder with `--out`", path.display());
    }
    let folder = out.join("policies");
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.with_context(|| format!("cannot create `{}`", folder.display()))?;
    for (path, content) in &files {
        let text = format!(
            "# Imported from a Zehrava Gate; look at it before it is put in force.\n{}",
            serde_yaml::to_string(content)?
        );
        let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}
