//! Exact decimal numbers, zero or greater.
//!
//! Counts and amounts are compared as they are written, never through binary floating point, which would read
//! `9007199254740993` and `0.1` as their neighbours.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Visitor};

use crate::json::Unreadable;

/// `0.DIGITS * 10^exponent`, without leading or trailing zeros, so that equal numbers are equal values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    digits: String,
    exponent: i32,
}

// === impl Decimal ===

impl Decimal {
    /// Reads a number as JSON writes it (RFC 8259 section 6): `5000`, `1e3`, `0.50`.
    pub(crate) fn parse(literal: &str) -> Result<Self, Unreadable> {
        if literal.starts_with('-') {
            return Err(Unreadable("the number is negative"));
        }
        let (mantissa, power) = literal.split_once(['e', 'E']).unwrap_or((literal, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let padded = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || padded || !plain(whole) || !plain(fraction) || mantissa.ends_with('.') {
            return Err(Unreadable("the number is malformed"));
        }
        let power: i32 = power.strip_prefix('+').unwrap_or(power).parse().map_err(|_| OUT_OF_RANGE)?;
        if mantissa.len() > MAX_DIGITS || power.unsigned_abs() > MAX_POWER {
            return Err(OUT_OF_RANGE);
        }
        let whole_digits = i32::try_from(whole.len()).map_err(|_| OUT_OF_RANGE)?;
        Ok(Self::normal(&format!("{whole}{fraction}"), whole_digits.saturating_add(power)))
    }

    /// Reads a number as people and forms write it: digits, maybe a point and more digits.
    pub(crate) fn parse_plain(text: &str) -> Result<Self, Unreadable> {
        if text.contains(['e', 'E']) { Err(Unreadable("the number is malformed")) } else { Self::parse(text) }
    }

    /// Whether there is no fraction.
    pub(crate) fn is_whole(&self) -> bool {
        i32::try_from(self.digits.len()).is_ok_and(|digits| digits <= self.exponent.max(0))
    }

    /// The number with its point moved to the left; no digit is lost.
    pub(crate) fn shifted(&self, places: i32) -> Self {
        // Zero keeps its one form.
        let exponent = if self.digits.is_empty() { self.exponent } else { self.exponent.saturating_sub(places) };
        Self { digits: self.digits.clone(), exponent }
    }

    fn normal(digits: &str, exponent: i32) -> Self {
        let tail = digits.trim_start_matches('0');
        let leading = i32::try_from(digits.len().saturating_sub(tail.len())).unwrap_or(i32::MAX);
        let digits = tail.trim_end_matches('0').to_owned();
        // Zero has one form, smaller than every other number.
        let exponent = if digits.is_empty() { i32::MIN } else { exponent.saturating_sub(leading) };
        Self { digits, exponent }
    }
}

impl From<u64> for Decimal {
    fn from(number: u64) -> Self {
        let digits = number.to_string();
        let exponent = i32::try_from(digits.len()).unwrap_or(i32::MAX);
        Self::normal(&digits, exponent)
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        // Without leading zeros the greater exponent is the greater number; then digits compare as text.
        self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = usize::try_from(self.exponent).unwrap_or(0);
        let zeros = usize::try_from(self.exponent.min(0).unsigned_abs()).unwrap_or(0);
        match self.digits.split_at_checked(whole) {
            _ if self.digits.is_empty() => f.write_str("0"),
            Some(("", fraction)) => write!(f, "0.{}{fraction}", "0".repeat(zeros)),
            Some((digits, "")) => f.write_str(digits),
            Some((digits, fraction)) => write!(f, "{digits}.{fraction}"),
            None => write!(f, "{:0<whole$}", self.digits),
        }
    }
}

/// As a limit in a policy file.
impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, zero or greater")
            }

            // YAML hands out the digits of a plain number when text is asked for, so nothing is rounded.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Decimal, E> {
                Decimal::parse_plain(text)
                    .map_err(|why| E::custom(format_args!("{why}; write it like `5000` or `49.90`")))
            }
        }

        deserializer.deserialize_str(Read)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "an exact number, zero or greater",
            "type": ["number", "string"],
            "minimum": 0,
            "pattern": "^[0-9]+(\\.[0-9]+)?$",
        })
    }
}

const OUT_OF_RANGE: Unreadable = Unreadable("the number is out of range");
const MAX_DIGITS: usize = 64;
const MAX_POWER: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_exactly() {
        let ascending = ["0", "1e-3", "0.1", "0.10000000000000001", "1", "99.99", "1e2", "101", "9007199254740992"];
        for pair in ascending.windows(2) {
            let (less, more) = (Decimal::parse(pair[0]).unwrap(), Decimal::parse(pair[1]).unwrap());
            assert!(less < more, "{less} {more}");
        }
        for (one, other) in [("1e3", "1000"), ("1.0", "1"), ("10E-1", "1.00"), ("0.0", "0"), ("0e9", "0")] {
            assert_eq!(Decimal::parse(one).unwrap(), Decimal::parse(other).unwrap());
        }
        assert!(Decimal::parse("9007199254740993").unwrap() > Decimal::from(9_007_199_254_740_992));
        assert_eq!(Decimal::parse("18446744073709551615").unwrap(), Decimal::from(u64::MAX));
    }

    #[test]
    fn prints_plainly() {
        for (literal, printed) in
            [("1e3", "1000"), ("0.50", "0.5"), ("12.30", "12.3"), ("0", "0"), ("5e-3", "0.005"), ("120", "120")]
        {
            assert_eq!(Decimal::parse(literal).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn moves_the_point() {
        for (literal, places, moved) in [("9900", 2, "99"), ("1", 3, "0.001"), ("0", 2, "0"), ("12345", 2, "123.45")] {
            assert_eq!(Decimal::parse(literal).unwrap().shifted(places), Decimal::parse(moved).unwrap(), "{literal}");
        }
    }

    #[test]
    fn knows_fractions() {
        for (literal, whole) in
            [("0", true), ("10", true), ("1.0", true), ("1.5", false), ("15e-1", false), ("0.1", false)]
        {
            assert_eq!(Decimal::parse(literal).unwrap().is_whole(), whole, "{literal}");
        }
    }

    #[test]
    fn refuses_other_spellings() {
        for text in ["", "-1", "-0", "+1", "01", "1.", ".5", "0x10", "1e", "1e999", "1_000", "1,5", " 1", "NaN", "１"]
        {
            assert!(Decimal::parse(text).is_err(), "{text}");
        }
        assert!(Decimal::parse(&"9".repeat(65)).is_err());
        assert!(Decimal::parse_plain("1e3").is_err());
    }
}
