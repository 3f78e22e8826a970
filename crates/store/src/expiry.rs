//! By which now the rows of each table expire.
//!
//! Most tables go by the clock. Tables that were created with [`TableOptions::event_time`] have a now of their own, which is how far
//! their input has come, and which need not come near the clock. A read asks for the now of its table when it needs one. Whatever
//! looks at many tables at once takes an [`ExpiryClock`] along: one moment, the same for all its rows, and in bytes where it goes to
//! another process. A table that goes by event time and is not in it is before its first: nothing of it expires.
//!
//! [`TableOptions::event_time`]: crate::TableOptions::event_time
use crate::TableId;
use crate::encoding::{Reader, put_varint};
use crate::error::{Error, Result};
use crate::rules::Rules;

/// The now of a table that goes by event time and has not been told any.
pub(crate) const BEFORE_ALL: i64 = i64::MIN;

/// One moment of all tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExpiryClock {
    /// Milliseconds since the Unix epoch.
    wall_ms: i64,
    /// Tables that go by event time, ascending, with theirs.
    event_ms: Vec<(TableId, i64)>,
}

impl ExpiryClock {
    /// A moment; the tables come ascending.
    pub(crate) fn new(wall_ms: i64, event_ms: impl IntoIterator<Item = (TableId, i64)>) -> Self {
        Self {
            wall_ms,
            event_ms: event_ms.into_iter().collect(),
        }
    }

    /// What the clock says.
    pub(crate) fn wall_ms(&self) -> i64 {
        self.wall_ms
    }

    /// The now of a table with these rules.
    pub(crate) fn of(&self, table: TableId, rules: &Rules) -> i64 {
        if !rules.event_time {
            return self.wall_ms;
        }
        let at = self.event_ms.binary_search_by_key(&table, |(id, _)| *id);
        at.ok()
            .and_then(|at| self.event_ms.get(at))
            .map_or(BEFORE_ALL, |(_, now_ms)| *now_ms)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.wall_ms.to_le_bytes());
        put_varint(out, self.event_ms.len() as u64);
        for (table, now_ms) in &self.event_ms {
            out.extend_from_slice(&table.0.to_le_bytes());
            out.extend_from_slice(&now_ms.to_le_bytes());
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let wall_ms = reader.u64("clock")?.cast_signed();
        let count = reader.count(10, "number of tables with event time")?;
        let mut event_ms: Vec<(TableId, i64)> =
            Vec::with_capacity(count.min(usize::from(u16::MAX) + 1));
        for _ in 0..count {
            let table = TableId(reader.u16("table with event time")?);
            if event_ms.last().is_some_and(|(last, _)| *last >= table) {
                return Err(Error::corrupt(format!(
                    "the event time of table {} is out of order in a compaction task",
                    table.0
                )));
            }
            event_ms.push((table, reader.u64("event time of a table")?.cast_signed()));
        }
        Ok(Self { wall_ms, event_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(event_time: bool) -> Rules {
        Rules {
            event_time,
            ..Rules::UNKNOWN
        }
    }

    #[test]
    fn each_table_has_its_now() {
        let clock = ExpiryClock::new(70, [(TableId(3), 5), (TableId(9), i64::MAX)]);
        assert_eq!(clock.of(TableId(3), &rules(true)), 5);
        assert_eq!(clock.of(TableId(9), &rules(true)), i64::MAX);
        assert_eq!(clock.of(TableId(4), &rules(true)), BEFORE_ALL);
        assert_eq!(clock.of(TableId(3), &rules(false)), 70);
        assert_eq!(clock.wall_ms(), 70);
    }

    #[test]
    fn moments_come_back_and_hostile_ones_are_errors() {
        let decode = |bytes: &[u8]| {
            let mut reader = Reader::new("a moment", bytes);
            let clock = ExpiryClock::decode(&mut reader)?;
            reader.finish().map(|()| clock)
        };
        let encoded = |clock: &ExpiryClock| {
            let mut bytes = Vec::new();
            clock.encode(&mut bytes);
            bytes
        };
        for clock in [
            ExpiryClock::default(),
            ExpiryClock::new(
                -7,
                [(TableId(0), BEFORE_ALL), (TableId(u16::MAX), i64::MAX)],
            ),
        ] {
            let bytes = encoded(&clock);
            assert_eq!(decode(&bytes).unwrap(), clock);
            for len in 0..bytes.len() {
                assert!(decode(&bytes[..len]).is_err(), "cut at {len}");
            }
        }
        for unsorted in [[4, 4], [4, 3]] {
            let tables = unsorted.map(|id| (TableId(id), 1));
            assert!(decode(&encoded(&ExpiryClock::new(0, tables))).is_err());
        }
        let mut many = vec![0; 8];
        put_varint(&mut many, u64::MAX);
        assert!(decode(&many).is_err());
    }
}
