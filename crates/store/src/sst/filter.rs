//! The filter of a file: a blocked Bloom filter, which answers most questions about absent keys with one cache line.
//!
//! The filter is a row of 512-bit blocks. The upper half of a key's hash picks the block, the lower half the bits in
//! it. On the object store: number of probes (u8), then the blocks. An empty filter says "maybe" to everything.
use bytes::Bytes;

use crate::error::{Error, Result};

const BLOCK_BYTES: usize = 64;
const BLOCK_BITS: u32 = 512;
const PROBES_MAX: u8 = 16;

/// Builds a filter from the hashes of a file's keys.
pub(crate) fn build(hashes: &[u64], bits_per_key: u32) -> Vec<u8> {
    if bits_per_key == 0 || hashes.is_empty() {
        return Vec::new();
    }
    // ln 2 bits are best for a plain filter; a blocked one wants slightly fewer probes.
    let probes = (u64::from(bits_per_key) * 6 / 10).clamp(1, u64::from(PROBES_MAX)) as u8;
    let bits = hashes.len() as u64 * u64::from(bits_per_key);
    let blocks = bits
        .div_ceil(u64::from(BLOCK_BITS))
        .clamp(1, u64::from(u32::MAX) / BLOCK_BYTES as u64) as usize;
    let mut out = vec![0u8; 1 + blocks * BLOCK_BYTES];
    out[0] = probes;
    for &hash in hashes {
        let start = 1 + block_of(hash, blocks) * BLOCK_BYTES;
        let block = &mut out[start..start + BLOCK_BYTES];
        for bit in bits_of(hash, probes) {
            block[(bit / 8) as usize] |= 1 << (bit % 8);
        }
    }
    out
}

#[inline]
fn block_of(hash: u64, blocks: usize) -> usize {
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

#[inline]
fn bits_of(hash: u64, probes: u8) -> impl Iterator<Item = u32> {
    let mut position = hash as u32;
    // An odd step per key; the multiplication keeps it independent of the start.
    let step = (hash as u32).wrapping_mul(0x9e37_79b1).rotate_left(15) | 1;
    (0..probes).map(move |_| {
        let bit = position >> 23;
        position = position.wrapping_add(step);
        bit
    })
}

/// A filter that has been read.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    bytes: Bytes,
    blocks: usize,
    probes: u8,
}

impl Filter {
    pub(crate) fn decode(what: &str, bytes: Bytes) -> Result<Self> {
        let Some((&probes, blocks)) = bytes.split_first() else {
            return Ok(Self::default());
        };
        if probes == 0
            || probes > PROBES_MAX
            || blocks.is_empty()
            || !blocks.len().is_multiple_of(BLOCK_BYTES)
        {
            return Err(Error::corrupt(format!(
                "the filter of {what} is damaged: {probes} probes over {} bytes",
                blocks.len()
            )));
        }
        let blocks = blocks.len() / BLOCK_BYTES;
        Ok(Self {
            bytes,
            blocks,
            probes,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// False only if no key with this hash is in the file.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        if self.blocks == 0 {
            return true;
        }
        let start = 1 + block_of(hash, self.blocks) * BLOCK_BYTES;
        let Some(block) = self.bytes.get(start..start + BLOCK_BYTES) else {
            return true;
        };
        bits_of(hash, self.probes).all(|bit| {
            block
                .get((bit / 8) as usize)
                .is_some_and(|b| b & (1 << (bit % 8)) != 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn hashes(from: u64, count: u64) -> Vec<u64> {
        (from..from + count)
            .map(|i| xxh3_64(&i.to_le_bytes()))
            .collect()
    }

    #[test]
    fn never_denies_a_key_and_seldom_claims_another() {
        for count in [1, 10, 1_000, 100_000] {
            let filter = Filter::decode("t", build(&hashes(0, count), 10).into()).unwrap();
            assert!(hashes(0, count).iter().all(|&h| filter.may_contain(h)));
            let wrong = hashes(1 << 40, 100_000)
                .iter()
                .filter(|&&h| filter.may_contain(h))
                .count();
            assert!(
                wrong < 2_000,
                "{wrong} of 100000 false answers with {count} keys"
            );
        }
    }

    #[test]
    fn no_filter_says_maybe() {
        let filter = Filter::decode("t", build(&hashes(0, 5), 0).into()).unwrap();
        assert!(filter.may_contain(1));
    }

    #[test]
    fn damaged_filters_are_refused() {
        assert!(Filter::decode("t", Bytes::from_static(&[6, 1, 2])).is_err());
        assert!(Filter::decode("t", Bytes::from(vec![0; 65])).is_err());
        assert!(Filter::decode("t", Bytes::from_static(&[6])).is_err());
    }
}
