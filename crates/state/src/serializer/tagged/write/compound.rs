//! Structs, lists, maps and contents of variants while they are written: their parts are counted, and a count that was not announced is put into the
//! tag at the end.

use serde::ser::{self, Serialize};

use super::{Counted, Writer};
use crate::serializer::tagged::tags::{COUNT_MAX, Failure, put_varint};

/// A struct, list or map that is being written.
pub(super) struct Compound<'w, 'a> {
    pub(super) writer: &'w mut Writer<'a>,
    pub(super) counted: Counted,
    /// Where its tag is.
    pub(super) at: usize,
    pub(super) announced: Option<usize>,
    pub(super) count: usize,
    /// The number that the next field probably has.
    pub(super) next: u32,
}

impl Compound<'_, '_> {
    fn element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        self.count += 1;
        value.serialize(&mut *self.writer)
    }

    #[inline]
    fn field<T: ?Sized + Serialize>(&mut self, name: &str, value: &T) -> Result<(), Failure> {
        let number = self.writer.dictionary.number(name, self.next);
        if let Some(number) = number {
            if self.count == 0 {
                let len = self.announced.unwrap_or(0) as u32;
                self.writer.next_struct = self.writer.next_struct.max(number.saturating_add(len));
            }
            self.next = number + 1;
        }
        self.writer.name(number, name);
        self.element(value)
    }

    fn end(self) -> Result<(), Failure> {
        self.writer.depth -= 1;
        match self.announced {
            Some(announced) if announced == self.count => Ok(()),
            Some(announced) => Err(Failure(format!(
                "it announced {announced} parts of a value, and there are {}",
                self.count
            ))),
            None => {
                let out = &mut *self.writer.out;
                let small = self.count <= usize::from(COUNT_MAX);
                if let Some(tag) = out.get_mut(self.at) {
                    *tag = match small {
                        true => self.counted.tag | self.count as u8,
                        false => self.counted.wide,
                    };
                }
                if !small {
                    let mut count = Vec::new();
                    put_varint(self.count as u64, &mut count);
                    out.splice(self.at + 1..self.at + 1, count);
                }
                Ok(())
            }
        }
    }
}

impl ser::SerializeSeq for Compound<'_, '_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        self.element(value)
    }

    fn end(self) -> Result<(), Failure> {
        Compound::end(self)
    }
}

impl ser::SerializeTuple for Compound<'_, '_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        self.element(value)
    }

    fn end(self) -> Result<(), Failure> {
        Compound::end(self)
    }
}

impl ser::SerializeTupleStruct for Compound<'_, '_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        self.element(value)
    }

    fn end(self) -> Result<(), Failure> {
        Compound::end(self)
    }
}

impl ser::SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Failure> {
        self.element(key)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Failure> {
        Compound::end(self)
    }
}

impl ser::SerializeStruct for Compound<'_, '_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Failure> {
        Compound::end(self)
    }
}

/// The content of a variant that is being written.
pub(super) struct VariantOf<'w, 'a>(pub(super) Compound<'w, 'a>);

impl VariantOf<'_, '_> {
    fn end(self) -> Result<(), Failure> {
        self.0.writer.depth -= 1;
        self.0.end()
    }
}

impl ser::SerializeTupleVariant for VariantOf<'_, '_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        self.0.element(value)
    }

    fn end(self) -> Result<(), Failure> {
        VariantOf::end(self)
    }
}

impl ser::SerializeStructVariant for VariantOf<'_, '_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.0.field(key, value)
    }

    fn end(self) -> Result<(), Failure> {
        VariantOf::end(self)
    }
}
