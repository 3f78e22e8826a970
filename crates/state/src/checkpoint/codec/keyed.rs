//! One worker's part of the keyed state: its file list and the moments of its tables.

use aquifer_store::{Checkpoint, TableId};

use crate::encoding::{Reader, put_u16, put_u64, with_length};
use crate::{KeyedSnapshot, StateError, TableMoment};

/// Table, chunk, bytes and event time.
const MOMENT_BYTES: usize = 2 + 3 * 8;
/// Stands for an event time that is not known. Event time cannot be as early.
const NO_EVENT_TIME: i64 = i64::MIN;

pub(super) fn encode(snapshot: &KeyedSnapshot, out: &mut Vec<u8>) {
    with_length(out, |out| snapshot.files.encode(out));
    put_u64(out, snapshot.tables.len() as u64);
    for moment in &snapshot.tables {
        put_u16(out, moment.table.0);
        put_u64(out, moment.list_chunk);
        put_u64(out, moment.list_bytes);
        let time = moment.event_time_ms.unwrap_or(NO_EVENT_TIME);
        out.extend_from_slice(&time.to_le_bytes());
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<KeyedSnapshot, StateError> {
    let files = Checkpoint::decode(reader.bytes()?)?;
    let mut moments = reader.list(MOMENT_BYTES)?;
    for _ in 0..moments.count {
        let moment = TableMoment {
            table: TableId(reader.u16()?),
            list_chunk: reader.u64()?,
            list_bytes: reader.u64()?,
            event_time_ms: Some(reader.i64()?).filter(|time| *time != NO_EVENT_TIME),
        };
        if let Some(last) = moments.items.last().map(|last: &TableMoment| last.table)
            && last >= moment.table
        {
            return Err(reader.wrong(&format!(
                "table {} comes after table {}, expected ascending numbers",
                moment.table.0, last.0
            )));
        }
        moments.items.push(moment);
    }
    Ok(KeyedSnapshot {
        tables: moments.items,
        ..KeyedSnapshot::of_files(files)
    })
}

impl KeyedSnapshot {
    /// Appends the whole part to `out`, as it travels to the coordinator.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(self, out);
        super::inline::encode_part(&self.inline, out);
        super::databases::encode_part(&self.databases, out);
    }

    /// Reads what `encode` wrote; any other bytes are an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader::new("a worker's part of a checkpoint", bytes);
        let mut snapshot = read(&mut reader)?;
        snapshot.inline = super::inline::read_part(&mut reader)?;
        snapshot.databases = super::databases::read_part(&mut reader)?;
        reader.end()?;
        Ok(snapshot)
    }
}
