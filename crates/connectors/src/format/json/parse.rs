//! A small JSON reader that keeps numbers as they are written, so that decimals lose nothing, and knows where things are.
//!
//! It reads one value from one line, refuses everything that RFC 8259 refuses, and nests at most 64 deep.

use std::borrow::Cow;

use super::super::Malformed;

const DEPTH_MAX: usize = 64;

/// A JSON value, where it begins, and its text.
#[derive(Debug, PartialEq)]
pub(super) struct Json<'j> {
    pub(super) at: usize,
    /// As it is written.
    pub(super) raw: &'j str,
    pub(super) value: Value<'j>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Value<'j> {
    Null,
    Boolean(bool),
    /// As `raw` has it.
    Number,
    Text(Cow<'j, str>),
    Array(Vec<Json<'j>>),
    /// In the order of the text; of two members with one name the later counts.
    Object(Vec<(Cow<'j, str>, Json<'j>)>),
}

impl<'j> Json<'j> {
    /// Reads a whole text.
    pub(super) fn parse(text: &'j str) -> Result<Self, Malformed> {
        let mut parser = Parser { text, at: 0 };
        parser.skip_blanks();
        let json = parser.value(0)?;
        parser.skip_blanks();
        if parser.at < text.len() {
            return Err(parser.unexpected("the end of the line"));
        }
        Ok(json)
    }
}

struct Parser<'j> {
    text: &'j str,
    at: usize,
}

impl<'j> Parser<'j> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn rest(&self) -> &'j str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn unexpected(&self, expected: &str) -> Malformed {
        let found = match self.rest().chars().next() {
            Some(c) => format!("'{}'", c.escape_debug()),
            None => "the end of the line".to_owned(),
        };
        Malformed::new(
            self.at,
            format!("the JSON must have {expected} here, found {found}"),
        )
    }

    fn eat(&mut self, byte: u8) -> bool {
        let eaten = self.peek() == Some(byte);
        self.at += usize::from(eaten);
        eaten
    }

    fn value(&mut self, depth: usize) -> Result<Json<'j>, Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed::new(
                self.at,
                format!("JSON may nest {DEPTH_MAX} deep, found more"),
            ));
        }
        let at = self.at;
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => {
                let words = [
                    ("null", Value::Null),
                    ("true", Value::Boolean(true)),
                    ("false", Value::Boolean(false)),
                ];
                let rest = self.rest();
                let Some((word, value)) =
                    words.into_iter().find(|(word, _)| rest.starts_with(word))
                else {
                    return Err(self.unexpected("a value"));
                };
                self.at += word.len();
                value
            }
        };
        Ok(Json {
            at,
            raw: self.text.get(at..self.at).unwrap_or(""),
            value,
        })
    }

    fn object(&mut self, depth: usize) -> Result<Value<'j>, Malformed> {
        self.at += 1;
        let mut members = Vec::new();
        self.skip_blanks();
        if self.eat(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.skip_blanks();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a name in quotes"));
            }
            let name = self.string()?;
            self.skip_blanks();
            if !self.eat(b':') {
                return Err(self.unexpected("':'"));
            }
            self.skip_blanks();
            members.push((name, self.value(depth + 1)?));
            self.skip_blanks();
            if self.eat(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.eat(b',') {
                return Err(self.unexpected("',' or '}'"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value<'j>, Malformed> {
        self.at += 1;
        let mut elements = Vec::new();
        self.skip_blanks();
        if self.eat(b']') {
            return Ok(Value::Array(elements));
        }
        loop {
            self.skip_blanks();
            elements.push(self.value(depth + 1)?);
            self.skip_blanks();
            if self.eat(b']') {
                return Ok(Value::Array(elements));
            }
            if !self.eat(b',') {
                return Err(self.unexpected("',' or ']'"));
            }
        }
    }

    fn number(&mut self) -> Result<Value<'j>, Malformed> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Ok(Value::Number)
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.unexpected("a digit"))
        } else {
            Ok(())
        }
    }

    fn string(&mut self) -> Result<Cow<'j, str>, Malformed> {
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut copied = start;
        loop {
            match self.peek() {
                None => return Err(self.unexpected("a closing quote")),
                Some(b'"') => {
                    let tail = self.text.get(copied..self.at).unwrap_or("");
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(tail),
                        Some(mut text) => {
                            text.push_str(tail);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(self.text.get(copied..self.at).unwrap_or(""));
                    self.at += 1;
                    text.push(self.escape()?);
                    copied = self.at;
                }
                Some(0..=0x1F) => {
                    return Err(self.unexpected("an escape instead of a control character"));
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, Malformed> {
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{C}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected("an escape")),
        };
        self.at += 1;
        Ok(c)
    }

    /// Four hexadecimal digits, or twice four for a surrogate pair.
    fn unicode(&mut self) -> Result<char, Malformed> {
        let start = self.at;
        let high = self.hexadecimal()?;
        let mut code = u32::from(high);
        if (0xD800..0xDC00).contains(&high) && self.rest().starts_with("\\u") {
            self.at += 2;
            let low = self.hexadecimal()?;
            if (0xDC00..0xE000).contains(&low) {
                code = 0x1_0000 + ((code - 0xD800) << 10) + (u32::from(low) - 0xDC00);
            }
        }
        char::from_u32(code).ok_or_else(|| {
            Malformed::new(
                start,
                "the JSON must have whole surrogate pairs, found half of one",
            )
        })
    }

    fn hexadecimal(&mut self) -> Result<u16, Malformed> {
        let digits = self
            .rest()
            .get(..4)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => Err(self.unexpected("four hexadecimal digits")),
        }
    }
}
