//! Units of time: taking one out of a moment, and cutting a moment to one.

use datafusion_common::{Result, exec_err};

use super::conversion::{
    Civil, MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND, add_months, days_from_civil,
};

/// What can be taken out of a time, or a time be cut to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millennium,
    Century,
    Decade,
    Year,
    Quarter,
    Month,
    Week,
    Day,
    DayOfYear,
    DayOfWeek,
    IsoDayOfWeek,
    Hour,
    Minute,
    Second,
    Millisecond,
    Epoch,
}

impl Unit {
    /// By its name in SQL, in any case.
    pub fn parse(text: &str) -> Result<Self> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SQL_TSI_").unwrap_or(&upper);
        Ok(match name {
            "MILLENNIUM" => Unit::Millennium,
            "CENTURY" => Unit::Century,
            "DECADE" => Unit::Decade,
            "YEAR" => Unit::Year,
            "QUARTER" => Unit::Quarter,
            "MONTH" => Unit::Month,
            "WEEK" => Unit::Week,
            "DAY" => Unit::Day,
            "DOY" => Unit::DayOfYear,
            "DOW" => Unit::DayOfWeek,
            "ISODOW" => Unit::IsoDayOfWeek,
            "HOUR" => Unit::Hour,
            "MINUTE" => Unit::Minute,
            "SECOND" => Unit::Second,
            "MILLISECOND" => Unit::Millisecond,
            "EPOCH" => Unit::Epoch,
            _ => return exec_err!("the time unit '{text}' is not supported"),
        })
    }

    /// Its length, if it is the same everywhere.
    pub fn ms(self) -> Option<i64> {
        match self {
            Unit::Week => Some(7 * MS_PER_DAY),
            Unit::Day => Some(MS_PER_DAY),
            Unit::Hour => Some(MS_PER_HOUR),
            Unit::Minute => Some(MS_PER_MINUTE),
            Unit::Second => Some(MS_PER_SECOND),
            Unit::Millisecond => Some(1),
            _ => None,
        }
    }

    /// Its length in months.
    pub fn months(self) -> Option<i64> {
        match self {
            Unit::Millennium => Some(12_000),
            Unit::Century => Some(1200),
            Unit::Decade => Some(120),
            Unit::Year => Some(12),
            Unit::Quarter => Some(3),
            Unit::Month => Some(1),
            _ => None,
        }
    }
}

/// The unit's value in a moment, as `EXTRACT` gives it.
pub(super) fn extract_part(unit: Unit, ms: i64) -> i64 {
    let days = ms.div_euclid(MS_PER_DAY);
    let time = ms.rem_euclid(MS_PER_DAY);
    let civil = || Civil::from_ms(ms);
    match unit {
        Unit::Hour => time / MS_PER_HOUR,
        Unit::Minute => time / MS_PER_MINUTE % 60,
        Unit::Second => time / MS_PER_SECOND % 60,
        Unit::Millisecond => time % MS_PER_MINUTE,
        Unit::Epoch => ms.div_euclid(MS_PER_SECOND),
        Unit::Year => civil().year,
        Unit::Millennium => (civil().year + 999).div_euclid(1000),
        Unit::Century => (civil().year + 99).div_euclid(100),
        Unit::Decade => civil().year.div_euclid(10),
        Unit::Quarter => (civil().month - 1) / 3 + 1,
        Unit::Month => civil().month,
        Unit::Day => civil().day,
        Unit::DayOfYear => days - days_from_civil(civil().year, 1, 1) + 1,
        Unit::DayOfWeek => (days + 4).rem_euclid(7) + 1,
        Unit::IsoDayOfWeek => (days + 3).rem_euclid(7) + 1,
        Unit::Week => {
            // The ISO week belongs to the year of its Thursday.
            let thursday = days - (days + 3).rem_euclid(7) + 3;
            let year = Civil::from_ms(thursday.saturating_mul(MS_PER_DAY)).year;
            (thursday - days_from_civil(year, 1, 1)) / 7 + 1
        }
    }
}

/// The beginning of the unit that `ms` lies in. Weeks begin on Sunday, as in Flink.
pub(super) fn floor(unit: Unit, ms: i64) -> Option<i64> {
    match unit {
        Unit::Week => {
            let days = ms.div_euclid(MS_PER_DAY);
            (days - (days + 4).rem_euclid(7)).checked_mul(MS_PER_DAY)
        }
        unit => match (unit.ms(), unit.months()) {
            (Some(length), _) => Some(ms - ms.rem_euclid(length)),
            (None, Some(months)) => {
                let civil = Civil::from_ms(ms);
                // Centuries and millennia begin with the year 1.
                let first = if months >= 1200 { 12 } else { 0 };
                let count = civil.year * 12 + civil.month - 1 - first;
                let count = count - count.rem_euclid(months) + first;
                Civil::date(count.div_euclid(12), count.rem_euclid(12) + 1, 1).to_ms()
            }
            (None, None) => None,
        },
    }
}

/// The beginning of the next unit, or the moment itself if a unit begins with it.
pub(super) fn ceil(unit: Unit, ms: i64) -> Option<i64> {
    let begin = floor(unit, ms)?;
    if begin == ms {
        return Some(ms);
    }
    match (unit.ms(), unit.months()) {
        (Some(length), _) => begin.checked_add(length),
        (None, Some(months)) => add_months(begin, months),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_times_before_and_after_1970() {
        let ms = Civil {
            hour: 23,
            minute: 59,
            second: 58,
            millisecond: 7,
            ..Civil::date(2021, 1, 3)
        }
        .to_ms();
        let ms = ms.expect("a time");
        for (unit, value) in [
            (Unit::Year, 2021),
            (Unit::Quarter, 1),
            (Unit::Week, 53),
            (Unit::DayOfWeek, 1),
            (Unit::IsoDayOfWeek, 7),
            (Unit::DayOfYear, 3),
            (Unit::Hour, 23),
            (Unit::Second, 58),
            (Unit::Century, 21),
        ] {
            assert_eq!(extract_part(unit, ms), value, "{unit:?}");
        }
        assert_eq!(extract_part(Unit::Hour, -1), 23);
        assert_eq!(extract_part(Unit::Year, -1), 1969);
    }

    #[test]
    fn times_are_cut_to_units() {
        let ms = |y, m, d| Civil::date(y, m, d).to_ms().expect("a date");
        let noon = ms(2020, 5, 13) + 12 * MS_PER_HOUR;
        for (unit, down, up) in [
            (Unit::Day, ms(2020, 5, 13), ms(2020, 5, 14)),
            (Unit::Week, ms(2020, 5, 10), ms(2020, 5, 17)),
            (Unit::Month, ms(2020, 5, 1), ms(2020, 6, 1)),
            (Unit::Quarter, ms(2020, 4, 1), ms(2020, 7, 1)),
            (Unit::Year, ms(2020, 1, 1), ms(2021, 1, 1)),
        ] {
            assert_eq!(floor(unit, noon), Some(down), "{unit:?}");
            assert_eq!(ceil(unit, noon), Some(up), "{unit:?}");
        }
    }
}
