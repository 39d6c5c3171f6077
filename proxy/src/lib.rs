//! The gate: an enforcing forward and reverse proxy for AI agents. No writ, no write.
//!
//! This crate is where the four libraries meet. `policy` decides, `ledger` records, `vault` lends secrets, `ca` signs
//! leaves; none of them knows another, and only here a request passes from one to the next. Follow it in the order of
//! the files: [`listen`], [`tunnel`] and [`reverse`] accept, [`framed`] with
//! [`requests`] and [`head`] let only plain HTTP/1.1 through, [`exchange`]
//! is the way of a request from top to bottom, [`permit`] is the proof that it is recorded, [`upstream`] sends it,
//! [`relay`] brings the reply back. [`refusal`] is every way out that is not a reply.

pub mod access_tokens;
pub mod address;
pub mod agent;
pub mod ahead;
pub mod answer;
pub mod body;
pub mod canonical;
pub mod cases;
pub mod chunk;
pub mod cli;
pub mod config;
pub mod confine;
pub mod credential;
pub mod declared;
pub mod demo;
pub mod dialect;
pub mod doctor;
pub mod door;
mod downtime;
pub mod drain;
pub mod enrol;
pub mod environment;
pub mod exchange;
pub mod flood;
pub mod framed;
pub mod frames;
pub mod gate;
pub mod head;
pub mod health;
pub mod hold;
pub mod home;
pub mod id;
pub mod import;
pub mod inject;
pub mod intents;
pub mod limits;
pub mod listen;
pub mod mailbox;
pub mod metrics;
pub mod mint;
pub mod neighbour;
pub mod notify;
pub mod operator;
pub mod orders;
pub mod outbound;
pub mod parked;
pub mod path;
pub mod patient;
pub mod permit;
pub mod pool;
pub mod principal;
mod readings;
pub mod record;
pub mod recorded;
pub mod refusal;
pub mod relay;
pub mod repeat;
pub mod replies;
pub mod requests;
pub mod respond;
pub mod reverse;
pub mod reviewer;
pub mod routes;
pub mod rulebook;
pub mod run;
pub mod schema;
pub mod scrub;
pub mod setup;
pub mod shares;
pub mod span;
pub mod standing;
pub mod token;
pub mod trial;
pub mod trust;
pub mod truststore;
pub mod tunnel;
pub mod turns;
mod unfetched;
pub mod up;
pub mod upstream;
pub mod websocket;
pub mod withheld;
pub mod witness;
