//! Looking into single files, for people: what a file holds, and whether it is whole.
//!
//! An [`Inspector`] needs no store and changes nothing. It reads what a [`FileRef`] names and trusts nothing that it has not checked.
pub(crate) mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::context::Context;
use crate::error::Result;
use crate::io::ReadClass;
use crate::sst::file::SstFile;
use crate::sst::properties;
use crate::sst::reader::{decode_end, read_checked};
use crate::{Environment, FileRef, StoreOptions, TableId};

/// What some rows amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows, tombstones included.
    pub rows: u64,
    /// Rows that are tombstones.
    pub tombstones: u64,
    /// Rows of merge operands.
    pub operands: u64,
    /// Bytes of keys, without group and table.
    pub key_bytes: u64,
    /// Bytes of values, before compression.
    pub value_bytes: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.tombstones += other.tombstones;
        self.operands += other.operands;
        self.key_bytes += other.key_bytes;
        self.value_bytes += other.value_bytes;
    }
}

impl From<&properties::Tally> for Tally {
    fn from(tally: &properties::Tally) -> Self {
        Self {
            rows: tally.rows,
            tombstones: tally.tombstones,
            operands: tally.operands,
            key_bytes: tally.key_bytes,
            value_bytes: tally.value_bytes,
        }
    }
}

/// What a file says that it holds, whatever the clip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSummary {
    /// Per table.
    pub tables: BTreeMap<TableId, Tally>,
    /// Per key group.
    pub groups: BTreeMap<u16, Tally>,
    /// Data blocks.
    pub blocks: u32,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// Where in the file the damaged part begins, if it is a part.
    pub offset: Option<u64>,
    /// One sentence.
    pub what: String,
}

/// Reads single files.
pub struct Inspector {
    context: Arc<Context>,
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").finish_non_exhaustive()
    }
}

impl Inspector {
    /// An inspector of files in the environment's object store.
    pub fn new(environment: Environment) -> Self {
        Self {
            context: Context::new(environment, StoreOptions::default()),
        }
    }

    /// What a file holds, by its own account: one request.
    pub async fn summary(&self, file: &FileRef) -> Result<FileSummary> {
        let file = SstFile::restored(&self.context, file)?;
        let range = file.end_start()..file.size_bytes;
        let decode = |bytes: bytes::Bytes| decode_end(&file, &bytes);
        let end = read_checked(&self.context, &file, range, ReadClass::Background, decode).await?;
        let tables = end.properties.tables.iter();
        let groups = end.properties.groups.iter();
        Ok(FileSummary {
            tables: tables
                .map(|(id, tally)| (TableId(*id), tally.into()))
                .collect(),
            groups: groups.map(|(id, tally)| (*id, tally.into())).collect(),
            blocks: end.footer.blocks,
        })
    }

    /// Reads all of a file and compares it with itself and with what the checkpoint says of it. Returns what is damaged; an error means
    /// that the object store did not answer. `advance` is told of every piece that was read, in bytes.
    pub async fn verify(
        &self,
        file: &FileRef,
        advance: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<Damage>> {
        verify::verify(&self.context, file, advance).await
    }
}
