//! The reads behind [`StateAccess`]: memory first, then a fetch, then the check that nothing newer can exist.
//!
//! Each read runs in rounds. A round looks memory up, waits for what is cold, and looks whether the answer is still the newest (the
//! argument is in the parent module). After [`READ_ATTEMPTS_MAX`] rounds it blocks the worker instead of waiting, so every read ends.

use std::cell::Cell;
use std::future::Future;

use aquifer_store::{ColdRead, Lookup, ScanLookup, ScanRows, SeeValue, TableId};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use super::newest::Basis;
use super::{Keys, StateAccess, Values, gather};
use crate::blocking::wait;
use crate::{Row, StateError};

/// Rounds of an asynchronous read before it blocks.
const READ_ATTEMPTS_MAX: usize = 4;

/// Whether a read may make its record wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Cold reads are gathered and awaited.
    Asynchronous,
    /// Cold reads block the worker: the future is ready on first poll.
    Blocking,
}

/// A cold read and what must not have moved for its answer to be the newest.
pub(crate) struct Planned {
    read: Box<ColdRead>,
    writes: u64,
    basis: Basis,
}

/// Takes the number of a key, its value, and when its row was written.
type Found<'a> = dyn FnMut(usize, &[u8], Option<i64>) + 'a;

/// The answer of memory.
pub(crate) enum Hot<R> {
    Answer(R),
    Cold(Planned),
}

impl StateAccess {
    /// Asks memory. `decode` sees the value where it lies, and when its row was written, if that is known.
    pub(crate) fn look_up<R>(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        decode: &mut impl FnMut(Option<&[u8]>, Option<i64>) -> R,
    ) -> Result<Hot<R>, StateError> {
        let mut answer = None;
        let see = &mut |row: Option<&[u8]>, time_ms| answer = Some(decode(row, time_ms));
        match self.see(table, group, key, see)? {
            None => answer.map(Hot::Answer).ok_or_else(unanswered),
            Some(planned) => Ok(Hot::Cold(planned)),
        }
    }

    /// Shows `see` what memory knows of a key, once; `Some`: it cannot answer, and nothing was shown.
    #[inline]
    pub(crate) fn see(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        see: SeeValue<'_>,
    ) -> Result<Option<Planned>, StateError> {
        let backend = self.inner.backend.borrow();
        match backend.look_up(table, group, key, see)? {
            None => Ok(None),
            Some(read) => {
                let writes = self.written(table);
                Ok(Some(Planned {
                    basis: writes.basis(&read, backend.installs()),
                    writes: writes.count,
                    read,
                }))
            }
        }
    }

