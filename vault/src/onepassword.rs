//! Reads secrets of 1Password through its command line program, `op read`.
//!
//! Must never use the program's own cache, give it a terminal or anything of this process's environment.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::program::{Program, Programs};
use crate::{Fault, LocalReference, Raw, local::Local};

/// How 1Password is reached.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OnePassword")]
pub(crate) struct Settings {
    /// Absolute path of `op`.
    pub(crate) command: PathBuf,
    /// Where the service account's token is.
    pub(crate) token: LocalReference,
    /// The folder `op` keeps its settings in. Without one it looks for its user's home, which it is not told.
    pub(crate) config: Option<PathBuf>,
}

/// 1Password, as a service account.
#[derive(Debug)]
pub(crate) struct OnePassword(Settings);

// === impl OnePassword ===

impl OnePassword {
    pub(crate) fn new(settings: Settings) -> Result<OnePassword, String> {
        for path in [Some(&settings.command), settings.config.as_ref()].into_iter().flatten() {
            if !path.is_absolute() {
                return Err(format!("`{}` is not an absolute path", path.display()));
            }
        }
        Ok(OnePassword(settings))
    }

    /// Reads one field. Nothing tells which version of it was read.
    pub(crate) async fn read(&self, item: &str, local: &Local, programs: &Programs) -> Result<Raw, Fault> {
        let token = local.token(&self.0.token).await?;
        let config = self.0.config.as_deref().map(Path::as_os_str);
        let config = config.map(|path| ["--config".as_ref(), path]);
        let arguments = ["read".as_ref(), "--cache=false".as_ref()]
            .into_iter()
            .chain(config.into_iter().flatten())
            .chain([item.as_ref()])
            .collect();
        let op = Program { path: &self.0.command, arguments, variable: Some(("OP_SERVICE_ACCOUNT_TOKEN", &token)) };
        Ok(Raw { value: programs.output(op).await?, version: None, loan: None })
    }
}
