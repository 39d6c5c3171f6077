//! Who may speak to the gate: agents and operators with the SHA-256 of their tokens, in one file that only the gate reads.
//!
//! The ledger says when a principal was added, suspended or revoked; this file holds what the ledger must never hold.
//! A token is shown once when it is made and cannot be read back from here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::{home, id};

/// Which door a principal belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sends requests through the gate.
    Agent,
    /// Watches and decides at the operator door.
    Operator,
}

/// What an operator may do; each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads the metrics, and nothing else.
    Scraper,
    /// Reads.
    Viewer,
    /// Votes.
    Reviewer,
    /// Adds and removes principals.
    Admin,
}

/// Whether a principal is served now; the stricter is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Served.
    Active,
    /// Known, and refused for the time being.
    Suspended,
    /// Refused for good.
    Revoked,
}

/// One agent or operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// Agent or operator.
    pub kind: Kind,
    /// Unique name within its kind.
    pub name: String,
    /// Who answers for an agent; may be empty.
    #[serde(default)]
    pub owner: String,
    /// Role of an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Groups of an operator, which policies may ask approvals of.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// Whether it is served.
    pub standing: Standing,
    /// SHA-256 of its token, lower-case hex.
    token_sha256: String,
    /// Tokens of an agent that end by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    passes: Vec<Pass>,
}

/// A token that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pass {
    token_sha256: String,
    /// Unix seconds.
    until: i64,
}

/// Who is to be added.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Agent or operator.
    pub kind: Kind,
    /// Unique name within its kind.
    pub name: String,
    /// Who answers for an agent; may be empty.
    pub owner: String,
    /// Role of an operator.
    pub role: Option<Role>,
    /// Groups of an operator.
    pub groups: BTreeSet<String>,
}

/// All principals, in memory and in the file.
#[derive(Debug)]
pub struct Principals {
    file: PathBuf,
    known: RwLock<BTreeMap<(Kind, String), Principal>>,
}

// === impl Kind ===

impl Kind {
    /// What its tokens start with.
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Agent => "writ_agt_",
            Kind::Operator => "writ_op_",
        }
    }
}

// === impl Principal ===

impl Principal {
    /// Whether it holds the token with this digest. Every stored digest is compared, in constant time.
    fn holds(&self, digest: &str, now: Timestamp) -> bool {
        let same = |stored: &str| bool::from(stored.as_bytes().ct_eq(digest.as_bytes()));
        let pass = self.passes.iter().filter(|pass| pass.until > now.as_second());
        pass.fold(same(&self.token_sha256), |held, pass| held | same(&pass.token_sha256))
    }
}

// === impl Newcomer ===

impl Newcomer {
    /// An agent with its owner.
    pub fn agent(name: &str, owner: &str) -> Newcomer {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        Newcomer { kind: Kind::Agent, name, owner, role: None, groups: BTreeSet::new() }
    }

    /// An operator with its role, in no group.
    pub fn operator(name: &str, role: Role) -> Newcomer {
        let (name, owner) = (name.to_owned(), String::new());
        Newcomer { kind: Kind::Operator, name, owner, role: Some(role), groups: BTreeSet::new() }
    }

    fn check(&self) -> Result<()> {
        check_owner(&self.owner)?;
        self.groups.iter().try_for_each(|group| check_name(group))
    }
}

// === impl Principals ===

impl Principals {
    /// Reads the file; an absent one means that nobody is known yet.
    ///
    /// # Errors
    /// When the file is readable by others, or is not what this program wrote.
    pub fn open(file: &Path) -> Result<Principals> {
        let mut known = BTreeMap::new();
        if file.exists() {
            home::require_private(file)?;
            let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
            let list: Vec<Principal> = serde_json::from_str(&text).with_context(|| {
                format!("`{}` is not a list of principals; restore it from a backup", file.display())
            })?;
            known = list.into_iter().map(|each| ((each.kind, each.name.clone()), each)).collect();
        }
        Ok(Principals { file: file.to_owned(), known: RwLock::new(known) })
    }

    /// Whether a principal could be added.
    ///
    /// # Errors
    /// When its name is taken, or something said of it is not plain.
    pub fn check_free(&self, new: &Newcomer) -> Result<()> {
        check_name(&new.name)?;
        new.check()?;
        match self.named(new.kind, &new.name) {
            None => Ok(()),
            Some(_) => bail!("`{}` exists already; choose another name", new.name),
        }
    }

    /// Makes a principal and gives back its token, which nothing can show again.
    ///
    /// # Errors
    /// When the name is taken or not plain, or the file cannot be written.
    pub fn add(&self, new: Newcomer) -> Result<String> {
        let token = id::token(new.kind.prefix()).context("no randomness")?;
        self.add_with(new, &token)?;
        Ok(token)
    }

    /// Makes a principal whose token is known already.
    ///
    /// # Errors
    /// As [`Principals::add`].
    pub fn add_with(&self, new: Newcomer, token: &str) -> Result<()> {
        self.check_free(&new)?;
        let Newcomer { kind, name, owner, role, groups } = new;
        let token_sha256 = id::digest(token.as_bytes());
        let standing = Standing::Active;
        let principal =
            Principal { kind, name: name.clone(), owner, role, groups, standing, token_sha256, passes: Vec::new() };
        self.change(|known| match known.insert((kind, name.clone()), principal) {
            None => Ok(()),
            Some(_) => bail!("`{name}` exists already; choose another name"),
        })
    }

