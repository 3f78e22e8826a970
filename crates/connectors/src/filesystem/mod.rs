//! `'connector' = 'filesystem'`: files in a directory or an object store, as a source and as an exactly-once sink.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `path` | required | a file or a directory: a local path, `file:///dir`, `s3://bucket/dir` |
//! | `format` | required | `csv` or `json`, with the options of each |
//! | `partition.default-name` | `__DEFAULT_PARTITION__` | directory for a partition column that is null or empty |
//! | `sink.rolling-policy.file-size` | 128 mb | a part is closed at this size |
//! | `sink.parallelism` | – | only the job's own parallelism is possible |
//!
//! **Reading**: the files that are there when the job first starts, in directories below too; names that begin with `.` or `_`
//! are skipped. JSON files are cut into ranges of 16 MiB; a CSV file is read in one piece, because a line end may be quoted.
//!
//! **Writing**: rows only, no updates. Every checkpoint closes the open parts, and they become visible when it is complete; so
//! the intervals of `sink.rolling-policy.*` have nothing left to decide and are accepted without effect, as are
//! `sink.partition-commit.*` and `partition.time-extractor.*` (a partition is complete when its checkpoint is). With
//! `PARTITIONED BY`, a row goes to the directory `column=value/…` and the files hold the other columns.

mod commit;
mod location;
mod part_name;
mod partition;
mod read;
mod reader;
mod sink;
mod source;
mod split;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::{ConnectorFactory, Sink, Source, TableSpec};

use self::location::Location;
use crate::format::{FORMAT, Format};
use crate::options::Options;

const NAME: &str = "filesystem";
const PATH: &str = "path";
const FILE_SIZE: &str = "sink.rolling-policy.file-size";
const FILE_BYTES_DEFAULT: u64 = 128 << 20;
const DEFAULT_PARTITION: &str = "partition.default-name";
const MONITOR_INTERVAL: &str = "source.monitor-interval";
const AUTO_COMPACTION: &str = "auto-compaction";

const KNOWN: &[&str] = &[
    PATH,
    FORMAT,
    FILE_SIZE,
    DEFAULT_PARTITION,
    MONITOR_INTERVAL,
    AUTO_COMPACTION,
    crate::SINK_PARALLELISM,
    "compaction.file-size",
    "partition.time-extractor.class",
    "partition.time-extractor.kind",
    "partition.time-extractor.timestamp-formatter",
    "partition.time-extractor.timestamp-pattern",
    "sink.partition-commit.delay",
    "sink.partition-commit.policy.class",
    "sink.partition-commit.policy.kind",
    "sink.partition-commit.success-file.name",
    "sink.partition-commit.trigger",
    "sink.partition-commit.watermark-time-zone",
    "sink.rolling-policy.check-interval",
    "sink.rolling-policy.inactivity-interval",
    "sink.rolling-policy.rollover-interval",
];

/// Makes filesystem sources and sinks.
#[derive(Default)]
pub struct FilesystemFactory {
    /// `s3.endpoint` and its like.
    store_settings: BTreeMap<String, String>,
}

impl FilesystemFactory {
    /// Object stores are reached with these settings (`s3.endpoint`, `s3.access-key`, …), and where they say nothing, with the
    /// environment's.
    pub fn new(store_settings: BTreeMap<String, String>) -> Self {
        Self { store_settings }
    }

    /// What reading and writing have in common.
    fn files(&self, table: &TableSpec) -> Result<Files, JobError> {
        let options = Options::new(table, NAME);
        options.check_known(KNOWN.iter().chain(Format::known_options(&options)).copied())?;
        if options.flag(AUTO_COMPACTION, false)? {
            return Err(options.malformed(AUTO_COMPACTION, "false: it is not supported", "true"));
        }
        let uri = match options.text(PATH) {
            Some(uri) if !uri.trim().is_empty() => uri.to_owned(),
            _ => return Err(options.missing(PATH, "a file, a directory or a URI")),
        };
        let is_partition = |name: &String| table.partitioned_by.contains(name);
        for name in &table.partitioned_by {
            if table.schema.column_with_name(name).is_none() {
                return Err(JobError::usage(format!(
                    "table '{}': PARTITIONED BY must name columns of the table, found '{name}'",
                    table.name
                )));
            }
        }
        let data_fields: Vec<FieldRef> = table
            .schema
            .fields()
            .iter()
            .filter(|f| !is_partition(f.name()))
            .cloned()
            .collect();
        if data_fields.is_empty() {
            return Err(JobError::usage(format!(
                "table '{}': a file must hold at least one column, found only those of PARTITIONED BY",
                table.name
            )));
        }
        let default = options
            .text(DEFAULT_PARTITION)
            .unwrap_or("__DEFAULT_PARTITION__");
        Ok(Files {
            table: table.name.clone(),
            schema: Arc::clone(&table.schema),
            format: Format::read(&options, &table.name, &data_fields)?,
            data_fields,
            partitioned_by: table.partitioned_by.clone(),
            default_partition: default.to_owned(),
            location: Location::new(uri, self.store_settings.clone()),
        })
    }
}

impl ConnectorFactory for FilesystemFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>, JobError> {
        let options = Options::new(table, NAME);
        if let Some(found) = options.text(MONITOR_INTERVAL) {
            let expected = "left out: only the files that are there when the job starts are read";
            return Err(options.malformed(MONITOR_INTERVAL, expected, found));
        }
        Ok(Arc::new(source::FileSource::new(self.files(table)?)?))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>, JobError> {
        crate::check_sink_parallelism(table, NAME)?;
        let files = self.files(table)?;
        let options = Options::new(table, NAME);
        let file_bytes = options
            .bytes(FILE_SIZE, FILE_BYTES_DEFAULT, 1 << 40)?
            .max(1);
        Ok(Arc::new(sink::FileSink::new(files, file_bytes)))
    }
}

/// A table of files.
struct Files {
    table: String,
    schema: SchemaRef,
    format: Format,
    /// The columns that files hold: all but those of PARTITIONED BY.
    data_fields: Vec<FieldRef>,
    partitioned_by: Vec<String>,
    default_partition: String,
    location: Location,
}
