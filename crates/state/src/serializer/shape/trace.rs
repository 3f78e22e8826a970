//! Finding the shape of a type out.
//!
//! The type is deserialized from a source that gives a default for whatever it is asked and writes down the questions. One pass sees one variant
//! of each enum, so there are passes until every variant was seen. A type that contains itself is noticed when it is asked for within
//! itself: from there on options, lists and maps are empty and enums answer with another variant, so that it ends. A type that does not
//! accept the defaults (it parses a string, say) has no shape, and its name alone must do.

mod asked;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use self::asked::Ask;
use super::{Content, Shape, Variant};

/// Passes over one type at most: each sees a new variant or learns of an alias.
const PASSES_MAX: usize = 4096;
/// Questions of one pass at most.
const QUESTIONS_MAX: usize = 4096;

/// A step from a type to a type within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// What an option holds.
    Some,
    /// An element of a list.
    Element,
    /// The keys of a map.
    Key,
    /// The values of a map.
    Value,
    /// A part of a tuple.
    At(usize),
    /// What a struct wraps.
    Inner,
    /// A field.
    Field(String),
    /// A variant.
    Variant(String),
}

/// How variants are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identify {
    /// By number: the shape lists them in the order of their numbers. An enum whose variants have aliases has no shape.
    ByNumber,
    /// By name: aliases count as variants.
    ByName,
}

/// How the type is asked; the next way is tried if the type does not like one.
#[derive(Clone, Copy)]
struct Manner {
    identify: Identify,
    /// What every number is.
    number: u8,
    /// Fields come in their order instead of by name.
    in_order: bool,
}

/// What is known after some passes.
#[derive(Clone, Default)]
struct Known {
    /// Of every enum, by its place: what its variants are, as far as they were seen.
    enums: BTreeMap<Vec<Step>, Vec<(String, Option<Content>)>>,
    /// Other names of the fields of a struct, by its place: (alias, name).
    aliases: BTreeMap<Vec<Step>, Vec<(String, String)>>,
}

impl Known {
    /// Whether every variant of the enums at `place` and within it was seen.
    fn is_complete(&self, place: &[Step]) -> bool {
        let within = self.enums.range(place.to_vec()..);
        within
            .take_while(|(path, _)| path.starts_with(place))
            .all(|(_, variants)| variants.iter().all(|(_, content)| content.is_some()))
    }
}

/// A field that a pass leaves out, or a field too many that it offers.
enum Trick<'a> {
    LeaveOut(&'a str),
    OneTooMany,
}

/// One pass.
struct Pass<'k> {
    manner: Manner,
    known: &'k mut Known,
    /// Something was learned, so that the next pass will come further than this one.
    learned: bool,
    trick: Option<(&'k [Step], Trick<'k>)>,
    path: Vec<Step>,
    /// Named types around the present place: name, address of the names of fields or variants, variant.
    around: Vec<(&'static str, usize, usize)>,
    /// Greater than 0 within a type that came once more within itself.
    repeating: usize,
    questions: usize,
}

fn pass<T: DeserializeOwned>(
    manner: Manner,
    known: &mut Known,
    trick: Option<(&[Step], Trick<'_>)>,
) -> (Option<Shape>, bool) {
    // One lifetime for all that the pass borrows.
    fn run<'k, T: DeserializeOwned>(mut pass: Pass<'k>) -> (Option<Shape>, bool) {
        let mut shape = None;
        let answer = T::deserialize(Ask {
            pass: &mut pass,
            shape: &mut shape,
        });
        (answer.ok().and(shape), pass.learned)
    }
    run::<T>(Pass {
        manner,
        known,
        learned: false,
        trick,
        path: Vec::new(),
        around: Vec::new(),
        repeating: 0,
        questions: 0,
    })
}

/// A shape and what else was found out.
#[derive(Clone)]
pub(crate) struct Traced {
    pub(crate) shape: Shape,
    manner: Manner,
    known: Known,
}

/// Describes `T`, or `None` if it cannot be found out.
pub(crate) fn trace<T: DeserializeOwned>(identify: Identify) -> Option<Traced> {
    let manners = [(0, false), (1, false), (0, true), (1, true)];
    manners.into_iter().find_map(|(number, in_order)| {
        let manner = Manner {
            identify,
            number,
            in_order,
        };
        let mut known = Known::default();
        for _ in 0..PASSES_MAX {
            match pass::<T>(manner, &mut known, None) {
                (Some(root), _) if known.is_complete(&[]) => {
                    let shape = assembled(root, &mut Vec::new(), &known, &mut 0)?;
                    return (shape.to_string().len() <= Shape::TEXT_BYTES_MAX).then_some(Traced {
                        shape,
                        manner,
                        known,
                    });
                }
                (Some(_), _) | (None, true) => {}
                (None, false) => return None,
            }
        }
        None
    })
}

