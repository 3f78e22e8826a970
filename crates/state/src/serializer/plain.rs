//! Numbers, text and bytes as they are.

use std::marker::PhantomData;

use bytes::Bytes;

use super::{Serializer, SerializerSnapshot};
use crate::StateError;

/// Types that [`Plain`] writes.
pub trait PlainValue: Sized + 'static {
    /// As shapes call it.
    const NAME: &'static str;

    /// Appends the bytes.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads all of the bytes; `None` if they are not what `write` writes.
    fn read(bytes: &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($type:ident)*) => {$(
        impl PlainValue for $type {
            const NAME: &'static str = stringify!($type);

            #[inline]
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            #[inline]
            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_be_bytes)
            }
        }
    )*};
}
numbers! { i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 }

impl PlainValue for bool {
    const NAME: &'static str = "bool";

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl PlainValue for String {
    const NAME: &'static str = "str";

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }
}

impl PlainValue for Vec<u8> {
    const NAME: &'static str = "bytes";

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl PlainValue for Bytes {
    const NAME: &'static str = "bytes";

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::copy_from_slice(bytes))
    }
}

/// The bare bytes of a number (big-endian), a `bool`, a text or bytes: the quickest, and nothing but the value. A type can only follow itself.
///
/// ```
/// use aquifer_state::ValueStateDescriptor;
/// use aquifer_state::serializer::Plain;
///
/// let count = ValueStateDescriptor::<u64, Plain<u64>>::new("count");
/// # let _ = count;
/// ```
pub struct Plain<T>(PhantomData<fn() -> T>);

impl<T> Clone for Plain<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Plain<T> {}

impl<T> Default for Plain<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

const ENCODING: &str = "plain-1";

impl<T: PlainValue> Serializer<T> for Plain<T> {
    #[inline]
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<(), StateError> {
        value.write(out);
        Ok(())
    }

    #[inline]
    fn deserialize(&self, bytes: &[u8]) -> Result<T, StateError> {
        T::read(bytes).ok_or_else(|| {
            StateError::Corrupt(format!(
                "{} bytes of state do not hold a plain {}",
                bytes.len(),
                T::NAME
            ))
        })
    }

    fn layout(&self) -> String {
        format!("{ENCODING}:{}", T::NAME)
    }

    fn snapshot(&self) -> SerializerSnapshot {
        SerializerSnapshot {
            encoding: ENCODING.into(),
            version: 1,
            payload: T::NAME.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serializer::Compatibility;

    fn check<T: PlainValue + PartialEq + std::fmt::Debug>(
        value: T,
        expected: &[u8],
        bad: &[&[u8]],
    ) {
        let plain = Plain::<T>::default();
        let mut bytes = Vec::new();
        plain.serialize(&value, &mut bytes).unwrap();
        assert_eq!(bytes, expected);
        assert_eq!(plain.deserialize(&bytes).unwrap(), value);
        for bad in bad {
            let error = plain.deserialize(bad).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(T::NAME), "{error}");
        }
    }

    #[test]
    fn values_are_their_bytes() {
        check(0x0102_0304u32, &[1, 2, 3, 4], &[&[], &[1, 2, 3], &[0; 5]]);
        check(
            -2i64,
            &[255, 255, 255, 255, 255, 255, 255, 254],
            &[&[0; 7], &[0; 9]],
        );
        check(1.5f32, &[0x3f, 0xc0, 0, 0], &[&[0; 3]]);
        check(true, &[1], &[&[], &[2], &[0, 0]]);
        check("ü".to_owned(), "ü".as_bytes(), &[&[0xc3]]);
        check(vec![0u8, 255], &[0, 255], &[]);
        check(Bytes::from_static(b"xy"), b"xy", &[]);
    }

    #[test]
    fn a_type_follows_itself_only() {
        let old = Plain::<u32>::default().snapshot();
        assert_eq!(
            Plain::<u32>::default().compatibility(&old),
            Compatibility::AsIs
        );
        match Plain::<u64>::default().compatibility(&old) {
            Compatibility::Incompatible(why) => {
                assert!(
                    why.contains("plain-1:u32") && why.contains("plain-1:u64"),
                    "{why}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
