//! Dates and times as text, on the proleptic Gregorian calendar, for every value an `i64` of milliseconds can hold.
//!
//! Reading accepts ISO and SQL forms (`2020-01-01`, `08:00:00.5`, a space or a `T` between them). Writing has the two styles that
//! the connectors need: SQL (`2020-01-01 08:00:00.5`) and Java's `toString` (`2020-01-01T08:00`, fractions in groups of three).

use std::fmt::Write;

pub(crate) const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A moment without a zone: days since 1970-01-01 and nanoseconds since midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) day: i64,
    pub(crate) nano_of_day: i64,
}

impl Moment {
    /// From a count of units since 1970, of which there are `units_per_second`.
    pub(crate) fn from_units(value: i64, units_per_second: i64) -> Self {
        let per_day = units_per_second * SECONDS_PER_DAY;
        Self {
            day: value.div_euclid(per_day),
            nano_of_day: value.rem_euclid(per_day) * (NANOS_PER_SECOND / units_per_second),
        }
    }

    /// As a count of units since 1970; what is finer than the unit is cut off. `None` if it does not fit.
    pub(crate) fn to_units(self, units_per_second: i64) -> Option<i64> {
        let of_day = self.nano_of_day / (NANOS_PER_SECOND / units_per_second);
        self.day
            .checked_mul(units_per_second * SECONDS_PER_DAY)?
            .checked_add(of_day)
    }
}

/// Year, month and day of a day number (days since 1970-01-01), by counting 400-year eras from 0000-03-01.
pub(crate) fn civil_from_day(day: i64) -> (i64, u32, u32) {
    let shifted = day.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day_of_month)
}

/// The day number of a date, or `None` if there is no such date.
pub(crate) fn day_from_civil(year: i64, month: u32, day: u32) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day == 0 || day > days_in_month || year.unsigned_abs() > 1_000_000_000 {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// `2020-01-01`; years beyond four digits carry a sign, as in ISO 8601.
pub(crate) fn write_date(out: &mut String, day: i64) {
    let (year, month, day) = civil_from_day(day);
    if (0..=9_999).contains(&year) {
        push_padded(out, year as u64, 4);
    } else {
        out.push(if year < 0 { '-' } else { '+' });
        push_padded(out, year.unsigned_abs(), 4);
    }
    out.push('-');
    push_padded(out, month.into(), 2);
    out.push('-');
    push_padded(out, day.into(), 2);
}

/// `08:00:00`, with as many digits of the fraction as are not zero.
pub(crate) fn write_time_sql(out: &mut String, nano_of_day: i64) {
    write_hour_minute(out, nano_of_day);
    out.push(':');
    push_padded(out, (nano_of_day / NANOS_PER_SECOND % 60) as u64, 2);
    let nano = nano_of_day % NANOS_PER_SECOND;
    if nano != 0 {
        let digits = format!("{nano:09}");
        out.push('.');
        out.push_str(digits.trim_end_matches('0'));
    }
}

/// As Java's `LocalTime.toString`: seconds only if they or the fraction are not zero, the fraction in groups of three digits.
/// With `seconds_always`, seconds are written even if zero, as `Instant.toString` does.
pub(crate) fn write_time_java(out: &mut String, nano_of_day: i64, seconds_always: bool) {
    write_hour_minute(out, nano_of_day);
    let second = nano_of_day / NANOS_PER_SECOND % 60;
    let nano = nano_of_day % NANOS_PER_SECOND;
    if second == 0 && nano == 0 && !seconds_always {
        return;
    }
    out.push(':');
    push_padded(out, second as u64, 2);
    if nano == 0 {
        return;
    }
    out.push('.');
    if nano % 1_000_000 == 0 {
        push_padded(out, (nano / 1_000_000) as u64, 3);
    } else if nano % 1_000 == 0 {
        push_padded(out, (nano / 1_000) as u64, 6);
    } else {
        push_padded(out, nano as u64, 9);
    }
}

fn write_hour_minute(out: &mut String, nano_of_day: i64) {
    let minutes = nano_of_day / NANOS_PER_SECOND / 60;
    push_padded(out, (minutes / 60) as u64, 2);
    out.push(':');
    push_padded(out, (minutes % 60) as u64, 2);
}

fn push_padded(out: &mut String, value: u64, width: usize) {
    if width == 2 && value < 100 {
        out.push((b'0' + (value / 10) as u8) as char);
        out.push((b'0' + (value % 10) as u8) as char);
        return;
    }
    // Writing to a String cannot fail.
    let _ = write!(out, "{value:0width$}");
}

/// Reads `2020-01-01`, also with a sign and more digits in the year.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, text.get(1..)?),
        b'+' => (1, text.get(1..)?),
        _ => (1, text),
    };
    let mut parts = digits.split('-');
    let year = number(parts.next()?, 4..=9)?;
    let month = number(parts.next()?, 1..=2)?;
    let day = number(parts.next()?, 1..=2)?;
    if parts.next().is_some() {
        return None;
    }
    day_from_civil(sign * i64::from(year), month, day)
}

