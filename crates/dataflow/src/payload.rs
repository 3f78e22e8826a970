//! Arrow batches as timely data: by pointer between threads, as Arrow IPC between processes.

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::graph::Payload;
use crate::{ChangeBatch, RowKind};

impl Payload for ChangeBatch {
    fn rows(&self) -> usize {
        self.rows.num_rows()
    }
}

/// The form between processes.
#[derive(Serialize, Deserialize)]
struct Wire {
    /// One byte per row, or empty when all rows are inserts.
    kinds: Vec<u8>,
    /// An Arrow IPC stream of one batch.
    ipc: Vec<u8>,
}

impl Serialize for ChangeBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ipc = Vec::with_capacity(self.rows.get_array_memory_size());
        let mut writer =
            StreamWriter::try_new(&mut ipc, &self.rows.schema()).map_err(S::Error::custom)?;
        writer
            .write(&self.rows)
            .and_then(|()| writer.finish())
            .map_err(S::Error::custom)?;
        drop(writer);
        let kinds = self
            .kinds
            .iter()
            .flat_map(|kinds| kinds.iter())
            .map(|kind| *kind as u8)
            .collect();
        Wire { kinds, ipc }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ChangeBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let mut reader =
            StreamReader::try_new(wire.ipc.as_slice(), None).map_err(D::Error::custom)?;
        let rows: RecordBatch = match reader.next() {
            Some(rows) => rows.map_err(D::Error::custom)?,
            None => {
                return Err(D::Error::custom(
                    "expected an Arrow batch, found an empty stream",
                ));
            }
        };
        if wire.kinds.is_empty() {
            return Ok(Self::inserts(rows));
        }
        if wire.kinds.len() != rows.num_rows() {
            let (kinds, rows) = (wire.kinds.len(), rows.num_rows());
            return Err(D::Error::custom(format!(
                "expected a row kind for each of {rows} rows, found {kinds}"
            )));
        }
        let kinds = wire.kinds.iter().map(|byte| match byte {
            0 => Ok(RowKind::Insert),
            1 => Ok(RowKind::UpdateBefore),
            2 => Ok(RowKind::UpdateAfter),
            3 => Ok(RowKind::Delete),
            other => Err(D::Error::custom(format!(
                "expected a row kind from 0 to 3, found {other}"
            ))),
        });
        Ok(Self::new(rows, kinds.collect::<Result<_, _>>()?))
    }
}
