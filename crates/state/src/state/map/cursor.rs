//! Walks the entries of one map in pieces, from rows or from the heap.

use std::collections::VecDeque;
use std::ops::Bound;

use bytes::Bytes;

use super::{ENTRIES_PER_PIECE, heap_remove};
use crate::StateError;
use crate::access::{ScanRange, Waiting};
use crate::heap::typed::{HeapMaps, time_of};
use crate::serializer::Serializer;
use crate::state::StateValue;
use crate::state::place::{HeapPlace, Place, RowTable};
use crate::state::ttl::Life;

/// An entry as it was loaded.
pub(super) struct Entry<UV> {
    key: Bytes,
    /// Where the user key starts in `key`.
    user_key_at: usize,
    value: EntryValue<UV>,
}

enum EntryValue<UV> {
    Row(Bytes),
    Typed(UV),
}

impl<UV> Entry<UV> {
    /// The encoded user key.
    pub(super) fn user_key(&self) -> &[u8] {
        self.key.get(self.user_key_at..).unwrap_or_default()
    }

    /// What finds the entry: the whole key of its row, or on the heap its encoded user key.
    pub(super) fn key(&self) -> Bytes {
        self.key.clone()
    }

    pub(super) fn into_value<S: Serializer<UV>>(self, serializer: &S) -> Result<UV, StateError> {
        match self.value {
            EntryValue::Row(bytes) => serializer.deserialize(&bytes),
            EntryValue::Typed(value) => Ok(value),
        }
    }
}

/// See the module.
pub(super) struct Cursor<UV, S> {
    place: Place<HeapMaps<UV, S>>,
    group: u16,
    prefix: Vec<u8>,
    /// Where the next piece starts: the key of a row, or an encoded user key.
    from: Vec<u8>,
    waiting: Waiting,
    loaded: VecDeque<Entry<UV>>,
    done: bool,
}

impl<UV: StateValue, S: Serializer<UV> + Send> Cursor<UV, S> {
    pub(super) fn new(
        place: Place<HeapMaps<UV, S>>,
        group: u16,
        prefix: Vec<u8>,
        waiting: Waiting,
    ) -> Self {
        let from = match &place {
            Place::Rows(_) => prefix.clone(),
            Place::Heap(_) => Vec::new(),
        };
        Self {
            place,
            group,
            prefix,
            from,
            waiting,
            loaded: VecDeque::new(),
            done: false,
        }
    }

    /// Key group and `key ‖ namespace` of the map.
    pub(super) fn at(&self) -> (u16, &[u8]) {
        (self.group, &self.prefix)
    }

    /// The next entry that has not expired, or is shown once more.
    pub(super) async fn next(&mut self) -> Result<Option<Entry<UV>>, StateError> {
        while self.loaded.is_empty() && !self.done {
            self.load(ENTRIES_PER_PIECE).await?;
        }
        Ok(self.loaded.pop_front())
    }

    /// Whether there is no entry at all.
    pub(super) async fn has_none(mut self) -> Result<bool, StateError> {
        let mut rows_max = 1;
        while self.loaded.is_empty() && !self.done {
            self.load(rows_max).await?;
            // Only where expired entries have not been removed yet.
            rows_max = ENTRIES_PER_PIECE;
        }
        Ok(self.loaded.is_empty())
    }

    async fn load(&mut self, rows_max: usize) -> Result<(), StateError> {
        match self.place.clone() {
            Place::Rows(rows) => self.load_rows(&rows, rows_max).await,
            Place::Heap(heap) => self.load_heap(&heap, rows_max),
        }
    }

    async fn load_rows(&mut self, rows: &RowTable, rows_max: usize) -> Result<(), StateError> {
        let range = ScanRange {
            group: self.group,
            prefix: &self.prefix,
            from: &self.from,
            until: None,
            rows_max,
        };
        let mut pieces = rows
            .access
            .scan_many(rows.table, &[range], self.waiting)
            .await?;
        let Some(piece) = pieces.pop() else {
            self.done = true;
            return Ok(());
        };
        self.done = piece.done;
        if let Some((key, _)) = piece.rows.last() {
            self.from.clear();
            self.from.extend_from_slice(key);
            self.from.push(0);
        }
        let mut times = piece.times.into_iter();
        for (key, value) in piece.rows {
            let time_ms = times.next().flatten();
            if !key.starts_with(&self.prefix) {
                return Err(StateError::Corrupt(
                    "a scan of map state returned a row of another key".into(),
                ));
            }
            if let Some(ttl) = rows.ttl.as_deref() {
                match ttl.judge(time_ms) {
                    Life::Live => {}
                    Life::Extended(now_ms) => {
                        let access = &rows.access;
                        access.put_at(rows.table, self.group, &key, &value, Some(now_ms))?;
                    }
                    Life::Expired => {
                        rows.delete(self.group, &key)?;
                        if !ttl.shows_expired() {
                            continue;
                        }
                    }
                }
            }
            self.loaded.push_back(Entry {
                key,
                user_key_at: self.prefix.len(),
                value: EntryValue::Row(value),
            });
        }
        Ok(())
    }

    fn load_heap(
        &mut self,
        heap: &HeapPlace<HeapMaps<UV, S>>,
        rows_max: usize,
    ) -> Result<(), StateError> {
        let (mut extended, mut expired) = (Vec::new(), Vec::new());
        heap.with(|table, ttl| {
            let map = table.get(self.group, &self.prefix)?;
            let range = (Bound::Included(&self.from[..]), Bound::Unbounded);
            let mut rest = map.map(|map| map.range::<[u8], _>(range));
            let mut looked_at = 0;
            while looked_at < rows_max {
                let Some((key, found)) = rest.as_mut().and_then(Iterator::next) else {
                    self.done = true;
                    break;
                };
                looked_at += 1;
                self.from.clear();
                self.from.extend_from_slice(key);
                self.from.push(0);
                let key = Bytes::copy_from_slice(key);
                match ttl.map_or(Life::Live, |ttl| ttl.judge(time_of(found.time_ms))) {
                    Life::Live => {}
                    Life::Extended(now_ms) => extended.push((key.clone(), now_ms)),
                    Life::Expired => {
                        expired.push(key.clone());
                        if !ttl.is_some_and(|ttl| ttl.shows_expired()) {
                            continue;
                        }
                    }
                }
                self.loaded.push_back(Entry {
                    key,
                    user_key_at: 0,
                    value: EntryValue::Typed(found.value.clone()),
                });
            }
            for (key, now_ms) in &extended {
                let map = table.get_mut(self.group, &self.prefix)?;
                if let Some(found) = map.and_then(|map| map.get_mut(&key[..])) {
                    found.time_ms = *now_ms;
                }
            }
            for key in &expired {
                heap_remove(table, self.group, &self.prefix, key)?;
            }
            Ok(())
        })
    }
}
