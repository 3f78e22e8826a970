//! Whether values of one shape can be read as values of another.

use super::{Content, Field, Shape, Step, Variant, shortened};

/// What only the program's type can say.
pub(crate) trait Probe {
    /// The field of the struct at `place` that is also called `alias`.
    fn aliased(&self, place: &[Step], alias: &str) -> Option<String>;
    /// Whether values may lack a field of the struct at `place`.
    fn may_lack(&self, place: &[Step], field: &str) -> bool;
    /// Whether values may have fields that the struct at `place` does not know.
    fn may_have_more(&self, place: &[Step]) -> bool;
}

/// Whether a positional format reads values of shape `old` as values of shape `new`. Names of types do not count; fields must have
/// the same names in the same order, and an enum may only have got more variants at its end. The error says what differs.
pub(crate) fn same_bytes(old: &Shape, new: &Shape) -> Result<(), String> {
    Comparison::new(None).shapes(old, new)
}

/// Whether a format that names fields and variants reads values of shape `old` as values of shape `new`, whose type answers `probe`. Fields
/// may come, if the type has a default for them, go and change places; numbers may become wider; a value may become optional. The
/// error says what differs.
pub(crate) fn readable_by_name(old: &Shape, new: &Shape, probe: &dyn Probe) -> Result<(), String> {
    Comparison::new(Some(probe)).shapes(old, new)
}

/// The text of a refusal: both types, and what differs in them.
pub(crate) fn refusal(old: &str, new: &str, what: &str) -> String {
    let colon = if what.is_empty() { "" } else { ": " };
    format!("it was written as `{old}` and the program now expects `{new}`{colon}{what}")
}

struct Comparison<'a> {
    probe: Option<&'a dyn Probe>,
    /// To the present place, in the new type.
    path: Vec<Step>,
    /// Named types around the present place, old and new; those of one entry are at the same place.
    around: Vec<(Vec<&'a str>, Vec<&'a str>)>,
}

impl<'a> Comparison<'a> {
    fn new(probe: Option<&'a dyn Probe>) -> Self {
        Self {
            probe,
            path: Vec::new(),
            around: Vec::new(),
        }
    }

