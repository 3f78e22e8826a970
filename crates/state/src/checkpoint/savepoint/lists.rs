//! Lists as a canonical savepoint holds them: whole chunks from number 0 on, without elements that have expired.
//!
//! A list of a running job may lie in chunks of any number and size, which depends on when its table moved on. Here the same list has the
//! same rows, whoever wrote it.

use aquifer_store::TableId;

use crate::StateError;
use crate::rows::{RowRefs, RowSink};
use crate::state::chunks::{CHUNK_BYTES_TARGET, Frames, push_frame};

/// Bytes of the chunk number that ends the key of a list's row.
const NUMBER_BYTES: usize = 8;

/// What decides whether elements of a table have expired.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expiry {
    pub ttl_ms: Option<u64>,
    pub untimed_as_ms: Option<i64>,
    /// Now, in the time that the TTL counts in, if it is known.
    pub now_ms: Option<i64>,
}

impl Expiry {
    fn expired(self, time_ms: Option<i64>) -> bool {
        let (Some(ttl_ms), Some(now_ms)) = (self.ttl_ms, self.now_ms) else {
            return false;
        };
        // As `crate::ttl` has it: earlier times count as that one, and an end past all times never comes.
        let written = time_ms.max(self.untimed_as_ms);
        let end = written.and_then(|written| written.checked_add_unsigned(ttl_ms));
        end.is_some_and(|end| end <= now_ms)
    }
}

/// A list that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub table: TableId,
    pub last_chunk: u64,
    /// The newest time of its elements.
    pub latest_ms: Option<i64>,
}

/// The list whose chunks are coming.
#[derive(Debug, Default)]
pub(super) struct OpenList {
    place: Option<(u16, TableId)>,
    /// Key without the chunk number.
    prefix: Vec<u8>,
    /// The chunk under construction.
    chunk: Vec<u8>,
    newest_ms: Option<i64>,
    /// The newest time in the list.
    latest_ms: Option<i64>,
    number: u64,
    key: Vec<u8>,
}

impl OpenList {
    /// Takes one chunk of a list, which comes after all rows before. If it is of another list than the chunk before, returns what
    /// [`end`](Self::end) does.
    pub(super) fn put(
        &mut self,
        row: RowRefs<'_>,
        expiry: Expiry,
        sink: &mut dyn RowSink,
    ) -> Result<Option<Ended>, StateError> {
        let Some((prefix, _)) = row
            .key
            .len()
            .checked_sub(NUMBER_BYTES)
            .and_then(|len| row.key.split_at_checked(len))
        else {
            return Err(StateError::Corrupt(format!(
                "a row of a list in table {} has a key of {} bytes, expected at least {NUMBER_BYTES}",
                row.table.0,
                row.key.len()
            )));
        };
        let place = Some((row.group, row.table));
        let mut ended = None;
        if self.place != place || self.prefix != prefix {
            ended = self.end(sink)?;
            self.place = place;
            self.prefix.clear();
            self.prefix.extend_from_slice(prefix);
        }
        let mut frames = Frames::new(row.value);
        while let Some(frame) = frames.next()? {
            if expiry.expired(frame.time_ms) {
                continue;
            }
            if !self.chunk.is_empty() && self.chunk.len() + frame.bytes.len() > CHUNK_BYTES_TARGET {
                self.write(sink)?;
                self.number += 1;
            }
            push_frame(&mut self.chunk, frame.time_ms, frame.bytes);
            self.newest_ms = self.newest_ms.max(frame.time_ms);
            self.latest_ms = self.latest_ms.max(frame.time_ms);
        }
        Ok(ended)
    }

    /// The list is over. Says what was written of it, if anything was.
    pub(super) fn end(&mut self, sink: &mut dyn RowSink) -> Result<Option<Ended>, StateError> {
        let ended = match self.place {
            Some((_, table)) if !self.chunk.is_empty() => {
                self.write(sink)?;
                Some(Ended {
                    table,
                    last_chunk: self.number,
                    latest_ms: self.latest_ms,
                })
            }
            _ => None,
        };
        self.place = None;
        self.latest_ms = None;
        self.number = 0;
        Ok(ended)
    }

