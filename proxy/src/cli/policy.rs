//! `writ policy test`: the cases of the home, decided by its rules.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::json;

use super::{Exit, say, say_error};
use crate::cases;
use crate::config::Config;
use crate::home::Home;
use crate::rulebook::Rulebook;

/// Decides the cases of `files`, or of every file in the home's `tests/`.
pub(super) fn test(home: Home, files: &[PathBuf], as_json: bool) -> Result<Exit> {
    let config = Config::load(home)?;
    let rulebook = Rulebook::load(&config)?;
    let files = if files.is_empty() { config.home.case_files()? } else { files.to_vec() };
    if files.is_empty() {
        bail!("there are no cases; write some to `{}`, or name a file", config.home.cases().display());
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for file in &files {
        for outcome in cases::run(file, &config, &rulebook)? {
            if outcome.differs.is_empty() {
                passed += 1;
                continue;
            }
            if !as_json {
                say_error(&format!("{}: {}", file.display(), outcome.name));
                outcome.differs.iter().for_each(|what| say_error(&format!("    {what}")));
            }
            failed.push(json!({"file": file, "case": outcome.name, "differs": outcome.differs}));
        }
    }
    if as_json {
        say(&json!({"passed": passed, "failed": failed}).to_string());
    } else {
        say(&format!("{passed} of {} cases hold", passed + failed.len()));
    }
    Ok(if failed.is_empty() { Exit::Ok } else { Exit::Failed })
}
