//! Names that another parser may take for one another.
//!
//! Parsers fold case, trim, cut at brackets and dots, decode once more, and drop what separates words; servers merge
//! queries with bodies. Nothing here says which reading is right: two that may be one are only ever a reason to refuse.

use unicode_normalization::UnicodeNormalization;

use crate::form::{self, Plus};
use crate::json::Unreadable;
use crate::unescape::unescape;
use crate::views;

/// A name as the most lenient parser reads it: the steps to its field, folded. An empty step is any element of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spelling {
    steps: Vec<String>,
    /// All steps written together.
    whole: String,
}

// === impl Spelling ===

impl Spelling {
    /// The spelling of one name: `amp;Order[total]` and `order.total` are two steps.
    pub(crate) fn of(name: &str) -> Self {
        Self::of_path([name])
    }

    /// The spelling of names that lead to a field one after the other.
    pub(crate) fn of_path<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let steps: Vec<String> = names.into_iter().flat_map(steps).collect();
        Self { whole: steps.concat(), steps }
    }

    /// Whether a parser may take one for the other, or find the one inside the other.
    pub(crate) fn may_be(&self, other: &Self) -> bool {
        let same = |(one, two): (&String, &String)| one.is_empty() || two.is_empty() || one == two;
        let begins = self.steps.first() == other.steps.first() && self.steps.iter().zip(&other.steps).all(same);
        !self.whole.is_empty() && (self.whole == other.whole || (begins && self.has_start() && other.has_start()))
    }

    fn has_start(&self) -> bool {
        self.steps.first().is_some_and(|step| !step.is_empty())
    }

    /// Refuses a query in which another parser may find this field; names in `known` are looked at elsewhere, unless a
    /// semicolon leaves it open where their values end.
    pub(crate) fn refuse_in_query(&self, query: Option<&str>, known: &[&str]) -> Result<(), Unreadable> {
        for pair in query.unwrap_or_default().split('&') {
            let known = if pair.contains(';') { &[] } else { known };
            for piece in pair.split(';') {
                let (name, _) = piece.split_once('=').unwrap_or((piece, ""));
                self.refuse(&form::decode(name, Plus::Space)?, known)?;
            }
        }
        Ok(())
    }

    /// Refuses a name that may be read as this one.
    pub(crate) fn refuse(&self, name: &str, known: &[&str]) -> Result<(), Unreadable> {
        let is_rival = !known.contains(&name) && self.may_be(&Self::of(name));
        if is_rival {
            Err(Unreadable("another name in the request may be read as the one that counts"))
        } else {
            Ok(())
        }
    }
}

fn steps(name: &str) -> Vec<String> {
    let decoded = unescape(name);
    let name = decoded.as_deref().unwrap_or(name);
    let mut name = name.trim_start_matches(is_lead);
    while let Some(rest) = name.strip_prefix("amp;") {
        name = rest.trim_start_matches(is_lead);
    }
    name.split(['[', '.', '\0']).map(fold).collect()
}

/// What parsers skip before a name.
fn is_lead(c: char) -> bool {
    c.is_whitespace() || c.is_control() || views::is_invisible(c) || matches!(c, '+' | '?' | '&' | '[' | ']' | '.')
}

/// A step in one case, without what stands between its words; upper case first, because some letters meet only there.
fn fold(step: &str) -> String {
    // `_id` and `id` are often two fields of one object.
    let mut folded = if step.starts_with('_') { "_".to_owned() } else { String::new() };
    if step.is_ascii() {
        // Most names are, and a body may have very many.
        folded.extend(step.chars().filter(|c| !is_between(*c)).map(|c| c.to_ascii_lowercase()));
    } else {
        let letters = step.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
        folded.extend(letters.filter(|c| !views::is_invisible(*c) && !is_between(*c)));
    }
    folded
}

/// What frameworks put between words and take out again: `orderTotal` is `order_total`.
fn is_between(c: char) -> bool {
    matches!(c, '_' | '-' | '+' | ']') || c.is_whitespace() || c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_be(one: &str, other: &str) -> bool {
        let (one, other) = (Spelling::of(one), Spelling::of(other));
        assert_eq!(one.may_be(&other), other.may_be(&one));
        one.may_be(&other)
    }

    #[test]
    fn takes_names_for_one_another() {
        let table = [
            "amount",
            "Amount",
            "AMOUNT",
            " amount",
            "amount\t",
            "+amount",
            "amount[]",
            "amount[0]",
            "amount[",
            "amount]",
            "[amount]",
            "amount.value",
            ".amount",
            "?amount",
            "amp;amount",
            "amp;amp;Amount",
            "&amp;amount",
            "%61mount",
            "amount%5B%5D",
            "amount%00x",
            "amount\0x",
            "&#97;mount",
            "\u{feff}amount",
            "ａｍｏｕｎｔ",
            "amo\u{200b}unt",
        ];
        for name in table {
            assert!(may_be("amount", name), "{name:?}");
        }
        let pairs = [
            ("order_total", "order.total"),
            ("order_total", "orderTotal"),
            ("order_total", "order total"),
            ("order[total]", "Order.Total[]"),
            ("order[total]", "order"),
            ("to[]", "to[x]"),
            ("to[0][email]", "to[][email]"),
            ("kind", "\u{212a}ind"),
            ("status", "\u{17f}tatus"),
            ("id", "\u{131}d"),
        ];
        for (one, other) in pairs {
            assert!(may_be(one, other), "{one} {other}");
        }
    }

    #[test]
    fn keeps_other_names_apart() {
        let pairs = [
            ("amount", ""),
            ("amount", "[]"),
            ("amount", "amounts"),
            ("amount", "amount_paid"),
            ("amount", "order[amount]"),
            ("id", "_id"),
            ("metadata[amount]", "metadata[order]"),
            ("", ""),
        ];
        for (one, other) in pairs {
            assert!(!may_be(one, other), "{one} {other}");
        }
        let path = Spelling::of_path(["order", "total"]);
        assert!(path.may_be(&Spelling::of("order[total]")) && !path.may_be(&Spelling::of("total")));
    }

    #[test]
    fn finds_a_rival_in_a_query() {
        let amount = Spelling::of("amount");
        for query in ["amount=1", "x=1;amount=2", "&amp;amount=3", "%2561mount=4", "%zz=1", "Amount", "x&amount[]=5"] {
            assert!(amount.refuse_in_query(Some(query), &[]).is_err(), "{query}");
        }
        for query in [None, Some(""), Some("x=amount&y=1"), Some("=amount"), Some("x;y")] {
            assert_eq!(amount.refuse_in_query(query, &[]), Ok(()), "{query:?}");
        }
        assert_eq!(amount.refuse_in_query(Some("amount=1&amount=2"), &["amount"]), Ok(()));
        for query in ["amount=1;x=2", "x;amount=1", "amount=1&Amount=2"] {
            assert!(amount.refuse_in_query(Some(query), &["amount"]).is_err(), "{query}");
        }
    }
}