    /// The present place, for people.
    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.path {
            match step {
                Step::Some | Step::Inner => {}
                Step::Element => place.push_str("[]"),
                Step::Key => place.push_str("{key}"),
                Step::Value => place.push_str("{value}"),
                Step::At(at) => place.push_str(&format!(".{at}")),
                Step::Field(name) => place.push_str(&format!(".{name}")),
                Step::Variant(name) => place.push_str(&format!("::{name}")),
            }
        }
        place.trim_start_matches(['.', ':']).to_owned()
    }

    fn differs(&self, what: &str) -> String {
        match self.place() {
            root if root.is_empty() => what.to_owned(),
            place => format!("`{place}` {what}"),
        }
    }

    /// Nothing if the whole differs: whoever shows both types has said it.
    fn other(&self, old: &Shape, new: &Shape) -> String {
        if self.place().is_empty() {
            return String::new();
        }
        self.differs(&format!(
            "was `{}` and is now `{}`",
            shortened(old),
            shortened(new)
        ))
    }

    fn within(&mut self, step: Step, old: &'a Shape, new: &'a Shape) -> Result<(), String> {
        self.path.push(step);
        self.shapes(old, new)?;
        self.path.pop();
        Ok(())
    }

    fn shapes(&mut self, mut old: &'a Shape, mut new: &'a Shape) -> Result<(), String> {
        let depth = self.path.len();
        let (mut old_names, mut new_names) = (Vec::new(), Vec::new());
        while let Some((name, inner)) = wrapped(old) {
            old_names.push(name);
            old = inner;
        }
        while let Some((name, inner)) = wrapped(new) {
            new_names.push(name);
            self.path.push(Step::Inner);
            new = inner;
        }
        old_names.extend(named(old));
        new_names.extend(named(new));
        self.around.push((old_names, new_names));
        self.unwrapped(old, new)?;
        self.around.pop();
        self.path.truncate(depth);
        Ok(())
    }

    fn unwrapped(&mut self, old: &'a Shape, new: &'a Shape) -> Result<(), String> {
        let by_name = self.probe.is_some();
        match (old, new) {
            (Shape::Option(a), Shape::Option(b)) => self.within(Step::Some, a, b),
            (Shape::List(a), Shape::List(b)) => self.within(Step::Element, a, b),
            (Shape::Map(a_key, a), Shape::Map(b_key, b)) => {
                self.within(Step::Key, a_key, b_key)?;
                self.within(Step::Value, a, b)
            }
            (Shape::Tuple(a), Shape::Tuple(b)) if a.len() == b.len() => self.parts(a, b),
            (Shape::Struct { content: a, .. }, Shape::Struct { content: b, .. }) => {
                self.contents(a, b)
            }
            (Shape::Enum { variants: a, .. }, Shape::Enum { variants: b, .. }) => {
                self.variants(a, b)
            }
            (Shape::Again(a), Shape::Again(b)) => {
                let (a, b) = (a.as_str(), b.as_str());
                let mut around = self.around.iter().rev();
                let nearest = around.find(|(old, new)| old.contains(&a) || new.contains(&b));
                match nearest {
                    Some((old, new)) if old.contains(&a) && new.contains(&b) => Ok(()),
                    _ => Err(self.other(old, new)),
                }
            }
            (a, b) if a == b => Ok(()),
            // A value that is there reads as one that may be absent.
            (a, Shape::Option(b)) if by_name => self.within(Step::Some, a, b),
            (Shape::Tuple(a), Shape::List(b)) if by_name => {
                a.iter().try_for_each(|a| self.within(Step::Element, a, b))
            }
            (a, b) if by_name && widens(a, b) => Ok(()),
            // A unit struct is as empty as `()`.
            (
                Shape::Unit,
                Shape::Struct {
                    content: Content::Unit,
                    ..
                },
            )
            | (
                Shape::Struct {
                    content: Content::Unit,
                    ..
                },
                Shape::Unit,
            ) => Ok(()),
            _ => Err(self.other(old, new)),
        }
    }

    fn parts(&mut self, old: &'a [Shape], new: &'a [Shape]) -> Result<(), String> {
        for (at, (old, new)) in old.iter().zip(new).enumerate() {
            self.within(Step::At(at), old, new)?;
        }
        Ok(())
    }

    fn contents(&mut self, old: &'a Content, new: &'a Content) -> Result<(), String> {
        match (old, new) {
            (Content::Unit, Content::Unit) => Ok(()),
            (Content::Newtype(a), Content::Newtype(b)) => self.within(Step::Inner, a, b),
            (Content::Tuple(a), Content::Tuple(b)) if a.len() == b.len() => self.parts(a, b),
            (Content::Fields(a), Content::Fields(b)) => match self.probe {
                Some(probe) => self.fields_by_name(a, b, probe),
                None => self.fields_in_order(a, b),
            },
            _ => Err(self.differs(&format!("was {} and is now {}", kind(old), kind(new)))),
        }
    }

    fn fields_in_order(&mut self, old: &'a [Field], new: &'a [Field]) -> Result<(), String> {
        let names = |fields: &[Field]| {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            names.join(", ")
        };
        if !old
            .iter()
            .map(|field| &field.name)
            .eq(new.iter().map(|field| &field.name))
        {
            return Err(self.differs(&format!(
                "had the fields {} and now has {}",
                names(old),
                names(new)
            )));
        }
        for (old, new) in old.iter().zip(new) {
            self.within(Step::Field(new.name.clone()), &old.shape, &new.shape)?;
        }
        Ok(())
    }

    fn fields_by_name(
        &mut self,
        old: &'a [Field],
        new: &'a [Field],
        probe: &dyn Probe,
    ) -> Result<(), String> {
        let mut met = Vec::new();
        for old in old {
            let alias = probe.aliased(&self.path, &old.name);
            let name = alias.unwrap_or_else(|| old.name.clone());
            let Some(field) = new.iter().find(|field| field.name == name) else {
                if probe.may_have_more(&self.path) {
                    continue;
                }
                return Err(self.differs(&format!(
                    "refuses unknown fields, and its field `{}` is gone",
                    old.name
                )));
            };
            self.within(Step::Field(name), &old.shape, &field.shape)?;
            met.push(&field.name);
        }
        for new in new {
            if !met.contains(&&new.name) && !probe.may_lack(&self.path, &new.name) {
                let mut path = self.path.clone();
                path.push(Step::Field(new.name.clone()));
                let place = std::mem::replace(&mut self.path, path);
                let text = self.differs("is new, and has neither a default nor is it optional");
                self.path = place;
                return Err(text);
            }
        }
        Ok(())
    }

    fn variants(&mut self, old: &'a [Variant], new: &'a [Variant]) -> Result<(), String> {
        for (at, old) in old.iter().enumerate() {
            let found = match self.probe {
                Some(_) => new.iter().find(|new| new.name == old.name),
                None => new.get(at).filter(|new| new.name == old.name),
            };
            let Some(new) = found else {
                let what = match self.probe {
                    Some(_) => "is gone",
                    None => "is gone or has another number",
                };
                return Err(self.differs(&format!("had a variant `{}`, which {what}", old.name)));
            };
            self.path.push(Step::Variant(new.name.clone()));
            self.contents(&old.content, &new.content)?;
            self.path.pop();
        }
        Ok(())
    }
}

