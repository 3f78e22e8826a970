//! What barriers and checkpoints do: freezing databases, making them durable in the background, remembering what was uploaded.
//!
//! One snapshot is written at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_store::TableId;

use super::RocksdbBackend;
use super::tables::known;
use crate::backend::unknown_table;
use crate::rocksdb::expiry::Rule;
use crate::rocksdb::snapshot::{Frozen, SnapshotJob, Surroundings};
use crate::rocksdb::uploaded::Files;
use crate::{KeyedSnapshot, StateError, TableMoment};

/// A snapshot under way.
pub(super) struct Pending {
    job: SnapshotJob,
    tables: Vec<TableMoment>,
    /// Writes to each database when it was frozen, in the order of the databases.
    writes: Vec<u64>,
}

impl RocksdbBackend {
    /// The barrier has passed the operator that owns this table, and so all tables in its database.
    pub(super) fn freeze_table(&mut self, table: TableId) -> Result<(), StateError> {
        let Ok(found) = known(&self.tables, table) else {
            // A state of the checkpoint without rows, which this program does not have.
            return match self.registry.contains(table) {
                true => Ok(()),
                false => Err(unknown_table(table)),
            };
        };
        let (directory, full) = (&self.directory, !self.making.options.incremental);
        if let Some(database) = self.databases.get_mut(found.database) {
            database.freeze(|| directory.fresh("frozen"), full)?;
        }
        self.moments.freeze(table);
        Ok(())
    }

    /// Starts to make durable what is frozen.
    pub(super) fn begin_snapshot(&mut self, checkpoint_id: u64) -> Result<(), StateError> {
        if let Some(pending) = &self.job {
            return Err(StateError::Usage(format!(
                "checkpoint {checkpoint_id} was started while checkpoint {} is being written",
                pending.job.checkpoint_id
            )));
        }
        let incremental = self.making.options.incremental;
        let (mut frozen, mut writes) = (Vec::new(), Vec::new());
        for database in &mut self.databases {
            // Operators that this program does not have are not frozen by anyone.
            let directory = &self.directory;
            if database.frozen.is_none() {
                database.freeze(|| directory.fresh("frozen"), !incremental)?;
            }
            let Some(taken) = database.frozen.take() else {
                continue;
            };
            writes.push(taken.writes);
            frozen.push(Frozen {
                operator: database.operator.clone(),
                families: taken.families,
                form: taken.form,
                shared: database.uploaded.shared(),
            });
        }
        let surroundings = Surroundings {
            environment: self.environment.clone(),
            store: self.store.clone(),
            directory: Arc::clone(&self.directory),
            range: self.range,
            named: Arc::clone(&self.named),
            uploads_at_once: self.making.options.transfers,
            left_out: self.left_out(),
        };
        self.job = Some(Pending {
            job: SnapshotJob::start(checkpoint_id, frozen, surroundings, incremental),
            tables: self.moments.take(),
            writes,
        });
        Ok(())
    }

    /// What of each table a full snapshot leaves out, and what time counts for it.
    fn left_out(&self) -> BTreeMap<TableId, (Rule, i64)> {
        let tables = self.registry.options();
        let leaving_out = tables.filter(|(_, options)| options.cleanup.in_full_snapshots);
        let rules = leaving_out.filter_map(|(table, options)| {
            let rule = Rule::of(&options)?;
            let now_ms = match rule.event_time {
                false => (self.environment.clock)(),
                true => self.moments.event_time(table)?,
            };
            Some((table, (rule, now_ms)))
        });
        rules.collect()
    }

    /// The snapshot that has ended, if one has.
    pub(super) fn ended_snapshot(&mut self) -> Result<Option<(u64, KeyedSnapshot)>, StateError> {
        let Some(written) = self.job.as_ref().and_then(|pending| pending.job.result()) else {
            return Ok(None);
        };
        let Some(pending) = self.job.take() else {
            return Ok(None);
        };
        let written = written?;
        let id = pending.job.checkpoint_id;
        let mut snapshot = written.snapshot;
        for (database, writes) in self.databases.iter_mut().zip(pending.writes) {
            let mut own = snapshot.databases.iter();
            if let Some(own) = own.find(|own| own.operator == database.operator) {
                let files = Files {
                    writes: Some(writes),
                    files: own.files.clone(),
                };
                database.uploaded.written(id, files);
            }
        }
        snapshot.tables = pending.tables;
        self.bytes_uploaded += written.bytes_uploaded;
        self.files_of_last_snapshot = 0;
        let count = &mut self.files_of_last_snapshot;
        snapshot.for_each_path(&mut |_, _| *count += 1);
        Ok(Some((id, snapshot)))
    }
}
