//! Tagged bytes to values. The bytes may be hostile: depth is bounded, and no length is believed before the bytes are there.

mod parts;

use serde::de::{self, DeserializeOwned, Visitor};

use self::parts::{Chosen, Elements, Entries, OneEntry};
use super::dictionary::Dictionary;
use super::tags::*;

/// Reads one value, which must be all of the bytes.
pub(super) fn read<T: DeserializeOwned>(
    bytes: &[u8],
    dictionary: &Dictionary,
) -> Result<T, Failure> {
    let mut reader = Reader {
        rest: bytes,
        dictionary,
        depth: 0,
    };
    let value = T::deserialize(&mut reader)?;
    match reader.rest.len() {
        0 => Ok(value),
        left => Err(Failure(format!("{left} bytes are left over"))),
    }
}

struct Reader<'de> {
    rest: &'de [u8],
    dictionary: &'de Dictionary,
    depth: u32,
}

impl<'de> Reader<'de> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Failure> {
        let [byte] = *self.array()?;
        Ok(byte)
    }

    #[inline]
    fn peek(&self) -> Result<u8, Failure> {
        self.rest.first().copied().ok_or_else(|| too_short(1, 0))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<&'de [u8; N], Failure> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(too_short(N, self.rest.len()));
        };
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'de [u8], Failure> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(too_short(count, self.rest.len()));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u128, Failure> {
        let mut value = 0u128;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if shift > 127 || (bits << shift) >> shift != bits {
                return Err(Failure("a number has more than 128 bits".into()));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// How much follows: as each takes a byte at least, not more than there are bytes.
    fn count(&mut self, what: &str) -> Result<usize, Failure> {
        let announced = self.varint()?;
        match usize::try_from(announced) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(Failure(format!(
                "{announced} {what} are announced, but {} bytes are left",
                self.rest.len()
            ))),
        }
    }

    fn text(&mut self, len: usize) -> Result<&'de str, Failure> {
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| Failure("a text is not UTF-8".into()))
    }

    #[inline]
    fn numbered(&self, number: usize) -> Result<&'de str, Failure> {
        self.dictionary.name(number).ok_or_else(|| {
            Failure(format!(
                "name {number} of a dictionary of {} is meant",
                self.dictionary.names().len()
            ))
        })
    }

    fn name(&mut self) -> Result<&'de str, Failure> {
        // Nearly always one byte.
        let number = match self.rest.split_first() {
            Some((&number @ 0..=0x7f, rest)) => {
                self.rest = rest;
                u128::from(number)
            }
            _ => self.varint()?,
        };
        match usize::try_from(number) {
            Ok(0) => {
                let len = self.count("bytes of a name")?;
                self.text(len)
            }
            Ok(number) => self.numbered(number - 1),
            Err(_) => self.numbered(usize::MAX),
        }
    }

    fn within<R>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Failure(format!(
                "there are more than {DEPTH_MAX} values within values"
            )));
        }
        let result = inner(self)?;
        self.depth -= 1;
        Ok(result)
    }

    fn list<V: Visitor<'de>>(&mut self, count: usize, visitor: V) -> Result<V::Value, Failure> {
        self.within(|reader| {
            let mut elements = Elements {
                reader,
                left: count,
            };
            let value = visitor.visit_seq(&mut elements)?;
            all_read(elements.left, count)?;
            Ok(value)
        })
    }

    fn map<V: Visitor<'de>>(
        &mut self,
        count: usize,
        fields: bool,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.within(|reader| {
            let mut entries = Entries {
                reader,
                left: count,
                fields,
            };
            let value = visitor.visit_map(&mut entries)?;
            all_read(entries.left, count)?;
            Ok(value)
        })
    }

    fn negative<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Failure> {
        let below = self.varint()?;
        match (i64::try_from(below), i128::try_from(below)) {
            (Ok(below), _) => visitor.visit_i64(!below),
            (_, Ok(below)) => visitor.visit_i128(!below),
            _ => Err(Failure("a number has more than 128 bits".into())),
        }
    }

    /// The integer that is next, if it is one.
    fn integer(&mut self) -> Result<Option<i128>, Failure> {
        struct Integer;
        impl Visitor<'_> for Integer {
            type Value = Option<i128>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an integer")
            }
            fn visit_i64<E>(self, value: i64) -> Result<Option<i128>, E> {
                Ok(Some(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Option<i128>, E> {
                Ok(Some(value.into()))
            }
        }
        match self.peek()? {
            0..=SMALL_MAX | NEGATIVE..=NEGATIVE_LAST | BYTE | WIDE | WIDE_NEGATIVE => {
                de::Deserializer::deserialize_any(self, Integer)
            }
            _ => Ok(None),
        }
    }

    /// The variant that is next: its name, and whether it has content.
    fn variant(&mut self) -> Result<Option<(&'de str, bool)>, Failure> {
        let tag = self.peek()?;
        if !matches!(
            tag,
            VARIANT..=VARIANT_OF_LAST | WIDE_VARIANT | WIDE_VARIANT_OF
        ) {
            return Ok(None);
        }
        self.byte()?;
        Ok(Some(match tag {
            VARIANT..=VARIANT_LAST => (self.numbered(usize::from(tag - VARIANT))?, false),
            VARIANT_OF..=VARIANT_OF_LAST => (self.numbered(usize::from(tag - VARIANT_OF))?, true),
            _ => (self.name()?, tag == WIDE_VARIANT_OF),
        }))
    }
}

