//! Keys that can be taken once in a while: the same side effect again within a window, a repeated idempotency key.
//!
//! Holds digests and names, never a value an agent sent. Never decides what a repeated request is answered with.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::event::Event;

/// A key that one entry takes, for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// What is taken, for example `dedupe/stripe.refunds/` and a digest of the side effect. Contains no values.
    pub key: String,
    /// Digest of the request, where a repetition of it is answered in another way than a different one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// For how long.
    pub seconds: u32,
}

/// A key that is taken, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The key.
    pub key: String,
    /// Digest of the request that took it, if that came with one.
    pub digest: Option<String>,
    /// Correlation id of the entry that took it.
    pub correlation_id: Option<String>,
    /// Intent id of the entry that took it.
    pub intent_id: Option<String>,
    /// When it is free again.
    pub until: Timestamp,
}

// === impl Taken ===

impl Taken {
    /// What `event` takes.
    pub(crate) fn by(event: &Event, once: Once) -> Taken {
        let until = event.ts.checked_add(SignedDuration::from_secs(i64::from(once.seconds)));
        Taken {
            key: once.key,
            digest: once.digest,
            correlation_id: event.correlation_id.clone(),
            intent_id: event.intent_id.clone(),
            // At the end of all times nothing is ever free again.
            until: until.unwrap_or(Timestamp::MAX),
        }
    }

    /// The intent that took it, or the request.
    pub fn holder(&self) -> &str {
        self.intent_id.as_deref().or(self.correlation_id.as_deref()).unwrap_or("an event")
    }

    /// Whether `event` goes on with what took it: the same intent held anew, or the one that is held in its place.
    pub(crate) fn goes_on_in(&self, event: &Event) -> bool {
        let intent = self.intent_id.as_deref();
        intent.is_some() && (event.intent_id.as_deref() == intent || event.text("retry_of") == intent)
    }

    /// Whether it still is at `now`.
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.until > now
    }
}
