//! Lists, tuples and maps: a list or a map has one element or entry, unless the type is asked for within itself.

use serde::de::{self, DeserializeSeed};

use super::Refusal;
use crate::serializer::shape::Shape;
use crate::serializer::shape::trace::{Pass, Step};

/// A list of one element, or of none.
pub(super) struct Elements<'a, 'k> {
    pub(super) pass: &'a mut Pass<'k>,
    pub(super) element: &'a mut Shape,
    pub(super) is_open: bool,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, '_> {
    type Error = Refusal;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refusal> {
        if !std::mem::take(&mut self.is_open) {
            return Ok(None);
        }
        let (value, shape) = self.pass.part(Step::Element, seed)?;
        *self.element = shape;
        Ok(Some(value))
    }
}

/// The parts of a tuple.
pub(super) struct Parts<'a, 'k> {
    pub(super) pass: &'a mut Pass<'k>,
    pub(super) len: usize,
    pub(super) parts: &'a mut Vec<Shape>,
}

impl<'de> de::SeqAccess<'de> for Parts<'_, '_> {
    type Error = Refusal;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refusal> {
        if self.parts.len() == self.len {
            return Ok(None);
        }
        let (value, shape) = self.pass.part(Step::At(self.parts.len()), seed)?;
        self.parts.push(shape);
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len - self.parts.len())
    }
}

/// A map of one entry, or of none.
pub(super) struct Entries<'a, 'k> {
    pub(super) pass: &'a mut Pass<'k>,
    pub(super) key: &'a mut Shape,
    pub(super) value: &'a mut Shape,
    pub(super) is_open: bool,
}

impl<'de> de::MapAccess<'de> for Entries<'_, '_> {
    type Error = Refusal;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refusal> {
        if !std::mem::take(&mut self.is_open) {
            return Ok(None);
        }
        let (value, shape) = self.pass.part(Step::Key, seed)?;
        *self.key = shape;
        Ok(Some(value))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        let (value, shape) = self.pass.part(Step::Value, seed)?;
        *self.value = shape;
        Ok(value)
    }
}
