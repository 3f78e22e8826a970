//! The shape of a serde type: what its fields are called and of which types they are, all the way down.
//!
//! postcard writes no names, so bytes of a struct whose fields have changed decode to nonsense or to an error much later. The shape is found
//! by deserializing the type from a source that gives a default for whatever it is asked and writes down the questions. Variants of enums
//! take turns: pass `n` asks for the `n`-th variant of every enum. A type that does not accept the defaults (it parses a string, say) or
//! that contains itself has no shape, and its name alone must do.

use std::fmt::{self, Display, Write};

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};

/// Types within types; more is taken for a type that contains itself.
const DEPTH_MAX: usize = 32;
/// Characters of all shapes together.
const SHAPE_CHARS_MAX: usize = 1 << 16;
/// Variants of enums that are looked into.
const PASSES_MAX: u32 = 256;

/// Describes `T`, or `None` if it cannot be found out.
pub(super) fn shape<T: DeserializeOwned>() -> Option<String> {
    let mut all = String::new();
    let mut pass = 0;
    loop {
        let mut tracer = Tracer {
            out: &mut all,
            depth: 0,
            pass,
            variants_max: 1,
        };
        T::deserialize(&mut tracer).ok()?;
        let variants = tracer.variants_max;
        pass += 1;
        if pass >= variants.min(PASSES_MAX) {
            return Some(all);
        }
        all.push(';');
    }
}

/// Why a type has no shape; nobody reads the details.
#[derive(Debug)]
struct NoShape;

impl Display for NoShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type does not accept default values")
    }
}

impl std::error::Error for NoShape {}

impl de::Error for NoShape {
    fn custom<M: Display>(_message: M) -> Self {
        Self
    }
}

struct Tracer<'a> {
    out: &'a mut String,
    depth: usize,
    pass: u32,
    /// The most variants that an enum on the way has.
    variants_max: u32,
}

impl Tracer<'_> {
    fn write(&mut self, text: &str) -> Result<(), NoShape> {
        self.out.push_str(text);
        if self.out.len() > SHAPE_CHARS_MAX {
            Err(NoShape)
        } else {
            Ok(())
        }
    }

    /// Writes `open`, what `inner` writes, and `close`.
    fn within<R>(
        &mut self,
        open: &str,
        close: &str,
        inner: impl FnOnce(&mut Self) -> Result<R, NoShape>,
    ) -> Result<R, NoShape> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(NoShape);
        }
        self.write(open)?;
        let result = inner(self)?;
        self.write(close)?;
        self.depth -= 1;
        Ok(result)
    }
}

