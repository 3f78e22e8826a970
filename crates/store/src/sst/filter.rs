//! The filter of a file: a blocked Bloom filter, which answers most questions about absent keys with one cache line.
//!
//! The filter is a row of lines of 64 bytes. The upper half of a hash picks the line, the lower half the bits in it; so the
//! place of a key's line follows from its hash and the number of lines, which is to say from the length of the filter. In
//! the file, lines lie in pages of [`PAGE_LINES`], each with a checksum of its own: a reader of a cold file asks for one page
//! without knowing anything else. In memory a filter is either whole, or in pages.
//!
//! What always holds: a hash that was added is never denied. A filter of no lines says "maybe" to everything.
use crate::error::Result;
use crate::sst::seal::{CHECKSUM_BYTES, Name, checked, damaged, put_checksum};

const LINE_BYTES: usize = 64;
const LINE_WORDS: usize = LINE_BYTES / 8;
const LINE_BITS: u64 = 512;
/// Lines of every page but the last.
pub(crate) const PAGE_LINES: usize = 64;
const PROBES_MAX: u8 = 16;
/// Number of probes and checksum.
const PAGE_TRAILER_BYTES: usize = 1 + CHECKSUM_BYTES;
const PAGE_BYTES: usize = PAGE_LINES * LINE_BYTES + PAGE_TRAILER_BYTES;

/// One cache line of the filter.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([u64; LINE_WORDS]);

