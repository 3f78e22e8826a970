//! Dates and times: how they count, and how people write them.
//!
//! A value is a number of units since the Unix epoch (a time: since midnight). As text it is ISO 8601 in the proleptic Gregorian calendar,
//! `2024-02-29T23:59:59.999`, with a `Z` where it is an instant and not what a clock on some wall shows.

use std::fmt::{self, Display};

const SECONDS_PER_DAY: i64 = 86_400;
/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_EPOCH: i64 = 719_468;
/// Days in four hundred years, after which the calendar repeats.
const DAYS_PER_CYCLE: i64 = 146_097;
/// Digits of a year that is read.
const YEAR_DIGITS_MAX: usize = 6;

/// What a time is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// s
    Second,
    /// ms
    Millisecond,
    /// us
    Microsecond,
    /// ns
    Nanosecond,
}

impl TimeUnit {
    const ALL: [Self; 4] = [
        Self::Second,
        Self::Millisecond,
        Self::Microsecond,
        Self::Nanosecond,
    ];

    /// `s`, `ms`, `us` or `ns`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Millisecond => "ms",
            Self::Microsecond => "us",
            Self::Nanosecond => "ns",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    /// Digits after the point of a second.
    fn digits(self) -> usize {
        match self {
            Self::Second => 0,
            Self::Millisecond => 3,
            Self::Microsecond => 6,
            Self::Nanosecond => 9,
        }
    }

    fn per_second(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Millisecond => 1_000,
            Self::Microsecond => 1_000_000,
            Self::Nanosecond => 1_000_000_000,
        }
    }
}

/// A type of dates or times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporal {
    /// Days.
    Date,
    /// Since midnight.
    Time(TimeUnit),
    /// What a clock shows, wherever it hangs: SQL's TIMESTAMP.
    Timestamp(TimeUnit),
    /// A moment, the same everywhere: SQL's TIMESTAMP_LTZ.
    Instant(TimeUnit),
    /// Between two moments.
    Duration(TimeUnit),
}

impl Temporal {
    /// Bytes of a value.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Date | Self::Time(TimeUnit::Second | TimeUnit::Millisecond) => 4,
            _ => 8,
        }
    }

    /// A value as people write it; of a duration, its number.
    pub(super) fn write(self, value: i64, f: &mut impl fmt::Write) -> fmt::Result {
        let (unit, zone) = match self {
            Self::Date => return write_date(value, f),
            Self::Duration(_) => return write!(f, "{value}"),
            Self::Time(unit) => return write_time(value, unit, f),
            Self::Timestamp(unit) => (unit, ""),
            Self::Instant(unit) => (unit, "Z"),
        };
        let day = unit.per_second() * SECONDS_PER_DAY;
        write_date(value.div_euclid(day), f)?;
        f.write_str("T")?;
        write_time(value.rem_euclid(day), unit, f)?;
        f.write_str(zone)
    }

    /// What [`Self::write`] wrote; also with a space for the `T`, without seconds or the `Z`, and the bare number.
    pub(super) fn parse(self, text: &str) -> Option<i64> {
        let number = || text.parse::<i64>().ok();
        let parsed = match self {
            Self::Duration(_) => None,
            Self::Date => date(text),
            Self::Time(unit) => time(text, unit),
            Self::Timestamp(unit) | Self::Instant(unit) => {
                let text = text.strip_suffix('Z').unwrap_or(text);
                let (day, clock) = match text.split_once(['T', ' ']) {
                    Some((day, clock)) => (day, time(clock, unit)),
                    None => (text, Some(0)),
                };
                date(day).zip(clock).and_then(|(day, clock)| {
                    let day = day.checked_mul(unit.per_second() * SECONDS_PER_DAY)?;
                    day.checked_add(clock)
                })
            }
        };
        let value = parsed.or_else(number)?;
        match self.width() {
            4 => i32::try_from(value).ok().map(i64::from),
            _ => Some(value),
        }
    }
}

impl Display for Temporal {
    /// As SQL would call it, with the unit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = match self {
            Self::Date => return f.write_str("date"),
            Self::Time(unit) => ("time", unit),
            Self::Timestamp(unit) => ("timestamp", unit),
            Self::Instant(unit) => ("timestamp_ltz", unit),
            Self::Duration(unit) => ("duration", unit),
        };
        write!(f, "{name}({})", unit.name())
    }
}

/// A day by its number since 1970-01-01. Years are counted from March, so that a leap day is the last of its year.
fn write_date(days: i64, f: &mut impl fmt::Write) -> fmt::Result {
    // In 128 bits there is room for every number of days.
    let days = i128::from(days) + i128::from(DAYS_TO_EPOCH);
    let cycle = i128::from(DAYS_PER_CYCLE);
    let day_of_cycle = days.rem_euclid(cycle);
    let leaps = day_of_cycle / 1_460 - day_of_cycle / 36_524 + day_of_cycle / 146_096;
    let year_of_cycle = (day_of_cycle - leaps) / 365;
    let before_year = 365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100;
    let day_of_year = day_of_cycle - before_year;
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_cycle + days.div_euclid(cycle) * 400 + i128::from(month <= 2);
    write!(f, "{year:04}-{month:02}-{day:02}")
}

