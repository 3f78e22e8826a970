//! Arrow batches as timely data: they move by pointer between threads and as Arrow IPC between processes.
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ChangeBatch;
use crate::graph::Payload;

impl Payload for ChangeBatch {
    fn rows(&self) -> usize {
        self.rows.num_rows()
    }
}

impl Serialize for ChangeBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let _ = serializer;
        todo!()
    }
}

impl<'de> Deserialize<'de> for ChangeBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let _ = deserializer;
        Err(D::Error::custom("not yet"))
    }
}
