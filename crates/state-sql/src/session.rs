//! Queries over one checkpoint.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aquifer_state::reader::StateReader;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures_util::{Stream, StreamExt};

use crate::SqlError;
use crate::catalog::{CATALOG, SCHEMA, catalog};
use crate::scan::{BATCH_ROWS, ROWS_READ};

/// Of the memory, what a sort keeps to merge what it has written to disk: one part in so many.
const SORT_RESERVATION_PART: usize = 16;
/// Operators that an error about memory names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// What a query may use.
#[derive(Clone, Debug)]
pub struct StateSqlOptions {
    /// Memory of sorts, aggregations and joins together. Sorts and aggregations go on on disk beyond that; a join is refused.
    pub memory_bytes: usize,
    /// Where they write to; the system's directory for temporary files if there is none. What they write goes with the query.
    pub temporary_directory: Option<PathBuf>,
    /// Bytes that they write at most.
    pub temporary_bytes_max: u64,
    /// Threads that read a state side by side.
    pub partitions: u16,
}

impl Default for StateSqlOptions {
    /// 128 MiB of memory, 100 GiB of disk, two threads.
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            temporary_directory: None,
            temporary_bytes_max: 100 << 30,
            partitions: 2,
        }
    }
}

/// SQL over a checkpoint. See the crate's documentation for its tables.
///
/// Queries are planned and run on a tokio runtime with threads of its own; the state is read on its threads for blocking work.
pub struct StateSql {
    context: SessionContext,
}

impl StateSql {
    /// SQL over what `reader` has open.
    pub fn new(reader: &StateReader, options: &StateSqlOptions) -> Result<Self, SqlError> {
        let partitions = usize::from(options.partitions.max(1));
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(BATCH_ROWS)
            .with_information_schema(true)
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            // A state is read, filtered and pre-aggregated side by side. Operators that may go to disk are alone: several that merge what
            // they have written take each other's memory, and fail where one would not.
            .with_repartition_sorts(false)
            .with_repartition_aggregations(false)
            .with_repartition_joins(false)
            .with_repartition_windows(false)
            .with_sort_spill_reservation_bytes(options.memory_bytes / SORT_RESERVATION_PART);
        let settings = config.options_mut();
        settings.sql_parser.enable_ident_normalization = false;
        settings.execution.enforce_batch_size_in_joins = true;
        let disk = DiskManagerBuilder::default()
            .with_mode(match &options.temporary_directory {
                None => DiskManagerMode::OsTmpDirectory,
                Some(directory) => DiskManagerMode::Directories(vec![directory.clone()]),
            })
            .with_max_temp_directory_size(options.temporary_bytes_max);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(
                FairSpillPool::new(options.memory_bytes),
                CONSUMERS_NAMED,
            )))
            .with_disk_manager_builder(disk)
            .build_arc()?;
        let context = SessionContext::new_with_config_rt(config, runtime);
        context.register_catalog(CATALOG, catalog(reader, options.partitions.max(1))?);
        Ok(Self { context })
    }

    /// Plans one query and begins it. Only queries, `EXPLAIN`, `DESCRIBE` and `SHOW TABLES` are allowed.
    pub async fn query(&self, text: &str) -> Result<StateQuery, SqlError> {
        let reading = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let frame = self.context.sql_with_options(text, reading).await?;
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await?;
        let batches = execute_stream(Arc::clone(&plan), task)?;
        Ok(StateQuery { plan, batches })
    }
}

/// A query under way: a stream of its rows. Dropping it ends the reading.
pub struct StateQuery {
    plan: Arc<dyn ExecutionPlan>,
    batches: SendableRecordBatchStream,
}

impl StateQuery {
    /// Names and types of the columns.
    pub fn schema(&self) -> SchemaRef {
        self.batches.schema()
    }

    /// Rows of state that were read so far; filters and aggregations may leave fewer.
    pub fn rows_read(&self) -> usize {
        fn of(plan: &Arc<dyn ExecutionPlan>) -> usize {
            let metrics = plan.metrics();
            let own = metrics.and_then(|metrics| metrics.sum_by_name(ROWS_READ));
            let inputs: usize = plan.children().into_iter().map(of).sum();
            own.map_or(0, |value| value.as_usize()) + inputs
        }
        of(&self.plan)
    }

    /// Bytes that were written to disk so far because memory did not suffice.
    pub fn spilled_bytes(&self) -> usize {
        fn of(plan: &Arc<dyn ExecutionPlan>) -> usize {
            let own = plan.metrics().and_then(|metrics| metrics.spilled_bytes());
            let inputs: usize = plan.children().into_iter().map(of).sum();
            own.unwrap_or(0) + inputs
        }
        of(&self.plan)
    }
}

impl Stream for StateQuery {
    type Item = Result<RecordBatch, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.batches.poll_next_unpin(context);
        next.map(|batch| batch.map(|batch| batch.map_err(SqlError::from)))
    }
}
