//! `'connector' = 'datagen'`: rows of made-up values, for trying things out and for load.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `rows-per-second` | 10000 | rows of all readers together, by the clock |
//! | `number-of-rows` | without end | how many rows there are |
//! | `seed` | 0 | another seed makes other values (ours) |
//! | `scan.parallelism` | – | accepted; the source runs with the job's parallelism |
//! | `fields.<f>.kind` | random | `random`, or `sequence` from `start` to `end`, which also ends the table |
//! | `fields.<f>.min`, `.max` | those of the type | bounds of random numbers, both included |
//! | `fields.<f>.length`, `.var-len` | 100, false | length of text and bytes, or its maximum |
//! | `fields.<f>.max-past` | 0 | how far TIMESTAMP, DATE and TIME may lie before the row's time |
//! | `fields.<f>.null-rate` | 0 | share of nulls |
//!
//! A field of a ROW is named `fields.<row>.<field>`. Values depend on the seed and the row's number alone. A row's time is the
//! moment when its split was first read plus what its number takes at `rows-per-second`; that moment is kept in checkpoints, so
//! restored rows have the times they had.

mod field;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use aquifer_dataflow::connector::{
    ConnectorContext, ConnectorFactory, Sink, Source, SourcePoll, SourceReader, TableSpec,
};
use aquifer_dataflow::{ChangeBatch, JobError};

use self::field::{Filler, known_options};
use crate::column::Column;
use crate::draws::Draws;
use crate::options::Options;
use crate::pace::Pace;
use crate::strided::{self, StridedCursor, splits_at_start};

const NAME: &str = "datagen";
/// Bytes of one batch, unless a single row is longer.
const BATCH_BYTES_MAX: u64 = 16 << 20;
/// The start of a split that nobody has read from.
const NOT_STARTED: i64 = i64::MIN;

/// Makes datagen sources.
pub struct DatagenFactory;

impl ConnectorFactory for DatagenFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>, JobError> {
        let options = Options::new(table, NAME);
        let mut known: Vec<String> = [
            "rows-per-second",
            "number-of-rows",
            "seed",
            "scan.parallelism",
        ]
        .map(str::to_owned)
        .to_vec();
        for field in table.schema.fields() {
            known_options(field.name(), field, &mut known);
        }
        options.check_known(known.iter().map(String::as_str))?;
        options.whole("scan.parallelism", 1, 1..=i64::from(u16::MAX))?;
        let rows_per_second = options.whole("rows-per-second", 10_000, 1..=i64::MAX)?;
        let mut rows = match options.text("number-of-rows") {
            None => None,
            Some(_) => Some(
                options
                    .whole("number-of-rows", 0, 0..=i64::MAX)?
                    .unsigned_abs(),
            ),
        };
        let mut fillers = Vec::with_capacity(table.schema.fields().len());
        for field in table.schema.fields() {
            fillers.push(Filler::read(&options, field.name(), field, &mut rows)?);
        }
        Ok(Arc::new(DatagenSource(Arc::new(Plan {
            table: table.name.clone(),
            schema: Arc::clone(&table.schema),
            fillers,
            rows,
            rows_per_second: rows_per_second.unsigned_abs(),
            seed: options.whole("seed", 0, i64::MIN..=i64::MAX)? as u64,
        }))))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>, JobError> {
        Err(crate::not_writable(table, NAME))
    }
}

struct Plan {
    table: String,
    schema: SchemaRef,
    fillers: Vec<Filler>,
    rows: Option<u64>,
    rows_per_second: u64,
    seed: u64,
}

impl Plan {
    /// Milliseconds after the start at which row `number` is due.
    fn due_ms(&self, number: u64) -> i64 {
        let ms = u128::from(number) * 1_000 / u128::from(self.rows_per_second);
        i64::try_from(ms).unwrap_or(i64::MAX)
    }
}

struct DatagenSource(Arc<Plan>);

impl Source for DatagenSource {
    fn splits(&self, _workers: usize) -> Result<Vec<Vec<u8>>, JobError> {
        let mut splits = splits_at_start(self.0.rows);
        for split in &mut splits {
            split.extend_from_slice(&NOT_STARTED.to_le_bytes());
        }
        Ok(splits)
    }

