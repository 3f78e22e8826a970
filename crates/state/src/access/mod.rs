//! How operators read and write state without caring whether it is hot or cold.
//!
//! **A fetched value is only used if nothing newer can exist.** While a cold read is under way, other records may write the same key, and
//! a flush may move a newer value from the memtable into a file that the read was not planned on. So at the moment of use either nothing
//! was written to the table since the read was planned, or the key is looked up again: an answer from memory wins; if memory still has
//! none and no file was installed meanwhile, the fetched value is the newest; otherwise it is fetched again. Where operands are
//! merged, memory may know some of a key and still be cold: then they must be the same as well ([`aquifer_store::Moment`]). After
//! a few rounds the read blocks the worker, which keeps writes and installs out, and ends.
//!
//! Writes to a table must go through clones of one [`StateAccess`] (an operator owns its tables), because they are counted here.

mod batch;
mod gather;
mod newest;
mod read;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

use aquifer_store::{KeyGroupRange, ScanRows, TableId};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

pub use self::batch::{Keys, Values};
use self::gather::Gatherer;
use self::newest::Written;
pub(crate) use self::read::{Hot, Planned, ScanRange, Waiting, ready};
use self::read::{copied, unanswered};
use crate::{ListChunk, ListTimes, SharedBackend, StateError};

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
    /// By table number.
    writes: RefCell<Vec<Written>>,
    waiting: Cell<usize>,
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
        let cold = self.look_up_many(table, keys, &mut |_, _, _| {})?;
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
    #[inline]
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

    /// Writes one key that was written at `time_ms`: what a TTL counts from.
    pub fn put_at(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        value: &[u8],
        time_ms: Option<i64>,
    ) -> Result<(), StateError> {
        self.count_write(table);
        let mut backend = self.inner.backend.borrow_mut();
        backend.put_at(table, group, key, value, time_ms)
    }

    /// Appends an operand to what a key of a table with `Merge::Append` holds, without reading it. Returns how many bytes of the row
    /// memory holds now.
    pub fn merge(
        &self,
        table: TableId,
        group: u16,
        key: &[u8],
        operand: &[u8],
        time_ms: Option<i64>,
    ) -> Result<usize, StateError> {
        self.count_merge(table);
        let mut backend = self.inner.backend.borrow_mut();
        backend.merge(table, group, key, operand, time_ms)
    }

    /// Removes every key of a group that starts with `prefix`, without reading.
    pub fn delete_prefix(
        &self,
        table: TableId,
        group: u16,
        prefix: &[u8],
    ) -> Result<(), StateError> {
        self.count_write(table);
        let mut backend = self.inner.backend.borrow_mut();
        backend.delete_prefix(table, group, prefix)
    }

    /// The chunk that the table's lists append to; `roll` moves on to the next one.
    pub fn list_chunk(&self, table: TableId, roll: bool) -> Result<ListChunk, StateError> {
        self.inner.backend.borrow_mut().list_chunk(table, roll)
    }

    /// Tells of the times in a table's lists: see `KeyedStateBackend::list_times`.
    pub fn list_times(&self, table: TableId, times: ListTimes) -> Result<(), StateError> {
        self.inner.backend.borrow_mut().list_times(table, times)
    }

    /// While this is `all`, reads of a table show every row there is: see `KeyedStateBackend::show_expired`.
    pub(crate) fn show_expired(&self, table: TableId, all: bool) -> Result<(), StateError> {
        self.inner.backend.borrow_mut().show_expired(table, all)
    }

    /// Event time of a table whose TTL counts in it. Time that goes back is ignored.
    pub fn advance_event_time(&self, table: TableId, now_ms: i64) -> Result<(), StateError> {
        let mut backend = self.inner.backend.borrow_mut();
        backend.advance_event_time(table, now_ms)
    }

    /// Event time of a table has begun: its rows without a time count as written then.
    pub fn count_untimed_as(&self, table: TableId, time_ms: i64) -> Result<(), StateError> {
        let mut backend = self.inner.backend.borrow_mut();
        backend.count_untimed_as(table, time_ms)
    }

    /// Event time of a table: the last that it was told, or restored.
    pub fn event_time(&self, table: TableId) -> Option<i64> {
        self.inner.backend.borrow().event_time(table)
    }

    /// Processing time, in milliseconds since the Unix epoch.
    pub fn clock_ms(&self) -> i64 {
        self.inner.backend.borrow().clock_ms()
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

    /// Cold reads that were gathered and not sent.
    pub fn gathered(&self) -> usize {
        self.inner.gathered.borrow().len()
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

    /// Says of which state an error of a serializer is. Nothing is kept for it: the name is looked up where there is an error.
    #[cold]
    pub(crate) fn named(&self, table: TableId, group: u16, error: StateError) -> StateError {
        let tables = self.backend().try_borrow().map(|backend| backend.tables());
        let found = tables.ok().and_then(|tables| {
            let mut tables = tables.into_iter();
            tables.find(|(_, id)| *id == table)
        });
        match found {
            Some((state, _)) => error.of_state(&state, group),
            None => error,
        }
    }

    /// How reads of this access wait.
    #[inline]
    pub(crate) fn waiting_mode(&self) -> Waiting {
        if self.inner.asynchronous {
            Waiting::Asynchronous
        } else {
            Waiting::Blocking
        }
    }
}

struct ThreadWaker(std::thread::Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
