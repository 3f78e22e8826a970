//! One operator's database on one worker.
//!
//! What always holds: rows are written by the worker's thread only; a frozen database is a directory of hard links that nothing changes;
//! `writes` counts every write, so that a write between two freezes of one barrier is noticed.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::rocksdb::checkpoint::Checkpoint;
use ::rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBPinnableSlice, DEFAULT_COLUMN_FAMILY_NAME,
    ReadOptions, WriteBatch, WriteOptions, properties,
};
use aquifer_store::{Clock, KeyGroupRange, SCAN_BYTES_MAX, ScanRows, TableId};
use bytes::{Bytes, BytesMut};

use super::expiry::Expiry;
use super::options::{RocksdbCompactionStyle, RocksdbOptions};
use super::uploaded::Uploaded;
use super::{failed, row, tuning};
use crate::{DbFile, StateError};

/// Rows of a prefix that are deleted one by one; where there are more, a range is.
const DELETED_ONE_BY_ONE_MAX: usize = 128;
/// More than any key can have of `ff` bytes is not needed: it has to lie above every key of the last group.
const ABOVE_ALL: [u8; 66] = [0xff; 66];

/// What all databases of a worker are made with.
#[derive(Clone)]
pub(super) struct Making {
    pub(super) options: RocksdbOptions,
    pub(super) clock: Clock,
}

/// A column family that is opened or made.
pub(super) struct Family {
    pub(super) name: String,
    pub(super) table: TableId,
    pub(super) expiry: Arc<Expiry>,
    /// After how long its files are rewritten; 0: never.
    pub(super) periodic_seconds: u64,
}

/// A database as it was at a barrier.
pub(super) struct Frozen {
    pub(super) writes: u64,
    /// Its column families and the tables they are.
    pub(super) families: Vec<(String, TableId)>,
    pub(super) form: Form,
}

/// What there is of a frozen database.
pub(super) enum Form {
    /// Nothing was ever written.
    Empty,
    /// Nothing was written since the checkpoint that has these files was completed.
    Unchanged(Vec<DbFile>),
    /// Hard links.
    Directory(PathBuf),
}

/// See the module.
pub(super) struct Database {
    db: DB,
    pub(super) operator: String,
    families: Vec<(String, TableId)>,
    making: Making,
    cache: Cache,
    write_options: WriteOptions,
    read_options: ReadOptions,
    writes: u64,
    /// There may be rows that were not written here.
    pub(super) restored: bool,
    pub(super) frozen: Option<Frozen>,
    pub(super) uploaded: Uploaded,
    /// Bytes of the files when it was last frozen, and bytes written since.
    file_bytes: u64,
    new_bytes: u64,
}

impl Database {
    /// Opens the database of a directory, which is empty or has the files of a checkpoint.
    pub(super) fn open(
        path: &Path,
        operator: &str,
        families: Vec<Family>,
        making: &Making,
    ) -> Result<Self, StateError> {
        let cache = tuning::cache(&making.options);
        let unused = Expiry::unknown();
        let (options, clock) = (&making.options, &making.clock);
        let default = tuning::family_options(options, &cache, &unused, clock, 0);
        let mut descriptors = vec![ColumnFamilyDescriptor::new(
            DEFAULT_COLUMN_FAMILY_NAME,
            default,
        )];
        for family in &families {
            check_family(&family.name)?;
            let seconds = family.periodic_seconds;
            let of = tuning::family_options(options, &cache, &family.expiry, clock, seconds);
            descriptors.push(ColumnFamilyDescriptor::new(&family.name, of));
        }
        let of_database = tuning::database_options(options, path);
        let opened = DB::open_cf_descriptors(&of_database, path, descriptors);
        let opening = || format!("opening the database of operator `{operator}`");
        let db = opened.map_err(|error| failed(opening(), error))?;
        let mut write_options = WriteOptions::default();
        // Sources replay.
        write_options.disable_wal(true);
        let families = families.into_iter();
        Ok(Self {
            db,
            operator: operator.to_owned(),
            restored: false,
            families: families.map(|family| (family.name, family.table)).collect(),
            making: making.clone(),
            cache,
            write_options,
            read_options: ReadOptions::default(),
            writes: 0,
            frozen: None,
            uploaded: Uploaded::default(),
            file_bytes: 0,
            new_bytes: 0,
        })
    }

    /// What the column family of a table is called.
    pub(super) fn family_name(table: TableId) -> String {
        format!("table-{}", table.0)
    }

