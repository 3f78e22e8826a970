//! Values to tagged bytes.

mod compound;

use serde::ser::{self, Serialize};

use self::compound::{Compound, VariantOf};
use super::dictionary::Dictionary;
use super::tags::*;

/// Appends a value to `out`.
pub(super) fn write<T: Serialize>(
    value: &T,
    dictionary: &Dictionary,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    value.serialize(&mut Writer {
        out,
        dictionary,
        depth: 0,
        next_struct: 0,
    })
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    dictionary: &'a Dictionary,
    depth: u32,
    /// Where the names of the next struct probably begin.
    next_struct: u32,
}

/// What has a count in its tag.
#[derive(Clone, Copy)]
struct Counted {
    tag: u8,
    wide: u8,
}

const FIELDS: Counted = Counted {
    tag: STRUCT,
    wide: WIDE_STRUCT,
};
const ELEMENTS: Counted = Counted {
    tag: LIST,
    wide: WIDE_LIST,
};
const ENTRIES: Counted = Counted {
    tag: MAP,
    wide: WIDE_MAP,
};

impl<'a> Writer<'a> {
    fn integer(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(small) if small <= SMALL_MAX => self.out.push(small),
            Ok(byte) => self.out.extend_from_slice(&[BYTE, byte]),
            Err(_) => {
                self.out.push(WIDE);
                put_varint(value, self.out);
            }
        }
    }

    fn signed(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.integer(value),
            // -1 - value, without an overflow.
            Err(_) => match !value as u64 {
                small @ 0..=15 => self.out.push(NEGATIVE | small as u8),
                wide => {
                    self.out.push(WIDE_NEGATIVE);
                    put_varint(wide, self.out);
                }
            },
        }
    }

    fn descend(&mut self) -> Result<(), Failure> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Failure(format!(
                "it has more than {DEPTH_MAX} values within values"
            )));
        }
        Ok(())
    }

    fn begin<'w>(
        &'w mut self,
        counted: Counted,
        len: Option<usize>,
    ) -> Result<Compound<'w, 'a>, Failure> {
        self.descend()?;
        let at = self.out.len();
        match len {
            Some(len) if len <= usize::from(COUNT_MAX) => self.out.push(counted.tag | len as u8),
            Some(len) => {
                self.out.push(counted.wide);
                put_varint(len as u64, self.out);
            }
            // Written at the end.
            None => self.out.push(counted.tag),
        }
        Ok(Compound {
            next: self.next_struct,
            writer: self,
            counted,
            at,
            announced: len,
            count: 0,
        })
    }

    /// A name after a tag or before a field's value.
    fn name(&mut self, number: Option<u32>, name: &str) {
        match number {
            Some(number) => put_varint(u64::from(number) + 1, self.out),
            None => {
                self.out.push(0);
                put_varint(name.len() as u64, self.out);
                self.out.extend_from_slice(name.as_bytes());
            }
        }
    }

    fn variant(&mut self, tag: u8, wide: u8, name: &str) {
        match self.dictionary.number(name, 0) {
            Some(number) if number < VARIANTS => self.out.push(tag + number as u8),
            number => {
                self.out.push(wide);
                self.name(number, name);
            }
        }
    }

    fn variant_of(&mut self, name: &str) -> Result<(), Failure> {
        self.descend()?;
        self.variant(VARIANT_OF, WIDE_VARIANT_OF, name);
        Ok(())
    }
}

impl<'w, 'a> ser::Serializer for &'w mut Writer<'a> {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Compound<'w, 'a>;
    type SerializeTuple = Compound<'w, 'a>;
    type SerializeTupleStruct = Compound<'w, 'a>;
    type SerializeTupleVariant = VariantOf<'w, 'a>;
    type SerializeMap = Compound<'w, 'a>;
    type SerializeStruct = Compound<'w, 'a>;
    type SerializeStructVariant = VariantOf<'w, 'a>;

    fn serialize_bool(self, value: bool) -> Result<(), Failure> {
        self.out.push(if value { TRUE } else { FALSE });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Failure> {
        self.signed(value);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), Failure> {
        if let Ok(value) = i64::try_from(value) {
            self.signed(value);
        } else if let Ok(value) = u128::try_from(value) {
            return self.serialize_u128(value);
        } else {
            self.out.push(WIDE_NEGATIVE);
            put_long_varint(!value as u128, self.out);
        }
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Failure> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Failure> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Failure> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Failure> {
        self.integer(value);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Failure> {
        if let Ok(value) = u64::try_from(value) {
            self.integer(value);
        } else {
            self.out.push(WIDE);
            put_long_varint(value, self.out);
        }
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Failure> {
        self.out.push(F32);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Failure> {
        self.out.push(F64);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Failure> {
        self.out.push(CHAR);
        put_varint(u32::from(value).into(), self.out);
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Failure> {
        if value.len() <= usize::from(TEXT_LAST - TEXT) {
            self.out.push(TEXT + value.len() as u8);
        } else {
            self.out.push(WIDE_TEXT);
            put_varint(value.len() as u64, self.out);
        }
        self.out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Failure> {
        self.out.push(BYTES);
        put_varint(value.len() as u64, self.out);
        self.out.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Failure> {
        self.out.push(NONE);
        Ok(())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Failure> {
        let at = self.out.len();
        self.descend()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        // An option within an option.
        if matches!(self.out.get(at), Some(&(NONE | SOME))) {
            self.out.insert(at, SOME);
        }
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Failure> {
        self.out.push(UNIT);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Failure> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Failure> {
        self.variant(VARIANT, WIDE_VARIANT, variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.variant_of(variant)?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Compound<'w, 'a>, Failure> {
        self.begin(ELEMENTS, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Compound<'w, 'a>, Failure> {
        self.begin(ELEMENTS, Some(len))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<Compound<'w, 'a>, Failure> {
        self.begin(ELEMENTS, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<VariantOf<'w, 'a>, Failure> {
        self.variant_of(variant)?;
        self.begin(ELEMENTS, Some(len)).map(VariantOf)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Compound<'w, 'a>, Failure> {
        self.begin(ENTRIES, len)
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<Compound<'w, 'a>, Failure> {
        self.begin(FIELDS, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<VariantOf<'w, 'a>, Failure> {
        self.variant_of(variant)?;
        self.begin(FIELDS, Some(len)).map(VariantOf)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
