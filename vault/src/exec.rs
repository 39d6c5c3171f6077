//! Reads a secret that a program of the operator's prints.
//!
//! Must never pass the program anything but the arguments that the reference names.

use std::path::Path;

use crate::program::{Program, Programs};
use crate::{Fault, Raw};

/// Runs the program. Nothing tells which version of the secret it printed.
pub(crate) async fn read(program: &Path, arguments: &[String], programs: &Programs) -> Result<Raw, Fault> {
    let arguments = arguments.iter().map(AsRef::as_ref).collect();
    let value = programs.output(Program { path: program, arguments, variable: None }).await?;
    Ok(Raw { value, version: None, loan: None })
}