    /// Adds a column family for a table.
    pub(super) fn create_family(&mut self, family: &Family) -> Result<(), StateError> {
        let (options, clock) = (&self.making.options, &self.making.clock);
        let seconds = family.periodic_seconds;
        let of = tuning::family_options(options, &self.cache, &family.expiry, clock, seconds);
        let created = self.db.create_cf(&family.name, &of);
        created.map_err(|error| self.failed("adding a column family", error))?;
        self.families.push((family.name.clone(), family.table));
        if self.restored || self.writes > 0 {
            // What was uploaded does not have it.
            self.writes += 1;
        }
        Ok(())
    }

    /// Files of a table are rewritten when they are so old; 0: never.
    pub(super) fn rewrite_after(&self, family: &str, seconds: u64) -> Result<(), StateError> {
        let seconds = seconds.to_string();
        let changes = [("periodic_compaction_seconds", seconds.as_str())];
        let set = self.db.set_options_cf(self.family(family)?, &changes);
        set.map_err(|error| self.failed("changing when files are rewritten", error))
    }

    #[inline]
    fn family(&self, name: &str) -> Result<&ColumnFamily, StateError> {
        self.db.cf_handle(name).ok_or_else(|| {
            StateError::Usage(format!(
                "the database of operator `{}` has no column family `{name}`",
                self.operator
            ))
        })
    }

    fn failed(&self, what: &str, error: ::rocksdb::Error) -> StateError {
        failed(
            format_args!("{what} in the database of operator `{}`", self.operator),
            error,
        )
    }

