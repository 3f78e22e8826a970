//! Parts of values: elements, entries, fields and the contents of variants, as serde asks for them.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Visitor};

use super::Reader;
use crate::serializer::tagged::tags::Failure;

/// Elements of a list or a tuple.
pub(super) struct Elements<'r, 'de> {
    pub(super) reader: &'r mut Reader<'de>,
    pub(super) left: usize,
}

impl<'de> de::SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        // Never more than there can be.
        Some(self.left.min(self.reader.rest.len()))
    }
}

/// Entries of a map, or fields of a struct, whose keys are names.
pub(super) struct Entries<'r, 'de> {
    pub(super) reader: &'r mut Reader<'de>,
    pub(super) left: usize,
    pub(super) fields: bool,
}

impl<'de> de::MapAccess<'de> for &mut Entries<'_, 'de> {
    type Error = Failure;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if self.fields {
            let name = self.reader.name()?;
            return seed
                .deserialize(BorrowedStrDeserializer::new(name))
                .map(Some);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(self.reader.rest.len()))
    }
}

/// A variant with content, for who does not expect one.
pub(super) struct OneEntry<'r, 'de> {
    pub(super) reader: &'r mut Reader<'de>,
    pub(super) name: Option<&'de str>,
}

impl<'de> de::MapAccess<'de> for OneEntry<'_, 'de> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        match self.name.take() {
            Some(name) => seed
                .deserialize(BorrowedStrDeserializer::new(name))
                .map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        seed.deserialize(&mut *self.reader)
    }
}

/// A variant, and what it holds.
pub(super) struct Chosen<'r, 'de> {
    pub(super) reader: &'r mut Reader<'de>,
    pub(super) variant: &'de str,
    pub(super) has_content: bool,
}

impl<'de> Chosen<'_, 'de> {
    fn content(&mut self) -> Result<&mut Reader<'de>, Failure> {
        if self.has_content {
            Ok(self.reader)
        } else {
            Err(Failure(format!("variant {} has no content", self.variant)))
        }
    }
}

impl<'de> de::EnumAccess<'de> for Chosen<'_, 'de> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failure> {
        let name = BorrowedStrDeserializer::<Failure>::new(self.variant);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Chosen<'_, 'de> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        if self.has_content {
            return Err(Failure(format!(
                "variant {} has a content that the type does not know",
                self.variant
            )));
        }
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        mut self,
        seed: S,
    ) -> Result<S::Value, Failure> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(
        mut self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        de::Deserializer::deserialize_any(self.content()?, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        de::Deserializer::deserialize_any(self.content()?, visitor)
    }
}
