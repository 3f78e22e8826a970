//! Numbers in postcard's format without serde's visitors, which cost several times as much as the number itself.
//!
//! The bytes are postcard's own: integers of more than a byte have seven bits a byte, lowest first, signed ones with the sign in the lowest
//! bit; floats are little-endian. What is not read here (another type, other bytes) is left to postcard, which accepts or refuses it.

use std::any::Any;

/// The bit of each byte that says that another follows.
const MORE: u128 = 0x8080_8080_8080_8080_8080_8080_8080_8080;

/// Appends a number; false if it is none.
#[inline]
pub(super) fn write<T: 'static>(value: &T, out: &mut Vec<u8>) -> bool {
    // The types are known when this is compiled: of all these questions one answer is left.
    let value: &dyn Any = value;
    macro_rules! or {
        ($($type:ident: $number:ident => $write:expr;)*) => {$(
            if let Some(&$number) = value.downcast_ref::<$type>() {
                $write;
                return true;
            }
        )*};
    }
    or! {
        i64: n => put_varint(out, zigzag(n));
        u64: n => put_varint(out, n);
        i32: n => put_varint(out, zigzag(n.into()));
        u32: n => put_varint(out, n.into());
        i16: n => put_varint(out, zigzag(n.into()));
        u16: n => put_varint(out, n.into());
        i8: n => out.extend_from_slice(&n.to_le_bytes());
        u8: n => out.push(n);
        f64: n => out.extend_from_slice(&n.to_le_bytes());
        f32: n => out.extend_from_slice(&n.to_le_bytes());
    }
    false
}

/// The number that `bytes` are; `None` if they are to be asked postcard about.
#[inline]
pub(super) fn read<T: 'static>(bytes: &[u8]) -> Option<T> {
    let mut number: Option<T> = None;
    let slot: &mut dyn Any = &mut number;
    macro_rules! or {
        ($($type:ident => $read:expr;)*) => {$(
            if let Some(slot) = slot.downcast_mut::<Option<$type>>() {
                *slot = $read;
                return number;
            }
        )*};
    }
    or! {
        i64 => varint(bytes, 10).map(unzigzag);
        u64 => varint(bytes, 10);
        i32 => varint(bytes, 5).and_then(|n| unzigzag(n).try_into().ok());
        u32 => varint(bytes, 5).and_then(|n| n.try_into().ok());
        i16 => varint(bytes, 3).and_then(|n| unzigzag(n).try_into().ok());
        u16 => varint(bytes, 3).and_then(|n| n.try_into().ok());
        i8 => bytes.try_into().ok().map(i8::from_le_bytes);
        u8 => bytes.try_into().ok().map(u8::from_le_bytes);
        f64 => bytes.try_into().ok().map(f64::from_le_bytes);
        f32 => bytes.try_into().ok().map(f32::from_le_bytes);
    }
    None
}

#[inline]
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

#[inline]
fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Appends an integer. Large ones are spread over their bytes all at once, so that their lengths, which nobody can foresee, decide nothing.
#[inline]
fn put_varint(out: &mut Vec<u8>, number: u64) {
    if number < 0x80 {
        out.push(number as u8);
        return;
    }
    let len = varint_bytes(number);
    let low = u128::from(spread(number));
    let high = u128::from((number >> 56) & 0x7f) | u128::from(number >> 63) << 8;
    let more = MORE >> (8 * (17 - len));
    let bytes = (low | high << 64 | more).to_le_bytes();
    let end = out.len() + len;
    out.extend_from_slice(&bytes);
    out.truncate(end);
}

/// How many bytes an integer takes that takes more than one: a seventh of its bits, rounded up, without a division.
#[inline]
fn varint_bytes(number: u64) -> usize {
    ((number.ilog2() * 9 + 73) / 64) as usize
}

/// The integer that is all of `bytes`, if they are not more than its type may have: ten at the most.
#[inline]
fn varint(bytes: &[u8], bytes_max: usize) -> Option<u64> {
    let len = bytes.len();
    if len > bytes_max {
        return None;
    }
    let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        return short_varint(bytes);
    };
    let low = u64::from_le_bytes(*first);
    // The bytes after the first eight.
    let high = u64::from_le_bytes(*last).unbounded_shr((8 * (16 - len)) as u32);
    let all = u128::from(low) | u128::from(high) << 64;
    if all & MORE != MORE >> (8 * (17 - len)) || high > 0x1ff {
        return None;
    }
    Some(gather(low) | (high & 0x7f) << 56 | (high >> 8) << 63)
}

/// The integer that is all of so few bytes that their number is likely to be the same again.
#[inline]
fn short_varint(bytes: &[u8]) -> Option<u64> {
    let (last, before) = bytes.split_last()?;
    let (mut number, mut shift) = (0, 0);
    for byte in before {
        if byte & 0x80 == 0 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
    }
    (last & 0x80 == 0).then_some(number | u64::from(*last) << shift)
}

