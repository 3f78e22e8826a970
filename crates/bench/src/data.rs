//! Keys, values and the order in which they are asked for: the same for every engine, made from numbers and nothing else.
//!
//! Row `id` has a key of [`KEY_BYTES`] and a value of [`VALUE_BYTES`], half of which compresses. Keys are spread over the key space by
//! a permutation of 64 bits, so ids in sequence are random puts, and ids past the loaded ones are absent keys of the same look. Making
//! a key takes a few nanoseconds and is part of what is timed, for all alike; drawing ids is not.
pub const KEY_BYTES: usize = 20;
pub const VALUE_BYTES: usize = 100;
/// What `append` adds to a list.
pub const OPERAND_BYTES: usize = 20;
/// Rows of one map, which a prefix scan reads.
pub const MAP_ROWS: u64 = 100;
/// Bytes that the keys of one map share.
pub const MAP_PREFIX_BYTES: usize = 12;
/// Key groups of the job; a power of two.
pub const KEY_GROUPS: u16 = 128;

/// A key with the key group that a streaming job would have routed it by.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    bytes: [u8; KEY_BYTES],
    len: u8,
    pub group: u16,
}

impl Key {
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A permutation of 64-bit numbers (the finaliser of splitmix64).
#[inline]
pub fn mix(id: u64) -> u64 {
    let mut x = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Eight hexadecimal digits.
#[inline]
fn hex(number: u32) -> [u8; 8] {
    let mut x = u64::from(number);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (x + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (x + 0x3030_3030_3030_3030 + letters * 0x27).to_be_bytes()
}

/// `user` and sixteen digits.
#[inline]
pub fn key(id: u64) -> Key {
    let mixed = mix(id);
    let mut bytes = *b"user0000000000000000";
    bytes[4..12].copy_from_slice(&hex((mixed >> 32) as u32));
    bytes[12..].copy_from_slice(&hex(mixed as u32));
    Key {
        bytes,
        len: KEY_BYTES as u8,
        group: group(mixed),
    }
}

#[inline]
fn group(mixed: u64) -> u16 {
    // Not bits that decide the order of keys.
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u16 & (KEY_GROUPS - 1)
}

/// Row `row` of a state of `rows`: in the order of rows, key groups ascend, and keys ascend within each. States that are too large to be
/// built from random puts for each run are loaded in this order.
#[inline]
pub fn ordered_key(row: u64, rows: u64) -> Key {
    let per_group = rows.div_ceil(u64::from(KEY_GROUPS)).max(1);
    let number = (row % per_group) * (u64::MAX / per_group);
    let mut bytes = *b"user0000000000000000";
    bytes[4..12].copy_from_slice(&hex((number >> 32) as u32));
    bytes[12..].copy_from_slice(&hex(number as u32));
    Key {
        bytes,
        len: KEY_BYTES as u8,
        group: (row / per_group) as u16,
    }
}

/// The prefix that all rows of a map share: [`MAP_PREFIX_BYTES`].
#[inline]
pub fn map_prefix(map: u64) -> Key {
    let mixed = mix(map ^ 0x6d61_7000);
    let mut bytes = *b"map00000000/00000000";
    bytes[3..11].copy_from_slice(&hex((mixed >> 32) as u32));
    Key {
        bytes,
        len: MAP_PREFIX_BYTES as u8,
        group: group(mixed),
    }
}

/// Row `row` of a map.
#[inline]
pub fn map_key(map: u64, row: u64) -> Key {
    let mut key = map_prefix(map);
    key.len = KEY_BYTES as u8;
    key.bytes[MAP_PREFIX_BYTES..].copy_from_slice(&hex(mix(row) as u32));
    key
}

/// Writes the value of a row: its id, random bytes that depend on id and version, and the other half text.
#[inline]
pub fn value(id: u64, version: u64) -> [u8; VALUE_BYTES] {
    const TEXT: &[u8; VALUE_BYTES] =
        b"{'state':'open','lang':'en','region':'eu-west','tags':['a','b','c'],'count':1,'more':'and so on...'}";
    let mut out = *TEXT;
    out[..8].copy_from_slice(&id.to_le_bytes());
    let mut state = mix(id ^ version.rotate_left(32));
    for word in out[8..48].chunks_exact_mut(8) {
        word.copy_from_slice(&state.to_le_bytes());
        state = mix(state);
    }
    out
}

/// Whether a value that was read belongs to the id.
#[inline]
pub fn is_of(id: u64, value: &[u8]) -> bool {
    value.len() == VALUE_BYTES && value[..8] == id.to_le_bytes()
}

/// A small, fast generator (xorshift with a multiplication).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed) | 1)
    }

    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// In `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How ids are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    Uniform,
    /// Rank `r` with probability proportional to `r^-exponent`.
    Zipf(f64),
}

/// Draws `count` ids below `bound`.
pub fn draw(how: Draw, bound: u64, count: usize, seed: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    match how {
        Draw::Uniform => (0..count).map(|_| random.below(bound)).collect(),
        Draw::Zipf(exponent) => {
            let zipf = Zipf::new(bound, exponent);
            (0..count).map(|_| zipf.rank(&mut random) - 1).collect()
        }
    }
}

/// Zipf's distribution by rejection from the integral of its density (W. Hörmann and G. Derflinger, 1996): exact, and needs no table.
struct Zipf {
    exponent: f64,
    bound: f64,
    integral_first: f64,
    integral_last: f64,
    shortcut: f64,
}

impl Zipf {
    fn new(bound: u64, exponent: f64) -> Self {
        let mut this = Self {
            exponent,
            bound: bound as f64,
            integral_first: 0.0,
            integral_last: 0.0,
            shortcut: 0.0,
        };
        this.integral_first = this.integral(1.5) - 1.0;
        this.integral_last = this.integral(bound as f64 + 0.5);
        this.shortcut = 2.0 - this.inverse(this.integral(2.5) - this.density(2.0));
        this
    }

