//! One value per key and namespace: what value, reducing, aggregating and folding state are made of. Row: `key ‖ namespace -> value`.

use std::marker::PhantomData;

use crate::StateError;
use crate::access::{Keys, StateAccess, Values, Waiting};
use crate::heap::typed::{HeapValues, Timed};
use crate::ordered::OrderedKey;
use crate::serializer::Serializer;
use crate::state::namespace::Scope;
use crate::state::place::{HeapPlace, Place, RowTable};
use crate::state::ttl::Life;
use crate::state::{StateFuture, StateValue};

/// See the module.
pub(crate) struct Single<V, S, N> {
    pub(crate) place: Place<HeapValues<V, S>>,
    pub(crate) scope: Scope<N>,
    access: StateAccess,
    serializer: S,
    value: PhantomData<fn() -> V>,
}

impl<V, S: Clone, N> Clone for Single<V, S, N> {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
            scope: self.scope.clone(),
            access: self.access.clone(),
            serializer: self.serializer.clone(),
            value: PhantomData,
        }
    }
}

impl<V, S, N> Single<V, S, N>
where
    V: StateValue,
    S: Serializer<V> + Send,
    N: OrderedKey + 'static,
{
    pub(crate) fn new(
        access: StateAccess,
        place: Place<HeapValues<V, S>>,
        scope: Scope<N>,
        serializer: S,
    ) -> Self {
        Self {
            place,
            scope,
            access,
            serializer,
            value: PhantomData,
        }
    }

    /// The same state with a namespace of its own.
    pub(crate) fn detached(&self) -> Self {
        Self {
            scope: self.scope.detached(),
            ..self.clone()
        }
    }

    /// How V2 methods wait.
    #[inline]
    pub(crate) fn waiting(&self) -> Waiting {
        self.access.waiting_mode()
    }

    #[inline]
    pub(crate) fn get(&self, waiting: Waiting) -> StateFuture<Option<V>> {
        let answer = self.scope.with(|group, key| match &self.place {
            Place::Rows(rows) => rows.read(group, key, waiting, &self.serializer, S::deserialize),
            Place::Heap(heap) => StateFuture::ready(heap_get(heap, group, key)),
        });
        answer.unwrap_or_else(|error| StateFuture::ready(Err(error)))
    }

    #[inline]
    pub(crate) fn put(&self, value: &V) -> Result<(), StateError> {
        match &self.place {
            Place::Rows(rows) => self.put_row(rows, value),
            Place::Heap(_) => self.put_owned(value.clone()),
        }
    }

    #[inline]
    pub(crate) fn put_owned(&self, value: V) -> Result<(), StateError> {
        match &self.place {
            Place::Rows(rows) => self.put_row(rows, &value),
            Place::Heap(heap) => self.scope.try_with(|group, key| {
                let value = Timed::new(value, heap.stamp_ms());
                heap.with(|table, _| table.put(group, key, value))
            }),
        }
    }

    #[inline]
    fn put_row(&self, rows: &RowTable, value: &V) -> Result<(), StateError> {
        self.scope.try_with(|group, key| {
            rows.put_with(group, key, |out| self.serializer.serialize(value, out))
        })
    }

    pub(crate) fn clear(&self) -> Result<(), StateError> {
        self.scope.try_with(|group, key| self.remove(group, key))
    }

    fn remove(&self, group: u16, key: &[u8]) -> Result<(), StateError> {
        match &self.place {
            Place::Rows(rows) => rows.delete(group, key),
            Place::Heap(heap) => heap.with(|table, _| table.remove(group, key).map(drop)),
        }
    }

    /// Puts what `fold` makes of the present value in its place, with nothing in between.
    pub(crate) fn modify(
        &self,
        waiting: Waiting,
        fold: impl FnOnce(Option<V>) -> V + 'static,
    ) -> StateFuture<()> {
        let answer = self.scope.with(|group, key| match &self.place {
            Place::Rows(rows) => rows.modify(
                group,
                key,
                waiting,
                &self.serializer,
                S::deserialize,
                |serializer, old, out| serializer.serialize(&fold(old), out),
            ),
            Place::Heap(heap) => StateFuture::ready(heap_modify(heap, group, key, fold)),
        });
        answer.unwrap_or_else(|error| StateFuture::ready(Err(error)))
    }

    /// Moves what the current key has in the `sources` into `target`; `combine` gets what the target has first.
    pub(crate) fn merge_namespaces(
        &self,
        target: &N,
        sources: &[N],
        waiting: Waiting,
        combine: impl Fn(V, V) -> V + 'static,
    ) -> StateFuture<()> {
        let keys = match merged_keys(&self.scope, target, sources) {
            Ok(Some(keys)) => keys,
            Ok(None) => return StateFuture::ready(Ok(())),
            Err(error) => return StateFuture::ready(Err(error)),
        };
        match &self.place {
            Place::Heap(heap) => StateFuture::ready(self.merge_heap(heap, &keys, combine)),
            Place::Rows(rows) => {
                let (this, rows) = (self.clone(), rows.clone());
                StateFuture::started(async move {
                    let mut values = Values::default();
                    this.access
                        .read_many(rows.table, &keys, &mut values, waiting)
                        .await?;
                    // From here on nothing waits: these are the newest values.
                    let mut merged: Option<(V, bool)> = None;
                    for (i, value) in values.iter().enumerate() {
                        let Some(bytes) = value else { continue };
                        if i > 0 {
                            let (group, key) = keys.get(i);
                            rows.delete(group, key)?;
                        }
                        if rows.has_expired(values.time_ms(i)) {
                            continue;
                        }
                        let value = this.serializer.deserialize(bytes);
                        let value = value.map_err(|error| rows.named(keys.get(i).0, error))?;
                        merged = Some(match merged {
                            None => (value, i > 0),
                            Some((before, _)) => (combine(before, value), true),
                        });
                    }
                    match merged {
                        Some((value, true)) => {
                            let (group, key) = keys.get(0);
                            rows.put_with(group, key, |out| this.serializer.serialize(&value, out))
                        }
                        // Nothing was added to what the target had.
                        _ => Ok(()),
                    }
                })
            }
        }
    }

    fn merge_heap(
        &self,
        heap: &HeapPlace<HeapValues<V, S>>,
        keys: &Keys,
        combine: impl Fn(V, V) -> V,
    ) -> Result<(), StateError> {
        let mut merged: Option<(V, bool)> = None;
        for (i, (group, key)) in keys.iter().enumerate() {
            let taken = heap.with(|table, ttl| {
                let taken = if i == 0 {
                    table.get(group, key)?.cloned()
                } else {
                    table.take(group, key)?
                };
                let expired = |time| ttl.is_some_and(|ttl| ttl.expired(time, ttl.now_ms()));
                Ok(taken.filter(|value| !expired(value.time())))
            })?;
            if let Some(Timed { value, .. }) = taken {
                merged = Some(match merged {
                    None => (value, i > 0),
                    Some((before, _)) => (combine(before, value), true),
                });
            }
        }
        match merged {
            Some((value, true)) => {
                let (group, key) = keys.get(0);
                let value = Timed::new(value, heap.stamp_ms());
                heap.with(|table, _| table.put(group, key, value))
            }
            _ => Ok(()),
        }
    }
}

