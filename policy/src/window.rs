//! Windows of time: days of the week and hours of the day, in one time zone.
//!
//! The zones are those compiled in, so one policy means the same on every host.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::fault::{Code, Faults};
use crate::policy_file::{Day, TimeEntry};
use crate::yaml::{Step, below};

/// Days and hours. Where the end is before the beginning the window goes past midnight and belongs to the day on which
/// it begins.
#[derive(Debug)]
pub(crate) struct Window {
    /// None for every day.
    days: Option<Vec<Weekday>>,
    /// Minutes of the day, the second excluded.
    hours: (u16, u16),
    zone: TimeZone,
}

// === impl Window ===

impl Window {
    pub(crate) fn compile(entry: TimeEntry, at: &[Step<'_>], faults: &mut Faults<'_>) -> Option<Self> {
        let mut note =
            |key, code, message: &str, remedy: &str| faults.note(&below(at, &[Step::Key(key)]), code, message, remedy);
        if entry.days.as_ref().is_some_and(Vec::is_empty) {
            note("days", Code::EmptyList, "the list is empty", "list days or remove the key for every day");
        }
        let zone = TimeZoneDatabase::bundled().get(&entry.zone).ok();
        if zone.is_none() {
            note(
                "zone",
                Code::BadZone,
                "there is no such time zone",
                "name one of the IANA database, such as `Europe/Berlin`",
            );
        }
        let hours = match (entry.from.as_deref(), entry.to.as_deref()) {
            (None, None) => Some((0, MIDNIGHT)),
            (Some(from), Some(to)) => read_hour(from).zip(read_hour(to)),
            (Some(_), None) | (None, Some(_)) => None,
        };
        match hours {
            None => {
                note("from", Code::BadTime, "`from` and `to` are not two times", "write both like `09:00` and `17:30`")
            }
            Some((from, to)) if from % MIDNIGHT == to % MIDNIGHT && (from, to) != (0, MIDNIGHT) => {
                note(
                    "from",
                    Code::EmptyWindow,
                    "the window is empty",
                    "write another end, or remove both for the whole day",
                );
            }
            Some((0, MIDNIGHT)) if entry.days.is_none() => {
                note("zone", Code::MatchesAll, "the window is all of time", "list days or hours, or remove `time`");
            }
            Some(_) => {}
        }
        let days = entry.days.map(|days| days.into_iter().map(weekday).collect());
        Some(Self { days, hours: hours?, zone: zone? })
    }

    /// Whether `now` is inside.
    pub(crate) fn contains(&self, now: Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        let time = u16::from(local.hour().unsigned_abs()).saturating_mul(60) + u16::from(local.minute().unsigned_abs());
        let listed = |day| self.days.as_ref().is_none_or(|days| days.contains(&day));
        let (from, to) = self.hours;
        let today = listed(local.weekday());
        if from < to {
            return today && (from..to).contains(&time);
        }
        (today && time >= from) || (listed(local.weekday().previous()) && time < to)
    }
}

/// Minutes after midnight of `HH:MM`, up to `24:00`.
fn read_hour(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 2 && !text.starts_with('+'));
    let minutes = two(hour)?.checked_mul(60)?.checked_add(two(minute).filter(|minute| *minute < 60)?)?;
    (minutes <= MIDNIGHT).then_some(minutes)
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}

const MIDNIGHT: u16 = 24 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_local_time() {
        let window = |days: Option<Vec<Weekday>>, from: &str, to: &str| Window {
            days,
            hours: (read_hour(from).unwrap(), read_hour(to).unwrap()),
            zone: TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap(),
        };
        let table = [
            // A Friday in winter, one hour ahead of UTC; and one in summer, two hours ahead.
            (None, "09:00", "17:00", "2026-01-02T07:59:59Z", false),
            (None, "09:00", "17:00", "2026-01-02T08:00:00Z", true),
            (None, "09:00", "17:00", "2026-01-02T16:00:00Z", false),
            (None, "09:00", "17:00", "2026-07-03T07:00:00Z", true),
            (Some(vec![Weekday::Friday]), "00:00", "24:00", "2026-01-02T22:59:59Z", true),
            (Some(vec![Weekday::Friday]), "00:00", "24:00", "2026-01-02T23:00:00Z", false),
            (Some(vec![Weekday::Friday]), "22:00", "06:00", "2026-01-02T21:00:00Z", true),
            (Some(vec![Weekday::Friday]), "22:00", "06:00", "2026-01-03T04:59:59Z", true),
            (Some(vec![Weekday::Friday]), "22:00", "06:00", "2026-01-03T05:00:00Z", false),
            (Some(vec![Weekday::Friday]), "22:00", "06:00", "2026-01-02T03:00:00Z", false),
        ];
        for (days, from, to, now, inside) in table {
            assert_eq!(window(days, from, to).contains(now.parse().unwrap()), inside, "{from} {to} {now}");
        }
    }

    #[test]
    fn refuses_other_hours() {
        for text in ["", "9:00", "09", "24:01", "25:00", "09:60", "+9:00", "0９:00", "09:00:00"] {
            assert_eq!(read_hour(text), None, "{text}");
        }
    }
}