macro_rules! plain {
    ($($ask:ident $visit:ident $name:literal $value:expr;)*) => {$(
        fn $ask<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoShape> {
            self.write($name)?;
            visitor.$visit($value)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Tracer<'_> {
    type Error = NoShape;

    plain! {
        deserialize_bool visit_bool "bool" false;
        deserialize_i8 visit_i8 "i8" 0;
        deserialize_i16 visit_i16 "i16" 0;
        deserialize_i32 visit_i32 "i32" 0;
        deserialize_i64 visit_i64 "i64" 0;
        deserialize_i128 visit_i128 "i128" 0;
        deserialize_u8 visit_u8 "u8" 0;
        deserialize_u16 visit_u16 "u16" 0;
        deserialize_u32 visit_u32 "u32" 0;
        deserialize_u64 visit_u64 "u64" 0;
        deserialize_u128 visit_u128 "u128" 0;
        deserialize_f32 visit_f32 "f32" 0.0;
        deserialize_f64 visit_f64 "f64" 0.0;
        deserialize_char visit_char "char" 'a';
        deserialize_str visit_str "str" "";
        deserialize_string visit_str "str" "";
        deserialize_bytes visit_bytes "bytes" &[];
        deserialize_byte_buf visit_bytes "bytes" &[];
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, NoShape> {
        Err(NoShape)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, NoShape> {
        Err(NoShape)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, NoShape> {
        Err(NoShape)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoShape> {
        self.within("Option<", ">", |tracer| visitor.visit_some(tracer))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoShape> {
        self.write("()")?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoShape> {
        self.write(name)?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoShape> {
        self.write(name)?;
        self.within("(", ")", |tracer| visitor.visit_newtype_struct(tracer))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoShape> {
        self.within("[", "]", |tracer| {
            visitor.visit_seq(Parts::unnamed(tracer, 1))
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, NoShape> {
        self.within("(", ")", |tracer| {
            visitor.visit_seq(Parts::unnamed(tracer, len))
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, NoShape> {
        self.write(name)?;
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoShape> {
        self.within("{", "}", |tracer| {
            visitor.visit_map(Parts::unnamed(tracer, 1))
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NoShape> {
        self.write(name)?;
        self.within("{", "}", |tracer| {
            visitor.visit_seq(Parts::named(tracer, fields))
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NoShape> {
        let count = u32::try_from(variants.len()).map_err(|_| NoShape)?;
        self.variants_max = self.variants_max.max(count);
        let turn = self.pass.min(count.saturating_sub(1));
        let mut head = format!("{name}/{count}:{turn}");
        let _ = write!(
            head,
            ":{}",
            variants.get(turn as usize).copied().unwrap_or_default()
        );
        self.within(&head, "|", |tracer| {
            visitor.visit_enum(Variant { tracer, turn })
        })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence, tuple or struct.
struct Parts<'a, 'b> {
    tracer: &'a mut Tracer<'b>,
    names: &'static [&'static str],
    at: usize,
    len: usize,
}

impl<'a, 'b> Parts<'a, 'b> {
    fn named(tracer: &'a mut Tracer<'b>, names: &'static [&'static str]) -> Self {
        Self {
            tracer,
            names,
            at: 0,
            len: names.len(),
        }
    }

    fn unnamed(tracer: &'a mut Tracer<'b>, len: usize) -> Self {
        Self {
            tracer,
            names: &[],
            at: 0,
            len,
        }
    }
}

impl<'de> de::SeqAccess<'de> for Parts<'_, '_> {
    type Error = NoShape;

    fn next_element_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, NoShape> {
        if self.at == self.len {
            return Ok(None);
        }
        if self.at > 0 {
            self.tracer.write(",")?;
        }
        if let Some(name) = self.names.get(self.at) {
            self.tracer.write(name)?;
            self.tracer.write(":")?;
        }
        self.at += 1;
        seed.deserialize(&mut *self.tracer).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len - self.at)
    }
}

impl<'de> de::MapAccess<'de> for Parts<'_, '_> {
    type Error = NoShape;

    fn next_key_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, NoShape> {
        if self.at == self.len {
            return Ok(None);
        }
        self.at += 1;
        seed.deserialize(&mut *self.tracer).map(Some)
    }

    fn next_value_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, NoShape> {
        self.tracer.write("=>")?;
        seed.deserialize(&mut *self.tracer)
    }
}

/// The variant whose turn it is.
struct Variant<'a, 'b> {
    tracer: &'a mut Tracer<'b>,
    turn: u32,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, '_> {
    type Error = NoShape;
    type Variant = Self;

    fn variant_seed<S: de::DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self), NoShape> {
        let number: U32Deserializer<NoShape> = self.turn.into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, '_> {
    type Error = NoShape;

    fn unit_variant(self) -> Result<(), NoShape> {
        Ok(())
    }

    fn newtype_variant_seed<S: de::DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, NoShape> {
        self.tracer
            .within("(", ")", |tracer| seed.deserialize(tracer))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, NoShape> {
        de::Deserializer::deserialize_tuple(self.tracer, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NoShape> {
        de::Deserializer::deserialize_struct(self.tracer, "", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Account {
        id: u64,
        owner: Option<String>,
        history: Vec<(i64, f64)>,
        limits: BTreeMap<String, Limit>,
        raw: [u8; 2],
        marker: (),
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Limit {
        None,
        Daily(u32),
        Both { daily: u32, weekly: u16 },
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct List {
        next: Option<Box<List>>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Parsed(std::num::NonZeroU8);

    #[test]
    fn shapes_tell_fields_and_variants() {
        let head = "Account{id:u64,owner:Option<str>,history:[(i64,f64)],limits:{str=>Limit/3:";
        let tail = "|},raw:(u8,u8),marker:()}";
        let expected = ["0:None", "1:Daily(u32)", "2:Both{daily:u32,weekly:u16}"]
            .map(|limit| format!("{head}{limit}{tail}"))
            .join(";");
        assert_eq!(shape::<Account>().unwrap(), expected);
        assert_eq!(shape::<u32>().unwrap(), "u32");
    }

    #[test]
    fn changes_of_fields_show() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Before {
            a: u32,
            b: u32,
        }
        mod after {
            #[derive(serde::Deserialize)]
            #[allow(dead_code)]
            pub struct Before {
                b: u32,
                a: u32,
            }
        }
        assert_ne!(shape::<Before>(), shape::<after::Before>());
    }

    #[test]
    fn types_without_a_shape_are_found_out() {
        assert_eq!(shape::<List>(), None);
        assert_eq!(shape::<Parsed>(), None);
    }
}
