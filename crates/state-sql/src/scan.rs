//! Reading a state as a physical plan: one partition per part of the key groups, or one for the keys that are asked for.
//!
//! Reading blocks, so each partition reads on a thread for blocking work and is one batch ahead of whoever takes its batches. A batch is one piece of
//! the reader: at most [`BATCH_ROWS`] rows, and of not much more than a mebibyte.

use std::fmt;
use std::sync::Arc;

use aquifer_state::dynamic::DynamicValue;
use aquifer_state::reader::StateRow;
use aquifer_store::KeyGroupRange;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};

use crate::error::of_state;
use crate::pushdown::Chosen;
use crate::table::StateTable;

/// Rows of a batch at most, also between DataFusion's operators: few, because a sort that merges what it has written to disk holds two
/// batches of each run, whatever their bytes.
pub(crate) const BATCH_ROWS: usize = 256;
/// Name of the metric that counts rows that were read of the state.
pub(crate) const ROWS_READ: &str = "rows_read";

/// What one partition reads.
#[derive(Clone, Debug)]
struct Part {
    groups: KeyGroupRange,
    /// Only these keys.
    keys: Option<Vec<DynamicValue>>,
}

/// The scan of a state.
#[derive(Clone, Debug)]
pub(crate) struct StateScan {
    table: StateTable,
    parts: Arc<[Part]>,
    /// Rows wanted of all partitions together.
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl StateScan {
    pub(crate) fn new(
        table: StateTable,
        chosen: &Chosen,
        parts: &[KeyGroupRange],
        limit: Option<usize>,
    ) -> Self {
        let within = |groups: &KeyGroupRange| match chosen.key_group {
            Some(group) => groups.intersection(KeyGroupRange {
                start: group,
                end: group,
            }),
            None => Some(*groups),
        };
        let parts: Vec<Part> = match (&chosen.keys, chosen.nothing) {
            (_, true) => Vec::new(),
            (None, false) => {
                let groups = parts.iter().filter_map(within);
                groups.map(|groups| Part { groups, keys: None }).collect()
            }
            (Some(keys), false) => within(&KeyGroupRange::ALL)
                .filter(|_| !keys.is_empty())
                .map(|groups| Part {
                    groups,
                    keys: Some(keys.clone()),
                })
                .into_iter()
                .collect(),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema(&table)),
            Partitioning::UnknownPartitioning(parts.len().max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            table,
            parts: parts.into(),
            limit,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

fn schema(table: &StateTable) -> SchemaRef {
    datafusion::catalog::TableProvider::schema(table)
}

impl DisplayAs for StateScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "StateScan: {}, partitions={}",
            self.table.table.full_name(),
            self.parts.len()
        )?;
        if let Some(keys) = self.parts.first().and_then(|part| part.keys.as_ref()) {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            write!(f, ", keys=[{}]", keys.join(", "))?;
        }
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for StateScan {
    fn name(&self) -> &'static str {
        "StateScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("a scan of state has no inputs"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("a scan of state has no inputs"),
        }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut batches = RecordBatchReceiverStreamBuilder::new(schema(&self.table), 1);
        if let Some(part) = self.parts.get(partition).cloned() {
            let to = batches.tx();
            let reading = Reading {
                table: self.table.clone(),
                rows_read: MetricBuilder::new(&self.metrics).counter(ROWS_READ, partition),
                left: self.limit.unwrap_or(usize::MAX),
            };
            // Whoever drops the stream has seen enough.
            batches.spawn_blocking(move || {
                reading.run(&part, &mut |batch| to.blocking_send(Ok(batch)).is_ok())
            });
        }
        Ok(batches.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self {
            limit,
            ..self.clone()
        }))
    }
}

/// One partition's reading, on a thread of its own.
struct Reading {
    table: StateTable,
    rows_read: Count,
    left: usize,
}

impl Reading {
    fn run(
        mut self,
        part: &Part,
        give: &mut dyn FnMut(arrow::array::RecordBatch) -> bool,
    ) -> Result<()> {
        let each: Vec<Option<&DynamicValue>> = match &part.keys {
            Some(keys) => keys.iter().map(Some).collect(),
            None => vec![None],
        };
        for key in each {
            let (reader, table) = (&self.table.reader, &self.table.table);
            let mut rows = reader.rows(table, part.groups, key).map_err(of_state)?;
            while self.left > 0 {
                let wanted = self.left.min(BATCH_ROWS);
                let Some(piece) = rows.next_piece(wanted).map_err(of_state)? else {
                    break;
                };
                let piece: &[StateRow] = piece.get(..wanted.min(piece.len())).unwrap_or_default();
                self.left -= piece.len();
                self.rows_read.add(piece.len());
                if !give(self.table.batch(piece)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