/// Appends a filter of the hashes; `offset` is its place in the file. Appends nothing if there is to be none.
pub(crate) fn build(hashes: &[u64], bits_per_key: u32, seed: u64, offset: u64, out: &mut Vec<u8>) {
    if bits_per_key == 0 || hashes.is_empty() {
        return;
    }
    // ln 2 bits are best for a plain filter; a blocked one wants slightly fewer probes.
    let probes = (u64::from(bits_per_key) * 6 / 10).clamp(1, u64::from(PROBES_MAX)) as u8;
    let bits = hashes.len() as u64 * u64::from(bits_per_key);
    let count = bits.div_ceil(LINE_BITS).clamp(1, lines_max());
    let mut lines = vec![Line([0; LINE_WORDS]); count as usize];
    for &hash in hashes {
        if let Some(line) = lines.get_mut(line_of(hash, count) as usize) {
            for bit in bits_of(hash, probes) {
                line.0[(bit >> 6) as usize & (LINE_WORDS - 1)] |= 1 << (bit & 63);
            }
        }
    }
    let filter_start = out.len();
    for page in lines.chunks(PAGE_LINES) {
        let start = out.len();
        for word in page.iter().flat_map(|line| line.0) {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.push(probes);
        let page_offset = offset + (start - filter_start) as u64;
        put_checksum(out, start, seed, page_offset);
    }
}

/// Lines of the longest filter whose length still fits into 32 bits.
fn lines_max() -> u64 {
    u64::from(u32::MAX) / PAGE_BYTES as u64 * PAGE_LINES as u64
}

#[inline]
fn line_of(hash: u64, lines: u64) -> u64 {
    ((hash >> 32) * lines) >> 32
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

/// How a filter lies in its file; follows from its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilterShape {
    lines: u64,
    bytes: u64,
}

impl FilterShape {
    /// `None` if no filter can have this length.
    pub(crate) fn new(bytes: u32) -> Option<Self> {
        let full = bytes as usize / PAGE_BYTES;
        let rest = bytes as usize % PAGE_BYTES;
        let last = match rest.checked_sub(PAGE_TRAILER_BYTES) {
            Some(lines) if lines > 0 && lines.is_multiple_of(LINE_BYTES) => lines / LINE_BYTES,
            None if rest == 0 => 0,
            _ => return None,
        };
        Some(Self {
            lines: (full * PAGE_LINES + last) as u64,
            bytes: u64::from(bytes),
        })
    }

    pub(crate) fn is_empty(self) -> bool {
        self.lines == 0
    }

    pub(crate) fn pages(self) -> u32 {
        self.lines.div_ceil(PAGE_LINES as u64) as u32
    }

    /// The page that decides about a hash.
    #[inline]
    pub(crate) fn page_of(self, hash: u64) -> u32 {
        (line_of(hash, self.lines) / PAGE_LINES as u64) as u32
    }

    /// Where a page lies, counted from the start of the filter.
    pub(crate) fn page_range(self, page: u32) -> std::ops::Range<u64> {
        let start = u64::from(page) * PAGE_BYTES as u64;
        start.min(self.bytes)..(start + PAGE_BYTES as u64).min(self.bytes)
    }

    /// Decodes one page, which lies at `offset` in the file.
    pub(crate) fn decode_page(
        self,
        what: Name<'_>,
        piece: &[u8],
        seed: u64,
        offset: u64,
    ) -> Result<FilterPage> {
        let mut lines = Vec::with_capacity(piece.len() / LINE_BYTES);
        let probes = decode_page(what, piece, seed, offset, &mut lines)?;
        Ok(FilterPage {
            lines: lines.into(),
            probes,
            all: self.lines,
        })
    }

    /// Decodes the whole filter, which lies at `offset` in the file.
    pub(crate) fn decode(
        self,
        what: Name<'_>,
        bytes: &[u8],
        seed: u64,
        offset: u64,
    ) -> Result<Filter> {
        let mut lines = Vec::with_capacity(bytes.len() / LINE_BYTES);
        let mut probes = 0;
        let mut at = offset;
        for page in bytes.chunks(PAGE_BYTES) {
            probes = decode_page(what, page, seed, at, &mut lines)?;
            at += page.len() as u64;
        }
        if lines.len() as u64 != self.lines {
            return Err(damaged(
                what,
                &format!(
                    "it has {} lines, but {} were written",
                    lines.len(),
                    self.lines
                ),
            ));
        }
        Ok(Filter {
            lines: lines.into(),
            probes,
        })
    }
}

/// Appends the lines of a page; returns the number of probes.
fn decode_page(
    what: Name<'_>,
    piece: &[u8],
    seed: u64,
    offset: u64,
    out: &mut Vec<Line>,
) -> Result<u8> {
    let bytes = checked(what, piece, seed, offset)?;
    let (lines, probes) = match bytes.split_last() {
        Some((&probes, lines)) => (lines, probes),
        None => (bytes, 0),
    };
    if probes == 0 || probes > PROBES_MAX || !lines.len().is_multiple_of(LINE_BYTES) {
        return Err(damaged(
            what,
            &format!("it has {probes} probes over {} bytes", lines.len()),
        ));
    }
    out.extend(lines.chunks_exact(LINE_BYTES).map(|bytes| {
        let mut line = Line([0; LINE_WORDS]);
        for (word, bytes) in line.0.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        line
    }));
    Ok(probes)
}

#[inline]
fn may_contain(line: &Line, hash: u64, probes: u8) -> bool {
    // All bits are looked at: leaving at the first that is missing costs a mispredicted branch, which is dearer.
    let all = bits_of(hash, probes).fold(u64::MAX, |all, bit| {
        all & (line.0[(bit >> 6) as usize & (LINE_WORDS - 1)] >> (bit & 63))
    });
    all & 1 != 0
}

/// A whole filter in memory.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    lines: Box<[Line]>,
    probes: u8,
}

impl Filter {
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// False only if no key with this hash is in the file. Touches one cache line.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let at = line_of(hash, self.lines.len() as u64);
        self.lines
            .get(at as usize)
            .is_none_or(|line| may_contain(line, hash, self.probes))
    }

    /// Reads from the line that decides about a hash, so that it is in the processor's cache when it is asked.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u64 {
        let at = line_of(hash, self.lines.len() as u64);
        self.lines.get(at as usize).map_or(0, |line| line.0[0])
    }

    /// The filter as pages.
    pub(crate) fn pages(&self) -> impl Iterator<Item = FilterPage> {
        self.lines.chunks(PAGE_LINES).map(|lines| FilterPage {
            lines: lines.into(),
            probes: self.probes,
            all: self.lines.len() as u64,
        })
    }
}

