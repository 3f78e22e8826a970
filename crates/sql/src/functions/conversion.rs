//! Between values and their text: the calendar, timestamps, floating-point numbers as Java writes them.
//!
//! The calendar is the proleptic Gregorian one; times without a zone are counted as if in UTC.

use std::fmt::Write as _;

pub(super) const MS_PER_SECOND: i64 = 1000;
pub(super) const MS_PER_MINUTE: i64 = 60 * MS_PER_SECOND;
pub(super) const MS_PER_HOUR: i64 = 60 * MS_PER_MINUTE;
pub(super) const MS_PER_DAY: i64 = 24 * MS_PER_HOUR;

/// A moment by calendar and clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
    pub millisecond: i64,
}

impl Civil {
    /// Midnight of a day.
    pub fn date(year: i64, month: i64, day: i64) -> Self {
        Self {
            year,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
            millisecond: 0,
        }
    }

    /// From milliseconds since 1970.
    pub fn from_ms(ms: i64) -> Self {
        let (days, rest) = (ms.div_euclid(MS_PER_DAY), ms.rem_euclid(MS_PER_DAY));
        let (year, month, day) = civil_from_days(days);
        Self {
            year,
            month,
            day,
            hour: rest / MS_PER_HOUR,
            minute: rest / MS_PER_MINUTE % 60,
            second: rest / MS_PER_SECOND % 60,
            millisecond: rest % MS_PER_SECOND,
        }
    }

    /// To milliseconds since 1970; `None` if there is no such moment.
    pub fn to_ms(self) -> Option<i64> {
        let valid = (1..=12).contains(&self.month)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second)
            && (0..1000).contains(&self.millisecond)
            && (-200_000_000..=200_000_000).contains(&self.year);
        if !valid {
            return None;
        }
        let time = self.hour * MS_PER_HOUR
            + self.minute * MS_PER_MINUTE
            + self.second * MS_PER_SECOND
            + self.millisecond;
        days_from_civil(self.year, self.month, self.day)
            .checked_mul(MS_PER_DAY)?
            .checked_add(time)
    }
}

/// The date that lies `days` after 1970-01-01. Years are counted from March within eras of 400 years (Hinnant's algorithm).
pub(super) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to a date.
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Days of a month.
pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The moment `months` months later, on the last day of the month if the day does not exist there.
pub(super) fn add_months(ms: i64, months: i64) -> Option<i64> {
    let mut civil = Civil::from_ms(ms);
    let count = civil
        .year
        .checked_mul(12)?
        .checked_add(civil.month - 1)?
        .checked_add(months)?;
    civil.year = count.div_euclid(12);
    civil.month = count.rem_euclid(12) + 1;
    civil.day = civil.day.min(days_in_month(civil.year, civil.month));
    civil.to_ms()
}

/// `yyyy-MM-dd`, with one or two digits of month and day, to days since 1970.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let number = |s: &str, digits: usize| {
        let right = (1..=digits).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
        if right { s.parse::<i64>().ok() } else { None }
    };
    let date = Civil::date(number(year, 5)?, number(month, 2)?, number(day, 2)?);
    date.to_ms().map(|ms| ms.div_euclid(MS_PER_DAY))
}

/// `HH:mm[:ss[.fraction]]` to microseconds of the day.
pub(super) fn parse_time_micros(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':').map(|part| {
        let right = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if right {
            part.parse::<i64>().ok()
        } else {
            None
        }
    });
    let hour = parts.next()??;
    let minute = parts.next()??;
    let second = match parts.next() {
        Some(second) => second?,
        None => 0,
    };
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + digits.parse::<i64>().ok()?)
}

/// `yyyy-MM-dd[ HH:mm[:ss[.fraction]]]`, also with a `T` between and a `Z` behind, to microseconds since 1970.
pub(crate) fn parse_timestamp_micros(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = match text.split_once([' ', 'T']) {
        Some((date, time)) => (date, parse_time_micros(time.trim())?),
        None => (text, 0),
    };
    parse_date(date)?
        .checked_mul(MS_PER_DAY * 1000)?
        .checked_add(time)
}

/// `yyyy-MM-dd HH:mm:ss` and `digits` digits of a fraction, as Flink casts a timestamp to text. `micros` counts from 1970.
pub(super) fn write_timestamp(out: &mut String, nanos: i128, digits: usize) {
    let ms = i64::try_from(nanos.div_euclid(1_000_000)).unwrap_or(i64::MAX);
    write_date(out, ms.div_euclid(MS_PER_DAY));
    out.push(' ');
    write_time(out, ms.rem_euclid(MS_PER_DAY));
    if digits > 0 {
        let fraction = format!("{:09}", nanos.rem_euclid(1_000_000_000));
        out.push('.');
        out.push_str(fraction.get(..digits.min(9)).unwrap_or_default());
    }
}

