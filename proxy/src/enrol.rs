//! Agents and operators whose tokens come from files, one for each, as Docker and Kubernetes mount secrets.
//!
//! On the ledger first, like any other newcomer. Never changes anybody who is known: a file cannot bring back who was
//! revoked, nor give a name to another token.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ledger::Status;
use zeroize::Zeroizing;

use crate::gate::Gate;
use crate::home;
use crate::operator;
use crate::principal::{Kind, Newcomer, Role, Standing};

/// Adds everybody whose token is in a folder of the configuration and who is not known yet.
///
/// # Errors
/// What is wrong with which file.
pub async fn from_files(gate: &Gate) -> Result<()> {
    let folders = [(Kind::Agent, &gate.config.agent_tokens), (Kind::Operator, &gate.config.operator_tokens)];
    for (kind, folder) in folders {
        let Some(folder) = folder else { continue };
        for name in names(folder)? {
            let path = folder.join(&name);
            let added = add(gate, kind, &name, &path).await;
            added.with_context(|| format!("cannot take a token from `{}`", path.display()))?;
        }
    }
    Ok(())
}

/// What the ledger says of principals holds where their file says less.
pub fn tighten(gate: &Gate) {
    let standing = |status| match status {
        Status::Active => Standing::Active,
        Status::Revoked => Standing::Revoked,
        Status::Suspended => Standing::Suspended,
    };
    for agent in gate.ledger.agents() {
        gate.principals.tighten(Kind::Agent, &agent.name, standing(agent.status));
    }
    for operator in gate.ledger.operators() {
        gate.principals.tighten(Kind::Operator, &operator.name, standing(operator.status));
    }
}

/// The files of a folder. What begins with a dot is Kubernetes's own.
fn names(folder: &Path) -> Result<Vec<String>> {
    let read = fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut names = Vec::new();
    for entry in read {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

async fn add(gate: &Gate, kind: Kind, file_name: &str, path: &Path) -> Result<()> {
    home::require_unshared(path)?;
    let token = Zeroizing::new(fs::read_to_string(path)?);
    let token = token.trim();
    let new = match kind {
        Kind::Agent => Newcomer::agent(file_name, ""),
        Kind::Operator => operator_of(file_name)?,
    };
    check(kind, token)?;
    match gate.principals.holder(kind, token) {
        Some(known) if known.name == new.name => return Ok(()),
        Some(known) => bail!("`{}` has this token already; give each its own", known.name),
        None => {}
    }
    gate.principals
        .check_free(&new)
        .context("it is not the token this name was added with; put that one back, or choose a new name")?;
    // A start that broke off here left it on the ledger, and nowhere else.
    let is_recorded = match kind {
        Kind::Agent => gate.ledger.agents().iter().any(|each| each.name == new.name),
        Kind::Operator => gate.ledger.operators().iter().any(|each| each.name == new.name),
    };
    if !is_recorded {
        gate.ledger.append(vec![operator::registration(&new).with("by", "file")]).await?;
    }
    gate.principals.add_with(new, token)?;
    tighten(gate);
    Ok(())
}

/// `alice.reviewer`: name and role.
fn operator_of(file_name: &str) -> Result<Newcomer> {
    let role = file_name.rsplit_once('.').and_then(|(name, role)| match role {
        "scraper" => Some((name, Role::Scraper)),
        "viewer" => Some((name, Role::Viewer)),
        "reviewer" => Some((name, Role::Reviewer)),
        "admin" => Some((name, Role::Admin)),
        _ => None,
    });
    let (name, role) = role.context("call it NAME.scraper, NAME.viewer, NAME.reviewer or NAME.admin")?;
    Ok(Newcomer::operator(name, role))
}

/// As long as those the gate makes itself, and with their mark, by which it notices one that would leave.
fn check(kind: Kind, token: &str) -> Result<()> {
    let rest = token.strip_prefix(kind.prefix()).unwrap_or_default();
    if rest.len() < TOKEN_LETTERS || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("it is not `{}` and at least {TOKEN_LETTERS} random letters and digits", kind.prefix());
    }
    Ok(())
}

/// 256 bits in base32; in hexadecimal they are more.
const TOKEN_LETTERS: usize = 52;
