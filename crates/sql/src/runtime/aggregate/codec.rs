//! Bytes of accumulators in state: counts as variable-length integers, values in the fixed-width encoding of `row_key`.
//!
//! Readers give `None` when bytes are missing; nothing is allocated before its length has been checked.

/// Appends an unsigned number, seven bits a byte, lowest first.
pub(super) fn write_count(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Takes an unsigned number off the front.
pub(super) fn read_count(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Appends a signed number; small ones of either sign are short.
pub(super) fn write_signed(value: i64, to: &mut Vec<u8>) {
    write_count(((value << 1) ^ (value >> 63)) as u64, to);
}

/// Takes a signed number off the front.
pub(super) fn read_signed(from: &mut &[u8]) -> Option<i64> {
    let raw = read_count(from)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Appends bytes behind their length.
pub(super) fn write_slice(value: &[u8], to: &mut Vec<u8>) {
    write_count(value.len() as u64, to);
    to.extend_from_slice(value);
}

/// Takes bytes behind their length off the front.
pub(super) fn read_slice<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(read_count(from)?).ok()?;
    let (head, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_a_round_trip() {
        for value in [0, 1, 127, 128, 300, u64::MAX / 2, u64::MAX] {
            let mut bytes = Vec::new();
            write_count(value, &mut bytes);
            let mut rest = bytes.as_slice();
            assert_eq!(read_count(&mut rest), Some(value));
            assert!(rest.is_empty());
            assert_eq!(read_count(&mut &bytes[..bytes.len() - 1]), None);
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut bytes = Vec::new();
            write_signed(value, &mut bytes);
            assert_eq!(read_signed(&mut bytes.as_slice()), Some(value));
        }
        assert_eq!(read_count(&mut &[0xff; 11][..]), None, "too long");
        assert_eq!(
            read_slice(&mut &[200, 1, 0][..]),
            None,
            "longer than what there is"
        );
    }
}
