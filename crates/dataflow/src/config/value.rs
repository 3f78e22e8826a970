//! Texts of configuration values to values, by Flink's rules.
//!
//! Every parser takes any text and returns what it stands for, or the words that complete "expected …". None allocates more than its input.

use std::time::Duration;

/// Bytes, written with binary units: `64 mb` is 64 × 1024 × 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(pub u64);

/// A duration such as `10 min`, `500ms` or `1 s`; a bare number is milliseconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "a duration such as '10 s', '500ms' or '3 min'";
    let (number, unit) = number_and_unit(text).ok_or(EXPECTED)?;
    let nanos_per_unit: u128 = match unit.as_str() {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "minute" | "minutes" => 60 * 1_000_000_000,
        "h" | "hour" | "hours" => 3_600 * 1_000_000_000,
        "d" | "day" | "days" => 86_400 * 1_000_000_000,
        _ => return Err(EXPECTED.to_owned()),
    };
    // A u64 times at most 8.64e13 fits a u128.
    let nanos = u128::from(number) * nanos_per_unit;
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| "a shorter duration")?;
    // The remainder is below 1e9, so it fits a u32.
    Ok(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// A size such as `64 mb`, `1GB` or `4096` (bytes); units are binary.
pub fn memory_size(text: &str) -> Result<MemorySize, String> {
    const EXPECTED: &str = "a size such as '64 mb', '1gb' or '4096'";
    let (number, unit) = number_and_unit(text).ok_or(EXPECTED)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return Err(EXPECTED.to_owned()),
    };
    number
        .checked_mul(1 << shift)
        .map(MemorySize)
        .ok_or_else(|| "a smaller size".to_owned())
}

/// `true` or `false`, in any case.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("'true' or 'false'".to_owned()),
    }
}

/// A whole number.
pub fn integer(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| "a whole number".to_owned())
}

/// Items separated by `;`. An item in single or double quotes may hold semicolons; a doubled quote inside stands for the quote.
pub fn list(text: &str) -> Result<Vec<String>, String> {
    let mut items = Vec::new();
    let mut item = String::new();
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match quote {
            Some(q) if c == q => {
                if characters.next_if_eq(&q).is_some() {
                    item.push(q);
                } else {
                    quote = None;
                }
            }
            Some(_) => item.push(c),
            None if (c == '\'' || c == '"') && item.trim().is_empty() => {
                item.clear();
                quote = Some(c);
            }
            None if c == ';' => items.push(std::mem::take(&mut item).trim().to_owned()),
            None => item.push(c),
        }
    }
    if quote.is_some() {
        return Err("a closing quote at the end of the list".to_owned());
    }
    items.push(item.trim().to_owned());
    items.retain(|item| !item.is_empty());
    Ok(items)
}

/// Digits, then a unit in lower case; blanks around both do not matter.
fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim().to_lowercase()))
}