/// The encoded keys of a merge: the target's, then those of the sources, each once and without the target. `None` if there is no source.
pub(crate) fn merged_keys<N: OrderedKey + 'static>(
    scope: &Scope<N>,
    target: &N,
    sources: &[N],
) -> Result<Option<Keys>, StateError> {
    let (group, target) = scope.of(target)?;
    let mut keys = Keys::default();
    keys.push(group, &target);
    for source in sources {
        let (_, source) = scope.of(source)?;
        if keys.iter().all(|(_, known)| known != source) {
            keys.push(group, &source);
        }
    }
    Ok((keys.len() > 1).then_some(keys))
}

#[inline]
fn heap_get<V: StateValue, S: Serializer<V> + Send>(
    heap: &HeapPlace<HeapValues<V, S>>,
    group: u16,
    key: &[u8],
) -> Result<Option<V>, StateError> {
    let Some(ttl) = heap.ttl.as_deref() else {
        return Ok(heap
            .table
            .borrow()
            .get(group, key)?
            .map(|found| found.value.clone()));
    };
    heap.with(|table, _| {
        let Some(found) = table.get(group, key)? else {
            return Ok(None);
        };
        Ok(match ttl.judge(found.time()) {
            Life::Live => Some(found.value.clone()),
            Life::Extended(now_ms) => {
                let value = found.value.clone();
                table.set_time(group, key, now_ms)?;
                Some(value)
            }
            Life::Expired if ttl.shows_expired() => {
                table.take(group, key)?.map(|found| found.value)
            }
            Life::Expired => {
                table.remove(group, key)?;
                None
            }
        })
    })
}

fn heap_modify<V: StateValue, S: Serializer<V> + Send>(
    heap: &HeapPlace<HeapValues<V, S>>,
    group: u16,
    key: &[u8],
    fold: impl FnOnce(Option<V>) -> V,
) -> Result<(), StateError> {
    // The table is not borrowed while user code runs.
    let old = heap.with(|table, _| table.take(group, key))?;
    let expired = |time| {
        let ttl = heap.ttl.as_deref();
        ttl.is_some_and(|ttl| ttl.expired(time, ttl.now_ms()))
    };
    let old = old.filter(|old| !expired(old.time())).map(|old| old.value);
    let new = Timed::new(fold(old), heap.stamp_ms());
    heap.table.borrow_mut().put(group, key, new)
}