    /// Whether the standing of a principal can change.
    ///
    /// # Errors
    /// When it is unknown or revoked.
    pub fn check_change(&self, kind: Kind, name: &str) -> Result<()> {
        match self.named(kind, name) {
            None => bail!("there is no `{name}`; `writ agents list` and `writ operators list` show the names"),
            Some(principal) if principal.standing == Standing::Revoked => bail!("`{name}` was revoked; add a new one"),
            Some(_) => Ok(()),
        }
    }

    /// Suspends, resumes or revokes. Revoking is final.
    ///
    /// # Errors
    /// When the principal is unknown or revoked, or the file cannot be written.
    pub fn set_standing(&self, kind: Kind, name: &str, standing: Standing) -> Result<()> {
        self.check_change(kind, name)?;
        self.change(|known| {
            if let Some(principal) = known.get_mut(&(kind, name.to_owned())) {
                principal.standing = standing;
            }
            Ok(())
        })
    }

    /// An operator as it would be in other groups.
    ///
    /// # Errors
    /// When the operator is unknown or revoked, or a group has no plain name.
    pub fn regrouped(&self, name: &str, groups: BTreeSet<String>) -> Result<Newcomer> {
        self.check_change(Kind::Operator, name)?;
        let role = self.named(Kind::Operator, name).and_then(|operator| operator.role).unwrap_or(Role::Viewer);
        let changed = Newcomer { groups, ..Newcomer::operator(name, role) };
        changed.check().map(|()| changed)
    }

    /// Puts an operator into these groups and no others.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_groups(&self, name: &str, groups: BTreeSet<String>) -> Result<()> {
        self.change(|known| {
            if let Some(principal) = known.get_mut(&(Kind::Operator, name.to_owned())) {
                principal.groups = groups;
            }
            Ok(())
        })
    }

    /// Takes over what the ledger says of a principal where that is stricter than the file: an old file must not bring
    /// back whom the ledger saw go.
    pub fn tighten(&self, kind: Kind, name: &str, standing: Standing) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(principal) = known.get_mut(&(kind, name.to_owned())) {
            principal.standing = principal.standing.max(standing);
        }
    }

    /// Makes a token of an agent that is good until then, besides its own; those that have ended are forgotten.
    ///
    /// # Errors
    /// When the agent is unknown or revoked, or the file cannot be written.
    pub fn issue_pass(&self, agent: &str, until: Timestamp) -> Result<String> {
        self.check_change(Kind::Agent, agent)?;
        let token = id::token(Kind::Agent.prefix()).context("no randomness")?;
        let pass = Pass { token_sha256: id::digest(token.as_bytes()), until: until.as_second() };
        self.change_passes(agent, |passes| passes.push(pass))?;
        Ok(token)
    }

    /// Ends a pass before its time; one that is not known has ended already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn end_pass(&self, agent: &str, token: &str) -> Result<()> {
        let digest = id::digest(token.as_bytes());
        self.change_passes(agent, |passes| passes.retain(|pass| pass.token_sha256 != digest))
    }

    fn change_passes(&self, agent: &str, edit: impl FnOnce(&mut Vec<Pass>)) -> Result<()> {
        let now = Timestamp::now();
        self.change(|known| {
            if let Some(principal) = known.get_mut(&(Kind::Agent, agent.to_owned())) {
                principal.passes.retain(|pass| pass.until > now.as_second());
                edit(&mut principal.passes);
            }
            Ok(())
        })
    }

    /// The principal of this kind that holds `token`. Every stored digest is compared, in constant time.
    pub fn holder(&self, kind: Kind, token: &str) -> Option<Principal> {
        let digest = id::digest(token.as_bytes());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (mut found, now) = (None, Timestamp::now());
        for principal in known.values().filter(|each| each.kind == kind) {
            if principal.holds(&digest, now) {
                found = Some(principal.clone());
            }
        }
        found
    }

    /// A principal by name.
    pub fn named(&self, kind: Kind, name: &str) -> Option<Principal> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&(kind, name.to_owned())).cloned()
    }

    /// All of one kind, by name.
    pub fn list(&self, kind: Kind) -> Vec<Principal> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|each| each.kind == kind).cloned().collect()
    }

    /// Changes a copy, writes it durably, and only then takes it into use.
    fn change(&self, edit: impl FnOnce(&mut BTreeMap<(Kind, String), Principal>) -> Result<()>) -> Result<()> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = known.clone();
        edit(&mut next)?;
        let list: Vec<&Principal> = next.values().collect();
        write_private(&self.file, serde_json::to_string_pretty(&list)?.as_bytes())?;
        *known = next;
        Ok(())
    }
}

/// Replaces a 0600 file in one step, synced with its directory.
///
/// # Errors
/// When the file system refuses.
pub fn write_private(file: &Path, bytes: &[u8]) -> Result<()> {
    // A name of its own that nobody could have put a link or a file of other modes at.
    let fresh = file.with_extension(id::fresh("new-").context("no randomness")?);
    let write = || -> std::io::Result<()> {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&fresh, file)?;
        if let Some(dir) = file.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().with_context(|| format!("cannot write `{}`", file.display()))
}

/// An owner is shown to people, and compared with the names of operators.
fn check_owner(owner: &str) -> Result<()> {
    if owner.len() > 128 || owner.chars().any(char::is_control) {
        bail!("the owner is too long or holds a control character");
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !starts || name.len() > 64 || !name.bytes().all(plain) {
        bail!("`{name}` is not a name: use up to 64 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
