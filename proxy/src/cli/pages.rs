//! Completions and manual pages, made from the command line itself so that they say what it says.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Exit, Line};

/// Prints what a shell reads to complete the commands.
pub(super) fn completions(shell: Shell) -> Exit {
    let mut out = std::io::stdout();
    clap_complete::generate(shell, &mut Line::command(), "writ", &mut out);
    Exit::Ok
}

/// Writes a manual page for the program and one for each command into a folder, or prints the first.
pub(super) fn manual(folder: Option<&Path>) -> Result<Exit> {
    match folder {
        None => Man::new(Line::command()).render(&mut std::io::stdout())?,
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
            let written = clap_mangen::generate_to(Line::command(), folder);
            written.with_context(|| format!("cannot write to `{}`", folder.display()))?;
        }
    }
    Ok(Exit::Ok)
}
