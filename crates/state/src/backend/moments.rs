//! What tables are besides their rows: the chunk that lists append to, and event time.
//!
//! Always holds: neither goes back. A snapshot has the moment at which the barrier passed the table. Of several restored parts the newest
//! chunk counts, because their keys are disjoint and a number that is too high costs nothing; and the oldest event time, so that nothing is
//! hidden that was not hidden before.

use aquifer_store::TableId;

use super::{KeyedSnapshot, ListChunk, TableMoment};

/// Bytes merged into a table after which its lists begin another chunk: no chunk becomes larger, however slowly a list grows.
const LIST_CHUNK_BYTES_MAX: u64 = 256 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    /// By table number.
    tables: Vec<Moment>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    now: State,
    /// As of the barrier that is passing.
    frozen: Option<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    chunk: u64,
    bytes: u64,
    event_time_ms: Option<i64>,
}

impl Moments {
    /// Goes on from the parts of a checkpoint.
    pub(crate) fn restored<'a>(parts: impl IntoIterator<Item = &'a KeyedSnapshot>) -> Self {
        let parts: Vec<&KeyedSnapshot> = parts.into_iter().collect();
        let mut moments = Self::default();
        // A part that says nothing of a table's event time has not known any.
        let said = |part: &KeyedSnapshot, table| {
            let moment = part.tables.iter().find(|moment| moment.table == table);
            moment.and_then(|moment| moment.event_time_ms)
        };
        for moment in parts.iter().flat_map(|part| &part.tables) {
            let known = &mut moments.at(moment.table).now;
            if (moment.list_chunk, moment.list_bytes) > (known.chunk, known.bytes) {
                (known.chunk, known.bytes) = (moment.list_chunk, moment.list_bytes);
            }
            // None is less than Some.
            known.event_time_ms = parts
                .iter()
                .map(|part| said(part, moment.table))
                .min()
                .flatten();
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
        let now = &mut self.at(table).now;
        if roll || now.bytes >= LIST_CHUNK_BYTES_MAX {
            now.chunk = now.chunk.saturating_add(1);
            now.bytes = 0;
        }
        ListChunk {
            number: now.chunk,
            oldest: 0,
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

    /// The barrier passes a table.
    pub(crate) fn freeze(&mut self, table: TableId) {
        let moment = self.at(table);
        moment.frozen.get_or_insert(moment.now);
    }

    /// The snapshot begins: every table as of its barrier, or as it is if no barrier came by.
    pub(crate) fn take(&mut self) -> Vec<TableMoment> {
        let mut all = Vec::new();
        for (number, moment) in self.tables.iter_mut().enumerate() {
            let state = moment.frozen.take().unwrap_or(moment.now);
            if state != State::default() {
                all.push(TableMoment {
                    table: TableId(u16::try_from(number).unwrap_or(u16::MAX)),
                    list_chunk: state.chunk,
                    list_bytes: state.bytes,
                    event_time_ms: state.event_time_ms,
                });
            }
        }
        all
    }

    fn at(&mut self, table: TableId) -> &mut Moment {
        let index = usize::from(table.0);
        if self.tables.len() <= index {
            self.tables.resize(index + 1, Moment::default());
        }
        &mut self.tables[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTS: TableId = TableId(3);

    fn part(list_chunk: u64, list_bytes: u64, event_time_ms: Option<i64>) -> KeyedSnapshot {
        KeyedSnapshot {
            tables: vec![TableMoment {
                table: LISTS,
                list_chunk,
                list_bytes,
                event_time_ms,
            }],
            ..KeyedSnapshot::default()
        }
    }

    #[test]
    fn chunks_move_on_when_asked_and_when_full() {
        let mut moments = Moments::default();
        let first = ListChunk {
            number: 0,
            oldest: 0,
        };
        assert_eq!(moments.list_chunk(LISTS, false), first);
        assert_eq!(moments.list_chunk(LISTS, true).number, 1);
        moments.merged(LISTS, (LIST_CHUNK_BYTES_MAX - 1) as usize);
        assert_eq!(moments.list_chunk(LISTS, false).number, 1);
        moments.merged(LISTS, 1);
        assert_eq!(moments.list_chunk(LISTS, false).number, 2);
        assert_eq!(moments.list_chunk(LISTS, false).number, 2);
        assert!(moments.take() == part(2, 0, None).tables);
    }

    #[test]
    fn a_snapshot_has_the_moment_of_the_barrier() {
        let mut moments = Moments::default();
        moments.advance(LISTS, 5);
        moments.freeze(LISTS);
        moments.advance(LISTS, 9);
        moments.advance(LISTS, 8);
        moments.freeze(LISTS);
        assert_eq!(moments.take(), part(0, 0, Some(5)).tables);
        assert_eq!(moments.take(), part(0, 0, Some(9)).tables);
        assert_eq!(moments.event_time(LISTS), Some(9));
    }

    #[test]
    fn of_several_parts_the_newest_chunk_and_the_oldest_time_count() {
        let parts = [part(2, 70, Some(100)), part(3, 10, Some(90))];
        let mut moments = Moments::restored(&parts);
        assert_eq!(moments.take(), part(3, 10, Some(90)).tables);
        let parts = [part(2, 70, Some(100)), KeyedSnapshot::default()];
        let mut moments = Moments::restored(&parts);
        assert_eq!(moments.take(), part(2, 70, None).tables);
    }
}
