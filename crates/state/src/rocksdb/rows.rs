//! The rows of databases, for whoever reads a snapshot without being its backend: other backends at a restore, full snapshots, savepoints.
//!
//! The files are downloaded into a local directory that goes away with the source, and opened for reading only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::rocksdb::{ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, Options, ReadOptions};
use aquifer_store::{Environment, KeyGroupRange, TableId};

use super::directory::LocalDirectory;
use super::expiry::{Expiry, Rule};
use super::options::RocksdbOptions;
use super::transfer::Transfers;
use super::{failed, restore, row, tuning};
use crate::backend::TableMoment;
use crate::rows::{RowRefs, RowSource};
use crate::{DbSnapshot, KeyedSnapshot, StateDescription, StateError};

/// Bytes of blocks that are kept while rows are read one after the other.
const CACHE_BYTES: usize = 8 << 20;

/// A directory with the files of a database.
pub(super) struct Laid {
    pub(super) path: PathBuf,
    pub(super) operator: String,
    pub(super) families: Vec<(String, TableId)>,
}

/// See the module.
pub(crate) struct DatabaseRows {
    databases: Vec<DB>,
    /// By number.
    tables: Vec<ReadTable>,
    groups: KeyGroupRange,
    /// Where reading goes on: key group, place in `tables`, and the least key.
    group: u16,
    at: usize,
    from: Vec<u8>,
    done: bool,
    /// The files. Dropped after the databases.
    _directory: Option<Arc<LocalDirectory>>,
}

struct ReadTable {
    table: TableId,
    database: usize,
    family: String,
    /// What expires, and what time it is.
    expired: Option<(Rule, i64)>,
}

impl ReadTable {
    fn hides(&self, time_ms: Option<i64>) -> bool {
        self.expired
            .is_some_and(|(rule, now_ms)| rule.ttl.expired(time_ms, now_ms))
    }
}

impl DatabaseRows {
    /// Downloads the databases of a snapshot and opens them. Rows that have expired by the options of `tables` are left out.
    pub(crate) fn open(
        snapshot: &KeyedSnapshot,
        clip: KeyGroupRange,
        tables: &[(StateDescription, TableId)],
        environment: &Environment,
    ) -> Result<Self, StateError> {
        if !snapshot.files.files.is_empty() {
            return Err(StateError::Corrupt(
                "a part of a checkpoint has rows in files and in databases, expected one or the other".into(),
            ));
        }
        let options = RocksdbOptions::default();
        let directory = LocalDirectory::create(&[], 0, &environment.file_prefix)?;
        let objects = Arc::clone(&environment.objects);
        let transfers = Transfers::new(objects, environment.runtime.clone());
        let wanted: Vec<&DbSnapshot> = snapshot
            .databases
            .iter()
            .filter(|database| database.range.intersection(clip).is_some())
            .collect();
        let laid = restore::download(&wanted, &directory, &transfers, options.transfers)?;
        Self::read(laid, clip, Some(directory)).map(|mut rows| {
            rows.keep(tables, &snapshot.tables, environment);
            rows
        })
    }

    /// Opens databases that lie in directories. Nothing is left out.
    pub(super) fn read(
        laid: Vec<Laid>,
        groups: KeyGroupRange,
        directory: Option<Arc<LocalDirectory>>,
    ) -> Result<Self, StateError> {
        let (mut databases, mut tables) = (Vec::new(), Vec::new());
        for Laid {
            path,
            operator,
            families,
        } in laid
        {
            let names = families.iter().map(|(name, _)| name.as_str());
            databases.push(open_to_read(&path, &operator, names)?);
            tables.extend(families.into_iter().map(|(family, table)| ReadTable {
                table,
                database: databases.len() - 1,
                family,
                expired: None,
            }));
        }
        tables.sort_by_key(|table| table.table);
        let twice = tables
            .windows(2)
            .find(|pair| matches!(pair, [a, b] if a.table == b.table));
        if let Some([table, _]) = twice {
            return Err(StateError::Corrupt(format!(
                "table {} is in two column families of a checkpoint",
                table.table.0
            )));
        }
        Ok(Self {
            databases,
            done: tables.is_empty(),
            tables,
            groups,
            group: groups.start,
            at: 0,
            from: Vec::new(),
            _directory: directory,
        })
    }

    /// Reads these tables only, and of them what has not expired.
    fn keep(
        &mut self,
        tables: &[(StateDescription, TableId)],
        moments: &[TableMoment],
        environment: &Environment,
    ) {
        self.tables.retain_mut(|read| {
            let Some((description, _)) = tables.iter().find(|(_, id)| *id == read.table) else {
                return false;
            };
            let event_time_ms = || {
                let moment = moments.iter().find(|moment| moment.table == read.table);
                moment.and_then(|moment| moment.event_time_ms)
            };
            let options = &description.options;
            let rule = Rule::of(options).filter(|_| !options.show_expired);
            read.expired = rule.and_then(|rule| match rule.event_time {
                false => Some((rule, (environment.clock)())),
                true => Some((rule, event_time_ms()?)),
            });
            true
        });
        self.done = self.tables.is_empty();
    }