/// The number of a day.
fn date(text: &str) -> Option<i64> {
    let (before_christ, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(3, '-');
    let year = digits(parts.next()?, 4..=YEAR_DIGITS_MAX)?;
    let month = digits(parts.next()?, 2..=2)?;
    let day = digits(parts.next()?, 2..=2)?;
    let year = if before_christ { -year } else { year };
    let is_leap = year.rem_euclid(4) == 0 && year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0;
    let days_of_month = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    (1..=days_of_month).contains(&day).then_some(())?;
    let from_march = if month > 2 { year } else { year - 1 };
    let month_from_march = (month + 9) % 12;
    let year_of_cycle = from_march.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let before_year = 365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100;
    let cycles = from_march.div_euclid(400) * DAYS_PER_CYCLE;
    Some(cycles + before_year + day_of_year - DAYS_TO_EPOCH)
}

fn write_time(value: i64, unit: TimeUnit, f: &mut impl fmt::Write) -> fmt::Result {
    let (seconds, fraction) = (
        value.div_euclid(unit.per_second()),
        value.rem_euclid(unit.per_second()),
    );
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(f, "{hours:02}:{minutes:02}:{seconds:02}")?;
    match fraction {
        0 => Ok(()),
        fraction => write!(f, ".{fraction:0width$}", width = unit.digits()),
    }
}

/// Since midnight.
fn time(text: &str, unit: TimeUnit) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, fraction),
        None => (text, ""),
    };
    let mut parts = clock.splitn(3, ':');
    let hours = digits(parts.next()?, 2..=2)?;
    let minutes = digits(parts.next()?, 2..=2)?;
    let seconds = parts.next().map_or(Some(0), |text| digits(text, 2..=2))?;
    (hours < 24 && minutes < 60 && seconds < 60).then_some(())?;
    let fraction = match fraction {
        "" => 0,
        text => {
            let written = digits(text, 1..=unit.digits())?;
            let missing = u32::try_from(unit.digits() - text.len()).ok()?;
            written * 10i64.pow(missing)
        }
    };
    Some((hours * 3600 + minutes * 60 + seconds) * unit.per_second() + fraction)
}

/// Nothing but so many digits.
fn digits(text: &str, count: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let plain = count.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: Temporal, value: i64) -> String {
        let mut text = String::new();
        kind.write(value, &mut text).unwrap();
        text
    }

    #[test]
    fn times_are_written_and_read() {
        use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
        for (kind, value, text) in [
            (Temporal::Date, 0, "1970-01-01"),
            (Temporal::Date, -1, "1969-12-31"),
            (Temporal::Date, 11_016, "2000-02-29"),
            (Temporal::Date, 19_782, "2024-02-29"),
            (Temporal::Date, 47_541, "2100-03-01"),
            (Temporal::Date, -719_528, "0000-01-01"),
            (Temporal::Time(Second), 86_399, "23:59:59"),
            (Temporal::Time(Microsecond), 1, "00:00:00.000001"),
            (
                Temporal::Timestamp(Millisecond),
                1_700_000_000_123,
                "2023-11-14T22:13:20.123",
            ),
            (
                Temporal::Timestamp(Nanosecond),
                -1,
                "1969-12-31T23:59:59.999999999",
            ),
            (Temporal::Instant(Second), 60, "1970-01-01T00:01:00Z"),
            (Temporal::Duration(Millisecond), -7, "-7"),
        ] {
            assert_eq!(shown(kind, value), text);
            assert_eq!(kind.parse(text), Some(value), "{text}");
            assert_eq!(kind.parse(&value.to_string()), Some(value), "{value}");
        }
        let kind = Temporal::Timestamp(Millisecond);
        assert_eq!(kind.parse("1970-01-02"), Some(86_400_000));
        assert_eq!(kind.parse("1970-01-01 00:01"), Some(60_000));
        assert_eq!(kind.parse("1970-01-01T00:00:00.5Z"), Some(500));
    }

    /// Every day of eight hundred years has the number after the one before it.
    #[test]
    fn days_follow_each_other() {
        let first = date("1600-01-01").unwrap();
        for day in first..first + 2 * DAYS_PER_CYCLE {
            assert_eq!(date(&shown(Temporal::Date, day)), Some(day));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let kind = Temporal::Timestamp(TimeUnit::Millisecond);
        for text in [
            "",
            "yesterday",
            "2023-02-29",
            "2023-13-01",
            "2023-1-1",
            "2023-01-01T24:00:00",
            "2023-01-01T00:00:00.1234",
            "2023-01-01T+1:00:00",
        ] {
            assert_eq!(kind.parse(text), None, "{text}");
        }
        assert_eq!(Temporal::Date.parse("3000000000"), None, "of 32 bits");
        for value in [i64::MIN, i64::MAX] {
            // Years of many digits, but no panic.
            assert!(shown(kind, value).contains('T'));
            assert!(shown(Temporal::Date, value).len() > 10);
        }
    }
}