    /// Reads one key, as it is stored.
    #[inline]
    pub(super) fn get(
        &self,
        family: &str,
        key: &[u8],
    ) -> Result<Option<DBPinnableSlice<'_>>, StateError> {
        let family = self.family(family)?;
        let found = self.db.get_pinned_cf_opt(family, key, &self.read_options);
        found.map_err(|error| self.failed("a read", error))
    }

    /// Reads many keys, as they are stored; `answer` is called once for each, in their order.
    pub(super) fn multi_get<'k>(
        &self,
        family: &str,
        keys: impl Iterator<Item = &'k [u8]>,
        mut answer: impl FnMut(usize, Option<&[u8]>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let family = self.family(family)?;
        let options = &self.read_options;
        let found = self
            .db
            .batched_multi_get_cf_opt(family, keys, false, options);
        for (index, found) in found.into_iter().enumerate() {
            let found = found.map_err(|error| self.failed("a read", error))?;
            answer(index, found.as_deref())?;
        }
        Ok(())
    }

    /// Writes one stored value.
    #[inline]
    pub(super) fn put(&mut self, family: &str, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let of = self.family(family)?;
        let put = self.db.put_cf_opt(of, key, value, &self.write_options);
        put.map_err(|error| self.failed("a write", error))?;
        self.wrote(key.len() + value.len());
        Ok(())
    }

    /// Appends a stored operand.
    #[inline]
    pub(super) fn merge(
        &mut self,
        family: &str,
        key: &[u8],
        operand: &[u8],
    ) -> Result<(), StateError> {
        let of = self.family(family)?;
        let merged = self.db.merge_cf_opt(of, key, operand, &self.write_options);
        merged.map_err(|error| self.failed("a write", error))?;
        self.wrote(key.len() + operand.len());
        Ok(())
    }

    /// Removes one key.
    #[inline]
    pub(super) fn delete(&mut self, family: &str, key: &[u8]) -> Result<(), StateError> {
        let of = self.family(family)?;
        let deleted = self.db.delete_cf_opt(of, key, &self.write_options);
        deleted.map_err(|error| self.failed("a deletion", error))?;
        self.wrote(key.len());
        Ok(())
    }

    fn wrote(&mut self, bytes: usize) {
        self.writes += 1;
        self.new_bytes = self.new_bytes.saturating_add(bytes as u64);
    }

    /// Removes every key that starts with `prefix`, which is not empty. A few are looked up and removed one by one, because ranges that are
    /// deleted slow later reads down.
    pub(super) fn delete_prefix(&mut self, family: &str, prefix: &[u8]) -> Result<(), StateError> {
        let mut end = prefix.to_vec();
        if !row::step_past(&mut end) {
            end = ABOVE_ALL.to_vec();
        }
        let of = self.family(family)?;
        let mut batch = WriteBatch::default();
        let mut keys = 0;
        let mut rows = self.rows_between(of, prefix, &end);
        while keys <= DELETED_ONE_BY_ONE_MAX
            && let Some(key) = rows.key()
        {
            batch.delete_cf(of, key);
            keys += 1;
            rows.next();
        }
        let status = rows.status();
        drop(rows);
        status.map_err(|error| self.failed("a scan", error))?;
        if keys > DELETED_ONE_BY_ONE_MAX {
            batch.clear();
            batch.delete_range_cf(of, prefix, &end);
        }
        if keys > 0 {
            let written = self.db.write_opt(batch, &self.write_options);
            written.map_err(|error| self.failed("a deletion", error))?;
            self.wrote(prefix.len());
        }
        Ok(())
    }

    /// Stands at the first key from `from` on, and ends before `end`.
    fn rows_between(
        &self,
        family: &ColumnFamily,
        from: &[u8],
        end: &[u8],
    ) -> ::rocksdb::DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end);
        let mut rows = self.db.raw_iterator_cf_opt(family, options);
        rows.seek(from);
        rows
    }

    /// The rows of a key group from `from` on and before `end`, `rows_max` at most, fewer if they are large. Keys come without their group,
    /// and rows that `hides` says yes to are passed over.
    pub(super) fn scan(
        &self,
        family: &str,
        from: &[u8],
        end: &[u8],
        rows_max: usize,
        hides: impl Fn(Option<i64>) -> bool,
    ) -> Result<ScanRows, StateError> {
        let mut found = Found::default();
        if from >= end {
            return Ok(found.rows(true));
        }
        let mut rows = self.rows_between(self.family(family)?, from, end);
        while let Some((key, stored)) = rows.item() {
            if found.is_full(rows_max) {
                return Ok(found.rows(false));
            }
            let (value, time_ms) = row::value_of(stored)?;
            if !hides(time_ms) {
                found.push(row::split_key(key)?.1, value, time_ms);
            }
            rows.next();
        }
        let status = rows.status();
        status.map_err(|error| self.failed("a scan", error))?;
        Ok(found.rows(true))
    }

    /// Removes the rows of all key groups but these. `had` are those it may have rows of.
    pub(super) fn clip(
        &mut self,
        had: KeyGroupRange,
        wanted: KeyGroupRange,
    ) -> Result<(), StateError> {
        let key = |group: u16, rest: &[u8]| [&group.to_be_bytes(), rest].concat();
        let mut ranges = Vec::new();
        if had.start < wanted.start {
            // The last key that is not wanted, and the first that is.
            let last = key(wanted.start.saturating_sub(1), &ABOVE_ALL);
            ranges.push((key(0, b""), last, key(wanted.start, b"")));
        }
        if had.end > wanted.end {
            let all = ABOVE_ALL.to_vec();
            ranges.push((key(wanted.end.saturating_add(1), b""), all.clone(), all));
        }
        for (name, _) in &self.families {
            let family = self.family(name)?;
            for (from, last, end) in &ranges {
                if self.making.options.delete_files_in_range {
                    let dropped = self.db.delete_file_in_range_cf(family, from, last);
                    dropped.map_err(|error| self.failed("dropping files", error))?;
                }
                let options = &self.write_options;
                let deleted = self.db.delete_range_cf_opt(family, from, end, options);
                deleted.map_err(|error| self.failed("a deletion", error))?;
            }
        }
        self.writes += ranges.len() as u64;
        Ok(())
    }

    /// Writes stored rows of many families at once.
    pub(super) fn load(&mut self, batch: &mut Batch) -> Result<(), StateError> {
        let mut writes = WriteBatch::default();
        for (family, key, value) in batch.rows.drain(..) {
            let family = batch.families.get(family).map_or("", String::as_str);
            writes.put_cf(self.family(family)?, key, value);
        }
        let written = self.db.write_opt(writes, &self.write_options);
        written.map_err(|error| self.failed("a write", error))?;
        self.wrote(std::mem::take(&mut batch.bytes));
        Ok(())
    }

    /// The barrier has come by. `into` is a path at which nothing is yet. Full snapshots want to see a directory.
    pub(super) fn freeze(
        &mut self,
        into: impl FnOnce() -> PathBuf,
        full: bool,
    ) -> Result<(), StateError> {
        if let Some(frozen) = &self.frozen {
            return if frozen.writes == self.writes {
                Ok(())
            } else {
                Err(StateError::Usage(format!(
                    "the tables of operator `{}` were frozen twice in one barrier, with rows written in between",
                    self.operator
                )))
            };
        }
        let unchanged = self.uploaded.unchanged(self.writes).filter(|_| !full);
        let form = match unchanged {
            _ if self.writes == 0 && !self.restored => Form::Empty,
            Some(files) => Form::Unchanged(files),
            None => {
                let path = into();
                let links = Checkpoint::new(&self.db);
                let linked = links.and_then(|links| links.create_checkpoint(&path));
                linked.map_err(|error| self.failed("a checkpoint", error))?;
                Form::Directory(path)
            }
        };
        self.frozen = Some(Frozen {
            writes: self.writes,
            families: self.families.clone(),
            form,
        });
        self.count_bytes();
        Ok(())
    }

    /// Looks how large its files are.
    pub(super) fn count_bytes(&mut self) {
        self.file_bytes = self.sum_of_families(properties::LIVE_SST_FILES_SIZE);
        self.new_bytes = 0;
    }

    /// Bytes of its rows, about.
    pub(super) fn bytes(&self) -> u64 {
        self.file_bytes.saturating_add(self.new_bytes)
    }

    /// Flushes and compactions that run or wait for a thread. None means rest: without a write there will be none.
    pub(super) fn background_tasks(&self) -> u64 {
        // What runs is not counted as waiting, so what begins and ends between two questions would be in neither number; but it makes a new
        // version, and what that calls for waits.
        let version = self.version();
        let waiting = self.sum_of_families(properties::MEM_TABLE_FLUSH_PENDING);
        // RocksDB says what is due also where it does nothing about it.
        let waiting = match self.making.options.compaction_style {
            RocksdbCompactionStyle::None => waiting,
            _ => waiting + self.sum_of_families(properties::COMPACTION_PENDING),
        };
        let of = |property| self.db.property_int_value(property).ok().flatten();
        let running = [
            properties::NUM_RUNNING_FLUSHES,
            properties::NUM_RUNNING_COMPACTIONS,
        ];
        let running: u64 = running.into_iter().filter_map(of).sum();
        match waiting + running {
            0 => u64::from(self.version() != version),
            tasks => tasks,
        }
    }

    /// A number that grows with every flush and compaction that ends.
    fn version(&self) -> u64 {
        self.sum_of_families(properties::CURRENT_SUPER_VERSION_NUMBER)
    }

    fn sum_of_families(&self, property: &CStr) -> u64 {
        let of = |(name, _): &(String, TableId)| {
            let family = self.db.cf_handle(name)?;
            self.db.property_int_value_cf(family, property).ok()?
        };
        let families = self.families.iter();
        families.filter_map(of).fold(0, u64::saturating_add)
    }

    /// Changes so far: writes, and column families that were added to what was there.
    pub(super) fn writes(&self) -> u64 {
        self.writes
    }
}