    /// Goes to the next table, or to the first one of the next key group.
    fn advance(&mut self) {
        self.from.clear();
        self.at += 1;
        if self.at < self.tables.len() {
            return;
        }
        self.at = 0;
        match self.group < self.groups.end {
            true => self.group += 1,
            false => self.done = true,
        }
    }

    /// Hands out rows of the present table and group, and says how many, and whether that was all.
    fn piece(
        &mut self,
        rows_max: usize,
        each: &mut dyn FnMut(RowRefs<'_>) -> Result<(), StateError>,
    ) -> Result<(usize, bool), StateError> {
        let Some(read) = self.tables.get(self.at) else {
            return Ok((0, true));
        };
        let Some(db) = self.databases.get(read.database) else {
            return Ok((0, true));
        };
        let gone = |what: &str| format!("{what} in column family `{}`", read.family);
        let family = db.cf_handle(&read.family).ok_or_else(|| {
            StateError::Corrupt(format!(
                "a database of a checkpoint has no column family `{}`",
                read.family
            ))
        })?;
        let (mut from, mut end) = (Vec::new(), Vec::new());
        row::key_into(self.group, &self.from, &mut from);
        row::key_into(self.group, b"", &mut end);
        let mut options = ReadOptions::default();
        if row::step_past(&mut end) {
            options.set_iterate_upper_bound(end);
        }
        let mut rows = db.raw_iterator_cf_opt(family, options);
        rows.seek(&from);
        let mut count = 0;
        while let Some((key, stored)) = rows.item() {
            let (_, key) = row::split_key(key)?;
            if count == rows_max {
                self.from.clear();
                self.from.extend_from_slice(key);
                return Ok((count, false));
            }
            let (value, time_ms) = row::value_of(stored)?;
            if !read.hides(time_ms) {
                each(RowRefs {
                    group: self.group,
                    table: read.table,
                    key,
                    value,
                    time_ms,
                })?;
                count += 1;
            }
            rows.next();
        }
        let status = rows.status();
        status.map_err(|error| failed(gone("a scan"), error))?;
        Ok((count, true))
    }
}

impl RowSource for DatabaseRows {
    fn next(
        &mut self,
        rows_max: usize,
        each: &mut dyn FnMut(RowRefs<'_>) -> Result<(), StateError>,
    ) -> Result<bool, StateError> {
        let mut left = rows_max.max(1);
        while !self.done && left > 0 {
            let (count, all) = self.piece(left, each)?;
            left -= count.min(left);
            if all {
                self.advance();
            }
        }
        Ok(!self.done)
    }

    fn seek(&mut self, group: u16, table: TableId, key: &[u8]) -> Result<(), StateError> {
        self.from.clear();
        self.done = self.tables.is_empty() || group > self.groups.end;
        if self.done {
            return Ok(());
        }
        (self.group, self.at) = (group.max(self.groups.start), 0);
        if group < self.groups.start {
            return Ok(());
        }
        self.at = self.tables.partition_point(|known| known.table < table);
        match self.tables.get(self.at) {
            Some(known) if known.table == table => self.from.extend_from_slice(key),
            Some(_) => {}
            None => {
                self.at = self.tables.len() - 1;
                self.advance();
            }
        }
        Ok(())
    }
}

fn open_to_read<'a>(
    path: &Path,
    operator: &str,
    families: impl Iterator<Item = &'a str>,
) -> Result<DB, StateError> {
    let options = RocksdbOptions {
        block_cache_bytes: CACHE_BYTES,
        ..RocksdbOptions::default()
    };
    let cache = tuning::cache(&options);
    let (expiry, clock): (_, aquifer_store::Clock) = (Expiry::unknown(), Arc::new(|| 0));
    let mut descriptors = vec![ColumnFamilyDescriptor::new(
        DEFAULT_COLUMN_FAMILY_NAME,
        Options::default(),
    )];
    for family in families {
        super::database::check_family(family)?;
        let of = tuning::family_options(&options, &cache, &expiry, &clock, false);
        descriptors.push(ColumnFamilyDescriptor::new(family, of));
    }
    let of = tuning::database_options(&options);
    DB::open_cf_descriptors_read_only(&of, path, descriptors, false).map_err(|error| {
        failed(
            format_args!("opening the database of operator `{operator}` to read it"),
            error,
        )
    })
}
