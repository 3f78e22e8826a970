//! The reads behind [`StateAccess`]: memory first, then a fetch, then the check that nothing newer can exist.
//!
//! Each read runs in rounds. A round looks memory up, waits for what is cold, and looks whether the answer is still the newest (the
//! argument is in the parent module). After [`READ_ATTEMPTS_MAX`] rounds it blocks the worker instead of waiting, so every read ends.

use std::cell::Cell;
use std::future::Future;

use aquifer_store::{ColdRead, Lookup, ScanLookup, ScanRows, TableId};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use super::{Keys, StateAccess, Values, gather};
use crate::StateError;
use crate::blocking::wait;

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
    read: ColdRead,
    writes: u64,
    installs: u64,
}

/// The answer of memory.
pub(crate) enum Hot<R> {
    Answer(R),
    Cold(Planned),
}

impl StateAccess {
    /// Asks memory. `decode` sees the value where it lies.
    pub(crate) fn look_up<R>(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        decode: &mut impl FnMut(Option<&[u8]>) -> R,
    ) -> Result<Hot<R>, StateError> {
        let backend = self.inner.backend.borrow();
        Ok(match backend.get(table, group, key)? {
            Lookup::Found(value) => Hot::Answer(decode(Some(&value))),
            Lookup::Absent => Hot::Answer(decode(None)),
            Lookup::Cold(read) => Hot::Cold(Planned {
                read,
                writes: self.writes(table),
                installs: backend.installs(),
            }),
        })
    }

    /// Finishes a read that memory could not answer.
    pub(crate) async fn finish<R>(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        mut planned: Planned,
        waiting: Waiting,
        mut decode: impl FnMut(Option<&[u8]>) -> R,
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
                installs,
            } = planned;
            let fetched = self.fetch(vec![read], waiting).await?.pop().flatten();
            if waiting == Waiting::Blocking || self.writes(table) == writes {
                return Ok(decode(fetched.as_deref()));
            }
            match self.look_up(table, group, key, &mut decode)? {
                Hot::Answer(answer) => return Ok(answer),
                Hot::Cold(again) if again.installs == installs => {
                    return Ok(decode(fetched.as_deref()));
                }
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
        mut decode: impl FnMut(Option<&[u8]>) -> R,
    ) -> Result<R, StateError> {
        match self.look_up(table, group, key, &mut decode)? {
            Hot::Answer(answer) => Ok(answer),
            Hot::Cold(planned) => {
                self.finish(table, group, key, planned, waiting, decode)
                    .await
            }
        }
    }

    pub(super) async fn read_many(
        &self,
        table: TableId,
        keys: &Keys,
        values: &mut Values,
        waiting: Waiting,
    ) -> Result<(), StateError> {
        values.reset(keys.len());
        let mut cold = self.look_up_many(table, keys, &mut |i, value| values.set(i, value))?;
        let mut attempts = 0;
        while !cold.is_empty() {
            attempts += 1;
            let waiting = if attempts > READ_ATTEMPTS_MAX {
                Waiting::Blocking
            } else {
                waiting
            };
            let (writes, installs) = (self.writes(table), self.installs());
            cold.sort_unstable_by_key(|(index, _)| *index);
            let (indices, reads): (Vec<usize>, Vec<ColdRead>) = cold.into_iter().unzip();
            let fetched = self.fetch(reads, waiting).await?;
            if waiting == Waiting::Blocking || self.writes(table) == writes {
                for (index, value) in indices.iter().zip(&fetched) {
                    if let Some(value) = value {
                        values.set(*index, value);
                    }
                }
                return Ok(());
            }
            // Something was written meanwhile: every key is looked up anew, those that were hot as well.
            values.reset(keys.len());
            cold = self.look_up_many(table, keys, &mut |i, value| values.set(i, value))?;
            if self.installs() == installs {
                cold.retain(|(index, _)| {
                    let known = indices
                        .binary_search(index)
                        .ok()
                        .and_then(|at| fetched.get(at));
                    if let Some(Some(value)) = known {
                        values.set(*index, value);
                    }
                    known.is_none()
                });
            }
        }
        Ok(())
    }

    /// Calls `found` for every key that memory has, and returns the reads of those it cannot answer for.
    pub(super) fn look_up_many(
        &self,
        table: TableId,
        keys: &Keys,
        found: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<Vec<(usize, ColdRead)>, StateError> {
        let list: Vec<(u16, &[u8])> = keys.iter().collect();
        let mut cold = Vec::new();
        self.inner
            .backend
            .borrow()
            .multi_get(table, &list, &mut |i, lookup| match lookup {
                Lookup::Found(value) => found(i, &value),
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
            let writes = self.writes(table);
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
            if waiting == Waiting::Blocking || self.writes(table) == writes {
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

    async fn fetch(
        &self,
        reads: Vec<ColdRead>,
        waiting: Waiting,
    ) -> Result<Vec<Option<Bytes>>, StateError> {
        let asked = reads.len();
        let answers = match waiting {
            Waiting::Asynchronous => self.answer(self.gather(reads)).await?,
            Waiting::Blocking => {
                let fetch = self.inner.backend.borrow().fetch(reads);
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

    fn writes(&self, table: TableId) -> u64 {
        self.inner
            .writes
            .borrow()
            .get(usize::from(table.0))
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn count_write(&self, table: TableId) {
        let mut writes = self.inner.writes.borrow_mut();
        let index = usize::from(table.0);
        if writes.len() <= index {
            writes.resize(index + 1, 0);
        }
        writes[index] += 1;
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

pub(super) fn copied(value: Option<&[u8]>) -> Option<Bytes> {
    value.map(Bytes::copy_from_slice)
}

pub(super) fn unanswered() -> StateError {
    StateError::Corrupt("the store answered fewer reads of state than it was asked".into())
}
