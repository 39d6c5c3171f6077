//! Detectors of secrets and personal data: a pattern, and a check of what it finds.
//!
//! The patterns are wide and the checks narrow: a card number has a known issuer and a right last digit, an account
//! number the length of its country and a right remainder. What is found never leaves this crate.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use regex::Regex;

use crate::check::compile_pattern;

/// Finds one kind of data.
#[derive(Debug)]
pub(crate) struct Detector {
    pub(crate) id: String,
    pattern: Regex,
    check: Check,
}

/// Adds the data in what the pattern finds, in one spelling.
type Check = fn(&str, &mut Finds);

/// The different data that one detector found, of which only a bounded number is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finds(BTreeSet<String>);

/// A detector that is known by its id.
struct BuiltIn {
    id: &'static str,
    personal: bool,
    pattern: &'static str,
    check: Check,
}

// === impl Detector ===

impl Detector {
    /// The built-in detector of this id; none for another id.
    pub(crate) fn built_in(id: &str) -> Option<Self> {
        let known = BUILT_IN.iter().find(|known| known.id == id)?;
        let pattern = Regex::new(known.pattern).ok()?;
        Some(Self { id: id.to_owned(), pattern, check: known.check })
    }

    /// A detector for whatever the pattern finds.
    pub(crate) fn custom(id: String, pattern: &str) -> Result<Self, &'static str> {
        let pattern = compile_pattern(pattern)?;
        let empty = pattern.is_match("");
        if empty { Err("the pattern matches an empty text") } else { Ok(Self { id, pattern, check: whole }) }
    }

    /// The pattern as it is written.
    pub(crate) fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    /// Adds what the text has to what was found before; the same data in several places counts once.
    pub(crate) fn find(&self, text: &str, found: &mut Finds) {
        for hit in self.pattern.find_iter(text) {
            if found.is_full() {
                return;
            }
            (self.check)(hit.as_str(), found);
        }
    }
}

// === impl Finds ===

impl Finds {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is so much that more makes no difference.
    fn is_full(&self) -> bool {
        self.len() >= MAX_FOUND
    }

    fn add(&mut self, data: &str) {
        if !self.is_full() && !self.0.contains(data) {
            self.0.insert(data.to_owned());
        }
    }
}

/// The ids of all built-in detectors, or of those of personal data.
pub(crate) fn ids(personal_only: bool) -> Vec<&'static str> {
    BUILT_IN.iter().filter(|known| known.personal || !personal_only).map(|known| known.id).collect()
}

/// Whether a built-in detector of this id finds secrets, not personal data.
pub(crate) fn is_secret(id: &str) -> bool {
    BUILT_IN.iter().any(|known| known.id == id && !known.personal)
}

fn whole(hit: &str, found: &mut Finds) {
    found.add(hit);
}

/// The digits with their separators taken out, if they are as many as a telephone number has.
fn phone(hit: &str, found: &mut Finds) {
    let digits: String = hit.chars().filter(char::is_ascii_digit).collect();
    if (8..=15).contains(&digits.len()) {
        found.add(&digits);
    }
}

/// A US social security number that can have been given out.
fn ssn(hit: &str, found: &mut Finds) {
    let never = hit.starts_with("000") || hit.starts_with("666") || hit.starts_with('9');
    let empty = hit.contains("-00-") || hit.ends_with("0000");
    if !never && !empty {
        found.add(hit);
    }
}

fn cards(run: &str, found: &mut Finds) {
    each_joined(run, 13..=19, |digits| {
        if has_issuer(digits) && luhn(digits) {
            found.add(digits);
        }
        !found.is_full()
    });
}

fn ibans(run: &str, found: &mut Finds) {
    each_joined(run, 15..=34, |text| {
        let text = text.to_ascii_uppercase();
        if is_iban(&text) {
            found.add(&text);
        }
        !found.is_full()
    });
}

/// Shows the texts that consecutive groups of a run spell when they are written together, as long as more are wanted.
/// One text at a time: a run may be as long as a body and have a group of every second octet.
fn each_joined(run: &str, lengths: RangeInclusive<usize>, mut show: impl FnMut(&str) -> bool) {
    let mut groups = run.split([' ', '-']).filter(|group| !group.is_empty());
    let mut text = String::new();
    let mut from = groups.clone();
    while groups.next().is_some() {
        text.clear();
        for group in from {
            if text.len().saturating_add(group.len()) > *lengths.end() {
                break;
            }
            text.push_str(group);
            if lengths.contains(&text.len()) && !show(&text) {
                return;
            }
        }
        from = groups.clone();
    }
}

