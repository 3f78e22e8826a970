//! Walks the entries of one map in pieces, from rows or from the heap.

use std::collections::VecDeque;

use aquifer_store::ScanRows;
use bytes::Bytes;

use super::ENTRIES_PER_PIECE;
use crate::StateError;
use crate::access::{ScanRange, Waiting};
use crate::heap::typed::{HeapKey, HeapMaps, Timed};
use crate::serializer::Serializer;
use crate::state::StateValue;
use crate::state::pieces::Pieces;
use crate::state::place::{HeapPlace, Place, RowTable};
use crate::state::ttl::{Life, Ttl};

/// An entry as it was loaded.
pub(super) struct Entry<UV> {
    pub(super) key: EntryKey,
    value: EntryValue<UV>,
    /// It had expired when it was loaded, and is used up by being handed out.
    expired: bool,
}

/// What finds an entry.
pub(super) enum EntryKey {
    /// The key of its row, and where the user key starts in it.
    Row(Bytes, usize),
    /// Its encoded user key.
    Heap(HeapKey),
}

enum EntryValue<UV> {
    Row(Bytes),
    Typed(UV),
}

impl EntryKey {
    /// The encoded user key.
    pub(super) fn user_key(&self) -> &[u8] {
        match self {
            Self::Row(key, at) => key.get(*at..).unwrap_or_default(),
            Self::Heap(key) => key.as_slice(),
        }
    }

    /// The whole key of the row, or on the heap the encoded user key.
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Row(key, _) => key,
            Self::Heap(key) => key.as_slice(),
        }
    }
}

impl<UV> Entry<UV> {
    /// The encoded user key.
    pub(super) fn user_key(&self) -> &[u8] {
        self.key.user_key()
    }

    /// Its value, and what finds it again.
    pub(super) fn decode<S: Serializer<UV>>(
        self,
        serializer: &S,
    ) -> Result<(EntryKey, UV), StateError> {
        let value = match self.value {
            EntryValue::Row(bytes) => serializer.deserialize(&bytes)?,
            EntryValue::Typed(value) => value,
        };
        Ok((self.key, value))
    }
}

/// See the module.
pub(super) struct Cursor<UV, S> {
    place: Place<HeapMaps<UV, S>>,
    group: u16,
    prefix: Vec<u8>,
    /// Where the next piece starts: the key of a row, or an encoded user key. Empty: at the first.
    from: Vec<u8>,
    waiting: Waiting,
    /// Entries of the next piece.
    rows_max: usize,
    loaded: VecDeque<Entry<UV>>,
    /// Writes to the table when they were loaded, and since then by this walk.
    writes: u64,
    done: bool,
}

impl<UV: StateValue, S: Serializer<UV> + Send> Pieces for Cursor<UV, S> {
    /// One that has not expired, or is shown once more.
    type Item = Entry<UV>;

    #[inline]
    fn pop(&mut self) -> Result<Option<Entry<UV>>, StateError> {
        let entry = self.loaded.pop_front();
        if let Some(entry) = entry.as_ref().filter(|entry| entry.expired) {
            self.use_up(entry.key.as_slice())?;
        }
        Ok(entry)
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn load_now(&mut self) -> Result<bool, StateError> {
        let rows_max = std::mem::replace(&mut self.rows_max, ENTRIES_PER_PIECE);
        match self.place.clone() {
            Place::Heap(heap) => self.load_heap(&heap, rows_max)?,
            Place::Rows(rows) => match rows.access.scan_now(rows.table, self.range(rows_max))? {
                Some(piece) => self.take(&rows, piece)?,
                None => {
                    self.rows_max = rows_max;
                    return Ok(false);
                }
            },
        }
        Ok(true)
    }

    async fn load(&mut self) -> Result<(), StateError> {
        match self.place.clone() {
            Place::Rows(rows) => self.load_rows(&rows).await,
            Place::Heap(_) => self.load_now().map(drop),
        }
    }
}

impl<UV: StateValue, S: Serializer<UV> + Send> Cursor<UV, S> {
    pub(super) fn new(
        place: Place<HeapMaps<UV, S>>,
        group: u16,
        prefix: Vec<u8>,
        waiting: Waiting,
    ) -> Self {
        Self {
            place,
            group,
            prefix,
            from: Vec::new(),
            waiting,
            rows_max: ENTRIES_PER_PIECE,
            loaded: VecDeque::new(),
            writes: 0,
            done: false,
        }
    }

    /// Key group and `key ‖ namespace` of the map.
    pub(super) fn at(&self) -> (u16, &[u8]) {
        (self.group, &self.prefix)
    }

    /// Whether there is no entry at all.
    pub(super) async fn has_none(mut self) -> Result<bool, StateError> {
        // More only where expired entries have not been removed yet.
        self.rows_max = 1;
        while self.loaded.is_empty() && !self.done {
            self.load().await?;
        }
        Ok(self.loaded.is_empty())
    }

    async fn load_rows(&mut self, rows: &RowTable) -> Result<(), StateError> {
        let rows_max = std::mem::replace(&mut self.rows_max, ENTRIES_PER_PIECE);
        let mut pieces = rows
            .access
            .scan_many(rows.table, &[self.range(rows_max)], self.waiting)
            .await?;
        match pieces.pop() {
            Some(piece) => self.take(rows, piece),
            None => {
                self.done = true;
                Ok(())
            }
        }
    }

    /// The rows of the next piece.
    fn range(&self, rows_max: usize) -> ScanRange<'_> {
        let from = match self.from.is_empty() {
            true => &self.prefix,
            false => &self.from,
        };
        ScanRange {
            group: self.group,
            prefix: &self.prefix,
            from,
            until: None,
            rows_max,
        }
    }

