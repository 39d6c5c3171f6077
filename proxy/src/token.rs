//! A gate token in a request that would leave: in no header, target or body, as it is or encoded.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use policy::Facts;

/// Whether a token stands anywhere in what would be sent, as it is, percent-encoded or in base64.
pub fn is_in(facts: &Facts) -> bool {
    let query = facts.query.as_deref().map(|query| query.replace("%5F", "_").replace("%5f", "_"));
    let headers = facts.headers.iter().map(|(_, value)| value.as_str());
    let mut texts = headers.chain([facts.path.as_str()]).chain(query.as_deref());
    texts.any(|text| has_mark(text.as_bytes())) || has_mark(facts.body.bytes())
}

fn has_mark(bytes: &[u8]) -> bool {
    SEARCH.as_ref().is_none_or(|search| search.is_match(bytes))
}

/// All marks at once, in one pass. Without it nothing would leave.
static SEARCH: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(MARKS).ok());

/// What every token starts with (see [`Kind::prefix`](crate::principal::Kind::prefix)), and the same in base64 at its
/// three alignments, without the characters that depend on what stands beside it.
const MARKS: &[&str] =
    &["writ_agt_", "writ_op_", "d3JpdF9hZ3Rf", "dyaXRfYWd0X", "3cml0X2FndF", "d3JpdF9vcF", "dyaXRfb3Bf", "3cml0X29wX"];
