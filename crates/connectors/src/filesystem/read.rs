//! Reads ranges of files in chunks and decodes their records into batches. Runs in the background; memory is bounded by one
//! chunk, one record and one batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Field;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::sync::mpsc::Sender;

use aquifer_dataflow::JobError;

use super::location::{Opened, failed};
use super::reader::RowEnd;
use super::split::FileSplit;
use super::{Files, partition};
use crate::column::Column;
use crate::format::{Framer, Malformed};
use crate::scalar::{self, Scalar};
use crate::types::sql_name;

/// Bytes of one read.
const CHUNK_BYTES: u64 = 4 << 20;
/// Longest record.
const RECORD_BYTES_MAX: usize = 64 << 20;
const BATCH_ROWS: usize = 1_024;
/// Bytes of records after which a batch is closed.
const BATCH_BYTES: usize = 4 << 20;

/// What the task tells the reader.
pub(super) enum Progress {
    Rows {
        split: usize,
        rows: RecordBatch,
        ends: Vec<RowEnd>,
    },
    /// A range has been read to its end.
    Finished {
        split: usize,
    },
    Failed(JobError),
}

/// Reads the ranges one after the other, until all are read, one fails, or nobody listens any more.
pub(super) async fn read_ranges(
    files: &Files,
    opened: &Opened,
    splits: Vec<FileSplit>,
    sender: &Sender<Progress>,
    wake: &(dyn Fn() + Send + Sync),
) {
    for (index, split) in splits.into_iter().enumerate() {
        if split.finished() {
            continue;
        }
        let mut out = Output {
            index,
            sender,
            wake,
        };
        let end = match read_range(files, opened, split, &mut out).await {
            Ok(()) => Progress::Finished { split: index },
            Err(Stopped::NobodyListens) => return,
            Err(Stopped::Failed(error)) => Progress::Failed(error),
        };
        let last = matches!(end, Progress::Failed(_));
        if out.send(end).await.is_err() || last {
            return;
        }
    }
}

enum Stopped {
    NobodyListens,
    Failed(JobError),
}

impl From<JobError> for Stopped {
    fn from(error: JobError) -> Self {
        Self::Failed(error)
    }
}

struct Output<'o> {
    index: usize,
    sender: &'o Sender<Progress>,
    wake: &'o (dyn Fn() + Send + Sync),
}

impl Output<'_> {
    async fn send(&mut self, progress: Progress) -> Result<(), Stopped> {
        self.sender
            .send(progress)
            .await
            .map_err(|_| Stopped::NobodyListens)?;
        (self.wake)();
        Ok(())
    }
}

async fn read_range(
    files: &Files,
    opened: &Opened,
    split: FileSplit,
    out: &mut Output<'_>,
) -> Result<(), Stopped> {
    let path = if split.name.is_empty() {
        opened.base.clone()
    } else {
        opened.path(&split.name)?
    };
    let mut batch = BatchBuilder::new(files, &split)?;
    let mut records = Records::new(files.format.framer(), &split);
    while records.next_byte < split.file_bytes && records.record_start < split.end {
        let until = split.file_bytes.min(records.next_byte + CHUNK_BYTES);
        let chunk = fetch(opened, &path, records.next_byte..until, split.file_bytes).await?;
        records.next_byte = until;
        let mut rest: &[u8] = &chunk;
        while records.record_start < split.end
            && let Some(line_end) = records.framer.find_end(rest)
        {
            let (head, tail) = rest.split_at(line_end);
            records.take(head, |record, at| batch.add(record, at))?;
            rest = tail.get(1..).unwrap_or(&[]);
            if batch.full() {
                out.send(batch.finish(out.index)?).await?;
            }
        }
        if records.record_start < split.end {
            records.keep(rest, &batch)?;
        }
    }
    if records.record_start < split.end && !records.carried.is_empty() {
        records.take(&[], |record, at| batch.add(record, at))?;
    }
    if !batch.ends.is_empty() {
        out.send(batch.finish(out.index)?).await?;
    }
    Ok(())
}

async fn fetch(
    opened: &Opened,
    path: &Path,
    range: std::ops::Range<u64>,
    file_bytes: u64,
) -> Result<bytes::Bytes, JobError> {
    let wanted = range.end - range.start;
    let chunk = opened
        .objects
        .get_range(path, range)
        .await
        .map_err(|error| failed("read", path, error))?;
    if chunk.len() as u64 != wanted {
        return Err(JobError::failed(format!(
            "file '{path}' must have {file_bytes} bytes, as when the job first started, but it is shorter now"
        )));
    }
    Ok(chunk)
}

/// Where reading stands in a range.
struct Records {
    framer: Framer,
    /// The record that began before the range has to be skipped.
    skipping: bool,
    /// Where the current record begins, and on which line.
    record_start: u64,
    line: u64,
    /// The part of the current record that came with earlier chunks.
    carried: Vec<u8>,
    /// Where the next chunk begins.
    next_byte: u64,
}

impl Records {
    fn new(framer: Framer, split: &FileSplit) -> Self {
        let skipping = !split.aligned && split.position > 0;
        // Whatever began before the range ends at the first line end from the last byte before it on.
        let start = split.position - u64::from(skipping);
        Self {
            framer,
            skipping,
            record_start: start,
            line: split.line,
            carried: Vec::new(),
            next_byte: start,
        }
    }

