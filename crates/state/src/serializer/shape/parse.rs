//! Shapes from text that may be hostile: depth and size are bounded, and what does not fit is an error with its place.

use super::text::OPTION;
use super::{Content, Field, Shape, Variant};
use crate::StateError;

impl Shape {
    /// Reads what `Display` wrote; any other text is an error.
    pub fn parse(text: &str) -> Result<Self, StateError> {
        if text.len() > Self::TEXT_BYTES_MAX {
            return Err(StateError::Corrupt(format!(
                "the shape of a type has {} bytes, expected at most {}",
                text.len(),
                Self::TEXT_BYTES_MAX
            )));
        }
        let mut parser = Parser { text, rest: text };
        let shape = parser.shape(0)?;
        match parser.rest {
            "" => Ok(shape),
            _ => Err(parser.wrong("the end")),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn wrong(&self, expected: &str) -> StateError {
        let found = match self.rest.chars().next() {
            Some(c) => format!("{c:?}"),
            None => "the end".into(),
        };
        StateError::Corrupt(format!(
            "the shape of a type is damaged at byte {}: expected {expected}, found {found}",
            self.text.len() - self.rest.len()
        ))
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), StateError> {
        if self.eat(token) {
            Ok(())
        } else {
            Err(self.wrong(&format!("`{token}`")))
        }
    }

    fn shape(&mut self, depth: usize) -> Result<Shape, StateError> {
        if depth > Shape::DEPTH_MAX {
            return Err(StateError::Corrupt(format!(
                "the shape of a type has more than {} types within types",
                Shape::DEPTH_MAX
            )));
        }
        let depth = depth + 1;
        if self.eat("(") {
            let (shapes, ends_with_comma) = self.tuple(depth)?;
            if ends_with_comma {
                return Err(self.wrong("a tuple without a comma at its end"));
            }
            return Ok(if shapes.is_empty() {
                Shape::Unit
            } else {
                Shape::Tuple(shapes)
            });
        }
        if self.eat("[") {
            let element = self.shape(depth)?;
            self.expect("]")?;
            return Ok(Shape::List(Box::new(element)));
        }
        if self.eat("{") {
            let key = self.shape(depth)?;
            self.expect("=>")?;
            let value = self.shape(depth)?;
            self.expect("}")?;
            return Ok(Shape::Map(Box::new(key), Box::new(value)));
        }
        if self.eat("^") {
            return self.name().map(|(name, _)| Shape::Again(name));
        }
        let (name, quoted) = self.name()?;
        if !quoted {
            if name == OPTION {
                self.expect("<")?;
                let inner = self.shape(depth)?;
                self.expect(">")?;
                return Ok(Shape::Option(Box::new(inner)));
            }
            let mut plain = Shape::PLAIN.into_iter();
            if let Some((shape, _)) = plain.find(|(_, plain)| *plain == name) {
                return Ok(shape);
            }
        }
        if self.eat("[") {
            let mut variants = Vec::new();
            while !self.eat("]") {
                if !variants.is_empty() {
                    self.expect("|")?;
                }
                let (name, _) = self.name()?;
                let content = self.content(depth)?;
                variants.push(Variant { name, content });
            }
            return Ok(Shape::Enum { name, variants });
        }
        let content = self.content(depth)?;
        Ok(Shape::Struct { name, content })
    }

    /// What follows the name of a struct or a variant.
    fn content(&mut self, depth: usize) -> Result<Content, StateError> {
        if self.eat("(") {
            let (mut shapes, ends_with_comma) = self.tuple(depth)?;
            return Ok(match (shapes.len(), ends_with_comma) {
                (1, false) => match shapes.pop() {
                    Some(inner) => Content::Newtype(Box::new(inner)),
                    None => Content::Tuple(shapes),
                },
                _ => Content::Tuple(shapes),
            });
        }
        if !self.eat("{") {
            return Ok(Content::Unit);
        }
        let mut fields = Vec::new();
        while !self.eat("}") {
            if !fields.is_empty() {
                self.expect(",")?;
            }
            let (name, _) = self.name()?;
            self.expect(":")?;
            let shape = self.shape(depth)?;
            fields.push(Field { name, shape });
        }
        Ok(Content::Fields(fields))
    }

    /// Shapes up to `)`, and whether a comma stands before it.
    fn tuple(&mut self, depth: usize) -> Result<(Vec<Shape>, bool), StateError> {
        let mut shapes = Vec::new();
        loop {
            if self.eat(")") {
                return Ok((shapes, false));
            }
            if !shapes.is_empty() {
                self.expect(",")?;
                if shapes.len() == 1 && self.eat(")") {
                    return Ok((shapes, true));
                }
            }
            shapes.push(self.shape(depth)?);
        }
    }

    /// A name, and whether it stands in quotes.
    fn name(&mut self) -> Result<(String, bool), StateError> {
        if self.eat("\"") {
            return self.quoted().map(|name| (name, true));
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.wrong("a name"));
        }
        self.rest = rest;
        Ok((name.to_owned(), false))
    }

    /// The rest of a name in quotes.
    fn quoted(&mut self) -> Result<String, StateError> {
        let mut name = String::new();
        loop {
            let mut chars = self.rest.chars();
            let Some(c) = chars.next() else {
                return Err(self.wrong("`\"`"));
            };
            match c {
                '"' => {
                    self.rest = chars.as_str();
                    return Ok(name);
                }
                '\\' => {
                    self.rest = chars.as_str();
                    if self.eat("u{") {
                        let digits = self.rest.find('}').map(|end| self.rest.split_at(end));
                        let code = digits.and_then(|(digits, rest)| {
                            let code = u32::from_str_radix(digits, 16).ok()?;
                            Some((char::from_u32(code)?, rest))
                        });
                        let Some((code, rest)) = code else {
                            return Err(self.wrong("a character's number"));
                        };
                        name.push(code);
                        self.rest = rest;
                        self.expect("}")?;
                    } else if self.eat("\"") {
                        name.push('"');
                    } else if self.eat("\\") {
                        name.push('\\');
                    } else {
                        return Err(self.wrong("`\"`, `\\` or `u{`"));
                    }
                }
                c => {
                    name.push(c);
                    self.rest = chars.as_str();
                }
            }
        }
    }
}
