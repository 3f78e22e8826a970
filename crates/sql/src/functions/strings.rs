//! String functions that make strings. Positions count characters from 1, as in Flink.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;

use super::arguments::Kind::{Text, Whole};
use super::arguments::{Call, Parameters, build_text};
use super::definition::{Definition, always};

/// A padded or repeated string longer than this is null rather than memory lost.
const LENGTH_MAX: usize = 1 << 24;

pub(super) const FUNCTIONS: &[Definition] = &[
    text(&["lower", "lcase"], Parameters::exact(&[Text]), lower),
    text(&["upper", "ucase"], Parameters::exact(&[Text]), upper),
    text(&["reverse"], Parameters::exact(&[Text]), reverse),
    text(&["initcap"], Parameters::exact(&[Text]), initcap),
    text(
        &["replace"],
        Parameters::exact(&[Text, Text, Text]),
        replace,
    ),
    text(&["concat"], Parameters::with_rest(&[Text], Text), concat),
    text(
        &["concat_ws"],
        Parameters::with_rest(&[Text], Text),
        concat_ws,
    ),
    text(
        &["substring", "substr"],
        Parameters::with_optional(&[Text, Whole], &[Whole]),
        substring,
    ),
    text(&["left"], Parameters::exact(&[Text, Whole]), left),
    text(&["right"], Parameters::exact(&[Text, Whole]), right),
    text(
        &["lpad"],
        Parameters::with_optional(&[Text, Whole], &[Text]),
        lpad,
    ),
    text(
        &["rpad"],
        Parameters::with_optional(&[Text, Whole], &[Text]),
        rpad,
    ),
    text(&["repeat"], Parameters::exact(&[Text, Whole]), repeat),
    text(
        &["overlay"],
        Parameters::with_optional(&[Text, Text, Whole], &[Whole]),
        overlay,
    ),
    text(
        &["btrim", "trim"],
        Parameters::with_optional(&[Text], &[Text]),
        btrim,
    ),
    text(
        &["ltrim"],
        Parameters::with_optional(&[Text], &[Text]),
        ltrim,
    ),
    text(
        &["rtrim"],
        Parameters::with_optional(&[Text], &[Text]),
        rtrim,
    ),
    text(
        &["split_index"],
        Parameters::exact(&[Text, Text, Whole]),
        split_index,
    ),
    text(
        &["translate", "translate3"],
        Parameters::exact(&[Text, Text, Text]),
        translate,
    ),
];

const fn text(
    names: &'static [&'static str],
    parameters: Parameters,
    evaluate: fn(&Call) -> Result<ArrayRef>,
) -> Definition {
    Definition {
        names,
        parameters,
        returns: always!(DataType::Utf8),
        evaluate,
    }
}

fn lower(call: &Call) -> Result<ArrayRef> {
    let s = call.text(0)?;
    Ok(build_text(call.rows, |i, out| {
        let s = s.get(i)?;
        if s.is_ascii() {
            out.push_str(s);
            out.make_ascii_lowercase();
        } else {
            out.extend(s.chars().flat_map(char::to_lowercase));
        }
        Some(())
    }))
}

fn upper(call: &Call) -> Result<ArrayRef> {
    let s = call.text(0)?;
    Ok(build_text(call.rows, |i, out| {
        let s = s.get(i)?;
        if s.is_ascii() {
            out.push_str(s);
            out.make_ascii_uppercase();
        } else {
            out.extend(s.chars().flat_map(char::to_uppercase));
        }
        Some(())
    }))
}

fn reverse(call: &Call) -> Result<ArrayRef> {
    let s = call.text(0)?;
    Ok(build_text(call.rows, |i, out| {
        out.extend(s.get(i)?.chars().rev());
        Some(())
    }))
}

fn initcap(call: &Call) -> Result<ArrayRef> {
    let s = call.text(0)?;
    Ok(build_text(call.rows, |i, out| {
        let mut in_word = false;
        for c in s.get(i)?.chars() {
            if in_word {
                out.extend(c.to_lowercase());
            } else {
                out.extend(c.to_uppercase());
            }
            in_word = c.is_alphanumeric();
        }
        Some(())
    }))
}