fn too_short(wanted: usize, left: usize) -> Failure {
    Failure(format!("{wanted} bytes are expected, {left} are left"))
}

fn all_read(left: usize, count: usize) -> Result<(), Failure> {
    match left {
        0 => Ok(()),
        left => Err(Failure(format!(
            "of {count} parts of a value {left} have no place in the type"
        ))),
    }
}

/// Integers up to here are exact as floats of so many bits.
fn is_exact(value: i128, mantissa_bits: u32) -> bool {
    value.unsigned_abs() <= 1 << mantissa_bits
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if let Some((name, has_content)) = self.variant()? {
            return if has_content {
                // As in JSON: an object of one entry.
                self.within(|reader| {
                    visitor.visit_map(OneEntry {
                        reader,
                        name: Some(name),
                    })
                })
            } else {
                visitor.visit_borrowed_str(name)
            };
        }
        let tag = self.byte()?;
        match tag {
            0..=SMALL_MAX => visitor.visit_u64(tag.into()),
            TEXT..=TEXT_LAST => visitor.visit_borrowed_str(self.text((tag - TEXT).into())?),
            STRUCT..LIST => self.map((tag - STRUCT).into(), true, visitor),
            LIST..MAP => self.list((tag - LIST).into(), visitor),
            MAP..VARIANT => self.map((tag - MAP).into(), false, visitor),
            NEGATIVE..=NEGATIVE_LAST => visitor.visit_i64(!i64::from(tag - NEGATIVE)),
            NONE => visitor.visit_none(),
            SOME => self.within(|reader| visitor.visit_some(reader)),
            UNIT => visitor.visit_unit(),
            FALSE => visitor.visit_bool(false),
            TRUE => visitor.visit_bool(true),
            BYTE => visitor.visit_u64(self.byte()?.into()),
            WIDE => {
                let value = self.varint()?;
                match u64::try_from(value) {
                    Ok(value) => visitor.visit_u64(value),
                    Err(_) => visitor.visit_u128(value),
                }
            }
            WIDE_NEGATIVE => self.negative(visitor),
            F32 => visitor.visit_f32(f32::from_le_bytes(*self.array()?)),
            F64 => visitor.visit_f64(f64::from_le_bytes(*self.array()?)),
            CHAR => {
                let number = self.varint()?;
                let found = u32::try_from(number).ok().and_then(char::from_u32);
                let found = found.ok_or_else(|| Failure(format!("{number} is not a character")))?;
                visitor.visit_char(found)
            }
            WIDE_TEXT => {
                let len = self.count("bytes of a text")?;
                visitor.visit_borrowed_str(self.text(len)?)
            }
            BYTES => {
                let len = self.count("bytes")?;
                visitor.visit_borrowed_bytes(self.take(len)?)
            }
            WIDE_STRUCT => {
                let count = self.count("fields")?;
                self.map(count, true, visitor)
            }
            WIDE_LIST => {
                let count = self.count("elements")?;
                self.list(count, visitor)
            }
            WIDE_MAP => {
                let count = self.count("entries")?;
                self.map(count, false, visitor)
            }
            other => Err(Failure(format!("no value begins with {other:#04x}"))),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.integer()? {
            Some(value) if is_exact(value, f32::MANTISSA_DIGITS) => visitor.visit_f32(value as f32),
            Some(value) => Err(Failure(format!("{value} is not exact as an f32"))),
            None if self.peek()? == F64 => Err(Failure("an f64 does not fit an f32".into())),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.integer()? {
            Some(value) if is_exact(value, f64::MANTISSA_DIGITS) => visitor.visit_f64(value as f64),
            Some(value) => Err(Failure(format!("{value} is not exact as an f64"))),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.peek()? {
            NONE => {
                self.byte()?;
                visitor.visit_none()
            }
            SOME => {
                self.byte()?;
                self.within(|reader| visitor.visit_some(reader))
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let Some((variant, has_content)) = self.variant()? else {
            return Err(Failure(format!(
                "a value that begins with {:#04x} is not a variant of {name}",
                self.peek()?
            )));
        };
        self.within(|reader| {
            visitor.visit_enum(Chosen {
                reader,
                variant,
                has_content,
            })
        })
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}