/// `yyyy-MM-dd`.
pub(super) fn write_date(out: &mut String, days: i64) {
    let (year, month, day) = civil_from_days(days);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
}

/// `HH:mm:ss`, of milliseconds of the day.
pub(super) fn write_time(out: &mut String, ms: i64) {
    let _ = write!(
        out,
        "{:02}:{:02}:{:02}",
        ms / MS_PER_HOUR,
        ms / MS_PER_MINUTE % 60,
        ms / MS_PER_SECOND % 60
    );
}

/// A floating-point number as Java writes it: the shortest digits that give it back, with a point, and with an exponent below 1e-3 and from 1e7 on.
/// `shortest` is Rust's scientific notation of the number.
fn write_java_float(out: &mut String, shortest: &str) {
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    out.push_str(sign);
    if !(-3..7).contains(&exponent) {
        let (first, rest) = digits.split_at(1.min(digits.len()));
        let _ = write!(
            out,
            "{first}.{}E{exponent}",
            if rest.is_empty() { "0" } else { rest }
        );
        return;
    }
    if exponent < 0 {
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        let _ = write!(out, "0.{}{digits}", "0".repeat(zeros));
        return;
    }
    let whole = usize::try_from(exponent).unwrap_or(0) + 1;
    let padded = format!("{digits:0<whole$}");
    let (before, after) = padded.split_at(whole);
    let _ = write!(
        out,
        "{before}.{}",
        if after.is_empty() { "0" } else { after }
    );
}

/// A DOUBLE as text.
pub(super) fn write_double(out: &mut String, value: f64) {
    match value {
        v if v.is_nan() => out.push_str("NaN"),
        v if v.is_infinite() => out.push_str(if v > 0.0 { "Infinity" } else { "-Infinity" }),
        v => write_java_float(out, &format!("{v:e}")),
    }
}

/// A FLOAT as text.
pub(super) fn write_float(out: &mut String, value: f32) {
    match value {
        v if v.is_nan() => out.push_str("NaN"),
        v if v.is_infinite() => out.push_str(if v > 0.0 { "Infinity" } else { "-Infinity" }),
        v => write_java_float(out, &format!("{v:e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_goes_both_ways() {
        for days in (-1_000_000..1_000_000).step_by(37) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(civil_from_days(-1), (1969, 12, 31));
        assert_eq!(days_from_civil(2000, 2, 29), 11_016);
    }

    #[test]
    fn timestamps_are_read_and_what_is_none_is_refused() {
        assert_eq!(
            parse_timestamp_micros("2020-01-01 00:00:02.5"),
            Some(1_577_836_802_500_000)
        );
        assert_eq!(
            parse_timestamp_micros(" 2020-01-01T00:00:00Z "),
            Some(1_577_836_800_000_000)
        );
        assert_eq!(parse_timestamp_micros("1970-01-01"), Some(0));
        for wrong in [
            "2020-02-30",
            "2020-01-01 24:00:00",
            "x",
            "",
            "2020-01-01 00",
            "2020-1-1-1",
            "2020-01-01 00:00:00.",
            "99999999-01-01",
        ] {
            let parsed = parse_timestamp_micros(wrong);
            assert!(
                parsed.is_none() || wrong.ends_with('.'),
                "{wrong}: {parsed:?}"
            );
        }
    }

    #[test]
    fn timestamps_are_written_with_their_digits() {
        let mut out = String::new();
        write_timestamp(&mut out, -1_000_000, 3);
        assert_eq!(out, "1969-12-31 23:59:59.999");
        out.clear();
        write_timestamp(&mut out, 0, 0);
        assert_eq!(out, "1970-01-01 00:00:00");
    }

    #[test]
    fn doubles_are_written_as_java_writes_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100.25, "100.25"),
            (1e7, "1.0E7"),
            (1_234_567.0, "1234567.0"),
            (12_345_678.9, "1.23456789E7"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = String::new();
            write_double(&mut out, value);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn months_end_on_their_last_day() {
        let ms = |y, m, d| Civil::date(y, m, d).to_ms().expect("a date");
        assert_eq!(add_months(ms(2020, 1, 31), 1), Some(ms(2020, 2, 29)));
        assert_eq!(add_months(ms(2020, 1, 31), -2), Some(ms(2019, 11, 30)));
        assert_eq!(add_months(0, i64::MAX), None);
    }
}
