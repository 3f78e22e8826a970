//! The encoding of keys and user keys: its bytes sort like the values, and it ends by itself.
//!
//! So a map state over integers iterates in their order, the rows of one key lie side by side, and no key is a prefix of another
//! (`key ‖ namespace ‖ user key` needs no lengths). Integers are big-endian with the sign bit flipped; floats sort from -inf to +inf with one
//! NaN last; in strings and bytes `00` becomes `00 FF` and `00 01` ends them; options, tuples and `()` are made of their parts.
//! Decoders check every byte and return [`StateError::Corrupt`]; they never allocate more than the input holds.

use aquifer_store::KeyPart;
use bytes::Bytes;

use crate::StateError;

/// Escapes a zero byte, and with [`END`] ends a string.
const ZERO: u8 = 0x00;
/// After [`ZERO`]: the zero byte belongs to the string.
const ESCAPED: u8 = 0xff;
/// After [`ZERO`]: the string ends here.
const END: u8 = 0x01;

/// A type that can be a key, a user key of map state, or a namespace.
pub trait OrderedKey: Sized {
    /// Appends the encoding to `out`.
    fn encode_ordered(&self, out: &mut Vec<u8>);

    /// Takes one value off the front of `input`.
    fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError>;

    /// Names the type in the layout of a state; two types with different encodings have different names.
    fn type_name() -> String;

    /// Where the encoding ends, told to the store, which keeps filters over keys whose rows are scanned. `None`: no such filters.
    fn parts() -> Option<Vec<KeyPart>> {
        None
    }
}

/// Encodes into a new buffer.
pub fn encode_ordered<K: OrderedKey>(key: &K) -> Vec<u8> {
    let mut out = Vec::new();
    key.encode_ordered(&mut out);
    out
}

/// Decodes bytes that hold exactly one value.
pub fn decode_ordered<K: OrderedKey>(mut bytes: &[u8]) -> Result<K, StateError> {
    let key = K::decode_ordered(&mut bytes)?;
    if bytes.is_empty() {
        Ok(key)
    } else {
        Err(StateError::Corrupt(format!(
            "an encoded key of type {} is followed by {} more bytes, expected none",
            K::type_name(),
            bytes.len()
        )))
    }
}

/// Appends bytes so that they sort and end by themselves.
pub fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(byte);
        if byte == ZERO {
            out.push(ESCAPED);
        }
    }
    out.extend_from_slice(&[ZERO, END]);
}

/// Takes what [`encode_bytes`] wrote off the front of `input`.
pub fn decode_bytes(input: &mut &[u8]) -> Result<Vec<u8>, StateError> {
    let mut out = Vec::new();
    let mut rest = *input;
    loop {
        let (head, after) = match rest.iter().position(|byte| *byte == ZERO) {
            Some(at) => rest.split_at(at),
            None => return Err(cut_short("bytes")),
        };
        out.extend_from_slice(head);
        match after {
            [ZERO, ESCAPED, tail @ ..] => {
                out.push(ZERO);
                rest = tail;
            }
            [ZERO, END, tail @ ..] => {
                *input = tail;
                return Ok(out);
            }
            [_, other, ..] => {
                return Err(StateError::Corrupt(format!(
                    "an encoded key holds byte {other:#04x} after a zero byte, expected 0x01 or 0xff"
                )));
            }
            _ => return Err(cut_short("bytes")),
        }
    }
}

fn cut_short(what: &str) -> StateError {
    StateError::Corrupt(format!(
        "an encoded key ends in the middle of a value of type {what}"
    ))
}

fn take<const N: usize>(input: &mut &[u8], what: &str) -> Result<[u8; N], StateError> {
    let (head, tail) = input
        .split_first_chunk::<N>()
        .ok_or_else(|| cut_short(what))?;
    *input = tail;
    Ok(*head)
}

macro_rules! ordered_unsigned {
    ($($type:ty),*) => {$(
        impl OrderedKey for $type {
            fn encode_ordered(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError> {
                Ok(Self::from_be_bytes(take(input, stringify!($type))?))
            }
            fn type_name() -> String {
                stringify!($type).into()
            }
            fn parts() -> Option<Vec<KeyPart>> {
                Some(vec![KeyPart::Fixed(size_of::<$type>() as u16)])
            }
        }
    )*};
}
ordered_unsigned!(u8, u16, u32, u64, u128);

macro_rules! ordered_signed {
    ($($type:ty as $unsigned:ty),*) => {$(
        impl OrderedKey for $type {
            fn encode_ordered(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&(self ^ <$type>::MIN).to_be_bytes());
            }
            fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError> {
                Ok(Self::from_be_bytes(take(input, stringify!($type))?) ^ <$type>::MIN)
            }
            fn type_name() -> String {
                stringify!($type).into()
            }
            fn parts() -> Option<Vec<KeyPart>> {
                Some(vec![KeyPart::Fixed(size_of::<$type>() as u16)])
            }
        }
    )*};
}
ordered_signed!(i8 as u8, i16 as u16, i32 as u32, i64 as u64, i128 as u128);

