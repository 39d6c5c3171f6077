//! Reads what needs no provider: variables and files.
//!
//! Must never start a program or open a connection.

use std::sync::Arc;

use crate::file::{self, Files};
use crate::{Fault, LocalReference, Raw, env};

/// Reads variables and files, each up to a limit.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) files: Arc<Files>,
    max_bytes: usize,
}

// === impl Local ===

impl Local {
    pub(crate) fn new(max_bytes: usize) -> Local {
        Local { files: Arc::new(Files::new(FILE_SLOTS)), max_bytes }
    }

    pub(crate) async fn read(&self, reference: &LocalReference) -> Result<Raw, Fault> {
        match reference {
            LocalReference::Env(name) => env::read(name),
            LocalReference::File(path) => file::read(path, self.max_bytes, &self.files).await,
        }
    }

    /// The token that a provider authenticates with.
    pub(crate) async fn token(&self, reference: &LocalReference) -> Result<crate::Secret, Fault> {
        let token = self.read(reference).await.and_then(|raw| crate::Secret::new(raw.value, self.max_bytes, false));
        token.map_err(|fault| Fault::Login(format!("`{reference}` {fault}")))
    }
}

/// Reads of files that may be under way at once. A file system that hangs then holds this many threads.
const FILE_SLOTS: usize = 32;
