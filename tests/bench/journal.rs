//! The least a gate does that records before it acts: fixed entries, appended and synced in groups by one thread.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};

use anyhow::{Context, Result};
use tokio::sync::oneshot;

/// An open journal. Its thread ends with it.
#[derive(Debug)]
pub(crate) struct Journal(Sender<oneshot::Sender<()>>);

// === impl Journal ===

impl Journal {
    /// Starts a new file.
    pub(crate) fn create(path: &Path) -> Result<Journal> {
        let file = File::create_new(path).with_context(|| format!("cannot create {path:?}"))?;
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || write(file, &receiver))?;
        Ok(Journal(sender))
    }

    /// Returns when one more entry is durable.
    pub(crate) async fn append(&self) -> Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(sender).context("the journal has stopped")?;
        receiver.await.context("an entry was not written")
    }
}

fn write(mut file: File, queue: &Receiver<oneshot::Sender<()>>) -> io::Result<()> {
    while let Ok(first) = queue.recv() {
        let mut waiters = vec![first];
        waiters.extend(queue.try_iter().take(MAX_GROUP - 1));
        file.write_all(&ENTRY.repeat(waiters.len()))?;
        file.sync_data()?;
        for waiter in waiters {
            // Whoever asked may be gone; the entry stays.
            let _ = waiter.send(());
        }
    }
    Ok(())
}

/// About as long as an entry of the ledger.
pub(crate) const ENTRY: [u8; 500] = [b'e'; 500];

/// Entries in one sync.
const MAX_GROUP: usize = 256;
