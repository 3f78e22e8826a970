//! What tables are besides their rows: the chunks that lists have, and event time.
//!
//! Always holds: neither goes back. A snapshot has the moment at which the barrier passed the table. Of several restored parts the newest
//! chunk counts, because their keys are disjoint and a number that is too high costs nothing; and the oldest event time, so that nothing is
//! hidden that was not hidden before.
//!
//! In a table with a TTL, a chunk that lists no longer append to is *closed*, with a time that no element in it is later than. When that time
//! has expired nobody needs to look for the chunk any more. Where elements without a time may be in it, they count as written when the
//! table is first looked at again, or when the last element was, whatever is later.

use std::collections::{BTreeMap, VecDeque};

use aquifer_store::TableId;

use super::{ClosedChunks, KeyedSnapshot, ListChunk, ListTimes, TableMoment};

/// Bytes merged into a table after which its lists begin another chunk: no chunk becomes larger, however slowly a list grows.
const LIST_CHUNK_BYTES_MAX: u64 = 256 << 20;
/// Closed chunks of a table whose times are kept apart.
pub(crate) const LIST_CHUNKS_CLOSED_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    /// By table number.
    tables: Vec<Moment>,
    /// There may be rows from before.
    restored: bool,
}

#[derive(Clone, Debug, Default)]
struct Moment {
    now: State,
    /// As of the barrier that is passing.
    frozen: Option<(State, Vec<ClosedChunks>)>,
    /// Chunks that may hold something and are not appended to, oldest first.
    closed: VecDeque<Closed>,
    /// The present chunk may have elements without a time.
    untimed: bool,
    /// The table's user tells of times: what it does not tell of has none.
    told: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    chunk: u64,
    bytes: u64,
    /// Nothing in smaller chunks counts.
    oldest: u64,
    /// No element was written with a later time.
    latest_ms: Option<i64>,
    event_time_ms: Option<i64>,
}

/// Chunks after those of the one before, up to `last`.
#[derive(Clone, Copy, Debug)]
struct Closed {
    last: u64,
    latest_ms: Option<i64>,
    /// It may have elements without a time, which count as written now at the latest.
    untimed: bool,
}

impl State {
    /// A table as its parts go on together. `silent`: there are parts that say nothing of it. They may have lists in chunk 0, and have not known
    /// any event time.
    fn of_parts(parts: &[&TableMoment], silent: bool) -> Self {
        let all = || parts.iter();
        let newest = all().map(|part| (part.list_chunk, part.list_bytes)).max();
        let (chunk, bytes) = newest.unwrap_or_default();
        let oldest = all().map(|part| part.list_oldest).min();
        // None is less than Some.
        let event_time_ms = all().map(|part| part.event_time_ms).min().flatten();
        Self {
            chunk,
            bytes,
            oldest: oldest.filter(|_| !silent).unwrap_or(0).min(chunk),
            latest_ms: all().filter_map(|part| part.list_latest_ms).max(),
            event_time_ms: event_time_ms.filter(|_| !silent),
        }
    }
}

impl Moments {
    /// Goes on from the parts of a checkpoint.
    pub(crate) fn restored<'a>(parts: impl IntoIterator<Item = &'a KeyedSnapshot>) -> Self {
        let mut moments = Self::default();
        let mut parts_count = 0;
        // By table what each part says of it.
        let mut said: BTreeMap<TableId, Vec<&TableMoment>> = BTreeMap::new();
        for part in parts {
            parts_count += 1;
            for moment in &part.tables {
                said.entry(moment.table).or_default().push(moment);
            }
        }
        moments.restored = parts_count > 0;
        for (table, parts) in said {
            let moment = moments.at(table);
            moment.now = State::of_parts(&parts, parts.len() < parts_count);
            moment.closed = closed_of_parts(&parts, moment.now);
        }
        moments
    }

    /// Bytes were merged into a table.
    pub(crate) fn merged(&mut self, table: TableId, bytes: usize) {
        let now = &mut self.at(table).now;
        now.bytes = now.bytes.saturating_add(bytes as u64);
    }

    /// The chunk of a table's lists.
    pub(crate) fn list_chunk(&mut self, table: TableId, roll: bool) -> ListChunk {
        let moment = self.at(table);
        if roll || moment.now.bytes >= LIST_CHUNK_BYTES_MAX {
            moment.close();
        }
        ListChunk {
            number: moment.now.chunk,
            oldest: moment.now.oldest,
        }
    }

    /// What is known of the times in a table's lists.
    pub(crate) fn list_times(&mut self, table: TableId, times: ListTimes) {
        let moment = self.at(table);
        moment.told = true;
        match times {
            ListTimes::Written { chunk, latest_ms } => {
                moment.now.latest_ms = moment.now.latest_ms.max(latest_ms);
                moment.untimed |= latest_ms.is_none();
                if chunk < moment.now.chunk {
                    let at = moment.closed.partition_point(|closed| closed.last < chunk);
                    for closed in moment.closed.iter_mut().skip(at) {
                        closed.latest_ms = closed.latest_ms.max(latest_ms);
                        closed.untimed |= latest_ms.is_none();
                    }
                }
            }
            ListTimes::Now { now_ms, ttl_ms } => moment.forget_expired(now_ms, ttl_ms),
        }
    }

    /// Event time has come to `now_ms`. It does not go back.
    pub(crate) fn advance(&mut self, table: TableId, now_ms: i64) {
        let time = &mut self.at(table).now.event_time_ms;
        *time = (*time).max(Some(now_ms));
    }

    /// What is known of a table's event time.
    pub(crate) fn event_time(&self, table: TableId) -> Option<i64> {
        self.tables.get(usize::from(table.0))?.now.event_time_ms
    }

    /// A TTL begins that knows nothing of the times before: it is switched on, or counts in another time. Whatever is in the table's lists
    /// counts as written without a time, and event time has not begun.
    pub(crate) fn forget_times(&mut self, table: TableId) {
        let moment = self.at(table);
        (moment.now.event_time_ms, moment.now.latest_ms) = (None, None);
        moment.untimed = true;
        let last = moment.closed.back().map(|closed| closed.last);
        moment.closed.clear();
        moment.closed.extend(last.map(|last| Closed {
            last,
            latest_ms: None,
            untimed: true,
        }));
    }

    /// The barrier passes a table.
    pub(crate) fn freeze(&mut self, table: TableId) {
        let moment = self.at(table);
        if moment.frozen.is_none() {
            moment.frozen = Some((moment.now, moment.closed()));
        }
    }

    /// The snapshot begins: every table as of its barrier, or as it is if no barrier came by.
    pub(crate) fn take(&mut self) -> Vec<TableMoment> {
        let mut all = Vec::new();
        for (number, moment) in self.tables.iter_mut().enumerate() {
            let frozen = moment.frozen.take();
            let (state, list_closed) = frozen.unwrap_or_else(|| (moment.now, moment.closed()));
            if state != State::default() {
                all.push(TableMoment {
                    table: TableId(u16::try_from(number).unwrap_or(u16::MAX)),
                    list_chunk: state.chunk,
                    list_bytes: state.bytes,
                    list_oldest: state.oldest,
                    list_latest_ms: state.latest_ms,
                    list_closed,
                    event_time_ms: state.event_time_ms,
                });
            }
        }
        all
    }

    fn at(&mut self, table: TableId) -> &mut Moment {
        let index = usize::from(table.0);
        if self.tables.len() <= index {
            let untimed = self.restored;
            self.tables.resize_with(index + 1, || Moment {
                untimed,
                ..Moment::default()
            });
        }
        &mut self.tables[index]
    }
}

