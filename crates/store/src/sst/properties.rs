//! What a file holds, counted while it was written: in all, per table, and per key group.
//!
//! Counts are for people and for deciding what to compact; reads do not depend on them, but scans do on the tables whose
//! prefixes are in the filter.
use crate::encoding::{Reader, put_varint};
use crate::error::Result;
use crate::key::KEY_HEADER_BYTES;
use crate::row::{RowKind, RowRef};
use crate::sst::seal::{Name, damaged};

/// What some rows amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    pub(crate) tombstones: u64,
    /// Rows that are merge operands.
    pub(crate) operands: u64,
    /// Keys without group and table.
    pub(crate) key_bytes: u64,
    /// Values, as long as they are when nothing is compressed.
    pub(crate) value_bytes: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.tombstones += other.tombstones;
        self.operands += other.operands;
        self.key_bytes += other.key_bytes;
        self.value_bytes += other.value_bytes;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.rows);
        put_varint(out, self.tombstones);
        put_varint(out, self.operands);
        put_varint(out, self.key_bytes);
        put_varint(out, self.value_bytes);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            rows: reader.varint("rows")?,
            tombstones: reader.varint("tombstones")?,
            operands: reader.varint("operands")?,
            key_bytes: reader.varint("key bytes")?,
            value_bytes: reader.varint("value bytes")?,
        })
    }
}

/// Counts of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    /// By table id, ascending.
    pub(crate) tables: Vec<(u16, Tally)>,
    /// By key group, ascending.
    pub(crate) groups: Vec<(u16, Tally)>,
    /// Tables of whose rows the filter has prefixes, ascending, with an identity of the prefixes' shape. Scans depend on it.
    pub(crate) prefixes: Vec<(u16, u64)>,
}

/// Counts rows as they come, in key order.
#[derive(Default)]
pub(crate) struct Counter {
    header: [u8; KEY_HEADER_BYTES],
    current: Tally,
    all: Properties,
}

impl Counter {
    /// Counts a row of `value_bytes` plain bytes.
    #[inline]
    pub(crate) fn add(&mut self, key: &[u8], row: &RowRef<'_>, value_bytes: u64) {
        let header = key.first_chunk().copied().unwrap_or_default();
        if header != self.header {
            self.close();
            self.header = header;
        }
        let now = &mut self.current;
        now.rows += 1;
        now.tombstones += u64::from(row.kind == RowKind::Tombstone);
        now.operands += u64::from(row.kind == RowKind::Operands);
        now.key_bytes += (key.len() - KEY_HEADER_BYTES.min(key.len())) as u64;
        now.value_bytes += value_bytes;
    }

    /// Notes that the filter has prefixes of a table's rows.
    pub(crate) fn note_prefixes(&mut self, table: u16, shape: u64) {
        let known = &mut self.all.prefixes;
        if let Err(at) = known.binary_search_by_key(&table, |(known, _)| *known) {
            known.insert(at, (table, shape));
        }
    }

    fn close(&mut self) {
        let [g0, g1, t0, t1] = self.header;
        let tally = std::mem::take(&mut self.current);
        if tally.rows > 0 {
            tally_of(&mut self.all.groups, u16::from_be_bytes([g0, g1])).add(&tally);
            tally_of(&mut self.all.tables, u16::from_be_bytes([t0, t1])).add(&tally);
        }
    }

    pub(crate) fn finish(mut self) -> Properties {
        self.close();
        self.all
    }
}

fn tally_of(of: &mut Vec<(u16, Tally)>, id: u16) -> &mut Tally {
    let at = match of.binary_search_by_key(&id, |(known, _)| *known) {
        Ok(at) => at,
        Err(at) => {
            of.insert(at, (id, Tally::default()));
            at
        }
    };
    &mut of[at].1
}

impl Properties {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for list in [&self.tables, &self.groups] {
            put_varint(out, list.len() as u64);
            for (id, tally) in list {
                put_varint(out, u64::from(*id));
                tally.encode(out);
            }
        }
        put_varint(out, self.prefixes.len() as u64);
        for (table, shape) in &self.prefixes {
            put_varint(out, u64::from(*table));
            out.extend_from_slice(&shape.to_le_bytes());
        }
    }

    /// Whether the filter has the prefixes of a table's rows, in this shape.
    pub(crate) fn has_prefixes(&self, table: u16, shape: u64) -> bool {
        self.prefixes.binary_search(&(table, shape)).is_ok()
    }

    pub(crate) fn decode(what: Name<'_>, bytes: &[u8]) -> Result<Self> {
        let whole = what();
        let mut reader = Reader::new(&whole, bytes);
        let mut list = || {
            let count = reader.count(6, "number of counts")?;
            let mut out: Vec<(u16, Tally)> = Vec::with_capacity(count);
            for _ in 0..count {
                let id = reader.varint("id")?;
                let id = u16::try_from(id)
                    .ok()
                    .filter(|id| out.last().is_none_or(|(last, _)| last < id))
                    .ok_or_else(|| damaged(what, &format!("id {id} is out of order")))?;
                out.push((id, Tally::decode(&mut reader)?));
            }
            Ok(out)
        };
        let (tables, groups) = (list()?, list()?);
        let count = reader.count(9, "number of prefix shapes")?;
        let mut prefixes: Vec<(u16, u64)> = Vec::with_capacity(count);
        for _ in 0..count {
            let table = reader.varint("table")?;
            let table = u16::try_from(table)
                .ok()
                .filter(|table| prefixes.last().is_none_or(|(last, _)| last < table))
                .ok_or_else(|| damaged(what, &format!("table {table} is out of order")))?;
            prefixes.push((table, reader.u64("shape of prefixes")?));
        }
        reader.finish()?;
        Ok(Self {
            tables,
            groups,
            prefixes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TableId, key};

    #[test]
    fn counts_come_back() {
        let mut counter = Counter::default();
        for group in [0u16, 3, 300] {
            for table in [1u16, 4] {
                for i in 0..group + table {
                    let key = key::encode(group, TableId(table), &i.to_be_bytes());
                    let row = match i % 3 {
                        0 => RowRef::plain(None),
                        1 => RowRef::new(RowKind::Operands, None, b"12345"),
                        _ => RowRef::plain(Some(b"123")),
                    };
                    counter.add(&key, &row, row.value.len() as u64);
                }
            }
        }
        counter.note_prefixes(4, 77);
        counter.note_prefixes(1, u64::MAX);
        counter.note_prefixes(4, 77);
        let properties = counter.finish();
        assert_eq!(properties.prefixes, [(1, u64::MAX), (4, 77)]);
        assert!(properties.has_prefixes(4, 77) && !properties.has_prefixes(4, 78));
        let rows =
            |list: &[(u16, Tally)]| list.iter().map(|(id, t)| (*id, t.rows)).collect::<Vec<_>>();
        assert_eq!(rows(&properties.tables), [(1, 306), (4, 315)]);
        assert_eq!(rows(&properties.groups), [(0, 5), (3, 11), (300, 605)]);
        assert_eq!(
            properties.groups[0].1,
            Tally {
                rows: 5,
                tombstones: 3,
                operands: 1,
                key_bytes: 10,
                value_bytes: 8
            }
        );
        let mut bytes = Vec::new();
        properties.encode(&mut bytes);
        let name = || "t".to_string();
        assert_eq!(Properties::decode(&name, &bytes).unwrap(), properties);
        for len in 0..bytes.len() {
            assert!(Properties::decode(&name, &bytes[..len]).is_err());
        }
    }
}
