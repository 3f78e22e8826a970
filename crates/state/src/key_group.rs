//! Key groups: the unit in which keyed state moves between workers.
//!
//! A key belongs to one of `max_parallelism` key groups for ever; a worker owns a contiguous range of them. The formulas and the hash
//! codes are Flink's (which are Java's), so that a key lands in the same group as it does there:
//! `group = murmur(hash_code(key)) mod max_parallelism`, `worker = group * parallelism / max_parallelism`.
//! Nothing here can fail; parallelism above the maximum is refused where jobs are configured.

pub use aquifer_store::KeyGroupRange;
use bytes::Bytes;

/// The largest maximum parallelism, as in Flink.
pub const MAX_PARALLELISM_LIMIT: u16 = 1 << 15;

/// Below this, a maximum parallelism that nobody has set is never chosen.
const DEFAULT_MAX_PARALLELISM_MIN: u32 = 128;

/// Flink's `MathUtils.murmurHash(int)`: never negative.
pub fn murmur_hash(code: i32) -> i32 {
    let mut h = (code as u32).wrapping_mul(0xcc9e_2d51);
    h = h.rotate_left(15).wrapping_mul(0x1b87_3593);
    h = h.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    h ^= 4;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^= h >> 16;
    match h as i32 {
        i32::MIN => 0,
        hash => hash.abs(),
    }
}

/// Key group of a key with this (Java) hash code. `max_parallelism` is at least 1.
pub fn assign_to_key_group(hash_code: i32, max_parallelism: u16) -> u16 {
    debug_assert!(max_parallelism > 0, "a job has at least one key group");
    (murmur_hash(hash_code) as u32 % u32::from(max_parallelism.max(1))) as u16
}

/// The worker (operator index) that owns a key group.
pub fn operator_index(group: u16, max_parallelism: u16, parallelism: u16) -> u16 {
    (u32::from(group) * u32::from(parallelism) / u32::from(max_parallelism.max(1))) as u16
}

/// The key groups of worker `index` of `parallelism`, with `index < parallelism <= max_parallelism`.
pub fn range_of(index: u16, max_parallelism: u16, parallelism: u16) -> KeyGroupRange {
    debug_assert!(index < parallelism && parallelism <= max_parallelism);
    let (index, max, parallelism) = (
        u32::from(index),
        u32::from(max_parallelism),
        u32::from(parallelism.max(1)),
    );
    KeyGroupRange {
        start: (index * max).div_ceil(parallelism) as u16,
        end: (((index + 1) * max).saturating_sub(1) / parallelism) as u16,
    }
}

/// Flink's default maximum parallelism for a parallelism: half as much again, rounded up to a power of two, within 128 and 32768.
pub fn default_max_parallelism(parallelism: u16) -> u16 {
    let wanted = u32::from(parallelism) + u32::from(parallelism) / 2;
    wanted.next_power_of_two().clamp(
        DEFAULT_MAX_PARALLELISM_MIN,
        u32::from(MAX_PARALLELISM_LIMIT),
    ) as u16
}

/// Java's `hashCode` of a key, so that key groups are Flink's.
///
/// Rust's unsigned types, which have no twin in Java, hash like their value if it fits an `int` (`u8`, `u16`), else like the signed type of
/// their width.
pub trait KeyHash {
    /// The hash code.
    fn hash_code(&self) -> i32;
}

/// `Long.hashCode`: the two halves, xored.
fn long_hash(value: i64) -> i32 {
    (value ^ ((value as u64) >> 32) as i64) as i32
}

macro_rules! hash_as_integer {
    ($($type:ty),*) => {$(
        impl KeyHash for $type {
            fn hash_code(&self) -> i32 {
                *self as i32
            }
        }
    )*};
}
hash_as_integer!(i8, i16, i32, u8, u16, u32);

impl KeyHash for i64 {
    fn hash_code(&self) -> i32 {
        long_hash(*self)
    }
}

impl KeyHash for u64 {
    fn hash_code(&self) -> i32 {
        long_hash(*self as i64)
    }
}

impl KeyHash for bool {
    fn hash_code(&self) -> i32 {
        if *self { 1231 } else { 1237 }
    }
}

impl KeyHash for f32 {
    /// `Float.hashCode`: every NaN is the same NaN.
    fn hash_code(&self) -> i32 {
        if self.is_nan() {
            0x7fc0_0000
        } else {
            self.to_bits() as i32
        }
    }
}

impl KeyHash for f64 {
    /// `Double.hashCode`: every NaN is the same NaN.
    fn hash_code(&self) -> i32 {
        long_hash(if self.is_nan() {
            0x7ff8_0000_0000_0000
        } else {
            self.to_bits() as i64
        })
    }
}

impl KeyHash for str {
    /// `String.hashCode`: over UTF-16 code units.
    fn hash_code(&self) -> i32 {
        self.encode_utf16().fold(0, |h: i32, unit| {
            h.wrapping_mul(31).wrapping_add(i32::from(unit))
        })
    }
}

impl KeyHash for String {
    fn hash_code(&self) -> i32 {
        self.as_str().hash_code()
    }
}

impl KeyHash for [u8] {
    /// `Arrays.hashCode(byte[])`: bytes are signed there.
    fn hash_code(&self) -> i32 {
        self.iter().fold(1, |h: i32, byte| {
            h.wrapping_mul(31).wrapping_add(i32::from(*byte as i8))
        })
    }
}

impl KeyHash for Vec<u8> {
    fn hash_code(&self) -> i32 {
        self.as_slice().hash_code()
    }
}

impl KeyHash for Bytes {
    fn hash_code(&self) -> i32 {
        self.as_ref().hash_code()
    }
}

impl KeyHash for () {
    fn hash_code(&self) -> i32 {
        0
    }
}

impl<K: KeyHash> KeyHash for Option<K> {
    /// Java's null hashes to 0.
    fn hash_code(&self) -> i32 {
        self.as_ref().map_or(0, KeyHash::hash_code)
    }
}

impl<K: KeyHash + ?Sized> KeyHash for &K {
    fn hash_code(&self) -> i32 {
        (**self).hash_code()
    }
}

macro_rules! hash_tuple {
    ($first:ident $(, $rest:ident)*) => {
        impl<$first: KeyHash, $($rest: KeyHash),*> KeyHash for ($first, $($rest,)*) {
            /// The hash of Flink's `TupleN`.
            #[allow(non_snake_case)]
            fn hash_code(&self) -> i32 {
                let ($first, $($rest,)*) = self;
                let hash = $first.hash_code();
                $(let hash = hash.wrapping_mul(31).wrapping_add($rest.hash_code());)*
                hash
            }
        }
    };
}
hash_tuple!(A);
hash_tuple!(A, B);
hash_tuple!(A, B, C);
hash_tuple!(A, B, C, D);
hash_tuple!(A, B, C, D, E);
hash_tuple!(A, B, C, D, E, F);

#[cfg(test)]
mod tests;
