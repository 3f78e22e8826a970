//! How a piece of a file is put under seal: compressed if that pays, and closed by a checksum that says where it belongs.
//!
//! A sealed piece is its payload followed by compression (u8), plain length (u32) and xxh3 of all before it
//! (u64). The checksum is seeded with the file's seed plus the offset of the piece, so that a piece of another file, or of
//! another place in the same file, is taken for damaged like a flipped bit is.
//!
//! What always holds: nothing is decompressed before its checksum was found right, and no buffer is made for a plain length
//! that the payload could not have come from.
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};
use crate::options::Compression;
use crate::planted::{self, Bug};

pub(crate) const CHECKSUM_BYTES: usize = 8;
/// Longest piece; a value of the greatest length fits, with its frame.
const PLAIN_BYTES_MAX: usize = (1 << 30) + (1 << 20);
/// No lz4 stream grows by more than this when it is decoded.
const LZ4_RATIO_MAX: usize = 256;
/// No zstd frame grows by more than this: a block of 128 KiB takes at least four bytes.
const ZSTD_RATIO_MAX: usize = 32 << 10;

/// The codes of [`Compression`].
const STORED: u8 = 0;
const LZ4: u8 = 1;
const ZSTD: u8 = 2;

/// What pieces say of themselves in errors.
pub(crate) type Name<'a> = &'a dyn Fn() -> String;

/// Seals pieces; keeps what compressors need from one to the next.
pub(crate) struct Sealer {
    small: CompressTable,
    large: Option<CompressTable>,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Default for Sealer {
    fn default() -> Self {
        Self {
            small: CompressTable::small(),
            large: None,
            #[cfg(feature = "zstd")]
            zstd: None,
        }
    }
}

impl Sealer {
    /// Appends `plain` to `out` under seal. `seed` is the file's seed, `offset` the place of the piece in the file.
    pub(crate) fn seal(
        &mut self,
        plain: &[u8],
        compression: Compression,
        seed: u64,
        offset: u64,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let code = match compression {
            Compression::None => None,
            Compression::Lz4 => self.lz4(plain, out).map(|()| LZ4),
            Compression::Zstd => self.zstd(plain, out),
        };
        // What saves less than a sixteenth is not worth decompressing at every read.
        let worth = out.len() - start < plain.len() - plain.len() / 16;
        let code = code.filter(|_| worth).unwrap_or_else(|| {
            out.truncate(start);
            out.extend_from_slice(plain);
            STORED
        });
        out.push(code);
        out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
        put_checksum(out, start, seed, offset);
    }

    fn lz4(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let start = out.len();
        out.resize(start + get_maximum_output_size(plain.len()), 0);
        let table = if plain.len() < usize::from(u16::MAX) {
            &mut self.small
        } else {
            self.large.get_or_insert_with(CompressTable::large)
        };
        let room = out.get_mut(start..)?;
        let len = compress_into_with_table(plain, room, table).ok();
        out.truncate(start + len.unwrap_or(0));
        len.map(|_| ())
    }

    #[cfg(feature = "zstd")]
    fn zstd(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Option<u8> {
        // Blocks are small and compactions many: the fastest of the levels that are better than lz4.
        const LEVEL: i32 = 1;
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        let compressor = self.zstd.as_mut()?;
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(plain.len()), 0);
        let len = compressor
            .compress_to_buffer(plain, out.get_mut(start..)?)
            .ok();
        out.truncate(start + len.unwrap_or(0));
        len.map(|_| ZSTD)
    }

    #[cfg(not(feature = "zstd"))]
    fn zstd(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Option<u8> {
        self.lz4(plain, out).map(|()| LZ4)
    }
}

/// Appends the checksum of what follows `start` in `out`.
pub(crate) fn put_checksum(out: &mut Vec<u8>, start: usize, seed: u64, offset: u64) {
    let piece = out.get(start..).unwrap_or_default();
    let checksum = xxh3_64_with_seed(piece, seed.wrapping_add(offset));
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// Checks the checksum at the end of a piece; returns the bytes before it.
pub(crate) fn checked<'a>(
    what: Name<'_>,
    piece: &'a [u8],
    seed: u64,
    offset: u64,
) -> Result<&'a [u8]> {
    let Some((bytes, checksum)) = piece.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(damaged(
            what,
            &format!("it has {} bytes, fewer than a checksum", piece.len()),
        ));
    };
    let expected = u64::from_le_bytes(*checksum);
    let found = xxh3_64_with_seed(bytes, seed.wrapping_add(offset));
    if expected != found && !planted::is(Bug::ChecksumIgnored) {
        return Err(damaged(
            what,
            &format!("its checksum is {found:016x}, but {expected:016x} was written"),
        ));
    }
    Ok(bytes)
}

pub(crate) fn damaged(what: Name<'_>, why: &str) -> Error {
    Error::corrupt(format!("{} is damaged: {why}", what()))
}

