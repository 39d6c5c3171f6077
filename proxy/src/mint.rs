//! How many new leaf certificates an agent may cause: names are free to invent, certificates are not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::refusal::Refusal;

/// Tunnels opened by each agent in the current minute.
#[derive(Debug)]
pub struct Mint {
    per_minute: u64,
    counts: Mutex<HashMap<String, (Instant, u64)>>,
}

// === impl Mint ===

impl Mint {
    /// At most `per_minute` for each agent.
    pub fn new(per_minute: u64) -> Mint {
        Mint { per_minute, counts: Mutex::default() }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] over the rate.
    pub fn take(&self, agent: &str) -> Result<(), Refusal> {
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = counts.entry(agent.to_owned()).or_insert((now, 0));
        if now.duration_since(*since) >= Duration::from_secs(60) {
            (*since, *count) = (now, 0);
        }
        if *count >= self.per_minute {
            return Err(Refusal::TooMany(format!("more than {} new hosts in a minute", self.per_minute)));
        }
        *count += 1;
        Ok(())
    }
}
