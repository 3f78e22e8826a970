//! Keys as people type them: a whole argument is a number, a string as it is, or bytes; what has parts is JSON, as values are shown.

use super::{DynamicValue, Field, LogicalType};
use crate::StateError;

/// Values within values.
const DEPTH_MAX: usize = 64;

/// A value of this type from a whole text.
pub(super) fn parse(kind: &LogicalType, text: &str) -> Result<DynamicValue, StateError> {
    let wrong = || {
        let expected = match kind {
            LogicalType::Opaque(_) => "bytes".to_owned(),
            kind => format!("a {kind}"),
        };
        StateError::Usage(format!(
            "expected {expected}{}, found `{text}`",
            example(kind)
        ))
    };
    match kind {
        LogicalType::String => Ok(DynamicValue::String(text.to_owned())),
        // Quoted, `null` is a text; so may any other be.
        LogicalType::Option(inner) if **inner == LogicalType::String && is_quoted(text) => {
            let mut rest = text.trim_start();
            string(&mut rest)
                .map(DynamicValue::String)
                .ok_or_else(wrong)
        }
        LogicalType::Option(inner) if text != "null" => parse(inner, text).map_err(|_| wrong()),
        LogicalType::Temporal(kind) if !text.starts_with('"') => kind
            .parse(text.trim())
            .map(|value| DynamicValue::Temporal(value, *kind))
            .ok_or_else(wrong),
        // Of a key of one column its value is enough.
        LogicalType::Struct { fields, .. }
            if fields.len() == 1 && !text.starts_with(['{', '[']) =>
        {
            let only = fields.first().ok_or_else(wrong)?;
            let value = parse(&only.kind, text).map_err(|_| wrong())?;
            Ok(DynamicValue::Struct(vec![(only.name.clone(), value)]))
        }
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

/// Whether all of it is one JSON string.
fn is_quoted(text: &str) -> bool {
    let mut rest = text.trim_start();
    string(&mut rest).is_some() && rest.trim_start().is_empty()
}

fn example(kind: &LogicalType) -> &'static str {
    match kind {
        LogicalType::Struct { .. } => " as a JSON object or list of its columns",
        LogicalType::Temporal(_) => " such as 2024-02-29T23:59:59.999",
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
            LogicalType::Decimal { scale, .. } => Value::Decimal(
                match eat(rest, "\"") {
                    true => {
                        let number = decimal(word(rest), *scale)?;
                        eat(rest, "\"").then_some(number)?
                    }
                    false => decimal(word(rest), *scale)?,
                },
                *scale,
            ),
            LogicalType::Temporal(kind) => match rest.starts_with('"') {
                true => Value::Temporal(kind.parse(&string(rest)?)?, *kind),
                false => Value::Temporal(kind.parse(word(rest))?, *kind),
            },
            LogicalType::Struct { fields, .. } if rest.starts_with('[') => {
                let kinds = fields.iter().map(|field| &field.kind);
                let parts = self.list(kinds, rest)?;
                let names = fields.iter().map(|field| field.name.clone());
                Value::Struct(names.zip(parts).collect())
            }
            LogicalType::Struct { fields, .. } => self.within(|json| json.object(fields, rest))?,
            LogicalType::Option(_) if eat(rest, "null") => Value::Null,
            LogicalType::Option(inner) => self.within(|json| json.take(inner, rest))?,
            LogicalType::Tuple(kinds) => Value::List(self.list(kinds.iter(), rest)?),
            _ => return None,
        })
    }

    /// `[…]`, one value of each type.
    fn list<'t>(
        &mut self,
        kinds: impl Iterator<Item = &'t LogicalType>,
        rest: &mut &str,
    ) -> Option<Vec<DynamicValue>> {
        self.within(|json| {
            eat(rest, "[").then_some(())?;
            let mut parts = Vec::new();
            for (at, kind) in kinds.enumerate() {
                if at > 0 {
                    *rest = rest.trim_start();
                    eat(rest, ",").then_some(())?;
                }
                parts.push(json.take(kind, rest)?);
            }
            *rest = rest.trim_start();
            eat(rest, "]").then_some(parts)
        })
    }

    /// `{…}` with every field once, in any order; they come out in their own.
    fn object(&mut self, fields: &[Field], rest: &mut &str) -> Option<DynamicValue> {
        eat(rest, "{").then_some(())?;
        let mut found: Vec<Option<DynamicValue>> = vec![None; fields.len()];
        for entry in 0..fields.len() {
            *rest = rest.trim_start();
            if entry > 0 {
                eat(rest, ",").then_some(())?;
                *rest = rest.trim_start();
            }
            let name = string(rest)?;
            let at = fields.iter().position(|field| *field.name == *name)?;
            *rest = rest.trim_start();
            eat(rest, ":").then_some(())?;
            let value = self.take(&fields.get(at)?.kind, rest)?;
            let place = found.get_mut(at)?;
            place.is_none().then_some(())?;
            *place = Some(value);
        }
        *rest = rest.trim_start();
        eat(rest, "}").then_some(())?;
        let values = fields.iter().zip(found);
        let named = values.map(|(field, value)| Some((field.name.clone(), value?)));
        Some(DynamicValue::Struct(named.collect::<Option<_>>()?))
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

/// A decimal number as a whole one of so many digits after the point; more digits than that are refused.
fn decimal(text: &str, scale: i8) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!whole.is_empty() && plain(whole) && plain(fraction)).then_some(())?;
    let scale = i32::from(scale);
    let missing = scale - i32::try_from(fraction.len()).ok()?;
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    let power = |digits: i32| 10i128.checked_pow(u32::try_from(digits).ok()?);
    let number = match missing {
        0.. => number.checked_mul(power(missing)?)?,
        // Of a number that counts in hundreds, for example.
        _ if fraction.is_empty() && number % power(-missing)? == 0 => number / power(-missing)?,
        _ => return None,
    };
    Some(sign * number)
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
