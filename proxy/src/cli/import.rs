//! `writ import`: the files of another system, taken over.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::check::show;
use super::{Exit, say};
use crate::import;

/// Takes over a Zehrava Gate and names every line that does less than it says.
pub(super) fn gate(dir: &Path, out: &Path, as_json: bool) -> Result<Exit> {
    let imported = import::gate(dir, out)?;
    if as_json {
        say(&json!({"files": imported.files, "findings": imported.findings}).to_string());
        return Ok(Exit::Ok);
    }
    imported.findings.iter().for_each(show);
    say(&format!("lines to look at: {}", imported.findings.len()));
    imported.files.iter().for_each(|file| say(&format!("wrote {}", file.display())));
    say(&format!("next: `writ --home {} check`; then move the files to the home", out.display()));
    Ok(Exit::Ok)
}
