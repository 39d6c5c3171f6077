//! The index by which the forms of a secret are found in a stream at the speed of memory.
//!
//! Whatever gives something away is at least as long as the shortest window. So in every such stretch one group of four
//! bytes begins at a multiple of the stride, and only these groups are looked up. One that is known is followed to both
//! sides as far as text and form agree.

use std::fmt;
use std::ops::Range;

use memchr::memmem;
use zeroize::Zeroizing;

use super::forms::forms;

/// The forms of some secrets, ready to be looked for. Wiped when dropped.
pub struct Needles {
    /// All forms, one after the other.
    text: Zeroizing<Vec<u8>>,
    spans: Vec<Span>,
    groups: Groups,
    stride: usize,
    /// Bytes that must be known to decide about those before them.
    reach: usize,
}

/// Where one form stands in the text, from where on it counts, and how many bytes in a row give something away.
struct Span {
    whole: Range<usize>,
    counted: usize,
    window: usize,
}

/// Where each group of bytes begins, by its hash.
struct Groups {
    /// One bit for each hash there is: most of a stream is dismissed by it.
    filter: Zeroizing<Vec<u64>>,
    /// By hash, one more than the last place of such a group; 0 for none.
    last: Zeroizing<Vec<u32>>,
    /// By place, the one before it of the same hash, as in `last`.
    before: Zeroizing<Vec<u32>>,
    bits: u32,
}

/// A stretch of the stream that agrees with a stretch of a form.
struct Agreement<'a> {
    run: Range<usize>,
    form: Range<usize>,
    span: &'a Span,
}

// === impl Needles ===

impl Needles {
    /// An index of all forms of these secrets.
    pub fn new(secrets: &[&[u8]]) -> Needles {
        let forms: Vec<_> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        let mut text = Zeroizing::new(Vec::with_capacity(forms.iter().map(|form| form.text.len()).sum()));
        let mut spans = Vec::with_capacity(forms.len());
        for form in &forms {
            let start = text.len();
            text.extend_from_slice(&form.text);
            spans.push(Span { whole: start..text.len(), counted: start + form.counted, window: form.window });
        }
        let shortest = spans.iter().map(|span| span.window).min().unwrap_or(GROUP);
        let reach = spans.iter().map(|span| span.counted - span.whole.start + span.window).max();
        let groups = Groups::of(&text, &spans);
        Needles {
            text,
            spans,
            groups,
            stride: (shortest + 1).saturating_sub(GROUP).max(1),
            reach: reach.unwrap_or(1) - 1,
        }
    }

    /// Whether something in `bytes` gives something away.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        !self.runs(bytes).is_empty()
    }

    /// The stretches of `bytes` that give something away, in the order they are found; they may overlap.
    pub(super) fn runs(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        for (count, group) in bytes.windows(GROUP).step_by(self.stride).enumerate() {
            let Some(hash) = group.first_chunk().map(hash) else { continue };
            if self.groups.may_have(hash) {
                let telling = self.agreements(bytes, count * self.stride, hash).filter(Agreement::is_telling);
                runs.extend(telling.map(|agreement| agreement.run));
            }
        }
        runs
    }

    /// How many bytes must be known to decide about those before them.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }

    /// How many bytes at the end of `bytes` may be the beginning of something that gives something away.
    pub(super) fn live(&self, bytes: &[u8]) -> usize {
        let end = bytes.get(bytes.len().saturating_sub(self.reach)..).unwrap_or_default();
        let longest = end.last_chunk().and_then(|group| {
            let agreements = self.agreements(end, end.len() - GROUP, hash(group));
            agreements.filter(Agreement::may_go_on).map(|agreement| agreement.run.len()).max()
        });
        let is_live = |length: &usize| {
            let start = end.len().checked_sub(*length);
            let tail = start.and_then(|start| end.get(start..)).map(<[u8]>::to_ascii_lowercase);
            tail.is_some_and(|tail| memmem::find(&self.text, &tail).is_some())
        };
        longest.or_else(|| (1..GROUP).rev().find(is_live)).unwrap_or(0)
    }

    /// Where the forms agree with `bytes` around the group at `at`.
    fn agreements<'a>(&'a self, bytes: &'a [u8], at: usize, hash: u32) -> impl Iterator<Item = Agreement<'a>> {
        self.groups.places(hash).filter_map(move |place| {
            let span = self.spans.get(self.spans.partition_point(|span| span.whole.end <= place))?;
            let same = |(one, two): &(&u8, &u8)| one.eq_ignore_ascii_case(two);
            let (left, right) = (bytes.get(..at)?, bytes.get(at..)?);
            let (form_left, form_right) =
                (self.text.get(span.whole.start..place)?, self.text.get(place..span.whole.end)?);
            let right = right.iter().zip(form_right).take_while(same).count();
            let left = left.iter().rev().zip(form_left.iter().rev()).take_while(same).count();
            let agreement = Agreement { run: at - left..at + right, form: place - left..place + right, span };
            (right >= GROUP).then_some(agreement)
        })
    }
}

