//! One worker's part of the keyed state: its file list and the moments of its tables.

use aquifer_store::{Checkpoint, TableId};

use crate::backend::LIST_CHUNKS_CLOSED_MAX;
use crate::encoding::{Reader, put_u16, put_u64, with_length};
use crate::{ClosedChunks, KeyedSnapshot, StateError, TableMoment};

/// Table, chunk, bytes, oldest chunk, latest time, event time and the number of closed chunks.
const MOMENT_BYTES: usize = 2 + 6 * 8;
/// Last chunk and latest time.
const CLOSED_BYTES: usize = 2 * 8;
/// Stands for a time that is not known. Time cannot be as early.
const NO_TIME: i64 = i64::MIN;

pub(super) fn encode(snapshot: &KeyedSnapshot, out: &mut Vec<u8>) {
    with_length(out, |out| snapshot.files.encode(out));
    put_u64(out, snapshot.tables.len() as u64);
    for moment in &snapshot.tables {
        put_u16(out, moment.table.0);
        put_u64(out, moment.list_chunk);
        put_u64(out, moment.list_bytes);
        put_u64(out, moment.list_oldest);
        for time in [moment.list_latest_ms, moment.event_time_ms] {
            out.extend_from_slice(&time.unwrap_or(NO_TIME).to_le_bytes());
        }
        put_u64(out, moment.list_closed.len() as u64);
        for closed in &moment.list_closed {
            put_u64(out, closed.last);
            let time = closed.latest_ms.unwrap_or(NO_TIME);
            out.extend_from_slice(&time.to_le_bytes());
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<KeyedSnapshot, StateError> {
    let files = Checkpoint::decode(reader.bytes()?)?;
    let mut moments = reader.list(MOMENT_BYTES)?;
    for _ in 0..moments.count {
        let mut moment = TableMoment {
            table: TableId(reader.u16()?),
            list_chunk: reader.u64()?,
            list_bytes: reader.u64()?,
            list_oldest: reader.u64()?,
            list_latest_ms: time(reader)?,
            event_time_ms: time(reader)?,
            list_closed: Vec::new(),
        };
        let mut closed = reader.list(CLOSED_BYTES)?;
        if closed.count > LIST_CHUNKS_CLOSED_MAX {
            return Err(reader.wrong(&format!(
                "table {} has {} closed chunks, expected at most {LIST_CHUNKS_CLOSED_MAX}",
                moment.table.0, closed.count
            )));
        }
        for _ in 0..closed.count {
            let chunks = ClosedChunks {
                last: reader.u64()?,
                latest_ms: time(reader)?,
            };
            let before = closed.items.last().map(|before: &ClosedChunks| before.last);
            if chunks.last >= moment.list_chunk || before.is_some_and(|last| last >= chunks.last) {
                return Err(reader.wrong(&format!(
                    "table {} has closed chunk {} after {before:?}, expected ascending numbers below {}",
                    moment.table.0, chunks.last, moment.list_chunk
                )));
            }
            closed.items.push(chunks);
        }
        moment.list_closed = closed.items;
        if moment.list_oldest > moment.list_chunk {
            return Err(reader.wrong(&format!(
                "the oldest chunk of table {} is {}, expected none after the newest, {}",
                moment.table.0, moment.list_oldest, moment.list_chunk
            )));
        }
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

fn time(reader: &mut Reader<'_>) -> Result<Option<i64>, StateError> {
    Ok(Some(reader.i64()?).filter(|time| *time != NO_TIME))
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
