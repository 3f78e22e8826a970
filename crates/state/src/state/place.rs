//! Where the rows of a handle are: in a raw table of the backend, as bytes, or in a typed table on the heap.
//!
//! [`RowTable`] reads and writes single rows with the TTL of their state. What a read finds is *settled* before it is handed out: an expired row
//! is removed, a row that reading keeps alive is written back with the present time. Between the look at the newest value and what is written
//! because of it nothing waits, so a read-modify-write cannot lose another one.

use std::cell::RefCell;
use std::rc::Rc;

use aquifer_store::TableId;

use crate::StateError;
use crate::access::{Hot, Planned, StateAccess, Waiting};
use crate::heap::typed::HeapTable;
use crate::state::StateFuture;
use crate::state::ttl::{Life, Ttl};

/// Where the rows of a handle are.
pub(crate) enum Place<H> {
    /// In a raw table.
    Rows(RowTable),
    /// In a typed table.
    Heap(HeapPlace<H>),
}

impl<H> Clone for Place<H> {
    fn clone(&self) -> Self {
        match self {
            Self::Rows(rows) => Self::Rows(rows.clone()),
            Self::Heap(heap) => Self::Heap(heap.clone()),
        }
    }
}

/// A typed table with the TTL of its state.
pub(crate) struct HeapPlace<H> {
    pub(crate) table: Rc<RefCell<H>>,
    pub(crate) ttl: Option<Rc<Ttl>>,
}

impl<H> Clone for HeapPlace<H> {
    fn clone(&self) -> Self {
        Self {
            table: Rc::clone(&self.table),
            ttl: self.ttl.clone(),
        }
    }
}

impl<H: HeapTable> HeapPlace<H> {
    /// One access of the table, after which it looks whether something has expired.
    #[inline]
    pub(crate) fn with<R>(
        &self,
        access: impl FnOnce(&mut H, Option<&Ttl>) -> Result<R, StateError>,
    ) -> Result<R, StateError> {
        let mut table = self.table.borrow_mut();
        let ttl = self.ttl.as_deref();
        let answer = access(&mut table, ttl)?;
        if let Some(ttl) = ttl {
            ttl.clean(&mut *table);
        }
        Ok(answer)
    }

    /// The time of what is written now.
    pub(crate) fn stamp_ms(&self) -> Option<i64> {
        self.ttl.as_deref().and_then(Ttl::stamp_ms)
    }
}

/// A raw table with the TTL of its state.
#[derive(Clone)]
pub(crate) struct RowTable {
    pub(crate) access: StateAccess,
    pub(crate) table: TableId,
    pub(crate) ttl: Option<Rc<Ttl>>,
    scratch: Rc<RefCell<Vec<u8>>>,
}

/// What a read has found, before it is settled.
enum Found<R> {
    Absent,
    Live(R),
    /// To be written back with this time.
    Extended(R, Vec<u8>, i64),
    /// To be removed; holds the value if it is shown once more.
    Expired(Option<R>),
}

/// Decodes a row where it lies, unless it has expired and is not shown.
#[inline]
fn find<R>(
    ttl: Option<&Ttl>,
    row: Option<&[u8]>,
    time_ms: Option<i64>,
    decode: impl FnOnce(&[u8]) -> Result<R, StateError>,
) -> Result<Found<R>, StateError> {
    let Some(bytes) = row else {
        return Ok(Found::Absent);
    };
    let Some(ttl) = ttl else {
        return decode(bytes).map(Found::Live);
    };
    Ok(match ttl.judge(time_ms) {
        Life::Live => Found::Live(decode(bytes)?),
        Life::Extended(now_ms) => Found::Extended(decode(bytes)?, bytes.to_vec(), now_ms),
        Life::Expired if ttl.shows_expired() => Found::Expired(Some(decode(bytes)?)),
        Life::Expired => Found::Expired(None),
    })
}

impl RowTable {
    pub(crate) fn new(access: StateAccess, table: TableId, ttl: Option<Rc<Ttl>>) -> Self {
        Self {
            access,
            table,
            ttl,
            scratch: Rc::default(),
        }
    }

    /// Reads one row. `decode` sees it where it lies; `context` is copied only if memory cannot answer.
    #[inline]
    pub(crate) fn read<C: Clone + 'static, R: 'static>(
        &self,
        group: u16,
        key: &[u8],
        waiting: Waiting,
        context: &C,
        decode: impl Fn(&C, &[u8]) -> Result<R, StateError> + Copy + 'static,
    ) -> StateFuture<Option<R>> {
        if self.ttl.is_some() {
            return self.read_timed(group, key, waiting, context, decode);
        }
        // Decoded to where it is handed out from: nothing is left to be settled.
        let mut answer = StateFuture::ready(Ok(None));
        let see = &mut |row: Option<&[u8]>, _: Option<i64>| {
            if let Some(bytes) = row {
                let value = decode(context, bytes).map_err(|error| self.named(group, error));
                answer = StateFuture::ready(value.map(Some));
            }
        };
        match self.access.see(self.table, group, key, see) {
            Ok(None) => answer,
            Ok(Some(planned)) => self.read_cold(group, key, waiting, context, decode, planned),
            Err(error) => StateFuture::ready(Err(error)),
        }
    }

    /// Reads one row of a state with a TTL.
    fn read_timed<C: Clone + 'static, R: 'static>(
        &self,
        group: u16,
        key: &[u8],
        waiting: Waiting,
        context: &C,
        decode: impl Fn(&C, &[u8]) -> Result<R, StateError> + Copy + 'static,
    ) -> StateFuture<Option<R>> {
        let hot = self
            .access
            .look_up(self.table, group, key, &mut |row, time_ms| {
                find(self.ttl.as_deref(), row, time_ms, |bytes| {
                    decode(context, bytes)
                })
            });
        match hot {
            Ok(Hot::Answer(found)) => StateFuture::ready(
                found
                    .map_err(|error| self.named(group, error))
                    .and_then(|found| self.settle(group, key, found)),
            ),
            Ok(Hot::Cold(planned)) => self.read_cold(group, key, waiting, context, decode, planned),
            Err(error) => StateFuture::ready(Err(error)),
        }
    }

