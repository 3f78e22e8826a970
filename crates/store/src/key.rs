//! The key of a row on disk: `key group (2 bytes, big-endian) ‖ table id (2 bytes, big-endian) ‖ user key`.
//!
//! The key group comes first, so that the rows of a key-group range lie together and a rescale is a clip, whatever the
//! number of tables. Byte order is the order of rows. The hash of a key is computed once per read and serves the
//! memtables and every file's filter; it is part of the file format.
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::options::{KeyPart, TableId};

/// Bytes before the user's part.
pub(crate) const KEY_HEADER_BYTES: usize = 4;

/// Longest whole key there can be.
pub(crate) const WHOLE_KEY_BYTES_MAX: usize = u16::MAX as usize;
/// Longest user key there can be: 65,531 bytes.
pub(crate) const KEY_BYTES_MAX: usize = WHOLE_KEY_BYTES_MAX - KEY_HEADER_BYTES;

/// The four bytes that come before the user key.
#[inline]
pub(crate) fn header(group: u16, table: TableId) -> [u8; KEY_HEADER_BYTES] {
    let [g0, g1] = group.to_be_bytes();
    let [t0, t1] = table.0.to_be_bytes();
    [g0, g1, t0, t1]
}

/// The whole key.
pub(crate) fn encode(group: u16, table: TableId, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(KEY_HEADER_BYTES + key.len());
    out.extend_from_slice(&header(group, table));
    out.extend_from_slice(key);
    out
}

/// A whole key that lies on the stack unless it is long.
pub(crate) struct KeyBuffer {
    short: [u8; KeyBuffer::SHORT_BYTES],
    long: Vec<u8>,
    len: usize,
}

impl KeyBuffer {
    const SHORT_BYTES: usize = 128;

    #[inline]
    pub(crate) fn new(header: [u8; KEY_HEADER_BYTES], key: &[u8]) -> Self {
        let len = KEY_HEADER_BYTES + key.len();
        let mut this = Self {
            short: [0; Self::SHORT_BYTES],
            long: Vec::new(),
            len,
        };
        if len <= Self::SHORT_BYTES {
            this.short[..KEY_HEADER_BYTES].copy_from_slice(&header);
            this.short[KEY_HEADER_BYTES..len].copy_from_slice(key);
        } else {
            this.long.reserve_exact(len);
            this.long.extend_from_slice(&header);
            this.long.extend_from_slice(key);
        }
        this
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.short.get(..self.len).unwrap_or(&self.long)
    }
}

/// The hash of a key from its parts.
#[inline]
pub(crate) fn hash_parts(header: [u8; KEY_HEADER_BYTES], key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, u64::from(u32::from_be_bytes(header)))
}

/// The hash of a whole key; `None` if it is too short to be one.
#[inline]
pub(crate) fn hash(key: &[u8]) -> Option<u64> {
    let (header, user) = key.split_first_chunk::<KEY_HEADER_BYTES>()?;
    Some(hash_parts(*header, user))
}

/// The hash of the part of a key that scans are asked by. It has a seed of its own: a key that is its own prefix hashes
/// differently as either.
#[inline]
pub(crate) fn hash_prefix(header: [u8; KEY_HEADER_BYTES], prefix: &[u8]) -> u64 {
    const PREFIX_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    xxh3_64_with_seed(prefix, PREFIX_SEED ^ u64::from(u32::from_be_bytes(header)))
}

/// How many bytes the parts take at the start of a user key; `None` if the key ends before they do, or has another shape.
pub(crate) fn prefix_len(parts: &[KeyPart], key: &[u8]) -> Option<usize> {
    let mut at = 0usize;
    for part in parts {
        let rest = key.get(at..)?;
        at += match part {
            KeyPart::Fixed(len) => usize::from(*len),
            KeyPart::Terminated => terminated_len(rest)?,
            KeyPart::Optional(parts) => match rest.first()? {
                0 => 1,
                _ => 1 + prefix_len(parts, rest.get(1..)?)?,
            },
        };
    }
    (at <= key.len()).then_some(at)
}