macro_rules! ordered_float {
    ($($type:ty, $bits:ty, $nan:literal);*) => {$(
        impl OrderedKey for $type {
            fn encode_ordered(&self, out: &mut Vec<u8>) {
                const SIGN: $bits = 1 << (<$bits>::BITS - 1);
                let bits: $bits = if self.is_nan() { $nan } else { self.to_bits() };
                let sorted = if bits & SIGN == 0 { bits | SIGN } else { !bits };
                out.extend_from_slice(&sorted.to_be_bytes());
            }
            fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError> {
                const SIGN: $bits = 1 << (<$bits>::BITS - 1);
                let sorted = <$bits>::from_be_bytes(take(input, stringify!($type))?);
                Ok(Self::from_bits(if sorted & SIGN == 0 { !sorted } else { sorted ^ SIGN }))
            }
            fn type_name() -> String {
                stringify!($type).into()
            }
            fn parts() -> Option<Vec<KeyPart>> {
                Some(vec![KeyPart::Fixed(size_of::<$type>() as u16)])
            }
        }
    )*};
}
ordered_float!(f32, u32, 0x7fc0_0000; f64, u64, 0x7ff8_0000_0000_0000);

impl OrderedKey for bool {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError> {
        match take(input, "bool")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(StateError::Corrupt(format!(
                "an encoded key holds {other} where a bool should be, expected 0 or 1"
            ))),
        }
    }

    fn type_name() -> String {
        "bool".into()
    }

    fn parts() -> Option<Vec<KeyPart>> {
        Some(vec![KeyPart::Fixed(1)])
    }
}

impl OrderedKey for () {
    fn encode_ordered(&self, _out: &mut Vec<u8>) {}

    fn decode_ordered(_input: &mut &[u8]) -> Result<Self, StateError> {
        Ok(())
    }

    fn type_name() -> String {
        "()".into()
    }

    fn parts() -> Option<Vec<KeyPart>> {
        Some(Vec::new())
    }
}

impl OrderedKey for String {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        encode_bytes(self.as_bytes(), out);
    }

    fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError> {
        Self::from_utf8(decode_bytes(input)?).map_err(|error| {
            StateError::Corrupt(format!(
                "an encoded key of type String is not UTF-8: {error}"
            ))
        })
    }

    fn type_name() -> String {
        "String".into()
    }

    fn parts() -> Option<Vec<KeyPart>> {
        Some(vec![KeyPart::Terminated])
    }
}

impl OrderedKey for Vec<u8> {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        encode_bytes(self, out);
    }

    fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError> {
        decode_bytes(input)
    }

    fn type_name() -> String {
        "bytes".into()
    }

    fn parts() -> Option<Vec<KeyPart>> {
        Some(vec![KeyPart::Terminated])
    }
}

impl OrderedKey for Bytes {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        encode_bytes(self, out);
    }

    fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError> {
        decode_bytes(input).map(Self::from)
    }

    fn type_name() -> String {
        "bytes".into()
    }

    fn parts() -> Option<Vec<KeyPart>> {
        Some(vec![KeyPart::Terminated])
    }
}

impl<K: OrderedKey> OrderedKey for Option<K> {
    /// Absent sorts first.
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(key) => {
                out.push(1);
                key.encode_ordered(out);
            }
        }
    }

    fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError> {
        match take(input, "Option")? {
            [0] => Ok(None),
            [1] => K::decode_ordered(input).map(Some),
            [other] => Err(StateError::Corrupt(format!(
                "an encoded key holds {other} where an Option should be, expected 0 or 1"
            ))),
        }
    }

    fn type_name() -> String {
        format!("Option<{}>", K::type_name())
    }

    fn parts() -> Option<Vec<KeyPart>> {
        Some(vec![KeyPart::Optional(K::parts()?)])
    }
}

macro_rules! ordered_tuple {
    ($($part:ident),+) => {
        impl<$($part: OrderedKey),+> OrderedKey for ($($part,)+) {
            #[allow(non_snake_case)]
            fn encode_ordered(&self, out: &mut Vec<u8>) {
                let ($($part,)+) = self;
                $($part.encode_ordered(out);)+
            }
            fn decode_ordered(input: &mut &[u8]) -> Result<Self, StateError> {
                Ok(($($part::decode_ordered(input)?,)+))
            }
            fn type_name() -> String {
                format!("({})", [$($part::type_name()),+].join(", "))
            }
            fn parts() -> Option<Vec<KeyPart>> {
                let mut parts = Vec::new();
                $(parts.extend($part::parts()?);)+
                Some(parts)
            }
        }
    };
}
ordered_tuple!(A);
ordered_tuple!(A, B);
ordered_tuple!(A, B, C);
ordered_tuple!(A, B, C, D);
ordered_tuple!(A, B, C, D, E);
ordered_tuple!(A, B, C, D, E, F);

#[cfg(test)]
mod tests;