    /// Reads one row that memory does not have.
    #[cold]
    fn read_cold<C: Clone + 'static, R: 'static>(
        &self,
        group: u16,
        key: &[u8],
        waiting: Waiting,
        context: &C,
        decode: impl Fn(&C, &[u8]) -> Result<R, StateError> + Copy + 'static,
        planned: Planned,
    ) -> StateFuture<Option<R>> {
        let (this, context, key) = (self.clone(), context.clone(), key.to_vec());
        StateFuture::cold(waiting, async move {
            let ttl = this.ttl.as_deref();
            let found = this
                .access
                .finish(this.table, group, &key, planned, waiting, |row, time_ms| {
                    find(ttl, row, time_ms, |bytes| decode(&context, bytes))
                })
                .await?
                .map_err(|error| this.named(group, error))?;
            this.settle(group, &key, found)
        })
    }

    /// Reads one row and writes what `fold` makes of it, with nothing in between.
    pub(crate) fn modify<C: Clone + 'static, R: 'static>(
        &self,
        group: u16,
        key: &[u8],
        waiting: Waiting,
        context: &C,
        decode: impl Fn(&C, &[u8]) -> Result<R, StateError> + Copy + 'static,
        fold: impl FnOnce(&C, Option<R>, &mut Vec<u8>) -> Result<(), StateError> + 'static,
    ) -> StateFuture<()> {
        let hot = self
            .access
            .look_up(self.table, group, key, &mut |row, time_ms| {
                find(self.ttl.as_deref(), row, time_ms, |bytes| {
                    decode(context, bytes)
                })
            });
        match hot {
            Ok(Hot::Answer(found)) => StateFuture::ready(
                found
                    .map_err(|error| self.named(group, error))
                    .and_then(|found| self.write_folded(group, key, context, found, fold)),
            ),
            Ok(Hot::Cold(planned)) => {
                let (this, context, key) = (self.clone(), context.clone(), key.to_vec());
                StateFuture::cold(waiting, async move {
                    let ttl = this.ttl.as_deref();
                    let found = this
                        .access
                        .finish(this.table, group, &key, planned, waiting, |row, time_ms| {
                            find(ttl, row, time_ms, |bytes| decode(&context, bytes))
                        })
                        .await?
                        .map_err(|error| this.named(group, error))?;
                    this.write_folded(group, &key, &context, found, fold)
                })
            }
            Err(error) => StateFuture::ready(Err(error)),
        }
    }

    /// Writes one row with the present time, if the state has a TTL.
    #[inline]
    pub(crate) fn put(&self, group: u16, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        match self.ttl.as_deref() {
            None => self.access.put(self.table, group, key, value),
            Some(ttl) => self
                .access
                .put_at(self.table, group, key, value, ttl.stamp_ms()),
        }
    }

    /// Writes one row that `write` serializes.
    #[inline]
    pub(crate) fn put_with(
        &self,
        group: u16,
        key: &[u8],
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        // Taken, not borrowed: a serializer may use another state.
        let mut bytes = self.scratch.take();
        bytes.clear();
        let written = match write(&mut bytes) {
            Ok(()) => self.put(group, key, &bytes),
            Err(error) => Err(self.named(group, error)),
        };
        self.scratch.replace(bytes);
        written
    }

    /// Removes one row, whether it is there or not.
    #[inline]
    pub(crate) fn delete(&self, group: u16, key: &[u8]) -> Result<(), StateError> {
        self.access.delete(self.table, group, key)
    }

    /// Whether memory knows that the newest row of a key has expired and is shown.
    pub(crate) fn shows_as_expired(&self, group: u16, key: &[u8]) -> Result<bool, StateError> {
        let expired = &mut |row: Option<&[u8]>, time_ms| row.is_some() && self.has_expired(time_ms);
        Ok(
            match self.access.look_up(self.table, group, key, expired)? {
                Hot::Answer(expired) => expired,
                Hot::Cold(_) => false,
            },
        )
    }

    /// An error of a serializer with the state that it is about.
    #[cold]
    pub(crate) fn named(&self, group: u16, error: StateError) -> StateError {
        self.access.named(self.table, group, error)
    }

    /// Whether a row of this time has expired by now.
    pub(crate) fn has_expired(&self, time_ms: Option<i64>) -> bool {
        let ttl = self.ttl.as_deref();
        ttl.is_some_and(|ttl| ttl.expired(time_ms, ttl.now_ms()))
    }

    fn write_folded<C, R>(
        &self,
        group: u16,
        key: &[u8],
        context: &C,
        found: Found<R>,
        fold: impl FnOnce(&C, Option<R>, &mut Vec<u8>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let old = match found {
            Found::Live(old) | Found::Extended(old, ..) => Some(old),
            Found::Absent | Found::Expired(_) => None,
        };
        self.put_with(group, key, |out| fold(context, old, out))
    }

    fn settle<R>(&self, group: u16, key: &[u8], found: Found<R>) -> Result<Option<R>, StateError> {
        Ok(match found {
            Found::Absent => None,
            Found::Live(value) => Some(value),
            Found::Extended(value, bytes, now_ms) => {
                self.access
                    .put_at(self.table, group, key, &bytes, Some(now_ms))?;
                Some(value)
            }
            Found::Expired(value) => {
                self.delete(group, key)?;
                value
            }
        })
    }
}
