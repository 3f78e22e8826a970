//! Java's patterns of dates and times (`yyyy-MM-dd HH:mm:ss`), for writing and for reading.

use std::fmt::Write as _;

use datafusion_common::{Result, exec_err};

use super::conversion::{
    Civil, MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_SECOND, days_from_civil,
};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Literal(String),
    /// A letter and how often it stands.
    Field(char, usize),
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    items: Vec<Item>,
    /// Moments within one such span are written alike.
    granularity_ms: i64,
}

impl Pattern {
    /// Compiles a pattern; a letter that is not known is an error.
    pub fn compile(text: &str) -> Result<Self> {
        let mut items: Vec<Item> = Vec::new();
        let mut granularity_ms = MS_PER_DAY;
        let mut chars = text.chars().peekable();
        let literal = |items: &mut Vec<Item>, c: char| match items.last_mut() {
            Some(Item::Literal(text)) => text.push(c),
            _ => items.push(Item::Literal(c.to_string())),
        };
        while let Some(c) = chars.next() {
            if c == '\'' {
                if chars.next_if_eq(&'\'').is_some() {
                    literal(&mut items, '\'');
                    continue;
                }
                while let Some(inner) = chars.next() {
                    if inner == '\'' && chars.next_if_eq(&'\'').is_none() {
                        break;
                    }
                    literal(&mut items, inner);
                }
            } else if c.is_ascii_alphabetic() {
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                granularity_ms = granularity_ms.min(match c {
                    'y' | 'u' | 'M' | 'L' | 'd' | 'D' | 'E' => MS_PER_DAY,
                    'H' | 'h' | 'k' | 'K' | 'a' => MS_PER_HOUR,
                    'm' => MS_PER_MINUTE,
                    's' => MS_PER_SECOND,
                    'S' => 1,
                    other => {
                        return exec_err!(
                            "the letter '{other}' of the date pattern '{text}' is not supported"
                        );
                    }
                });
                items.push(Item::Field(c, count));
            } else {
                literal(&mut items, c);
            }
        }
        Ok(Self {
            items,
            granularity_ms,
        })
    }

    /// Moments with the same quotient by this are written alike.
    pub fn granularity_ms(&self) -> i64 {
        self.granularity_ms
    }

    /// Appends a moment, given as milliseconds since 1970.
    pub fn write(&self, ms: i64, out: &mut String) {
        let civil = Civil::from_ms(ms);
        for item in &self.items {
            match item {
                Item::Literal(text) => out.push_str(text),
                Item::Field(letter, count) => write_field(*letter, *count, &civil, ms, out),
            }
        }
    }

    /// Milliseconds since 1970 of a text; fields that are not in the pattern are those of 1970-01-01 00:00:00. `None` if the text does not fit.
    pub fn read(&self, text: &str) -> Option<i64> {
        let mut civil = Civil::date(1970, 1, 1);
        let mut afternoon = None;
        let mut rest = text;
        for (i, item) in self.items.iter().enumerate() {
            match item {
                Item::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Item::Field('a', _) => {
                    let half = rest.get(..2)?;
                    afternoon = Some(if half.eq_ignore_ascii_case("PM") {
                        true
                    } else if half.eq_ignore_ascii_case("AM") {
                        false
                    } else {
                        return None;
                    });
                    rest = rest.get(2..)?;
                }
                Item::Field('M' | 'L', count) if *count >= 3 => {
                    let (at, name) = MONTHS.iter().enumerate().find_map(|(at, name)| {
                        let name = if *count == 3 { name.get(..3)? } else { name };
                        rest.get(..name.len())
                            .filter(|head| head.eq_ignore_ascii_case(name))
                            .map(|_| (at, name))
                    })?;
                    civil.month = i64::try_from(at).ok()? + 1;
                    rest = rest.get(name.len()..)?;
                }
                Item::Field('E' | 'D', _) => return None,
                Item::Field(letter, count) => {
                    let packed = matches!(self.items.get(i + 1), Some(Item::Field(..)));
                    let digits_max = match letter {
                        'y' | 'u' if !packed => 9,
                        'S' if !packed => 9,
                        _ if packed => *count,
                        _ => (*count).max(2),
                    };
                    let length = rest
                        .bytes()
                        .take(digits_max)
                        .take_while(u8::is_ascii_digit)
                        .count();
                    if length == 0 {
                        return None;
                    }
                    let digits = rest.get(..length)?;
                    set_field(*letter, *count, digits, &mut civil)?;
                    rest = rest.get(length..)?;
                }
            }
        }
        if let Some(afternoon) = afternoon {
            civil.hour = civil.hour % 12 + if afternoon { 12 } else { 0 };
        }
        if rest.is_empty() { civil.to_ms() } else { None }
    }
}

