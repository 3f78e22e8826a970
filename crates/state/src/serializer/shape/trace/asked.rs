//! The deserializer that answers with defaults and notes what it was asked for.

mod collections;
mod fields;
mod variants;

use std::fmt::{self, Display};

use serde::de::{self, DeserializeSeed, Visitor};

use self::collections::{Elements, Entries, Parts};
use self::fields::visit_fields;
use self::variants::Chosen;
use super::{Pass, QUESTIONS_MAX, Step};
use crate::serializer::shape::{Content, Shape};

/// Why a pass ended early.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The type does not accept what it was given, or cannot be described.
    Refused,
    /// A field was given under two of its names; this is the main one.
    Twice(&'static str),
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type does not accept default values")
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<M: Display>(_message: M) -> Self {
        Self::Refused
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Twice(field)
    }
}

impl Pass<'_> {
    fn begin_question(&mut self) -> Result<(), Refusal> {
        self.questions += 1;
        if self.questions > QUESTIONS_MAX || self.path.len() > Shape::DEPTH_MAX {
            return Err(Refusal::Refused);
        }
        Ok(())
    }

    /// Lets a part of the type ask; returns the part's shape.
    fn part<'de, S: DeserializeSeed<'de>>(
        &mut self,
        step: Step,
        seed: S,
    ) -> Result<(S::Value, Shape), Refusal> {
        self.path.push(step);
        let mut shape = None;
        let value = seed.deserialize(Ask {
            pass: self,
            shape: &mut shape,
        })?;
        self.path.pop();
        // A part that asks for nothing has no bytes either.
        Ok((value, shape.unwrap_or(Shape::Unit)))
    }

    /// Enters a named type. `Some(true)`: it is asked for within itself. An error if it does not end, or if its name alone would lead to
    /// another type.
    fn enter(&mut self, name: &'static str, names_at: usize) -> Result<bool, Refusal> {
        let this = |around: &(&str, usize, usize)| (around.0, around.1) == (name, names_at);
        let nearest = self.around.iter().rev().find(|around| around.0 == name);
        let again = nearest.is_some_and(this);
        let twice = self.around.iter().filter(|around| this(around)).count() > 1;
        if twice || (!again && self.around.iter().any(this)) {
            return Err(Refusal::Refused);
        }
        self.around.push((name, names_at, 0));
        self.repeating += usize::from(again);
        Ok(again)
    }

    /// Leaves it; its shape, if it is not asked for within itself, is this.
    fn leave(&mut self, again: bool, name: &str, content: Content) -> Shape {
        self.around.pop();
        self.repeating -= usize::from(again);
        let name = name.into();
        if again {
            Shape::Again(name)
        } else {
            Shape::Struct { name, content }
        }
    }

    /// The variant that this pass looks into.
    fn turn(&mut self, variants: &'static [&'static str]) -> usize {
        if let Some((place, _)) = &self.trick
            && place.starts_with(&self.path)
            && let Some(Step::Variant(name)) = place.get(self.path.len())
        {
            let position = variants.iter().position(|variant| variant == name);
            return position.unwrap_or(0);
        }
        let seen = self
            .known
            .enums
            .entry(self.path.clone())
            .or_insert_with(|| variants.iter().map(|name| ((*name).into(), None)).collect());
        if let Some(unseen) = seen.iter().position(|(_, content)| content.is_none()) {
            return unseen;
        }
        let mut place = self.path.clone();
        let incomplete = variants.iter().position(|name| {
            place.push(Step::Variant((*name).into()));
            let complete = self.known.is_complete(&place);
            place.pop();
            !complete
        });
        incomplete.unwrap_or(0)
    }
}

/// One question.
pub(super) struct Ask<'a, 'k> {
    pub(super) pass: &'a mut Pass<'k>,
    pub(super) shape: &'a mut Option<Shape>,
}

macro_rules! numbers {
    ($($ask:ident $visit:ident $shape:ident $type:ty;)*) => {$(
        fn $ask<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
            self.pass.begin_question()?;
            *self.shape = Some(Shape::$shape);
            visitor.$visit(<$type>::from(self.pass.manner.number))
        }
    )*};
}

