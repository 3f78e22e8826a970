//! Numbers, byte strings and lists as they lie in checkpoint metadata (`docs/format/metadata.md`).
//!
//! Integers are little-endian, lengths and counts are u64. [`Reader`] takes bytes that may be hostile: it never panics, and every length is
//! checked against what is left before anything is made of it.

use crate::StateError;

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends the length of `bytes`, then `bytes`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes the body after its length.
pub(crate) fn with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    put_u64(out, 0);
    body(out);
    let length = (out.len() - at - 8) as u64;
    out[at..at + 8].copy_from_slice(&length.to_le_bytes());
}

/// Takes values off the front of a slice; every length is checked against what is there.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
    place: &'static str,
}

/// A list whose announced number of items the remaining bytes can hold.
pub(crate) struct List<T> {
    pub(crate) count: usize,
    pub(crate) items: Vec<T>,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which errors call `place`.
    pub(crate) fn new(place: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, place }
    }

    pub(crate) fn wrong(&self, what: &str) -> StateError {
        StateError::Corrupt(format!("{} is damaged: {what}", self.place))
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], StateError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.too_short(count));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.too_short(N));
        };
        self.rest = rest;
        Ok(*taken)
    }

    fn too_short(&self, wanted: usize) -> StateError {
        self.wrong(&format!(
            "{wanted} bytes are expected, {} are left",
            self.rest.len()
        ))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, StateError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, StateError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, StateError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, StateError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, StateError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool, StateError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.wrong(&format!("a flag is {other} instead of 0 or 1"))),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let length = self.u64()?;
        // A length beyond the address space is beyond the rest of the slice, too.
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Bytes of which there may be at most `bytes_max`; an error calls them `what`.
    pub(crate) fn bytes_at_most(
        &mut self,
        bytes_max: usize,
        what: &str,
    ) -> Result<&'a [u8], StateError> {
        let bytes = self.bytes()?;
        if bytes.len() > bytes_max {
            return Err(self.wrong(&format!(
                "{what} has {} bytes, expected at most {bytes_max}",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Result<String, StateError> {
        self.text_at_most(usize::MAX, "a text")
    }

    /// A text of at most `bytes_max` bytes; an error calls it `what`.
    pub(crate) fn text_at_most(
        &mut self,
        bytes_max: usize,
        what: &str,
    ) -> Result<String, StateError> {
        let bytes = self.bytes_at_most(bytes_max, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.wrong(&format!("{what} is not UTF-8"))),
        }
    }

    /// The head of a list of which each item takes at least `item_bytes_min` bytes.
    pub(crate) fn list<T>(&mut self, item_bytes_min: usize) -> Result<List<T>, StateError> {
        let announced = self.u64()?;
        let count = usize::try_from(announced).unwrap_or(usize::MAX);
        if count > self.rest.len() / item_bytes_min {
            return Err(self.wrong(&format!(
                "a list of {announced} items is announced, but {} bytes are left",
                self.rest.len()
            )));
        }
        // Items may be larger in memory than in the file: grow as they really come.
        Ok(List {
            count,
            items: Vec::new(),
        })
    }

    pub(crate) fn byte_strings(&mut self) -> Result<Vec<Vec<u8>>, StateError> {
        let mut list = self.list(8)?;
        for _ in 0..list.count {
            list.items.push(self.bytes()?.to_vec());
        }
        Ok(list.items)
    }

    pub(crate) fn end(&self) -> Result<(), StateError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.wrong(&format!("{left} bytes are left over"))),
        }
    }
}