fn set_field(letter: char, count: usize, digits: &str, civil: &mut Civil) -> Option<()> {
    let value: i64 = digits.parse().ok()?;
    match letter {
        'y' | 'u' => {
            civil.year = if count == 2 && digits.len() == 2 {
                2000 + value
            } else {
                value
            }
        }
        'M' | 'L' => civil.month = value,
        'd' => civil.day = value,
        'H' | 'K' | 'h' => civil.hour = value,
        'k' => civil.hour = value % 24,
        'm' => civil.minute = value,
        's' => civil.second = value,
        'S' => civil.millisecond = format!("{digits:0<3}").get(..3)?.parse().ok()?,
        _ => return None,
    }
    Some(())
}

fn write_field(letter: char, count: usize, civil: &Civil, ms: i64, out: &mut String) {
    let mut number = |value: i64, width: usize| {
        let _ = write!(out, "{value:0width$}");
    };
    match letter {
        'y' | 'u' if count == 2 => number(civil.year.rem_euclid(100), 2),
        'y' | 'u' => number(civil.year, count),
        'M' | 'L' if count >= 3 => {
            let name = usize::try_from(civil.month - 1)
                .ok()
                .and_then(|m| MONTHS.get(m))
                .copied()
                .unwrap_or_default();
            out.push_str(if count == 3 {
                name.get(..3).unwrap_or(name)
            } else {
                name
            });
        }
        'M' | 'L' => number(civil.month, count),
        'd' => number(civil.day, count),
        'D' => {
            let days = ms.div_euclid(MS_PER_DAY) - days_from_civil(civil.year, 1, 1) + 1;
            number(days, count);
        }
        'E' => {
            let weekday = (ms.div_euclid(MS_PER_DAY) + 4).rem_euclid(7);
            let name = usize::try_from(weekday)
                .ok()
                .and_then(|d| WEEKDAYS.get(d))
                .copied()
                .unwrap_or_default();
            out.push_str(if count <= 3 {
                name.get(..3).unwrap_or(name)
            } else {
                name
            });
        }
        'H' => number(civil.hour, count),
        'k' => number(if civil.hour == 0 { 24 } else { civil.hour }, count),
        'K' => number(civil.hour % 12, count),
        'h' => number(
            if civil.hour % 12 == 0 {
                12
            } else {
                civil.hour % 12
            },
            count,
        ),
        'a' => out.push_str(if civil.hour < 12 { "AM" } else { "PM" }),
        'm' => number(civil.minute, count),
        's' => number(civil.second, count),
        _ => {
            let digits = format!(
                "{:03}{}",
                civil.millisecond,
                "0".repeat(count.saturating_sub(3).min(6))
            );
            out.push_str(digits.get(..count.min(digits.len())).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_write_and_read() {
        let ms = 1_587_024_000_123; // 2020-04-16 08:00:00.123, a Thursday
        for (pattern, text, back) in [
            ("yyyy-MM-dd", "2020-04-16", Some(1_586_995_200_000)),
            (
                "yyyy-MM-dd HH:mm:ss.SSS",
                "2020-04-16 08:00:00.123",
                Some(ms),
            ),
            ("yyyyMMddHHmmss", "20200416080000", Some(1_587_024_000_000)),
            ("HH:mm", "08:00", Some(8 * MS_PER_HOUR)),
            ("d/M/yy h:mm a", "16/4/20 8:00 AM", Some(1_587_024_000_000)),
            ("EEE d MMM", "Thu 16 Apr", None),
            ("yyyy'T'''", "2020T'", Some(1_577_836_800_000)),
        ] {
            let compiled = Pattern::compile(pattern).expect("compiles");
            let mut out = String::new();
            compiled.write(ms, &mut out);
            assert_eq!(out, text, "{pattern}");
            assert_eq!(compiled.read(text), back, "{pattern}");
        }
        assert!(Pattern::compile("QQ").is_err());
        assert_eq!(
            Pattern::compile("yyyy-MM-dd")
                .expect("compiles")
                .read("2020-13-01"),
            None
        );
        assert_eq!(
            Pattern::compile("yyyy-MM-dd")
                .expect("compiles")
                .read("2020-01-01x"),
            None
        );
    }
}