/// Whether beginning and length are those of an issuer (ISO/IEC 7812).
fn has_issuer(digits: &str) -> bool {
    let begins = |from: u32, to: u32, places: usize| {
        digits.get(..places).and_then(|start| start.parse().ok()).is_some_and(|start: u32| (from..=to).contains(&start))
    };
    match digits.len() {
        13 => begins(4, 4, 1),
        14 => begins(36, 36, 2) || begins(38, 39, 2) || begins(300, 305, 3),
        15 => begins(34, 34, 2) || begins(37, 37, 2),
        16 => {
            begins(4, 4, 1)
                || begins(51, 55, 2)
                || begins(2221, 2720, 4)
                || begins(3528, 3589, 4)
                || begins(6011, 6011, 4)
                || begins(644, 659, 3)
                || begins(62, 62, 2)
        }
        17..=19 => begins(4, 4, 1) || begins(62, 62, 2),
        _ => false,
    }
}

/// The check of ISO/IEC 7812-1, annex B.
fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit.saturating_sub(b'0'));
            let doubled = if place % 2 == 1 { digit.saturating_mul(2) } else { digit };
            if doubled > 9 { doubled.saturating_sub(9) } else { doubled }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The check of ISO 13616: the length of the country, and a remainder of 1.
fn is_iban(text: &str) -> bool {
    let Some((start, rest)) = text.split_at_checked(4) else { return false };
    let length = COUNTRIES.iter().find(|(_, countries)| countries.split(' ').any(|country| start.starts_with(country)));
    if length.is_none_or(|(length, _)| *length != text.len()) {
        return false;
    }
    let remainder = rest.chars().chain(start.chars()).try_fold(0u32, |remainder, c| {
        let value = c.to_digit(36)?;
        let shifted = remainder.checked_mul(if value > 9 { 100 } else { 10 })?;
        Some(shifted.checked_add(value)? % 97)
    });
    remainder == Some(1)
}

/// So many finds of one detector are counted, and looked for.
const MAX_FOUND: usize = 10_000;