/// The lowest 56 bits, seven in each byte.
#[inline]
fn spread(number: u64) -> u64 {
    let n = number & 0x00ff_ffff_ffff_ffff;
    let n = (n & 0x0fff_ffff) | ((n << 4) & 0x0fff_ffff_0000_0000);
    let n = (n & 0x3fff_0000_3fff) | ((n << 2) & 0x3fff_0000_3fff_0000);
    (n & 0x007f_007f_007f_007f) | ((n << 1) & 0x7f00_7f00_7f00_7f00)
}

/// The lowest seven bits of each byte, side by side.
#[inline]
fn gather(bytes: u64) -> u64 {
    let n = (bytes & 0x007f_007f_007f_007f) | ((bytes & 0x7f00_7f00_7f00_7f00) >> 1);
    let n = (n & 0x3fff_0000_3fff) | ((n & 0x3fff_0000_3fff_0000) >> 2);
    (n & 0x0fff_ffff) | ((n & 0x0fff_ffff_0000_0000) >> 4)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    /// What postcard makes of all of these bytes.
    fn of_postcard<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
        match postcard::take_from_bytes(bytes) {
            Ok((number, [])) => Some(number),
            _ => None,
        }
    }

    /// Numbers are the same bytes as postcard's, and bytes the same numbers.
    fn check<T>(numbers: impl IntoIterator<Item = T>)
    where
        T: Serialize + DeserializeOwned + Copy + PartialEq + Debug + 'static,
    {
        for number in numbers {
            let mut bytes = b"kept".to_vec();
            assert!(write(&number, &mut bytes));
            let bytes = bytes.strip_prefix(b"kept").unwrap();
            assert_eq!(bytes, postcard::to_allocvec(&number).unwrap(), "{number:?}");
            assert_eq!(read(bytes), Some(number));
            for damaged in damaged(bytes) {
                // As text, because there are numbers that are not equal to themselves.
                let (ours, theirs) = (read::<T>(&damaged), of_postcard::<T>(&damaged));
                let name = std::any::type_name::<T>();
                assert_eq!(
                    format!("{ours:?}"),
                    format!("{theirs:?}"),
                    "{damaged:?} as {name}"
                );
            }
        }
    }

    /// Cut, longer, going on with nothing in it, and with bits turned over.
    fn damaged(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut all: Vec<_> = (0..bytes.len()).map(|cut| bytes[..cut].to_vec()).collect();
        for more in 1..=8 {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                all.push([bytes, &vec![byte; more]].concat());
            }
        }
        for more in 0..=8 {
            for end in [0, 1] {
                let mut longer = [bytes, &vec![0x80; more], &[end]].concat();
                longer[bytes.len() - 1] |= 0x80;
                all.push(longer);
            }
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut turned = bytes.to_vec();
                turned[at] ^= 1 << bit;
                all.push(turned);
            }
        }
        all
    }

    /// Around all powers of two, and what is as far from them as can be.
    fn integers() -> impl Iterator<Item = u64> {
        (0..64).flat_map(|bit| {
            let power = 1u64 << bit;
            [
                power - 1,
                power,
                power | 1,
                u64::MAX - power,
                power.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ]
        })
    }

    #[test]
    fn numbers_are_what_postcard_writes_and_reads() {
        check(integers());
        check(integers().map(u64::cast_signed));
        check(integers().map(|n| n as u32));
        check(integers().map(|n| n as i32));
        check(integers().map(|n| n as u16));
        check(integers().map(|n| n as i16));
        check((0..=255).map(|n: u8| n));
        check((0..=255).map(|n: u8| n as i8));
        check([0.0, -0.0, 1.5, f64::MAX, f64::INFINITY]);
        check([0.0, -0.0, 1.5, f32::MIN_POSITIVE, f32::NEG_INFINITY]);
    }

    #[test]
    fn other_types_are_left_to_postcard() {
        let mut bytes = Vec::new();
        assert!(!write(&"text".to_owned(), &mut bytes));
        assert!(!write(&(1u8, 2u8), &mut bytes));
        assert!(!write(&Some(1u64), &mut bytes));
        assert!(bytes.is_empty());
        assert_eq!(read::<Option<u64>>(&[1, 1]), None);
        assert_eq!(read::<String>(&[1, b'x']), None);
    }

    #[test]
    fn bits_are_spread_and_gathered() {
        for number in integers() {
            let low = number & 0x00ff_ffff_ffff_ffff;
            assert_eq!(gather(spread(number)), low);
            assert_eq!(spread(number) & MORE as u64, 0);
        }
    }
}
