//! The part of a path that a credential fills: where it is, and the path with something else in its place.

use std::ops::Range;

use zeroize::Zeroizing;

use super::template::joined;
use crate::credential::PLACEHOLDER;

/// The octets of `path` that stand where the template of its first segments says `{secret}`.
pub(super) fn find(template: &str, path: &str) -> Option<Range<usize>> {
    let mut slot = None;
    let mut given = path.split('/');
    let mut at = 0;
    for wanted in template.split('/') {
        let segment = given.next()?;
        if let Some((before, after)) = wanted.split_once(PLACEHOLDER) {
            let inner = segment.strip_prefix(before)?.strip_suffix(after)?;
            let start = at + before.len();
            slot = Some(start..start + inner.len());
        } else if wanted != segment && (wanted != "*" || segment.is_empty()) {
            return None;
        }
        at += segment.len() + 1;
    }
    slot
}

/// The path with `text` in the place of its octets `slot`.
pub(super) fn replaced(path: &str, slot: Range<usize>, text: &str) -> Zeroizing<String> {
    joined(&[path.get(..slot.start).unwrap_or_default(), text, path.get(slot.end..).unwrap_or_default()])
}

/// What stands there in everything that is decided, shown and recorded.
pub(super) const MARK: &str = "-secret-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_found_by_the_template() {
        let table = [
            ("/bot{secret}", "/bot1:a/send", Some("1:a")),
            ("/bot{secret}", "/bot/send", Some("")),
            ("/bot{secret}", "/robot/send", None),
            ("/*/keys/{secret}/x", "/a/keys/k/x/y", Some("k")),
            ("/*/keys/{secret}/x", "//keys/k/x", None),
            ("/*/keys/{secret}/x", "/a/keys/k", None),
            ("/a{secret}b", "/ab", Some("")),
            ("/a{secret}a", "/a", None),
        ];
        for (template, path, expected) in table {
            let found = find(template, path).and_then(|slot| path.get(slot));
            assert_eq!(found, expected, "{template} {path}");
        }
        assert_eq!(replaced("/bot1:a/send", 4..7, "x").as_str(), "/botx/send");
    }
}
