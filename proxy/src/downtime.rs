//! What a start says about the time before it: that no gate ran, and since when. What was not recorded then is not
//! passed over in silence.

use anyhow::{Context, Result};
use ledger::{Draft, EventType, Ledger, Past};
use serde_json::Value;

/// The event, if a gate ran before.
///
/// # Errors
/// When the ledger cannot be read.
pub(crate) fn gap(ledger: &Ledger) -> Result<Option<Draft>> {
    let ran = Past { kinds: vec![EventType::GateStarted, EventType::GateStopped], limit: 1, ..Past::default() };
    let Some(last) = newest(ledger, &ran, |_| true)? else { return Ok(None) };
    let orderly = kind_of(&last) == EventType::GateStopped.as_str();
    // What opening the ledger found out and recorded is of now.
    let of_now = [EventType::ActionUnknown, EventType::GateRecovered].map(EventType::as_str);
    let before = Past { limit: PAGE, ..Past::default() };
    let since = newest(ledger, &before, |event| !of_now.contains(&kind_of(event)))?.unwrap_or(last);
    let since = since.get("ts").cloned().unwrap_or_default();
    let gap = Draft::new(EventType::LedgerGap).with("reason", "gate_down").with("orderly", orderly);
    Ok(Some(gap.with("since", since)))
}

/// The newest entry of those that match and that are `wanted`.
fn newest(ledger: &Ledger, past: &Past, wanted: impl Fn(&Value) -> bool) -> Result<Option<Value>> {
    let mut past = past.clone();
    loop {
        let page = ledger.past(&past).context("what was recorded last cannot be read")?;
        for line in &page.lines {
            let event: Value = serde_json::from_str(line)?;
            if wanted(&event) {
                return Ok(Some(event));
            }
        }
        match page.older {
            None => return Ok(None),
            older => past.before = older,
        }
    }
}

fn kind_of(event: &Value) -> &str {
    event.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Entries read at once.
const PAGE: usize = 100;