/// One page of a filter in memory.
#[derive(Debug)]
pub(crate) struct FilterPage {
    lines: Box<[Line]>,
    probes: u8,
    /// Lines of the whole filter.
    all: u64,
}

impl FilterPage {
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of::<Self>()
    }

    /// For hashes whose page this is: false only if no key with this hash is in the file.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let at = line_of(hash, self.all) as usize % PAGE_LINES;
        self.lines
            .get(at)
            .is_none_or(|line| may_contain(line, hash, self.probes))
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn name() -> String {
        "the filter".into()
    }

    fn hashes(from: u64, count: u64) -> Vec<u64> {
        (from..from + count)
            .map(|i| xxh3_64(&i.to_le_bytes()))
            .collect()
    }

    fn built(count: u64, bits: u32) -> (FilterShape, Vec<u8>) {
        let mut out = b"data".to_vec();
        build(&hashes(0, count), bits, 5, 4, &mut out);
        let filter = out.split_off(4);
        (FilterShape::new(filter.len() as u32).unwrap(), filter)
    }

    #[test]
    fn never_denies_a_key_and_seldom_claims_another() {
        for count in [1, 10, 1_000, 3_276, 3_277, 100_000] {
            let (shape, bytes) = built(count, 10);
            let filter = shape.decode(&name, &bytes, 5, 4).unwrap();
            assert!(hashes(0, count).iter().all(|&h| filter.may_contain(h)));
            let strangers = hashes(1 << 40, 100_000);
            let wrong = strangers.iter().filter(|&&h| filter.may_contain(h)).count();
            assert!(
                wrong < 2_000,
                "{wrong} of 100000 false answers with {count} keys"
            );
        }
    }

    #[test]
    fn pages_answer_like_the_whole() {
        let (shape, bytes) = built(20_000, 10);
        let filter = shape.decode(&name, &bytes, 5, 4).unwrap();
        let cut: Vec<FilterPage> = filter.pages().collect();
        assert_eq!(cut.len(), shape.pages() as usize);
        for page in 0..shape.pages() {
            let range = shape.page_range(page);
            let piece = &bytes[range.start as usize..range.end as usize];
            let decoded = shape.decode_page(&name, piece, 5, 4 + range.start).unwrap();
            let asked = hashes(0, 40_000);
            for &hash in asked.iter().filter(|&&h| shape.page_of(h) == page) {
                let expected = filter.may_contain(hash);
                assert_eq!(decoded.may_contain(hash), expected);
                assert_eq!(cut[page as usize].may_contain(hash), expected);
            }
        }
        assert_eq!(shape.page_range(shape.pages() - 1).end, bytes.len() as u64);
    }

    #[test]
    fn no_filter_says_maybe() {
        let (shape, bytes) = built(5, 0);
        assert!(shape.is_empty() && bytes.is_empty());
        assert!(shape.decode(&name, &bytes, 5, 4).unwrap().may_contain(1));
    }

    #[test]
    fn damaged_filters_are_refused() {
        let (shape, good) = built(5_000, 10);
        for bit in (0..good.len() * 8).step_by(7) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(shape.decode(&name, &bad, 5, 4).is_err());
        }
        for len in [0, 1, 9, 64, good.len() - 1] {
            assert!(shape.decode(&name, &good[..len], 5, 4).is_err());
        }
        for bytes in [1, 9, 72, 74, PAGE_BYTES as u32 + 1] {
            assert_eq!(FilterShape::new(bytes), None, "no filter has {bytes} bytes");
        }
        let mut page = vec![0; 64];
        page.push(PROBES_MAX + 1);
        put_checksum(&mut page, 0, 0, 0);
        assert!(shape.decode_page(&name, &page, 0, 0).is_err());
    }
}
