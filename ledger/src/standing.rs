//! Standing approvals: what a reviewer allowed in advance, how often and until when.
//!
//! Knows counts and times. Never knows what a standing approval matches; that is in its data, for policy to read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::Event;

/// A standing approval that can still be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// `data.standing` of its events.
    pub id: String,
    /// How often it may be used.
    pub uses: u64,
    /// How often it was.
    pub used: u64,
    /// From when on it may not be used.
    pub expires_at: Timestamp,
    /// When it was given.
    pub created: Timestamp,
    /// Data of the event that gave it.
    pub data: Map<String, Value>,
}

// === impl Standing ===

impl Standing {
    /// The one `event` gives, or the field that it lacks for that.
    pub(crate) fn given(id: &str, event: &Event) -> Result<Standing, &'static str> {
        let uses = event.data.get("uses").and_then(Value::as_u64).filter(|uses| *uses > 0).ok_or("data.uses")?;
        let expires_at = event.text("expires_at").and_then(|text| text.parse().ok()).ok_or("data.expires_at")?;
        let (id, data) = (id.to_owned(), event.data.clone());
        Ok(Standing { id, uses, used: 0, expires_at, created: event.ts, data })
    }

    /// Whether it may be used at `now`.
    pub(crate) fn is_usable(&self, now: Timestamp) -> bool {
        self.used < self.uses && now < self.expires_at
    }

    /// It after one more use; `None` once it is used up.
    pub(crate) fn after_use(mut self) -> Option<Standing> {
        self.used = self.used.saturating_add(1);
        (self.used < self.uses).then_some(self)
    }
}