    fn write(&mut self, sink: &mut dyn RowSink) -> Result<(), StateError> {
        if let Some((group, table)) = self.place {
            self.key.clear();
            self.key.extend_from_slice(&self.prefix);
            self.key.extend_from_slice(&self.number.to_be_bytes());
            sink.put(RowRefs {
                group,
                table,
                key: &self.key,
                value: &self.chunk,
                time_ms: self.newest_ms,
            })?;
        }
        self.chunk.clear();
        self.newest_ms = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aquifer_testkit::Rng;

    use super::*;

    /// Group, table, key, value and time of each row.
    type Rows = Vec<(u16, u16, Vec<u8>, Vec<u8>, Option<i64>)>;

    #[derive(Default)]
    struct Kept(Rows);

    impl RowSink for Kept {
        fn put(&mut self, row: RowRefs<'_>) -> Result<(), StateError> {
            let (key, value) = (row.key.to_vec(), row.value.to_vec());
            self.0
                .push((row.group, row.table.0, key, value, row.time_ms));
            Ok(())
        }
    }

    /// Key group, key and elements, each with its time, of a list.
    type List = (u16, Vec<u8>, Vec<(Option<i64>, Vec<u8>)>);

    /// The rows of lists whose elements lie in chunks as `cut` says, and the greatest numbers that were told.
    fn relisted(lists: &[List], expiry: Expiry, mut cut: impl FnMut() -> bool) -> (Rows, Vec<u64>) {
        let (mut list, mut kept) = (OpenList::default(), Kept::default());
        let mut numbers = Vec::new();
        for (group, prefix, elements) in lists {
            let mut chunks = vec![Vec::new()];
            for (time_ms, element) in elements {
                if cut() {
                    chunks.push(Vec::new());
                }
                push_frame(chunks.last_mut().unwrap(), *time_ms, element);
            }
            for (number, chunk) in chunks.iter().enumerate() {
                let number = (number as u64 * 3 + 7).to_be_bytes();
                let row = RowRefs {
                    group: *group,
                    table: TableId(4),
                    key: &[&prefix[..], &number].concat(),
                    value: chunk,
                    time_ms: None,
                };
                numbers.extend(list.put(row, expiry, &mut kept).unwrap());
            }
        }
        numbers.extend(list.end(&mut kept).unwrap());
        let numbers: Vec<Ended> = numbers;
        (
            kept.0,
            numbers.into_iter().map(|ended| ended.last_chunk).collect(),
        )
    }

    #[test]
    fn a_list_has_the_same_rows_however_it_was_cut() {
        // With 5 everything lives: times before it count as 5.
        for untimed_as_ms in [2, 5] {
            cut_differently(untimed_as_ms);
        }
    }

    fn cut_differently(untimed_as_ms: i64) {
        let mut rng = Rng::new(3);
        let expiry = Expiry {
            ttl_ms: Some(100),
            untimed_as_ms: Some(untimed_as_ms),
            now_ms: Some(104),
        };
        let lists: Vec<_> = (0..20u16)
            .map(|i| {
                let elements = (0..rng.below(30)).map(|_| {
                    let time_ms = rng.chance(700).then(|| rng.below(10) as i64);
                    (time_ms, vec![i as u8; rng.below(200_000) as usize])
                });
                (i / 4, vec![i as u8; 3], elements.collect::<Vec<_>>())
            })
            .collect();
        let (whole, numbers) = relisted(&lists, expiry, || false);
        let (cut, same) = relisted(&lists, expiry, || rng.chance(300));
        assert!(cut == whole && same == numbers);
        // What is left is what lives, in order.
        for (group, prefix, elements) in &lists {
            let rows = whole.iter().filter(|row| row.2.starts_with(prefix));
            let mut left = Vec::new();
            for (number, row) in rows.enumerate() {
                assert_eq!((row.0, row.1), (*group, 4));
                assert_eq!(row.2[3..], (number as u64).to_be_bytes());
                assert!(row.3.len() <= CHUNK_BYTES_TARGET + 16);
                let mut frames = Frames::new(&row.3);
                let mut newest = None;
                while let Some(frame) = frames.next().unwrap() {
                    newest = newest.max(frame.time_ms);
                    left.push((frame.time_ms, frame.bytes.to_vec()));
                }
                assert_eq!(row.4, newest);
            }
            let lives = elements
                .iter()
                .filter(|(time, _)| time.unwrap_or(0).max(untimed_as_ms) + 100 > 104);
            assert!(lives.eq(&left));
        }
    }

    #[test]
    fn damaged_rows_are_refused() {
        let row = |key: &'static [u8], value: &'static [u8]| RowRefs {
            group: 0,
            table: TableId(4),
            key,
            value,
            time_ms: None,
        };
        for (key, value) in [(&b"short"[..], &b""[..]), (b"prefix..........", &[0x80])] {
            let mut kept = Kept::default();
            let put = OpenList::default().put(row(key, value), Expiry::default(), &mut kept);
            assert!(matches!(put, Err(StateError::Corrupt(_))), "{put:?}");
        }
    }
}