/// The name and inside of a struct that only wraps one value.
fn wrapped(shape: &Shape) -> Option<(&str, &Shape)> {
    match shape {
        Shape::Struct {
            name,
            content: Content::Newtype(inner),
        } => Some((name, inner)),
        _ => None,
    }
}

fn named(shape: &Shape) -> Option<&str> {
    match shape {
        Shape::Struct { name, .. } | Shape::Enum { name, .. } => Some(name),
        _ => None,
    }
}

fn kind(content: &Content) -> String {
    match content {
        Content::Unit => "without content".into(),
        Content::Newtype(inner) => format!("`{}`", shortened(inner)),
        Content::Tuple(parts) => format!("a tuple of {}", parts.len()),
        Content::Fields(_) => "a struct with named fields".into(),
    }
}

/// Whether every value of number type `old` is a value of `new`.
fn widens(old: &Shape, new: &Shape) -> bool {
    if let (Shape::F32, Shape::F64) | (Shape::Char, Shape::Str) = (old, new) {
        return true;
    }
    let Some((old_signed, old_bits)) = integer(old) else {
        return false;
    };
    // Of an integer's bits, its sign is none that a float must hold.
    let magnitude_bits = old_bits - u32::from(old_signed);
    match new {
        Shape::F32 => magnitude_bits <= f32::MANTISSA_DIGITS,
        Shape::F64 => magnitude_bits <= f64::MANTISSA_DIGITS,
        new => integer(new).is_some_and(|(signed, bits)| match (old_signed, signed) {
            (true, false) => false,
            (false, true) => old_bits < bits,
            _ => old_bits <= bits,
        }),
    }
}

/// Whether an integer type has a sign, and its bits.
fn integer(shape: &Shape) -> Option<(bool, u32)> {
    Some(match shape {
        Shape::I8 => (true, 8),
        Shape::I16 => (true, 16),
        Shape::I32 => (true, 32),
        Shape::I64 => (true, 64),
        Shape::I128 => (true, 128),
        Shape::U8 => (false, 8),
        Shape::U16 => (false, 16),
        Shape::U32 => (false, 32),
        Shape::U64 => (false, 64),
        Shape::U128 => (false, 128),
        _ => return None,
    })
}
