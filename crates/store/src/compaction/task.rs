//! A compaction as a value: all that another process needs to do it, in bytes. `docs/format/remote-compaction.md` has the diagram.
//!
//! What a task does depends on nothing but the task and the files it names, clock and fold names included, so it is the same
//! compaction wherever it runs: [`run`] leads into [`job::run`], which the store itself uses. The decoder takes hostile bytes; the
//! checksum around them is that of the message they travel in.
use std::sync::Arc;

use super::job::{self, Terms};
use super::picker::{Action, CompactionJob, Reason};
use crate::checkpoint::{Checkpoint, FileRef};
use crate::context::Context;
use crate::encoding::{Reader, put_bytes, put_varint};
use crate::error::{Error, Result};
use crate::expiry::ExpiryClock;
use crate::options::{Compression, StoreOptions, TableId, TableOptions};
use crate::rules::{Rules, TableRules};
use crate::sst::file::SstFile;
use crate::version::{LEVELS, VersionFile};

/// Sorted runs that a task may merge.
const RUNS_MAX: usize = 4096;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompactionTask {
    /// Sorted runs, newest first, with the clips of their files.
    pub(crate) runs: Vec<Vec<FileRef>>,
    pub(crate) output_level: u8,
    pub(crate) drop_tombstones: bool,
    pub(crate) file_bytes_target: u64,
    /// How new files are made.
    pub(crate) block_bytes: u64,
    pub(crate) filter_bits_per_key: u32,
    pub(crate) compression: Compression,
    pub(crate) value_aside_bytes: u64,
    /// Options of the tables whose rows the files may hold; folds are in them by name.
    pub(crate) tables: Vec<(TableId, TableOptions)>,
    /// By which now rows expire.
    pub(crate) clock: ExpiryClock,
    /// See [`Terms::operands_since_ms`].
    pub(crate) operands_since_ms: i64,
    /// Where outputs go,
    pub(crate) directory: String,
    /// and how their names begin; whoever runs the task adds something of its own.
    pub(crate) file_prefix: String,
}

impl CompactionTask {
    /// A job of a store, written down.
    pub(crate) fn new(
        context: &Context,
        job: &CompactionJob,
        tables: Vec<(TableId, TableOptions)>,
        terms: &Terms,
        file_prefix: String,
    ) -> Self {
        let described = |run: &Vec<Arc<VersionFile>>| run.iter().map(|f| f.describe()).collect();
        Self {
            runs: job.runs.iter().map(described).collect(),
            output_level: job.output_level,
            drop_tombstones: job.drop_tombstones,
            file_bytes_target: job.file_bytes_target,
            block_bytes: context.options.block_bytes as u64,
            filter_bits_per_key: context.options.filter_bits_per_key,
            compression: context.options.compression_of(job.output_level),
            value_aside_bytes: context.options.value_aside_bytes as u64,
            tables,
            clock: terms.clock.clone(),
            operands_since_ms: terms.operands_since_ms,
            directory: context.env.directory.to_string(),
            file_prefix,
        }
    }

    /// Bytes of all inputs.
    pub(crate) fn input_bytes(&self) -> u64 {
        let sizes = self.runs.iter().flatten().map(|file| file.size_bytes);
        sizes.fold(0, u64::saturating_add)
    }

    /// The task for a process that sees `from` (as the task says) as `to`. `None` if some file lies elsewhere.
    pub(crate) fn moved(mut self, from: &str, to: &str) -> Option<Self> {
        for file in self.runs.iter_mut().flatten() {
            file.path = moved_path(&file.path, from, to)?;
        }
        self.directory = moved_path(&self.directory, from, to)?;
        Some(self)
    }

