//! Reads the options of a table's `WITH (…)` clause.
//!
//! Every value is text; each getter says in its error which table and option it was, what was expected and what was found.
//! Durations and sizes are written as in Flink: `10 min`, `500ms`, `64 mb`; a bare number is milliseconds or bytes.

use std::ops::RangeInclusive;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::TableSpec;

/// The options of one table, as one connector understands them.
pub(crate) struct Options<'a> {
    table: &'a TableSpec,
    connector: &'static str,
}

impl<'a> Options<'a> {
    /// Options of `table`, read by `connector`. Call [`Options::check_known`] before the getters.
    pub(crate) fn new(table: &'a TableSpec, connector: &'static str) -> Self {
        Self { table, connector }
    }

    /// An error if there is an option whose name is not in `known`; it names the nearest one that is.
    pub(crate) fn check_known<'k>(
        &self,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Result<(), JobError> {
        let known: Vec<&str> = known.into_iter().collect();
        for key in self.table.options.keys() {
            if !known.contains(&key.as_str()) && key != "connector" {
                return Err(self.unknown(key, &known));
            }
        }
        Ok(())
    }

    fn unknown(&self, key: &str, known: &[&str]) -> JobError {
        let table = &self.table.name;
        let connector = self.connector;
        JobError::usage(match nearest(key, known) {
            Some(near) => format!(
                "table '{table}': connector '{connector}' has no option '{key}'; the nearest one is '{near}'"
            ),
            None => {
                format!("table '{table}': connector '{connector}' has no options, found '{key}'")
            }
        })
    }

    /// The text of an option, if it is given.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.table.options.get(key).map(String::as_str)
    }

    /// The error for a value that is not what the option takes.
    pub(crate) fn malformed(&self, key: &str, expected: &str, found: &str) -> JobError {
        JobError::usage(format!(
            "table '{}': option '{key}' must be {expected}, found '{found}'",
            self.table.name
        ))
    }

    /// The error for an option that must be given.
    pub(crate) fn missing(&self, key: &str, expected: &str) -> JobError {
        JobError::usage(format!(
            "table '{}': connector '{}' needs the option '{key}', which is {expected}",
            self.table.name, self.connector
        ))
    }

    /// `true` or `false`, in any case.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, JobError> {
        match self.text(key) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(self.malformed(key, "true or false", text)),
        }
    }

    /// A whole number within `range`.
    pub(crate) fn whole(
        &self,
        key: &str,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> Result<i64, JobError> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        match text.trim().parse::<i64>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => {
                let expected = match (*range.start(), *range.end()) {
                    (i64::MIN, i64::MAX) => "a whole number".to_owned(),
                    (start, i64::MAX) => format!("a whole number of at least {start}"),
                    (start, end) => format!("a whole number from {start} to {end}"),
                };
                Err(self.malformed(key, &expected, text))
            }
        }
    }

    /// One of a few words, in any case; returns its index in `words`.
    pub(crate) fn choice(
        &self,
        key: &str,
        words: &[&str],
        default: usize,
    ) -> Result<usize, JobError> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        words
            .iter()
            .position(|word| word.eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| self.malformed(key, &format!("one of {}", words.join(", ")), text))
    }

    /// A duration in milliseconds.
    pub(crate) fn duration_ms(&self, key: &str, default_ms: i64) -> Result<i64, JobError> {
        let Some(text) = self.text(key) else {
            return Ok(default_ms);
        };
        parse_duration_ms(text).ok_or_else(|| {
            self.malformed(key, "a duration such as '10 min', '30 s' or '500 ms'", text)
        })
    }

    /// A number of bytes, at most `bytes_max`.
    pub(crate) fn bytes(&self, key: &str, default: u64, bytes_max: u64) -> Result<u64, JobError> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        match parse_bytes(text) {
            Some(bytes) if bytes <= bytes_max => Ok(bytes),
            _ => {
                let expected = format!("a size such as '64 mb', at most {bytes_max} bytes");
                Err(self.malformed(key, &expected, text))
            }
        }
    }

    /// A single character; Flink's escapes `\t`, `\\` and `\u0001` are understood.
    pub(crate) fn character(&self, key: &str) -> Result<Option<u8>, JobError> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        let byte = match text.as_bytes() {
            [byte] => Some(*byte),
            b"\\t" => Some(b'\t'),
            b"\\\\" => Some(b'\\'),
            [b'\\', b'u', hex @ ..] if hex.len() == 4 => std::str::from_utf8(hex)
                .ok()
                .and_then(|hex| u8::from_str_radix(hex.strip_prefix("00")?, 16).ok()),
            _ => None,
        };
        match byte {
            Some(byte) if byte.is_ascii() && byte != b'\n' && byte != b'\r' => Ok(Some(byte)),
            _ => Err(self.malformed(key, "one ASCII character other than a line end", text)),
        }
    }
}

/// The number and the unit of `12 min`: leading digits, then the rest in lower case.
fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim().to_ascii_lowercase()))
}

/// A duration as Flink writes it, in milliseconds.
pub(crate) fn parse_duration_ms(text: &str) -> Option<i64> {
    let (number, unit) = number_and_unit(text)?;
    let number = i64::try_from(number).ok()?;
    let (multiplier, divisor) = match unit.as_str() {
        "d" | "day" | "days" => (86_400_000, 1),
        "h" | "hour" | "hours" => (3_600_000, 1),
        "m" | "min" | "minute" | "minutes" => (60_000, 1),
        "s" | "sec" | "secs" | "second" | "seconds" => (1_000, 1),
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => (1, 1),
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => (1, 1_000),
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => (1, 1_000_000),
        _ => return None,
    };
    number
        .checked_mul(multiplier)
        .map(|product| product / divisor)
}

/// A size as Flink writes it, in bytes; units are binary.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// The known name that needs the fewest edits to become `found`.
pub(crate) fn nearest<'k>(found: &str, known: &[&'k str]) -> Option<&'k str> {
    known.iter().copied().min_by_key(|name| edits(found, name))
}

/// Levenshtein distance.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&to) {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_flink_writes_them() {
        assert_eq!(parse_duration_ms("10 min"), Some(600_000));
        assert_eq!(parse_duration_ms("500ms"), Some(500));
        assert_eq!(parse_duration_ms("1 d"), Some(86_400_000));
        assert_eq!(parse_duration_ms("250"), Some(250));
        assert_eq!(parse_duration_ms("1500 us"), Some(1));
        assert_eq!(parse_duration_ms("ten minutes"), None);
        assert_eq!(parse_duration_ms("1 fortnight"), None);
        assert_eq!(parse_duration_ms("999999999999999999 d"), None);
        assert_eq!(parse_bytes("200b"), Some(200));
        assert_eq!(parse_bytes("64 mb"), Some(64 << 20));
        assert_eq!(parse_bytes("1GB"), Some(1 << 30));
        assert_eq!(parse_bytes("-1"), None);
    }

    #[test]
    fn the_nearest_name_is_the_one_with_the_fewest_edits() {
        let known = ["events.num", "rate.period", "bid.proportion"];
        assert_eq!(nearest("event.num", &known), Some("events.num"));
        assert_eq!(nearest("bids.proportion", &known), Some("bid.proportion"));
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("abc", ""), 3);
    }
}
