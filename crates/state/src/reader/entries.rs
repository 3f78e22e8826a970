//! Entries of a table: rows cut into key, namespace and user key, lists into elements, what has expired passed over. Values are still bytes.

use std::sync::Arc;

use aquifer_store::{KeyGroupRange, TableId};

use super::Shared;
use super::raw::{RawRows, Wanted};
use super::tables::{ReadableTable, TableKind, TableSource};
use super::unkeyed::Piece;
use crate::dynamic::DynamicValue;
use crate::ordered::{OrderedKey, decode_bytes};
use crate::serializer::StateKind;
use crate::state::chunks::Frames;
use crate::ttl::TtlRule;
use crate::{StateError, TableMoment};

/// One entry.
pub(super) struct Entry<'a> {
    pub(super) group: Option<u16>,
    pub(super) head: &'a Head,
    pub(super) user_key: Option<DynamicValue>,
    pub(super) value: Content<'a>,
    pub(super) index: Option<u64>,
    pub(super) written_ms: Option<i64>,
    pub(super) expires_ms: Option<i64>,
    /// Whether key or namespace are others than those of the entry before.
    pub(super) is_new_key: bool,
}

/// What an entry holds.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Bytes(&'a [u8]),
    /// Of a timer: its time.
    Time(i64),
}

/// What all entries of a key and namespace have in common.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub(super) key: DynamicValue,
    pub(super) namespace: Option<DynamicValue>,
}

/// Walks the entries of a table.
pub(super) struct Entries {
    shared: Arc<Shared>,
    table: ReadableTable,
    from: From,
    /// Where the bytes of a key are not enough to find its rows, others are passed over.
    only_key: Option<DynamicValue>,
    /// The moment by which processing time counts.
    now_ms: i64,
    head: Option<OpenHead>,
    /// Where the next element of the present chunk starts.
    chunk_at: Option<usize>,
}

/// Where rows come from.
enum From {
    Files(Box<RawRows>, TableId),
    /// What is not keyed: pieces, and the places of the next element: in which of them, there, and among all.
    Metadata {
        pieces: Vec<Piece>,
        piece: usize,
        at: usize,
        index: u64,
    },
    Nowhere,
}

/// The key and namespace of the last entry.
struct OpenHead {
    group: u16,
    bytes: Vec<u8>,
    head: Head,
    /// Entries of it that were shown.
    elements: u64,
}

/// The parts of a row's key.
struct Split<'a> {
    head: Head,
    /// Bytes of key and namespace.
    head_bytes: &'a [u8],
    user_key: Option<DynamicValue>,
    timer_ms: Option<i64>,
    /// Of a list: which chunk of it.
    chunk: Option<u64>,
}

impl Entries {
    pub(super) fn open(
        shared: Arc<Shared>,
        table: &ReadableTable,
        part: KeyGroupRange,
        only_key: Option<&DynamicValue>,
    ) -> Result<Self, StateError> {
        let mut wanted = Wanted {
            groups: part,
            prefix: Vec::new(),
        };
        let (mut only, mut nowhere) = (None, false);
        if let Some(key) = only_key {
            // Keys of rows lie in order; those of broadcast maps are compared when they have been read.
            let bytes = match table.kind.is_keyed() {
                true => table.key.encode_key(key)?,
                false => Vec::new(),
            };
            let group = table.key.key_group(key, shared.metadata.max_parallelism);
            if let Some(group) = group.filter(|_| table.kind.is_keyed()) {
                let one = KeyGroupRange {
                    start: group,
                    end: group,
                };
                match part.intersection(one) {
                    Some(one) => wanted.groups = one,
                    None => nowhere = true,
                }
            }
            // Timers begin with their time.
            if table.kind != TableKind::Keyed(StateKind::Timers) {
                wanted.prefix = bytes;
            }
            // Other bytes that are not understood may begin alike.
            let is_found =
                !wanted.prefix.is_empty() && table.key.ends_by_itself() && table.kind.is_keyed();
            only = (!is_found).then(|| key.clone());
        }
        let from = match &table.source {
            _ if nowhere => From::Nowhere,
            TableSource::Keyed(id) => From::Files(
                Box::new(RawRows::open(Arc::clone(&shared), *id, wanted)?),
                *id,
            ),
            // It lies in no key group; the part with the first one shows it.
            TableSource::Unkeyed(pieces) if part.contains(0) => From::Metadata {
                pieces: pieces.clone(),
                piece: 0,
                at: 0,
                index: 0,
            },
            TableSource::Unkeyed(_) => From::Nowhere,
        };
        Ok(Self {
            now_ms: (shared.environment.clock)(),
            shared,
            table: table.clone(),
            from,
            only_key: only,
            head: None,
            chunk_at: None,
        })
    }

