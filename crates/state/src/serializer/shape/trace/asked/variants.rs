//! The variant of an enum that a pass looks into, named or numbered as the program's format does.

use serde::de::value::{StrDeserializer, U64Deserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::Refusal;
use super::collections::Parts;
use super::fields::visit_fields;
use crate::serializer::shape::Content;
use crate::serializer::shape::trace::{Identify, Pass, Step};

/// The variant that this pass looks into.
pub(super) struct Chosen<'a, 'k> {
    pub(super) pass: &'a mut Pass<'k>,
    pub(super) variant: &'static str,
    pub(super) turn: usize,
    pub(super) content: &'a mut Content,
}

impl<'de> de::EnumAccess<'de> for Chosen<'_, '_> {
    type Error = Refusal;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Refusal> {
        let chosen = match self.pass.manner.identify {
            Identify::ByName => {
                let name: StrDeserializer<'_, Refusal> = self.variant.into_deserializer();
                seed.deserialize(name)?
            }
            Identify::ByNumber => {
                let number: U64Deserializer<Refusal> = (self.turn as u64).into_deserializer();
                seed.deserialize(number)?
            }
        };
        Ok((chosen, self))
    }
}

impl<'de> de::VariantAccess<'de> for Chosen<'_, '_> {
    type Error = Refusal;

    fn unit_variant(self) -> Result<(), Refusal> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refusal> {
        let (value, shape) = self.pass.part(Step::Inner, seed)?;
        *self.content = Content::Newtype(Box::new(shape));
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refusal> {
        let mut parts = Vec::new();
        let value = visitor.visit_seq(Parts {
            pass: self.pass,
            len,
            parts: &mut parts,
        })?;
        *self.content = Content::Tuple(parts);
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let (value, content) = visit_fields(self.pass, fields, visitor)?;
        *self.content = content;
        Ok(value)
    }
}