/// Length of a part that ends with `00 01`, its end included.
fn terminated_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0)?;
        if bytes.get(at + 1)? == &1 {
            return Some(at + 2);
        }
        at += 2;
    }
}

/// The key group of a whole key; `None` if it is too short to be one.
#[inline]
pub(crate) fn group(key: &[u8]) -> Option<u16> {
    let (group, _) = key.split_first_chunk::<2>()?;
    Some(u16::from_be_bytes(*group))
}

/// The table of a whole key; `None` if it is too short to be one.
#[inline]
pub(crate) fn table(key: &[u8]) -> Option<TableId> {
    let (header, _) = key.split_first_chunk::<KEY_HEADER_BYTES>()?;
    Some(TableId(u16::from_be_bytes([header[2], header[3]])))
}

/// The last key group that has keys below `upper`.
pub(crate) fn last_group_below(upper: &[u8]) -> u16 {
    match *upper {
        [] => 0,
        [high] => u16::from_be_bytes([high, 0]).saturating_sub(1),
        [high, low] => u16::from_be_bytes([high, low]).saturating_sub(1),
        [high, low, ..] => u16::from_be_bytes([high, low]),
    }
}

/// The least byte string above every string that starts with `prefix`; `None` if there is none.
pub(crate) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut out = prefix.get(..=last)?.to_vec();
    if let Some(byte) = out.last_mut() {
        *byte += 1;
    }
    Some(out)
}

/// How many bytes two strings share at their start.
#[inline]
pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut shared = 0;
    for (x, y) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        if x != y {
            break;
        }
        shared += 8;
    }
    shared
        + a.iter()
            .zip(b)
            .skip(shared)
            .take_while(|(x, y)| x == y)
            .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_are_least_above_the_prefix() {
        assert_eq!(successor(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(successor(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(successor(&[0xff, 0xff]), None);
        assert_eq!(successor(b""), None);
    }

    #[test]
    fn an_upper_bound_names_the_last_group_below_it() {
        assert_eq!(last_group_below(&[0, 7, 0]), 7);
        assert_eq!(last_group_below(&[0, 7]), 6);
        assert_eq!(last_group_below(&[1]), 255);
        assert_eq!(last_group_below(&[0, 0]), 0);
    }

    #[test]
    fn prefixes_are_as_long_as_their_parts() {
        let name = [KeyPart::Terminated, KeyPart::Fixed(2)];
        assert_eq!(prefix_len(&name, b"ab\0\xff\0\x01xyz"), Some(8));
        assert_eq!(prefix_len(&name, b"ab\0\x01xy"), Some(6));
        assert_eq!(prefix_len(&name, b"ab\0\x01x"), None);
        assert_eq!(prefix_len(&name, b"ab\0"), None);
        assert_eq!(prefix_len(&name, b"ab"), None);
        let optional = [KeyPart::Optional(name.to_vec()), KeyPart::Fixed(1)];
        assert_eq!(prefix_len(&optional, b"\0x..."), Some(2));
        assert_eq!(prefix_len(&optional, b"\x01a\0\x01xyz..."), Some(7));
        assert_eq!(prefix_len(&optional, b""), None);
        assert_eq!(prefix_len(&[], b"abc"), Some(0));
    }

    #[test]
    fn a_prefix_does_not_hash_like_the_key() {
        let header = header(7, TableId(3));
        assert_ne!(hash_prefix(header, b"user"), hash_parts(header, b"user"));
    }

    #[test]
    fn parts_and_whole_hash_alike() {
        let whole = encode(7, TableId(3), b"user");
        assert_eq!(
            hash(&whole),
            Some(hash_parts(header(7, TableId(3)), b"user"))
        );
        assert_eq!(group(&whole), Some(7));
        assert_eq!(table(&whole), Some(TableId(3)));
        assert_eq!(hash(&whole[..3]), None);
    }

    #[test]
    fn shared_prefixes_are_counted_past_whole_words() {
        assert_eq!(shared_prefix(b"abcdefghijk", b"abcdefghijz"), 10);
        assert_eq!(shared_prefix(b"abcdefgh", b"abcdefgh"), 8);
        assert_eq!(shared_prefix(b"", b"x"), 0);
    }
}