fn replace(call: &Call) -> Result<ArrayRef> {
    let (s, from, to) = (call.text(0)?, call.text(1)?, call.text(2)?);
    Ok(build_text(call.rows, |i, out| {
        out.push_str(&s.get(i)?.replace(from.get(i)?, to.get(i)?));
        Some(())
    }))
}

/// Null if any argument is.
fn concat(call: &Call) -> Result<ArrayRef> {
    let parts = (0..call.len())
        .map(|i| call.text(i))
        .collect::<Result<Vec<_>>>()?;
    Ok(build_text(call.rows, |i, out| {
        parts.iter().try_for_each(|part| {
            out.push_str(part.get(i)?);
            Some(())
        })
    }))
}

/// Null if the separator is; other nulls are passed over.
fn concat_ws(call: &Call) -> Result<ArrayRef> {
    let parts = (0..call.len())
        .map(|i| call.text(i))
        .collect::<Result<Vec<_>>>()?;
    Ok(build_text(call.rows, |i, out| {
        let (separator, parts) = parts.split_first()?;
        let separator = separator.get(i)?;
        let mut first = true;
        for part in parts.iter().filter_map(|part| part.get(i)) {
            if !first {
                out.push_str(separator);
            }
            first = false;
            out.push_str(part);
        }
        Some(())
    }))
}

/// The characters of `s` from `start` (1 is the first, 0 too, -1 the last), at most `length`.
fn slice(s: &str, start: i64, length: Option<i64>) -> Option<&str> {
    if length.is_some_and(|length| length < 0) {
        return None;
    }
    let count = || i64::try_from(s.chars().count()).unwrap_or(i64::MAX);
    let from = match start {
        0 => 0,
        start if start > 0 => start - 1,
        start => match count().checked_add(start) {
            Some(from) if from >= 0 => from,
            _ => return Some(""),
        },
    };
    let byte_of = |rest: &str, n: i64| {
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        if rest.is_ascii() {
            n.min(rest.len())
        } else {
            rest.char_indices().nth(n).map_or(rest.len(), |(at, _)| at)
        }
    };
    let rest = s.get(byte_of(s, from)..)?;
    match length {
        Some(length) => rest.get(..byte_of(rest, length)),
        None => Some(rest),
    }
}

fn substring(call: &Call) -> Result<ArrayRef> {
    let (s, start) = (call.text(0)?, call.whole(1)?);
    let length = if call.len() > 2 {
        Some(call.whole(2)?)
    } else {
        None
    };
    Ok(build_text(call.rows, |i, out| {
        let length = match &length {
            Some(length) => Some(length.get(i)?),
            None => None,
        };
        out.push_str(slice(s.get(i)?, start.get(i)?, length)?);
        Some(())
    }))
}

fn left(call: &Call) -> Result<ArrayRef> {
    let (s, n) = (call.text(0)?, call.whole(1)?);
    Ok(build_text(call.rows, |i, out| {
        out.push_str(slice(s.get(i)?, 1, Some(n.get(i)?.max(0)))?);
        Some(())
    }))
}

fn right(call: &Call) -> Result<ArrayRef> {
    let (s, n) = (call.text(0)?, call.whole(1)?);
    Ok(build_text(call.rows, |i, out| {
        let (s, n) = (s.get(i)?, n.get(i)?.max(0));
        let count = i64::try_from(s.chars().count()).ok()?;
        out.push_str(slice(s, (count - n).max(0) + 1, None)?);
        Some(())
    }))
}

/// `n` characters: `s` cut, or with `pad` repeated before (`before`) or behind it.
fn pad(call: &Call, before: bool) -> Result<ArrayRef> {
    let (s, n, pad) = (call.text(0)?, call.whole(1)?, call.optional_text(2)?);
    Ok(build_text(call.rows, |i, out| {
        let (s, n) = (
            s.get(i)?,
            usize::try_from(n.get(i)?)
                .ok()
                .filter(|n| *n <= LENGTH_MAX)?,
        );
        let pad = match &pad {
            Some(pad) => pad.get(i)?,
            None => " ",
        };
        if pad.is_empty() {
            return None;
        }
        let missing = n.saturating_sub(s.chars().count());
        if !before {
            out.extend(s.chars().take(n));
        }
        out.extend(pad.chars().cycle().take(missing));
        if before {
            out.extend(s.chars().take(n));
        }
        Some(())
    }))
}

fn lpad(call: &Call) -> Result<ArrayRef> {
    pad(call, true)
}