    /// The options with which a process that runs the task opens its context.
    pub(crate) fn store_options(&self) -> StoreOptions {
        StoreOptions {
            block_bytes: usize::try_from(self.block_bytes)
                .unwrap_or(usize::MAX)
                .max(1),
            filter_bits_per_key: self.filter_bits_per_key,
            compression: vec![self.compression],
            value_aside_bytes: usize::try_from(self.value_aside_bytes).unwrap_or(usize::MAX),
            file_bytes_target: self.file_bytes_target,
            ..StoreOptions::default()
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.runs.len() as u64);
        for run in &self.runs {
            let mut bytes = Vec::new();
            let files = run.clone();
            Checkpoint {
                files,
                ..Checkpoint::default()
            }
            .encode(&mut bytes);
            put_bytes(out, &bytes);
        }
        out.push(self.output_level);
        out.push(u8::from(self.drop_tombstones));
        put_varint(out, self.file_bytes_target);
        put_varint(out, self.block_bytes);
        put_varint(out, u64::from(self.filter_bits_per_key));
        out.push(self.compression.code());
        put_varint(out, self.value_aside_bytes);
        put_varint(out, self.tables.len() as u64);
        for (table, options) in &self.tables {
            out.extend_from_slice(&table.0.to_le_bytes());
            let mut bytes = Vec::new();
            options.encode(&mut bytes);
            put_bytes(out, &bytes);
        }
        self.clock.encode(out);
        out.extend_from_slice(&self.operands_since_ms.to_le_bytes());
        put_bytes(out, self.directory.as_bytes());
        put_bytes(out, self.file_prefix.as_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let count = reader.count(1, "number of runs")?;
        if count > RUNS_MAX {
            return Err(Error::corrupt(format!(
                "a compaction task says that it merges {count} runs, more than {RUNS_MAX}"
            )));
        }
        let mut runs = Vec::with_capacity(count);
        for _ in 0..count {
            runs.push(Checkpoint::decode(reader.bytes("files of a run")?)?.files);
        }
        let output_level = reader.u8("output level")?;
        if usize::from(output_level) >= LEVELS {
            return Err(Error::corrupt(format!(
                "a compaction task writes level {output_level}, but there are {LEVELS} levels"
            )));
        }
        let drop_tombstones = match reader.u8("whether tombstones are dropped")? {
            0 => false,
            1 => true,
            other => {
                return Err(Error::corrupt(format!(
                    "a compaction task says {other} where 0 or 1 says whether tombstones are dropped"
                )));
            }
        };
        let file_bytes_target = reader.varint("size of output files")?;
        let block_bytes = reader.varint("size of blocks")?;
        let bits = reader.varint("filter bits per key")?;
        let filter_bits_per_key = u32::try_from(bits).map_err(|_| {
            Error::corrupt(format!(
                "a compaction task asks for {bits} filter bits per key"
            ))
        })?;
        let code = reader.u8("compression")?;
        let compression = Compression::from_code(code).ok_or_else(|| {
            Error::corrupt(format!(
                "a compaction task asks for compression {code}, which this program does not know"
            ))
        })?;
        let value_aside_bytes = reader.varint("size of values that lie aside")?;
        let count = reader.count(3, "number of tables")?;
        let mut tables = Vec::with_capacity(count.min(usize::from(u16::MAX)));
        for _ in 0..count {
            let table = TableId(reader.u16("table")?);
            tables.push((
                table,
                TableOptions::decode(reader.bytes("options of a table")?)?,
            ));
        }
        Ok(Self {
            runs,
            output_level,
            drop_tombstones,
            file_bytes_target,
            block_bytes,
            filter_bits_per_key,
            compression,
            value_aside_bytes,
            tables,
            clock: ExpiryClock::decode(reader)?,
            operands_since_ms: reader.u64("time of newer operands")?.cast_signed(),
            directory: text(reader, "output directory")?,
            file_prefix: text(reader, "prefix of output names")?,
        })
    }
}

/// A path whose head `from` is called `to` elsewhere; `None` if it begins otherwise.
pub(crate) fn moved_path(path: &str, from: &str, to: &str) -> Option<String> {
    let rest = match from {
        "" => path,
        from => path.strip_prefix(from)?.strip_prefix('/')?,
    };
    Some(match to {
        "" => rest.to_string(),
        to => format!("{to}/{rest}"),
    })
}

pub(crate) fn text(reader: &mut Reader<'_>, field: &str) -> Result<String> {
    let bytes = reader.bytes(field)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_string()),
        Err(_) => Err(Error::corrupt(format!(
            "the {field} of a message is not text"
        ))),
    }
}

/// Does a task on a background thread of a process that has not the store itself. `context` writes where the task says.
pub(crate) fn run(context: &Arc<Context>, task: &CompactionTask) -> Result<Vec<FileRef>> {
    let mut runs = Vec::with_capacity(task.runs.len());
    for files in &task.runs {
        let mut run = Vec::with_capacity(files.len());
        for described in files {
            let file = SstFile::restored(context, described)?;
            run.extend(VersionFile::new(file, described.level, described.clip));
        }
        runs.push(run);
    }
    let job = CompactionJob {
        runs,
        output_level: task.output_level,
        drop_tombstones: task.drop_tombstones,
        action: Action::Merge,
        reason: Reason::Remote,
        file_bytes_target: task.file_bytes_target,
    };
    let mut rules = TableRules::default();
    for (table, options) in &task.tables {
        rules.set(*table, Rules::new(options, &context.env.folds).into());
    }
    let terms = Arc::new(Terms {
        rules,
        clock: task.clock.clone(),
        operands_since_ms: task.operands_since_ms,
    });
    let outputs = job::run(context, &job, &terms)?.into_iter();
    let outputs = outputs.filter_map(|output| VersionFile::whole(output.file, task.output_level));
    Ok(outputs.map(|output| output.describe()).collect())
}
