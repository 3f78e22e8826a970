//! How operators read and write state without caring whether it is hot or cold.
//!
//! **A fetched value is only used if nothing newer can exist.** While a cold read is under way, other records may write the same key, and
//! a flush may move a newer value from the memtable into a file that the read was not planned on. So at the moment of use either nothing
//! was written to the table since the read was planned, or the key is looked up again: an answer from memory wins; if memory still has
//! none and no file was installed meanwhile, the fetched value is the newest; otherwise it is fetched again. After
//! [`READ_ATTEMPTS_MAX`] rounds the read blocks the worker, which keeps writes and installs out, and ends.
//!
//! Writes to a table must go through clones of one [`StateAccess`] (an operator owns its tables), because they are counted here.

mod batch;
mod gather;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

use aquifer_store::{ColdRead, KeyGroupRange, Lookup, ScanLookup, ScanRows, TableId};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, try_join_all};
use tokio::sync::oneshot;

pub use self::batch::{Keys, Values};
use self::gather::Gatherer;
use crate::blocking::wait;
use crate::{SharedBackend, StateError};

/// Rounds of an asynchronous read before it blocks.
const READ_ATTEMPTS_MAX: usize = 4;

/// A worker's state as one operator sees it. Cheap to clone. Used from the worker's thread only.
///
/// Futures returned here are ready on first poll when memory can answer. Cold reads of one schedule are gathered and issued together
/// by `issue`, which the operator's runner calls once at the end of every schedule; they are run on the tokio runtime and wake the awaiting task's waker.
#[derive(Clone)]
pub struct StateAccess {
    inner: Rc<Inner>,
}

struct Inner {
    backend: SharedBackend,
    runtime: tokio::runtime::Handle,
    range: KeyGroupRange,
    max_parallelism: u16,
    asynchronous: bool,
    gathered: RefCell<Gatherer>,
    /// Writes so far, by table number.
    writes: RefCell<Vec<u64>>,
    waiting: Cell<usize>,
}

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
    /// `asynchronous = false` makes every cold read block the worker (`table.exec.async-state.enabled = false`, state API V1).
    pub fn new(
        backend: SharedBackend,
        runtime: tokio::runtime::Handle,
        range: KeyGroupRange,
        max_parallelism: u16,
        asynchronous: bool,
    ) -> Self {
        Self {
            inner: Rc::new(Inner {
                backend,
                runtime,
                range,
                max_parallelism,
                asynchronous,
                gathered: RefCell::default(),
                writes: RefCell::default(),
                waiting: Cell::new(0),
            }),
        }
    }

    /// The backend, shared by all operators of the worker.
    pub fn backend(&self) -> &SharedBackend {
        &self.inner.backend
    }

    /// The worker's key groups.
    pub fn key_groups(&self) -> KeyGroupRange {
        self.inner.range
    }

    /// Key groups of the job.
    pub fn max_parallelism(&self) -> u16 {
        self.inner.max_parallelism
    }

    /// Starts loading what these keys need, without waiting: a later `multi_get` of the same keys will most likely be hot. `None` if nothing
    /// was cold (or if cold reads block anyway); else the returned future resolves when the blocks are in memory.
    pub fn prefetch(
        &self,
        table: TableId,
        keys: &Keys,
    ) -> Result<Option<LocalBoxFuture<'static, Result<(), StateError>>>, StateError> {
        if !self.inner.asynchronous {
            return Ok(None);
        }
        let cold = self.look_up_many(table, keys, &mut |_, _| {})?;
        if cold.is_empty() {
            return Ok(None);
        }
        let access = self.clone();
        let answer = self.gather(cold.into_iter().map(|(_, read)| read).collect());
        Ok(Some(
            async move { access.answer(answer).await.map(|_| ()) }.boxed_local(),
        ))
    }

    /// Reads many keys; `values` is overwritten.
    pub async fn multi_get(
        &self,
        table: TableId,
        keys: &Keys,
        values: &mut Values,
    ) -> Result<(), StateError> {
        self.read_many(table, keys, values, self.waiting_mode())
            .await
    }

    /// Like `multi_get`, but blocks on cold keys whatever the mode.
    pub fn multi_get_blocking(
        &self,
        table: TableId,
        keys: &Keys,
        values: &mut Values,
    ) -> Result<(), StateError> {
        ready(self.read_many(table, keys, values, Waiting::Blocking))
    }

    /// Reads one key.
    pub async fn get(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
    ) -> Result<Option<Bytes>, StateError> {
        self.read(table, group, key, self.waiting_mode(), copied)
            .await
    }

    /// Like `get`, but blocks on a cold key whatever the mode.
    pub fn get_blocking(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
    ) -> Result<Option<Bytes>, StateError> {
        ready(self.read(table, group, key, Waiting::Blocking, copied))
    }

    /// Writes one key. Never waits for a read; may block while too much is unflushed.
    pub fn put(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StateError> {
        self.count_write(table);
        self.inner
            .backend
            .borrow_mut()
            .put(table, group, key, value)
    }

    /// Removes one key, whether it is there or not.
    pub fn delete(&self, table: TableId, group: u16, key: &[u8]) -> Result<(), StateError> {
        self.count_write(table);
        self.inner.backend.borrow_mut().delete(table, group, key)
    }

    /// One piece of a scan; see `aquifer_store::Store::scan`.
    pub async fn scan(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<ScanRows, StateError> {
        let range = ScanRange {
            group,
            prefix,
            from,
            until,
            rows_max,
        };
        let mut pieces = self.scan_many(table, &[range], self.waiting_mode()).await?;
        pieces.pop().ok_or_else(unanswered)
    }

    /// Like `scan`, but blocks on cold rows whatever the mode.
    pub fn scan_blocking(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<ScanRows, StateError> {
        let range = ScanRange {
            group,
            prefix,
            from,
            until,
            rows_max,
        };
        ready(self.scan_many(table, &[range], Waiting::Blocking))?
            .pop()
            .ok_or_else(unanswered)
    }

    /// Sends the cold reads gathered so far as one grouped request.
    pub fn issue(&self) {
        let backend = self.inner.backend.borrow();
        self.inner
            .gathered
            .borrow_mut()
            .issue(&*backend, &self.inner.runtime);
    }

    /// Records waiting for cold reads.
    pub fn waiting(&self) -> usize {
        self.inner.waiting.get()
    }

    /// Drives one future on this thread, issuing the cold reads it gathers: for tests, tools and examples. Operators are driven by their
    /// runner, which overlaps many.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        let waker = Arc::new(ThreadWaker(std::thread::current())).into();
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            self.issue();
            std::thread::park();
        }
    }

    /// How reads of this access wait.
    pub(crate) fn waiting_mode(&self) -> Waiting {
        if self.inner.asynchronous {
            Waiting::Asynchronous
        } else {
            Waiting::Blocking
        }
    }

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

    async fn read<R>(
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

    async fn read_many(
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
    fn look_up_many(
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

    fn gather(&self, reads: Vec<ColdRead>) -> oneshot::Receiver<gather::ReadAnswer> {
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

    async fn answer<T>(
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

    fn count_write(&self, table: TableId) {
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

struct ThreadWaker(std::thread::Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
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

fn copied(value: Option<&[u8]>) -> Option<Bytes> {
    value.map(Bytes::copy_from_slice)
}

fn unanswered() -> StateError {
    StateError::Corrupt("the store answered fewer reads of state than it was asked".into())
}
