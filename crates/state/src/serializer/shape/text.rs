//! Shapes as text: `Account{id:u64,owner:Option<str>,limit:Limit[None|Daily(u32)]}`.

use std::fmt::{self, Display, Formatter, Write};

use super::{Content, Shape};

/// The name of options in shapes.
pub(super) const OPTION: &str = "Option";

/// True for names that stand as they are; others stand in quotes.
fn is_plain(name: &str) -> bool {
    let mut chars = name.chars();
    let starts_well = chars
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    starts_well && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn write_name(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    if is_plain(name) {
        return f.write_str(name);
    }
    f.write_char('"')?;
    for c in name.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// Names of types that would be taken for something else stand in quotes.
fn write_type_name(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    let reserved = name == OPTION || Shape::PLAIN.iter().any(|(_, plain)| *plain == name);
    if reserved {
        write!(f, "\"{name}\"")
    } else {
        write_name(f, name)
    }
}

fn write_list(f: &mut Formatter<'_>, shapes: &[Shape]) -> fmt::Result {
    for (i, shape) in shapes.iter().enumerate() {
        if i > 0 {
            f.write_char(',')?;
        }
        shape.fmt(f)?;
    }
    Ok(())
}

fn write_content(f: &mut Formatter<'_>, content: &Content) -> fmt::Result {
    match content {
        Content::Unit => Ok(()),
        Content::Newtype(inner) => write!(f, "({inner})"),
        Content::Tuple(shapes) => {
            f.write_char('(')?;
            write_list(f, shapes)?;
            // A comma tells a tuple of one from a wrapper.
            f.write_str(if shapes.len() == 1 { ",)" } else { ")" })
        }
        Content::Fields(fields) => {
            f.write_char('{')?;
            for (i, field) in fields.iter().enumerate() {
                if i > 0 {
                    f.write_char(',')?;
                }
                write_name(f, &field.name)?;
                write!(f, ":{}", field.shape)?;
            }
            f.write_char('}')
        }
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some((_, name)) = Self::PLAIN.iter().find(|(plain, _)| plain == self) {
            return f.write_str(name);
        }
        match self {
            Self::Unit => f.write_str("()"),
            Self::Option(inner) => write!(f, "{OPTION}<{inner}>"),
            Self::List(element) => write!(f, "[{element}]"),
            Self::Map(key, value) => write!(f, "{{{key}=>{value}}}"),
            Self::Tuple(shapes) => {
                f.write_char('(')?;
                write_list(f, shapes)?;
                f.write_char(')')
            }
            Self::Struct { name, content } => {
                write_type_name(f, name)?;
                write_content(f, content)
            }
            Self::Enum { name, variants } => {
                write_type_name(f, name)?;
                f.write_char('[')?;
                for (i, variant) in variants.iter().enumerate() {
                    if i > 0 {
                        f.write_char('|')?;
                    }
                    write_name(f, &variant.name)?;
                    write_content(f, &variant.content)?;
                }
                f.write_char(']')
            }
            Self::Again(name) => {
                f.write_char('^')?;
                write_name(f, name)
            }
            // Found above.
            _ => Ok(()),
        }
    }
}

/// A shape for an error text: its beginning, if it is long.
pub(crate) fn shortened(shape: &Shape) -> String {
    const CHARS_MAX: usize = 160;
    let text = shape.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        None => text,
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}
