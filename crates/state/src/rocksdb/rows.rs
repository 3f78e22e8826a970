//! The rows of databases, for whoever reads a snapshot without being its backend: other backends at a restore, full snapshots, savepoints.
//!
//! The databases are opened for reading only, and may be shared with other sources ([`OpenDatabases`]).

use std::path::PathBuf;
use std::sync::Arc;

use ::rocksdb::ReadOptions;
use aquifer_store::{Environment, KeyGroupRange, TableId};

use super::expiry::Rule;
use super::open_databases::{OpenDatabase, OpenDatabases};
use super::{failed, row};
use crate::backend::TableMoment;
use crate::rows::{RowRefs, RowSource};
use crate::{KeyedSnapshot, StateDescription, StateError};

/// A directory with the files of a database.
pub(super) struct Laid {
    pub(super) path: PathBuf,
    pub(super) operator: String,
    pub(super) families: Vec<(String, TableId)>,
}

/// See the module.
pub(crate) struct DatabaseRows {
    databases: Vec<Arc<OpenDatabase>>,
    /// By number.
    tables: Vec<ReadTable>,
    groups: KeyGroupRange,
    /// Where reading goes on: key group, place in `tables`, and the least key.
    group: u16,
    at: usize,
    from: Vec<u8>,
    done: bool,
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
    /// Finds the databases of a snapshot that have one of `tables` among those that are `open`, or downloads and opens them. Rows that have
    /// expired by the options of `tables` are left out.
    pub(crate) fn open(
        snapshot: &KeyedSnapshot,
        clip: KeyGroupRange,
        tables: &[(StateDescription, TableId)],
        environment: &Environment,
        open: &OpenDatabases,
    ) -> Result<Self, StateError> {
        if !snapshot.files.files.is_empty() {
            return Err(StateError::Corrupt(
                "a part of a checkpoint has rows in files and in databases, expected one or the other".into(),
            ));
        }
        let asked_for = |table: TableId| tables.iter().any(|(_, id)| *id == table);
        let mut opened = Vec::new();
        for database in &snapshot.databases {
            let has_some = database.families.iter().any(|(_, table)| asked_for(*table));
            if has_some && database.range.intersection(clip).is_some() {
                opened.push(open.of(database, environment)?);
            }
        }
        let mut rows = Self::of(opened, clip)?;
        rows.keep(tables, &snapshot.tables, environment);
        Ok(rows)
    }

    /// Opens databases that lie in directories. Nothing is left out.
    pub(super) fn read(laid: &[Laid], groups: KeyGroupRange) -> Result<Self, StateError> {
        let mut opened = Vec::with_capacity(laid.len());
        for laid in laid {
            opened.push(Arc::new(OpenDatabase::of(laid)?));
        }
        Self::of(opened, groups)
    }

    fn of(databases: Vec<Arc<OpenDatabase>>, groups: KeyGroupRange) -> Result<Self, StateError> {
        let mut tables = Vec::new();
        for (index, database) in databases.iter().enumerate() {
            tables.extend(database.families.iter().map(|(family, table)| ReadTable {
                table: *table,
                database: index,
                family: family.clone(),
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
        })
    }

    /// Leaves out of each table what has expired by this rule at this time.
    pub(super) fn leave_out(&mut self, expired: impl Fn(TableId) -> Option<(Rule, i64)>) {
        for read in &mut self.tables {
            read.expired = expired(read.table);
        }
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
        let Some(OpenDatabase { db, .. }) = self.databases.get(read.database).map(Arc::as_ref)
        else {
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
