//! Exact amounts: what a budget is counted in.
//!
//! Never a float: `0.1` stays `0.1`, and so does a wei of eighteen decimals.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

/// A decimal, zero or greater, with up to 18 digits behind the point and up to 20 before it. Written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

/// A text that is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount; write digits, and up to {DECIMALS} more behind a point")]
pub struct NotAnAmount(pub String);

// === impl Amount ===

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);

    /// The sum; at the end of what can be counted it stays there, which is beyond every limit.
    #[must_use]
    pub fn plus(self, other: Amount) -> Amount {
        Amount(self.0.saturating_add(other.0))
    }

    /// What is left without `other`, at least nothing.
    #[must_use]
    pub fn minus(self, other: Amount) -> Amount {
        Amount(self.0.saturating_sub(other.0))
    }
}

impl From<u64> for Amount {
    fn from(whole: u64) -> Amount {
        // 2^64 times 10^18 is less than 2^128.
        Amount(u128::from(whole).saturating_mul(ONE))
    }
}

impl FromStr for Amount {
    type Err = NotAnAmount;

    fn from_str(text: &str) -> Result<Amount, NotAnAmount> {
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let fraction_fits = fraction.is_none_or(|fraction| digits(fraction) && fraction.len() <= DECIMALS);
        let number = format!("{whole}{:0<DECIMALS$}", fraction.unwrap_or_default());
        let units = number.parse().ok().filter(|_| digits(whole) && fraction_fits);
        units.map(Amount).ok_or_else(|| NotAnAmount(text.to_owned()))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / ONE, self.0 % ONE);
        let text = if fraction == 0 { whole.to_string() } else { format!("{whole}.{fraction:0DECIMALS$}") };
        f.pad(if fraction == 0 { &text } else { text.trim_end_matches('0') })
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Digits behind the point.
const DECIMALS: usize = 18;

/// How many of the smallest unit are one.
const ONE: u128 = 10_u128.pow(18);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_have_one_spelling() {
        for (text, spelled) in [
            ("0", "0"),
            ("0.00", "0"),
            ("007", "7"),
            ("19.90", "19.9"),
            ("0.000000000000000001", "0.000000000000000001"),
            ("99999999999999999999.999999999999999999", "99999999999999999999.999999999999999999"),
        ] {
            assert_eq!(text.parse::<Amount>().unwrap().to_string(), spelled);
        }
        let tenth: Amount = "0.1".parse().unwrap();
        assert_eq!((0..10).fold(Amount::ZERO, |sum, _| sum.plus(tenth)), Amount::from(1));
        assert_eq!(Amount::from(u64::MAX).to_string(), u64::MAX.to_string());
        assert_eq!(tenth.minus(Amount::from(1)), Amount::ZERO);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "0.0000000000000000001", "1.5.1", "٣"] {
            assert_eq!(text.parse::<Amount>(), Err(NotAnAmount(text.to_owned())));
        }
        assert!("999999999999999999999".parse::<Amount>().is_err(), "more than can be counted");
    }
}
