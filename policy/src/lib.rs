//! Owns the decision: what a request's facts mean under the operator's destinations and policies.
//!
//! The crate makes [`Grant`]s, and nothing else can. It is pure: it refuses to know of sockets, files, clocks, secrets
//! and the ledger. Time, votes and texts are handed in.
//!
//! ```
//! use std::collections::BTreeSet;
//!
//! use policy::{Authority, Body, Decision, Facts, Rules, Scheme, Source};
//!
//! let destinations = Source {
//!     name: "destinations.yaml".to_owned(),
//!     text: "destinations:
//!   - key: stripe.refunds
//!     match: { host: api.stripe.com, methods: [POST], path: /v1/refunds }
//!     effect: payment
//!     policy: refunds
//!     measure: { amount: 'form:amount' }
//! "
//!     .to_owned(),
//! };
//! let refunds = Source { name: "policies/refunds.yaml".to_owned(), text: "auto_approve_under: {amount: 5000}".to_owned() };
//! let rules = Rules::load(&destinations, &[("refunds".to_owned(), refunds)], Some(&BTreeSet::new()), None)?;
//!
//! let facts = Facts {
//!     agent: "support".to_owned(),
//!     method: "POST".to_owned(),
//!     authority: Authority::parse(Scheme::Https, "api.stripe.com")?,
//!     path: "/v1/refunds".to_owned(),
//!     query: None,
//!     headers: vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
//!     body: Body::new("charge=ch_1&amount=9900".into()),
//!     votes: Vec::new(),
//!     unanswered: false,
//!     lost: Vec::new(),
//! };
//! let Decision::Hold(hold) = rules.decide(&facts, "2026-01-01T00:00:00Z".parse()?) else { unreachable!() };
//! assert_eq!(hold.basis.rules[0].rule, "refunds/auto_approve_under");
//! assert_eq!(hold.basis.rules[0].reason, "`amount` is 9900, over the limit of 5000");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod allowed_types;
mod approval;
mod approval_for;
mod authority;
mod basis;
mod calls;
mod case;
mod check;
mod condition;
mod content;
mod csv;
mod decide;
mod decimal;
mod destination;
mod detector;
mod dlp;
mod document;
mod encoding;
mod execute;
mod explain;
mod extract;
mod facts;
mod fault;
mod field;
mod form;
mod glob;
mod graphql;
mod idempotency;
mod index;
mod json;
mod judged;
mod limit;
mod manifest;
mod measure;
mod multipart;
mod overlap;
mod pattern;
mod policy;
mod policy_file;
mod profile;
mod recipients;
mod rest;
mod risk;
mod rpc;
mod rule;
mod rules;
mod scan;
pub mod schema;
mod shadow;
mod spelling;
mod standing;
mod template;
mod texts;
mod thresholds;
mod unescape;
mod views;
mod window;
pub mod yaml;

pub use authority::{Authority, AuthorityError, Host, Scheme};
pub use basis::{Basis, Match, Verdict};
pub use calls::RpcIds;
pub use decide::{Decision, Denial, Grant, Hold, NoResponse};
pub use destination::{Destination, Effect, Upgrade};
pub use document::Source;
pub use encoding::{decoded, most_decoded};
pub use execute::{Execute, Executor};
pub use explain::{Considered, Explanation, Fact};
pub use facts::{Ballot, Body, Facts, Vote};
pub use fault::{Code, Fault, Faults, Invalid, Severity};
pub use limit::{Lost, Once, Reservation};
pub use manifest::Manifest;
pub use profile::ProfileKind;
pub use risk::{Level, Risk};
pub use rules::Rules;
pub use standing::Standing;