/// Names come from checkpoints.
pub(super) fn check_family(name: &str) -> Result<(), StateError> {
    if name.is_empty() || name == DEFAULT_COLUMN_FAMILY_NAME || name.contains('\0') {
        return Err(StateError::Corrupt(format!(
            "`{}` is not the name of a column family of a table",
            name.escape_default()
        )));
    }
    Ok(())
}

/// Stored rows that are on their way into one database.
#[derive(Default)]
pub(super) struct Batch {
    families: Vec<String>,
    rows: Vec<(usize, Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Batch {
    /// Adds a row and returns how many bytes there are.
    pub(super) fn push(&mut self, family: &str, key: Vec<u8>, value: Vec<u8>) -> usize {
        let known = self.families.iter().position(|known| known == family);
        let index = known.unwrap_or_else(|| {
            self.families.push(family.to_owned());
            self.families.len() - 1
        });
        self.bytes += key.len() + value.len();
        self.rows.push((index, key, value));
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Rows of a scan, gathered in one allocation.
#[derive(Default)]
struct Found {
    bytes: BytesMut,
    /// Where a key ends and where its value does.
    ends: Vec<(usize, usize)>,
    times: Vec<Option<i64>>,
    timed: bool,
}

impl Found {
    /// Whether an answer of so many rows at most ends here.
    fn is_full(&self, rows_max: usize) -> bool {
        self.ends.len() >= rows_max || self.bytes.len() >= SCAN_BYTES_MAX
    }

    fn push(&mut self, key: &[u8], value: &[u8], time_ms: Option<i64>) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
        self.times.push(time_ms);
        self.timed |= time_ms.is_some();
    }

    fn rows(self, done: bool) -> ScanRows {
        let bytes: Bytes = self.bytes.freeze();
        let mut start = 0;
        let rows = self.ends.into_iter().map(|(key_end, end)| {
            let row = (bytes.slice(start..key_end), bytes.slice(key_end..end));
            start = end;
            row
        });
        ScanRows {
            rows: rows.collect(),
            times: if self.timed { self.times } else { Vec::new() },
            done,
        }
    }
}
