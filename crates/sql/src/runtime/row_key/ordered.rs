//! Numbers as bytes that compare like the numbers.

/// A number with an order-preserving encoding of fixed width.
pub(in crate::runtime) trait Ordered: Copy {
    /// Appends the encoding.
    fn write(self, to: &mut Vec<u8>);
    /// Takes an encoding off the front; `None` if there are too few bytes.
    fn read(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! signed {
    ($($native:ty => $bits:ty),*) => {$(
        impl Ordered for $native {
            #[inline]
            fn write(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&(self as $bits ^ (1 << (<$bits>::BITS - 1))).to_be_bytes());
            }
            #[inline]
            fn read(from: &mut &[u8]) -> Option<Self> {
                let (head, rest) = from.split_first_chunk()?;
                *from = rest;
                Some((<$bits>::from_be_bytes(*head) ^ (1 << (<$bits>::BITS - 1))) as $native)
            }
        }
    )*};
}

macro_rules! unsigned {
    ($($native:ty),*) => {$(
        impl Ordered for $native {
            #[inline]
            fn write(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_be_bytes());
            }
            #[inline]
            fn read(from: &mut &[u8]) -> Option<Self> {
                let (head, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(<$native>::from_be_bytes(*head))
            }
        }
    )*};
}

macro_rules! float {
    ($($native:ty => $bits:ty),*) => {$(
        impl Ordered for $native {
            #[inline]
            fn write(self, to: &mut Vec<u8>) {
                let sign = 1 << (<$bits>::BITS - 1);
                // One encoding for every NaN: it is one group.
                let bits = if self.is_nan() { <$native>::NAN.to_bits() & !sign } else { self.to_bits() };
                let ordered = if bits & sign == 0 { bits | sign } else { !bits };
                to.extend_from_slice(&ordered.to_be_bytes());
            }
            #[inline]
            fn read(from: &mut &[u8]) -> Option<Self> {
                let sign = 1 << (<$bits>::BITS - 1);
                let (head, rest) = from.split_first_chunk()?;
                *from = rest;
                let ordered = <$bits>::from_be_bytes(*head);
                Some(<$native>::from_bits(if ordered & sign == 0 { !ordered } else { ordered & !sign }))
            }
        }
    )*};
}

signed!(i8 => u8, i16 => u16, i32 => u32, i64 => u64, i128 => u128);
unsigned!(u8, u16, u32, u64);
float!(f32 => u32, f64 => u64);

/// Appends bytes of any length, escaped and ended.
#[inline]
pub(super) fn write_bytes(value: &[u8], to: &mut Vec<u8>) {
    if value.contains(&0) {
        for &byte in value {
            to.push(byte);
            if byte == 0 {
                to.push(0xff);
            }
        }
    } else {
        to.extend_from_slice(value);
    }
    to.extend_from_slice(&[0, 0]);
}

/// Takes escaped bytes off the front and appends them to `to`; `None` if the end is missing or an escape is wrong.
pub(super) fn read_bytes(from: &mut &[u8], to: &mut Vec<u8>) -> Option<()> {
    loop {
        let zero = from.iter().position(|byte| *byte == 0)?;
        to.extend_from_slice(from.get(..zero)?);
        let escape = *from.get(zero + 1)?;
        *from = from.get(zero + 2..)?;
        match escape {
            0 => return Some(()),
            0xff => to.push(0),
            _ => return None,
        }
    }
}