macro_rules! plain {
    ($($ask:ident $visit:ident $shape:ident $value:expr;)*) => {$(
        fn $ask<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
            self.pass.begin_question()?;
            *self.shape = Some(Shape::$shape);
            visitor.$visit($value)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Ask<'_, '_> {
    type Error = Refusal;

    numbers! {
        deserialize_i16 visit_i16 I16 i16;
        deserialize_i32 visit_i32 I32 i32;
        deserialize_i64 visit_i64 I64 i64;
        deserialize_i128 visit_i128 I128 i128;
        deserialize_u8 visit_u8 U8 u8;
        deserialize_u16 visit_u16 U16 u16;
        deserialize_u32 visit_u32 U32 u32;
        deserialize_u64 visit_u64 U64 u64;
        deserialize_u128 visit_u128 U128 u128;
        deserialize_f32 visit_f32 F32 f32;
        deserialize_f64 visit_f64 F64 f64;
    }

    plain! {
        deserialize_bool visit_bool Bool false;
        deserialize_char visit_char Char 'a';
        deserialize_str visit_str Str "";
        deserialize_string visit_str Str "";
        deserialize_bytes visit_bytes Bytes &[];
        deserialize_byte_buf visit_bytes Bytes &[];
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        *self.shape = Some(Shape::Unit);
        visitor.visit_unit()
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        *self.shape = Some(Shape::I8);
        visitor.visit_i8(if self.pass.manner.number == 0 { 0 } else { 1 })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refusal> {
        Err(Refusal::Refused)
    }

    /// Only a field that the type does not know is ignored.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_unit()
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refusal> {
        Err(Refusal::Refused)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        if self.pass.repeating > 0 {
            return visitor.visit_none();
        }
        self.pass.path.push(Step::Some);
        let mut inner = None;
        let value = visitor.visit_some(Ask {
            pass: self.pass,
            shape: &mut inner,
        })?;
        self.pass.path.pop();
        *self.shape = Some(Shape::Option(Box::new(inner.unwrap_or(Shape::Unit))));
        Ok(value)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        *self.shape = Some(Shape::Struct {
            name: name.into(),
            content: Content::Unit,
        });
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        let again = self.pass.enter(name, 0)?;
        self.pass.path.push(Step::Inner);
        let mut inner = None;
        let value = visitor.visit_newtype_struct(Ask {
            pass: self.pass,
            shape: &mut inner,
        })?;
        self.pass.path.pop();
        let content = Content::Newtype(Box::new(inner.unwrap_or(Shape::Unit)));
        *self.shape = Some(self.pass.leave(again, name, content));
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        let mut element = Shape::Unit;
        let value = visitor.visit_seq(Elements {
            is_open: self.pass.repeating == 0,
            pass: self.pass,
            element: &mut element,
        })?;
        *self.shape = Some(Shape::List(Box::new(element)));
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        let mut parts = Vec::new();
        let value = visitor.visit_seq(Parts {
            pass: self.pass,
            len,
            parts: &mut parts,
        })?;
        *self.shape = Some(match parts.is_empty() {
            true => Shape::Unit,
            false => Shape::Tuple(parts),
        });
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        let again = self.pass.enter(name, 0)?;
        let mut parts = Vec::new();
        let value = visitor.visit_seq(Parts {
            pass: self.pass,
            len,
            parts: &mut parts,
        })?;
        *self.shape = Some(self.pass.leave(again, name, Content::Tuple(parts)));
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        let (mut key, mut element) = (Shape::Unit, Shape::Unit);
        let value = visitor.visit_map(Entries {
            is_open: self.pass.repeating == 0,
            pass: self.pass,
            key: &mut key,
            value: &mut element,
        })?;
        *self.shape = Some(Shape::Map(Box::new(key), Box::new(element)));
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        let again = self.pass.enter(name, fields.as_ptr() as usize)?;
        let (value, content) = visit_fields(self.pass, fields, visitor)?;
        *self.shape = Some(self.pass.leave(again, name, content));
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.pass.begin_question()?;
        let names_at = variants.as_ptr() as usize;
        let this = |around: &&(&str, usize, usize)| (around.0, around.1) == (name, names_at);
        let nearest = self.pass.around.iter().rev().find(|one| one.0 == name);
        let again = nearest.as_ref().is_some_and(this);
        if !again && self.pass.around.iter().any(|one| this(&one)) {
            return Err(Refusal::Refused);
        }
        let turn = if again || self.pass.repeating > 0 {
            // Any variant that does not lead here once more.
            let around = |at: usize| self.pass.around.contains(&(name, names_at, at));
            let other = (0..variants.len()).find(|at| !around(*at));
            other.ok_or(Refusal::Refused)?
        } else {
            self.pass.turn(variants)
        };
        let variant = variants.get(turn).copied().ok_or(Refusal::Refused)?;
        self.pass.around.push((name, names_at, turn));
        self.pass.repeating += usize::from(again);
        self.pass.path.push(Step::Variant(variant.into()));
        let mut content = Content::Unit;
        let value = visitor.visit_enum(Chosen {
            pass: self.pass,
            variant,
            turn,
            content: &mut content,
        })?;
        self.pass.path.pop();
        self.pass.repeating -= usize::from(again);
        self.pass.around.pop();
        if again {
            *self.shape = Some(Shape::Again(name.into()));
            return Ok(value);
        }
        let known = &mut self.pass.known.enums;
        let seen = known
            .get_mut(&self.pass.path)
            .filter(|_| self.pass.repeating == 0);
        if let Some((_, seen)) = seen.and_then(|seen| seen.get_mut(turn)) {
            *seen = Some(content);
        }
        *self.shape = Some(Shape::Enum {
            name: name.into(),
            variants: Vec::new(),
        });
        Ok(value)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
