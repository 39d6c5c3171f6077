//! `writ check`: everything that is wrong with the configuration, at once.

use anyhow::Result;
use policy::{Fault, Severity};
use serde_json::json;

use super::{Exit, say};
use crate::cases;
use crate::config::Config;
use crate::home::Home;
use crate::rulebook::Rulebook;

/// Loads everything and reports every fault. Warnings alone are valid.
pub(super) fn run(home: Home, as_json: bool) -> Result<Exit> {
    let (config, mut faults) = Config::survey(home);
    let mut destinations = 0;
    match Rulebook::load(&config) {
        Ok(rulebook) => {
            destinations = rulebook.rules.destinations().count();
            faults.extend(rulebook.warnings().cloned());
        }
        Err(invalid) => {
            // What the home itself has wrong was found with the configuration already.
            let new: Vec<Fault> = invalid.0.into_iter().filter(|fault| !faults.contains(fault)).collect();
            faults.extend(new);
        }
    }
    match config.home.case_files() {
        Ok(files) => faults.extend(files.iter().flat_map(|file| cases::faults(file))),
        Err(invalid) => faults.extend(invalid.0),
    }
    let errors = faults.iter().filter(|fault| fault.severity == Severity::Error).count();
    if as_json {
        say(&json!({"valid": errors == 0, "destinations": destinations, "faults": faults}).to_string());
    } else {
        faults.iter().for_each(show);
        say(&match (errors, faults.len() - errors) {
            (0, 0) => format!("valid: {destinations} destinations"),
            (0, warnings) => format!("valid: {destinations} destinations; warnings: {warnings}"),
            (errors, warnings) => format!("not valid; errors: {errors}, warnings: {warnings}"),
        });
    }
    Ok(if errors == 0 { Exit::Ok } else { Exit::Invalid })
}

/// One fault for a person: what, where, the line itself, what to do.
pub(super) fn show(fault: &Fault) {
    let severity = match fault.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    say(&format!("{severity}[{}]: {}", fault.code, fault.message));
    let place = [fault.line, fault.column].into_iter().flatten().map(|number| format!(":{number}"));
    say(&format!("  at {}{}", fault.file, place.collect::<String>()));
    if let Some(line) = &fault.snippet {
        say(&format!("   | {line}"));
    }
    say(&format!("   = {}", fault.remedy));
}