impl fmt::Debug for Needles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Needles(redacted)")
    }
}

// === impl Groups ===

impl Groups {
    fn of(text: &[u8], spans: &[Span]) -> Groups {
        let bits = text.len().max(64).next_power_of_two().ilog2().min(MOST_BITS);
        let mut groups = Groups {
            filter: Zeroizing::new(vec![0; 1 << (bits + SPARSE - u64::BITS.ilog2())]),
            last: Zeroizing::new(vec![0; 1 << bits]),
            before: Zeroizing::new(vec![0; text.len()]),
            bits,
        };
        for span in spans {
            let form = text.get(span.whole.clone()).unwrap_or_default();
            for (at, group) in form.windows(GROUP).enumerate() {
                group.first_chunk().into_iter().for_each(|group| groups.add(hash(group), span.whole.start + at));
            }
        }
        groups
    }

    fn add(&mut self, hash: u32, place: usize) {
        let (word, bit) = self.bit(hash);
        let (Some(word), Some(last), Some(before)) =
            (self.filter.get_mut(word), self.last.get_mut(high(hash, self.bits)), self.before.get_mut(place))
        else {
            return;
        };
        *word |= bit;
        *before = std::mem::replace(last, u32::try_from(place + 1).unwrap_or(0));
    }

    #[inline]
    fn may_have(&self, hash: u32) -> bool {
        let (word, bit) = self.bit(hash);
        self.filter.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Where groups of this hash begin.
    fn places(&self, hash: u32) -> impl Iterator<Item = usize> {
        let at = |next: u32| usize::try_from(next).ok()?.checked_sub(1);
        let first = self.last.get(high(hash, self.bits)).copied().and_then(at);
        std::iter::successors(first, move |place| self.before.get(*place).copied().and_then(at))
    }

    #[inline]
    fn bit(&self, hash: u32) -> (usize, u64) {
        let place = high(hash, self.bits + SPARSE);
        (place / 64, 1 << (place % 64))
    }
}

// === impl Agreement ===

impl Agreement<'_> {
    fn is_telling(&self) -> bool {
        self.form.end.saturating_sub(self.form.start.max(self.span.counted)) >= self.span.window
    }

    fn may_go_on(&self) -> bool {
        self.form.end < self.span.whole.end
    }
}

/// Upper and lower case of a letter are one to it.
#[inline]
fn hash(group: &[u8; GROUP]) -> u32 {
    (u32::from_le_bytes(*group) | 0x2020_2020).wrapping_mul(0x9e37_79b1)
}

/// The upper bits, which depend on all bits of the group.
#[inline]
fn high(hash: u32, bits: u32) -> usize {
    usize::try_from(hash >> (u32::BITS - bits)).unwrap_or(0)
}

/// Bytes that are looked up at once.
const GROUP: usize = 4;

/// Binary logarithm of the bits of the filter for each place.
const SPARSE: u32 = 5;

/// Binary logarithm of the most hashes that are told apart.
const MOST_BITS: u32 = 20;
