//! The ledger: everything durable that says what agents did and who allowed it.
//!
//! Owns the journal (one file of hash-chained lines per day), the index over it, stored texts and sealed bodies, and one
//! value nobody else can make: the [`Receipt`], proof that an entry survives a power cut. An append returns after
//! `fdatasync`; whoever must not act without a record asks for a receipt.
//!
//! Knows which events can follow each other ([`next`]), so two racing decisions become one. Refuses to know why a
//! request is allowed, what a secret is, or that there is a network.
//!
//! ```
//! use ledger::{Draft, EventType, Ledger, Options};
//!
//! # let home = tempfile::tempdir()?;
//! let dir = home.path().join("data");
//! Ledger::create(&dir, "example.com/gate")?;
//! let ledger = Ledger::open(Options { dir: dir.clone(), queue: 1024 })?;
//!
//! let allowed = Draft::new(EventType::DecisionAllowed).correlation("corr_1").agent("crawler").with("rule", "reads");
//! let receipts = ledger.append_blocking(vec![allowed])?;
//! assert_eq!(receipts[0].seq(), 1); // entry 0 is `ledger.created`
//!
//! let outcome = Draft::new(EventType::ActionExecuted).correlation("corr_1").agent("crawler").with("status", 200);
//! let receipts = ledger.append_blocking(vec![outcome])?;
//! ledger.close()?;
//!
//! let verified = ledger::verify(&dir)?;
//! assert_eq!(verified.entries, 3);
//! assert_eq!(verified.head_hash, receipts[0].entry_hash());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod append;
mod backlog;
mod batch;
pub mod chain;
pub mod checkpoint;
pub mod crash;
mod durable;
mod event;
pub mod evidence;
mod follower;
mod handle;
mod home;
mod intent;
mod journal;
mod kind;
pub mod note;
mod open;
mod past;
mod principal;
mod query;
mod sealed;
mod shared;
mod state;
mod store;
mod texts;
pub mod tree;
mod verify;
mod writer;

pub use append::{AppendError, Receipt};
pub use event::{Draft, Event};
pub use handle::{Head, Ledger, Options};
pub use intent::{Illegal, Intent, Opening, State, next};
pub use kind::{EventType, Kind, UnknownType};
pub use open::{OpenError, rebuild, signing_key};
pub use past::{Page, Past};
pub use principal::{Principal, Status};
pub use query::{Query, ReadError};
pub use sealed::{Limits, SealError, Sealed};
pub use verify::{Verified, VerifyError, verify};
