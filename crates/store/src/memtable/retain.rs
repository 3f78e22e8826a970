//! What becomes of a memtable that has become a file and stays in memory: it takes up what newer ones of its kind hold.
use super::Memtable;
use super::arena::Place;
use super::layout::{Head, Kind, said};
use crate::error::Result;
use crate::key;
use crate::options::TableId;
use crate::row::Content;

impl Memtable {
    /// Some row may be operands on what older sources hold.
    pub(crate) fn has_operands(&self) -> bool {
        self.has_operands
    }

    /// Bytes of memory held, the order that a flush has made included.
    pub(crate) fn retained_bytes(&self) -> usize {
        let sorted = self.sorted.get().map_or(0, Vec::capacity);
        self.bytes() + sorted * size_of::<Place>()
    }

    /// Lets go of the order that a flush has made, where the table has a companion for that.
    pub(crate) fn forget_sorting(&mut self) {
        if self.ordered.is_some() {
            self.sorted.take();
        }
    }

    /// Takes up the rows of a newer memtable of the same table that has no range tombstones. Where the newer one has operands, the row
    /// says only that there are some. After an error, the rows of both may be mixed.
    pub(crate) fn take_up(&mut self, table: TableId, newer: &Self) -> Result<()> {
        self.sorted.take();
        for place in newer.index.places() {
            let row = newer.arena.at(place);
            let head = Head::read(row);
            let key = head.key(row);
            let hash = key::hash_parts(key::header(head.group, table), key);
            let said = said(&newer.arena, row);
            match said.content {
                Content::Value(value) => {
                    self.put(hash, head.group, key, Some(value), said.time_ms)?;
                }
                Content::Tombstone => self.put(hash, head.group, key, None, None)?,
                Content::Operands(_) => {
                    self.has_operands = true;
                    let times = said.time_ms.map(|time| (time, time));
                    match self.find(hash, head.group, key) {
                        Some(found) => self.set(found, Kind::One, times, &[])?,
                        None => self.insert(hash, head.group, key, Kind::One, times, &[])?,
                    }
                }
            }
        }
        Ok(())
    }
}
