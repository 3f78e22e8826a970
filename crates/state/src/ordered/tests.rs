//! Order, round trips, self-delimitation, and hostile bytes.
use std::fmt::Debug;

use super::*;

/// Every pair of `values` (given in ascending order) must sort alike before and after encoding, and none may be a prefix of another.
fn check_order<K: OrderedKey + PartialEq + Debug>(values: &[K]) {
    let encoded: Vec<Vec<u8>> = values.iter().map(encode_ordered).collect();
    for (i, (value, bytes)) in values.iter().zip(&encoded).enumerate() {
        assert_eq!(&decode_ordered::<K>(bytes).unwrap(), value);
        for (j, other) in encoded.iter().enumerate() {
            assert_eq!(
                bytes.cmp(other),
                i.cmp(&j),
                "{value:?} against {:?}",
                values[j]
            );
            assert!(
                i == j || bytes.is_empty() || !other.starts_with(bytes),
                "{value:?} starts {:?}",
                values[j]
            );
        }
        // With something after it, it still ends where it ended.
        let mut longer = bytes.clone();
        longer.extend_from_slice(&[0, 1, 255, 0]);
        let mut input = longer.as_slice();
        assert_eq!(&K::decode_ordered(&mut input).unwrap(), value);
        assert_eq!(input, [0, 1, 255, 0]);
        // Cut anywhere, it is refused.
        for cut in 0..bytes.len() {
            assert!(
                matches!(
                    decode_ordered::<K>(&bytes[..cut]),
                    Err(StateError::Corrupt(_))
                ),
                "{value:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn numbers_keep_their_order() {
    check_order(&[i8::MIN, -1, 0, 1, i8::MAX]);
    check_order(&[i16::MIN, -256, -1, 0, 255, 256, i16::MAX]);
    check_order(&[i32::MIN, -65536, -1, 0, 1, 65535, i32::MAX]);
    check_order(&[i64::MIN, -1, 0, 1, 1 << 40, i64::MAX]);
    check_order(&[i128::MIN, -1, 0, 1 << 100, i128::MAX]);
    check_order(&[0u8, 1, 255]);
    check_order(&[0u16, 255, 256, u16::MAX]);
    check_order(&[0u32, 255, 1 << 20, u32::MAX]);
    check_order(&[0u64, 255, 1 << 40, u64::MAX]);
    check_order(&[0u128, 1 << 90, u128::MAX]);
    check_order(
        &[
            f64::NEG_INFINITY,
            -1e300,
            -1.5,
            -f64::MIN_POSITIVE,
            -0.0,
            0.0,
            1.5,
            1e300,
            f64::INFINITY,
        ][..4],
    );
    check_order(&[
        -1.5f64,
        -f64::MIN_POSITIVE,
        0.0,
        f64::MIN_POSITIVE,
        1.5,
        1e300,
        f64::INFINITY,
    ]);
    check_order(&[f32::NEG_INFINITY, -1.5, 0.0, 1.5, f32::INFINITY]);
    check_order(&[false, true]);
}

#[test]
fn there_is_one_nan_and_it_is_last() {
    let nan = encode_ordered(&f64::NAN);
    assert_eq!(
        nan,
        encode_ordered(&f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 7))
    );
    assert!(nan > encode_ordered(&f64::INFINITY));
    assert!(decode_ordered::<f64>(&nan).unwrap().is_nan());
    assert!(encode_ordered(&-0.0f64) < encode_ordered(&0.0f64));
    assert!(encode_ordered(&f32::NAN) > encode_ordered(&f32::INFINITY));
}

#[test]
fn strings_and_bytes_keep_their_order() {
    let strings = [
        "", "\0", "\0\0", "\0\u{1}", "\0a", "\u{1}", "a", "a\0", "a\0b", "a\u{1}", "aa", "b", "ü",
        "日本",
    ];
    check_order(&strings.map(String::from));
    let bytes: [&[u8]; 9] = [
        &[],
        &[0],
        &[0, 0],
        &[0, 1],
        &[0, 255],
        &[1],
        &[254, 255],
        &[255],
        &[255, 255],
    ];
    check_order(&bytes.map(<[u8]>::to_vec));
    check_order(&bytes.map(Bytes::from_static));
}

#[test]
fn composites_keep_their_order() {
    check_order(&[None, Some(i32::MIN), Some(-1), Some(7)]);
    check_order(&[
        ("".to_string(), 9i32),
        ("\0".into(), -3),
        ("a".into(), -1),
        ("a".into(), 2),
        ("a\0".into(), -9),
        ("b".into(), 0),
    ]);
    check_order(&[
        (1u8, None, "x".to_string()),
        (1, Some(false), "".into()),
        (1, Some(true), "a".into()),
        (2, None, "".into()),
    ]);
    check_order(&[()]);
}

#[test]
fn random_pairs_sort_alike() {
    let mut state = 7u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        state >> 20
    };
    let mut keys: Vec<(i64, Vec<u8>, u16)> = (0..500)
        .map(|_| {
            let bytes = (0..next() % 5)
                .map(|_| [0, 1, 254, 255][next() as usize % 4])
                .collect();
            (next() as i64 % 3 - 1, bytes, next() as u16 % 3)
        })
        .collect();
    keys.sort();
    keys.dedup();
    let encoded: Vec<_> = keys.iter().map(encode_ordered).collect();
    assert!(encoded.is_sorted());
    for (key, bytes) in keys.iter().zip(&encoded) {
        assert_eq!(&decode_ordered::<(i64, Vec<u8>, u16)>(bytes).unwrap(), key);
    }
}

#[test]
fn hostile_bytes_are_refused() {
    fn corrupt<K: OrderedKey + Debug>(bytes: &[u8]) {
        assert!(
            matches!(decode_ordered::<K>(bytes), Err(StateError::Corrupt(_))),
            "{bytes:?}"
        );
    }
    corrupt::<bool>(&[2]);
    corrupt::<Option<u8>>(&[3, 0]);
    corrupt::<Option<u8>>(&[1]);
    corrupt::<String>(&[b'a', 0, 2]);
    corrupt::<String>(&[b'a', 0]);
    corrupt::<String>(b"a");
    corrupt::<String>(&[0xff, 0xfe, 0, 1]);
    corrupt::<u32>(&[1, 2, 3]);
    corrupt::<u32>(&[1, 2, 3, 4, 5]);
    corrupt::<(u8, Vec<u8>)>(&[1, 0, 255, 0]);
    let mut state = 1u64;
    for len in 0..64 {
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                (state >> 33) as u8 % 3
            })
            .collect();
        // Whatever is accepted must be exactly what is written for it.
        if let Ok(key) = decode_ordered::<(String, Option<i16>, Vec<u8>)>(&bytes) {
            assert_eq!(encode_ordered(&key), bytes);
        }
    }
}
