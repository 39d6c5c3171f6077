//! Which requests are one request sent again: by the key that the agent sends with it, or by a value in it.
//!
//! Says only what the key is. Whether it was seen before is for whoever keeps the record.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::content::Content;
use crate::destination::Destination;
use crate::extract::Extractor;
use crate::facts::Facts;
use crate::fault::Faults;
use crate::yaml::{Step, below};

/// `idempotency` of a destination as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdempotencyEntry {
    key: Option<String>,
    #[serde(default)]
    honoured: bool,
}

/// Where the key of a request stands, and whether the upstream looks at such keys itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Idempotency {
    /// The `Idempotency-Key` header when there is none.
    place: Option<Extractor>,
    honoured: bool,
}

// === impl Idempotency ===

impl Idempotency {
    /// Compiles the entry that stands at `at`.
    pub(crate) fn compile(entry: &IdempotencyEntry, at: &[Step<'_>], faults: &mut Faults<'_>) -> Self {
        let mut place = None;
        match entry.key.as_deref().map(Extractor::parse) {
            Some(Ok(extractor)) => place = Some(extractor),
            Some(Err(flaw)) => faults.note_flaw(&below(at, &[Step::Key("key")]), flaw),
            None => {}
        }
        Self { place, honoured: entry.honoured }
    }
}

// === impl Destination ===

impl Destination {
    /// Whether the upstream does the same thing once for one `Idempotency-Key`.
    pub fn honours_idempotency(&self) -> bool {
        self.idempotency.honoured
    }

    /// The key under which a request is carried out once; `None` when it may be repeated. Of requests that change
    /// nothing, and of those that the destination has no place for, only the header's is looked at.
    ///
    /// # Errors
    ///
    /// Why a request has no single key where it must have one.
    pub fn idempotency_key(&self, facts: &Facts) -> Result<Option<String>, String> {
        let place = match &self.idempotency.place {
            Some(place) => place,
            None if is_safe(&facts.method) || facts.header(HEADER).next().is_none() => return Ok(None),
            None => &Extractor::Header(HEADER.to_owned()),
        };
        let content = Content::new(facts);
        let reading = place.measure(&content, std::slice::from_ref(place)).map_err(|why| why.to_string())?;
        let key = match reading.all().as_ref() {
            [key] if matches!(place, Extractor::Header(name) if name == HEADER) => unquoted(key)?,
            [key] => key.clone(),
            _ => return Err("there is not one value".to_owned()),
        };
        if (1..=MAX_KEY).contains(&key.len()) {
            Ok(Some(key))
        } else {
            Err(format!("it is not 1 to {MAX_KEY} octets long"))
        }
    }
}

/// The key itself: the draft of the header makes it a string of structured fields (RFC 9651 section 3.3.3), most clients
/// send it bare, and upstreams take either for the same.
fn unquoted(value: &str) -> Result<String, String> {
    let Some(quoted) = value.strip_prefix('"') else { return Ok(value.to_owned()) };
    let malformed = || "it begins with a quote and is no string of structured fields".to_owned();
    let mut rest = quoted.strip_suffix('"').ok_or_else(malformed)?.chars();
    let mut key = String::new();
    while let Some(next) = rest.next() {
        match next {
            '\\' => key.push(rest.next().filter(|escaped| matches!(escaped, '"' | '\\')).ok_or_else(malformed)?),
            '"' => return Err(malformed()),
            plain => key.push(plain),
        }
    }
    Ok(key)
}

/// Whether the method is defined to change nothing (RFC 9110 section 9.2.1).
fn is_safe(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS"].contains(&method)
}

/// The header of a key, as most payment APIs read it.
const HEADER: &str = "idempotency-key";

/// Octets of a key; Stripe's limit.
const MAX_KEY: usize = 255;
