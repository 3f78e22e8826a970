//! String functions that make numbers or truth values.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::Result;

use super::arguments::Kind::{Text, Whole};
use super::arguments::{Call, Parameters, build_boolean, build_int, build_text, build_whole};
use super::definition::{Definition, Returns, always};

const INT: Returns = always!(DataType::Int32);
const BIGINT: Returns = always!(DataType::Int64);
const BOOLEAN: Returns = always!(DataType::Boolean);
const STRING: Returns = always!(DataType::Utf8);

pub(super) const FUNCTIONS: &[Definition] = &[
    define(
        &["char_length", "character_length"],
        Parameters::exact(&[Text]),
        INT,
        char_length,
    ),
    define(
        &["locate"],
        Parameters::with_optional(&[Text, Text], &[Whole]),
        INT,
        locate,
    ),
    define(&["instr"], Parameters::exact(&[Text, Text]), INT, instr),
    define(&["ascii"], Parameters::exact(&[Text]), INT, ascii),
    define(&["chr"], Parameters::exact(&[Whole]), STRING, chr),
    define(&["hash_code"], Parameters::exact(&[Text]), INT, hash_code),
    define(
        &["startswith"],
        Parameters::exact(&[Text, Text]),
        BOOLEAN,
        startswith,
    ),
    define(
        &["endswith"],
        Parameters::exact(&[Text, Text]),
        BOOLEAN,
        endswith,
    ),
    define(&["is_alpha"], Parameters::exact(&[Text]), BOOLEAN, is_alpha),
    define(&["is_digit"], Parameters::exact(&[Text]), BOOLEAN, is_digit),
    define(
        &["is_decimal"],
        Parameters::exact(&[Text]),
        BOOLEAN,
        is_decimal,
    ),
    define(
        &["count_char"],
        Parameters::exact(&[Text, Text]),
        BIGINT,
        count_char,
    ),
];

const fn define(
    names: &'static [&'static str],
    parameters: Parameters,
    returns: Returns,
    evaluate: fn(&Call) -> Result<ArrayRef>,
) -> Definition {
    Definition {
        names,
        parameters,
        returns,
        evaluate,
    }
}

fn char_length(call: &Call) -> Result<ArrayRef> {
    let s = call.text(0)?;
    Ok(build_int(call.rows, |i| {
        i32::try_from(s.get(i)?.chars().count()).ok()
    }))
}

/// Place of `part` in `s`, counted in characters from 1, at or behind `from`; 0 if it is not there.
fn place(part: &str, s: &str, from: i64) -> Option<i32> {
    let skip = usize::try_from(from.max(1) - 1).ok()?;
    let Some(start) = s
        .char_indices()
        .map(|(at, _)| at)
        .chain([s.len()])
        .nth(skip)
    else {
        return Some(0);
    };
    let Some(at) = s.get(start..)?.find(part) else {
        return Some(0);
    };
    i32::try_from(s.get(..start + at)?.chars().count() + 1).ok()
}

fn locate(call: &Call) -> Result<ArrayRef> {
    let (part, s) = (call.text(0)?, call.text(1)?);
    let from = if call.len() > 2 {
        Some(call.whole(2)?)
    } else {
        None
    };
    Ok(build_int(call.rows, |i| {
        let from = match &from {
            Some(from) => from.get(i)?,
            None => 1,
        };
        place(part.get(i)?, s.get(i)?, from)
    }))
}

fn instr(call: &Call) -> Result<ArrayRef> {
    let (s, part) = (call.text(0)?, call.text(1)?);
    Ok(build_int(call.rows, |i| place(part.get(i)?, s.get(i)?, 1)))
}

fn ascii(call: &Call) -> Result<ArrayRef> {
    let s = call.text(0)?;
    Ok(build_int(call.rows, |i| {
        Some(s.get(i)?.bytes().next().map_or(0, i32::from))
    }))
}

fn chr(call: &Call) -> Result<ArrayRef> {
    let n = call.whole(0)?;
    Ok(build_text(call.rows, |i, out| {
        if let Ok(code) = u8::try_from(n.get(i)?.rem_euclid(256)) {
            out.push(char::from(code));
        }
        Some(())
    }))
}

/// Java's `String.hashCode`: over UTF-16 units, wrapping.
fn hash_code(call: &Call) -> Result<ArrayRef> {
    let s = call.text(0)?;
    Ok(build_int(call.rows, |i| {
        Some(s.get(i)?.encode_utf16().fold(0i32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(i32::from(unit))
        }))
    }))
}

fn startswith(call: &Call) -> Result<ArrayRef> {
    let (s, part) = (call.text(0)?, call.text(1)?);
    Ok(build_boolean(call.rows, |i| {
        Some(s.get(i)?.starts_with(part.get(i)?))
    }))
}

fn endswith(call: &Call) -> Result<ArrayRef> {
    let (s, part) = (call.text(0)?, call.text(1)?);
    Ok(build_boolean(call.rows, |i| {
        Some(s.get(i)?.ends_with(part.get(i)?))
    }))
}

fn is_alpha(call: &Call) -> Result<ArrayRef> {
    let s = call.text(0)?;
    Ok(build_boolean(call.rows, |i| {
        Some(
            s.get(i)
                .is_some_and(|s| !s.is_empty() && s.chars().all(char::is_alphabetic)),
        )
    }))
}

fn is_digit(call: &Call) -> Result<ArrayRef> {
    let s = call.text(0)?;
    Ok(build_boolean(call.rows, |i| {
        Some(
            s.get(i)
                .is_some_and(|s| !s.is_empty() && s.chars().all(|c| c.is_ascii_digit())),
        )
    }))
}

fn is_decimal(call: &Call) -> Result<ArrayRef> {
    let s = call.text(0)?;
    Ok(build_boolean(call.rows, |i| {
        Some(s.get(i).is_some_and(|s| {
            let digits = s.trim_start_matches(['+', '-']);
            let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
            !(whole.is_empty() && part.is_empty())
                && s.len() - digits.len() <= 1
                && whole
                    .chars()
                    .chain(part.chars())
                    .all(|c| c.is_ascii_digit())
        }))
    }))
}

/// How often the first character of the second string is in the first one: the function that Nexmark's query 14 registers. Null counts 0.
fn count_char(call: &Call) -> Result<ArrayRef> {
    let (s, character) = (call.text(0)?, call.text(1)?);
    Ok(build_whole(call.rows, |i| {
        let Some(s) = s.get(i) else { return Some(0) };
        let character = character.get(i)?.chars().next()?;
        let count = if character.is_ascii() {
            let byte = u8::try_from(character).ok()?;
            s.bytes().filter(|b| *b == byte).count()
        } else {
            s.chars().filter(|c| *c == character).count()
        };
        i64::try_from(count).ok()
    }))
}
