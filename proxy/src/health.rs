//! How the gate is doing, for whoever restarts it or sends it traffic: what is wrong, and whether it still serves.
//!
//! Only looks. Nothing is refused here: each request meets by itself what is wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};
use vault::Fault;

use crate::gate::Gate;
use crate::unfetched;

/// Something that is wrong with the gate.
#[derive(Debug)]
pub enum Ailment {
    /// The clock is this many seconds behind the last entry of the ledger: times on the ledger would lie.
    ClockBehind(i64),
    /// The ledger is closed, for this reason.
    LedgerClosed(String),
    /// The rules that were written last are refused, for this reason; those before them are in force.
    RulesRefused(String),
    /// The gate ends.
    Stopping,
    /// So few bytes are free that nothing new is begun.
    StorageLow(u64),
    /// A vault does not lend what it is asked for: which kind, since when, and the code of the last refusal.
    VaultDown(&'static str, Timestamp, &'static str),
}

/// Kinds of vaults whose last answer was none.
#[derive(Debug, Default)]
pub struct Vaults {
    /// Whether there is any: asked on every request, unlike the map.
    failing: AtomicBool,
    since: Mutex<BTreeMap<&'static str, (Timestamp, &'static str)>>,
}

// === impl Ailment ===

impl Ailment {
    /// Every code there is.
    pub const CODES: [&'static str; 6] =
        ["clock_behind", "ledger_closed", "rules_refused", "stopping", "storage_low", "vault_down"];

    /// A stable, documented code.
    pub fn code(&self) -> &'static str {
        match self {
            Ailment::ClockBehind(_) => "clock_behind",
            Ailment::LedgerClosed(_) => "ledger_closed",
            Ailment::RulesRefused(_) => "rules_refused",
            Ailment::Stopping => "stopping",
            Ailment::StorageLow(_) => "storage_low",
            Ailment::VaultDown(..) => "vault_down",
        }
    }

    /// What is wrong and what to do, for the operator.
    pub fn detail(&self) -> String {
        match self {
            Ailment::ClockBehind(seconds) => {
                format!("the clock is {seconds} s behind the ledger's last entry; set it right")
            }
            Ailment::LedgerClosed(why) => format!("the ledger is closed until a restart: {why}"),
            Ailment::RulesRefused(why) => format!("the rules written last are not in force: {why}"),
            Ailment::Stopping => "the gate ends; requests under way get their time".to_owned(),
            Ailment::StorageLow(free) => {
                format!("only {free} bytes are free, less than `reserve_bytes`: nothing new is begun; free space")
            }
            Ailment::VaultDown(provider, since, code) => {
                format!("`{provider}` has lent nothing since {since} ({code}); `writ credentials test NAME` says more")
            }
        }
    }

    /// Whether no request should be sent here. A vault or a policy that is out of order stops some of them at most, and
    /// taking every gate of a fleet out of service for it would stop all.
    pub fn stops(&self) -> bool {
        match self {
            Ailment::ClockBehind(_) | Ailment::LedgerClosed(_) | Ailment::Stopping | Ailment::StorageLow(_) => true,
            Ailment::RulesRefused(_) | Ailment::VaultDown(..) => false,
        }
    }
}

// === impl Vaults ===

impl Vaults {
    /// Notes how a fetch went. Only what may be over by itself counts: a field that is not there is no outage.
    pub fn note(&self, provider: &'static str, fault: Option<&Fault>) {
        let down = fault.map(unfetched::answer).filter(|answer| answer.retryable);
        if down.is_none() && !self.failing.load(Ordering::Relaxed) {
            return;
        }
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match down {
            Some(answer) => {
                since.entry(provider).or_insert((Timestamp::now(), answer.code)).1 = answer.code;
            }
            None => drop(since.remove(provider)),
        }
        self.failing.store(!since.is_empty(), Ordering::Relaxed);
    }

    fn ailments(&self) -> Vec<Ailment> {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.iter().map(|(provider, (since, code))| Ailment::VaultDown(provider, *since, code)).collect()
    }
}

/// A secret was asked for, of this kind of vault: counts it, and notes whether the vault lends.
pub fn fetched(gate: &Gate, provider: &'static str, fault: Option<&Fault>, begun: Instant) {
    gate.metrics.lent(provider, fault.map_or("ok", |fault| unfetched::answer(fault).code), begun);
    gate.vaults.note(provider, fault);
}

/// All that is wrong now; what stops the gate comes first.
pub fn ailments(gate: &Gate) -> Vec<Ailment> {
    let room = gate.ledger.room();
    let behind = gate.ledger.head().ts.as_second() - Timestamp::now().as_second();
    let mut found: Vec<Ailment> = gate.ledger.latched().map(Ailment::LedgerClosed).into_iter().collect();
    found.extend((room.free < room.reserve).then_some(Ailment::StorageLow(room.free)));
    found.extend((behind > CLOCK_TOLERANCE_SECONDS).then_some(Ailment::ClockBehind(behind)));
    found.extend(gate.stop.is_cancelled().then_some(Ailment::Stopping));
    found.extend(gate.rules_refused.load_full().map(|why| Ailment::RulesRefused(why.as_ref().clone())));
    found.extend(gate.vaults.ailments());
    found
}

/// What is wrong as a document: `ready`, `degraded` while it still serves, or `not_ready`; and why.
pub fn document(ailments: &[Ailment]) -> Value {
    let status = match ailments.first() {
        None => "ready",
        Some(first) if first.stops() => "not_ready",
        Some(_) => "degraded",
    };
    let reasons: Vec<Value> =
        ailments.iter().map(|each| json!({"code": each.code(), "detail": each.detail()})).collect();
    json!({"status": status, "reasons": reasons})
}

/// A clock that is corrected now and then may go back a little.
const CLOCK_TOLERANCE_SECONDS: i64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_down_until_it_lends_again_and_a_missing_field_is_no_outage() {
        let vaults = Vaults::default();
        vaults.note("hashicorp", Some(&Fault::Missing));
        assert!(vaults.ailments().is_empty());
        vaults.note("hashicorp", Some(&Fault::Sealed));
        vaults.note("hashicorp", Some(&Fault::Throttled));
        vaults.note("file", None);
        let found = vaults.ailments();
        assert!(matches!(found.as_slice(), [Ailment::VaultDown("hashicorp", _, "credential_throttled")]), "{found:?}");
        assert_eq!(document(&found)["status"], "degraded");
        vaults.note("hashicorp", None);
        assert!(vaults.ailments().is_empty());
        assert_eq!(document(&[])["status"], "ready");
    }
}
