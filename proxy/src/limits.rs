//! Every limit and timeout of the gate in one table: name, unit, default and the reason for it.
//!
//! Each row can be set under `limits:` in `writ.yaml` or by a `WRIT_LIMITS_…` variable. Constants elsewhere are windows
//! and counts of a protocol that no operator would tune, each with its reason beside it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// Writes the table once and derives from it the struct, its defaults and the list of names.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: u64 = $default:expr;)+) => {
        /// The limits in force. Seconds, milliseconds, bytes or counts, as each name and comment says.
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Default for Limits {
            fn default() -> Limits {
                Limits { $($name: $default,)+ }
            }
        }

        impl Limits {
            /// Every limit by name, with its default: the source of `WRIT_LIMITS_…` and of the documentation test.
            pub const TABLE: &'static [(&'static str, u64)] = &[$((stringify!($name), $default),)+];

            /// The limit of this name.
            pub fn field(&mut self, name: &str) -> Option<&mut u64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)+
                    _ => None,
                }
            }
        }
    };
}

limits! {
    /// Connections open at the forward door at once, at most half the file descriptors; more are closed at once.
    max_connections: u64 = 8192;
    /// Of these, connections from one address, at most half of them.
    connections_per_source: u64 = 4096;
    /// Seconds from the first byte of a request head to its last (slowloris).
    head_seconds: u64 = 10;
    /// Seconds a kept-alive connection may stay silent between requests.
    idle_seconds: u64 = 75;
    /// Seconds for a TLS handshake inside a tunnel.
    handshake_seconds: u64 = 10;
    /// Seconds for a whole request body.
    body_seconds: u64 = 120;
    /// Bytes of one request head.
    head_bytes: u64 = 16 * 1024;
    /// Bytes of one header line.
    line_bytes: u64 = 8 * 1024;
    /// Bytes of a request target.
    target_bytes: u64 = 4 * 1024;
    /// Headers in one request.
    headers: u64 = 100;
    /// Bytes of one request body, unless the destination says `max_body`.
    body_bytes: u64 = 32 << 20;
    /// Bytes of all request bodies held in memory at once.
    body_budget_bytes: u64 = 256 << 20;
    /// Leaf certificates kept; one per host name.
    leaves: u64 = 4096;
    /// New leaf certificates one agent may cause in a minute.
    leaves_per_minute: u64 = 600;
    /// Seconds to resolve an upstream name.
    resolve_seconds: u64 = 2;
    /// Names looked up at once, half of them for one agent; each takes a thread until the resolver answers.
    lookups: u64 = 64;
    /// Addresses taken from one DNS answer.
    addresses: u64 = 16;
    /// Seconds to open a TCP connection to one upstream, and again for its TLS handshake.
    connect_seconds: u64 = 10;
    /// Seconds an open connection to an upstream waits for the next request to it.
    upstream_idle_seconds: u64 = 30;
    /// Open connections that wait for one agent and one destination.
    upstream_idle: u64 = 64;
    /// Seconds from sending a request until the head of its reply.
    reply_head_seconds: u64 = 300;
    /// Seconds an upstream may stay silent in the middle of a reply.
    reply_idle_seconds: u64 = 300;
    /// Seconds from the head of a reply to its end.
    reply_seconds: u64 = 24 * 60 * 60;
    /// Bytes of one reply.
    reply_bytes: u64 = 64 << 30;
    /// Bytes of all replies that wait in memory for their clients to read them, half of them for one agent.
    reply_budget_bytes: u64 = 128 << 20;
    /// Bytes of an encoded reply that is decoded to look for a credential in it; a longer one is withheld.
    encoded_reply_bytes: u64 = 8 << 20;
    /// Seconds a client may leave a reply unread before it counts as gone.
    write_seconds: u64 = 30;
    /// Bytes of the reply to an approved request that the mailbox keeps.
    mailbox_bytes: u64 = 32 << 20;
    /// Bytes of all sealed requests and replies on disk.
    sealed_bytes: u64 = 1 << 30;
    /// Hours a sealed request or reply is kept after its intent ended.
    retention_hours: u64 = 7 * 24;
    /// Seconds a repeated idempotency key is answered with the first result; at most as long as replies are kept.
    idempotency_seconds: u64 = 24 * 60 * 60;
    /// Seconds a runner has to carry out its order and to report.
    order_seconds: u64 = 15 * 60;
    /// Milliseconds to wait for the ledger before a request is refused.
    ledger_millis: u64 = 4000;
    /// Submissions that may wait for the ledger's writer.
    ledger_queue: u64 = 4096;
    /// Bytes of the disk kept free for what must still be recorded; with less, nothing new is allowed or held.
    reserve_bytes: u64 = 64 << 20;
    /// Milliseconds to wait for a secret.
    secret_millis: u64 = 5000;
    /// Bytes of one secret.
    secret_bytes: u64 = 64 * 1024;
    /// Intents one agent may have waiting for approval.
    pending_per_agent: u64 = 20;
    /// Intents waiting for approval in all.
    pending: u64 = 1000;
    /// Seconds a caller may wait for a decision on an open connection.
    wait_seconds: u64 = 600;
    /// Bytes of one WebSocket message.
    websocket_message_bytes: u64 = 16 << 20;
    /// Refusals of one kind and one source recorded one by one in a second; the rest become one counted entry.
    refusals_per_second: u64 = 20;
    /// Seconds a shutdown waits for requests under way.
    drain_seconds: u64 = 20;
}

impl Limits {
    /// A number of seconds from the table as a duration.
    pub fn seconds(value: u64) -> Duration {
        Duration::from_secs(value)
    }

    /// A number of milliseconds from the table as a duration.
    pub fn millis(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    /// What one fetch of a secret may take.
    pub fn of_secrets(&self) -> vault::Limits {
        vault::Limits { deadline: Limits::millis(self.secret_millis), max_bytes: Limits::size(self.secret_bytes) }
    }

    /// A number of bytes or items as a length in memory.
    pub fn size(value: u64) -> usize {
        usize::try_from(value).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_every_limit_with_its_default() {
        let readme = include_str!("../../README.md");
        for (name, default) in Limits::TABLE {
            assert!(readme.contains(&format!("| `{name}` | {default} |")), "`{name}` is {default}");
        }
    }
}
