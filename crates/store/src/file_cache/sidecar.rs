//! The small file beside each cached file: whose content it is, and the checksum of every chunk that is there.
//! `docs/format/file-cache.md` has the byte diagram.
//!
//! Chunk checksums are written after the chunk and one by one, so a process may die at any moment: what is torn then does
//! not match and is dropped when it is first asked for.
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::CacheKey;

/// Bytes of a chunk; the last one of a file may be shorter.
pub(crate) const CHUNK_BYTES: u64 = 1 << 20;
/// More chunks than any file of the store has.
pub(super) const CHUNKS_MAX: u64 = 1 << 20;
pub(super) const HEADER_BYTES: usize = 48;
const MAGIC: [u8; 8] = *b"AQFCACH1";

/// The number of chunks of a file; `None` if it is larger than any file can be.
pub(super) fn chunks(size_bytes: u64) -> Option<u64> {
    Some(size_bytes.div_ceil(CHUNK_BYTES)).filter(|&chunks| chunks <= CHUNKS_MAX)
}

/// Where the checksum of a chunk stands.
pub(super) fn place(chunk: u64) -> u64 {
    HEADER_BYTES as u64 + 8 * chunk
}

/// The checksum of a chunk of a file; never 0, which stands for a chunk that is not there.
pub(super) fn chunk_checksum(key: &CacheKey, chunk: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, key.id ^ chunk.rotate_left(32)).max(1)
}

pub(super) fn header(key: &CacheKey) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let words = [
        u64::from_le_bytes(MAGIC),
        key.id,
        key.size_bytes,
        key.checksum,
        CHUNK_BYTES,
    ];
    let mut at = 0;
    for word in words {
        header[at..at + 8].copy_from_slice(&word.to_le_bytes());
        at += 8;
    }
    let checksum = xxh3_64(&header[..at]);
    header[at..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Reads a sidecar: the file it belongs to, and for each chunk its checksum or 0. `None` if it is not one.
pub(super) fn decode(bytes: &[u8]) -> Option<(CacheKey, Vec<u64>)> {
    let (head, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let mut words = head
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
    let mut next = || words.next().unwrap_or_default();
    let (_, id, size_bytes, checksum) = (next(), next(), next(), next());
    let key = CacheKey {
        id,
        size_bytes,
        checksum,
    };
    if header(&key) != head {
        return None;
    }
    let chunks = usize::try_from(chunks(size_bytes)?).ok()?;
    if rest.len() != chunks * 8 {
        return None;
    }
    let checksums = rest.chunks_exact(8);
    let checksums = checksums.map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
    Some((key, checksums.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_notices_every_changed_bit_of_its_header() {
        let key = CacheKey {
            id: 7,
            size_bytes: 2 * CHUNK_BYTES + 1,
            checksum: u64::MAX,
        };
        let mut bytes = header(&key).to_vec();
        for checksum in [5u64, 0, 9] {
            bytes.extend_from_slice(&checksum.to_le_bytes());
        }
        assert_eq!(decode(&bytes), Some((key, vec![5, 0, 9])));
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "cut at {len}");
        }
        let huge = CacheKey {
            size_bytes: u64::MAX,
            ..key
        };
        assert_eq!(decode(&header(&huge)), None);
        assert_ne!(
            chunk_checksum(&key, 0, b"same"),
            chunk_checksum(&key, 1, b"same"),
            "a chunk at the wrong place is noticed"
        );
    }
}