fn rpad(call: &Call) -> Result<ArrayRef> {
    pad(call, false)
}

fn repeat(call: &Call) -> Result<ArrayRef> {
    let (s, n) = (call.text(0)?, call.whole(1)?);
    Ok(build_text(call.rows, |i, out| {
        let (s, n) = (s.get(i)?, usize::try_from(n.get(i)?.max(0)).ok()?);
        if s.len().checked_mul(n)? > LENGTH_MAX {
            return None;
        }
        (0..n).for_each(|_| out.push_str(s));
        Some(())
    }))
}

fn overlay(call: &Call) -> Result<ArrayRef> {
    let (s, new, start) = (call.text(0)?, call.text(1)?, call.whole(2)?);
    let length = if call.len() > 3 {
        Some(call.whole(3)?)
    } else {
        None
    };
    Ok(build_text(call.rows, |i, out| {
        let (s, new, start) = (s.get(i)?, new.get(i)?, start.get(i)?);
        let length = match &length {
            Some(length) => length.get(i)?,
            None => i64::try_from(new.chars().count()).ok()?,
        };
        let count = i64::try_from(s.chars().count()).ok()?;
        if start <= 0 || start > count {
            out.push_str(s);
            return Some(());
        }
        out.push_str(slice(s, 1, Some(start - 1))?);
        out.push_str(new);
        if length >= 0 && start.checked_add(length)? <= count {
            out.push_str(slice(s, start + length, None)?);
        }
        Some(())
    }))
}

/// Takes characters of `characters` (default: the space) off the ends.
fn trim(call: &Call, start: bool, end: bool) -> Result<ArrayRef> {
    let (s, characters) = (call.text(0)?, call.optional_text(1)?);
    Ok(build_text(call.rows, |i, out| {
        let mut s = s.get(i)?;
        let characters = match &characters {
            Some(characters) => characters.get(i)?,
            None => " ",
        };
        if start {
            s = s.trim_start_matches(|c| characters.contains(c));
        }
        if end {
            s = s.trim_end_matches(|c| characters.contains(c));
        }
        out.push_str(s);
        Some(())
    }))
}

fn btrim(call: &Call) -> Result<ArrayRef> {
    trim(call, true, true)
}

fn ltrim(call: &Call) -> Result<ArrayRef> {
    trim(call, true, false)
}

fn rtrim(call: &Call) -> Result<ArrayRef> {
    trim(call, false, true)
}

/// Part `n` (from 0) of `s` between whole separators; null if there is none. Splitting an empty string gives no part.
fn split_index(call: &Call) -> Result<ArrayRef> {
    let (s, separator, n) = (call.text(0)?, call.text(1)?, call.whole(2)?);
    Ok(build_text(call.rows, |i, out| {
        let (s, separator) = (s.get(i)?, separator.get(i)?);
        let n = usize::try_from(n.get(i)?).ok()?;
        if s.is_empty() {
            return None;
        }
        let part = if separator.is_empty() {
            s.split(char::is_whitespace).nth(n)?
        } else {
            s.split(separator).nth(n)?
        };
        out.push_str(part);
        Some(())
    }))
}

fn translate(call: &Call) -> Result<ArrayRef> {
    let (s, from, to) = (call.text(0)?, call.text(1)?, call.text(2)?);
    Ok(build_text(call.rows, |i, out| {
        let (s, from, to) = (s.get(i)?, from.get(i)?, to.get(i)?);
        for c in s.chars() {
            match from.chars().position(|f| f == c) {
                Some(at) => out.extend(to.chars().nth(at)),
                None => out.push(c),
            }
        }
        Some(())
    }))
}

#[cfg(test)]
mod tests {
    use super::slice;

    #[test]
    fn substrings_count_characters_from_one() {
        for (start, length, expected) in [
            (1, None, Some("añb")),
            (0, Some(1), Some("a")),
            (2, Some(1), Some("ñ")),
            (-2, None, Some("ñb")),
            (-9, None, Some("")),
            (9, Some(2), Some("")),
            (1, Some(-1), None),
            (i64::MIN, Some(i64::MAX), Some("")),
            (i64::MAX, Some(i64::MAX), Some("")),
        ] {
            assert_eq!(slice("añb", start, length), expected, "{start} {length:?}");
        }
    }
}