    fn reader(
        &self,
        splits: Vec<Vec<u8>>,
        context: ConnectorContext,
    ) -> Result<Box<dyn SourceReader>, JobError> {
        let plan = Arc::clone(&self.0);
        let mut strides = Vec::with_capacity(splits.len());
        let mut starts = Vec::with_capacity(splits.len());
        for split in &splits {
            let parts = split.split_at_checked(strided::ENCODED_BYTES);
            let start = parts.and_then(|(_, start)| <[u8; 8]>::try_from(start).ok());
            let (Some((stride, _)), Some(start)) = (parts, start) else {
                return Err(JobError::failed(format!(
                    "the position of a split of table '{}' must be {} bytes long, found {}",
                    plan.table,
                    strided::ENCODED_BYTES + 8,
                    split.len()
                )));
            };
            strides.push(stride.to_vec());
            starts.push(i64::from_le_bytes(start));
        }
        let end = plan.rows.unwrap_or(i64::MAX.unsigned_abs());
        let cursor = StridedCursor::new(&plan.table, &strides, end)?;
        let now_ms = (context.now_ms)();
        let start_ms = strides
            .iter()
            .zip(starts)
            .map(|(stride, start)| {
                (
                    split_index(stride),
                    if start == NOT_STARTED { now_ms } else { start },
                )
            })
            .collect();
        Ok(Box::new(DatagenReader {
            columns: columns(&plan)?,
            plan,
            cursor,
            start_ms,
            pace: Pace::new(context.now_ms),
            text: String::new(),
        }))
    }

    fn bounded(&self) -> bool {
        self.0.rows.is_some()
    }
}

/// The index of an encoded split, which the cursor has accepted.
fn split_index(stride: &[u8]) -> u64 {
    match stride
        .get(1..5)
        .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
    {
        Some(bytes) => u32::from_le_bytes(bytes).into(),
        None => 0,
    }
}

fn columns(plan: &Plan) -> Result<Vec<Column>, JobError> {
    plan.schema
        .fields()
        .iter()
        .map(|field| {
            Column::new(field.data_type()).ok_or_else(|| {
                JobError::usage(format!(
                    "table '{}': connector 'datagen' cannot make column '{}'",
                    plan.table,
                    field.name()
                ))
            })
        })
        .collect()
}

struct DatagenReader {
    plan: Arc<Plan>,
    cursor: StridedCursor,
    /// When each split, by index, was first read.
    start_ms: BTreeMap<u64, i64>,
    pace: Pace,
    columns: Vec<Column>,
    text: String,
}

impl SourceReader for DatagenReader {
    fn poll(&mut self, rows_max: usize) -> Result<SourcePoll, JobError> {
        let Some(first) = self.cursor.peek() else {
            return Ok(SourcePoll::Finished);
        };
        let first_ms = self.plan.due_ms(first);
        let due_until_ms = self.pace.due_until_ms(first_ms);
        if first_ms > due_until_ms {
            return Ok(SourcePoll::Pending {
                retry_ms: Pace::retry_ms(first_ms, due_until_ms),
            });
        }
        let mut rows = 0;
        let row_bytes: u64 = self.plan.fillers.iter().map(Filler::bytes_max).sum();
        let rows_max = rows_max.clamp(1, (BATCH_BYTES_MAX / row_bytes.max(1)).max(1) as usize);
        while rows < rows_max {
            let Some(number) = self.cursor.peek() else {
                break;
            };
            let due_ms = self.plan.due_ms(number);
            if due_ms > due_until_ms {
                break;
            }
            self.cursor.advance();
            let split = number % self.cursor.count();
            let start_ms = self.start_ms.get(&split).copied().unwrap_or(0);
            let draws = Draws::seeded(self.plan.seed, number);
            for (i, (filler, column)) in
                (1_u64..).zip(self.plan.fillers.iter().zip(&mut self.columns))
            {
                let row_ms = start_ms.saturating_add(due_ms);
                filler.fill(column, number, row_ms, draws.within(i), &mut self.text);
            }
            rows += 1;
        }
        let arrays = self
            .columns
            .iter_mut()
            .map(Column::finish)
            .collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.plan.schema);
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)?;
        Ok(SourcePoll::Batch(ChangeBatch::inserts(batch)))
    }

    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>, JobError> {
        let mut splits = self.cursor.snapshot();
        for split in &mut splits {
            let start = self
                .start_ms
                .get(&split_index(split))
                .copied()
                .unwrap_or(NOT_STARTED);
            split.extend_from_slice(&start.to_le_bytes());
        }
        Ok(splits)
    }
}
