//! Fields of structs and variants, by name or in order; which names are aliases is found out by giving a field twice.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::Refusal;
use crate::serializer::shape::trace::{Pass, Step, Trick};
use crate::serializer::shape::{Content, Field};

/// Lets a struct or a variant ask for its fields; tells what they are.
pub(super) fn visit_fields<'de, V: Visitor<'de>>(
    pass: &mut Pass<'_>,
    names: &'static [&'static str],
    visitor: V,
) -> Result<(V::Value, Content), Refusal> {
    let in_order = pass.manner.in_order;
    let mut fields = Fields {
        pass,
        names: names.iter(),
        current: None,
        previous: None,
        fields: Vec::new(),
        offered_more: false,
    };
    let visited = if in_order {
        visitor.visit_seq(&mut fields)
    } else {
        visitor.visit_map(&mut fields)
    };
    match visited {
        Ok(value) => Ok((value, Content::Fields(fields.fields))),
        Err(Refusal::Twice(name)) => {
            // Two names of one field came one after the other: the one that is not its main name is an alias.
            let alias = match fields.current {
                Some(current) if current == name => fields.previous,
                current => current,
            };
            let Some(alias) = alias.filter(|alias| *alias != name) else {
                return Err(Refusal::Refused);
            };
            let place = fields.pass.path.clone();
            let aliases = fields.pass.known.aliases.entry(place).or_default();
            if !aliases.iter().any(|(known, _)| known == alias) {
                aliases.push((alias.into(), name.into()));
                fields.pass.learned = true;
            }
            Err(Refusal::Refused)
        }
        Err(refusal) => Err(refusal),
    }
}

/// The fields of a struct or a variant.
struct Fields<'a, 'k> {
    pass: &'a mut Pass<'k>,
    names: std::slice::Iter<'static, &'static str>,
    current: Option<&'static str>,
    previous: Option<&'static str>,
    fields: Vec<Field>,
    offered_more: bool,
}

/// No field is called like this.
const UNKNOWN_FIELD: &str = "\u{1}unknown\u{1}";

impl Fields<'_, '_> {
    fn next_name(&mut self) -> Option<&'static str> {
        let aliases = self.pass.known.aliases.get(&self.pass.path);
        let left_out = match &self.pass.trick {
            Some((place, Trick::LeaveOut(name))) if *place == self.pass.path => Some(*name),
            _ => None,
        };
        let is_alias = |name: &str| {
            aliases.is_some_and(|aliases| aliases.iter().any(|(alias, _)| alias == name))
        };
        let name = self
            .names
            .by_ref()
            .find(|name| !is_alias(name) && Some(**name) != left_out)?;
        self.previous = self.current.replace(name);
        Some(name)
    }

    fn offers_more(&mut self) -> bool {
        let trick = &self.pass.trick;
        let wanted = matches!(trick, Some((place, Trick::OneTooMany)) if *place == self.pass.path);
        wanted && !std::mem::replace(&mut self.offered_more, true)
    }

    fn field<'de, S: DeserializeSeed<'de>>(
        &mut self,
        name: &'static str,
        seed: S,
    ) -> Result<S::Value, Refusal> {
        let (value, shape) = self.pass.part(Step::Field(name.into()), seed)?;
        let name = name.into();
        self.fields.push(Field { name, shape });
        Ok(value)
    }
}

impl<'de> de::MapAccess<'de> for &mut Fields<'_, '_> {
    type Error = Refusal;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refusal> {
        let name = match self.next_name() {
            Some(name) => name,
            None if self.offers_more() => UNKNOWN_FIELD,
            None => return Ok(None),
        };
        let name: StrDeserializer<'_, Refusal> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refusal> {
        match self.current {
            Some(name) if !self.offered_more => self.field(name, seed),
            _ => self
                .pass
                .part(Step::Inner, seed)
                .map(|(ignored, _)| ignored),
        }
    }
}

impl<'de> de::SeqAccess<'de> for &mut Fields<'_, '_> {
    type Error = Refusal;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refusal> {
        match self.next_name() {
            Some(name) => self.field(name, seed).map(Some),
            None => Ok(None),
        }
    }
}
