//! Numbers and byte strings as they lie in files.
//!
//! Integers of fixed width are little-endian, lengths are LEB128 varints. [`Reader`] takes bytes that may be hostile:
//! it never panics, and every length is checked against what is left before anything is made of it.
use crate::error::{Error, Result};

/// Appends `value` as a LEB128 varint (1 to 10 bytes).
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the length of `bytes` as a varint, then `bytes`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads a varint at the start of `bytes`; returns it with its length. `None` if it is cut off or too long.
#[inline]
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((u64::from(first), 1));
    }
    let mut value = u64::from(first & 0x7f);
    for (i, &byte) in bytes.iter().enumerate().take(10).skip(1) {
        let part = u64::from(byte & 0x7f);
        if i == 9 && byte > 1 {
            return None;
        }
        value |= part << (7 * i);
        if byte < 0x80 {
            return Some((value, i + 1));
        }
    }
    None
}

/// Takes a byte string apart from its front. `what` names the object in errors.
pub(crate) struct Reader<'a> {
    what: &'a str,
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'a str, bytes: &'a [u8]) -> Self {
        Self {
            what,
            rest: bytes,
            at: 0,
        }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// How many bytes have been taken.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn take(&mut self, len: usize, field: &str) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(Error::corrupt(format!(
                "{} is damaged: {field} needs {len} bytes at offset {}, but {} are left",
                self.what,
                self.at,
                self.rest.len()
            )));
        };
        self.rest = rest;
        self.at += len;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, field)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self, field: &str) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u16(&mut self, field: &str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u32(&mut self, field: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn varint(&mut self, field: &str) -> Result<u64> {
        let Some((value, len)) = varint(self.rest) else {
            return Err(Error::corrupt(format!(
                "{} is damaged: {field} at offset {} is not a number",
                self.what, self.at
            )));
        };
        self.take(len, field)?;
        Ok(value)
    }

    /// A varint length and as many bytes.
    pub(crate) fn bytes(&mut self, field: &str) -> Result<&'a [u8]> {
        let len = self.varint(field)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.take(len, field)
    }

    /// A number of items that each take at least `item_bytes_min` of what is left.
    pub(crate) fn count(&mut self, item_bytes_min: usize, field: &str) -> Result<usize> {
        let count = self.varint(field)?;
        let most = self.remaining() / item_bytes_min.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(Error::corrupt(format!(
                "{} is damaged: {field} says {count}, but the bytes that are left hold at most {most}",
                self.what
            ))),
        }
    }

    pub(crate) fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "{} is damaged: {} bytes follow its end at offset {}",
            self.what,
            self.rest.len(),
            self.at
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for value in [
            0,
            1,
            127,
            128,
            300,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(varint(&out), Some((value, out.len())));
            assert_eq!(
                varint(&out[..out.len() - 1]),
                None,
                "a cut varint is refused"
            );
        }
    }

    #[test]
    fn varints_longer_than_a_number_are_refused() {
        assert_eq!(varint(&[0xff; 11]), None);
        assert_eq!(
            varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            None
        );
    }

    #[test]
    fn lengths_are_checked_before_use() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert!(Reader::new("t", &out).bytes("field").is_err());
        assert!(Reader::new("t", &out).count(1, "field").is_err());
    }
}
