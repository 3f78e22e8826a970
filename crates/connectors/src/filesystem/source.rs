//! Reading a table of files: which files there are, and a reader for some of their ranges.

use std::sync::Arc;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::{ConnectorContext, Source, SourceReader};

use super::Files;
use super::location::Opened;
use super::reader::FileReader;
use super::split::FileSplit;
use crate::column::supported;
use crate::types::sql_name;

/// A file that may be split is cut into ranges of this size.
const RANGE_BYTES: u64 = 16 << 20;

/// A table of files to read.
pub(super) struct FileSource(Arc<Files>);

impl FileSource {
    pub(super) fn new(files: Files) -> Result<Self, JobError> {
        for name in &files.partitioned_by {
            let Some((_, field)) = files.schema.column_with_name(name) else {
                continue;
            };
            if field.data_type().is_nested() || !supported(field.data_type()) {
                return Err(JobError::usage(format!(
                    "table '{}': column '{name}' of PARTITIONED BY must be a scalar, found {}",
                    files.table,
                    sql_name(field.data_type())
                )));
            }
        }
        Ok(Self(Arc::new(files)))
    }
}

impl Source for FileSource {
    fn splits(&self, _workers: usize) -> Result<Vec<Vec<u8>>, JobError> {
        let files = &self.0;
        // The caller may stand inside a runtime, where waiting is forbidden: a thread of its own does the waiting.
        let listing = std::thread::scope(|scope| scope.spawn(|| list(files)).join());
        let listed = listing.unwrap_or_else(|_| {
            Err(JobError::failed(format!(
                "listing the files of table '{}' panicked",
                files.table
            )))
        })?;
        let mut splits = Vec::new();
        for (name, file_bytes) in listed {
            let range_bytes = if files.format.splittable() {
                RANGE_BYTES
            } else {
                u64::MAX
            };
            let mut start = 0;
            while start < file_bytes {
                let end = start.saturating_add(range_bytes).min(file_bytes);
                splits.push(FileSplit::new(&name, start, end, file_bytes).encode());
                start = end;
            }
        }
        Ok(splits)
    }

    fn reader(
        &self,
        splits: Vec<Vec<u8>>,
        context: ConnectorContext,
    ) -> Result<Box<dyn SourceReader>, JobError> {
        let mut decoded = Vec::with_capacity(splits.len());
        for bytes in &splits {
            decoded.push(FileSplit::decode(bytes).ok_or_else(|| {
                JobError::failed(format!(
                    "the position of a split of table '{}' must be a range of a file, found {bytes:?}",
                    self.0.table
                ))
            })?);
        }
        Ok(Box::new(FileReader::start(
            Arc::clone(&self.0),
            decoded,
            context,
        )?))
    }

    fn bounded(&self) -> bool {
        true
    }
}

/// Names and sizes of the files of a table, ordered by name.
fn list(files: &Files) -> Result<Vec<(String, u64)>, JobError> {
    let (opened, only) = files.location.open_existing()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| JobError::failed(format!("no runtime to list files with: {error}")))?;
    let found = runtime.block_on(Opened::list(&opened))?;
    let mut listed = Vec::new();
    for (name, meta) in found {
        let wanted = match &only {
            Some(only) => name == *only,
            None => !name.split('/').any(|part| part.starts_with(['.', '_'])),
        };
        if wanted && meta.size > 0 {
            listed.push((name, meta.size));
        }
    }
    Ok(listed)
}