/// Ordered by id. The documentation lists them for users.
const BUILT_IN: [BuiltIn; 19] = [
    secret("anthropic-key", r"sk-ant-[A-Za-z0-9_-]{20,}"),
    secret("aws-key", r"(?-u:\b)(?:AKIA|ASIA)[0-9A-Z]{16}(?-u:\b)"),
    BuiltIn { id: "card", personal: true, pattern: r"[0-9](?:[ -]?[0-9]){12,}", check: cards },
    BuiltIn {
        id: "email",
        personal: true,
        pattern: r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24}",
        check: whole,
    },
    secret("github-token", r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}"),
    secret("gitlab-token", r"glpat-[A-Za-z0-9_-]{20,}"),
    secret("google-key", r"AIza[0-9A-Za-z_-]{35}"),
    BuiltIn { id: "iban", personal: true, pattern: r"(?i-u:\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]+){1,40})", check: ibans },
    secret("jwt", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    secret("npm-token", r"npm_[A-Za-z0-9]{36}"),
    secret("openai-key", r"sk-(?:proj-|svcacct-|admin-)[A-Za-z0-9_-]{20,}|sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
    BuiltIn {
        id: "phone",
        personal: true,
        pattern: r"\+[0-9][0-9 ().-]{6,20}[0-9]|(?-u:\b|\()[2-9][0-9]{2}(?:\) ?|[ .-])[0-9]{3}[ .-][0-9]{4}(?-u:\b)",
        check: phone,
    },
    secret("private-key", r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
    secret("sendgrid-key", r"SG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}"),
    secret("slack-token", r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}"),
    secret("slack-webhook", r"hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{16,}"),
    secret("stripe-key", r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{24,}"),
    BuiltIn { id: "us-ssn", personal: true, pattern: r"(?-u:\b)[0-9]{3}-[0-9]{2}-[0-9]{4}(?-u:\b)", check: ssn },
    secret("writ-token", r"writ_(?:agt|op)_[A-Za-z0-9]{20,}"),
];

const fn secret(id: &'static str, pattern: &'static str) -> BuiltIn {
    BuiltIn { id, personal: false, pattern, check: whole }
}

/// Lengths of account numbers by country (ISO 13616 registry).
const COUNTRIES: [(usize, &str); 17] = [
    (15, "NO"),
    (16, "BE"),
    (18, "DK FI NL"),
    (19, "MK SI"),
    (20, "AT BA EE KZ LT LU XK"),
    (21, "CH HR LI LV"),
    (22, "BG BH CR DE GB GE IE ME RS VA"),
    (23, "AE GI IL IQ TL"),
    (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
    (25, "PT ST"),
    (26, "IS TR"),
    (27, "BI FR GR IT MC SM"),
    (28, "AL AZ BY CY DO GT HU LB PL SV"),
    (29, "BR EG PS QA UA"),
    (30, "JO KW MU"),
    (31, "MT SC"),
    (33, "RU"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn count(id: &str, text: &str) -> usize {
        let mut found = Finds::default();
        Detector::built_in(id).unwrap().find(text, &mut found);
        found.len()
    }

    #[test]
    fn every_detector_compiles_and_is_listed_in_order() {
        let all = ids(false);
        assert!(all.is_sorted());
        for id in &all {
            assert!(Detector::built_in(id).is_some(), "{id}");
        }
        assert_eq!(ids(true), ["card", "email", "iban", "phone", "us-ssn"]);
    }

    #[test]
    fn a_long_run_is_judged_in_bounds() {
        let groups = 1024 * 1024;
        let run = "123 ".repeat(groups);
        let (mut shown, mut longest) = (0, 0);
        each_joined(&run, 13..=19, |text| {
            (shown, longest) = (shown + 1, longest.max(text.len()));
            true
        });
        // Five and six groups are of a wanted length, and the last groups have not so many after them.
        assert_eq!((shown, longest), (2 * groups - 4 - 5, 18));
        let mut shown = 0;
        each_joined(&run, 13..=19, |_| {
            shown += 1;
            shown < 3
        });
        assert_eq!(shown, 3, "nothing is looked for when there is enough");
    }

    #[test]
    fn finds_are_bounded() {
        let many: String = (0..MAX_FOUND + 5).map(|at| format!("a{at}@example.com ")).collect();
        assert_eq!(count("email", &many), MAX_FOUND);
        let mut digits = 7u32;
        let mut next = || {
            digits = digits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if digits >> 31 == 0 { "4 " } else { "2 " }
        };
        let torn: String = (0..200_000).map(|_| next()).collect();
        assert_eq!(count("card", &torn), MAX_FOUND);
    }

    /// Secrets are put together here so that no scanner takes this file for a leak.
    #[test]
    fn finds_secrets() {
        let long = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0";
        let part = |length: usize| long.chars().take(length).collect::<String>();
        let table = [
            ("aws-key", format!("key={}IOSFODNN7EXAMPLE", "AKIA")),
            ("anthropic-key", format!("sk-{}-api03-{long}", "ant")),
            ("github-token", format!("ghp_{long}")),
            ("github-token", format!("github_{}_{long}", "pat")),
            ("gitlab-token", format!("glpat-{long}")),
            ("google-key", format!("AIza{}", part(35))),
            ("jwt", "x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc".to_owned()),
            ("npm-token", format!("npm_{}", part(36))),
            ("openai-key", format!("sk-proj-{long}")),
            ("private-key", format!("-----BEGIN {} KEY-----", "RSA PRIVATE")),
            ("private-key", format!("-----BEGIN {} KEY-----", "PRIVATE")),
            ("sendgrid-key", format!("SG.{}.{long}", part(22))),
            ("slack-token", format!("xoxb-{}", "123456789012-abcdef")),
            ("slack-webhook", format!("https://hooks.slack.com/services/T00000000/B00000000/{}", part(24))),
            ("stripe-key", format!("sk_live_{}", part(24))),
            ("writ-token", format!("writ_agt_{long}")),
        ];
        for (id, text) in table {
            assert_eq!(count(id, &text), 1, "{id}");
        }
    }

    #[test]
    fn finds_personal_data() {
        let table = [
            ("card", "4242424242424242", 1),
            ("card", "4242 4242 4242 4242", 1),
            ("card", "12 4242-4242-4242-4242 99", 1),
            ("card", "5555555555554444 and 378282246310005, 5555 5555 5555 4444", 2),
            ("card", "4242424242424241", 0),
            ("card", "1234567812345670", 0),
            ("card", "94242424242424242", 0),
            ("card", "1700000000000", 0),
            ("iban", "DE89 3704 0044 0532 0130 00", 1),
            ("iban", "pay to gb29nwbk60161331926819 or DE89370400440532013000 now", 2),
            ("iban", "DE89 3704 0044 0532 0130 01", 0),
            ("iban", "DE89 3704 0044 0532 0130", 0),
            ("email", "Jo <jo.d+x@mail.example.co.uk>", 1),
            ("email", "@channel see a@b", 0),
            ("phone", "+49 (30) 1234-567 or (415) 555-2671 or 415.555.2671", 2),
            ("phone", "+1 2 3", 0),
            ("us-ssn", "123-45-6789 000-12-3456 123-45-67890", 1),
        ];
        for (id, text, expected) in table {
            assert_eq!(count(id, text), expected, "{id}: {text}");
        }
    }
}