impl Traced {
    /// The field of the struct at `place` that is also called `alias`.
    pub(crate) fn aliased(&self, place: &[Step], alias: &str) -> Option<&str> {
        let aliases = self.known.aliases.get(place)?;
        let found = aliases.iter().find(|(name, _)| name == alias)?;
        Some(&found.1)
    }

    /// Whether values may lack a field of the struct at `place`.
    pub(crate) fn may_lack<T: DeserializeOwned>(&self, place: &[Step], field: &str) -> bool {
        self.accepts::<T>(place, Trick::LeaveOut(field))
    }

    /// Whether values may have fields that the struct at `place` does not know.
    pub(crate) fn may_have_more<T: DeserializeOwned>(&self, place: &[Step]) -> bool {
        self.accepts::<T>(place, Trick::OneTooMany)
    }

    fn accepts<T: DeserializeOwned>(&self, place: &[Step], trick: Trick<'_>) -> bool {
        // Only by name can a field be left out.
        let manner = Manner {
            in_order: false,
            ..self.manner
        };
        pass::<T>(manner, &mut self.known.clone(), Some((place, trick)))
            .0
            .is_some()
    }
}

/// Shapes of one type at most: text of the largest size cannot hold more.
const SHAPES_MAX: usize = Shape::TEXT_BYTES_MAX;

/// Puts the variants of all enums into a shape in which enums are empty.
fn assembled(
    shape: Shape,
    path: &mut Vec<Step>,
    known: &Known,
    shapes: &mut usize,
) -> Option<Shape> {
    *shapes += 1;
    if *shapes > SHAPES_MAX {
        return None;
    }
    let mut inner = |step: Step, shape: Shape, path: &mut Vec<Step>| {
        path.push(step);
        let shape = assembled(shape, path, known, shapes)?;
        path.pop();
        Some(shape)
    };
    Some(match shape {
        Shape::Option(one) => Shape::Option(Box::new(inner(Step::Some, *one, path)?)),
        Shape::List(one) => Shape::List(Box::new(inner(Step::Element, *one, path)?)),
        Shape::Map(key, value) => Shape::Map(
            Box::new(inner(Step::Key, *key, path)?),
            Box::new(inner(Step::Value, *value, path)?),
        ),
        Shape::Tuple(parts) => Shape::Tuple(
            parts
                .into_iter()
                .enumerate()
                .map(|(at, part)| inner(Step::At(at), part, path))
                .collect::<Option<_>>()?,
        ),
        Shape::Struct { name, content } => Shape::Struct {
            name,
            content: content_assembled(content, path, known, shapes)?,
        },
        Shape::Enum { name, .. } => {
            let mut variants = Vec::new();
            for (name, content) in known.enums.get(path)? {
                path.push(Step::Variant(name.clone()));
                let content = content_assembled(content.clone()?, path, known, shapes)?;
                path.pop();
                variants.push(Variant {
                    name: name.clone(),
                    content,
                });
            }
            Shape::Enum { name, variants }
        }
        plain => plain,
    })
}

fn content_assembled(
    content: Content,
    path: &mut Vec<Step>,
    known: &Known,
    shapes: &mut usize,
) -> Option<Content> {
    let mut inner = |step: Step, shape: Shape, path: &mut Vec<Step>| {
        path.push(step);
        let shape = assembled(shape, path, known, shapes)?;
        path.pop();
        Some(shape)
    };
    Some(match content {
        Content::Unit => Content::Unit,
        Content::Newtype(one) => Content::Newtype(Box::new(inner(Step::Inner, *one, path)?)),
        Content::Tuple(parts) => Content::Tuple(
            parts
                .into_iter()
                .enumerate()
                .map(|(at, part)| inner(Step::At(at), part, path))
                .collect::<Option<_>>()?,
        ),
        Content::Fields(mut fields) => {
            for field in &mut fields {
                let shape = std::mem::replace(&mut field.shape, Shape::Unit);
                field.shape = inner(Step::Field(field.name.clone()), shape, path)?;
            }
            Content::Fields(fields)
        }
    })
}