    /// Bytes of rows that are held.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.from {
            From::Files(rows, _) => rows.held_bytes(),
            From::Metadata { .. } | From::Nowhere => 0,
        }
    }

    /// Shows the next entry to `each`; `None` after the last.
    pub(super) fn next<T>(
        &mut self,
        each: impl FnOnce(&ReadableTable, Entry<'_>) -> Result<T, StateError>,
    ) -> Result<Option<T>, StateError> {
        let shown = match self.from {
            From::Files(..) => self.next_of_files(each),
            From::Metadata { .. } => self.next_of_metadata(each),
            From::Nowhere => Ok(None),
        };
        shown.map_err(|error| named(&self.table, error))
    }

    fn next_of_metadata<T>(
        &mut self,
        each: impl FnOnce(&ReadableTable, Entry<'_>) -> Result<T, StateError>,
    ) -> Result<Option<T>, StateError> {
        let From::Metadata {
            pieces,
            piece,
            at,
            index,
        } = &mut self.from
        else {
            return Ok(None);
        };
        while let Some(present) = pieces.get(*piece) {
            let Some(element) = present.get(&self.shared.metadata, *at) else {
                (*piece, *at) = (*piece + 1, 0);
                continue;
            };
            *at += 1;
            let head = Head {
                key: match element.key {
                    Some(key) => self.table.key.decode(key)?,
                    None => DynamicValue::Null,
                },
                namespace: None,
            };
            if self.only_key.as_ref().is_some_and(|key| *key != head.key) {
                continue;
            }
            let entry = Entry {
                group: element.group,
                head: &head,
                user_key: None,
                value: Content::Bytes(element.value),
                index: self.table.kind.has_index().then_some(*index),
                written_ms: None,
                expires_ms: None,
                is_new_key: element.key.is_some() || *index == 0,
            };
            *index += 1;
            return each(&self.table, entry).map(Some);
        }
        Ok(None)
    }

    fn next_of_files<T>(
        &mut self,
        each: impl FnOnce(&ReadableTable, Entry<'_>) -> Result<T, StateError>,
    ) -> Result<Option<T>, StateError> {
        let is_list = self.table.kind == TableKind::Keyed(StateKind::List);
        let From::Files(rows, id) = &mut self.from else {
            return Ok(None);
        };
        loop {
            if self.chunk_at.is_none() && !rows.advance()? {
                return Ok(None);
            }
            let Some(row) = rows.current() else {
                return Ok(None);
            };
            let mut user_key = None;
            let mut content = Content::Bytes(row.value);
            let mut time_ms = row.time_ms;
            if self.chunk_at.is_none() {
                let split = split(&self.table, row.key)?;
                // Chunks before the oldest have expired as a whole, whatever the TTL is now.
                let moment = moment(&self.shared, row.part, *id);
                let is_over = split
                    .chunk
                    .zip(moment)
                    .is_some_and(|(chunk, moment)| chunk < moment.list_oldest);
                if is_over && !self.shared.show_expired {
                    continue;
                }
                let known = self.head.as_ref();
                let is_new_key = known.is_none_or(|known| {
                    known.group != row.group || known.bytes != split.head_bytes
                });
                if is_new_key {
                    self.head = Some(OpenHead {
                        group: row.group,
                        bytes: split.head_bytes.to_vec(),
                        head: split.head,
                        elements: 0,
                    });
                }
                user_key = split.user_key;
                if let Some(time) = split.timer_ms {
                    content = Content::Time(time);
                }
                self.chunk_at = is_list.then_some(0);
            }
            let Some(open) = &mut self.head else {
                return Ok(None);
            };
            if self
                .only_key
                .as_ref()
                .is_some_and(|key| *key != open.head.key)
            {
                self.chunk_at = None;
                continue;
            }
            if let Some(at) = self.chunk_at {
                let mut frames = Frames::from(row.value, at);
                let Some(frame) = frames.next()? else {
                    self.chunk_at = None;
                    continue;
                };
                self.chunk_at = Some(frames.at());
                content = Content::Bytes(frame.bytes);
                time_ms = frame.time_ms;
            }
            let (expires_ms, has_expired) = expiry(
                &self.shared,
                &self.table,
                *id,
                row.part,
                time_ms,
                self.now_ms,
            );
            if has_expired && !self.shared.show_expired {
                continue;
            }
            // The first that is shown tells of a key, even if it is not its first.
            let is_new_key = open.elements == 0;
            let index = is_list.then_some(open.elements);
            open.elements += 1;
            let entry = Entry {
                group: Some(row.group),
                head: &open.head,
                user_key,
                value: content,
                index,
                written_ms: time_ms,
                expires_ms,
                is_new_key,
            };
            return each(&self.table, entry).map(Some);
        }
    }
}

/// What a part of the checkpoint says of a table besides its rows.
fn moment(shared: &Shared, part: usize, table: TableId) -> Option<&TableMoment> {
    let (_, snapshot) = shared.metadata.keyed.get(part)?;
    snapshot.moment(table)
}

/// When an entry expires, and whether it has.
fn expiry(
    shared: &Shared,
    table: &ReadableTable,
    id: TableId,
    part: usize,
    time_ms: Option<i64>,
    now_ms: i64,
) -> (Option<i64>, bool) {
    let Some(ttl_ms) = table.ttl_ms else {
        return (None, false);
    };
    let rule = TtlRule {
        ttl_ms,
        untimed_as_ms: table.untimed_as_ms,
    };
    let now_ms = match table.event_time {
        false => Some(now_ms),
        true => moment(shared, part, id).and_then(|moment| moment.event_time_ms),
    };
    let written = time_ms.max(table.untimed_as_ms);
    let expires = written.and_then(|written| written.checked_add_unsigned(ttl_ms));
    // Before the first watermark nothing has expired.
    let has_expired = now_ms.is_some_and(|now_ms| rule.expired(time_ms, now_ms));
    (expires, has_expired)
}

fn split<'a>(table: &ReadableTable, bytes: &'a [u8]) -> Result<Split<'a>, StateError> {
    let TableKind::Keyed(kind) = table.kind else {
        return Err(damaged(bytes, "its table has no keys"));
    };
    let mut rest = bytes;
    if kind == StateKind::Timers {
        let time = i64::decode_ordered(&mut rest)?;
        let key = table.key.decode(&decode_bytes(&mut rest)?)?;
        let namespace = (!rest.is_empty()).then(|| DynamicValue::Bytes(rest.to_vec()));
        return Ok(Split {
            head: Head { key, namespace },
            head_bytes: bytes.get(8..).unwrap_or_default(),
            user_key: None,
            timer_ms: Some(time),
            chunk: None,
        });
    }
    let mut chunk = None;
    if kind == StateKind::List {
        let cut = rest.split_last_chunk::<8>();
        let (head, number) = cut.ok_or_else(|| damaged(bytes, "it has no number of a chunk"))?;
        (rest, chunk) = (head, Some(u64::from_be_bytes(*number)));
    }
    let whole = rest;
    let key = table.key.take(&mut rest)?;
    let namespace = match &table.namespace {
        // Where the key's end is not known, all is key.
        Some(namespace) if table.key.ends_by_itself() => Some(namespace.take(&mut rest)?),
        _ => None,
    };
    let head_bytes = whole.get(..whole.len() - rest.len()).unwrap_or_default();
    let namespace_ends = table
        .namespace
        .as_ref()
        .is_none_or(|known| known.ends_by_itself());
    let user_key = match &table.user_key {
        Some(user_key) if table.key.ends_by_itself() && namespace_ends => {
            Some(user_key.take(&mut rest)?)
        }
        _ => None,
    };
    if !rest.is_empty() {
        return Err(damaged(bytes, "it is longer than its types say"));
    }
    Ok(Split {
        head: Head { key, namespace },
        head_bytes,
        user_key,
        timer_ms: None,
        chunk,
    })
}

fn damaged(key: &[u8], what: &str) -> StateError {
    StateError::Corrupt(format!("a row with a key of {} bytes: {what}", key.len()))
}

/// Says of which state damaged bytes are.
fn named(table: &ReadableTable, error: StateError) -> StateError {
    match error {
        StateError::Corrupt(what) => StateError::Corrupt(format!(
            "state `{}` of operator `{}` cannot be read: {what}",
            table.state, table.operator
        )),
        error => error,
    }
}
