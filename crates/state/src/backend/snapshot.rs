//! What a backend hands out as one worker's part of a checkpoint.
//!
//! Most of it is names of files. Whoever moves, counts, keeps or deletes files goes through [`KeyedSnapshot::for_each_path`] and
//! [`KeyedSnapshot::map_paths`], which know every place in which a path can stand. Files that the metadata holds itself lie in no store and
//! are not among them.

use aquifer_store::{Checkpoint, KeyGroupRange, TableId};
use bytes::Bytes;

use crate::StateError;

/// The mount under which the files that the metadata holds itself are named.
const INLINE_PREFIX: &str = "_at/inline/";

/// One worker's part of a checkpoint's keyed state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyedSnapshot {
    /// Rows in SSTs, and which key groups of each are meant.
    pub files: Checkpoint,
    /// Files of embedded databases, which only their backend reads.
    pub databases: Vec<DbSnapshot>,
    /// Small files whose bytes the metadata holds; `files` names them by [`KeyedSnapshot::inline_path`].
    pub inline: Vec<InlineFile>,
    /// What tables are besides their rows, in the order of their numbers. A table that is not named has nothing to say.
    pub tables: Vec<TableMoment>,
}

/// The files of one embedded database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbSnapshot {
    /// The operator whose states it holds.
    pub operator: String,
    /// The key groups it may have rows of.
    pub range: KeyGroupRange,
    /// Its column families and the tables they are.
    pub families: Vec<(String, TableId)>,
    /// Its files.
    pub files: Vec<DbFile>,
}

/// One file of an embedded database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbFile {
    /// Its name within the database.
    pub name: String,
    /// Where it was uploaded to.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
    /// xxh3-64 of its bytes.
    pub checksum: u64,
    /// Later checkpoints may name it again.
    pub shared: bool,
}

/// A file that the metadata holds itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    /// Unique in the checkpoint.
    pub name: String,
    /// The whole file.
    pub bytes: Bytes,
}

/// What a table is at the moment of its snapshot besides its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMoment {
    /// The table.
    pub table: TableId,
    /// The chunk that its lists append to.
    pub list_chunk: u64,
    /// Bytes merged into the table since that chunk was begun.
    pub list_bytes: u64,
    /// Nothing in chunks with a smaller number counts: all of it has expired. Not larger than `list_chunk`.
    pub list_oldest: u64,
    /// No element of its lists was written with a later time; `None` if none was written with a time.
    pub list_latest_ms: Option<i64>,
    /// Chunks that lists no longer append to, by ascending numbers, all of them less than `list_chunk`.
    pub list_closed: Vec<ClosedChunks>,
    /// Its event time, if its TTL counts in event time and one is known.
    pub event_time_ms: Option<i64>,
}

/// List chunks that are not appended to any more: those after the ones before it, up to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedChunks {
    /// The last of them.
    pub last: u64,
    /// No element in them has a later time; `None` if there may be some without a time.
    pub latest_ms: Option<i64>,
}

impl TableMoment {
    /// Of a table of which there is nothing to say.
    pub fn new(table: TableId) -> Self {
        Self {
            table,
            list_chunk: 0,
            list_bytes: 0,
            list_oldest: 0,
            list_latest_ms: None,
            list_closed: Vec::new(),
            event_time_ms: None,
        }
    }
}

impl KeyedSnapshot {
    /// A snapshot that is nothing but rows in SSTs.
    pub fn of_files(files: Checkpoint) -> Self {
        Self {
            files,
            ..Self::default()
        }
    }

    /// What is said of a table.
    pub(crate) fn moment(&self, table: TableId) -> Option<&TableMoment> {
        let found = self
            .tables
            .binary_search_by_key(&table, |moment| moment.table);
        found.ok().and_then(|at| self.tables.get(at))
    }

    /// How `files` names an inline file.
    pub fn inline_path(name: &str) -> String {
        format!("{INLINE_PREFIX}{name}")
    }

    /// The name of an inline file, if `path` is one's.
    pub fn inline_name(path: &str) -> Option<&str> {
        path.strip_prefix(INLINE_PREFIX)
    }

    /// Calls `each` with path and length of every file in a store; with a file that is named twice, twice.
    pub fn for_each_path<'a>(&'a self, each: &mut dyn FnMut(&'a str, u64)) {
        for file in &self.files.files {
            if Self::inline_name(&file.path).is_none() {
                each(&file.path, file.size_bytes);
            }
        }
        for file in self.databases.iter().flat_map(|database| &database.files) {
            each(&file.path, file.size_bytes);
        }
    }

    /// Gives every file in a store the path that `new` says. On an error some have it and some do not.
    pub fn map_paths(
        &mut self,
        new: &mut dyn FnMut(&str) -> Result<String, StateError>,
    ) -> Result<(), StateError> {
        for file in &mut self.files.files {
            if Self::inline_name(&file.path).is_none() {
                file.path = new(&file.path)?;
            }
        }
        let databases = self.databases.iter_mut();
        for file in databases.flat_map(|database| &mut database.files) {
            file.path = new(&file.path)?;
        }
        Ok(())
    }

    /// Bytes of the inline files.
    pub fn inline_bytes(&self) -> u64 {
        let lengths = self.inline.iter().map(|file| file.bytes.len() as u64);
        lengths.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use aquifer_store::FileRef;

    use super::*;

    #[test]
    fn paths_are_walked_and_renamed_in_every_place_but_inline() {
        let file = |path: &str, size_bytes| FileRef {
            path: path.into(),
            size_bytes,
            ..FileRef::default()
        };
        let mut snapshot = KeyedSnapshot {
            files: Checkpoint {
                files: vec![file("s/a", 1), file(&KeyedSnapshot::inline_path("b"), 2)],
                ..Checkpoint::default()
            },
            databases: vec![DbSnapshot {
                operator: "op".into(),
                range: KeyGroupRange::ALL,
                families: vec![("c".into(), TableId(1))],
                files: vec![DbFile {
                    name: "1.sst".into(),
                    path: "s/c".into(),
                    size_bytes: 4,
                    checksum: 5,
                    shared: true,
                }],
            }],
            inline: vec![InlineFile {
                name: "b".into(),
                bytes: Bytes::from_static(b"xy"),
            }],
            tables: vec![],
        };
        let paths = |snapshot: &KeyedSnapshot| {
            let mut seen = Vec::new();
            snapshot.for_each_path(&mut |path, size| seen.push((path.to_owned(), size)));
            seen
        };
        assert_eq!(paths(&snapshot), [("s/a".into(), 1), ("s/c".into(), 4)]);
        snapshot
            .map_paths(&mut |path| Ok(format!("x/{path}")))
            .unwrap();
        assert_eq!(paths(&snapshot), [("x/s/a".into(), 1), ("x/s/c".into(), 4)]);
        assert_eq!(snapshot.files.files[1].path, "_at/inline/b");
        assert_eq!(snapshot.inline_bytes(), 2);
        let refused = snapshot.map_paths(&mut |_| Err(StateError::Usage("no".into())));
        assert!(refused.is_err());
    }
}