/// Puts a sealed piece that was found right under the seal of another place, without decompressing it.
pub(crate) fn reseal(
    what: Name<'_>,
    piece: &[u8],
    from: (u64, u64),
    to: (u64, u64),
    out: &mut Vec<u8>,
) -> Result<()> {
    let bytes = checked(what, piece, from.0, from.1)?;
    let start = out.len();
    out.extend_from_slice(bytes);
    put_checksum(out, start, to.0, to.1);
    Ok(())
}

/// Breaks the seal: checks the piece and returns what was sealed.
pub(crate) fn unseal(what: Name<'_>, piece: &[u8], seed: u64, offset: u64) -> Result<Vec<u8>> {
    let bytes = checked(what, piece, seed, offset)?;
    let Some((payload, [code, a, b, c, d])) = bytes.split_last_chunk::<5>() else {
        return Err(damaged(
            what,
            &format!("it has {} bytes, fewer than a trailer", piece.len()),
        ));
    };
    let plain_len = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    let most = match *code {
        STORED if plain_len == payload.len() => return Ok(payload.to_vec()),
        LZ4 => payload.len().saturating_mul(LZ4_RATIO_MAX),
        ZSTD => payload.len().saturating_mul(ZSTD_RATIO_MAX),
        _ => 0,
    };
    if plain_len > most.min(PLAIN_BYTES_MAX) {
        return Err(damaged(
            what,
            &format!(
                "compression {code} with {} payload bytes cannot make {plain_len} bytes",
                payload.len()
            ),
        ));
    }
    let decompressed = match *code {
        LZ4 => {
            let mut plain = vec![0; plain_len];
            lz4_flex::block::decompress_into(payload, &mut plain)
                .map(|len| (plain, len))
                .map_err(|error| error.to_string())
        }
        _ => unzstd(payload, plain_len),
    };
    match decompressed {
        Ok((plain, len)) if len == plain_len => Ok(plain),
        Ok((_, len)) => Err(damaged(
            what,
            &format!("it decompressed to {len} bytes, not {plain_len}"),
        )),
        Err(error) => Err(damaged(what, &format!("it does not decompress: {error}"))),
    }
}

#[cfg(feature = "zstd")]
fn unzstd(payload: &[u8], plain_len: usize) -> std::result::Result<(Vec<u8>, usize), String> {
    let plain = zstd::bulk::decompress(payload, plain_len).map_err(|error| error.to_string())?;
    let len = plain.len();
    Ok((plain, len))
}

#[cfg(not(feature = "zstd"))]
fn unzstd(_: &[u8], _: usize) -> std::result::Result<(Vec<u8>, usize), String> {
    Err("it is compressed with zstd, but this program was built without the feature zstd".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compression, plain length, checksum.
    const TRAILER_BYTES: usize = 1 + 4 + CHECKSUM_BYTES;
    const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

    fn name() -> String {
        "the piece".into()
    }

    fn samples() -> Vec<Vec<u8>> {
        let mut noise = vec![0u8; 70_000];
        let mut state = 1u64;
        for byte in &mut noise {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        vec![
            Vec::new(),
            b"x".to_vec(),
            b"repeat ".repeat(30_000),
            vec![0; 1 << 20],
            noise[..500].to_vec(),
            noise,
        ]
    }

    #[test]
    fn pieces_come_back_only_at_their_own_place() {
        let mut sealer = Sealer::default();
        for compression in ALL {
            for plain in samples() {
                let mut out = b"before".to_vec();
                sealer.seal(&plain, compression, 7, 100, &mut out);
                let piece = &out[6..];
                assert_eq!(unseal(&name, piece, 7, 100).unwrap(), plain);
                assert!(unseal(&name, piece, 8, 100).is_err(), "another file");
                assert!(unseal(&name, piece, 7, 101).is_err(), "another place");
                assert!(piece.len() <= plain.len() + TRAILER_BYTES);
                let mut moved = Vec::new();
                reseal(&name, piece, (7, 100), (9, 5), &mut moved).unwrap();
                assert_eq!(unseal(&name, &moved, 9, 5).unwrap(), plain);
                assert!(reseal(&name, piece, (7, 99), (9, 5), &mut moved).is_err());
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for compression in ALL {
            let mut good = Vec::new();
            Sealer::default().seal(&b"some rows ".repeat(50), compression, 3, 0, &mut good);
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(unseal(&name, &bad, 3, 0).is_err());
            }
            for len in 0..good.len() {
                assert!(unseal(&name, &good[..len], 3, 0).is_err());
            }
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_before_anything_is_allocated() {
        for code in [STORED, LZ4, ZSTD, 3, 255] {
            for claimed in [1u32, 1 << 20, u32::MAX] {
                let mut piece = b"ab".to_vec();
                piece.push(code);
                piece.extend_from_slice(&claimed.to_le_bytes());
                put_checksum(&mut piece, 0, 0, 0);
                let error = unseal(&name, &piece, 0, 0).unwrap_err();
                assert!(error.message.contains("the piece is damaged"), "{error}");
            }
        }
    }
}
