//! Commands that only look at the home: no running gate is needed.

use anyhow::Result;

use super::{Exit, say};
use crate::home::Home;
use crate::setup;

/// Creates the home.
pub(super) fn init(home: &Home) -> Result<Exit> {
    let first = setup::create(home)?;
    say(&format!("{} `{}`", if first { "created" } else { "complete already:" }, home.path().display()));
    Ok(Exit::Ok)
}

/// Prints the root certificate.
pub(super) fn export_ca(home: &Home) -> Result<Exit> {
    let root = ca::Root::open(&home.ca())?;
    say(root.pem().trim_end());
    Ok(Exit::Ok)
}
