//! The bytes of rows in a column family.
//!
//! ```text
//! key   = key group u16 BE │ the row's key
//! value = 0 │ bytes                       the row has no time
//!       | 1 │ time i64 BE │ bytes         it was written at this time
//! ```
//! An operand has the form of a value; appending keeps the newest time that is known. The table is not in the key, because each has a
//! family of its own; otherwise the order is that of every backend. Values come from disk, so decoding checks them.

use ::rocksdb::MergeOperands;

use crate::StateError;

const UNTIMED: u8 = 0;
const TIMED: u8 = 1;
const TIME_BYTES: usize = 8;

/// Makes `out` the key of a row.
pub(super) fn key_into(group: u16, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&group.to_be_bytes());
    out.extend_from_slice(key);
}

/// The key group and the key of a row.
pub(super) fn split_key(key: &[u8]) -> Result<(u16, &[u8]), StateError> {
    match key.split_first_chunk() {
        Some((group, rest)) => Ok((u16::from_be_bytes(*group), rest)),
        None => Err(StateError::Corrupt(format!(
            "a key in RocksDB has {} bytes, expected a key group at least",
            key.len()
        ))),
    }
}

/// Makes `bound` the least key that is above all that start with it; false if there is none.
pub(super) fn step_past(bound: &mut Vec<u8>) -> bool {
    while let Some(last) = bound.pop() {
        if let Some(next) = last.checked_add(1) {
            bound.push(next);
            return true;
        }
    }
    false
}

/// Makes `out` the stored form of a value.
pub(super) fn value_into(value: &[u8], time_ms: Option<i64>, out: &mut Vec<u8>) {
    out.clear();
    push(value, time_ms, out);
}

fn push(value: &[u8], time_ms: Option<i64>, out: &mut Vec<u8>) {
    match time_ms {
        None => out.push(UNTIMED),
        Some(time_ms) => {
            out.push(TIMED);
            out.extend_from_slice(&time_ms.to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}

/// The value and its time.
#[inline]
pub(super) fn value_of(stored: &[u8]) -> Result<(&[u8], Option<i64>), StateError> {
    parsed(stored).ok_or_else(|| {
        StateError::Corrupt(format!(
            "a value in RocksDB has {} bytes that do not begin with a time or with the sign that there is none",
            stored.len()
        ))
    })
}

#[inline]
pub(super) fn parsed(stored: &[u8]) -> Option<(&[u8], Option<i64>)> {
    match stored.split_first()? {
        (&UNTIMED, value) => Some((value, None)),
        (&TIMED, rest) => {
            let (time, value) = rest.split_first_chunk::<TIME_BYTES>()?;
            Some((value, Some(i64::from_be_bytes(*time))))
        }
        _ => None,
    }
}

/// Appends operands to what is there. None, which RocksDB reports as damage, if one of them is no value.
pub(super) fn append(
    _key: &[u8],
    existing: Option<&[u8]>,
    operands: &MergeOperands,
) -> Option<Vec<u8>> {
    appended(existing, || operands.iter())
}

fn appended<'a, I: Iterator<Item = &'a [u8]>>(
    existing: Option<&'a [u8]>,
    operands: impl Fn() -> I,
) -> Option<Vec<u8>> {
    let (mut bytes, mut newest) = (0, None);
    for part in existing.into_iter().chain(operands()) {
        let (value, time_ms) = parsed(part)?;
        bytes += value.len();
        newest = newest.max(time_ms);
    }
    let mut whole = Vec::with_capacity(1 + TIME_BYTES + bytes);
    push(b"", newest, &mut whole);
    for part in existing.into_iter().chain(operands()) {
        whole.extend_from_slice(parsed(part)?.0);
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_with_their_times() {
        let mut stored = vec![9; 9];
        for value in [&b""[..], b"x", &[0; 300]] {
            for time_ms in [None, Some(0), Some(-1), Some(i64::MIN), Some(i64::MAX)] {
                value_into(value, time_ms, &mut stored);
                assert_eq!(value_of(&stored).unwrap(), (value, time_ms));
            }
        }
        for damaged in [&[][..], &[1], &[1, 0, 0, 0, 0, 0, 0, 0], &[2], &[255, 0]] {
            assert!(matches!(value_of(damaged), Err(StateError::Corrupt(_))));
        }
    }

    #[test]
    fn keys_are_ordered_by_group_and_come_back() {
        let (mut low, mut high) = (Vec::new(), Vec::new());
        key_into(1, b"zz", &mut low);
        key_into(256, b"", &mut high);
        assert!(low < high);
        assert_eq!(split_key(&low).unwrap(), (1, &b"zz"[..]));
        assert_eq!(split_key(&high).unwrap(), (256, &b""[..]));
        assert!(matches!(split_key(&[7]), Err(StateError::Corrupt(_))));
    }

    #[test]
    fn the_end_of_a_prefix_is_above_all_that_start_with_it() {
        for (prefix, end) in [
            (&[0, 1][..], Some(&[0, 2][..])),
            (&[0, 1, 255], Some(&[0, 2])),
            (&[0, 255, 255], Some(&[1])),
            (&[255, 255], None),
            (&[], None),
        ] {
            let mut bound = prefix.to_vec();
            assert_eq!(step_past(&mut bound), end.is_some(), "{prefix:?}");
            assert_eq!(bound, end.unwrap_or_default());
        }
    }

    #[test]
    fn operands_are_appended_in_order_and_keep_the_newest_time() {
        let stored = |value: &[u8], time_ms| {
            let mut out = Vec::new();
            value_into(value, time_ms, &mut out);
            out
        };
        let (a, b, c) = (
            stored(b"a", Some(4)),
            stored(b"bc", None),
            stored(b"d", Some(3)),
        );
        let append = |existing: Option<&[u8]>, operands: &[&[u8]]| {
            appended(existing, || operands.iter().copied())
        };
        assert_eq!(append(Some(&a), &[&b, &c]), Some(stored(b"abcd", Some(4))));
        assert_eq!(append(None, &[&b]), Some(b.clone()));
        assert_eq!(append(None, &[&c, &b]), Some(stored(b"dbc", Some(3))));
        // In whichever order they are joined.
        let joined = append(None, &[&b, &c]).unwrap();
        assert_eq!(append(Some(&a), &[&joined]), append(Some(&a), &[&b, &c]));
        assert_eq!(append(Some(&[]), &[&a]), None);
        assert_eq!(append(None, &[&a, &[7]]), None);
    }
}
