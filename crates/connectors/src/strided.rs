//! Splits of a generated source: row `n` belongs to split `n % count`, and a split's position is its next round.
//!
//! The number of splits is fixed when a job first starts, so any number of readers can share them later. A reader with several
//! splits takes their rows in the order of their numbers, whatever rounds the splits have reached. Encoded splits come back
//! from checkpoints: decoding trusts nothing.
//!
//! ```text
//! byte 0     1          5          9               17
//!      | ver | index LE | count LE | next round LE |
//! ```

use aquifer_dataflow::JobError;

const VERSION: u8 = 1;
/// Length of an encoded split.
pub(crate) const ENCODED_BYTES: usize = 17;
/// Splits of a source that has at least that many rows: many enough to share out, few enough to merge.
const SPLITS: u32 = 32;
const SPLITS_MAX: u32 = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Split {
    index: u32,
    count: u32,
    /// The round of its next row: row number = `round * count + index`.
    round: u64,
}

impl Split {
    fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENCODED_BYTES);
        out.push(VERSION);
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.round.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (index, rest) = rest.split_first_chunk::<4>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let round: &[u8; 8] = rest.try_into().ok()?;
        let split = Self {
            index: u32::from_le_bytes(*index),
            count: u32::from_le_bytes(*count),
            round: u64::from_le_bytes(*round),
        };
        (version == VERSION && split.index < split.count && split.count <= SPLITS_MAX)
            .then_some(split)
    }
}

/// All splits of a source of `rows` rows (`None`: without end), each at its start.
pub(crate) fn splits_at_start(rows: Option<u64>) -> Vec<Vec<u8>> {
    let count = rows.map_or(SPLITS, |rows| rows.clamp(1, SPLITS.into()) as u32);
    (0..count)
        .map(|index| {
            Split {
                index,
                count,
                round: 0,
            }
            .encode()
        })
        .collect()
}

/// Walks the rows of some splits in the order of their numbers.
#[derive(Debug)]
pub(crate) struct StridedCursor {
    /// Ordered by index.
    splits: Vec<Split>,
    count: u64,
    /// The round being walked; no split is at an earlier one.
    round: u64,
    /// Where in `splits` the walk stands.
    at: usize,
    /// One past the last row number.
    end: u64,
}

impl StridedCursor {
    /// A cursor over encoded splits of the source of table `table`, which ends before row `end`.
    pub(crate) fn new(table: &str, splits: &[Vec<u8>], end: u64) -> Result<Self, JobError> {
        let mut decoded = Vec::with_capacity(splits.len());
        for bytes in splits {
            decoded.push(Split::decode(bytes).ok_or_else(|| {
                JobError::failed(format!(
                    "the position of a split of table '{table}' must be {ENCODED_BYTES} bytes of version {VERSION}, found {bytes:?}"
                ))
            })?);
        }
        decoded.sort_by_key(|split| split.index);
        let count = decoded.first().map_or(1, |split| split.count);
        let same_count = decoded.iter().all(|split| split.count == count);
        let distinct = decoded
            .windows(2)
            .all(|pair| pair[0].index != pair[1].index);
        if !same_count || !distinct {
            return Err(JobError::failed(format!(
                "the splits of table '{table}' must be distinct parts of one whole, found {decoded:?}"
            )));
        }
        let round = decoded.iter().map(|split| split.round).min().unwrap_or(0);
        Ok(Self {
            splits: decoded,
            count: count.into(),
            round,
            at: 0,
            end,
        })
    }

    /// The number of the next row, if there is one.
    pub(crate) fn peek(&mut self) -> Option<u64> {
        if self.splits.is_empty() {
            return None;
        }
        loop {
            match self.splits.get(self.at) {
                Some(split) if split.round == self.round => {
                    let number = self.round.checked_mul(self.count)?;
                    let number = number.checked_add(split.index.into())?;
                    return (number < self.end).then_some(number);
                }
                Some(_) => self.at += 1,
                None => {
                    self.at = 0;
                    self.round = self.splits.iter().map(|split| split.round).min()?;
                }
            }
        }
    }

    /// Steps past the row that `peek` told.
    pub(crate) fn advance(&mut self) {
        if let Some(split) = self.splits.get_mut(self.at) {
            split.round += 1;
            self.at += 1;
        }
    }

    /// How many splits the whole source has.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The splits with the positions they have reached.
    pub(crate) fn snapshot(&self) -> Vec<Vec<u8>> {
        self.splits.iter().map(|split| split.encode()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(cursor: &mut StridedCursor, rows_max: usize) -> Vec<u64> {
        let mut rows = Vec::new();
        while rows.len() < rows_max {
            let Some(row) = cursor.peek() else { break };
            rows.push(row);
            cursor.advance();
        }
        rows
    }

    #[test]
    fn one_reader_sees_every_row_in_order() {
        let mut cursor = StridedCursor::new("t", &splits_at_start(Some(100)), 100).unwrap();
        assert_eq!(drain(&mut cursor, usize::MAX), (0..100).collect::<Vec<_>>());
        assert_eq!(cursor.peek(), None);
    }

    #[test]
    fn splits_at_different_rounds_are_merged_in_order() {
        let splits = splits_at_start(Some(1_000));
        let (mine, others) = splits.split_at(11);
        let mut ahead = StridedCursor::new("t", mine, 1_000).unwrap();
        let mut read = drain(&mut ahead, 200);
        let mut together = ahead.snapshot();
        together.extend_from_slice(others);
        let mut rest = StridedCursor::new("t", &together, 1_000).unwrap();
        let tail = drain(&mut rest, usize::MAX);
        assert!(tail.is_sorted());
        read.extend(tail);
        read.sort_unstable();
        assert_eq!(read, (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn fewer_rows_than_splits_make_fewer_splits() {
        assert_eq!(splits_at_start(Some(5)).len(), 5);
        assert_eq!(splits_at_start(Some(0)).len(), 1);
        assert_eq!(splits_at_start(None).len(), 32);
        let mut none = StridedCursor::new("t", &splits_at_start(Some(0)), 0).unwrap();
        assert_eq!(none.peek(), None);
    }

    #[test]
    fn hostile_positions_are_refused() {
        let good = splits_at_start(Some(64)).remove(3);
        for cut in 0..good.len() {
            assert!(StridedCursor::new("t", &[good[..cut].to_vec()], 64).is_err());
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(StridedCursor::new("t", &[longer], 64).is_err());
        let mut index_past_count = good.clone();
        index_past_count[1] = 32;
        assert!(StridedCursor::new("t", &[index_past_count], 64).is_err());
        assert!(StridedCursor::new("t", &[good.clone(), good.clone()], 64).is_err());
        let mut far = good;
        far[9..].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(
            StridedCursor::new("t", &[far], u64::MAX).unwrap().peek(),
            None
        );
    }
}