/// Reads `08:00`, `08:00:00` and `08:00:00.123456789` as nanoseconds since midnight.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, fraction),
        None => (text, "0"),
    };
    let mut parts = clock.split(':');
    let hour = number(parts.next()?, 1..=2)?;
    let minute = number(parts.next()?, 2..=2)?;
    let second = parts.next().map_or(Some(0), |text| number(text, 2..=2))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let nano = number(fraction, 1..=9)? * 10_u32.pow(9 - fraction.len() as u32);
    Some(i64::from(hour * 3_600 + minute * 60 + second) * NANOS_PER_SECOND + i64::from(nano))
}

/// Reads a date and a time with a space or a `T` between them.
pub(crate) fn parse_moment(text: &str) -> Option<Moment> {
    let (date, time) = text.split_once([' ', 'T'])?;
    Some(Moment {
        day: parse_date(date)?,
        nano_of_day: parse_time(time)?,
    })
}

/// Digits only, as many of them as `width` says.
fn number(text: &str, width: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let digits = width.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Datelike;

    #[test]
    fn day_numbers_agree_with_chrono() {
        for day in (-800_000..800_000).step_by(97) {
            let expected = chrono::NaiveDate::from_num_days_from_ce_opt(day + 719_163).unwrap();
            let (year, month, of_month) = civil_from_day(day.into());
            assert_eq!(
                (year, month, of_month),
                (expected.year().into(), expected.month(), expected.day())
            );
            assert_eq!(day_from_civil(year, month, of_month), Some(day.into()));
        }
    }

    #[test]
    fn moments_are_read_in_both_styles_and_nonsense_is_not() {
        let expected = Moment {
            day: 18_262,
            nano_of_day: 28_800_500_000_000,
        };
        assert_eq!(parse_moment("2020-01-01 08:00:00.5"), Some(expected));
        assert_eq!(parse_moment("2020-01-01T08:00:00.500"), Some(expected));
        assert_eq!(expected.to_units(1_000), Some(1_577_865_600_500));
        assert_eq!(Moment::from_units(1_577_865_600_500, 1_000), expected);
        assert_eq!(Moment::from_units(-1, 1_000).day, -1);
        for text in [
            "",
            "2020-01-01",
            "2020-13-01 00:00:00",
            "2019-02-29 00:00:00",
            "2020-01-01 24:00:00",
            "2020-01-01 08:00:00.",
            "2020-01-01 08:00:00.1234567890",
            "2020-01-01  08:00:00",
            "+-2020-01-01 00:00",
            "２０２０-01-01 00:00:00",
            "2020-01-01 08:00:00Z",
        ] {
            assert_eq!(parse_moment(text), None, "{text}");
        }
    }

    #[test]
    fn java_style_leaves_out_what_is_zero() {
        let java = |nano_of_day, always| {
            let mut out = String::new();
            write_time_java(&mut out, nano_of_day, always);
            out
        };
        assert_eq!(java(8 * 3_600 * NANOS_PER_SECOND, false), "08:00");
        assert_eq!(java(8 * 3_600 * NANOS_PER_SECOND, true), "08:00:00");
        assert_eq!(java(2_500_000_000, false), "00:00:02.500");
        assert_eq!(java(2_000_001_000, false), "00:00:02.000001");
        assert_eq!(java(1, false), "00:00:00.000000001");
        let mut out = String::new();
        write_time_sql(&mut out, 2_500_000_000);
        assert_eq!(out, "00:00:02.5");
        let mut out = String::new();
        write_date(&mut out, i64::from(i32::MAX));
        assert_eq!(out, "+5881580-07-11");
    }
}
