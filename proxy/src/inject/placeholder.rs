//! Placeholders: what an agent sends in the place that the gate fills, because its client wants something there.
//!
//! One that stands anywhere else would leave as it is, and tells that a request goes where its credential does not.

use data_encoding::BASE64;
use policy::{Body, Facts};

use super::own::{has_credentials, is_named};
use super::template::{filled, joined, unescaped};
use super::{field, segment};
use crate::credential::{Credential, PLACEHOLDER, Slot};
use crate::readings;
use crate::refusal::Refusal;
use crate::scrub::Needles;

/// Checks the request as the agent made it, before its own credentials are removed. `known` are all placeholders.
///
/// # Errors
/// [`Refusal::PlaceholderRequired`] when the credential of its destination wants its own and it is not there alone,
/// [`Refusal::PlaceholderMisplaced`] when one stands where it is not replaced.
pub(super) fn check(known: &Needles, credential: Option<&Credential>, facts: &Facts) -> Result<(), Refusal> {
    let mut rest = facts.clone();
    if let Some((credential, placeholder)) = credential.and_then(|each| Some((each, each.placeholder.as_deref()?))) {
        let is_there = credential.shape.slot().is_some_and(|slot| take_out(slot, placeholder, &mut rest));
        if credential.requires_placeholder && (!is_there || has_credentials(&credential.shape, &rest)) {
            return Err(Refusal::PlaceholderRequired);
        }
    }
    if readings::any(&rest, |text| known.are_in(text)) { Err(Refusal::PlaceholderMisplaced) } else { Ok(()) }
}

/// Takes the placeholder out of its place. False when something else stands there, or nothing, or more than one thing.
fn take_out(slot: &Slot, placeholder: &str, facts: &mut Facts) -> bool {
    let fill = |template: &str| filled(template, PLACEHOLDER, placeholder);
    match slot {
        Slot::Basic { user, password } => {
            let pair = joined(&[&fill(user), ":", &fill(password)]);
            take_header(facts, "authorization", &format!("Basic {}", BASE64.encode(pair.as_bytes())))
        }
        Slot::Cookie { name } => take_cookie(facts, name, placeholder),
        Slot::Form { field } => {
            let Ok(form) = str::from_utf8(facts.body.bytes()) else { return false };
            let Some(rest) = without_pair(form, field, placeholder) else { return false };
            facts.body = Body::new(rest.into());
            true
        }
        Slot::Header { name, value } => take_header(facts, name, &fill(value)),
        Slot::Json { field } => {
            let Some(rest) = field::without_member(facts.body.bytes(), field, placeholder) else { return false };
            facts.body = Body::new(rest);
            true
        }
        Slot::Path { template } => {
            let found = segment::find(template, &facts.path);
            let text =
                found.clone().and_then(|place| facts.path.get(place)).map(|text| unescaped(text.as_bytes(), false));
            let (Some(place), true) = (found, text.as_deref() == Some(placeholder.as_bytes())) else { return false };
            facts.path = segment::replaced(&facts.path, place, segment::MARK).to_string();
            true
        }
        Slot::Query { name } => {
            let Some(rest) = facts.query.as_deref().and_then(|query| without_pair(query, name, placeholder)) else {
                return false;
            };
            facts.query = Some(rest);
            true
        }
        Slot::Url => false,
    }
}

fn take_header(facts: &mut Facts, name: &str, value: &str) -> bool {
    let given: Vec<&str> =
        facts.headers.iter().filter(|(each, _)| each == name).map(|(_, value)| value.as_str()).collect();
    // The name of a scheme may be spelled in any case (RFC 9110 section 11.1).
    let is_there = given.len() == 1 && given.iter().all(|given| given.eq_ignore_ascii_case(value));
    facts.headers.retain(|(each, _)| !is_there || each != name);
    is_there
}

fn take_cookie(facts: &mut Facts, name: &str, value: &str) -> bool {
    let mut found = 0;
    for (_, cookies) in facts.headers.iter_mut().filter(|(each, _)| each == "cookie") {
        let is_it = |pair: &&str| pair.trim().split_once('=') == Some((name, value));
        found += cookies.split(';').filter(is_it).count();
        *cookies = cookies.split(';').filter(|pair| !is_it(pair)).collect::<Vec<_>>().join(";");
    }
    found == 1
}

/// The pairs without the one of this name, if it is the only one and has this value.
fn without_pair(pairs: &str, name: &str, value: &str) -> Option<String> {
    let (named, others): (Vec<&str>, Vec<&str>) = pairs.split('&').partition(|pair| is_named(pair, name));
    let [pair] = named.as_slice() else { return None };
    let (_, given) = pair.split_once('=')?;
    (unescaped(given.as_bytes(), true) == value.as_bytes()).then(|| others.join("&"))
}