    /// Takes a piece in that was loaded.
    fn take(&mut self, rows: &RowTable, piece: ScanRows) -> Result<(), StateError> {
        self.done = piece.done;
        if let Some((key, _)) = piece.rows.last().filter(|_| !piece.done) {
            self.from.clear();
            self.from.extend_from_slice(key);
            self.from.push(0);
        }
        let mut times = piece.times.into_iter();
        let now_ms = rows.ttl.as_deref().and_then(Ttl::now_ms);
        self.loaded.reserve(piece.rows.len());
        for (key, value) in piece.rows {
            let time_ms = times.next().flatten();
            if !key.starts_with(&self.prefix) {
                return Err(StateError::Corrupt(
                    "a scan of map state returned a row of another key".into(),
                ));
            }
            let mut expired = false;
            if let Some(ttl) = rows.ttl.as_deref() {
                match ttl.judge_at(time_ms, now_ms) {
                    Life::Live => {}
                    Life::Extended(now_ms) => {
                        let access = &rows.access;
                        access.put_at(rows.table, self.group, &key, &value, Some(now_ms))?;
                    }
                    Life::Expired if ttl.shows_expired() => expired = true,
                    Life::Expired => {
                        rows.delete(self.group, &key)?;
                        continue;
                    }
                }
            }
            self.loaded.push_back(Entry {
                key: EntryKey::Row(key, self.prefix.len()),
                value: EntryValue::Row(value),
                expired,
            });
        }
        self.writes = rows.access.writes(rows.table);
        Ok(())
    }

    /// Removes an entry that had expired when it was loaded, unless it was written since.
    fn use_up(&mut self, key: &[u8]) -> Result<(), StateError> {
        match &self.place {
            Place::Rows(rows) => {
                let is_as_loaded = self.writes == rows.access.writes(rows.table);
                if is_as_loaded || rows.shows_as_expired(self.group, key)? {
                    rows.delete(self.group, key)?;
                }
                if is_as_loaded {
                    self.writes = rows.access.writes(rows.table);
                }
                Ok(())
            }
            Place::Heap(heap) => heap.with(|table, ttl| {
                let found = table.entry(self.group, &self.prefix, key)?;
                let has_expired = |entry: &Timed<UV>| {
                    ttl.is_some_and(|ttl| ttl.judge(entry.time()) == Life::Expired)
                };
                match found.is_some_and(has_expired) {
                    true => table.remove_entry(self.group, &self.prefix, key),
                    false => Ok(()),
                }
            }),
        }
    }

    fn load_heap(
        &mut self,
        heap: &HeapPlace<HeapMaps<UV, S>>,
        rows_max: usize,
    ) -> Result<(), StateError> {
        let (done, from, loaded) = (&mut self.done, &mut self.from, &mut self.loaded);
        heap.with(|table, ttl| {
            let start = from.clone();
            let mut looked_at = 0;
            *done = true;
            settle(
                table,
                ttl,
                self.group,
                &self.prefix,
                &start,
                |key, found, seen| {
                    if looked_at == rows_max {
                        *done = false;
                        return false;
                    }
                    looked_at += 1;
                    from.clear();
                    from.extend_from_slice(key);
                    from.push(0);
                    if let Some(life) = seen {
                        loaded.push_back(Entry {
                            key: EntryKey::Heap(HeapKey::new(key)),
                            value: EntryValue::Typed(found.value.clone()),
                            expired: life == Life::Expired,
                        });
                    }
                    true
                },
            )
        })
    }
}

/// Whether a map on the heap shows no entry.
pub(super) fn heap_is_empty<UV: StateValue, S: Serializer<UV> + Send>(
    heap: &HeapPlace<HeapMaps<UV, S>>,
    group: u16,
    prefix: &[u8],
) -> Result<bool, StateError> {
    let mut empty = true;
    heap.with(|table, ttl| {
        settle(table, ttl, group, prefix, &[], |_, _, seen| {
            let go_on = empty;
            empty &= seen.is_none();
            go_on
        })
    })?;
    Ok(empty)
}

/// Shows entries from a user key on, with their life if a read may see them, until `see` says no; gives those that it keeps alive their new
/// time, and drops those that have expired and are not seen. The entry at which `see` says no is left as it is.
fn settle<UV: StateValue, S: Serializer<UV> + Send>(
    table: &mut HeapMaps<UV, S>,
    ttl: Option<&Ttl>,
    group: u16,
    prefix: &[u8],
    from: &[u8],
    mut see: impl FnMut(&[u8], &Timed<UV>, Option<Life>) -> bool,
) -> Result<(), StateError> {
    let Some(ttl) = ttl else {
        return table.walk(group, prefix, from, |key, found| {
            see(key, found, Some(Life::Live))
        });
    };
    let mut changed: Vec<(Box<[u8]>, Life)> = Vec::new();
    let now_ms = ttl.now_ms();
    table.walk(group, prefix, from, |key, found| {
        let life = ttl.judge_at(found.time(), now_ms);
        let seen = Some(life).filter(|life| *life != Life::Expired || ttl.shows_expired());
        let go_on = see(key, found, seen);
        let is_left = seen.is_some_and(|life| !matches!(life, Life::Extended(_)));
        if go_on && !is_left {
            changed.push((key.into(), life));
        }
        go_on
    })?;
    for (key, life) in changed {
        match life {
            Life::Live => {}
            Life::Extended(now_ms) => table.set_entry_time(group, prefix, &key, now_ms)?,
            Life::Expired => table.remove_entry(group, prefix, &key)?,
        }
    }
    Ok(())
}