    /// Ends the current record: `tail` is the part of it that was not carried, without the line end.
    fn take(
        &mut self,
        tail: &[u8],
        use_record: impl FnOnce(&[u8], RecordAt) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let joined;
        let record = if self.carried.is_empty() {
            tail
        } else {
            self.carried.extend_from_slice(tail);
            joined = std::mem::take(&mut self.carried);
            &joined
        };
        let next = self.record_start + record.len() as u64 + 1;
        if std::mem::take(&mut self.skipping) {
            self.record_start = next;
            return Ok(());
        }
        let lines = record.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        let at = RecordAt {
            line: self.line,
            end: (next, self.line + lines),
        };
        self.record_start = next;
        self.line += lines;
        use_record(record, at)
    }

    /// Keeps the beginning of a record that goes on in the next chunk.
    fn keep(&mut self, rest: &[u8], batch: &BatchBuilder<'_>) -> Result<(), JobError> {
        if self.skipping {
            // Only its length matters.
            self.record_start += rest.len() as u64;
        } else {
            self.carried.extend_from_slice(rest);
        }
        if self.carried.len() > RECORD_BYTES_MAX {
            let what = format!(
                "a record must not be longer than {RECORD_BYTES_MAX} bytes; is a quote missing?"
            );
            return Err(batch.malformed(&[], self.line, &Malformed { at: 0, what }));
        }
        Ok(())
    }
}

/// Where a record lies.
struct RecordAt {
    line: u64,
    /// Position and line behind it.
    end: RowEnd,
}

/// Collects rows of one range.
struct BatchBuilder<'f> {
    files: &'f Files,
    split: FileSplit,
    columns: Vec<Column>,
    /// Values of the partition columns, by their names, from the file's path.
    constants: Vec<(String, Option<String>)>,
    ends: Vec<RowEnd>,
    bytes: usize,
}

impl<'f> BatchBuilder<'f> {
    fn new(files: &'f Files, split: &FileSplit) -> Result<Self, JobError> {
        let mut constants = Vec::new();
        for column in &files.partitioned_by {
            let value = partition::value_in_path(&split.name, column, &files.default_partition)
                .ok_or_else(|| {
                    JobError::failed(format!(
                        "table '{}': the path of file '{}' must have a directory '{column}=…', found none",
                        files.table, split.name
                    ))
                })?;
            constants.push((column.clone(), value));
        }
        let columns = files
            .data_fields
            .iter()
            .filter_map(|field| Column::new(field.data_type()))
            .collect();
        Ok(Self {
            files,
            split: split.clone(),
            columns,
            constants,
            ends: Vec::new(),
            bytes: 0,
        })
    }

    fn add(&mut self, record: &[u8], at: RecordAt) -> Result<(), JobError> {
        let files = self.files;
        match files
            .format
            .decode(record, &files.data_fields, &mut self.columns)
        {
            Ok(true) => {
                let (position, line) = at.end;
                // The last record may have no line end.
                self.ends.push((position.min(self.split.file_bytes), line));
                self.bytes += record.len();
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => Err(self.malformed(record, at.line, &error)),
        }
    }

    fn full(&self) -> bool {
        self.ends.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Where in the file it is wrong, and what.
    fn malformed(&self, record: &[u8], line: u64, error: &Malformed) -> JobError {
        let before = record.get(..error.at).unwrap_or(record);
        let line = line + before.iter().filter(|byte| **byte == b'\n').count() as u64;
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let in_line = String::from_utf8_lossy(before.get(line_start..).unwrap_or(&[]));
        let column = in_line.chars().count() + 1;
        let file = match self.split.name.as_str() {
            "" => self.files.location.uri(),
            name => name,
        };
        let counted = match self.split.start {
            0 => String::new(),
            start => format!(" (counted from byte {start})"),
        };
        JobError::failed(format!(
            "table '{}': file '{file}', line {line}{counted}, column {column}: {}",
            self.files.table, error.what
        ))
    }

    /// The rows so far.
    fn finish(&mut self, split: usize) -> Result<Progress, JobError> {
        let ends = std::mem::take(&mut self.ends);
        self.bytes = 0;
        let mut data = self.columns.iter_mut();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.files.schema.fields().len());
        for field in self.files.schema.fields() {
            let of_path = self.constants.iter().find(|(name, _)| name == field.name());
            arrays.push(match of_path {
                Some((_, value)) => {
                    let value = value.as_deref().filter(|value| !value.is_empty());
                    constant(self.files, &self.split.name, field, value, ends.len())?
                }
                None => match data.next() {
                    Some(column) => column.finish()?,
                    None => arrow::array::new_null_array(field.data_type(), ends.len()),
                },
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(ends.len()));
        let schema = Arc::clone(&self.files.schema);
        let rows = RecordBatch::try_new_with_options(schema, arrays, &options)?;
        Ok(Progress::Rows { split, rows, ends })
    }
}

/// A column that holds the same value in every row: that of a partition directory in the file's path.
fn constant(
    files: &Files,
    file: &str,
    field: &Field,
    value: Option<&str>,
    rows: usize,
) -> Result<ArrayRef, JobError> {
    let wrong = || {
        JobError::failed(format!(
            "table '{}': the path of file '{file}' must give column '{}' a {}, found '{}'",
            files.table,
            field.name(),
            sql_name(field.data_type()),
            value.unwrap_or("")
        ))
    };
    let scalar = match value {
        None if !field.is_nullable() => return Err(wrong()),
        None => Scalar::Null,
        Some(text) => scalar::parse(field.data_type(), text).ok_or_else(wrong)?,
    };
    let mut column = Column::new(field.data_type()).ok_or_else(wrong)?;
    for _ in 0..rows {
        column.push(scalar.clone());
    }
    Ok(column.finish()?)
}
