//! The encoded key of an entry: in place if it is short, so that finding an entry touches one place in memory and not two.

use std::borrow::Borrow;
use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a key that are kept in place.
const INLINE_BYTES: usize = 22;

/// An encoded `key ‖ namespace`, or an encoded user key. As large as a `String`.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Boxed(Box<[u8]>),
}

impl Key {
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        match bytes.get_mut(..key.len()) {
            Some(place) => {
                place.copy_from_slice(key);
                Self::Inline {
                    len: key.len() as u8,
                    bytes,
                }
            }
            None => Self::Boxed(key.into()),
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Boxed(bytes) => bytes,
        }
    }

    pub(super) fn hash(&self) -> u64 {
        xxh3_64(self.as_slice())
    }
}

impl Borrow<[u8]> for Key {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

/// A key that is looked for, with its hash: computed once, however many layers are asked.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) hash: u64,
}

impl<'a> Wanted<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            hash: xxh3_64(bytes),
        }
    }

    #[inline]
    pub(super) fn is(&self, key: &Key) -> bool {
        key.as_slice() == self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_come_back_and_short_ones_lie_in_place() {
        for len in 0..64usize {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let key = Key::new(&bytes);
            assert_eq!(key.as_slice(), bytes);
            assert_eq!(key.hash(), Wanted::new(&bytes).hash);
            assert!(Wanted::new(&bytes).is(&key));
            assert_eq!(matches!(key, Key::Inline { .. }), len <= INLINE_BYTES);
        }
        assert_eq!(size_of::<Key>(), 24);
    }
}