    fn density(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    /// The integral of the density from 1 to x.
    fn integral(&self, x: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 {
            x.ln()
        } else {
            (x.powf(power) - 1.0) / power
        }
    }

    fn inverse(&self, y: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 {
            y.exp()
        } else {
            (y * power + 1.0).max(0.0).powf(1.0 / power)
        }
    }

    /// From 1.
    fn rank(&self, random: &mut Random) -> u64 {
        loop {
            let u = self.integral_last + random.unit() * (self.integral_first - self.integral_last);
            let x = self.inverse(u);
            let k = (x + 0.5).floor().clamp(1.0, self.bound);
            if k - x <= self.shortcut || u >= self.integral(k + 0.5) - self.density(k) {
                return k as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_hexadecimal() {
        for number in [0, 9, 10, 0xdead_beef, 0x0123_4567, u32::MAX] {
            assert_eq!(hex(number), format!("{number:08x}").as_bytes());
        }
    }

    #[test]
    fn ordered_keys_ascend_by_group() {
        let keys: Vec<Key> = (0..1000).map(|row| ordered_key(row, 1000)).collect();
        assert!(
            keys.windows(2)
                .all(|pair| (pair[0].group, pair[0].bytes()) < (pair[1].group, pair[1].bytes()))
        );
        assert!(keys[999].group < KEY_GROUPS);
    }

    #[test]
    fn zipf_has_its_probabilities() {
        let (bound, count) = (1000u64, 400_000);
        let mut seen = vec![0u32; bound as usize];
        for id in draw(Draw::Zipf(0.99), bound, count, 1) {
            seen[id as usize] += 1;
        }
        let sum: f64 = (1..=bound).map(|r| (r as f64).powf(-0.99)).sum();
        for rank in [1u64, 2, 3, 10, 100] {
            let expected = count as f64 * (rank as f64).powf(-0.99) / sum;
            let found = f64::from(seen[rank as usize - 1]);
            assert!(
                (found - expected).abs() < 6.0 * expected.sqrt(),
                "rank {rank}: {found}, not {expected}"
            );
        }
    }

    #[test]
    fn half_of_a_value_compresses() {
        let value = value(7, 1);
        assert!(is_of(7, &value) && !is_of(8, &value));
        assert_eq!(value[48..], super::value(9, 4)[48..]);
        assert_ne!(value[8..48], super::value(7, 2)[8..48]);
    }
}
