//! What files say of their tables, so that nobody has to read the rows to know how large a state is.

use std::collections::BTreeMap;

use aquifer_store::TableId;
use aquifer_store::inspect::{Inspector, Tally};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::tables::TableSource;
use super::{ReadableTable, StateReader};
use crate::StateError;
use crate::blocking::wait;
use crate::rows::environment_with_inline;

/// Files asked at the same time.
const FILES_TOGETHER: usize = 32;

/// What is known of a table's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableEstimate {
    /// Rows in files, without tombstones: more than entries are, if rows were overwritten or are outside of their files' clips; fewer than
    /// elements of lists are.
    pub rows: u64,
    /// Bytes of their keys and values before compression.
    pub bytes: u64,
}

impl StateReader {
    /// What files say of each table, in the order of [`StateReader::tables`]: one request per file. `None` for what is not known: tables in
    /// databases of `rocksdb`. It blocks.
    pub fn estimates(&self) -> Result<Vec<Option<TableEstimate>>, StateError> {
        let shared = &self.shared;
        let snapshots = || shared.metadata.keyed.iter().map(|(_, snapshot)| snapshot);
        let environment = environment_with_inline(&shared.environment, snapshots())?;
        let mut files = BTreeMap::new();
        for file in snapshots().flat_map(|snapshot| &snapshot.files.files) {
            files
                .entry(file.path.clone())
                .or_insert_with(|| file.clone());
        }
        let inspector = Inspector::new(environment);
        let asking = async move {
            stream::iter(files.into_values())
                .map(|file| {
                    let inspector = &inspector;
                    async move { inspector.summary(&file).await }
                })
                .buffer_unordered(FILES_TOGETHER)
                .try_fold(BTreeMap::new(), |mut all, summary| async move {
                    for (table, tally) in &summary.tables {
                        *all.entry(*table).or_insert_with(Tally::default) += *tally;
                    }
                    Ok(all)
                })
                .await
        };
        let runtime = &shared.environment.runtime;
        let known: BTreeMap<TableId, Tally> =
            wait(runtime, "asking files what they hold", asking)??;
        let unknown: Vec<TableId> = snapshots()
            .flat_map(|snapshot| &snapshot.databases)
            .flat_map(|database| database.families.iter().map(|(_, table)| *table))
            .collect();
        let of = |table: &ReadableTable| match &table.source {
            TableSource::Keyed(id) if unknown.contains(id) => None,
            TableSource::Keyed(id) => {
                let tally = known.get(id).copied().unwrap_or_default();
                Some(TableEstimate {
                    rows: tally.rows.saturating_sub(tally.tombstones),
                    bytes: tally.key_bytes.saturating_add(tally.value_bytes),
                })
            }
            TableSource::Unkeyed(pieces) => {
                let mut all = TableEstimate::default();
                for piece in pieces {
                    let elements = (0..).map_while(|at| piece.get(&shared.metadata, at));
                    for element in elements {
                        all.rows += 1;
                        let key = element.key.map_or(0, <[u8]>::len);
                        all.bytes += (key + element.value.len()) as u64;
                    }
                }
                Some(all)
            }
        };
        Ok(shared.tables.iter().map(of).collect())
    }
}