    /// Finishes a read that memory could not answer.
    pub(crate) async fn finish<R>(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        mut planned: Planned,
        waiting: Waiting,
        mut decode: impl FnMut(Option<&[u8]>, Option<i64>) -> R,
    ) -> Result<R, StateError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let waiting = if attempts > READ_ATTEMPTS_MAX {
                Waiting::Blocking
            } else {
                waiting
            };
            let Planned {
                read,
                writes,
                basis,
            } = planned;
            let fetched = self.fetch(vec![*read], waiting).await?.pop().flatten();
            let fetched = fetched.as_ref();
            let value = fetched.map(|row| &row.value[..]);
            let time_ms = fetched.and_then(|row| row.time_ms);
            if waiting == Waiting::Blocking || self.written(table).count == writes {
                return Ok(decode(value, time_ms));
            }
            match self.look_up(table, group, key, &mut decode)? {
                Hot::Answer(answer) => return Ok(answer),
                Hot::Cold(again) if again.basis == basis => return Ok(decode(value, time_ms)),
                Hot::Cold(again) => planned = again,
            }
        }
    }

    pub(super) async fn read<R>(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        waiting: Waiting,
        mut decode: impl FnMut(Option<&[u8]>, Option<i64>) -> R,
    ) -> Result<R, StateError> {
        match self.look_up(table, group, key, &mut decode)? {
            Hot::Answer(answer) => Ok(answer),
            Hot::Cold(planned) => {
                self.finish(table, group, key, planned, waiting, decode)
                    .await
            }
        }
    }

    pub(crate) async fn read_many(
        &self,
        table: TableId,
        keys: &Keys,
        values: &mut Values,
        waiting: Waiting,
    ) -> Result<(), StateError> {
        values.reset(keys.len());
        let mut found = |i, value: &[u8], time_ms| values.set(i, value, time_ms);
        let mut cold = self.look_up_many(table, keys, &mut found)?;
        let mut attempts = 0;
        while !cold.is_empty() {
            attempts += 1;
            let waiting = if attempts > READ_ATTEMPTS_MAX {
                Waiting::Blocking
            } else {
                waiting
            };
            let (writes, installs) = (self.written(table), self.installs());
            cold.sort_unstable_by_key(|(index, _)| *index);
            let mut planned = Vec::with_capacity(cold.len());
            let mut reads = Vec::with_capacity(cold.len());
            for (index, read) in cold {
                planned.push((index, writes.basis(&read, installs)));
                reads.push(read);
            }
            let fetched = self.fetch(reads, waiting).await?;
            if waiting == Waiting::Blocking || self.written(table).count == writes.count {
                for ((index, _), row) in planned.iter().zip(&fetched) {
                    if let Some(row) = row {
                        values.set(*index, &row.value, row.time_ms);
                    }
                }
                return Ok(());
            }
            // Something was written meanwhile: every key is looked up anew, those that were hot as well.
            values.reset(keys.len());
            let mut found = |i, value: &[u8], time_ms| values.set(i, value, time_ms);
            cold = self.look_up_many(table, keys, &mut found)?;
            let (writes, installs) = (self.written(table), self.installs());
            cold.retain(|(index, read)| {
                let basis = writes.basis(read, installs);
                let known = planned
                    .binary_search_by_key(index, |(index, _)| *index)
                    .ok()
                    .filter(|at| planned.get(*at).is_some_and(|(_, old)| *old == basis))
                    .and_then(|at| fetched.get(at));
                if let Some(Some(row)) = known {
                    values.set(*index, &row.value, row.time_ms);
                }
                known.is_none()
            });
        }
        Ok(())
    }

    /// Calls `found` for every key that memory has, and returns the reads of those it cannot answer for.
    pub(super) fn look_up_many(
        &self,
        table: TableId,
        keys: &Keys,
        found: &mut Found<'_>,
    ) -> Result<Vec<(usize, ColdRead)>, StateError> {
        let list: Vec<(u16, &[u8])> = keys.iter().collect();
        let mut cold = Vec::new();
        self.inner
            .backend
            .borrow()
            .multi_get(table, &list, &mut |i, lookup| match lookup {
                Lookup::Found(value) => found(i, &value, value.time_ms()),
                Lookup::Absent => {}
                Lookup::Cold(read) => cold.push((i, read)),
            })?;
        Ok(cold)
    }

    /// Several scans of one table that see the same moment.
    pub(crate) async fn scan_many(
        &self,
        table: TableId,
        ranges: &[ScanRange<'_>],
        waiting: Waiting,
    ) -> Result<Vec<ScanRows>, StateError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let waiting = if attempts > READ_ATTEMPTS_MAX {
                Waiting::Blocking
            } else {
                waiting
            };
            let writes = self.written(table).count;
            let mut pieces = Vec::with_capacity(ranges.len());
            let mut cold = Vec::new();
            for (index, r) in ranges.iter().enumerate() {
                let backend = self.inner.backend.borrow();
                match backend.scan(table, r.group, r.prefix, r.from, r.until, r.rows_max)? {
                    ScanLookup::Rows(rows) => pieces.push(Some(rows)),
                    ScanLookup::Cold(scan) => {
                        pieces.push(None);
                        cold.push((index, scan));
                    }
                }
            }
            let (indices, scans): (Vec<usize>, Vec<_>) = cold.into_iter().unzip();
            let fetched = match waiting {
                Waiting::Blocking => {
                    let fetches: Vec<_> = {
                        let backend = self.inner.backend.borrow();
                        scans
                            .into_iter()
                            .map(|scan| backend.fetch_scan(scan))
                            .collect()
                    };
                    if fetches.is_empty() {
                        Vec::new()
                    } else {
                        wait(
                            &self.inner.runtime,
                            "a scan of state",
                            try_join_all(fetches),
                        )??
                    }
                }
                Waiting::Asynchronous => {
                    let answers: Vec<_> = scans
                        .into_iter()
                        .map(|scan| self.answer(self.gather_scan(scan)))
                        .collect();
                    try_join_all(answers).await?
                }
            };
            // Rows are those of the moment of the scan: still right if nothing was written since.
            if waiting == Waiting::Blocking || self.written(table).count == writes {
                for (index, rows) in indices.into_iter().zip(fetched) {
                    pieces[index] = Some(rows);
                }
                return pieces
                    .into_iter()
                    .map(|piece| piece.ok_or_else(unanswered))
                    .collect();
            }
        }
    }

    /// Whether a key with this prefix has a value; `None` if memory cannot tell.
    pub(crate) fn holds_any(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
    ) -> Result<Option<bool>, StateError> {
        (self.inner.backend.borrow()).holds_any(table, group, prefix)
    }

    /// A scan that memory can answer; `None` if it cannot.
    pub(crate) fn scan_now(
        &self,
        table: TableId,
        r: ScanRange<'_>,
    ) -> Result<Option<ScanRows>, StateError> {
        let backend = self.inner.backend.borrow();
        match backend.scan(table, r.group, r.prefix, r.from, r.until, r.rows_max)? {
            ScanLookup::Rows(rows) => Ok(Some(rows)),
            ScanLookup::Cold(_) => Ok(None),
        }
    }

    async fn fetch(
        &self,
        reads: Vec<ColdRead>,
        waiting: Waiting,
    ) -> Result<Vec<Option<Row>>, StateError> {
        let asked = reads.len();
        let answers = match waiting {
            Waiting::Asynchronous => self.answer(self.gather(reads)).await?,
            Waiting::Blocking => {
                let fetch = self.inner.backend.borrow().fetch_rows(reads);
                wait(&self.inner.runtime, "a read of state", fetch)??
            }
        };
        if answers.len() == asked {
            Ok(answers)
        } else {
            Err(unanswered())
        }
    }

    pub(super) fn gather(&self, reads: Vec<ColdRead>) -> oneshot::Receiver<gather::ReadAnswer> {
        let answer = self.inner.gathered.borrow_mut().read(reads);
        self.issue_if_full();
        answer
    }

    fn gather_scan(
        &self,
        scan: aquifer_store::ColdScan,
    ) -> oneshot::Receiver<Result<ScanRows, StateError>> {
        let answer = self.inner.gathered.borrow_mut().scan(scan);
        self.issue_if_full();
        answer
    }

    fn issue_if_full(&self) {
        let full = self.inner.gathered.borrow().is_full();
        if full {
            self.issue();
        }
    }

    pub(super) async fn answer<T>(
        &self,
        receiver: oneshot::Receiver<Result<T, StateError>>,
    ) -> Result<T, StateError> {
        let _counted = Counted::new(&self.inner.waiting);
        receiver
            .await
            .map_err(|_| StateError::runtime_gone("a read of state"))?
    }

    fn installs(&self) -> u64 {
        self.inner.backend.borrow().installs()
    }
}

/// One scan of `StateAccess::scan_many`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanRange<'a> {
    pub(crate) group: u16,
    pub(crate) prefix: &'a [u8],
    pub(crate) from: &'a [u8],
    pub(crate) until: Option<&'a [u8]>,
    pub(crate) rows_max: usize,
}

/// Counts a waiting record for as long as it lives.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Takes the output of a future that never waits.
pub(crate) fn ready<T>(
    future: impl Future<Output = Result<T, StateError>>,
) -> Result<T, StateError> {
    future.now_or_never().unwrap_or_else(|| {
        Err(StateError::Usage(
            "a blocking read of state tried to wait asynchronously".into(),
        ))
    })
}

pub(super) fn copied(value: Option<&[u8]>, _time_ms: Option<i64>) -> Option<Bytes> {
    value.map(Bytes::copy_from_slice)
}

pub(super) fn unanswered() -> StateError {
    StateError::Corrupt("the store answered fewer reads of state than it was asked".into())
}
