//! Names by number: in a checkpoint the numbers of names never change.

use super::tags::VARIANTS;
use crate::serializer::shape::{Content, Shape};

/// Bytes of all names at most, each with eight for its length; further names stand in line in each value.
const BYTES_MAX: usize = 512 << 10;

/// Names of fields and variants, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dictionary {
    names: Vec<Box<str>>,
    /// Numbers, in the order of their names.
    sorted: Vec<u32>,
    bytes: usize,
}

impl Dictionary {
    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The name of a number.
    #[inline]
    pub(super) fn name(&self, number: usize) -> Option<&str> {
        self.names.get(number).map(|name| &**name)
    }

    /// The number of a name. Right at once if it is `guess`.
    #[inline]
    pub(super) fn number(&self, name: &str, guess: u32) -> Option<u32> {
        if self.name(guess as usize) == Some(name) {
            return Some(guess);
        }
        let at = self.position(name).ok()?;
        self.sorted.get(at).copied()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.sorted
            .binary_search_by(|number| self.name(*number as usize).cmp(&Some(name)))
    }

    /// Adds a name at the end; false if it is there or there is no room.
    pub(super) fn add(&mut self, name: &str) -> bool {
        let Err(at) = self.position(name) else {
            return false;
        };
        let bytes = self.bytes + name.len() + size_of::<u64>();
        if bytes > BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.sorted.insert(at, self.names.len() as u32);
        self.names.push(name.into());
        true
    }

    /// Adds the names of a type: variants first, as many as fit into a tag, then fields, then the other variants.
    pub(super) fn add_names_of(&mut self, shape: &Shape) {
        let (mut variants, mut fields) = (Vec::new(), Vec::new());
        collect(shape, &mut variants, &mut fields);
        let mut variants = variants.into_iter();
        for name in variants.by_ref() {
            self.add(name);
            if self.names.len() >= VARIANTS as usize {
                break;
            }
        }
        for name in fields.into_iter().chain(variants) {
            self.add(name);
        }
    }
}

fn collect<'a>(shape: &'a Shape, variants: &mut Vec<&'a str>, fields: &mut Vec<&'a str>) {
    match shape {
        Shape::Option(inner) | Shape::List(inner) => collect(inner, variants, fields),
        Shape::Map(key, value) => {
            collect(key, variants, fields);
            collect(value, variants, fields);
        }
        Shape::Tuple(parts) => parts
            .iter()
            .for_each(|part| collect(part, variants, fields)),
        Shape::Struct { content, .. } => collect_content(content, variants, fields),
        Shape::Enum { variants: all, .. } => {
            variants.extend(all.iter().map(|variant| variant.name.as_str()));
            for variant in all {
                collect_content(&variant.content, variants, fields);
            }
        }
        _ => {}
    }
}

fn collect_content<'a>(
    content: &'a Content,
    variants: &mut Vec<&'a str>,
    fields: &mut Vec<&'a str>,
) {
    match content {
        Content::Unit => {}
        Content::Newtype(inner) => collect(inner, variants, fields),
        Content::Tuple(parts) => parts
            .iter()
            .for_each(|part| collect(part, variants, fields)),
        Content::Fields(all) => {
            // The fields of one struct stay together: then each follows the one before.
            fields.extend(all.iter().map(|field| field.name.as_str()));
            for field in all {
                collect(&field.shape, variants, fields);
            }
        }
    }
}
