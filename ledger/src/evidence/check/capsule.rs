//! Checking a proof capsule: its lines like those of a bundle, and that everything else in it follows from them.

use std::io::BufRead;

use serde_json::Value;

use super::{Rest, Stop, check_trust, hashes, read_whole, refused};
use crate::event::Event;
use crate::evidence::capsule;
use crate::evidence::report::Checked;
use crate::evidence::walk::{Subject, walk};
use crate::evidence::{Code, Trust};

/// Checks everything.
pub(super) fn check(source: &mut impl BufRead, trust: &Trust) -> Result<Checked, Stop> {
    let bytes = read_whole(source, MAX_BYTES)?.ok_or_else(|| refused(Code::Capsule, "it is larger than 64 MiB"))?;
    let json: Value = serde_json::from_slice(&bytes).map_err(|error| refused(Code::Capsule, error.to_string()))?;
    let (events, frame) = capsule::open(&json).ok_or_else(|| refused(Code::Capsule, "it is not in Writ's shape"))?;
    let read: Result<Vec<Event>, _> = events.iter().map(|event| serde_json::from_value(event.clone())).collect();
    let read = read.map_err(|error| refused(Code::Capsule, format!("it holds what is no event: {error}")))?;
    let again = capsule::text(&capsule::make(read.into_iter(), &frame));
    if again.as_bytes() != bytes {
        return Err(refused(Code::Capsule, "it does not say what its entries say"));
    }
    let rest = Rest::read(frame.checkpoint.as_bytes())?;
    let origin = rest.checkpoint.origin.clone();
    let subject = Subject { origin: &origin, size: rest.checkpoint.size, scope: &frame.scope };
    let mut lines = events.iter();
    let canonical = |event: &Value| {
        serde_json_canonicalizer::to_string(event).map_err(|error| refused(Code::Capsule, error.to_string()))
    };
    let walked = walk(subject, hashes(frame.cover.as_bytes()), |_| lines.next().map(canonical).transpose())?;
    walked.check_root(rest.checkpoint.root)?;
    let key = walked.keys.last().ok_or_else(|| refused(Code::Key, "no entry names a key"))?;
    rest.check_signed(key)?;
    walked.check_scope(&frame.scope)?;
    let cosigned = check_trust(trust, &rest, &walked.keys, b"")?;
    Ok(Checked::of(&rest.checkpoint, &walked, (&frame.scope, &[]), cosigned, trust))
}

/// A capsule is one JSON value, which has to be read whole.
const MAX_BYTES: u64 = 64 << 20;
