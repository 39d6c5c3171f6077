//! The ledger: everything durable that says what agents did and who allowed it.
//!
//! Owns the journal (one file of hash-chained lines per day), the index over it, stored texts and sealed bodies, and one
//! value nobody else can make: the [`Receipt`], proof that an entry survives a power cut. An append returns after
//! `fdatasync`; whoever must not act without a record asks for a receipt.
//!
//! Without the feature `store`, which is on by default, what is left reads and checks [`evidence`]: no database, no
//! network, no C. `writ-verify` is built so.
//!
//! Knows which events can follow each other ([`next`]), what is reserved, taken or switched off, so two racing decisions
//! become one. Refuses to know why a request is allowed, what a secret is, or that there is a network.
//!
//! ```
//! use ledger::{Draft, EventType, Ledger, Options};
//!
//! # let home = tempfile::tempdir()?;
//! let dir = home.path().join("data");
//! Ledger::create(&dir, "example.com/gate")?;
//! let ledger = Ledger::open(Options { dir: dir.clone(), queue: 1024, reserve_bytes: 0 })?;
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
//!
//! A draft may reserve part of a budget or take a key that is there once in a while. The entry is recorded with that or
//! not at all; what an execution reserved is given back if it fails without a byte sent.
//!
//! ```
//! use ledger::{AppendError, Draft, EventType, Ledger, Once, Options, Reservation};
//!
//! # let home = tempfile::tempdir()?;
//! # Ledger::create(home.path(), "example.com/gate")?;
//! # let ledger = Ledger::open(Options { dir: home.path().to_owned(), queue: 1024, reserve_bytes: 0 })?;
//! let refund = |correlation: &str, amount: &str| -> Result<Draft, Box<dyn std::error::Error>> {
//!     let day = Reservation {
//!         key: "finance/agent/crawler/day".to_owned(),
//!         amount: amount.parse()?,
//!         limit: 100.into(),
//!         window_seconds: 86_400,
//!     };
//!     let same = Once { key: format!("dedupe/stripe.refunds/{amount}"), digest: None, seconds: 600 };
//!     Ok(Draft::new(EventType::DecisionAllowed).correlation(correlation).reserving(&[day]).once(&[same]))
//! };
//! let first = ledger.append_blocking(vec![refund("corr_1", "60.50")?])?;
//! assert_eq!(ledger.spent("finance/agent/crawler/day", 86_400), "60.5".parse()?);
//!
//! let again = ledger.append_blocking(vec![refund("corr_2", "60.50")?]);
//! assert!(matches!(again, Err(AppendError::Duplicate { first }) if first.correlation_id.as_deref() == Some("corr_1")));
//! let more = ledger.append_blocking(vec![refund("corr_3", "39.51")?]);
//! assert!(matches!(more, Err(AppendError::OverBudget { retry_after_seconds: Some(_), .. })));
//!
//! let unsent = Draft::new(EventType::ActionFailed).correlation("corr_1").with("sent", false);
//! let receipts = ledger.append_blocking(vec![unsent])?;
//! assert_eq!(ledger.spent("finance/agent/crawler/day", 86_400), 0.into());
//! # drop((first, receipts));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(
    not(feature = "store"),
    expect(dead_code, reason = "a verifier reads what a gate writes, with the same types")
)]

mod amount;
mod append;
#[cfg(feature = "store")]
mod backlog;
#[cfg(feature = "store")]
mod batch;
mod budget;
pub mod chain;
pub mod checkpoint;
#[cfg(feature = "store")]
mod checkpoints;
#[cfg(feature = "store")]
mod closed;
#[cfg(feature = "store")]
pub mod crash;
#[cfg(feature = "store")]
mod durable;
mod event;
pub mod evidence;
#[cfg(feature = "store")]
mod figures;
#[cfg(feature = "store")]
mod follower;
#[cfg(feature = "store")]
mod group;
#[cfg(feature = "store")]
mod handle;
#[cfg(feature = "store")]
mod home;
#[cfg(feature = "store")]
mod index;
mod intent;
#[cfg(feature = "store")]
mod journal;
mod kind;
pub mod note;
mod once;
#[cfg(feature = "store")]
mod open;
mod passing;
#[cfg(feature = "store")]
mod past;
mod principal;
#[cfg(feature = "store")]
mod query;
#[cfg(feature = "store")]
mod replay;
#[cfg(feature = "store")]
mod sealed;
#[cfg(feature = "store")]
mod shared;
#[cfg(feature = "store")]
mod space;
mod standing;
#[cfg(feature = "store")]
mod state;
#[cfg(feature = "store")]
mod store;
mod switch;
#[cfg(feature = "store")]
mod texts;
#[cfg(feature = "store")]
mod tile;
pub mod tree;
#[cfg(feature = "store")]
mod trial;
#[cfg(feature = "store")]
mod verify;
#[cfg(feature = "store")]
pub mod witness;
#[cfg(feature = "store")]
mod writer;

pub use amount::{Amount, NotAnAmount};
pub use append::{AppendError, Receipt};
pub use budget::Reservation;
#[cfg(feature = "store")]
pub use closed::{ArchiveError, Archived, archive};
pub use event::{Draft, Event};
#[cfg(feature = "store")]
pub use figures::{Figures, Histogram};
#[cfg(feature = "store")]
pub use handle::{Head, Ledger, Options};
pub use intent::{Illegal, Intent, Opening, State, next};
pub use kind::{EventType, Kind, UnknownType};
pub use once::{Once, Taken};
#[cfg(feature = "store")]
pub use open::{OpenError, rebuild, signing_key};
#[cfg(feature = "store")]
pub use past::{Page, Past};
pub use principal::{Principal, Status};
#[cfg(feature = "store")]
pub use query::{Query, ReadError};
#[cfg(feature = "store")]
pub use sealed::{Limits, SealError, Sealed};
#[cfg(feature = "store")]
pub use space::Room;
pub use standing::Standing;
pub use switch::{KillSwitch, KillSwitches};
#[cfg(feature = "store")]
pub use verify::{Verified, VerifyError, verify, verify_against};
