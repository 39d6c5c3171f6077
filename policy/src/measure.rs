//! How a destination measures one name: at one place or several, and in which unit an amount is written there.
//!
//! An amount in minor units, such as cents, becomes one in major units by moving the point; nothing is ever rounded. A
//! currency whose minor units the operator did not say makes the amount unmeasurable.

use std::collections::BTreeMap;

use crate::content::Content;
use crate::decimal::Decimal;
use crate::destination::is_key;
use crate::document::{MeasureEntry, MinorUnits};
use crate::extract::{Extractor, MISSING, RECIPIENTS, Reading, showable};
use crate::fault::{Code, Faults, Flaw};
use crate::json::Unreadable;
use crate::yaml::{Step, below};

/// How one name is measured.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    /// With several, the values of all of them that are there.
    extractors: Vec<Extractor>,
    units: Option<Units>,
    /// Where, as it is written.
    pub(crate) written: String,
}

/// How many digits of an amount are behind the point of its major unit.
#[derive(Clone, Debug)]
enum Units {
    ByCurrency(Extractor, BTreeMap<String, i32>),
    Fixed(i32),
}

/// Compiles the `measure` of a destination, which stands at `at`.
pub(crate) fn compile(
    entries: &BTreeMap<String, MeasureEntry>,
    at: &[Step<'_>],
    faults: &mut Faults<'_>,
) -> BTreeMap<String, Measure> {
    let mut measures = BTreeMap::new();
    for (name, entry) in entries {
        let path = below(at, &[Step::Key(name)]);
        if !is_key(name) || name.starts_with("dlp") {
            let message = format!("`{name}` is no name of a measured value");
            faults.note(&path, Code::BadKey, message, "use lower-case letters and digits");
        }
        match Measure::compile(entry) {
            Ok(measure) => drop(measures.insert(name.clone(), measure)),
            Err(flaw) => faults.note_flaw(&path, flaw),
        }
    }
    measures
}

// === impl Measure ===

impl Measure {
    pub(crate) fn compile(entry: &MeasureEntry) -> Result<Self, Flaw> {
        let (places, units) = match entry {
            MeasureEntry::Amount(amount) => (
                std::slice::from_ref(&amount.from),
                Some(Units::compile(amount.currency.as_deref(), &amount.minor_units)?),
            ),
            MeasureEntry::Places(places) => (places.as_slice(), None),
        };
        let extractors: Vec<Extractor> = places.iter().map(|text| Extractor::parse(text)).collect::<Result<_, _>>()?;
        if extractors.is_empty() {
            return Err(EMPTY);
        }
        let unit = if units.is_some() { ", in minor units" } else { "" };
        Ok(Self { extractors, units, written: format!("{}{unit}", places.join(", ")) })
    }

    /// Where its values stand.
    pub(crate) fn places(&self) -> &[Extractor] {
        &self.extractors
    }

    /// The value of the name in this request, as it may be shown and recorded.
    pub(crate) fn read(&self, name: &str, content: &Content<'_>) -> Result<Reading, Unreadable> {
        self.read_whole(name, content).and_then(showable)
    }

    /// The value of the name in this request, whatever it is.
    pub(crate) fn read_whole(&self, name: &str, content: &Content<'_>) -> Result<Reading, Unreadable> {
        match (self.extractors.as_slice(), &self.units) {
            ([extractor], Some(units)) => {
                let amount = extractor.measure(content, &units.siblings(extractor))?;
                units.convert(amount, content)
            }
            ([extractor], None) if name != RECIPIENTS => extractor.measure(content, &self.extractors),
            (extractors, _) => read_all(extractors, content),
        }
    }
}

// === impl Units ===

impl Units {
    fn compile(currency: Option<&str>, minor: &MinorUnits) -> Result<Self, Flaw> {
        let digits = |digits: u8| if digits <= MAX_DIGITS { Ok(i32::from(digits)) } else { Err(DIGITS) };
        match (currency, minor) {
            (None, MinorUnits::Fixed(fixed)) => digits(*fixed).map(Self::Fixed),
            (Some(place), MinorUnits::ByCurrency(table)) => {
                let known = table.iter().map(|(code, fixed)| Ok((code.to_ascii_lowercase(), digits(*fixed)?)));
                Ok(Self::ByCurrency(Extractor::parse(place)?, known.collect::<Result<_, _>>()?))
            }
            (Some(_), MinorUnits::Fixed(_)) | (None, MinorUnits::ByCurrency(_)) => Err(CURRENCY),
        }
    }

    /// Everything that is measured together with this amount.
    fn siblings(&self, amount: &Extractor) -> Vec<Extractor> {
        match self {
            Self::ByCurrency(currency, _) => vec![amount.clone(), currency.clone()],
            Self::Fixed(_) => vec![amount.clone()],
        }
    }

    /// The amount in major units. Some APIs write it as text; who asks for units says that it is a number.
    fn convert(&self, amount: Reading, content: &Content<'_>) -> Result<Reading, Unreadable> {
        let amount = match amount {
            Reading::Number(number) => number,
            Reading::Text(text) => Decimal::parse_plain(&text)?,
            Reading::Texts(_) => return Err(Unreadable("there are several amounts")),
        };
        let digits = match self {
            Self::Fixed(digits) => *digits,
            Self::ByCurrency(place, known) => {
                let currency = place.measure(content, std::slice::from_ref(place))?;
                let [code] = currency.texts() else { return Err(Unreadable("the currency is no text")) };
                *known.get(&code.to_ascii_lowercase()).ok_or(Unreadable("the currency is none that is listed"))?
            }
        };
        if digits > 0 && !amount.is_whole() {
            return Err(Unreadable("an amount in minor units has a fraction"));
        }
        Ok(Reading::Number(amount.shifted(digits)))
    }
}

/// The values of all places that are there.
fn read_all(extractors: &[Extractor], content: &Content<'_>) -> Result<Reading, Unreadable> {
    let mut all = Vec::new();
    for extractor in extractors {
        match extractor.measure_all(content, extractors) {
            Ok(Reading::Texts(texts)) => all.extend(texts),
            Ok(Reading::Text(text)) => all.push(text),
            Ok(Reading::Number(number)) => all.push(number.to_string()),
            Err(MISSING) => {}
            Err(why) => return Err(why),
        }
    }
    if all.is_empty() { Err(MISSING) } else { Ok(Reading::Texts(all)) }
}

const MAX_DIGITS: u8 = 8;
const EMPTY: Flaw = Flaw { code: Code::EmptyList, message: "the list is empty", remedy: "name a place" };
const DIGITS: Flaw = Flaw {
    code: Code::OutOfRange,
    message: "there are more than 8 digits of minor units",
    remedy: "write 2 for cents, 0 for whole units",
};
const CURRENCY: Flaw = Flaw {
    code: Code::BadValue,
    message: "`currency` and `minor_units` do not fit together",
    remedy: "write `minor_units: 2`, or `currency: form:currency` and `minor_units: {usd: 2, jpy: 0}`",
};