/// What is known of chunks before the present one, of whichever part.
fn closed_of_parts(parts: &[&TableMoment], now: State) -> VecDeque<Closed> {
    // The chunk that a part appended to is closed if another part has come further.
    let said = |part: &TableMoment| {
        let mut said = part.list_closed.clone();
        let open = [part.list_chunk.checked_sub(1), Some(part.list_chunk)];
        for last in open.into_iter().flatten() {
            if said.last().is_none_or(|known| known.last < last) {
                said.push(ClosedChunks {
                    last,
                    latest_ms: None,
                });
            }
        }
        said
    };
    let said: Vec<Vec<ClosedChunks>> = parts.iter().map(|part| said(part)).collect();
    let mut lasts: Vec<u64> = said.iter().flatten().map(|closed| closed.last).collect();
    lasts.retain(|last| (now.oldest..now.chunk).contains(last));
    lasts.sort_unstable();
    lasts.dedup();
    let of_all_parts = |last: u64| {
        let covering = said.iter().filter_map(|part| {
            let at = part.partition_point(|closed| closed.last < last);
            part.get(at)
        });
        let mut closed = Closed {
            last,
            latest_ms: None,
            untimed: false,
        };
        for part in covering {
            closed.latest_ms = closed.latest_ms.max(part.latest_ms.or(now.latest_ms));
            closed.untimed |= part.latest_ms.is_none();
        }
        closed
    };
    let mut closed = VecDeque::new();
    for last in lasts {
        push_closed(&mut closed, of_all_parts(last));
    }
    closed
}

/// Adds the next closed chunks, together with those before where their times need not be told apart, or cannot.
fn push_closed(all: &mut VecDeque<Closed>, next: Closed) {
    let is_full = all.len() >= LIST_CHUNKS_CLOSED_MAX;
    match all.back_mut() {
        Some(back) if is_full || (back.untimed && next.untimed) => {
            back.last = next.last;
            back.latest_ms = back.latest_ms.max(next.latest_ms);
            back.untimed |= next.untimed;
        }
        _ => all.push_back(next),
    }
}

impl Moment {
    /// The closed chunks as a snapshot has them.
    fn closed(&self) -> Vec<ClosedChunks> {
        let closed = self.closed.iter().map(|closed| ClosedChunks {
            last: closed.last,
            latest_ms: closed.latest_ms.filter(|_| !closed.untimed),
        });
        let mut closed: Vec<ClosedChunks> = closed.collect();
        // This goes without saying.
        if closed.last().is_some_and(|last| last.latest_ms.is_none()) {
            closed.pop();
        }
        closed
    }

    /// Lists append to the next chunk from now on.
    fn close(&mut self) {
        let Some(next) = self.now.chunk.checked_add(1) else {
            return;
        };
        let closed = Closed {
            last: self.now.chunk,
            latest_ms: self.now.latest_ms,
            untimed: std::mem::take(&mut self.untimed) || !self.told,
        };
        push_closed(&mut self.closed, closed);
        (self.now.chunk, self.now.bytes) = (next, 0);
    }

    /// Chunks of which everything has expired do not count any more.
    fn forget_expired(&mut self, now_ms: i64, ttl_ms: u64) {
        for closed in self.closed.iter_mut().filter(|closed| closed.untimed) {
            closed.latest_ms = closed.latest_ms.max(Some(now_ms));
            closed.untimed = false;
        }
        while let Some(closed) = self.closed.front() {
            let ends_ms = match closed.latest_ms {
                // A sum that is later than the latest time there is never comes.
                Some(latest_ms) => latest_ms.checked_add_unsigned(ttl_ms),
                None => Some(i64::MIN),
            };
            if ends_ms.is_none_or(|ends_ms| now_ms < ends_ms) {
                return;
            }
            self.now.oldest = closed.last + 1;
            self.closed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
