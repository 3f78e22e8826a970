//! Keys as people type them: a whole argument is a number, a string as it is, or bytes; what has parts is JSON, as values are shown.

use super::{DynamicValue, LogicalType};
use crate::StateError;

/// Values within values.
const DEPTH_MAX: usize = 64;

/// A value of this type from a whole text.
pub(super) fn parse(kind: &LogicalType, text: &str) -> Result<DynamicValue, StateError> {
    let wrong = || {
        StateError::Usage(format!(
            "expected a {kind}{}, found `{text}`",
            example(kind)
        ))
    };
    match kind {
        LogicalType::String => Ok(DynamicValue::String(text.to_owned())),
        LogicalType::Option(inner) if text != "null" => parse(inner, text).map_err(|_| wrong()),
        _ => {
            let mut rest = text;
            let value = Json { depth: 0 }.take(kind, &mut rest).ok_or_else(wrong)?;
            rest.trim_start()
                .is_empty()
                .then_some(value)
                .ok_or_else(wrong)
        }
    }
}

fn example(kind: &LogicalType) -> &'static str {
    match kind {
        LogicalType::Tuple(_) => " as a JSON list such as [\"ada\", 7]",
        LogicalType::Bytes | LogicalType::Opaque(_) => " as 0x and pairs of hexadecimal digits",
        LogicalType::Option(_) => ", or null for none",
        _ => "",
    }
}

/// Reads JSON of which the type is known.
struct Json {
    depth: usize,
}

impl Json {
    fn take(&mut self, kind: &LogicalType, rest: &mut &str) -> Option<DynamicValue> {
        use DynamicValue as Value;
        *rest = rest.trim_start();
        Some(match kind {
            LogicalType::Unit => eat(rest, "null").then_some(Value::Null)?,
            LogicalType::Bool if eat(rest, "true") => Value::Bool(true),
            LogicalType::Bool => eat(rest, "false").then_some(Value::Bool(false))?,
            LogicalType::I8 => Value::Int(number::<i8>(rest)?.into()),
            LogicalType::I16 => Value::Int(number::<i16>(rest)?.into()),
            LogicalType::I32 => Value::Int(number::<i32>(rest)?.into()),
            LogicalType::I64 => Value::Int(number(rest)?),
            LogicalType::I128 => Value::Int128(number(rest)?),
            LogicalType::U8 => Value::UInt(number::<u8>(rest)?.into()),
            LogicalType::U16 => Value::UInt(number::<u16>(rest)?.into()),
            LogicalType::U32 => Value::UInt(number::<u32>(rest)?.into()),
            LogicalType::U64 => Value::UInt(number(rest)?),
            LogicalType::U128 => Value::UInt128(number(rest)?),
            LogicalType::F32 => Value::F32(float(rest)?),
            LogicalType::F64 => Value::F64(float(rest)?),
            LogicalType::String | LogicalType::Char => Value::String(string(rest)?),
            LogicalType::Bytes | LogicalType::Opaque(_) => Value::Bytes(match eat(rest, "\"") {
                true => {
                    let (digits, after) = rest.split_once('"')?;
                    *rest = after;
                    bytes(digits)?
                }
                false => bytes(std::mem::take(rest))?,
            }),
            LogicalType::Option(_) if eat(rest, "null") => Value::Null,
            LogicalType::Option(inner) => self.within(|json| json.take(inner, rest))?,
            LogicalType::Tuple(kinds) => self.within(|json| {
                eat(rest, "[").then_some(())?;
                let mut parts = Vec::with_capacity(kinds.len());
                for (at, kind) in kinds.iter().enumerate() {
                    if at > 0 {
                        *rest = rest.trim_start();
                        eat(rest, ",").then_some(())?;
                    }
                    parts.push(json.take(kind, rest)?);
                }
                *rest = rest.trim_start();
                eat(rest, "]").then_some(Value::List(parts))
            })?,
            _ => return None,
        })
    }

    fn within<T>(&mut self, inner: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let result = (self.depth <= DEPTH_MAX).then(|| inner(self)).flatten();
        self.depth -= 1;
        result
    }
}

fn eat(rest: &mut &str, token: &str) -> bool {
    match rest.strip_prefix(token) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

/// The characters up to the end of a number or a name.
fn word<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)));
    let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = after;
    word
}

fn number<T: std::str::FromStr>(rest: &mut &str) -> Option<T> {
    word(rest).parse().ok()
}

/// A float; those that JSON has no numbers for may be quoted, as they are shown.
fn float<T: std::str::FromStr>(rest: &mut &str) -> Option<T> {
    if eat(rest, "\"") {
        let value = word(rest).parse().ok()?;
        return eat(rest, "\"").then_some(value);
    }
    word(rest).parse().ok()
}

/// `0x6162`
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end().strip_prefix("0x")?;
    let pairs = (0..digits.len()).step_by(2);
    let pairs = pairs.map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok());
    // A sign is a digit to nobody but the standard library.
    let signed = digits.contains(['+', '-']);
    pairs.collect::<Option<_>>().filter(|_| !signed)
}

/// A quoted string.
fn string(rest: &mut &str) -> Option<String> {
    eat(rest, "\"").then_some(())?;
    let mut text = String::new();
    loop {
        let end = rest.find(['"', '\\'])?;
        let (plain, after) = rest.split_at(end);
        text.push_str(plain);
        *rest = after;
        if eat(rest, "\"") {
            return Some(text);
        }
        eat(rest, "\\").then_some(())?;
        let mut characters = rest.chars();
        let escape = characters.next()?;
        *rest = characters.as_str();
        text.push(match escape {
            '"' | '\\' | '/' => escape,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => match unit(rest)? {
                // The first half of a character beyond 16 bits.
                high @ 0xd800..=0xdbff => {
                    eat(rest, "\\u").then_some(())?;
                    let low = unit(rest)?;
                    char::decode_utf16([high, low]).next()?.ok()?
                }
                unit => char::from_u32(unit.into())?,
            },
            _ => return None,
        });
    }
}

/// Four hexadecimal digits.
fn unit(rest: &mut &str) -> Option<u16> {
    let (digits, after) = rest.split_at_checked(4)?;
    *rest = after;
    u16::from_str_radix(digits, 16)
        .ok()
        .filter(|_| !digits.starts_with('+'))
}
